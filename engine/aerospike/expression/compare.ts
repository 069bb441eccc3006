/** Comparisons, logic and membership. Unknown in, unknown out, unless a part decides alone. */
import {
  compareBytes,
  comparedUnorderedMap,
  compare as compareElements,
  Head,
  skip,
} from '../cdt/element.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { elementOf } from './element-of.ts';
import { type Node, type Run, type Value, ValueType } from './node.ts';
import type { Regex } from './regex.ts';

const mismatch = (why: string): never => {
  throw new Refusal(ResultCode.parameter, why);
};

/** Opcodes 1 to 6. */
export const Comparison = { eq: 1, ne: 2, gt: 3, ge: 4, lt: 5, le: 6 } as const;

/** What each comparison says of an order: below, equal, above. NaN has none, and is only unequal. */
const VERDICTS = [
  [],
  [false, true, false],
  [true, false, true],
  [false, false, true],
  [false, true, true],
  [true, false, false],
  [true, true, false],
] as const;

type Order = (a: Exclude<Value, undefined>, b: Exclude<Value, undefined>) => -1 | 0 | 1 | undefined;

const byNumber: Order = (a, b) => {
  if ((a as number) < (b as number)) return -1;
  if ((a as number) > (b as number)) return 1;
  return 0;
};

const byBytes: Order = (a, b) => {
  const x = a as Uint8Array;
  const y = b as Uint8Array;
  return compareBytes(x, 0, x.length, y, 0, y.length);
};

/** Lists and maps. With a map in them whose order is not by key there is no order. */
const byElements: Order = (a, b) => {
  const order = compareElements(a as Uint8Array, 0, b as Uint8Array, 0);
  return comparedUnorderedMap ? undefined : order;
};

const ORDERS: ReadonlyMap<ValueType, Order> = new Map([
  [ValueType.nil, () => 0 as const],
  [ValueType.bool, byNumber],
  [ValueType.int, byNumber],
  [ValueType.float, byNumber],
  [ValueType.string, byBytes],
  [ValueType.blob, byBytes],
  [ValueType.list, byElements],
  [ValueType.map, byElements],
]);

export const comparison = (code: number, left: Node, right: Node): Node => {
  if (left.type !== right.type) mismatch(`a comparison of types ${left.type} and ${right.type}`);
  const order = ORDERS.get(left.type) ?? mismatch(`values of type ${left.type} have no order`);
  const usesBins = left.usesBins || right.usesBins;
  const inMilliseconds = lastUpdateComparison(code, left, right);
  if (inMilliseconds) return { type: ValueType.bool, usesBins, evaluate: inMilliseconds };
  const verdict = VERDICTS[code]!;
  const nan = code === Comparison.ne;
  const isFloat = left.type === ValueType.float;
  return {
    type: ValueType.bool,
    usesBins,
    evaluate: (run) => {
      const a = left.evaluate(run);
      if (a === undefined) return undefined;
      const b = right.evaluate(run);
      if (b === undefined) return undefined;
      if (isFloat && (Number.isNaN(a) || Number.isNaN(b))) return nan;
      const result = order(a, b);
      return result === undefined ? undefined : verdict[result + 1];
    },
  };
};

const NS_PER_MS = 1_000_000n;

/**
 * last_update against a literal, compared in ms: nanoseconds are beyond what a number holds, and a scan asks this of every record.
 */
const lastUpdateComparison = (code: number, left: Node, right: Node): ((run: Run) => Value) | undefined => {
  if (!left.isLastUpdate || (typeof right.literal !== 'number' && typeof right.literal !== 'bigint'))
    return undefined;
  const bound = BigInt(right.literal);
  const down = bound >= 0n ? bound / NS_PER_MS : -((-bound + NS_PER_MS - 1n) / NS_PER_MS);
  const floor = Number(down);
  const exact = down * NS_PER_MS === bound;
  switch (code) {
    case Comparison.eq:
      return ({ record }) => exact && record.lut === floor;
    case Comparison.ne:
      return ({ record }) => !exact || record.lut !== floor;
    case Comparison.gt:
      return ({ record }) => record.lut > floor;
    case Comparison.ge:
      return exact ? ({ record }) => record.lut >= floor : ({ record }) => record.lut > floor;
    case Comparison.lt:
      return exact ? ({ record }) => record.lut < floor : ({ record }) => record.lut <= floor;
    default:
      return ({ record }) => record.lut <= floor;
  }
};

const booleans = (parts: readonly Node[]): boolean => {
  for (const [i, { type }] of parts.entries())
    if (type !== ValueType.bool) mismatch(`argument ${i + 1} is of type ${type}, not a boolean`);
  return parts.some(({ usesBins }) => usesBins);
};

/** Opcode 16 and 17: `decisive` is the value that one part alone decides with. */
export const junction = (parts: readonly Node[], decisive: boolean): Node => {
  const usesBins = booleans(parts);
  if (parts.length < 2) mismatch('too few arguments');
  return {
    type: ValueType.bool,
    usesBins,
    evaluate: (run) => {
      let result: Value = !decisive;
      for (const part of parts) {
        const value = part.evaluate(run);
        if (value === decisive) return decisive;
        if (value === undefined) result = undefined;
      }
      return result;
    },
  };
};

export const negation = (part: Node): Node => ({
  type: ValueType.bool,
  usesBins: booleans([part]),
  evaluate: (run) => {
    const value = part.evaluate(run);
    return value === undefined ? undefined : !value;
  },
});

/** Exactly one part is true. Unknown as soon as one is, unless two were true before. */
export const exclusion = (parts: readonly Node[]): Node => {
  const usesBins = booleans(parts);
  if (parts.length < 2) mismatch('too few arguments');
  return {
    type: ValueType.bool,
    usesBins,
    evaluate: (run) => {
      let found = false;
      for (const part of parts) {
        const value = part.evaluate(run);
        if (value === undefined) return undefined;
        if (value === false) continue;
        if (found) return false;
        found = true;
      }
      return found;
    },
  };
};

/** Opcode 7. */
export const regexMatch = (regex: Regex, text: Node): Node => {
  if (text.type !== ValueType.string) mismatch('a regular expression matches strings');
  return {
    type: ValueType.bool,
    usesBins: text.usesBins,
    evaluate: (run) => {
      const value = text.evaluate(run);
      return value === undefined ? undefined : regex.test(value as Uint8Array);
    },
  };
};

const head = new Head();

/** Opcode 9: the list has an element equal to the value. */
export const inList = (value: Node, list: Node): Node => {
  if (list.type !== ValueType.list) mismatch('membership of what is no list');
  return {
    type: ValueType.bool,
    usesBins: value.usesBins || list.usesBins,
    evaluate: (run) => {
      const needle = value.evaluate(run);
      if (needle === undefined) return undefined;
      const bytes = list.evaluate(run) as Uint8Array | undefined;
      if (bytes === undefined) return undefined;
      const element = elementOf(value.type, needle);
      return element === undefined ? undefined : contains(bytes, element);
    },
  };
};

const contains = (list: Uint8Array, element: Uint8Array): boolean | undefined => {
  head.read(list, 0, list.length);
  const count = head.length;
  let at = head.next;
  for (let i = 0; i < count; i++) {
    if (compareElements(element, 0, list, at) === 0) return true;
    at = skip(list, at, list.length);
    if (at < 0) return undefined;
  }
  return false;
};

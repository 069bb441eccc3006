/** Arithmetic: integers of 64 bits that wrap, doubles. */
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { int64, type Node, type Run, type Value, ValueType } from './node.ts';

type Int = number | bigint;
type IntStep = (a: Int, b: Int) => Int | undefined;
type FloatStep = (a: number, b: number) => number;

const mismatch = (why: string): never => {
  throw new Refusal(ResultCode.parameter, why);
};

const expect = (node: Node, type: ValueType): void => {
  if (node.type !== type) mismatch(`a value of type ${node.type} instead of ${type}`);
};

/** In numbers where the result is safe, else in bigints, wrapped. */
const exact =
  (small: (a: number, b: number) => number, wide: (a: bigint, b: bigint) => bigint) =>
  (a: Int, b: Int): Int => {
    if (typeof a === 'number' && typeof b === 'number') {
      const result = small(a, b);
      if (Number.isSafeInteger(result)) return result;
    }
    return int64(wide(BigInt(a), BigInt(b)));
  };

const add = exact(
  (a, b) => a + b,
  (a, b) => a + b,
);
const subtract = exact(
  (a, b) => a - b,
  (a, b) => a - b,
);
// + 0: a number has a negative zero, an integer has not.
const multiply = exact(
  (a, b) => a * b + 0,
  (a, b) => a * b,
);

const isZero = (n: Int): boolean => n === 0 || n === 0n;

/** Towards zero. Unknown when divided by zero. */
const divide = (a: Int, b: Int): Int | undefined => {
  if (isZero(b)) return undefined;
  if (typeof a === 'number' && typeof b === 'number') return (a - (a % b)) / b + 0;
  return int64(BigInt(a) / BigInt(b));
};

/** With the sign of the dividend. */
const remainder = (a: Int, b: Int): Int | undefined => {
  if (isZero(b)) return undefined;
  if (typeof a === 'number' && typeof b === 'number') return (a % b) + 0;
  return int64(BigInt(a) % BigInt(b));
};

interface Fold {
  readonly int: IntStep;
  readonly float: FloatStep;
  /** What a single argument becomes; as it is when absent. */
  readonly alone?: { readonly int: (a: Int) => Int | undefined; readonly float: (a: number) => number };
}

const FOLDS: ReadonlyMap<number, Fold> = new Map<number, Fold>([
  [20, { int: add, float: (a, b) => a + b }],
  [
    21,
    {
      int: subtract,
      float: (a, b) => a - b,
      alone: { int: (a) => subtract(0, a), float: (a) => 0 - a },
    },
  ],
  [22, { int: multiply, float: (a, b) => a * b }],
  [50, { int: (a, b) => (a > b ? b : a), float: (a, b) => (a > b ? b : a) }],
  [51, { int: (a, b) => (a < b ? b : a), float: (a, b) => (a < b ? b : a) }],
]);

const usesBins = (parts: readonly Node[]): boolean => parts.some((part) => part.usesBins);

/** The common type of numbers. @throws Refusal 4 when there is none */
const numeric = (parts: readonly Node[]): typeof ValueType.int | typeof ValueType.float => {
  const [first] = parts;
  if (first === undefined) return mismatch('too few arguments');
  const { type } = first;
  if (type !== ValueType.int && type !== ValueType.float)
    return mismatch(`a value of type ${type} is no number`);
  for (const part of parts) expect(part, type);
  return type;
};

/** Opcodes 20 to 23, 50 and 51. Unknown as soon as one part is. */
export const arithmetic = (code: number, parts: readonly Node[]): Node => {
  const type = numeric(parts);
  if (code === 23) return division(type, parts);
  const { int, float, alone } = FOLDS.get(code)!;
  const step = (type === ValueType.int ? int : float) as (a: Value, b: Value) => Value;
  const single = alone && ((type === ValueType.int ? alone.int : alone.float) as (a: Value) => Value);
  return {
    type,
    usesBins: usesBins(parts),
    evaluate: single && parts.length === 1 ? mapped(parts[0]!, single) : folded(parts, step),
  };
};

const mapped =
  (part: Node, step: (a: Value) => Value) =>
  (run: Run): Value => {
    const value = part.evaluate(run);
    return value === undefined ? undefined : step(value);
  };

const folded =
  (parts: readonly Node[], step: (a: Value, b: Value) => Value) =>
  (run: Run): Value => {
    let result = parts[0]!.evaluate(run);
    for (let i = 1; i < parts.length && result !== undefined; i++) {
      const value = parts[i]!.evaluate(run);
      result = value === undefined ? undefined : step(result, value);
    }
    return result;
  };

/** The first part by the product of the others; 1 by a single part. */
const division = (type: ValueType, parts: readonly Node[]): Node => {
  const isInt = type === ValueType.int;
  const times = (isInt ? multiply : (a: number, b: number) => a * b) as (a: Value, b: Value) => Value;
  const by = (isInt ? divide : (a: number, b: number) => a / b) as (a: Value, b: Value) => Value;
  const [first, ...others] = parts as [Node, ...Node[]];
  const divisor = folded(others.length > 0 ? others : parts, times);
  return {
    type,
    usesBins: usesBins(parts),
    evaluate: (run) => {
      const dividend = others.length > 0 ? first.evaluate(run) : 1;
      if (dividend === undefined) return undefined;
      const product = divisor(run);
      return product === undefined ? undefined : by(dividend, product);
    },
  };
};

/** As C has it: 1 to any power is 1, and -1 to an infinite one. */
const power = (a: number, b: number): number => {
  if (a === 1 || (a === -1 && Math.abs(b) === Number.POSITIVE_INFINITY)) return 1;
  return a ** b;
};

/** What a processor makes of a float that fits in no 64-bit integer. */
const OVERFLOW = -(2n ** 63n);

const toInt = (n: number): Int => {
  if (Number.isSafeInteger(Math.trunc(n))) return Math.trunc(n) + 0;
  return n >= -(2 ** 63) && n < 2 ** 63 ? BigInt(Math.trunc(n)) : OVERFLOW;
};

const unsigned = (n: Int): bigint => BigInt.asUintN(64, BigInt(n));

/** A shift counts modulo 64, as a processor's does. */
const shiftCount = (n: Int): bigint => BigInt.asUintN(6, BigInt(n));

const bitCount = (n: Int): number => {
  let bits = unsigned(n);
  let count = 0;
  for (; bits !== 0n; bits &= bits - 1n) count++;
  return count;
};

/** Place of the first bit, counted from the highest, that is `wanted`; -1 when there is none. */
const scan = (n: Int, wanted: boolean, fromLeft: boolean): number => {
  const bits = wanted ? unsigned(n) : unsigned(~BigInt(n));
  if (bits === 0n) return -1;
  const text = bits.toString(2).padStart(64, '0');
  return fromLeft ? text.indexOf('1') : text.lastIndexOf('1');
};

type Step = (a: never, b: never) => Value;

interface Signature {
  readonly arguments: readonly ValueType[];
  readonly result: ValueType;
  readonly run: Step;
}

const signature = (types: readonly ValueType[], result: ValueType, run: Step): Signature => ({
  arguments: types,
  result,
  run,
});

const { int, float, bool } = ValueType;

const FIXED: ReadonlyMap<number, Signature> = new Map([
  [24, signature([float, float], float, power)],
  [25, signature([float, float], float, (a: number, b: number) => Math.log(a) / Math.log(b))],
  [26, signature([int, int], int, remainder)],
  [28, signature([float], float, Math.floor as Step)],
  [29, signature([float], float, Math.ceil as Step)],
  [30, signature([float], int, toInt)],
  [31, signature([int], float, (n: Int) => Number(n))],
  [35, signature([int], int, (n: Int) => (typeof n === 'number' ? -n - 1 : int64(~n)))],
  [36, signature([int, int], int, (n: Int, by: Int) => int64(BigInt(n) << shiftCount(by)))],
  [37, signature([int, int], int, (n: Int, by: Int) => int64(unsigned(n) >> shiftCount(by)))],
  [38, signature([int, int], int, (n: Int, by: Int) => int64(BigInt(n) >> shiftCount(by)))],
  [39, signature([int], int, bitCount)],
  [40, signature([int, bool], int, (n: Int, wanted: boolean) => scan(n, wanted, true))],
  [41, signature([int, bool], int, (n: Int, wanted: boolean) => scan(n, wanted, false))],
]);

/** Opcodes with a fixed number of arguments of fixed types, or `undefined` for others. */
export const fixedArithmetic = (code: number, parts: readonly Node[]): Node | undefined => {
  const found = FIXED.get(code);
  if (found === undefined) return undefined;
  if (parts.length !== found.arguments.length) mismatch(`${parts.length} arguments`);
  for (const [i, part] of parts.entries()) expect(part, found.arguments[i]!);
  const step = found.run as (a: Value, b: Value) => Value;
  const [first, second] = parts as [Node, Node?];
  return {
    type: found.result,
    usesBins: usesBins(parts),
    evaluate: (run) => {
      const a = first.evaluate(run);
      if (a === undefined) return undefined;
      if (second === undefined) return step(a, undefined);
      const b = second.evaluate(run);
      return b === undefined ? undefined : step(a, b);
    },
  };
};

/** Opcode 27. The smallest integer has no absolute value and stays. */
export const absolute = (part: Node): Node => {
  const type = numeric([part]);
  const step = (n: Value): Value => {
    if (typeof n === 'bigint') return int64(n < 0n ? -n : n);
    return Math.abs(n as number);
  };
  return { type, usesBins: part.usesBins, evaluate: mapped(part, step) };
};

const BITWISE: ReadonlyMap<number, (a: bigint, b: bigint) => bigint> = new Map([
  [32, (a, b) => a & b],
  [33, (a, b) => a | b],
  [34, (a, b) => a ^ b],
]);

/** Opcodes 32 to 34. */
export const bitwise = (code: number, parts: readonly Node[]): Node => {
  if (parts.length === 0) mismatch('too few arguments');
  for (const part of parts) expect(part, ValueType.int);
  const wide = BITWISE.get(code)!;
  const step = (a: Value, b: Value): Value => int64(wide(BigInt(a as Int), BigInt(b as Int)));
  return { type: ValueType.int, usesBins: usesBins(parts), evaluate: folded(parts, step) };
};

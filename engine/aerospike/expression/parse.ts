/** The bytes of an expression → a tree of nodes, checked for arguments and types. */
import { isUtf8 } from 'node:buffer';
import { Head, Kind, skip } from '../cdt/element.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { absolute, arithmetic, bitwise, fixedArithmetic } from './arithmetic.ts';
import { call, mapKeys, mapValues, type OperationPart } from './call.ts';
import { comparison, exclusion, inList, junction, negation, regexMatch } from './compare.ts';
import { PARTICLE_TYPES } from './element-of.ts';
import { int64, type Node, type Run, type Value, ValueType } from './node.ts';
import { bin, binType, digestModulo, metadataNode, recordKey } from './record-nodes.ts';
import { Regex, STATES_MAX } from './regex.ts';

/** Bytes of the largest expression, as a server has it. */
export const EXPRESSION_BYTES_MAX = 1024 * 1024;

/** Levels of the deepest expression. Beyond it a server's own stack would be at risk. */
export const LEVELS_MAX = 1000;

/** Arguments of one list or map operation. */
const CALL_PARTS_MAX = 16;

const bad = (why: string): never => {
  throw new Refusal(ResultCode.parameter, `expression: ${why}`);
};

const unsupported = (what: string): never => {
  throw new Refusal(ResultCode.unsupportedFeature, `expression: ${what} is not supported`);
};

const literal = (type: ValueType, value: Value): Node => ({
  type,
  usesBins: false,
  evaluate: () => value,
  literal: value,
});

/** A value that is never known. */
const unknown = (type: ValueType): Node => ({ type, usesBins: false, evaluate: () => undefined });

interface Variable {
  readonly name: string;
  readonly place: number;
  /** Undefined while its own value is being parsed. */
  type: ValueType | undefined;
  usesBins: boolean;
}

export class ExpressionParser {
  readonly #b: Uint8Array;
  readonly #head = new Head();
  readonly #scope: Variable[] = [];
  #at = 0;
  #level = 0;
  #regexStates = STATES_MAX;
  /** Variables that are alive at once, at most. */
  variables = 0;

  constructor(bytes: Uint8Array) {
    this.#b = bytes;
  }

  /** @throws Refusal with code 4, or 16 for what is not supported here */
  parse(): Node {
    if (this.#b.length > EXPRESSION_BYTES_MAX) bad('too large');
    const node = this.#node();
    return this.#at === this.#b.length ? node : bad('bytes follow');
  }

  #read(): Head {
    this.#head.read(this.#b, this.#at, this.#b.length);
    return this.#head.kind === Kind.none ? bad('truncated or malformed') : this.#head;
  }

  #node(): Node {
    if (++this.#level > LEVELS_MAX) bad('nested too deep');
    const h = this.#read();
    const node = h.kind === Kind.list ? this.#operation() : this.#literal();
    this.#level--;
    return node;
  }

  #nodes(count: number): Node[] {
    // Every argument has a byte: a lie about their number ends here.
    if (count > this.#b.length - this.#at) bad('truncated');
    return Array.from({ length: count }, () => this.#node());
  }

  #literal(): Node {
    const h = this.#head;
    const start = this.#at;
    this.#at = h.next;
    const payload = () => this.#b.subarray(h.data + 1, h.data + h.length);
    switch (h.kind) {
      case Kind.nil:
        return literal(ValueType.nil, null);
      case Kind.false:
      case Kind.true:
        return literal(ValueType.bool, h.kind === Kind.true);
      case Kind.negative:
      case Kind.integer:
        return literal(ValueType.int, int64(h.bigint));
      case Kind.double:
        return literal(ValueType.float, h.double);
      case Kind.string:
        return literal(ValueType.string, payload());
      case Kind.bytes:
        return literal(this.#blobType(h), payload());
      case Kind.geojson:
        return literal(ValueType.geojson, geoJson(payload()));
      case Kind.map: {
        const end = skip(this.#b, start, this.#b.length);
        if (end < 0) bad('truncated');
        this.#at = end;
        return literal(ValueType.map, this.#b.subarray(start, end));
      }
      default:
        return bad('an element that is no value');
    }
  }

  #blobType(h: Head): ValueType {
    const type = h.length === 0 ? 0 : this.#b[h.data];
    if (type === 4) return ValueType.blob;
    return type === 18 ? ValueType.hll : bad(`a blob of type ${type}`);
  }

  #int(): bigint {
    const h = this.#read();
    if (!h.isInteger) bad('an integer is missing');
    this.#at = h.next;
    return h.bigint;
  }

  /** A small number: an opcode, a type. */
  #number(): number {
    const n = this.#int();
    return n >= 0n && n <= 0xffn ? Number(n) : bad(`${n} is out of range`);
  }

  /** A name or pattern: a string without a type byte. */
  #bytes(): Uint8Array {
    const h = this.#read();
    if (h.kind !== Kind.bytes && h.kind !== Kind.string && h.kind !== Kind.geojson)
      bad('a string is missing');
    this.#at = h.next;
    return this.#b.subarray(h.data, h.data + h.length);
  }

  #operation(): Node {
    const { length, next } = this.#head;
    if (length === 0) bad('an empty list');
    this.#at = next;
    const code = this.#number();
    return this.#build(code, length - 1);
  }

  #exactly(count: number, expected: number): void {
    if (count !== expected) bad(`${count} arguments instead of ${expected}`);
  }

  #build(code: number, count: number): Node {
    const metadata = metadataNode(code);
    if (metadata !== undefined) {
      this.#exactly(count, 0);
      return metadata;
    }
    if (code >= 1 && code <= 6) {
      this.#exactly(count, 2);
      const left = this.#node();
      return comparison(code, left, this.#node());
    }
    switch (code) {
      case 0:
        this.#exactly(count, 0);
        return { ...unknown(ValueType.bool), isUnknown: true };
      case 7:
        return this.#regex(count);
      case 8:
        return this.#geoComparison(count);
      case 9: {
        this.#exactly(count, 2);
        const value = this.#node();
        return inList(value, this.#node());
      }
      case 16:
        return junction(this.#nodes(count), false);
      case 17:
        return junction(this.#nodes(count), true);
      case 18:
        this.#exactly(count, 1);
        return negation(this.#node());
      case 19:
        return exclusion(this.#nodes(count));
      case 64:
        this.#exactly(count, 1);
        return digestModulo(this.#int());
      case 80:
        this.#exactly(count, 1);
        return recordKey(this.#number());
      case 81: {
        this.#exactly(count, 2);
        const type = this.#number();
        return bin(type, this.#bytes());
      }
      case 82:
        this.#exactly(count, 1);
        return binType(this.#bytes());
      case 100:
        this.#exactly(count, 0);
        return unknown(ValueType.remove);
      case 101:
        this.#exactly(count, 1);
        return mapKeys(this.#node());
      case 102:
        this.#exactly(count, 1);
        return mapValues(this.#node());
      case 122:
        return this.#builtIn(count);
      case 123:
        return this.#condition(count);
      case 124:
        return this.#variable(count);
      case 125:
        return this.#let(count);
      case 126:
        return this.#quote(count);
      case 127:
        return this.#call(count);
      default:
        return this.#arithmetic(code, count);
    }
  }

  #arithmetic(code: number, count: number): Node {
    if ((code >= 20 && code <= 23) || code === 50 || code === 51) return arithmetic(code, this.#nodes(count));
    if (code >= 32 && code <= 34) return bitwise(code, this.#nodes(count));
    if (code === 27) {
      this.#exactly(count, 1);
      return absolute(this.#node());
    }
    if (code < 24 || code > 41) return bad(`opcode ${code}`);
    return fixedArithmetic(code, this.#nodes(count)) ?? bad(`opcode ${code}`);
  }

  #regex(count: number): Node {
    this.#exactly(count, 3);
    const options = Number(BigInt.asIntN(32, this.#int()));
    const regex = new Regex(this.#bytes(), options, this.#regexStates);
    this.#regexStates -= regex.size;
    return regexMatch(regex, this.#node());
  }

  #geoComparison(count: number): never {
    this.#exactly(count, 2);
    for (const { type } of this.#nodes(count))
      if (type !== ValueType.geojson) bad(`a value of type ${type} is no GeoJSON`);
    return unsupported('a comparison of GeoJSON');
  }

  /** Variables of a select; here nothing ever sets them. */
  #builtIn(count: number): Node {
    this.#exactly(count, 2);
    const type = this.#number() as ValueType;
    const which = this.#number();
    if (which > 2 || !PARTICLE_TYPES.has(type)) bad(`built-in variable ${which} of type ${type}`);
    if (which === BUILT_IN_INDEX && type !== ValueType.int) bad('the index is an integer');
    return unknown(type);
  }

  /** `condition, value, condition, value, …, default`. */
  #condition(count: number): Node {
    if (count < 3 || count % 2 === 0) bad(`a condition of ${count} arguments`);
    const parts = this.#nodes(count);
    let type: ValueType | undefined;
    for (const [i, part] of parts.entries()) {
      if (i % 2 === 0 && i < count - 1) {
        if (part.type !== ValueType.bool) bad(`condition ${i / 2 + 1} is no boolean`);
        continue;
      }
      const isLast = i === count - 1;
      // Unknown may stand for a value of any type.
      if (part.isUnknown && !(isLast && type === undefined)) continue;
      type ??= part.type;
      if (part.type !== type) bad('a condition with values of several types');
    }
    return {
      type: type!,
      usesBins: parts.some(({ usesBins }) => usesBins),
      evaluate: (run) => choose(parts, run),
    };
  }

  #find(name: string): Variable | undefined {
    return this.#scope.find((variable) => variable.name === name);
  }

  #variable(count: number): Node {
    this.#exactly(count, 1);
    const name = latin(this.#bytes());
    const variable = this.#find(name) ?? bad(`no variable ${name}`);
    const { type, place, usesBins } = variable;
    if (type === undefined) return bad(`variable ${name} in its own value`);
    return { type, usesBins, evaluate: (run) => run.variables[place] };
  }

  /** `name, value, name, value, …, result`. */
  #let(count: number): Node {
    if (count < 3 || count % 2 === 0) bad(`a let of ${count} arguments`);
    const places: number[] = [];
    const values: Node[] = [];
    for (let i = 1; i < count; i += 2) {
      const name = latin(this.#bytes());
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) bad('a variable name');
      if (this.#find(name) !== undefined) bad(`variable ${name} twice`);
      const variable: Variable = { name, place: this.#scope.length, type: undefined, usesBins: false };
      this.#scope.push(variable);
      this.variables = Math.max(this.variables, this.#scope.length);
      const value = this.#node();
      variable.type = value.type;
      variable.usesBins = value.usesBins;
      places.push(variable.place);
      values.push(value);
    }
    const result = this.#node();
    this.#scope.length -= values.length;
    return {
      type: result.type,
      usesBins: result.usesBins || values.some(({ usesBins }) => usesBins),
      evaluate: (run) => {
        for (let i = 0; i < values.length; i++) run.variables[places[i]!] = values[i]!.evaluate(run);
        return result.evaluate(run);
      },
    };
  }

  #quote(count: number): Node {
    this.#exactly(count, 1);
    const start = this.#at;
    if (this.#read().kind !== Kind.list) bad('only lists are quoted');
    const end = skip(this.#b, start, this.#b.length);
    if (end < 0) bad('truncated');
    this.#at = end;
    return literal(ValueType.list, this.#b.subarray(start, end));
  }

  /** `type, system, operation, value`. In the operation, lists are expressions. */
  #call(count: number): Node {
    this.#exactly(count, 4);
    const type = this.#number() as ValueType;
    const system = this.#number();
    const modifies = (system & MODIFY) !== 0;
    if ((system & ~MODIFY) === 1 || (system & ~MODIFY) === 2) unsupported('an operation on bits or HLL');
    if ((system & ~MODIFY) !== 0) bad(`system ${system}`);
    const parts = this.#callOperation();
    return call(type, modifies, parts, this.#node());
  }

  #callOperation(): OperationPart[] {
    let from = this.#at;
    let count = this.#listHeader();
    let code = this.#int();
    if (code === SELECT) unsupported('select');
    if (code === CONTEXT) {
      const end = skip(this.#b, this.#at, this.#b.length);
      if (count !== 3 || end < 0) bad('a context');
      this.#at = end;
      count = this.#listHeader();
      code = this.#int();
    }
    const parts: OperationPart[] = [];
    if (count - 1 > CALL_PARTS_MAX) bad('too many arguments');
    for (let i = 1; i < count; i++) {
      if (this.#read().kind !== Kind.list) {
        this.#at = skip(this.#b, this.#at, this.#b.length);
        if (this.#at < 0) bad('truncated');
        continue;
      }
      parts.push(this.#b.subarray(from, this.#at), this.#node());
      from = this.#at;
    }
    parts.push(this.#b.subarray(from, this.#at));
    return parts;
  }

  #listHeader(): number {
    const h = this.#read();
    if (h.kind !== Kind.list || h.length === 0) bad('an operation is a list');
    this.#at = h.next;
    return h.length;
  }
}

const BUILT_IN_INDEX = 2;
/** Flag of a call that changes its value instead of reading it. */
const MODIFY = 0x40;
const SELECT = 0xfen;
const CONTEXT = 0xffn;

const latin = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

const geoJson = (text: Uint8Array): Uint8Array => {
  try {
    if (isUtf8(text) && typeof JSON.parse(Buffer.from(text).toString('utf8')) === 'object') return text;
  } catch {
    // no JSON
  }
  return bad('GeoJSON that is none');
};

const choose = (parts: readonly Node[], run: Run): Value => {
  const last = parts.length - 1;
  for (let i = 0; i < last; i += 2) {
    const chosen = parts[i]!.evaluate(run);
    if (chosen === undefined) return undefined;
    if (chosen) return parts[i + 1]!.evaluate(run);
  }
  return parts[last]!.evaluate(run);
};

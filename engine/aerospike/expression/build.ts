/**
 * Expressions as a client writes them: functions whose results are the bytes of 5.1, and whose types keep nonsense from compiling.
 *
 *     and(ge(lastUpdate(), nanoseconds(from)), lt(lastUpdate(), nanoseconds(to)))
 *
 * Integers are exact: a time in nanoseconds is beyond what a number holds, so it is a bigint.
 */
import { ValueType } from './node.ts';

/** An expression whose value is a `T`. It is its bytes. */
export interface Expr<T extends string = string> {
  readonly bytes: Uint8Array;
  /** Only for the compiler. */
  readonly type?: T;
}

type Scalar = 'int' | 'string' | 'bool' | 'float' | 'blob';

const concat = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

const listHeader = (count: number): Uint8Array =>
  count < 0x10 ? Uint8Array.of(0x90 | count) : Uint8Array.of(0xdc, count >> 8, count & 0xff);

/** Arguments that one operation may have here. */
const ARGUMENTS_MAX = 0xfffe;

const operation = <T extends string>(code: number, ...args: readonly Uint8Array[]): Expr<T> => {
  if (args.length > ARGUMENTS_MAX) throw new RangeError(`${args.length} arguments`);
  return { bytes: concat(listHeader(args.length + 1), int(code).bytes, ...args) };
};

const bytesOf = (expressions: readonly Expr[]): Uint8Array[] => expressions.map(({ bytes }) => bytes);

const sized = (tag: number, bytes: number, n: bigint): Uint8Array => {
  const out = new Uint8Array(1 + bytes);
  out[0] = tag;
  let rest = BigInt.asUintN(8 * bytes, n);
  for (let i = bytes; i > 0; i--, rest >>= 8n) out[i] = Number(rest & 0xffn);
  return out;
};

/** An integer of 64 signed bits, or unsigned ones above. A number must be safe. */
export const int = (value: number | bigint): Expr<'int'> => {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new RangeError(`${value} is not exact`);
  const n = BigInt(value);
  if (n >= 2n ** 64n || n < -(2n ** 63n)) throw new RangeError(`${n} does not fit in 64 bits`);
  return { bytes: packInt(n) };
};

const packInt = (n: bigint): Uint8Array => {
  if (n >= 0n) {
    if (n < 0x80n) return Uint8Array.of(Number(n));
    if (n <= 0xffn) return sized(0xcc, 1, n);
    if (n <= 0xffffn) return sized(0xcd, 2, n);
    return n <= 0xffff_ffffn ? sized(0xce, 4, n) : sized(0xcf, 8, n);
  }
  if (n >= -0x20n) return Uint8Array.of(Number(n + 0x100n));
  if (n >= -0x80n) return sized(0xd0, 1, n);
  if (n >= -0x8000n) return sized(0xd1, 2, n);
  return n >= -0x8000_0000n ? sized(0xd2, 4, n) : sized(0xd3, 8, n);
};

/** Ms since 1970 as the nanoseconds that {@link lastUpdate} and {@link voidTime} are in. */
export const nanoseconds = (ms: number): Expr<'int'> => int(BigInt(ms) * 1_000_000n);

export const float = (value: number): Expr<'float'> => {
  const bytes = Buffer.of(0xcb, 0, 0, 0, 0, 0, 0, 0, 0);
  bytes.writeDoubleBE(value, 1);
  return { bytes };
};

export const bool = (value: boolean): Expr<'bool'> => ({ bytes: Uint8Array.of(value ? 0xc3 : 0xc2) });

export const nil = (): Expr<'nil'> => ({ bytes: Uint8Array.of(0xc0) });

const strHeader = (length: number): Uint8Array => {
  if (length < 0x20) return Uint8Array.of(0xa0 | length);
  const n = BigInt(length);
  return length <= 0xff ? sized(0xd9, 1, n) : length <= 0xffff ? sized(0xda, 2, n) : sized(0xdb, 4, n);
};

const str = (payload: Uint8Array): Uint8Array => concat(strHeader(payload.length), payload);

const typed = (type: number, payload: Uint8Array): Uint8Array => str(concat(Uint8Array.of(type), payload));

export const string = (value: string): Expr<'string'> => ({ bytes: typed(3, Buffer.from(value, 'utf8')) });

export const blob = (value: Uint8Array): Expr<'blob'> => ({ bytes: typed(4, value) });

/** A list or map whose packed bytes are at hand. */
export const packedList = (bytes: Uint8Array): Expr<'list'> => operation(126, bytes);
export const packedMap = (bytes: Uint8Array): Expr<'map'> => ({ bytes });

type Compare = <T extends string>(left: Expr<T>, right: Expr<NoInfer<T>>) => Expr<'bool'>;

const comparing =
  (code: number): Compare =>
  (left, right) =>
    operation(code, left.bytes, right.bytes);

export const eq: Compare = comparing(1);
export const ne: Compare = comparing(2);
export const gt: Compare = comparing(3);
export const ge: Compare = comparing(4);
export const lt: Compare = comparing(5);
export const le: Compare = comparing(6);

/** `options`: 1 extended, 2 ignoring case, 4 lines. */
export const regex = (pattern: string, text: Expr<'string'>, options = 1): Expr<'bool'> =>
  operation(7, int(options).bytes, str(Buffer.from(pattern, 'utf8')), text.bytes);

export const inList = (value: Expr, list: Expr<'list'>): Expr<'bool'> =>
  operation(9, value.bytes, list.bytes);

/** One part stands for itself, none for true. */
export const and = (...parts: readonly Expr<'bool'>[]): Expr<'bool'> =>
  parts.length < 2 ? (parts[0] ?? bool(true)) : operation(16, ...bytesOf(parts));

/** One part stands for itself, none for false. */
export const or = (...parts: readonly Expr<'bool'>[]): Expr<'bool'> =>
  parts.length < 2 ? (parts[0] ?? bool(false)) : operation(17, ...bytesOf(parts));

export const not = (part: Expr<'bool'>): Expr<'bool'> => operation(18, part.bytes);

export const exclusive = (...parts: readonly Expr<'bool'>[]): Expr<'bool'> =>
  operation(19, ...bytesOf(parts));

type Fold = <T extends 'int' | 'float'>(first: Expr<T>, ...others: readonly Expr<NoInfer<T>>[]) => Expr<T>;

const folding =
  (code: number): Fold =>
  (first, ...others) =>
    operation(code, first.bytes, ...bytesOf(others));

export const add: Fold = folding(20);
export const sub: Fold = folding(21);
export const mul: Fold = folding(22);
export const div: Fold = folding(23);
export const min: Fold = folding(50);
export const max: Fold = folding(51);

/** LE u32 of the digest's bytes 16 to 19, modulo. */
export const digestModulo = (modulus: number): Expr<'int'> => operation(64, int(modulus).bytes);
/** Unix nanoseconds, whole ms. */
export const lastUpdate = (): Expr<'int'> => operation(66);
/** Ms. */
export const sinceUpdate = (): Expr<'int'> => operation(67);
/** Unix nanoseconds, whole seconds; -1: never. */
export const voidTime = (): Expr<'int'> => operation(68);
/** Seconds left; -1: for ever. */
export const ttl = (): Expr<'int'> => operation(69);
export const setName = (): Expr<'string'> => operation(70);
export const keyExists = (): Expr<'bool'> => operation(71);
export const recordSize = (): Expr<'int'> => operation(74);

/** The record's stored key. */
export const key = <T extends 'int' | 'string' | 'blob'>(type: T): Expr<T> =>
  operation(80, int(ValueType[type]).bytes);

export const bin = <T extends Scalar | 'list' | 'map' | 'geojson' | 'hll'>(type: T, name: string): Expr<T> =>
  operation(81, int(ValueType[type]).bytes, str(Buffer.from(name, 'utf8')));

/** The particle type of a bin; 0: there is none. */
export const binType = (name: string): Expr<'int'> => operation(82, str(Buffer.from(name, 'utf8')));

export const cond = <T extends string>(
  condition: Expr<'bool'>,
  then: Expr<T>,
  otherwise: Expr<NoInfer<T>>,
): Expr<T> => operation(123, condition.bytes, then.bytes, otherwise.bytes);

/** The value of an op 7: `flags` 16 makes an unknown value no error. */
export const readOp = (expression: Expr, flags = 0): Uint8Array =>
  concat(Uint8Array.of(0x92), expression.bytes, int(flags).bytes);

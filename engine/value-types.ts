/**
 * The JS values that stand for bin values: plain ones where JS has one, small classes where it would lose something.
 *
 * Conversions are in value.ts (bins, JSON) and cdt.ts (list and map bytes).
 */
import { isUtf8 } from 'node:buffer';
import { PitrError } from './errors.ts';

const CANONICAL_NAN_BITS = 0x7ff8000000000000n;
const scratch = new DataView(new ArrayBuffer(8));

const bitsOf = (value: number): bigint => {
  if (Number.isNaN(value)) return CANONICAL_NAN_BITS;
  scratch.setFloat64(0, value);
  return scratch.getBigUint64(0);
};

/** An annotated type, so that the compiler knows that control does not come back. */
export const badRecord: (what: string, hint?: string) => never = (what, hint) => {
  throw new PitrError('bad-record', { what, hint });
};

/** A float: keeps 1.0 apart from the integer 1, and NaN payloads, which a JS number may lose. */
export class Double {
  readonly value: number;
  /** IEEE 754 bit pattern, 64 bits. */
  readonly bits: bigint;

  constructor(value: number, bits: bigint = bitsOf(value)) {
    this.value = value;
    this.bits = bits;
  }

  /** The double of this bit pattern. Not every engine moves a NaN through a number unchanged, so the bits are kept aside. */
  static fromBits(bits: bigint): Double {
    scratch.setBigUint64(0, bits);
    return new Double(scratch.getFloat64(0), BigInt.asUintN(64, bits));
  }
}

/** A 32-bit float inside a list or map. Some clients write it, servers keep it as it is. There is no float32 bin. */
export class Float32 {
  /** IEEE 754 bit pattern, 32 bits. */
  readonly bits: number;

  constructor(bits: number) {
    this.bits = bits >>> 0;
  }

  get value(): number {
    scratch.setUint32(0, this.bits);
    return scratch.getFloat32(0);
  }
}

export class GeoJson {
  readonly text: string;
  /** Flags, count and cell ids as a server computed them; absent when all zero, and inside lists and maps. */
  readonly header: Uint8Array | undefined;

  constructor(text: string, header?: Uint8Array) {
    this.text = text;
    this.header = header;
  }
}

/** Bytes of a particle type that has no JS value (HLL, language blobs, vector), or that are not what their type promises. */
export class Opaque {
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Keeps a plain `{ type, bytes }`, which as a value would mean a map, from passing for this class at compile time. */
  readonly kind = 'opaque';

  constructor(type: number, bytes: Uint8Array) {
    if (!Number.isInteger(type) || type < 0 || type > 255) badRecord(`particle type ${type} is not a byte`);
    this.type = type;
    this.bytes = bytes;
  }
}

export const ListOrder = { unordered: 0, ordered: 1 } as const;
export type ListOrder = (typeof ListOrder)[keyof typeof ListOrder];

export const MapOrder = { unordered: 0, key: 1, value: 2, keyValue: 3 } as const;
export type MapOrder = (typeof MapOrder)[keyof typeof MapOrder];

/** A list with an order flag. Without one, an array is enough. */
export class CdtList {
  readonly items: readonly Value[];
  readonly order: ListOrder;

  constructor(items: readonly Value[], order: ListOrder = ListOrder.ordered) {
    this.items = items;
    this.order = order;
  }
}

/** A map: pairs in stored order, keys of any kind, order flag. `new Map(m.entries)` gives a JS map. */
export class CdtMap {
  readonly entries: readonly (readonly [Value, Value])[];
  readonly order: MapOrder;

  constructor(entries: Iterable<readonly [Value, Value]>, order: MapOrder = MapOrder.unordered) {
    this.entries = [...entries];
    this.order = order;
  }
}

/**
 * A bin value, or an element of a list or map. In: numbers that are integers are integers, all others floats. Out: integers
 * are numbers when safe, else bigints; floats are {@link Double}; maps are {@link CdtMap}; lists without order are arrays.
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Double
  | Float32
  | GeoJson
  | Opaque
  | CdtList
  | CdtMap
  | readonly Value[]
  | ReadonlyMap<Value, Value>
  | { readonly [key: string]: Value };

/** UTF-8 of a string. Refuses unpaired surrogates, which would silently become U+FFFD. */
export const utf8 = (text: string): Buffer =>
  text.isWellFormed()
    ? Buffer.from(text, 'utf8')
    : badRecord('a string is not valid Unicode', 'store it as bytes');

/** The text of bytes that are valid UTF-8, a BOM included, else `undefined`. */
export const textOf = (bytes: Uint8Array): string | undefined =>
  isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8') : undefined;

/** An integer number as bigint-free as possible, and never one that a JS number has already rounded. */
export const safeInteger = (value: number): number =>
  Number.isSafeInteger(value)
    ? value + 0 // -0 comes out of ordinary arithmetic and means 0; the float is new Double(-0)
    : badRecord(`${value} is beyond 2^53 and may be rounded`, 'pass a bigint, or new Double(x) for a float');

export const toSafe = (value: bigint): number | bigint => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
};

const isPlainObject = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
};

/** A list or map input in its explicit form, or `undefined` for anything else. */
export const asCollection = (value: unknown): CdtList | CdtMap | undefined => {
  if (value instanceof CdtList || value instanceof CdtMap) return value;
  if (Array.isArray(value)) return new CdtList(value, ListOrder.unordered);
  if (value instanceof Map) return new CdtMap(value);
  if (typeof value !== 'object' || value === null || !isPlainObject(value)) return undefined;
  return new CdtMap(Object.entries(value as Record<string, Value>));
};

/** What to call a value in a refusal. */
export const typeName = (value: unknown): string =>
  value === null ? 'null' : typeof value === 'object' ? (value.constructor?.name ?? 'object') : typeof value;

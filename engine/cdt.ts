/**
 * Lists and maps (collection data types, CDT): Aerospike's msgpack dialect, and the JS values that stand for it.
 *
 * nil `c0` · bool `c2`/`c3` · integers of every width · double `cb` · float32 `ca` · lists · maps · and one string class
 * for everything else, whose first payload byte is a particle type: `a3 03 68 69` is the string "hi", `a1 03` is "",
 * 04 a blob, 17h GeoJSON text without cells, 07..0c language blobs, 12h HLL.
 * Order is a pseudo-element in front, `c7 00 <flags>`, and the count includes it: `92 c7 00 01 05` is the ordered list [5].
 * In a map a nil follows as its value: `82 c7 00 01 c0 01 02` is the K-ordered map {1: 2}.
 *
 * C1: what is encoded is canonical, i.e. what an 8.x server has after storing it: smallest integers and headers, str
 *     headers only, map keys sorted (integers < strings < blobs; integers by value, the others bytewise, a prefix first).
 * C2: decode then encode is the identity on canonical bytes. Any other well-formed bytes decode to their meaning.
 * C3: no length is believed before it was compared with the bytes that are there; nesting is bounded.
 *
 * Two things are the caller's: the items of an ordered list must be sorted already (a server answers rc 1 otherwise), and
 * the index hint (flag 10h), which a server drops on read and which on an unordered list crashes it, is never written.
 */
import { isUtf8 } from 'node:buffer';
import { PitrError } from './errors.ts';
import { ParticleType } from './particle.ts';

/** A float: keeps 1.0 apart from the integer 1, and NaN payloads, which a JS number may lose. */
export class Double {
  readonly value: number;
  /** IEEE 754 bit pattern, 64 bits. */
  readonly bits: bigint;

  constructor(value: number) {
    scratch.setFloat64(0, value);
    this.value = value;
    this.bits = Number.isNaN(value) ? CANONICAL_NAN_BITS : scratch.getBigUint64(0);
  }

  /** A double of this bit pattern, for NaN payloads. */
  static fromBits(bits: bigint): Double {
    scratch.setBigUint64(0, bits);
    const double = new Double(scratch.getFloat64(0));
    // Not every engine moves a NaN through a number unchanged, hence the bits are written, not derived.
    (double as { bits: bigint }).bits = BigInt.asUintN(64, bits);
    return double;
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
    if (!Number.isInteger(type) || type < 0 || type > 255) bad(`particle type ${type} is not a byte`);
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

/** Nested lists and maps, the outermost included. */
export const MAX_DEPTH = 256;

export const CANONICAL_NAN_BITS = 0x7ff8000000000000n;
const LIST_FLAGS = 0x01;
const MAP_FLAGS = 0x03;
/** Flags without meaning for stored data: 08h asks a client to keep the order it got, 10h asks the server for an index. */
const HINT_FLAGS = 0x18;
const scratch = new DataView(new ArrayBuffer(8));

const bad = (what: string, hint?: string): never => {
  throw new PitrError('bad-record', { what, hint });
};

/** UTF-8 of a string. Refuses unpaired surrogates, which would silently become U+FFFD. */
export const utf8 = (text: string): Buffer =>
  text.isWellFormed() ? Buffer.from(text, 'utf8') : bad('a string is not valid Unicode', 'store it as bytes');

/** The text of bytes that are valid UTF-8, a BOM included, else `undefined`. */
export const textOf = (bytes: Uint8Array): string | undefined =>
  isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8') : undefined;

/** An integer number as bigint-free as possible, and never one that a JS number has already rounded. */
export const safeInteger = (value: number): number =>
  Number.isSafeInteger(value)
    ? value + 0 // -0 comes out of ordinary arithmetic and means 0; the float is new Double(-0)
    : bad(`${value} is beyond 2^53 and may be rounded`, 'pass a bigint, or new Double(x) for a float');

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

/**
 * The canonical bytes (C1) of a value as a list or map holds it.
 * @throws `bad-record` for values and map keys that a server does not store, and for duplicate keys
 */
export const encodeCdt = (value: Value): Uint8Array => {
  const writer = new Writer();
  encode(writer, value, 0);
  return writer.bytes();
};

const encode = (w: Writer, value: Value, depth: number): void => {
  if (value === null) return w.u8(0xc0);
  if (typeof value === 'boolean') return w.u8(value ? 0xc3 : 0xc2);
  if (typeof value === 'number') {
    if (!Number.isInteger(value)) return w.double(new Double(value).bits);
    return w.integer(safeInteger(value));
  }
  if (typeof value === 'bigint') return w.integer(toSafe(value));
  if (typeof value === 'string') return w.stringClass(ParticleType.string, utf8(value));
  if (value instanceof Uint8Array) return w.stringClass(ParticleType.blob, value);
  if (value instanceof Double) return w.double(value.bits);
  if (value instanceof Float32) return w.float(value.bits);
  // A server computes cells for elements when it needs them; only the text is stored.
  if (value instanceof GeoJson) return w.stringClass(ParticleType.geojson, utf8(value.text));
  if (value instanceof Opaque) return encodeOpaque(w, value);

  const collection = asCollection(value);
  if (collection === undefined) return bad(`a value of type ${typeName(value)} has no Aerospike form`);
  // Also what ends a cyclic input.
  if (depth >= MAX_DEPTH) bad(`lists and maps are nested more than ${MAX_DEPTH} levels`);
  if (collection instanceof CdtList) encodeList(w, collection, depth + 1);
  else encodeMap(w, collection, depth + 1);
};

const encodeOpaque = (w: Writer, value: Opaque): void => {
  // As a string-class element these would read back as bytes, not as the integer, float, … that the caller meant.
  const { integer, float, bool, map, list } = ParticleType;
  if ([integer, float, bool, map, list].some((type) => type === value.type)) {
    bad(`raw bytes of particle type ${value.type} cannot be an element of a list or map`, 'pass its JS value');
  }
  w.stringClass(value.type, value.bytes);
};

const encodeList = (w: Writer, list: CdtList, depth: number): void => {
  const marked = list.order === ListOrder.unordered ? 0 : 1;
  w.count(0x90, 0xdc, list.items.length + marked);
  if (marked) w.marker(list.order);
  for (const item of list.items) encode(w, item, depth);
};

interface EncodedKey {
  readonly rank: number;
  readonly key: number | bigint;
  readonly bytes: Uint8Array;
  readonly value: Value;
}

const encodeMap = (w: Writer, map: CdtMap, depth: number): void => {
  const pairs = map.entries.map(([key, value]) => encodeKey(key, value)).sort(compareKeys);
  for (let i = 1; i < pairs.length; i++) {
    if (compareKeys(pairs[i - 1]!, pairs[i]!) === 0) bad(`a map has the key ${shown(pairs[i]!)} twice`);
  }
  const marked = map.order === MapOrder.unordered ? 0 : 1;
  w.count(0x80, 0xde, pairs.length + marked);
  if (marked) {
    w.marker(map.order);
    w.u8(0xc0);
  }
  for (const { bytes, value } of pairs) {
    w.raw(bytes);
    encode(w, value, depth);
  }
};

/** Ranks are the server's type order; keys of other types were accepted by servers before 8 and are refused since. */
const encodeKey = (key: Value, value: Value): EncodedKey => {
  const bytes = () => encodeCdt(key);
  if (typeof key === 'bigint') return { rank: 0, key: toSafe(key), bytes: bytes(), value };
  if (typeof key === 'number' && Number.isInteger(key)) return { rank: 0, key, bytes: bytes(), value };
  const type = key instanceof Opaque ? key.type : -1;
  if (typeof key === 'string' || type === ParticleType.string) return { rank: 1, key: 0, bytes: bytes(), value };
  if (key instanceof Uint8Array || type === ParticleType.blob) return { rank: 2, key: 0, bytes: bytes(), value };
  return bad(`a map key of type ${typeName(key)}`, 'map keys are integers, strings or blobs');
};

const compareKeys = (a: EncodedKey, b: EncodedKey): number => {
  if (a.rank !== b.rank) return a.rank - b.rank;
  if (a.rank === 0) return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
  return Buffer.compare(stringPayload(a.bytes), stringPayload(b.bytes));
};

/** Keys compare by payload: the header in front would sort them by length. */
const stringPayload = (bytes: Uint8Array): Uint8Array => {
  const head = bytes[0]!;
  return bytes.subarray(head < 0xc0 ? 1 : head === 0xd9 ? 2 : head === 0xda ? 3 : 5);
};

const shown = ({ rank, key, bytes }: EncodedKey): string =>
  rank === 0 ? `${key}` : JSON.stringify(Buffer.from(stringPayload(bytes)).subarray(1, 65).toString('utf8'));

const typeName = (value: unknown): string =>
  value === null ? 'null' : typeof value === 'object' ? (value.constructor?.name ?? 'object') : typeof value;

class Writer {
  #buffer = Buffer.allocUnsafe(256);
  #length = 0;

  bytes(): Uint8Array {
    return new Uint8Array(this.#buffer.subarray(0, this.#length));
  }

  /** Makes room and returns where the next `bytes` go. */
  #reserve(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(this.#length, 2 * this.#buffer.length));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    return at;
  }

  u8(value: number): void {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
  }

  #tagged(tag: number, bytes: 1 | 2 | 4, value: number): void {
    this.u8(tag);
    const at = this.#reserve(bytes);
    this.#buffer.writeUIntBE(value, at, bytes);
  }

  #tagged64(tag: number, bits: bigint): void {
    this.u8(tag);
    const at = this.#reserve(8);
    this.#buffer.writeBigUInt64BE(bits, at);
  }

  raw(bytes: Uint8Array): void {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
  }

  double(bits: bigint): void {
    this.#tagged64(0xcb, bits);
  }

  float(bits: number): void {
    this.#tagged(0xca, 4, bits);
  }

  integer(n: number | bigint): void {
    if (n >= 0) {
      if (n < 0x80) this.u8(Number(n));
      else if (n <= 0xff) this.#tagged(0xcc, 1, Number(n));
      else if (n <= 0xffff) this.#tagged(0xcd, 2, Number(n));
      else if (n <= 0xffffffff) this.#tagged(0xce, 4, Number(n));
      else if (n < 2n ** 64n) this.#tagged64(0xcf, BigInt(n));
      else bad(`${n} does not fit in 64 bits`);
    } else if (n >= -0x20) this.u8(Number(n) & 0xff);
    else if (n >= -0x80) this.#tagged(0xd0, 1, Number(n) & 0xff);
    else if (n >= -0x8000) this.#tagged(0xd1, 2, Number(n) & 0xffff);
    else if (n >= -0x80000000) this.#tagged(0xd2, 4, Number(n) >>> 0);
    else if (n >= -(2n ** 63n)) this.#tagged64(0xd3, BigInt.asUintN(64, BigInt(n)));
    else bad(`${n} does not fit in 64 bits`);
  }

  stringClass(type: number, payload: Uint8Array): void {
    const length = payload.length + 1;
    if (length < 0x20) this.u8(0xa0 | length);
    else if (length <= 0xff) this.#tagged(0xd9, 1, length);
    else if (length <= 0xffff) this.#tagged(0xda, 2, length);
    else this.#tagged(0xdb, 4, length);
    this.u8(type);
    this.raw(payload);
  }

  /** Header of a list or map. `wide` is the tag of the 16-bit form; the 32-bit form is the next one. */
  count(fix: number, wide: number, count: number): void {
    if (count < 0x10) this.u8(fix | count);
    else if (count <= 0xffff) this.#tagged(wide, 2, count);
    else this.#tagged(wide + 1, 4, count);
  }

  marker(flags: number): void {
    this.u8(0xc7);
    this.u8(0);
    this.u8(flags);
  }
}

/**
 * The value that these bytes hold; the bytes may come from anywhere. Blobs are copies.
 * @throws `bad-record` when they are truncated, go on after the value, nest too deep, or are not of this dialect
 */
export const decodeCdt = (bytes: Uint8Array): Value => {
  const reader = new Reader(bytes);
  const value = reader.value(0);
  return reader.left === 0 ? value : reader.fail('bytes follow the value');
};

class Reader {
  readonly #b: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get left(): number {
    return this.#b.length - this.#at;
  }

  fail(why: string): never {
    throw new PitrError('bad-record', { what: `list or map bytes: ${why} (byte ${this.#at} of ${this.#b.length})` });
  }

  /** Steps over `bytes` that are there, and returns where they start. */
  #take(bytes: number): number {
    if (bytes > this.left) this.fail('truncated');
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  #uint(bytes: 1 | 2 | 4): number {
    return this.#b.readUIntBE(this.#take(bytes), bytes);
  }

  #int(bytes: 1 | 2 | 4): number {
    return this.#b.readIntBE(this.#take(bytes), bytes);
  }

  #bits64(): bigint {
    return this.#b.readBigUInt64BE(this.#take(8));
  }

  value(depth: number): Value {
    const tag = this.#uint(1);
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth + 1);
    if (tag < 0xa0) return this.#list(tag & 0x0f, depth + 1);
    if (tag < 0xc0) return this.#stringClass(tag & 0x1f);
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      // Clients write blobs with str and with bin headers: only the type byte inside decides.
      case 0xc4:
      case 0xd9:
        return this.#stringClass(this.#uint(1));
      case 0xc5:
      case 0xda:
        return this.#stringClass(this.#uint(2));
      case 0xc6:
      case 0xdb:
        return this.#stringClass(this.#uint(4));
      case 0xca:
        return new Float32(this.#uint(4));
      case 0xcb:
        return Double.fromBits(this.#bits64());
      case 0xcc:
        return this.#uint(1);
      case 0xcd:
        return this.#uint(2);
      case 0xce:
        return this.#uint(4);
      case 0xcf:
        return toSafe(this.#bits64());
      case 0xd0:
        return this.#int(1);
      case 0xd1:
        return this.#int(2);
      case 0xd2:
        return this.#int(4);
      case 0xd3:
        return toSafe(BigInt.asIntN(64, this.#bits64()));
      case 0xdc:
        return this.#list(this.#uint(2), depth + 1);
      case 0xdd:
        return this.#list(this.#uint(4), depth + 1);
      case 0xde:
        return this.#map(this.#uint(2), depth + 1);
      case 0xdf:
        return this.#map(this.#uint(4), depth + 1);
      default:
        // Extensions are order markers, read with their container, or query arguments, which are never stored.
        return this.fail(`tag ${tag.toString(16)} is not a value`);
    }
  }

  #stringClass(length: number): Value {
    if (length === 0) this.fail('a string without a type byte');
    const at = this.#take(length);
    const type = this.#b[at]!;
    const payload = this.#b.subarray(at + 1, at + length);
    if (type === ParticleType.blob) return new Uint8Array(payload);
    const text = type === ParticleType.string || type === ParticleType.geojson ? textOf(payload) : undefined;
    if (text === undefined) return new Opaque(type, new Uint8Array(payload));
    return type === ParticleType.string ? text : new GeoJson(text);
  }

  /** Every element has at least one byte, so a count beyond what is left is a lie, found before anything is allocated. */
  #open(minBytes: number, depth: number): void {
    if (minBytes > this.left) this.fail('truncated');
    if (depth > MAX_DEPTH) this.fail(`nested more than ${MAX_DEPTH} levels`);
  }

  /** The flags of the order marker, when one comes next. */
  #marker(count: number, known: number): number | undefined {
    if (count === 0 || this.#b[this.#at] !== 0xc7) return undefined;
    const at = this.#take(3);
    const flags = this.#b[at + 2]!;
    if (this.#b[at + 1] !== 0 || (flags & ~(known | HINT_FLAGS)) !== 0) this.fail('an unknown extension');
    return flags & known;
  }

  #list(count: number, depth: number): Value {
    this.#open(count, depth);
    const order = this.#marker(count, LIST_FLAGS);
    const items: Value[] = [];
    for (let i = order === undefined ? 0 : 1; i < count; i++) items.push(this.value(depth));
    return order === ListOrder.ordered ? new CdtList(items, order) : items;
  }

  #map(count: number, depth: number): Value {
    this.#open(2 * count, depth);
    const order = this.#marker(count, MAP_FLAGS);
    if (order !== undefined && this.#uint(1) !== 0xc0) this.fail('an order marker with a value');
    const entries: [Value, Value][] = [];
    for (let i = order === undefined ? 0 : 1; i < count; i++) {
      entries.push([this.value(depth), this.value(depth)]);
    }
    return new CdtMap(entries, (order ?? MapOrder.unordered) as MapOrder);
  }
}

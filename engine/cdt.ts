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
import { PitrError } from './errors.ts';
import { ParticleType } from './particle.ts';
import {
  asCollection,
  badRecord,
  CdtList,
  CdtMap,
  Double,
  Float32,
  GeoJson,
  ListOrder,
  MapOrder,
  Opaque,
  safeInteger,
  textOf,
  toSafe,
  typeName,
  utf8,
  type Value,
} from './value-types.ts';

/** Nested lists and maps, the outermost included. */
export const MAX_DEPTH = 256;

const LIST_FLAGS = 0x01;
const MAP_FLAGS = 0x03;
/** Flags without meaning for stored data: 08h asks a client to keep the order it got, 10h asks the server for an index. */
const HINT_FLAGS = 0x18;

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
  if (value === null) w.u8(0xc0);
  else if (typeof value === 'boolean') w.u8(value ? 0xc3 : 0xc2);
  else if (typeof value === 'number' && Number.isInteger(value)) w.integer(safeInteger(value));
  else if (typeof value === 'number') w.double(new Double(value).bits);
  else if (typeof value === 'bigint') w.integer(toSafe(value));
  else if (typeof value === 'string') w.stringClass(ParticleType.string, utf8(value));
  else if (value instanceof Uint8Array) w.stringClass(ParticleType.blob, value);
  else if (value instanceof Double) w.double(value.bits);
  else if (value instanceof Float32) w.float(value.bits);
  // A server computes cells for elements when it needs them; only the text is stored.
  else if (value instanceof GeoJson) w.stringClass(ParticleType.geojson, utf8(value.text));
  else if (value instanceof Opaque) encodeOpaque(w, value);
  else encodeCollection(w, value, depth + 1);
};

const encodeCollection = (w: Writer, value: Value, depth: number): void => {
  const collection = asCollection(value);
  if (collection === undefined) badRecord(`a value of type ${typeName(value)} has no Aerospike form`);
  // Also what ends a cyclic input.
  if (depth > MAX_DEPTH) badRecord(`lists and maps are nested more than ${MAX_DEPTH} levels`);
  if (collection instanceof CdtList) encodeList(w, collection, depth);
  else encodeMap(w, collection, depth);
};

const encodeOpaque = (w: Writer, value: Opaque): void => {
  // As a string-class element these would read back as bytes, not as the integer, float, … that the caller meant.
  const { integer, float, bool, map, list } = ParticleType;
  if ([integer, float, bool, map, list].some((type) => type === value.type)) {
    badRecord(
      `raw bytes of particle type ${value.type} cannot be an element of a list or map`,
      'pass its JS value',
    );
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
    if (compareKeys(pairs[i - 1]!, pairs[i]!) === 0) badRecord(`a map has the key ${shown(pairs[i]!)} twice`);
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
  if (typeof key === 'string' || type === ParticleType.string)
    return { rank: 1, key: 0, bytes: bytes(), value };
  if (key instanceof Uint8Array || type === ParticleType.blob)
    return { rank: 2, key: 0, bytes: bytes(), value };
  return badRecord(`a map key of type ${typeName(key)}`, 'map keys are integers, strings or blobs');
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
      else badRecord(`${n} does not fit in 64 bits`);
    } else if (n >= -0x20) this.u8(Number(n) & 0xff);
    else if (n >= -0x80) this.#tagged(0xd0, 1, Number(n) & 0xff);
    else if (n >= -0x8000) this.#tagged(0xd1, 2, Number(n) & 0xffff);
    else if (n >= -0x80000000) this.#tagged(0xd2, 4, Number(n) >>> 0);
    else if (n >= -(2n ** 63n)) this.#tagged64(0xd3, BigInt.asUintN(64, BigInt(n)));
    else badRecord(`${n} does not fit in 64 bits`);
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
    throw new PitrError('bad-record', {
      what: `list or map bytes: ${why} (byte ${this.#at} of ${this.#b.length})`,
    });
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

/**
 * JS values ⇄ particles, for the public API, and particles ⇄ JSON, for display and JSON lines. Not on the data path.
 *
 * V1: `toParticle(fromParticle(p))` is `p` byte for byte when `p` is canonical (cdt.ts, C1); lists and maps that are not
 *     come back with the same meaning in canonical form, and bytes that cannot be read at all come back as they were.
 * V2: `fromJson(toJson(p))` is `p` byte for byte for every particle. What the readable form would lose is given as bytes.
 *
 * JSON forms; any other object key that starts with `$` is refused:
 *
 *     string            "text"                         bool, nil in lists  true, null
 *     integer           42                             beyond 2^53         {"$int":"9223372036854775807"}
 *     float             1.5                            1.0, -0, ±Infinity  {"$double":"1"}
 *     NaN with payload  {"$float64":"7ff8000000000001"} float32 in a list  {"$float32":"3fc00000"}
 *     blob              {"$blob":"base64"}             GeoJSON             {"$geojson":"text"}, and "$cells" if not zero
 *     list              [1,"a"]                        ordered list        {"$list":[1,2],"$order":"ordered"}
 *     map               {"a":1}                        other keys, order   {"$map":[[1,"a"]],"$order":"key"}
 *     any other type, and bytes without a canonical form                   {"$particle":18,"$bytes":"base64"}
 */
import { decodeCdt, encodeCdt, MAX_DEPTH } from './cdt.ts';
import { isPitrError, PitrError } from './errors.ts';
import { geoJsonTextOffset, type Particle, ParticleType } from './particle.ts';
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

export { CdtList, CdtMap, Double, Float32, GeoJson, ListOrder, MapOrder, Opaque, type Value };

/** A particle put through the value API as it is. The same class that {@link fromParticle} gives for unreadable types. */
export type RawParticle = Opaque;

/** Wraps raw wire bytes as a value: `{ visitors: particle(ParticleType.hll, bytes) }`. */
export const particle = (type: number, bytes: Uint8Array): RawParticle => new Opaque(type, bytes);

export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

const NO_CELLS = new Uint8Array(3);

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const eightBytes = (write: (view: DataView) => void): Uint8Array => {
  const bytes = new Uint8Array(8);
  write(new DataView(bytes.buffer));
  return bytes;
};

/**
 * The particle of a value. Bytes given as blob or {@link particle} are not copied: leave them alone until the write is done.
 * @throws `bad-record` for values that have no Aerospike form: null, undefined, dates, rounded integers, …
 */
export const toParticle = (value: Value): Particle => {
  if (value === null) badRecord('null is not a bin value', 'leave the bin out, or delete it');
  if (typeof value === 'string') return { type: ParticleType.string, bytes: utf8(value) };
  if (typeof value === 'boolean') return { type: ParticleType.bool, bytes: Uint8Array.of(value ? 1 : 0) };
  if (typeof value === 'number' && !Number.isInteger(value)) return floatParticle(new Double(value));
  if (typeof value === 'number') return integerParticle(BigInt(safeInteger(value)));
  if (typeof value === 'bigint') return integerParticle(value);
  if (value instanceof Double) return floatParticle(value);
  if (value instanceof Float32) badRecord('float32 exists only inside lists and maps', 'pass new Double(x)');
  if (value instanceof Uint8Array) return { type: ParticleType.blob, bytes: value };
  if (value instanceof Opaque) return { type: value.type, bytes: value.bytes };
  if (value instanceof GeoJson) return geoJsonParticle(value);
  const collection = asCollection(value);
  if (collection === undefined) return badRecord(`a value of type ${typeName(value)} has no Aerospike form`);
  const type = collection instanceof CdtList ? ParticleType.list : ParticleType.map;
  return { type, bytes: encodeCdt(collection) };
};

const integerParticle = (value: bigint): Particle => {
  if (BigInt.asIntN(64, value) !== value) badRecord(`${value} does not fit in a signed 64-bit integer`);
  return { type: ParticleType.integer, bytes: eightBytes((view) => view.setBigInt64(0, value)) };
};

const geoJsonParticle = ({ text, header = NO_CELLS }: GeoJson): Particle => {
  // The cells must end where the text begins, or the value would be cut at another place when it is read.
  if (geoJsonTextOffset(header) !== header.length)
    badRecord('a GeoJSON header is not flags, count and cells');
  return { type: ParticleType.geojson, bytes: Buffer.concat([header, utf8(text)]) };
};

const floatParticle = (value: Double): Particle => ({
  type: ParticleType.float,
  bytes: eightBytes((view) => view.setBigUint64(0, value.bits)),
});

/** The value of a particle; never throws. Bytes that their type does not allow, and types without a JS value, are {@link Opaque}. */
export const fromParticle = (p: Particle): Value =>
  readable(p) ?? new Opaque(p.type, new Uint8Array(p.bytes));

const readable = ({ type, bytes }: Particle): Value | undefined => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  switch (type) {
    case ParticleType.integer:
      return bytes.length === 8 ? toSafe(view.getBigInt64(0)) : undefined;
    case ParticleType.float:
      return bytes.length === 8 ? Double.fromBits(view.getBigUint64(0)) : undefined;
    case ParticleType.bool:
      return bytes.length === 1 && bytes[0]! <= 1 ? bytes[0] === 1 : undefined;
    case ParticleType.string:
      return textOf(bytes);
    case ParticleType.blob:
      return new Uint8Array(bytes);
    case ParticleType.geojson:
      return readableGeoJson(bytes);
    case ParticleType.list:
    case ParticleType.map:
      return readableCollection(type, bytes);
    default:
      return undefined;
  }
};

const readableGeoJson = (bytes: Uint8Array): GeoJson | undefined => {
  const offset = geoJsonTextOffset(bytes);
  const text = offset < 0 ? undefined : textOf(bytes.subarray(offset));
  if (text === undefined) return undefined;
  const header = new Uint8Array(bytes.subarray(0, offset));
  return sameBytes(header, NO_CELLS) ? new GeoJson(text) : new GeoJson(text, header);
};

const readableCollection = (type: number, bytes: Uint8Array): Value | undefined => {
  const value = orUndefined(() => decodeCdt(bytes));
  const isList = Array.isArray(value) || value instanceof CdtList;
  if (type === ParticleType.list ? isList : value instanceof CdtMap) return value;
  return undefined;
};

/** A refused value is an answer here, not a failure: the bytes are then kept as bytes. */
const orUndefined = <T>(read: () => T): T | undefined => {
  try {
    return read();
  } catch (error) {
    if (isPitrError(error, 'bad-record')) return undefined;
    throw error;
  }
};

/** A lossless, readable JSON form (V2). */
export const toJson = (p: Particle): JsonValue => {
  const value = readable(p);
  if (value === undefined) return rawJson(p);
  // Long-form integers, unsorted maps, index hints, …: the readable form would not give these bytes back.
  const again = orUndefined(() => toParticle(value));
  return again !== undefined && sameBytes(again.bytes, p.bytes) ? valueToJson(value) : rawJson(p);
};

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');

const rawJson = ({ type, bytes }: Particle): JsonValue => ({ $particle: type, $bytes: base64(bytes) });

const LIST_ORDER_NAMES = { ordered: ListOrder.ordered } as const;
const MAP_ORDER_NAMES = { key: MapOrder.key, value: MapOrder.value, keyValue: MapOrder.keyValue } as const;

const orderJson = (names: Readonly<Record<string, number>>, order: number): { $order?: string } => {
  const name = Object.keys(names).find((candidate) => names[candidate] === order);
  return name === undefined ? {} : { $order: name };
};

const valueToJson = (value: Value): JsonValue => {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value;
  if (typeof value === 'number') return value; // from a particle: always a safe integer
  if (typeof value === 'bigint') return { $int: `${value}` };
  if (value instanceof Double) return doubleJson(value);
  if (value instanceof Float32) return { $float32: value.bits.toString(16).padStart(8, '0') };
  if (value instanceof Uint8Array) return { $blob: base64(value) };
  if (value instanceof Opaque) return rawJson(value);
  if (value instanceof GeoJson) {
    return { $geojson: value.text, ...(value.header === undefined ? {} : { $cells: base64(value.header) }) };
  }
  const collection = asCollection(value);
  if (collection instanceof CdtMap) return mapJson(collection);
  if (collection === undefined)
    throw new PitrError('internal', { what: `no JSON form of ${typeName(value)}` });
  const items = collection.items.map(valueToJson);
  if (collection.order === ListOrder.unordered) return items;
  return { $list: items, ...orderJson(LIST_ORDER_NAMES, collection.order) };
};

const doubleJson = ({ value, bits }: Double): JsonValue => {
  if (Number.isNaN(value) && bits !== new Double(Number.NaN).bits) {
    return { $float64: bits.toString(16).padStart(16, '0') };
  }
  // The shortest text of a double reads back as the same double in any JSON parser; a whole one would read as an integer.
  if (Number.isFinite(value) && !Number.isInteger(value)) return value;
  return { $double: Object.is(value, -0) ? '-0' : `${value}` };
};

const mapJson = ({ entries, order }: CdtMap): JsonValue => {
  const plain = order === MapOrder.unordered && entries.every(([k]) => typeof k === 'string' && k[0] !== '$');
  // fromEntries defines properties, so a key "__proto__" is a key like any other.
  if (plain) return Object.fromEntries(entries.map(([key, value]) => [key, valueToJson(value)]));
  const pairs = entries.map(([key, value]) => [valueToJson(key), valueToJson(value)]);
  return { $map: pairs, ...orderJson(MAP_ORDER_NAMES, order) };
};

/**
 * The particle of a JSON form; the inverse of {@link toJson}. Types and lengths are checked when it is written, not here.
 * @throws `bad-record`
 */
export const fromJson = (json: JsonValue): Particle => toParticle(jsonToValue(json, 0));

const jsonToValue = (json: JsonValue, depth: number): Value => {
  if (json === null || typeof json !== 'object') return json;
  // The JSON may come from a file: bounded, or it would exhaust the stack before the encoder looks at it.
  if (depth > MAX_DEPTH) badRecord(`lists and maps are nested more than ${MAX_DEPTH} levels`);
  if (isArray(json)) return json.map((item) => jsonToValue(item, depth + 1));
  const entries = Object.entries(json);
  if (entries.some(([key]) => key.startsWith('$'))) return taggedToValue(json, depth);
  return new CdtMap(entries.map(([key, value]) => [key, jsonToValue(value, depth + 1)]));
};

/** Array.isArray does not narrow readonly arrays. */
const isArray = (json: JsonValue): json is readonly JsonValue[] => Array.isArray(json);

const taggedToValue = (json: { readonly [key: string]: JsonValue }, depth: number): Value => {
  const form = Object.keys(json).sort().join(' ');
  switch (form) {
    case '$int':
      return toSafe(BigInt(matching(json.$int, /^-?\d{1,20}$/, 'an integer')));
    case '$double':
      return new Double(
        Number(matching(json.$double, /^(-?(\d+(\.\d+)?(e[+-]?\d+)?|Infinity)|NaN)$/i, 'a number')),
      );
    case '$float64':
      return Double.fromBits(BigInt(`0x${matching(json.$float64, /^[0-9a-f]{16}$/i, '16 hex digits')}`));
    case '$float32':
      return new Float32(Number.parseInt(matching(json.$float32, /^[0-9a-f]{8}$/i, '8 hex digits'), 16));
    case '$blob':
      return fromBase64(json.$blob);
    case '$geojson':
      return new GeoJson(matching(json.$geojson, /^/, 'text'));
    case '$cells $geojson':
      return new GeoJson(matching(json.$geojson, /^/, 'text'), fromBase64(json.$cells));
    case '$bytes $particle':
      return particle(typeof json.$particle === 'number' ? json.$particle : -1, fromBase64(json.$bytes));
    case '$list':
    case '$list $order':
      return new CdtList(
        arrayOf(json.$list).map((item) => jsonToValue(item, depth + 1)),
        orderOf(LIST_ORDER_NAMES, json.$order) as ListOrder,
      );
    case '$map':
    case '$map $order':
      return new CdtMap(
        arrayOf(json.$map).map((pair) => pairOf(pair, depth)),
        orderOf(MAP_ORDER_NAMES, json.$order) as MapOrder,
      );
    default:
      return badRecord(
        `unknown JSON form with the keys ${form}`,
        'keys that start with $ go into {"$map":[[key,value]]}',
      );
  }
};

const matching = (json: JsonValue | undefined, pattern: RegExp, noun: string): string =>
  typeof json === 'string' && pattern.test(json)
    ? json
    : badRecord(`${JSON.stringify(json)?.slice(0, 80)} is not ${noun} in a JSON string`);

/** Strict: Node skips what is not base64, and a damaged value would be shortened instead of refused. */
const fromBase64 = (json: JsonValue | undefined): Uint8Array => {
  const bytes = Buffer.from(matching(json, /^/, 'base64'), 'base64');
  return bytes.toString('base64') === json ? new Uint8Array(bytes) : badRecord('a value is not base64');
};

const arrayOf = (json: JsonValue | undefined): readonly JsonValue[] =>
  json !== undefined && isArray(json) ? json : badRecord('"$list" and "$map" hold arrays');

const pairOf = (json: JsonValue, depth: number): [Value, Value] => {
  const pair = arrayOf(json);
  if (pair.length !== 2) badRecord('"$map" holds [key, value] pairs');
  return [jsonToValue(pair[0]!, depth + 1), jsonToValue(pair[1]!, depth + 1)];
};

const orderOf = (names: Readonly<Record<string, number>>, json: JsonValue | undefined): number => {
  if (json === undefined) return 0;
  const order = typeof json === 'string' && Object.hasOwn(names, json) ? names[json] : undefined;
  return (
    order ?? badRecord(`unknown "$order" ${JSON.stringify(json)}`, `use ${Object.keys(names).join(', ')}`)
  );
};

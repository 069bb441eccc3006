import { geoJsonTextOffset, type Particle, ParticleType } from '../../particle.ts';
import { normalizeParticle } from '../cdt/normalize.ts';
import type { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { isGeometry } from './geometry.ts';

/** Why a value that came by the wire is not stored, as a code; 0: it may be. Looks at no list or map: see {@link storedValue}. */
export const valueRefusal = (type: number, bytes: Uint8Array, start: number, end: number): number => {
  const size = end - start;
  switch (type) {
    case ParticleType.integer:
      return size === 8 || size === 4 || size === 2 || size === 1 ? 0 : ResultCode.parameter;
    case ParticleType.float:
      return size === 8 ? 0 : ResultCode.parameter;
    case ParticleType.bool:
      return size === 1 && bytes[start] <= 1 ? 0 : ResultCode.parameter;
    case ParticleType.geojson:
      return isGeoJson(bytes.subarray(start, end)) ? 0 : ResultCode.geoInvalidJson;
    case ParticleType.hll:
      return size >= HLL_HEADER_BYTES && isHllHead(bytes[start + 1], bytes[start + 2])
        ? 0
        : ResultCode.parameter;
    case ParticleType.string:
    case ParticleType.blob:
    case ParticleType.java:
    case ParticleType.csharp:
    case ParticleType.python:
    case ParticleType.ruby:
    case ParticleType.php:
    case ParticleType.erlang:
    case ParticleType.vector:
    case ParticleType.map:
    case ParticleType.list:
      return 0;
    default:
      return ResultCode.parameter;
  }
};

/** Whether a value is stored as it came. Others go through {@link storedValue}. */
export const isStoredAsIs = (type: number, size: number): boolean =>
  type === ParticleType.integer ? size === 8 : type !== ParticleType.map && type !== ParticleType.list;

/** The bytes that are stored of a value, or why none are: integers have 8 bytes, lists and maps their canonical form. */
export const storedValue = (type: number, bytes: Uint8Array): Uint8Array | Refusal => {
  if (type !== ParticleType.integer) return normalizeParticle(type, bytes);
  const integer = Buffer.alloc(8);
  integer.set(bytes, 8 - bytes.length);
  return integer;
};

/** u8 flags, u8 bits of an index, u8 bits of a minhash, 8 bytes of a count. */
const HLL_HEADER_BYTES = 11;
const isHllHead = (indexBits: number, minhashBits: number): boolean =>
  indexBits >= 4 && indexBits <= 16 && (minhashBits === 0 || (minhashBits >= 4 && minhashBits <= 51));

const isGeoJson = (bytes: Uint8Array): boolean => {
  const at = geoJsonTextOffset(bytes);
  return at >= 0 && isGeometry(bytes.subarray(at));
};

/** INCR: an integer plus an integer, wrapping as 64 bits do, or a float plus a float; undefined: they do not add. */
export const added = (old: Particle, type: number, delta: Uint8Array): Uint8Array | undefined => {
  if (old.type !== type) return undefined;
  const a = view(old.bytes);
  const b = view(delta);
  const sum = Buffer.allocUnsafe(8);
  if (type === ParticleType.integer)
    sum.writeBigInt64BE(BigInt.asIntN(64, a.getBigInt64(0) + b.getBigInt64(0)));
  else sum.writeDoubleBE(a.getFloat64(0) + b.getFloat64(0));
  return sum;
};

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Types that APPEND and PREPEND take. */
export const isJoinable = (type: number): boolean =>
  type === ParticleType.string ||
  (type >= ParticleType.blob && type <= ParticleType.erlang && type !== 5 && type !== 6);

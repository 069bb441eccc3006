/** Values of expressions ⇄ elements of lists and maps, and ⇄ particles. */
import { GEOJSON_HEADER_BYTES, geoJsonTextOffset, type Particle, ParticleType } from '../../particle.ts';
import { Head, Kind } from '../cdt/element.ts';
import { writeInteger } from '../cdt/normalize.ts';
import { type Value, ValueType } from './node.ts';

/** Particle types of the value types that bins can have. */
export const PARTICLE_TYPES: ReadonlyMap<ValueType, ParticleType> = new Map([
  [ValueType.nil, ParticleType.null],
  [ValueType.bool, ParticleType.bool],
  [ValueType.int, ParticleType.integer],
  [ValueType.float, ParticleType.float],
  [ValueType.string, ParticleType.string],
  [ValueType.blob, ParticleType.blob],
  [ValueType.geojson, ParticleType.geojson],
  [ValueType.hll, ParticleType.hll],
  [ValueType.list, ParticleType.list],
  [ValueType.map, ParticleType.map],
]);

const view = new DataView(new ArrayBuffer(8));

/** The value of a particle of type `type`; `undefined` when it is of another type, or malformed. */
export const valueOfParticle = (type: ValueType, particle: Particle): Value => {
  if (particle.type !== PARTICLE_TYPES.get(type)) return undefined;
  const { bytes } = particle;
  switch (type) {
    case ValueType.bool:
      return bytes.length === 1 ? bytes[0] !== 0 : undefined;
    case ValueType.int:
      return bytes.length === 8 ? intOf(bytes) : undefined;
    case ValueType.float:
      return bytes.length === 8 ? floatOf(bytes) : undefined;
    case ValueType.geojson: {
      const at = geoJsonTextOffset(bytes);
      return at < 0 ? undefined : bytes.subarray(at);
    }
    default:
      return bytes;
  }
};

const word = (b: Uint8Array, at: number): number =>
  ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) >>> 0;

const intOf = (bytes: Uint8Array): number | bigint => {
  const high = word(bytes, 0) | 0;
  const low = word(bytes, 4);
  // Within ±2^53 the two halves make an exact number.
  if (high >= -0x20_0000 && high < 0x20_0000) {
    const number = high * 0x1_0000_0000 + low;
    if (Number.isSafeInteger(number)) return number;
  }
  return (BigInt(high) << 32n) | BigInt(low);
};

const floatOf = (bytes: Uint8Array): number => {
  view.setUint32(0, word(bytes, 0));
  view.setUint32(4, word(bytes, 4));
  return view.getFloat64(0);
};

/** The particle of a value; `undefined` for nil and unknown. */
export const particleOf = (type: ValueType, value: Value): Particle | undefined => {
  const particleType = PARTICLE_TYPES.get(type);
  if (value === undefined || value === null || particleType === undefined) return undefined;
  switch (type) {
    case ValueType.bool:
      return { type: particleType, bytes: Uint8Array.of(value ? 1 : 0) };
    case ValueType.int: {
      const bytes = Buffer.allocUnsafe(8);
      bytes.writeBigInt64BE(BigInt(value as number));
      return { type: particleType, bytes };
    }
    case ValueType.float: {
      const bytes = Buffer.allocUnsafe(8);
      bytes.writeDoubleBE(value as number);
      return { type: particleType, bytes };
    }
    case ValueType.geojson:
      return {
        type: particleType,
        bytes: Buffer.concat([new Uint8Array(GEOJSON_HEADER_BYTES), value as Uint8Array]),
      };
    default:
      return { type: particleType, bytes: value as Uint8Array };
  }
};

const head = new Head();

const tagged = (type: number, payload: Uint8Array): Uint8Array => {
  const length = payload.length + 1;
  const header =
    length < 0x20
      ? [0xa0 | length]
      : length <= 0xff
        ? [0xd9, length]
        : length <= 0xffff
          ? [0xda, length >> 8, length & 0xff]
          : [0xdb, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff];
  return Buffer.concat([Uint8Array.from([...header, type]), payload]);
};

/** The element that a value is in a list; `undefined` for unknown. */
export const elementOf = (type: ValueType, value: Value): Uint8Array | undefined => {
  if (value === undefined) return undefined;
  switch (type) {
    case ValueType.nil:
      return Uint8Array.of(0xc0);
    case ValueType.bool:
      return Uint8Array.of(value ? 0xc3 : 0xc2);
    case ValueType.int: {
      const n = BigInt(value as number);
      head.high = Number(BigInt.asUintN(32, n >> 32n));
      head.low = Number(BigInt.asUintN(32, n));
      head.kind = n < 0n ? Kind.negative : Kind.integer;
      const out = Buffer.alloc(9);
      return out.subarray(0, writeInteger(out, 0, head));
    }
    case ValueType.float: {
      const out = Buffer.alloc(9);
      out[0] = 0xcb;
      out.writeDoubleBE(value as number, 1);
      return out;
    }
    case ValueType.list:
    case ValueType.map:
      return value as Uint8Array;
    default: {
      const particleType = PARTICLE_TYPES.get(type);
      return particleType === undefined ? undefined : tagged(particleType, value as Uint8Array);
    }
  }
};

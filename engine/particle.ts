/**
 * A bin's value as Aerospike carries it: one type byte and the wire bytes, kept bit for bit.
 *
 * The data path stores, ships and compares particles without reading them (S9): lists and maps in particular are
 * never decoded here, so a value that this release does not understand still survives backup and restore.
 * Limits are those of the server, so that what the engine accepts can also be restored into a cluster.
 */
import { PitrError } from './errors.ts';

/** Particle type bytes. 5, 15, 21 and 22 were once in use and are refused by current servers. */
export const ParticleType = {
  null: 0,
  integer: 1,
  float: 2,
  string: 3,
  blob: 4,
  java: 7,
  csharp: 8,
  python: 9,
  ruby: 10,
  php: 11,
  erlang: 12,
  vector: 16,
  bool: 17,
  hll: 18,
  map: 19,
  list: 20,
  geojson: 23,
} as const;
export type ParticleType = (typeof ParticleType)[keyof typeof ParticleType];

export interface Particle {
  /** One of {@link ParticleType}; a plain number because it comes from disk and wire. {@link assertParticle} narrows it. */
  readonly type: number;
  /** The wire value: integers and floats are 8 bytes big-endian, lists and maps msgpack, the rest as is. */
  readonly bytes: Uint8Array;
}

/** Bins that one record may hold. */
export const MAX_BINS = 32_767;

/** Bytes of UTF-8 that a bin name may have. */
export const MAX_BIN_NAME_BYTES = 15;

/** Bytes before the cells of a GeoJSON particle: u8 flags, u16 number of cells. */
export const GEOJSON_HEADER_BYTES = 3;

const refuse = (binName: string, what: string, hint?: string): never => {
  throw new PitrError('bad-record', { what: `bin "${binName}": ${what}`, hint });
};

/** Where the JSON text of a GeoJSON particle starts, or -1 when the bytes are too short for the cells they announce. */
export const geoJsonTextOffset = (bytes: Uint8Array): number => {
  if (bytes.length < GEOJSON_HEADER_BYTES) return -1;
  const cells = (bytes[1]! << 8) | bytes[2]!;
  const offset = GEOJSON_HEADER_BYTES + 8 * cells;
  return offset <= bytes.length ? offset : -1;
};

/**
 * Refuses what a server would refuse to store, before it is acknowledged and becomes a record that cannot be restored.
 * Looks at the type and the frame of the value, never inside a list or map.
 * @throws `bad-record`
 */
export const assertParticle = (p: Particle, binName: string): void => {
  const { type, bytes } = p;
  switch (type) {
    case ParticleType.integer:
    case ParticleType.float:
      if (bytes.length !== 8) {
        const noun = type === ParticleType.integer ? 'an integer' : 'a float';
        refuse(binName, `${noun} has 8 bytes, not ${bytes.length}`);
      }
      return;
    case ParticleType.bool:
      if (bytes.length !== 1 || bytes[0]! > 1) refuse(binName, 'a bool is one byte, 0 or 1');
      return;
    case ParticleType.geojson:
      if (geoJsonTextOffset(bytes) < 0)
        refuse(binName, 'a GeoJSON value is shorter than its header and cells');
      return;
    case ParticleType.map:
    case ParticleType.list:
      if (bytes.length === 0) {
        refuse(binName, `a ${type === ParticleType.map ? 'map' : 'list'} has at least one byte`);
      }
      return;
    case ParticleType.string:
    case ParticleType.blob:
    case ParticleType.java:
    case ParticleType.csharp:
    case ParticleType.python:
    case ParticleType.ruby:
    case ParticleType.php:
    case ParticleType.erlang:
    case ParticleType.vector:
    case ParticleType.hll:
      return;
    case ParticleType.null:
      refuse(binName, 'null is not a value', 'leave the bin out, or delete it');
      return;
    default:
      refuse(binName, `particle type ${type} cannot be stored`);
  }
};

/**
 * Refuses names that a server would refuse (result code 21).
 * @throws `bad-record`
 */
export const assertBinName = (name: string): void => {
  if (goodBinNames.has(name)) return;
  // An unpaired surrogate would be stored as U+FFFD: two different names could then become the same bin.
  if (!name.isWellFormed()) throw new PitrError('bad-record', { what: 'a bin name is not valid Unicode' });
  if (name.includes('\0')) throw new PitrError('bad-record', { what: 'a bin name contains a NUL character' });
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes < 1 || bytes > MAX_BIN_NAME_BYTES) {
    throw new PitrError('bad-record', {
      what: `bin name "${name}" has ${bytes} bytes`,
      hint: `bin names have 1 to ${MAX_BIN_NAME_BYTES} bytes of UTF-8`,
    });
  }
  if (goodBinNames.size < GOOD_BIN_NAMES_MAX) goodBinNames.add(name);
};

/** Names that have passed: a program uses few, again and again. */
const goodBinNames = new Set<string>();
const GOOD_BIN_NAMES_MAX = 4096;

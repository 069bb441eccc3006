import { PitrError } from './errors.ts';
import { DIGEST_BYTES, sortKeyOf } from './partition.ts';

/**
 * A record as the store holds it. Key: namespace bytes, 0, 20-byte sort key, so that a scan is in (namespace, partition,
 * digest) order. Value, little endian:
 *
 *     u16 generation · u32 void time · u48 ts · u48 LSN · u48 LUT · u8 set length, set · image
 */
export interface StateHeader {
  readonly generation: number;
  /** Seconds since 1970, 0 = never expires. */
  readonly voidTime: number;
  readonly ts: number;
  readonly lsn: number;
  /** Last-update time, ms since 1970. */
  readonly lut: number;
}

export const HEADER_BYTES = 25;

export const stateKey = (namespace: string, sortKey: Uint8Array): Buffer => {
  const bytes = Buffer.byteLength(namespace, 'utf8');
  const key = Buffer.allocUnsafe(bytes + 1 + sortKey.length);
  key.write(namespace, 0, 'utf8');
  key[bytes] = 0;
  key.set(sortKey, bytes + 1);
  return key;
};

/** The same from a digest. */
export const stateKeyOf = (namespace: string, digest: Uint8Array): Buffer => {
  const bytes = Buffer.byteLength(namespace, 'utf8');
  const key = Buffer.allocUnsafe(bytes + 1 + DIGEST_BYTES);
  key.write(namespace, 0, 'utf8');
  key[bytes] = 0;
  return sortKeyOf(digest, key, bytes + 1);
};

/** Where the sort key begins in a store key. */
export const sortKeyStart = (key: Buffer): number => key.length - DIGEST_BYTES;

/** Splits a store key; the sort key is a view. */
export const splitStateKey = (key: Buffer): { namespace: string; sortKey: Buffer } => ({
  namespace: key.toString('utf8', 0, key.length - 21),
  sortKey: key.subarray(key.length - 20),
});

export const encodeState = (header: StateHeader, set: string, image: Uint8Array): Buffer => {
  const start = stateHeaderBytes(set);
  const value = Buffer.allocUnsafe(start + image.length);
  value.set(image, start);
  return writeStateHeader(value, header, set);
};

/** Bytes before the image in the value of a record of `set`. */
export const stateHeaderBytes = (set: string): number => HEADER_BYTES + Buffer.byteLength(set, 'utf8');

/** Writes what is before the image into `value`, and returns it. */
export const writeStateHeader = (value: Buffer, header: StateHeader, set: string): Buffer => {
  value.writeUInt16LE(header.generation, 0);
  value.writeUInt32LE(header.voidTime, 2);
  writeU48(value, header.ts, 6);
  writeU48(value, header.lsn, 12);
  writeU48(value, header.lut, 18);
  value[24] = value.write(set, HEADER_BYTES, 'utf8');
  return value;
};

/** As writeUIntLE(n, at, 6) in a third of its time. */
export const writeU48 = (bytes: Buffer, n: number, at: number): number => {
  bytes.writeUInt32LE(n >>> 0, at);
  return bytes.writeUInt16LE(Math.floor(n / 2 ** 32), at + 4);
};

/** Reads a store value field by field, without making an object of it. */
export const state = {
  generation: (v: Buffer): number => v.readUInt16LE(0),
  voidTime: (v: Buffer): number => v.readUInt32LE(2),
  ts: (v: Buffer): number => v.readUIntLE(6, 6),
  lsn: (v: Buffer): number => v.readUIntLE(12, 6),
  lut: (v: Buffer): number => v.readUIntLE(18, 6),
  set: (v: Buffer): string => v.toString('utf8', HEADER_BYTES, HEADER_BYTES + v[24]),
  imageStart: (v: Buffer): number => HEADER_BYTES + v[24],
  image: (v: Buffer): Buffer => v.subarray(HEADER_BYTES + v[24]),
  setLsn: (v: Buffer, lsn: number): void => {
    writeU48(v, lsn, 12);
  },
  header: (v: Buffer): StateHeader => ({
    generation: v.readUInt16LE(0),
    voidTime: v.readUInt32LE(2),
    ts: v.readUIntLE(6, 6),
    lsn: v.readUIntLE(12, 6),
    lut: v.readUIntLE(18, 6),
  }),
  /** @throws store-corrupt */
  check: (v: Buffer, dir: string): void => {
    if (v.length < HEADER_BYTES || v.length < HEADER_BYTES + v[24])
      throw new PitrError('store-corrupt', { dir, why: 'a record is shorter than its header' });
  },
};

/** As the server has it: a record is gone from the second after its void time (aerospike-wire.md 7.4). `atMs` is an instant. */
export const isExpired = (voidTime: number, atMs: number): boolean =>
  voidTime !== 0 && voidTime < Math.floor(atMs / 1000);

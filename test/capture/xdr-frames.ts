import { deflateSync } from 'node:zlib';
import { u64 } from '../aerospike/wire-bytes.ts';

/** Version 2, type, 48 bits of length. */
export const header = (type: number, length: number): Buffer => {
  const bytes = u64(length);
  bytes[0] = 2;
  bytes[1] = type;
  return bytes;
};

/** A frame of type 4: the size of the whole frame within, then a zlib stream of it. */
export const compressedFrame = (frame: Buffer): Buffer => {
  const body = Buffer.concat([u64(frame.length), deflateSync(frame)]);
  return Buffer.concat([header(4, body.length), body]);
};

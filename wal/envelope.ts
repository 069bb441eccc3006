import { crc32 } from 'node:zlib';
import { Packr } from 'msgpackr';
import { PitrError } from '../engine/errors.ts';

/** msgpack without extensions: plain maps, arrays, strings, numbers and bytes. */
const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  int64AsType: 'number',
  encodeUndefinedAsNil: true,
});

export const packBytes = (value: unknown): Buffer => packr.pack(value);

/** @throws object-corrupt when the bytes are not one msgpack value */
export const unpackBytes = <T>(bytes: Uint8Array, name: string): T => {
  try {
    return packr.unpack(bytes) as T;
  } catch (cause) {
    throw new PitrError('object-corrupt', { name, why: 'not readable as msgpack' }, { cause });
  }
};

const PROLOGUE_BYTES = 20;

/**
 * The binary **envelope** with which log files and segments begin: 8 bytes magic, u16 format version, u16 zero, u32 body length,
 * u32 crc32 of body and of the 16 bytes before, then the body (msgpack). A reader refuses a version that it does not know
 * before it looks at anything else.
 */
export const encodeEnvelope = (magic: string, version: number, body: unknown): Buffer => {
  const packed = packBytes(body);
  const out = Buffer.alloc(PROLOGUE_BYTES + packed.length);
  out.write(magic, 0, 8, 'latin1');
  out.writeUInt16LE(version, 8);
  out.writeUInt32LE(packed.length, 12);
  packed.copy(out, PROLOGUE_BYTES);
  out.writeUInt32LE(crc32(packed, crc32(out.subarray(0, 16))), 16);
  return out;
};

export interface Envelope<T> {
  readonly body: T;
  /** Bytes of prologue and body. */
  readonly bytes: number;
}

/**
 * Reads an envelope from the start of `bytes`.
 * @throws format-version, object-corrupt
 */
export const decodeEnvelope = <T>(
  bytes: Uint8Array,
  magic: string,
  version: number,
  name: string,
): Envelope<T> => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (buffer.length < PROLOGUE_BYTES)
    throw new PitrError('object-corrupt', { name, why: 'header is truncated' });
  if (buffer.toString('latin1', 0, 8) !== magic)
    throw new PitrError('object-corrupt', { name, why: 'not a file of this kind' });
  const found = buffer.readUInt16LE(8);
  // no version was ever 0: zeros where a power cut kept the rest of the header from arriving
  if (found === 0) throw new PitrError('object-corrupt', { name, why: 'header is torn' });
  if (found !== version)
    throw new PitrError('format-version', { what: name, version: found, supported: version });
  const length = buffer.readUInt32LE(12);
  if (PROLOGUE_BYTES + length > buffer.length)
    throw new PitrError('object-corrupt', { name, why: 'header is truncated' });
  const packed = buffer.subarray(PROLOGUE_BYTES, PROLOGUE_BYTES + length);
  if (crc32(packed, crc32(buffer.subarray(0, 16))) !== buffer.readUInt32LE(16))
    throw new PitrError('object-corrupt', { name, why: 'header checksum' });
  return { body: unpackBytes<T>(packed, name), bytes: PROLOGUE_BYTES + length };
};

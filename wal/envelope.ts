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

/** Levels of maps and arrays in what pitr writes are at most 5. */
const DEPTH_MAX = 16;

/**
 * Walks over msgpack without making anything of it, so that no count is believed before the bytes for it are there: an array of
 * 2^25 elements in five bytes would be allocated first and missed later. Extensions are not ours. Returns why not, or undefined.
 */
const unreadable = (b: Uint8Array): string | undefined => {
  let at = 0;
  /** Values still to come at each open level. */
  const open = [1];
  const uint = (bytes: number): number => {
    let n = 0;
    for (let i = 0; i < bytes; i++) n = n * 256 + (b[at++] ?? 0);
    return n;
  };
  while (open.length > 0) {
    if (open[open.length - 1]-- === 0) {
      open.pop();
      continue;
    }
    if (at >= b.length) return 'truncated';
    const tag = b[at++];
    let skip = 0;
    let values = 0;
    if (tag < 0x80 || tag >= 0xe0) continue;
    if (tag < 0x90) values = (tag & 15) * 2;
    else if (tag < 0xa0) values = tag & 15;
    else if (tag < 0xc0) skip = tag & 31;
    else if (tag === 0xc0 || tag === 0xc2 || tag === 0xc3) continue;
    else if (tag >= 0xc4 && tag <= 0xc6) skip = uint(1 << (tag - 0xc4));
    else if (tag === 0xca || tag === 0xcb) skip = tag === 0xca ? 4 : 8;
    else if (tag >= 0xcc && tag <= 0xcf) skip = 1 << (tag - 0xcc);
    else if (tag >= 0xd0 && tag <= 0xd3) skip = 1 << (tag - 0xd0);
    else if (tag >= 0xd9 && tag <= 0xdb) skip = uint(1 << (tag - 0xd9));
    else if (tag === 0xdc || tag === 0xdd) values = uint(tag === 0xdc ? 2 : 4);
    else if (tag === 0xde || tag === 0xdf) values = uint(tag === 0xde ? 2 : 4) * 2;
    else return `tag ${tag.toString(16)}`;
    at += skip;
    if (at > b.length || values > b.length - at) return 'truncated';
    if (values > 0 && open.push(values) > DEPTH_MAX) return 'nested too deep';
  }
  return at === b.length ? undefined : 'bytes left over';
};

/** @throws object-corrupt when the bytes are not one msgpack value */
export const unpackBytes = <T>(bytes: Uint8Array, name: string): T => {
  const why = unreadable(bytes);
  if (why !== undefined)
    throw new PitrError('object-corrupt', { name, why: `not readable as msgpack: ${why}` });
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

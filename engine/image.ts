import { PitrError } from './errors.ts';
import type { Particle } from './particle.ts';

/**
 * The **image** of a record: its stored key and bins as one run of bytes. It is made once, when a record is written, and
 * travels unchanged through local log, segment, merge and restore; nothing on that path looks inside (S9).
 *
 *     varint  0 when no key is stored, else 1 + length of what follows
 *       u8    key particle type, then the key bytes
 *     varint  number of bins
 *     bins    u8 name length, name, u8 particle type, varint value length, value
 */
export interface Image {
  readonly key: Particle | undefined;
  readonly bins: ReadonlyMap<string, Particle>;
}

/** Largest image, bytes: the bound of Aerospike's protocol on one message (aerospike-wire.md 1.1). */
export const IMAGE_BYTES_MAX = 128 * 1024 * 1024;

export const varintBytes = (n: number): number =>
  n < 0x80 ? 1 : n < 0x4000 ? 2 : n < 0x200000 ? 3 : n < 0x10000000 ? 4 : 5;

export const writeVarint = (out: Uint8Array, at: number, value: number): number => {
  let n = value;
  let i = at;
  while (n >= 0x80) {
    out[i++] = (n & 0x7f) | 0x80;
    n >>>= 7;
  }
  out[i++] = n;
  return i;
};

/** Bin names as bytes: a program uses few, again and again. Bounded. */
const nameBytes = new Map<string, Buffer>();
const NAMES_MAX = 4096;

const bytesOfName = (name: string): Buffer => {
  let bytes = nameBytes.get(name);
  if (!bytes) {
    bytes = Buffer.from(name, 'utf8');
    if (nameBytes.size < NAMES_MAX) nameBytes.set(name, bytes);
  }
  return bytes;
};

/** The image; `before` bytes in front of it are left to the caller. @throws bad-record when it is too large */
export const encodeImage = (image: Image, before = 0): Buffer => {
  let bytes = varintBytes(image.key ? image.key.bytes.length + 2 : 0) + varintBytes(image.bins.size);
  if (image.key) bytes += 1 + image.key.bytes.length;
  for (const [name, value] of image.bins) {
    bytes += 2 + bytesOfName(name).length + varintBytes(value.bytes.length) + value.bytes.length;
  }
  if (bytes > IMAGE_BYTES_MAX)
    throw new PitrError('bad-record', { what: `${bytes} bytes are more than ${IMAGE_BYTES_MAX}` });
  const out = Buffer.allocUnsafe(before + bytes);
  let at = writeVarint(out, before, image.key ? image.key.bytes.length + 2 : 0);
  if (image.key) {
    out[at++] = image.key.type;
    out.set(image.key.bytes, at);
    at += image.key.bytes.length;
  }
  at = writeVarint(out, at, image.bins.size);
  for (const [text, value] of image.bins) {
    const name = bytesOfName(text);
    out[at++] = name.length;
    out.set(name, at);
    at += name.length;
    out[at++] = value.type;
    at = writeVarint(out, at, value.bytes.length);
    out.set(value.bytes, at);
    at += value.bytes.length;
  }
  return out;
};

/** True when the bins of an image, by name and in order, are those of `names`: then nothing of it survives an update of them. */
export const hasSameBins = (
  bytes: Uint8Array,
  start: number,
  names: ReadonlyMap<string, unknown>,
): boolean => {
  let at = start;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const b = bytes[at++];
      value += (b & 0x7f) * scale;
      // undefined, past the end, ends it too: the caller then decodes, which says what is wrong
      if (!(b >= 0x80)) return value;
    }
  };
  const keyBytes = varint();
  at += keyBytes > 0 ? keyBytes - 1 : 0;
  if (varint() !== names.size) return false;
  for (const text of names.keys()) {
    const name = bytesOfName(text);
    if (bytes[at++] !== name.length) return false;
    for (let i = 0; i < name.length; i++) if (bytes[at++] !== name[i]) return false;
    at++;
    // not +=, which would take the old `at`
    const valueBytes = varint();
    at += valueBytes;
  }
  return at === bytes.length;
};

/** Reads an image; values are views of `bytes`, not copies. @throws bad-record when it is truncated or has bytes left over */
export const decodeImage = (bytes: Uint8Array): Image => {
  let at = 0;
  const need = (n: number): void => {
    if (at + n > bytes.length) throw new PitrError('bad-record', { what: 'its image is truncated' });
  };
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      need(1);
      const b = bytes[at++];
      value += (b & 0x7f) * 2 ** shift;
      if (b < 0x80) return value;
    }
    throw new PitrError('bad-record', { what: 'its image has a length that is too long' });
  };
  const take = (n: number): Uint8Array => {
    need(n);
    at += n;
    return bytes.subarray(at - n, at);
  };
  const keyBytes = varint();
  let key: Particle | undefined;
  if (keyBytes === 1) throw new PitrError('bad-record', { what: 'its image has a key without type' });
  if (keyBytes > 1) {
    const type = take(1)[0];
    key = { type, bytes: take(keyBytes - 2) };
  }
  const count = varint();
  const bins = new Map<string, Particle>();
  for (let i = 0; i < count; i++) {
    const name = Buffer.from(take(take(1)[0])).toString('utf8');
    const type = take(1)[0];
    bins.set(name, { type, bytes: take(varint()) });
  }
  if (at !== bytes.length) throw new PitrError('bad-record', { what: 'its image has bytes left over' });
  return { key, bins };
};

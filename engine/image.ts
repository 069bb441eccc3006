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

const varintBytes = (n: number): number =>
  n < 0x80 ? 1 : n < 0x4000 ? 2 : n < 0x200000 ? 3 : n < 0x10000000 ? 4 : 5;

const writeVarint = (out: Uint8Array, at: number, value: number): number => {
  let n = value;
  let i = at;
  while (n >= 0x80) {
    out[i++] = (n & 0x7f) | 0x80;
    n >>>= 7;
  }
  out[i++] = n;
  return i;
};

export const encodeImage = (image: Image): Buffer => {
  const names: Buffer[] = [];
  let bytes = varintBytes(image.key ? image.key.bytes.length + 2 : 0) + varintBytes(image.bins.size);
  if (image.key) bytes += 1 + image.key.bytes.length;
  for (const [name, value] of image.bins) {
    const encoded = Buffer.from(name, 'utf8');
    names.push(encoded);
    bytes += 1 + encoded.length + 1 + varintBytes(value.bytes.length) + value.bytes.length;
  }
  if (bytes > IMAGE_BYTES_MAX)
    throw new PitrError('bad-record', { what: `${bytes} bytes are more than ${IMAGE_BYTES_MAX}` });
  const out = Buffer.allocUnsafe(bytes);
  let at = writeVarint(out, 0, image.key ? image.key.bytes.length + 2 : 0);
  if (image.key) {
    out[at++] = image.key.type;
    out.set(image.key.bytes, at);
    at += image.key.bytes.length;
  }
  at = writeVarint(out, at, image.bins.size);
  let i = 0;
  for (const value of image.bins.values()) {
    const name = names[i++];
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

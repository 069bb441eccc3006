/**
 * What a swappable object holds where the provider compares ETags:
 *
 *     magic "pitrswp1" (8) · n u8 (1..32) · n nonces of 8 bytes, the newest first · the value
 *
 * SW1: every value has a nonce of its own, so that no two writes of equal bytes share an ETag and a writer that slept finds its
 *      tag gone even if the old value came back.
 * SW2: the nonces of the values before it tell a writer whose answer got lost whether its value was ever there, also when
 *      somebody has built on it since.
 */
import { PitrError } from './errors.ts';

const MAGIC = Buffer.from('pitrswp1');
const NONCE_BYTES = 8;
/** Values before this one that are remembered, itself included. */
const NONCES_MAX = 32;

export interface Envelope {
  /** In hex, the newest first; never empty. */
  readonly nonces: readonly string[];
  readonly value: Buffer;
}

/** @param before nonces of the value that this one replaces */
export function sealEnvelope(nonce: string, before: readonly string[], value: Uint8Array): Buffer {
  const nonces = [nonce, ...before].slice(0, NONCES_MAX);
  return Buffer.concat([MAGIC, Buffer.from([nonces.length]), Buffer.from(nonces.join(''), 'hex'), value]);
}

/** @throws object-corrupt */
export function openEnvelope(name: string, bytes: Buffer): Envelope {
  const n = bytes[MAGIC.length] ?? 0;
  const from = MAGIC.length + 1;
  const valueAt = from + n * NONCE_BYTES;
  const isOurs = bytes.subarray(0, MAGIC.length).equals(MAGIC);
  if (!isOurs || n < 1 || n > NONCES_MAX || bytes.length < valueAt)
    throw new PitrError('object-corrupt', { name, why: 'is not a value that pitr swapped in' });
  const nonces = Array.from({ length: n }, (_, i) =>
    bytes.toString('hex', from + i * NONCE_BYTES, from + (i + 1) * NONCE_BYTES),
  );
  return { nonces, value: bytes.subarray(valueAt) };
}

/** True when the list may have lost nonces at its end. */
export const isFull = (nonces: readonly string[]): boolean => nonces.length === NONCES_MAX;

/** The tag that callers carry: the provider's, and the nonces of the value that it belongs to. */
export const tagOf = (etag: string, nonces: readonly string[]): string => `${etag} ${nonces.join('.')}`;

/** @throws usage when it is no tag of ours */
export function parseTag(name: string, tag: string): { etag: string; nonces: string[] } {
  const [, etag, nonces] = /^(\S+) ((?:[0-9a-f]{16}\.){0,31}[0-9a-f]{16})$/.exec(tag) ?? [];
  if (etag === undefined || nonces === undefined)
    throw new PitrError('usage', { what: `${JSON.stringify(tag.slice(0, 100))} is not a tag of ${name}` });
  return { etag, nonces: nonces.split('.') };
}

import { isUtf8 } from 'node:buffer';

/** Name of a set or bin: text, or its bytes where they are not UTF-8 (N8). */
export type Name = string | Uint8Array;

/** Bytes of names in use; programs have few. Bounded. */
const known = new Map<string, Buffer>();
const KNOWN_MAX = 4096;

export const bytesOfName = (name: Name): Uint8Array => {
  if (typeof name !== 'string') return name;
  const found = known.get(name);
  if (found) return found;
  const bytes = Buffer.from(name, 'utf8');
  if (known.size < KNOWN_MAX) known.set(name, bytes);
  return bytes;
};

/** The name in `[start, end)`; bytes are copied. */
export const nameAt = (bytes: Buffer, start: number, end: number): Name => {
  let isAscii = true;
  for (let i = start; i < end && isAscii; i++) isAscii = bytes[i] < 0x80;
  if (isAscii) return bytes.toString('latin1', start, end);
  const part = bytes.subarray(start, end);
  return isUtf8(part) ? part.toString('utf8') : Buffer.from(part);
};

import type { Rng } from '../model/rng.ts';

/** A copy in which a bit is flipped, or which ends too early. */
export const damaged = (bytes: Buffer, rng: Rng): Buffer<ArrayBuffer> => {
  const copy = Buffer.from(bytes);
  if (bytes.length === 0) return copy;
  const at = rng.int(0, bytes.length - 1);
  if (rng.chance(0.3)) return copy.subarray(0, at);
  copy[at] ^= 1 << rng.int(0, 7);
  return copy;
};

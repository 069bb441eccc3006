import type { Sighting } from '../engine/commit-log.ts';
import { EXTENSION_BYTES, FLAG } from './block.ts';

/**
 * The **extension** with which the bytes of a version that was found begin, in the log as in a block: u64 LUT, u64 window start,
 * u64 window end, all ms, u32 versions missed before it, u64 the instant after which those came, ms.
 */
const TWO32 = 4294967296;
const ALL_FLAGS = FLAG.delete | FLAG.batchMore | FLAG.late | FLAG.extension;
/** The log's instants are below 2^48. */
const HI_MAX = 0xffff;

/** Returns where it ends. */
export const writeExtension = (b: Buffer, seen: Sighting, at: number): number => {
  const { lutMs, windowStartMs, windowEndMs, missed, missedAfterMs } = seen;
  let to = at;
  for (const ms of [lutMs, windowStartMs, windowEndMs]) to = writeU64(b, ms, to);
  return writeU64(b, missedAfterMs, b.writeUInt32LE(missed, to));
};

export const readExtension = (b: Uint8Array, at: number, late: boolean): Sighting => {
  const view = new DataView(b.buffer, b.byteOffset + at, EXTENSION_BYTES);
  return {
    lutMs: u64(view, 0),
    windowStartMs: u64(view, 8),
    windowEndMs: u64(view, 16),
    missed: view.getUint32(24, true),
    missedAfterMs: u64(view, 28),
    late,
  };
};

/** Why a version of the log with these flags cannot have the `bytes` bytes from `at`, or undefined. */
export const versionMisfit = (
  flags: number,
  b: Uint8Array,
  at: number,
  bytes: number,
  ts: number,
): string | undefined => {
  if (flags < FLAG.late)
    return flags & FLAG.delete && bytes > 0 ? `a version with flags ${flags}` : undefined;
  if (flags > ALL_FLAGS || !(flags & FLAG.extension)) return `a version with flags ${flags}`;
  if (bytes < EXTENSION_BYTES || (flags & FLAG.delete && bytes > EXTENSION_BYTES))
    return `a version with flags ${flags} and ${bytes} bytes`;
  const view = new DataView(b.buffer, b.byteOffset + at, EXTENSION_BYTES);
  for (const hi of [4, 12, 20, 32])
    if (view.getUint32(hi, true) > HI_MAX) return 'a version with an instant over 2^48';
  if (u64(view, 0) > ts) return 'a version that counts before its LUT';
  if (u64(view, 8) > u64(view, 16)) return 'a version with a window that ends before it starts';
  const missedAfterMs = u64(view, 28);
  if (missedAfterMs > 0 && (view.getUint32(24, true) === 0 || missedAfterMs >= u64(view, 0)))
    return 'a version with an instant after which nothing can have been missed';
  return undefined;
};

const writeU64 = (b: Buffer, value: number, at: number): number =>
  b.writeUInt32LE(Math.floor(value / TWO32), b.writeUInt32LE(value % TWO32, at));

const u64 = (view: DataView, at: number): number =>
  view.getUint32(at + 4, true) * TWO32 + view.getUint32(at, true);

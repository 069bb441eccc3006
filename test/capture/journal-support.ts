import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogClock, LogEntry, LogTruncate, LogVersion } from '../../engine/commit-log.ts';
import { ContentDigest, contentHash, seedOf } from '../../engine/content-digest.ts';
import { PartitionSet, partitionOf, sortKeyOf } from '../../engine/partition.ts';
import { scanLogFile } from '../../wal/log-file.ts';

export const SHARDS = 4;

/** Everything that the log of a directory holds, in log order. */
export const readLog = async (dir: string): Promise<LogEntry[]> => {
  const entries: LogEntry[] = [];
  const names = (await readdir(join(dir, 'log'))).filter((n) => /\.(wal|open)$/.test(n)).sort();
  for (const name of names)
    scanLogFile(await readFile(join(dir, 'log', name)), name, name.endsWith('.open'), (e) => entries.push(e));
  return entries;
};

export const idOf = (v: LogVersion): string => Buffer.from(v.digest).toString('hex');

/** State at `ts` by the promise itself (S1), from a list of what was logged. */
export const stateAt = (entries: readonly LogEntry[], ts: number): Map<string, LogVersion> => {
  const newest = new Map<string, LogVersion>();
  const cuts: LogTruncate[] = [];
  for (const e of entries) {
    if (e.kind === 'event' && e.event.kind === 'truncate' && e.event.ts <= ts) cuts.push(e.event);
    // what was given up is somebody else's from then on
    if (
      e.kind === 'event' &&
      e.event.kind === 'ownership' &&
      e.event.change === 'release' &&
      e.event.ts <= ts
    ) {
      const mask = PartitionSet.parse(e.event.partitions).toMask();
      for (const [id, v] of newest) if (mask[partitionOf(v.digest)] === 1) newest.delete(id);
    }
    if (e.kind !== 'version' || e.version.ts > ts) continue;
    const before = newest.get(idOf(e.version));
    if (!before || before.ts <= e.version.ts) newest.set(idOf(e.version), e.version);
  }
  for (const [id, v] of newest) {
    const lut = v.seen?.lutMs ?? v.ts;
    const hidden = cuts.some((c) => v.ts < c.ts && lut < c.cutoffLut && (c.set === null || c.set === v.set));
    if (!v.image || hidden) newest.delete(id);
  }
  return newest;
};

export const digestsOf = (state: Map<string, LogVersion>): ContentDigest => {
  const digest = new ContentDigest(SHARDS);
  for (const v of state.values()) {
    const key = sortKeyOf(v.digest);
    const words = [0, 4, 8, 12, 16].map((at) => key.readUInt32BE(at));
    const image = v.image as Uint8Array;
    const [w0, w1, w2, w3, w4] = words;
    const hash = contentHash(seedOf(v.namespace, v.set), w0, w1, w2, w3, w4, image, 0, image.length);
    digest.apply(partitionOf(v.digest), hash, 1);
  }
  return digest;
};

/** C1, C4, and that the state at every frontier is the source's. */
export const check = async (dir: string): Promise<void> => {
  const entries = await readLog(dir);
  let frontier = 0;
  const lastTs = new Map<string, number>();
  for (const [i, e] of entries.entries()) {
    if (e.kind === 'clock') {
      checkClock(entries.slice(0, i), entries, e.clock);
      frontier = e.clock.ts;
    } else {
      const { ts } = e.kind === 'version' ? e.version : e.event;
      assert.ok(ts > frontier, 'C1: nothing at or before a stated frontier');
      if (e.kind !== 'version') continue;
      assert.ok(ts >= (lastTs.get(idOf(e.version)) ?? 0), 'C1: ts never falls for a record');
      lastTs.set(idOf(e.version), ts);
      if (!e.version.seen) continue;
      const { windowStartMs, windowEndMs, lutMs } = e.version.seen;
      assert.ok(
        windowStartMs <= windowEndMs && lutMs <= Math.max(windowEndMs, e.version.ts),
        'a window that is one',
      );
    }
  }
};

const checkClock = (before: readonly LogEntry[], all: readonly LogEntry[], clock: LogClock): void => {
  const state = stateAt(before, clock.ts);
  assert.deepEqual(stateAt(all, clock.ts), state, 'the published past does not change');
  assert.deepEqual(clock.digests, digestsOf(state).toShards(), 'C4: the digests are those of the state');
};

/** S7 by the promise itself, of the versions of one record, and without truncations. */
export const isInexactAt = (versions: readonly LogVersion[], ts: number): boolean => {
  const sorted = [...versions].sort((a, b) => a.ts - b.ts || a.lsn - b.lsn);
  const isOpen = (v: LogVersion | undefined): boolean =>
    v?.seen !== undefined && v.seen.windowStartMs < ts && ts <= v.seen.windowEndMs;
  const next = sorted.find((v) => v.ts > ts);
  if (isOpen(sorted.findLast((v) => v.ts <= ts)) || isOpen(next)) return true;
  const seen = next?.seen;
  return seen !== undefined && (seen.lutMs <= ts || (seen.missed > 0 && seen.missedAfterMs < ts));
};

import { ContentDigest, type ShardDigest } from '../engine/content-digest.ts';
import { addTallies, NO_TALLY } from './aerospike/cluster-job.ts';
import type { RangeResult } from './range-job.ts';

/** Nothing: what sums start from. */
export const noRange = (shards: number): RangeResult => {
  const digest = new ContentDigest(shards).toShards();
  return {
    digest,
    stateDigest: digest,
    clockDigest: digest,
    versions: 0,
    records: 0,
    written: 0,
    expired: 0,
    deleted: 0,
    truncated: 0,
    withoutKey: 0,
    inexact: { records: 0, missed: 0, windows: 0 },
  };
};

/** What two disjoint sets of ranges come to together. */
export const addRanges = (a: RangeResult, b: RangeResult): RangeResult => ({
  digest: sum(a.digest, b.digest),
  stateDigest: sum(a.stateDigest, b.stateDigest),
  clockDigest: sum(a.clockDigest, b.clockDigest),
  versions: a.versions + b.versions,
  records: a.records + b.records,
  written: a.written + b.written,
  expired: a.expired + b.expired,
  deleted: a.deleted + b.deleted,
  truncated: a.truncated + b.truncated,
  withoutKey: a.withoutKey + b.withoutKey,
  inexact: {
    records: a.inexact.records + b.inexact.records,
    missed: a.inexact.missed + b.inexact.missed,
    windows: a.inexact.windows + b.inexact.windows,
  },
  ...(a.cluster || b.cluster ? { cluster: addTallies(a.cluster ?? NO_TALLY, b.cluster ?? NO_TALLY) } : {}),
});

const sum = (a: readonly ShardDigest[], b: readonly ShardDigest[]): ShardDigest[] => {
  const total = ContentDigest.from(a);
  total.add(ContentDigest.from(b));
  return total.toShards();
};

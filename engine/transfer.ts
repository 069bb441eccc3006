import type { LogOwnership } from './commit-log.ts';
import { ContentDigest, type ShardDigest } from './content-digest.ts';
import { PartitionSet } from './partition.ts';

/** A release or an acquisition that is still the last word about its partitions. Kept in the store, so that asking again is safe. */
export interface Transfer {
  readonly change: 'acquire' | 'release';
  readonly partitions: string;
  readonly peer: string;
  readonly lsn: number;
  readonly ts: number;
  /** Of all records that were given up, as one shard; absent for an acquisition and in logs of older releases. */
  readonly digests?: readonly ShardDigest[];
}

/** One shard with the sum of all: engines with different numbers of shards can compare it. */
export const inOneShard = (digests: readonly ShardDigest[]): ShardDigest => {
  const digest = ContentDigest.from(digests);
  return { sum: digest.total(), records: digest.records };
};

/** The transfers after one more: earlier ones of any of its partitions are history. */
export const withTransfer = (transfers: readonly Transfer[], event: LogOwnership): Transfer[] => {
  const { change, partitions, peer, lsn, ts, digests } = event;
  const moved = PartitionSet.parse(partitions);
  return [
    ...transfers.filter((t) => PartitionSet.parse(t.partitions).intersect(moved).size === 0),
    { change, partitions, peer, lsn, ts, ...(digests ? { digests: [inOneShard(digests)] } : {}) },
  ];
};

import type { ClientOptions } from '../engine/aerospike/client/client-options.ts';
import type { ShardDigest } from '../engine/content-digest.ts';
import type { SegmentRef } from '../wal/segment.ts';
import type { LeftOut } from './copy-rows.ts';

/** How a thread reaches the cluster: what can be sent to it. */
export type CopyClientOptions = Omit<ClientOptions, 'timing' | 'random'>;

/** What all parts of a copy have in common. Plain data: it goes to threads. */
export interface CopyJob {
  /** Archive id. */
  readonly archive: string;
  readonly timeline: string;
  /** Of the snapshot's segments. */
  readonly folder: string;
  readonly stream: string;
  /** Sets that are logged; null: all. */
  readonly sets: readonly string[] | null;
  /** C0, ms. */
  readonly ts: number;
  readonly shards: number;
  /** Of a range, as the wire has it: what is held until all of it is there. Pages and segments are some times as large. */
  readonly rangeBytes: number;
  readonly client: CopyClientOptions;
}

/** Partitions of a namespace that one thread copies: one or more segments. */
export interface Stretch {
  readonly namespace: string;
  readonly start: number;
  readonly end: number;
  /** As far as is known before; corrected by what comes. */
  readonly bytesPerPartition: number;
}

/** Rows of the index, of whole partitions, one after the other. */
export interface CopiedRows {
  readonly namespace: string;
  /** Names of the sets that the rows number. */
  readonly sets: readonly string[];
  readonly parts: readonly { readonly partition: number; readonly rows: number }[];
  readonly buffer: ArrayBuffer;
}

export interface CopiedSegment {
  readonly namespace: string;
  readonly ref: SegmentRef;
  /** Of the pieces of one large partition, which come from the last to the first: 0, -1, -2 … */
  readonly piece: number;
}

/** What a copy, or one thread of it, came to. */
export interface CopyTotals {
  /** Records as they came, bytes as they were on the wire. */
  readonly records: number;
  readonly bytes: number;
  /** Those that came again. */
  readonly repeated: number;
  readonly leftOut: LeftOut;
  readonly digest: readonly ShardDigest[];
}

/** Where a copy goes. What waits bounds the copy's memory. */
export interface CopySink {
  rows(rows: CopiedRows): Promise<void>;
  segment(segment: CopiedSegment): void;
}

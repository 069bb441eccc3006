import type { ShardDigest } from '../engine/content-digest.ts';

/** Where an event stands in its stream, and when. */
export interface EventPosition {
  readonly stream: string;
  readonly epoch: number;
  readonly lsn: number;
  /** Commit time, ms. */
  readonly ts: number;
}

/** Hides versions of `partitions` with (ts, position) before the event and LUT < `cutoffLut`, for every T >= its ts. `set` null: all sets. */
export interface TruncateEvent extends EventPosition {
  readonly kind: 'truncate';
  readonly namespace: string;
  readonly set: string | null;
  readonly cutoffLut: number;
  /** Inclusive ranges as text: what the stream owned at that position. */
  readonly partitions: string;
  /** It was found later than it took effect, which was in (start, end]. Absent: at `ts`. */
  readonly windowStartMs?: number;
  readonly windowEndMs?: number;
}

/** A named position. */
export interface MarkEvent extends EventPosition {
  readonly kind: 'mark';
  readonly name: string;
}

/** The stream took over or gave up partitions. `peer` is the other stream. */
export interface OwnershipEvent extends EventPosition {
  readonly kind: 'ownership';
  readonly change: 'acquire' | 'release';
  readonly partitions: string;
  readonly peer: string;
  /** Of a release: of the records that were given up, by shard. */
  readonly digests?: readonly ShardDigest[];
}

/**
 * A clock frame: every version with ts <= `ts` has LSN <= `lsn`, and none will ever get such a ts again (F3). Takes no LSN of
 * its own. `digests` are the running digests of the writer's shards at `lsn`.
 */
export interface ClockEvent extends EventPosition {
  readonly kind: 'clock';
  readonly digests: readonly ShardDigest[];
}

/** A definition of a secondary index or UDF module, kept as the source gave it; `body` null removes it. */
export interface DefinitionEvent extends EventPosition {
  readonly kind: 'definition';
  readonly what: 'sindex' | 'udf';
  readonly namespace: string | null;
  readonly name: string;
  readonly body: Uint8Array | null;
}

/** Positions `[lsnStart, lsnEnd)` of the stream are not in the archive. */
export interface GapEvent extends EventPosition {
  readonly kind: 'gap';
  readonly lsnStart: number;
  readonly lsnEnd: number;
  readonly cause: string;
}

/** What has no digest. Travels in a segment's events block, is loaded before any key, is never behind the filter. */
export type ArchiveEvent =
  | TruncateEvent
  | MarkEvent
  | OwnershipEvent
  | ClockEvent
  | DefinitionEvent
  | GapEvent;

/** Order of events and versions of one stream. */
export const compareEvents = (a: EventPosition, b: EventPosition): number =>
  a.ts - b.ts || a.epoch - b.epoch || (a.stream < b.stream ? -1 : a.stream > b.stream ? 1 : a.lsn - b.lsn);

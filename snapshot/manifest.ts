import type { ShardDigest } from '../engine/content-digest.ts';
import type { ArchiveEvent } from '../wal/event.ts';
import type { SegmentRef } from '../wal/segment.ts';

/**
 * Kinds of snapshot. By reference: `full` names the log from the start of its history or from the newest full copy,
 * `incremental` names its parent and the log since. With segments of its own: `synthetic` is merged from the archive, `base` is
 * read from an engine's store.
 */
export type SnapshotKind = 'full' | 'incremental' | 'synthetic' | 'base';

/** Positions `[lsnStart, lsnEnd)` of a stream that the catalog resolves to segments. */
export interface LogRange {
  readonly stream: string;
  readonly lsnStart: number;
  readonly lsnEnd: number;
}

/**
 * What a snapshot consists of. Write-once; it exists when the index names it.
 *
 * N1: `end` is a frontier of the whole timeline when the manifest is published, or is waited for: a snapshot is usable once the
 * contiguous frontier covers `end.ts`. N2: what it depends on (`parent`, base segments, log ranges) exists as long as it does.
 */
export interface Snapshot {
  readonly archive: string;
  readonly id: string;
  readonly label: string | null;
  readonly timeline: string;
  readonly kind: SnapshotKind;
  readonly createdMs: number;
  /** One position cut over all streams; false: each stream at its own. */
  readonly coordinated: boolean;
  /** Where the part that it adds starts: the parent's end, or the start of the history. */
  readonly startTs: number;
  readonly endTs: number;
  /** With own segments: the log counts from the first version after this instant. Equal to `endTs` but for a base copy. */
  readonly logAfterTs: number;
  /** With own segments: digests of the state at `endTs`, which were the source's when they were written; null: unknown. */
  readonly digests: readonly ShardDigest[] | null;
  /** Newest LSN of each stream that may be in it. */
  readonly positions: Readonly<Record<string, number>>;
  readonly parent: string | null;
  /**
   * Of a base copy of one of several engines: the partitions that it holds. It is no state of its own, but one in whose place
   * nothing older of these partitions is needed. Absent: the whole state.
   */
  readonly partitions?: string;
  /** Own segments: the latest version of each record at `endTs`. One sorted run. */
  readonly segments: readonly SegmentRef[];
  readonly log: readonly LogRange[];
  /** Definitions and truncations in force. */
  readonly events: readonly ArchiveEvent[];
  /** Records at `endTs`, as the streams' clock frames count them; expired ones that nobody has overwritten are included. */
  readonly records: number;
}

/** One line of the index, the swappable object that says which snapshots exist. */
export interface SnapshotEntry {
  readonly id: string;
  readonly label: string | null;
  readonly kind: SnapshotKind;
  readonly timeline: string;
  readonly parent: string | null;
  readonly startTs: number;
  readonly endTs: number;
  readonly createdMs: number;
  readonly records: number;
  /** See {@link Snapshot.partitions}. */
  readonly partitions?: string;
  /** Object name of the manifest. */
  readonly name: string;
}

export interface SnapshotIndex {
  readonly archive: string;
  readonly snapshots: readonly SnapshotEntry[];
}

/** Has rows of its own: the log before its end is not needed for the partitions that it holds. */
export const hasOwnRows = (s: { readonly kind: SnapshotKind }): boolean =>
  s.kind === 'synthetic' || s.kind === 'base';

/** Has the whole state in segments of its own: the log before its end is not needed to restore it. */
export const isSelfContained = (s: Pick<SnapshotEntry, 'kind' | 'partitions'>): boolean =>
  hasOwnRows(s) && s.partitions === undefined;

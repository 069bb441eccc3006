import { z } from 'zod';
import type { ShardDigest } from '../engine/content-digest.ts';
import type { PartitionRange } from '../engine/partition.ts';
import type { Retired } from '../wal/catalog.ts';
import type { ArchiveEvent, DefinitionEvent } from '../wal/event.ts';
import {
  archiveEventSchema,
  logRangesSchema,
  partitionRangeSchema,
  partitionsText,
  segmentRefsSchema,
  shardDigests,
  storedDefinitionSchema,
} from '../wal/schema.ts';
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

/**
 * A snapshot with segments of its own that somebody makes or made. Its id names the folder of the segments and of the notes, so
 * what a killed attempt left is recognised by it.
 */
export interface Begun {
  readonly id: string;
  readonly kind: 'synthetic' | 'base';
  readonly timeline: string;
  /** As it was asked for; the snapshot that comes of it may get another one. */
  readonly label: string | null;
  readonly endTs: number;
  readonly createdMs: number;
  /** What it is made from, as a hash; only an attempt at the very same goes on with it. */
  readonly plan: string;
  /** Ranges that are merged, and noted, one by one. None: it is not taken up again. */
  readonly ranges: readonly PartitionRange[];
  /** working: may be taken up. published, abandoned: only what it left behind is still to be deleted. */
  readonly state: 'working' | 'published' | 'abandoned';
  /** Rises each time it is taken up: who gives it up has seen the newest attempt. */
  readonly attempts?: number;
  /** Of a copy of a source: the stream for which it is made. Streams make theirs side by side. */
  readonly stream?: string;
}

/** A snapshot that was deleted: its objects go when nobody can read them any more. */
export interface RetiredSnapshot extends Retired {
  readonly id: string;
  readonly timeline: string;
}

export interface SnapshotIndex {
  readonly archive: string;
  readonly snapshots: readonly SnapshotEntry[];
  readonly begun: readonly Begun[];
  readonly retired?: readonly RetiredSnapshot[];
  /**
   * Rises before manifests that the index does not name are swept: who has written one before that must write another one, since
   * it may be gone.
   */
  readonly sweeps?: number;
}

/** Has rows of its own: the log before its end is not needed for the partitions that it holds. */
export const hasOwnRows = (s: { readonly kind: SnapshotKind }): boolean =>
  s.kind === 'synthetic' || s.kind === 'base';

/** Has the whole state in segments of its own: the log before its end is not needed to restore it. */
export const isSelfContained = (s: Pick<SnapshotEntry, 'kind' | 'partitions'>): boolean =>
  hasOwnRows(s) && s.partitions === undefined;

const line = {
  id: z.string().min(1),
  label: z.string().nullable(),
  timeline: z.string().min(1),
  kind: z.enum(['full', 'incremental', 'synthetic', 'base']),
  createdMs: z.int().min(0),
  startTs: z.int(),
  endTs: z.int(),
  parent: z.string().nullable(),
  records: z.int(),
  partitions: partitionsText.optional(),
};

export const snapshotSchema = z.object({
  ...line,
  archive: z.string().min(1),
  coordinated: z.boolean(),
  logAfterTs: z.int(),
  digests: shardDigests.nullable(),
  positions: z.record(z.string(), z.int().min(0)),
  segments: segmentRefsSchema,
  log: logRangesSchema,
  events: z.array(z.union([storedDefinitionSchema, archiveEventSchema])),
});

/** A definition as the manifest has it: its body is base64. */
type StoredDefinition = Omit<DefinitionEvent, 'body'> & { readonly body: string | null };

/** What is written of a snapshot: JSON has no bytes. */
export type StoredSnapshot = Omit<Snapshot, 'events'> & {
  readonly events: readonly (Exclude<ArchiveEvent, DefinitionEvent> | StoredDefinition)[];
};

export const storedSnapshot = (snapshot: Snapshot): StoredSnapshot => ({
  ...snapshot,
  events: snapshot.events.map((e) =>
    e.kind === 'definition' ? { ...e, body: e.body && Buffer.from(e.body).toString('base64') } : e,
  ),
});

export const snapshotOf = (stored: StoredSnapshot): Snapshot => ({
  ...stored,
  events: stored.events.map((e) =>
    e.kind === 'definition' ? { ...e, body: e.body === null ? null : Buffer.from(e.body, 'base64') } : e,
  ),
});

export const snapshotIndexSchema = z.object({
  archive: z.string().min(1),
  snapshots: z.array(z.object({ ...line, name: z.string().min(1) })),
  begun: z.array(
    z.object({
      id: z.string().min(1),
      kind: z.enum(['synthetic', 'base']),
      timeline: z.string().min(1),
      label: z.string().nullable(),
      endTs: z.int(),
      createdMs: z.int().min(0),
      plan: z.string(),
      ranges: z.array(partitionRangeSchema),
      state: z.enum(['working', 'published', 'abandoned']),
      attempts: z.int().min(1).optional(),
      stream: z.string().min(1).optional(),
    }),
  ),
  retired: z
    .array(
      z.object({
        id: z.string().min(1),
        timeline: z.string().min(1),
        names: z.array(z.string().min(1)),
        sinceMs: z.int().min(0),
        leases: z.array(z.string().min(1)).nullable(),
      }),
    )
    .optional(),
  sweeps: z.int().min(0).optional(),
});

import type { Archive } from '../wal/archive.ts';
import type { Asked } from '../wal/asked.ts';
import { type Gap, type Head, type Mark, writeAmplification } from '../wal/catalog.ts';
import type { Run } from '../wal/segment.ts';
import { currentTimeline, ownedPartitions } from '../wal/timeline.ts';
import type { SnapshotEntry, SnapshotKind } from './manifest.ts';
import type { Restorable } from './ranges.ts';
import { readSnapshot } from './snapshots.ts';
import { ArchiveView } from './view.ts';

/** One snapshot as `pitr chain` shows it. */
export interface ChainLink {
  readonly id: string;
  readonly label: string | null;
  readonly kind: SnapshotKind;
  readonly timeline: string;
  readonly parent: string | null;
  readonly startTs: number;
  readonly endTs: number;
  readonly records: number;
  /** What it adds to its parent: positions of the log, by stream. */
  readonly log: readonly { readonly stream: string; readonly lsnStart: number; readonly lsnEnd: number }[];
  /** Positions that it adds: versions and events. */
  readonly positions: number;
  /** Stored bytes of its own segments, and of the runs that hold its log ranges (shared with its neighbours). */
  readonly ownBytes: number;
  readonly logBytes: number;
  readonly objects: number;
  /** The contiguous frontier covers its end, and everything that it names is in the catalog. */
  readonly usable: boolean;
  readonly missing: readonly string[];
}

export interface ChainStream {
  readonly stream: string;
  readonly partitions: string;
  readonly frontierTs: number;
  readonly lsn: number;
  readonly runs: number;
  readonly runsByLevel: Readonly<Record<string, number>>;
  readonly segments: number;
  readonly bytes: number;
  readonly versions: number;
  /** Bytes and versions that seals and merges wrote since the stream's beginning; null: nothing yet. */
  readonly written: Head['written'] | null;
  readonly writeAmplification: number | null;
  /** How often its agent ships at most, ms, and what the agents asked of the archive; null: nothing yet. */
  readonly sealMs: number | null;
  readonly asked: Asked | null;
  readonly gaps: readonly Gap[];
}

export interface ChainTimeline {
  readonly id: string;
  readonly parent: string | null;
  readonly forkTs: number | null;
  readonly createdMs: number;
  readonly detached: boolean;
  readonly streams: readonly ChainStream[];
  readonly restorable: Restorable;
  readonly snapshots: readonly ChainLink[];
  readonly marks: readonly (Mark & { readonly stream: string })[];
}

export interface Chain {
  readonly archive: string;
  readonly url: string;
  /** What commands mean when no timeline is named; null: there is none yet. */
  readonly defaultTimeline: string | null;
  /** All timelines, parents before children. */
  readonly timelines: readonly ChainTimeline[];
}

/** Manifests that are read side by side: each may take long, and each is an open file. */
const LINKS_AT_ONCE = 32;

/** Everything that hangs together in an archive: timelines, streams, snapshots, what each adds, what can be restored. */
export const inspectChain = async (archive: Archive): Promise<Chain> => {
  const { timelines, views } = await ArchiveView.readAll(archive);
  return {
    archive: archive.id,
    url: archive.url,
    defaultTimeline: currentTimeline(timelines)?.id ?? null,
    timelines: await Promise.all(views.map(describe)),
  };
};

const describe = async (view: ArchiveView): Promise<ChainTimeline> => {
  const { timeline } = view;
  const heads = [...(view.heads.get(timeline.id)?.values() ?? [])];
  const restorable = view.restorable;
  const own = view.snapshots.filter((s) => s.timeline === timeline.id);
  const snapshots: ChainLink[] = [];
  for (let at = 0; at < own.length; at += LINKS_AT_ONCE)
    snapshots.push(
      ...(await Promise.all(
        own.slice(at, at + LINKS_AT_ONCE).map((entry) => linkOf(view, entry, restorable)),
      )),
    );
  return {
    id: timeline.id,
    parent: timeline.parent?.timeline ?? null,
    forkTs: timeline.parent?.ts ?? null,
    createdMs: timeline.createdMs,
    detached: timeline.detached,
    restorable,
    snapshots,
    marks: heads.flatMap((h) => h.marks.map((m) => ({ ...m, stream: h.stream }))).sort((a, b) => a.ts - b.ts),
    streams: timeline.streams.map(({ name }) => {
      const head = heads.find((h) => h.stream === name);
      const runs = head?.runs ?? [];
      const segments = runs.flatMap((r) => r.segments);
      const runsByLevel: Record<string, number> = {};
      for (const r of runs) runsByLevel[`L${r.level}`] = (runsByLevel[`L${r.level}`] ?? 0) + 1;
      const owned = { ...timeline, ownership: timeline.ownership.filter((o) => o.stream === name) };
      return {
        stream: name,
        partitions: ownedPartitions(owned).toString(),
        frontierTs: head?.frontier.ts ?? 0,
        lsn: head?.frontier.lsn ?? 0,
        runs: runs.length,
        runsByLevel,
        segments: segments.length,
        bytes: segments.reduce((n, s) => n + s.bytes, 0),
        versions: segments.reduce((n, s) => n + s.rows, 0),
        written: head?.written ?? null,
        writeAmplification: head ? writeAmplification(head.written) : null,
        sealMs: head?.sealMs ?? null,
        asked: head?.asked ?? null,
        gaps: head?.gaps ?? [],
      };
    }),
  };
};

const linkOf = async (
  view: ArchiveView,
  entry: SnapshotEntry,
  restorable: Restorable,
): Promise<ChainLink> => {
  const { timeline } = view;
  const snapshot = await readSnapshot(view.archive, entry);
  const runs: Run[] = [];
  const missing: string[] = [];
  for (const range of snapshot.log) {
    const head = view.heads.get(timeline.id)?.get(range.stream);
    const covering = (head?.runs ?? []).filter((r) => r.lsnStart < range.lsnEnd && r.lsnEnd > range.lsnStart);
    runs.push(...covering);
    let next = range.lsnStart;
    for (const r of covering) if (r.lsnStart <= next) next = Math.max(next, r.lsnEnd);
    if (next < range.lsnEnd) missing.push(`${range.stream} LSN ${next}-${range.lsnEnd - 1}`);
  }
  if (entry.parent && !view.snapshots.some((s) => s.id === entry.parent))
    missing.push(`snapshot ${entry.parent}`);
  const logSegments = runs.flatMap((r) => r.segments);
  return {
    id: entry.id,
    label: entry.label,
    kind: entry.kind,
    timeline: entry.timeline,
    parent: entry.parent,
    startTs: entry.startTs,
    endTs: entry.endTs,
    records: snapshot.records,
    log: snapshot.log,
    positions: snapshot.log.reduce((n, r) => n + r.lsnEnd - r.lsnStart, 0),
    ownBytes: snapshot.segments.reduce((n, s) => n + s.bytes, 0),
    logBytes: logSegments.reduce((n, s) => n + s.bytes, 0),
    objects: snapshot.segments.length + logSegments.length,
    usable:
      missing.length === 0 && restorable.ranges.some((r) => r.fromTs <= entry.endTs && entry.endTs <= r.toTs),
    missing,
  };
};

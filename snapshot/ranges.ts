import { PARTITIONS, PartitionSet } from '../engine/partition.ts';
import type { Head } from '../wal/catalog.ts';
import { ancestry, type Timeline, type Timelines } from '../wal/timeline.ts';
import { isSelfContained, type SnapshotEntry } from './manifest.ts';

/** Instants that can be restored, ms, both inclusive. */
export interface RestorableRange {
  readonly fromTs: number;
  readonly toTs: number;
  /** Timeline whose log covers it. */
  readonly timeline: string;
  /** What it starts from: the beginning of the history, or a snapshot's id. */
  readonly anchor: string;
}

export interface Restorable {
  readonly ranges: readonly RestorableRange[];
  /** End of the last range: the newest instant to which everything is archived; undefined when nothing is restorable. */
  readonly contiguousEnd: number | undefined;
  /** The newest instant that any stream has archived. */
  readonly maxEnd: number | undefined;
  /** Why the two differ: the stream that is behind, or partitions that nobody owns. */
  readonly limitedBy: string | undefined;
}

/** Heads of one timeline by stream. */
export type Heads = ReadonlyMap<string, Head>;

/**
 * The restorable ranges of a timeline and, up to the forks, of its ancestors (S4). Stated by catalog and ownership alone;
 * no listing is involved.
 */
export const restorable = (
  all: Timelines,
  timelineId: string,
  headsOf: ReadonlyMap<string, Heads>,
  snapshots: readonly SnapshotEntry[],
): Restorable => {
  const ranges: RestorableRange[] = [];
  let limitedBy: string | undefined;
  let maxEnd: number | undefined;
  let cutTs = Number.POSITIVE_INFINITY;
  const chain = ancestry(all, timelineId);
  chain.forEach((timeline, depth) => {
    const heads = headsOf.get(timeline.id) ?? new Map();
    const own = rangesOf(
      timeline,
      heads,
      snapshots.filter((s) => s.timeline === timeline.id),
    );
    if (depth === 0) {
      limitedBy = own.limitedBy;
      maxEnd = own.maxEnd;
    }
    for (const r of own.ranges) if (r.fromTs <= cutTs) ranges.push({ ...r, toTs: Math.min(r.toTs, cutTs) });
    cutTs = Math.min(cutTs, timeline.parent?.ts ?? -1);
  });
  ranges.sort((a, b) => a.fromTs - b.fromTs);
  return { ranges, contiguousEnd: ranges.at(-1)?.toTs, maxEnd, limitedBy };
};

const rangesOf = (
  timeline: Timeline,
  heads: Heads,
  snapshots: readonly SnapshotEntry[],
): { ranges: RestorableRange[]; limitedBy: string | undefined; maxEnd: number | undefined } => {
  const anchors = snapshots.filter(isSelfContained).map((s) => ({ ts: s.endTs, name: s.id }));
  const start = coverageStart(timeline);
  if (start !== undefined && !timeline.detached) anchors.push({ ts: start, name: 'start' });
  anchors.sort((a, b) => a.ts - b.ts);
  const ranges: RestorableRange[] = [];
  let limitedBy: string | undefined;
  for (const anchor of anchors) {
    const end = contiguousEnd(timeline, heads, anchor.ts);
    limitedBy = end.limitedBy;
    if (end.ts < anchor.ts) continue;
    const last = ranges.at(-1);
    if (last && anchor.ts <= last.toTs)
      ranges[ranges.length - 1] = { ...last, toTs: Math.max(last.toTs, end.ts) };
    else ranges.push({ fromTs: anchor.ts, toTs: end.ts, timeline: timeline.id, anchor: anchor.name });
  }
  const frontiers = [...heads.values()].map((h) => h.frontier.ts).filter((ts) => ts > 0);
  return { ranges, limitedBy, maxEnd: frontiers.length > 0 ? Math.max(...frontiers) : undefined };
};

/** Partitions that the timeline is about: all that ever had an owner. */
const domainOf = (timeline: Timeline): PartitionSet =>
  timeline.ownership.reduce((set, o) => set.union(PartitionSet.parse(o.partitions)), PartitionSet.none);

/** The first instant at which every partition of the timeline has an owner. */
const coverageStart = (timeline: Timeline): number | undefined => {
  const first = new Float64Array(PARTITIONS).fill(Number.POSITIVE_INFINITY);
  for (const o of timeline.ownership)
    for (const r of PartitionSet.parse(o.partitions).ranges)
      for (let p = r.start; p < r.end; p++) first[p] = Math.min(first[p], o.fromTs);
  const domain = domainOf(timeline);
  if (domain.size === 0) return undefined;
  return Math.max(...domain.ranges.flatMap((r) => [...first.subarray(r.start, r.end)]));
};

/**
 * How far the owners of the time, who together cover every partition, have archived without a gap, starting at `fromTs`.
 * An owner that has handed its partitions over counts until then.
 */
const contiguousEnd = (
  timeline: Timeline,
  heads: Heads,
  fromTs: number,
): { ts: number; limitedBy: string | undefined } => {
  const domain = domainOf(timeline).size;
  let at = fromTs;
  for (;;) {
    const owners = timeline.ownership.filter((o) => o.fromTs <= at && (o.toTs === null || at <= o.toTs));
    const covered = owners.reduce((n, o) => n + PartitionSet.parse(o.partitions).size, 0);
    if (covered < domain) return { ts: at - 1, limitedBy: 'partitions without owner' };
    // ownership is constant up to the next change
    const changes = timeline.ownership
      .flatMap((o) => [o.fromTs, o.toTs === null ? 0 : o.toTs + 1])
      .filter((ts) => ts > at);
    const until = changes.length > 0 ? Math.min(...changes) - 1 : Number.POSITIVE_INFINITY;
    let end = until;
    let limitedBy: string | undefined;
    for (const o of owners) {
      const head = heads.get(o.stream);
      let reached = head?.frontier.ts ?? fromTs - 1;
      for (const gap of head?.gaps ?? [])
        if (gap.untilTs > at && gap.afterTs < reached) reached = Math.min(reached, gap.afterTs);
      if (reached < end) {
        end = reached;
        limitedBy = o.stream;
      }
    }
    if (end < until || !Number.isFinite(until)) return { ts: end, limitedBy };
    at = until + 1;
  }
};

import { PartitionSet } from '../engine/partition.ts';
import type { Head } from '../wal/catalog.ts';
import { ancestry, type Timeline, type Timelines } from '../wal/timeline.ts';
import { hasOwnRows, isSelfContained, type SnapshotEntry } from './manifest.ts';

/** Instants that can be restored, ms, both inclusive. */
export interface RestorableRange {
  readonly fromTs: number;
  readonly toTs: number;
  /** Timeline whose log covers it. */
  readonly timeline: string;
  /** What it starts from: the beginning of the history, or a snapshot's id. */
  readonly anchor: string;
  /** Why it ends where it does: the stream that has no more, or partitions that nobody owns. Absent: a fork. */
  readonly endsBy?: string;
}

export const NO_OWNER = 'partitions without owner';

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
  let inherited: RestorableRange[] = [];
  let own: OwnRanges = { ranges: [], limitedBy: undefined, maxEnd: undefined };
  // oldest first: where a fork starts depends on whether its parent is restorable there
  for (const timeline of ancestry(all, timelineId).reverse()) {
    const forkTs = timeline.parent?.ts ?? -1;
    const before = [...inherited, ...own.ranges]
      .filter((r) => r.fromTs <= forkTs)
      .map(({ endsBy, ...r }) => (r.toTs < forkTs ? { ...r, endsBy } : { ...r, toTs: forkTs }));
    const hasPast = timeline.parent === null || before.some((r) => r.fromTs <= forkTs && forkTs <= r.toTs);
    const mine = snapshots.filter((s) => s.timeline === timeline.id);
    inherited = before;
    own = rangesOf(timeline, headsOf.get(timeline.id) ?? new Map(), mine, hasPast);
  }
  const ranges = [...inherited, ...own.ranges].sort((a, b) => a.fromTs - b.fromTs);
  return { ranges, contiguousEnd: ranges.at(-1)?.toTs, maxEnd: own.maxEnd, limitedBy: own.limitedBy };
};

interface OwnRanges {
  readonly ranges: RestorableRange[];
  readonly limitedBy: string | undefined;
  readonly maxEnd: number | undefined;
}

interface Anchor {
  readonly ts: number;
  readonly name: string;
}

/** `hasPast`: what the timeline starts from is nothing, or restorable. */
const rangesOf = (
  timeline: Timeline,
  heads: Heads,
  snapshots: readonly SnapshotEntry[],
  hasPast: boolean,
): OwnRanges => {
  const anchorOf = (s: SnapshotEntry): Anchor => ({ ts: s.endTs, name: s.id });
  const anchors = snapshots.filter(isSelfContained).map(anchorOf);
  // the first engine's start; later epochs are hand-overs
  const start = Math.min(...timeline.ownership.flatMap((o) => (o.epoch === 1 ? [o.fromTs] : [])));
  if (Number.isFinite(start) && !timeline.detached && hasPast) anchors.push({ ts: start, name: 'start' });
  const frontiers = [...heads.values()].map((h) => h.frontier.ts).filter((ts) => ts > 0);
  const maxEnd = frontiers.length > 0 ? Math.max(...frontiers) : undefined;
  const partial = snapshots.filter((s) => hasOwnRows(s) && s.partitions !== undefined);
  if (partial.length === 0) return { ...rangesFrom(timeline, heads, anchors), maxEnd };
  // each class of partitions has ranges of its own; an instant is restorable when it is for all of them
  const [first, ...others] = classesOf(timeline, partial).map((partitions) => {
    const covering = partial.filter((s) => partitionsOf(s).intersect(partitions).size > 0);
    return rangesFrom(restricted(timeline, partitions), heads, [...anchors, ...covering.map(anchorOf)]);
  });
  if (!first) return { ranges: [], limitedBy: undefined, maxEnd };
  return { ...others.reduce(both, first), maxEnd };
};

const partitionsOf = (s: SnapshotEntry): PartitionSet => PartitionSet.parse(s.partitions ?? 'all');

/** The partitions that ever had an owner, in sets whose members had the same owners always and are in the same copies. */
const classesOf = (timeline: Timeline, partial: readonly SnapshotEntry[]): PartitionSet[] => {
  const owned = timeline.ownership.map((o) => PartitionSet.parse(o.partitions));
  const sets = [...owned, ...partial.map(partitionsOf)];
  const domain = owned.reduce((all, set) => all.union(set), PartitionSet.none);
  return sets
    .reduce((classes, set) => classes.flatMap((c) => [c.intersect(set), c.subtract(set)]), [domain])
    .filter((c) => c.size > 0);
};

/** The timeline as if it had only these partitions. */
const restricted = (timeline: Timeline, partitions: PartitionSet): Timeline => ({
  ...timeline,
  ownership: timeline.ownership.flatMap((o) => {
    const both = PartitionSet.parse(o.partitions).intersect(partitions);
    return both.size > 0 ? [{ ...o, partitions: both.toString() }] : [];
  }),
});

type Ranges = Pick<OwnRanges, 'ranges' | 'limitedBy'>;

/** What is in both; a range starts with the later anchor of the two. */
const both = (a: Ranges, b: Ranges): Ranges => ({
  ranges: a.ranges.flatMap((x) =>
    b.ranges.flatMap((y) => {
      const later = x.fromTs >= y.fromTs ? x : y;
      const { toTs, endsBy } = x.toTs <= y.toTs ? x : y;
      return later.fromTs <= toTs ? [{ ...later, toTs, endsBy }] : [];
    }),
  ),
  limitedBy: (a.ranges.at(-1)?.toTs ?? -1) <= (b.ranges.at(-1)?.toTs ?? -1) ? a.limitedBy : b.limitedBy,
});

const rangesFrom = (timeline: Timeline, heads: Heads, anchors: readonly Anchor[]): Ranges => {
  const ranges: RestorableRange[] = [];
  let limitedBy: string | undefined;
  for (const anchor of [...anchors].sort((a, b) => a.ts - b.ts)) {
    const end = contiguousEnd(timeline, heads, anchor.ts);
    limitedBy = end.limitedBy;
    if (end.ts < anchor.ts) continue;
    const last = ranges.at(-1);
    const ends = { toTs: end.ts, endsBy: end.limitedBy };
    if (!last || anchor.ts > last.toTs)
      ranges.push({ fromTs: anchor.ts, timeline: timeline.id, anchor: anchor.name, ...ends });
    else if (end.ts > last.toTs) ranges[ranges.length - 1] = { ...last, ...ends };
  }
  return { ranges, limitedBy };
};

/** Partitions that had an owner by `ts`: an engine that joins later does not make what was there before incomplete. */
const domainAt = (timeline: Timeline, ts: number): number =>
  timeline.ownership
    .filter((o) => o.fromTs <= ts)
    .reduce((set, o) => set.union(PartitionSet.parse(o.partitions)), PartitionSet.none).size;

/**
 * How far the owners of the time, who together cover every partition, have archived without a gap, starting at `fromTs`.
 * An owner that has handed its partitions over counts until then.
 */
const contiguousEnd = (
  timeline: Timeline,
  heads: Heads,
  fromTs: number,
): { ts: number; limitedBy: string | undefined } => {
  let at = fromTs;
  for (;;) {
    const owners = timeline.ownership.filter((o) => o.fromTs <= at && (o.toTs === null || at <= o.toTs));
    const covered = owners.reduce((n, o) => n + PartitionSet.parse(o.partitions).size, 0);
    if (covered < domainAt(timeline, at)) return { ts: at - 1, limitedBy: NO_OWNER };
    // ownership is constant up to the next change
    const changes = timeline.ownership
      .flatMap((o) => [o.fromTs, o.toTs === null ? 0 : o.toTs + 1])
      .filter((ts) => ts > at);
    const until = changes.length > 0 ? Math.min(...changes) - 1 : Number.POSITIVE_INFINITY;
    let end = until;
    let limitedBy: string | undefined;
    for (const o of owners) {
      const head = heads.get(o.stream);
      let reached = head?.frontier.ts ?? -1;
      for (const gap of head?.gaps ?? [])
        if (gap.untilTs > at && gap.afterTs < reached) reached = Math.min(reached, gap.afterTs);
      // what lies before `at` was covered by the owners of that time
      reached = Math.max(reached, at - 1);
      if (reached < end) {
        end = reached;
        limitedBy = o.stream;
      }
    }
    if (end < until || !Number.isFinite(until)) return { ts: end, limitedBy };
    at = until + 1;
  }
};

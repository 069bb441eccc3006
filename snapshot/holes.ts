import { type Acknowledgement, isSameGap } from '../wal/acknowledgements.ts';
import type { Gap } from '../wal/catalog.ts';
import type { Timeline } from '../wal/timeline.ts';
import { NO_OWNER, type RestorableRange } from './ranges.ts';
import type { ArchiveView } from './view.ts';

/** A stretch of a history of which no instant can be restored. */
export interface Hole {
  readonly timeline: string;
  /** The gap that it comes from; null: none is recorded, `cause` says why all the same. */
  readonly stream: string | null;
  readonly gap: Gap | null;
  /** Restorable up to this instant, as far as this hole is concerned. */
  readonly afterTs: number;
  /** What is missing reaches up to this instant. */
  readonly untilTs: number;
  /** In the field's words. */
  readonly cause: string;
  /** From where on instants can be restored again, and what that range starts from; null: nothing after it can be. */
  readonly again: { readonly fromTs: number; readonly anchor: string } | null;
  readonly acknowledged: Acknowledgement | null;
}

const CAUSES: Readonly<Record<string, string>> = {
  'dropped: quota': 'dropped by quota',
  'log files are missing': 'log files missing',
};

/** What people call what the catalog has as the cause of a gap. */
export const causeInWords = ({ cause }: Gap): string => CAUSES[cause] ?? cause;

/**
 * The holes of a timeline and, up to the forks, of its ancestors, oldest first: every recorded gap, and what lies between two
 * restorable ranges without one.
 */
export const holesOf = (view: ArchiveView, acknowledged: readonly Acknowledgement[]): Hole[] => {
  const { ranges } = view.restorable;
  const gaps = gapsOf(view).map(({ timeline, stream, gap }): Hole => {
    const { lsnStart, lsnEnd, afterTs, untilTs } = gap;
    const place = { timeline, stream, lsnStart, lsnEnd };
    return {
      timeline,
      stream,
      gap,
      afterTs,
      untilTs,
      cause: causeInWords(gap),
      again: againAfter(ranges, untilTs),
      acknowledged: acknowledged.find((a) => isSameGap(a, place)) ?? null,
    };
  });
  return [...gaps, ...unrecorded(view, gaps)].sort((a, b) => a.afterTs - b.afterTs);
};

const againAfter = (ranges: readonly RestorableRange[], ts: number): Hole['again'] => {
  const next = ranges.find((r) => r.fromTs >= ts);
  return next ? { fromTs: next.fromTs, anchor: next.anchor } : null;
};

/** A gap of an ancestor counts when it begins before the history was left. */
const gapsOf = (view: ArchiveView): { timeline: string; stream: string; gap: Gap }[] => {
  let leftTs = Number.POSITIVE_INFINITY;
  return view.ancestry.flatMap((timeline) => {
    const untilTs = leftTs;
    leftTs = Math.min(leftTs, timeline.parent?.ts ?? leftTs);
    return [...(view.heads.get(timeline.id)?.values() ?? [])].flatMap(({ stream, gaps }) =>
      gaps.filter((g) => g.afterTs < untilTs).map((gap) => ({ timeline: timeline.id, stream, gap })),
    );
  });
};

const unrecorded = (view: ArchiveView, gaps: readonly Hole[]): Hole[] => {
  const { ranges, limitedBy, maxEnd } = view.restorable;
  const isExplained = (afterTs: number, untilTs: number): boolean =>
    gaps.some((g) => g.afterTs < untilTs && g.untilTs > afterTs);
  const hole = (before: RestorableRange, next: RestorableRange | undefined, untilTs: number): Hole => ({
    timeline: (next ?? before).timeline,
    stream: null,
    gap: null,
    afterTs: before.toTs,
    untilTs,
    cause: causeOf(before),
    again: next ? { fromTs: next.fromTs, anchor: next.anchor } : null,
    acknowledged: null,
  });
  const between = ranges.flatMap((next, i) => {
    const before = ranges[i - 1];
    if (before === undefined || next.fromTs <= before.toTs + 1) return [];
    // a history without known past does not go on from anything: it starts with its first copy
    if (next.timeline !== before.timeline && timelineOf(view, next.timeline)?.detached) return [];
    return isExplained(before.toTs, next.fromTs) ? [] : [hole(before, next, next.fromTs)];
  });
  const last = ranges.at(-1);
  // a frontier that has not come any further is lag; partitions that nobody owns do not catch up
  const isOpen = last !== undefined && limitedBy === NO_OWNER && (maxEnd ?? 0) > last.toTs;
  return isOpen && !isExplained(last.toTs, maxEnd ?? 0)
    ? [...between, hole(last, undefined, maxEnd ?? 0)]
    : between;
};

const timelineOf = (view: ArchiveView, id: string): Timeline | undefined =>
  view.ancestry.find((t) => t.id === id);

const causeOf = ({ endsBy }: RestorableRange): string => {
  if (endsBy === undefined) return 'fork without restorable past';
  return endsBy === NO_OWNER ? NO_OWNER : `nothing archived of ${endsBy}`;
};

/**
 * The newest stretch without a hole, ms, both inclusive. It goes on over a fork; undefined: nothing is restorable.
 */
export const windowOf = (
  ranges: readonly RestorableRange[],
): { readonly fromTs: number; readonly toTs: number } | undefined => {
  const last = ranges.at(-1);
  if (!last) return undefined;
  let { fromTs } = last;
  for (const range of ranges.toReversed())
    if (range.toTs + 1 >= fromTs) fromTs = Math.min(fromTs, range.fromTs);
  return { fromTs, toTs: last.toTs };
};

/** Since when there is anything of this history that a restore could want; undefined: nothing yet. */
export const historyStart = (view: ArchiveView): number | undefined => {
  const root = view.ancestry.at(-1);
  const first = view.restorable.ranges[0]?.fromTs;
  if (!root || root.detached) return first;
  const starts = root.ownership.flatMap((o) => (o.epoch === 1 ? [o.fromTs] : []));
  return starts.length > 0 ? Math.min(...starts) : first;
};

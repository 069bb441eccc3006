import { COUNTERS, type Counters, type NodeReading, type SourceReading } from './source-reading.ts';
import type { XdrGap } from './xdr-report.ts';

/** How long nothing may have been sent again (P3). */
export const RETRY_QUIET_MS = 2000;

export interface Circumstances {
  /** The reading before this one. */
  readonly before: SourceReading | undefined;
  /** Our clock, ms, when a counter of what is sent again was last found to have moved. */
  readonly retriedMs: number;
  /** Nothing was answered with 11 for {@link RETRY_QUIET_MS}. */
  readonly isQuiet: boolean;
  /** Nothing is owed. */
  readonly isClear: boolean;
}

/** Everything with a LUT up to `clockMs`, minus what is on its way into the queue, is in the log; or why nobody knows that (P1–P4). */
export type Verdict = { readonly clockMs: number } | { readonly why: string };

export const judgeReading = (
  now: SourceReading,
  { before, retriedMs, isQuiet, isClear }: Circumstances,
): Verdict => {
  const [first] = now;
  const key = first?.clusterKey;
  for (const node of now) {
    if (node.clusterSize !== now.length)
      return { why: `${now.length} nodes answer, ${node.node} knows ${node.clusterSize}` };
    if (node.clusterKey === undefined || node.clusterKey !== key)
      return { why: 'the cluster is not stable: partitions move' };
  }
  if (!before) return { why: 'one reading alone proves nothing' };
  if (!before.every((n) => n.clusterKey === key)) return { why: 'the cluster has just changed' };
  for (const node of now) {
    const waits = waitingOf(node);
    if (waits) return { why: waits };
  }
  if (!isQuiet || first.answeredMs - retriedMs < RETRY_QUIET_MS)
    return { why: 'changes are being sent again' };
  if (!isClear) return { why: 'changes were refused and have not come again' };
  return { clockMs: Math.min(...now.map((n) => n.clockMs)) };
};

const waitingOf = ({ node, shipping }: NodeReading): string | undefined => {
  for (const [namespace, { waiting }] of shipping)
    for (const [what, count] of Object.entries(waiting))
      if (count !== 0) return `${what} of ${namespace} is ${count} on ${node}`;
  return undefined;
};

/** Whether anything was sent again between two readings. */
export const hasRetried = (now: SourceReading, before: SourceReading | undefined): boolean =>
  now.some(({ node, shipping }) => {
    const earlier = before?.find((n) => n.node === node);
    if (!earlier) return before !== undefined;
    return [...shipping].some(
      ([namespace, { retries }]) => earlier.shipping.get(namespace)?.retries !== retries,
    );
  });

/** Counters by `node/namespace`, as they are kept. */
export type CounterBook = Readonly<Record<string, Counters>>;

export const bookOf = (reading: SourceReading): CounterBook =>
  Object.fromEntries(
    reading.flatMap(({ node, shipping }) =>
      [...shipping].map(([namespace, { counters }]) => [`${node}/${namespace}`, counters]),
    ),
  );

const MEANINGS: Readonly<Record<(typeof COUNTERS)[number], string | undefined>> = {
  success: undefined,
  recoveries: 'a recovery ran: it ships the latest version only, and deletes as far as there are tombstones',
  abandoned: 'the source gave up changes that were refused',
  not_found: 'records were gone when their change was to be shipped',
  hot_keys: 'versions of hot keys were not shipped',
  filtered_out: 'a filter rejected records',
};

/** What moved counters say is missing, by namespace. */
export const lossesOf = (
  now: SourceReading,
  book: CounterBook,
): { readonly namespace: string; readonly why: string }[] => {
  const losses: { namespace: string; why: string }[] = [];
  for (const { node, shipping } of now)
    for (const [namespace, { counters }] of shipping) {
      const before = book[`${node}/${namespace}`];
      const isRestarted = before !== undefined && counters.success < before.success;
      if (isRestarted) losses.push({ namespace, why: `${node} was restarted` });
      for (const name of COUNTERS) {
        const meaning = MEANINGS[name];
        const from = isRestarted ? 0 : (before?.[name] ?? 0);
        if (meaning && counters[name] !== from)
          losses.push({ namespace, why: `${meaning} (${name} of ${node})` });
      }
    }
  return losses;
};

/** Gaps that are told one by one; the oldest become one. */
const GAPS_MAX = 256;

/** Adds what was lost after `sinceMs` to `gaps`; one that goes on for the same reason is there already. */
export const withLosses = (
  gaps: readonly XdrGap[],
  losses: readonly { readonly namespace: string; readonly why: string }[],
  sinceMs: number,
): XdrGap[] => {
  const all = [...gaps];
  for (const { namespace, why } of losses)
    if (!all.some((g) => g.untilMs === undefined && g.namespace === namespace && g.why === why))
      all.push({ namespace, sinceMs, untilMs: undefined, why });
  while (all.length > GAPS_MAX) {
    const [a, b] = all.splice(0, 2);
    all.unshift({
      namespace: a.namespace === b.namespace ? a.namespace : '*',
      sinceMs: Math.min(a.sinceMs, b.sinceMs),
      untilMs:
        a.untilMs === undefined || b.untilMs === undefined ? undefined : Math.max(a.untilMs, b.untilMs),
      why: 'several gaps, the oldest of those that were found',
    });
  }
  return all;
};

export const endGaps = (gaps: readonly XdrGap[], untilMs: number): XdrGap[] =>
  gaps.map((g) => (g.untilMs === undefined ? { ...g, untilMs } : g));

/** Source's clock minus ours, ms; 0 while both may be the same. Each clock of a node was read as a whole second. */
export const clockOffsetOf = (reading: SourceReading): number => {
  let least = Number.POSITIVE_INFINITY;
  let sign = 0;
  for (const { clockMs, askedMs, answeredMs } of reading) {
    const low = clockMs - answeredMs;
    const high = clockMs + 999 - askedMs;
    if (low <= 0 && high >= 0) return 0;
    const near = low > 0 ? low : high;
    if (sign !== 0 && Math.sign(near) !== sign) return 0;
    sign = Math.sign(near);
    least = Math.min(least, Math.abs(near));
  }
  return sign === 0 ? 0 : sign * least;
};

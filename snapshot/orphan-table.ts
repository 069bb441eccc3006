import { z } from 'zod';
import type { Archive, Tagged } from '../wal/archive.ts';

/** When what nobody names may go. */
export interface SweepRule {
  /** How long it must have been seen to be unnamed, ms. */
  readonly marginMs: number;
  /** Between two looks, ms. No look counts for more, whatever the clock says. */
  readonly everyMs: number;
}

/** Something that nothing named when it was last looked at. */
export interface Seen {
  /** An object's name; of other things their class and id, with a colon that no object can have. */
  readonly name: string;
  /** Null: the store does not say. */
  readonly bytes: number | null;
  /** When it was first seen, by the clock of the agent that saw it. */
  readonly sinceMs: number;
  /** For how long it has been seen to be unnamed; at most {@link SweepRule.everyMs} from one look to the next. */
  readonly waitedMs: number;
  /** What it looked like: when that changes somebody works on it, and it waits anew. */
  readonly mark?: string;
}

/**
 * What the agent of one stream has seen to be unnamed: the swapped object `orphans/TIMELINE/STREAM`. Written before anything
 * is deleted, so that a sweep that is killed is gone on with by the next one.
 */
export interface OrphanTable extends SweepRule {
  readonly archive: string;
  /** Of the head under which it was written. */
  readonly generation: number;
  /** The last look, by that agent's clock. */
  readonly atMs: number;
  readonly seen: readonly Seen[];
}

const count = z.int().min(0);
const tableSchema = z.object({
  archive: z.string().min(1),
  generation: count,
  atMs: count,
  marginMs: count,
  everyMs: count,
  seen: z.array(
    z.object({
      name: z.string().min(1),
      bytes: count.nullable(),
      sinceMs: count,
      waitedMs: count,
      mark: z.string().optional(),
    }),
  ),
});

/** More are looked at when these are gone. */
export const SEEN_MAX = 10_000;

const tableName = (timeline: string, stream: string): string => `orphans/${timeline}/${stream}`;

export const readOrphanTable = (
  archive: Archive,
  timeline: string,
  stream: string,
): Promise<Tagged<OrphanTable> | undefined> =>
  archive.readDocument<OrphanTable>('orphans', tableName(timeline, stream), tableSchema);

/** @throws cas-conflict */
export const writeOrphanTable = async (
  archive: Archive,
  timeline: string,
  stream: string,
  tag: string | undefined,
  table: OrphanTable,
): Promise<void> => {
  await archive.swapDocument('orphans', tableName(timeline, stream), tag, table);
};

/** Whether the next look would count. A clock that was set back does not hold up the sweep: it only adds nothing. */
export const isLookDue = ({ atMs }: OrphanTable, { everyMs }: SweepRule, nowMs: number): boolean =>
  // a schedule is never exact, and what comes a moment early must not wait for a whole turn
  nowMs < atMs || nowMs - atMs >= everyMs - everyMs / 8;

/**
 * How long something waits in all. One look more than the margin: a clock that leaps once, or that of another machine, adds
 * at most one.
 */
export const waitMs = ({ marginMs, everyMs }: SweepRule): number => marginMs + everyMs;

/** The table after a look that has found `found`, and what may go. What is not found any more is forgotten. */
export const afterLook = (
  before: OrphanTable | undefined,
  found: readonly Pick<Seen, 'name' | 'bytes' | 'mark'>[],
  nowMs: number,
  rule: SweepRule,
  writer: Pick<OrphanTable, 'archive' | 'generation'>,
): { table: OrphanTable; due: readonly Seen[] } => {
  const { archive, generation } = writer;
  const { marginMs, everyMs } = rule;
  const known = new Map(before?.seen.map((s) => [s.name, s]));
  const passedMs = before ? Math.min(Math.max(0, nowMs - before.atMs), everyMs) : 0;
  const seen = found.map((it): Seen => {
    const old = known.get(it.name);
    return old && old.mark === it.mark
      ? { ...old, bytes: it.bytes, waitedMs: old.waitedMs + passedMs }
      : { ...it, sinceMs: nowMs, waitedMs: 0 };
  });
  return {
    table: { archive, generation, atMs: nowMs, marginMs, everyMs, seen },
    due: seen.filter((s) => s.waitedMs >= waitMs(rule)),
  };
};

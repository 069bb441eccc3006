import { PitrError } from '../engine/errors.ts';
import type { ClockEvent } from './event.ts';
import type { Run } from './segment.ts';

/** Positions of a stream that the archive does not have. */
export interface Gap {
  readonly lsnStart: number;
  readonly lsnEnd: number;
  /** The hole in time: nothing is known after `afterTs` and before or at `untilTs`. */
  readonly afterTs: number;
  readonly untilTs: number;
  readonly cause: string;
}

export interface Mark {
  readonly name: string;
  readonly lsn: number;
  readonly ts: number;
}

/** Objects that nothing names any more; removed after a margin, so that a restore that is under way can end. */
export interface Retired {
  readonly names: readonly string[];
  readonly sinceMs: number;
}

/** Runs of the older part are kept in write-once pages when a head would grow long. */
export const HEAD_MARKS_MAX = 1000;

/**
 * The catalog head of a stream: what the archive has of it. The only truth about that; an object that no head or manifest
 * names does not exist.
 *
 * A1: `runs` are contiguous: each starts where its predecessor ends, except at a gap. A2: `frontier` never falls.
 * A3: only the holder of `generation` and `claim` changes the head.
 */
export interface Head {
  readonly archive: string;
  readonly timeline: string;
  readonly stream: string;
  readonly engineId: string;
  readonly generation: number;
  /** Random, of the archiver that raised the generation: two that raise it at once are told apart by it. */
  readonly claim: string;
  /** Every version of this stream with ts <= `ts` is in `runs`, and no other will ever get such a ts; `lsn` is the newest archived. */
  readonly frontier: { readonly ts: number; readonly lsn: number };
  /** The stream's newest clock frame: what it states about itself at the frontier. */
  readonly clock: ClockEvent | null;
  /** Number of the last local log file that is archived. */
  readonly sequence: number;
  /** crc32 of that file's last frame, with which the next file must go on; null before the first. */
  readonly chain: number | null;
  /** Oldest first, mixed levels. */
  readonly runs: readonly Run[];
  readonly gaps: readonly Gap[];
  /** The newest marks; older ones are in the segments' events. */
  readonly marks: readonly Mark[];
  readonly retired: readonly Retired[];
  readonly updatedMs: number;
}

export const emptyHead = (
  fields: Pick<Head, 'archive' | 'timeline' | 'stream' | 'engineId' | 'generation'>,
): Head => ({
  ...fields,
  claim: '',
  frontier: { ts: 0, lsn: 0 },
  clock: null,
  sequence: 0,
  chain: null,
  runs: [],
  gaps: [],
  marks: [],
  retired: [],
  updatedMs: 0,
});

/** Names of all objects that the head lists, and of those that it will delete. */
export const namesOf = (head: Head): Set<string> =>
  new Set([
    ...head.runs.flatMap((r) => r.segments.map((s) => s.name)),
    ...head.retired.flatMap((r) => r.names),
  ]);

/** Puts the run where the runs that it replaces stood. @throws internal when they are not there */
export const replaceRuns = (runs: readonly Run[], old: readonly Run[], merged: Run): Run[] => {
  const at = runs.indexOf(old[0]);
  if (at < 0 || old.some((run, i) => runs[at + i] !== run))
    throw new PitrError('internal', { what: 'the runs that were merged are not in the catalog head' });
  return [...runs.slice(0, at), merged, ...runs.slice(at + old.length)];
};

export const runOf = (level: number, lsnStart: number, lsnEnd: number, segments: Run['segments']): Run => ({
  level,
  lsnStart,
  lsnEnd,
  tsMin: Math.min(...segments.map((s) => s.tsMin)),
  tsMax: Math.max(...segments.map((s) => s.tsMax)),
  segments,
});

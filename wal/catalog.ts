import { PitrError } from '../engine/errors.ts';
import type { Asked } from './asked.ts';
import type { ClockEvent } from './event.ts';
import type { Run, SegmentRef } from './segment.ts';

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

/** Objects that nothing names any more. They go after a margin, and after the leases of those who may still read them. */
export interface Retired {
  readonly names: readonly string[];
  readonly sinceMs: number;
  /**
   * Leases that were held when the archiver first looked after the objects had been retired: a later one is about a later
   * catalog. Null: it has not looked yet.
   */
  readonly leases: readonly string[] | null;
}

/**
 * What nothing names any more stays at least this long: for those who read one record by a catalog of a moment ago and take no
 * lease for that.
 */
export const RETIRE_MS = 2 * 60 * 1000;

/** Bytes and versions that were written to the archive, all of them counted. */
export interface Written {
  readonly bytes: number;
  readonly versions: number;
}

/** How often what came in was written: 1 = once, no merge yet. */
export const writeAmplification = ({ seals, merges }: Head['written']): number =>
  seals.bytes === 0 ? 1 : (seals.bytes + merges.bytes) / seals.bytes;

const plus = (a: Written, b: Written): Written => ({
  bytes: a.bytes + b.bytes,
  versions: a.versions + b.versions,
});

/** `written` with the segments of one more seal or merge. */
export const withWritten = (
  written: Head['written'],
  what: 'seals' | 'merges',
  segments: readonly SegmentRef[],
): Head['written'] => ({
  ...written,
  [what]: plus(written[what], {
    bytes: segments.reduce((n, s) => n + s.bytes, 0),
    versions: segments.reduce((n, s) => n + s.rows, 0),
  }),
});

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
  /** Since the stream's beginning: what seals wrote, and what merges wrote again. */
  readonly written: { readonly seals: Written; readonly merges: Written };
  /** How often its archiver ships at most, ms. Missing: written by an older release. */
  readonly sealMs?: number;
  /** What its archivers asked of the archive before they published it. Missing: as above. */
  readonly asked?: Asked;
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
  written: { seals: { bytes: 0, versions: 0 }, merges: { bytes: 0, versions: 0 } },
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
  // by content: a head that was read back has other objects
  const id = (run: Run | undefined): string =>
    run ? [run.lsnStart, run.lsnEnd, ...run.segments.map((s) => s.name)].join() : '';
  const at = runs.findIndex((run) => id(run) === id(old[0]));
  if (at < 0 || old.some((run, i) => id(runs[at + i]) !== id(run)))
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

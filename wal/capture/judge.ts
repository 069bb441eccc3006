import type { Sighting } from '../../engine/commit-log.ts';
import type { FoundRecord } from './found.ts';

/** What is known of a record before it is seen again. */
export interface Known {
  readonly generation: number;
  readonly lutMs: number;
  /** The LUT is only a bound. */
  readonly isBase: boolean;
  readonly voidTimeS: number;
  /** Ts of its last version. */
  readonly ts: number;
}

/** A version as it goes to the log. */
export interface Verdict extends Sighting {
  readonly ts: number;
}

type Seen = Pick<
  FoundRecord,
  'generation' | 'voidTimeS' | 'lut' | 'foundMs' | 'missedAfterMs' | 'missedLeast' | 'boundedBeforeMs'
>;

/**
 * What a sighting is (README.md, section "Judge"): undefined for nothing new. `isSameContent`: stored key and bins are those of the last
 * version. `frontierTs`: the last that was stated. `openCopyTs`: C0 of a base copy, as long as no frontier has been stated after it.
 */
export const judge = (
  known: Known | undefined,
  seen: Seen,
  isSameContent: boolean,
  frontierTs: number,
  openCopyTs: number | undefined,
): Verdict | undefined => {
  if (known && isSameVersion(known, seen, isSameContent)) return undefined;
  const floor = Math.max(frontierTs + 1, known?.ts ?? 0);
  const missed = Math.max(missedBefore(known, seen, isSameContent, openCopyTs), seen.missedLeast ?? 0);
  if (typeof seen.lut !== 'number') {
    const { startMs, endMs } = seen.lut;
    const ts = Math.max(endMs, floor);
    // it came after what is known of the record, or in the same ms, whatever the scan can say
    const start = Math.max(startMs, known && !known.isBase ? known.lutMs - 1 : 0);
    return {
      ts,
      lutMs: endMs,
      windowStartMs: Math.min(start, endMs),
      windowEndMs: ts,
      missed,
      missedAfterMs: missedAfter(known, missed, endMs, seen.missedAfterMs),
      late: ts > endMs,
    };
  }
  const ts = Math.max(seen.lut, floor);
  const late = ts > seen.lut;
  return {
    ts,
    lutMs: seen.lut,
    windowStartMs: seen.lut,
    windowEndMs: late ? Math.max(seen.foundMs, ts) : seen.lut,
    missed,
    missedAfterMs: missedAfter(known, missed, seen.lut, seen.missedAfterMs),
    late,
  };
};

/**
 * After which instant the `missed` versions before one with this LUT came, ms; 0: nobody knows. `boundMs`: as who found it has it. Of an
 * instant before `known`'s ts, that version or an earlier one is asked, so this one may say that all came since then.
 */
export const missedAfter = (
  known: Pick<Known, 'ts'> | undefined,
  missed: number,
  lutMs: number,
  boundMs = 0,
): number => {
  if (missed === 0) return 0;
  // of a version from before the bound nobody can say that what was before it came later
  const bound = boundMs < lutMs ? boundMs : 0;
  return Math.max(0, Math.min(Math.max(bound, known ? known.ts - 1 : 0), lutMs - 1));
};

const isSameVersion = (known: Known, seen: Seen, isSameContent: boolean): boolean => {
  if (known.generation !== seen.generation) return false;
  const isAlike = isSameContent && known.voidTimeS === seen.voidTimeS;
  // nobody knows its LUT: the same generation, content and void time are taken for the same version if that is in the window
  if (typeof seen.lut !== 'number') return isAlike && (known.isBase || seen.lut.startMs < known.lutMs);
  if (!known.isBase) return seen.lut === known.lutMs;
  return (
    seen.lut <= known.lutMs && (isAlike || seen.lut < (seen.boundedBeforeMs ?? Number.POSITIVE_INFINITY))
  );
};

/** Versions that must have been between the last one in the log and this one. */
const missedBefore = (
  known: Known | undefined,
  seen: Seen,
  isSameContent: boolean,
  openCopyTs: number | undefined,
): number => {
  if (!known) return seen.generation - 1;
  // what had expired was absent to whoever wrote it next: generations began anew
  if (seen.generation > known.generation && hadExpired(known, seen)) return seen.generation - 1;
  if (seen.generation > known.generation) return seen.generation - known.generation - 1;
  // what a copy read may be newer than its bound; from the first frontier on what is so has been found
  const isCopied = known.isBase && known.lutMs === openCopyTs;
  if (seen.generation === known.generation && isSameContent && isCopied) return 0;
  // reading can touch: a new void time, and nothing else
  if (seen.generation === known.generation && isSameContent && seen.voidTimeS !== 0) return 0;
  // it fell, or came round to the same: deleted at least once, and written again that often
  return seen.generation;
};

const hadExpired = ({ voidTimeS }: Known, { lut }: Seen): boolean =>
  voidTimeS !== 0 && (voidTimeS + 1) * 1000 <= (typeof lut === 'number' ? lut : lut.startMs);

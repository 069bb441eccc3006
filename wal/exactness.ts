import type { Block } from './block.ts';
import type { TruncateEvent } from './event.ts';
import type { InexactPart } from './segment.ts';

/**
 * Which instants of a record's past are certain (README.md, "Exact or said", S7). A record is inexact at T if the first version
 * after T says that versions were missed before it that may have come by T, or that it was there by T already, or if T is in the window of that version,
 * of the chosen one, or of a truncation that hides the chosen one or is about to.
 */

/** One reason why a record is inexact, as the archive has it. Instants are ms. */
export interface Doubt {
  /** What says so: the version at T, the first one after T, or a truncation. */
  readonly by: 'chosen' | 'next' | 'truncation';
  /** Its ts. */
  readonly ts: number;
  /** Versions missed before it that may have come by T; `MISSED_UNKNOWN`: at least one. 0: none that anybody knows of. */
  readonly missed: number;
  /** They came after this instant. Absent: nobody knows since when, or none was missed. */
  readonly missedAfterMs?: number;
  /** The change came in (start, end]; of `next` from its LUT on, if that is earlier. Absent: T is in no window, versions were missed. */
  readonly window?: { readonly startMs: number; readonly endMs: number };
}

/** A record that is inexact at T. */
export interface InexactRecord {
  readonly namespace: string;
  readonly set: string;
  /** 20 bytes. */
  readonly sortKey: Buffer;
  /** Of the version that tells the stored key, if any does. */
  readonly image: Uint8Array | undefined;
  readonly doubts: readonly Doubt[];
}

/** Is `ts` in the window (start, end]? */
const contains = (startMs: number, endMs: number, ts: number): boolean => startMs < ts && ts <= endMs;

/** What row `i`, the first of its record after `ts`, says of `ts`. */
export const doubtOfNext = (block: Block, i: number, ts: number): Doubt | undefined => {
  const found = block.window(i);
  if (!found) return undefined;
  const lut = block.lut(i);
  const { startMs, endMs, missedAfterMs } = found;
  const missed = missedAfterMs < ts ? found.missed : 0;
  const isInWindow = lut <= ts || contains(startMs, endMs, ts);
  if (missed === 0 && !isInWindow) return undefined;
  const window = { startMs: Math.min(startMs, lut), endMs };
  return {
    by: 'next',
    ts: block.ts(i),
    missed,
    ...(missed > 0 && missedAfterMs > 0 ? { missedAfterMs } : {}),
    ...(isInWindow ? { window } : {}),
  };
};

/** What row `i`, the version at `ts`, says of `ts`. */
export const doubtOfChosen = (block: Block, i: number, ts: number): Doubt | undefined => {
  const found = block.window(i);
  if (!found || !contains(found.startMs, found.endMs, ts)) return undefined;
  const { startMs, endMs } = found;
  return { by: 'chosen', ts: block.ts(i), missed: 0, window: { startMs, endMs } };
};

/** Does a truncation leave open whether it had taken effect by `ts`? One with a later ts has, once its window has passed. */
export const isDoubtful = (e: TruncateEvent, ts: number): boolean =>
  e.windowStartMs !== undefined && e.windowStartMs < ts && (ts < e.ts || ts <= (e.windowEndMs as number));

/** Counts what may make instants inexact, for the properties of a segment. */
export class InexactCount {
  #count = 0;
  #fromTs = Number.POSITIVE_INFINITY;

  /** Of a row with an extension. */
  row(block: Block, i: number): void {
    const found = block.window(i);
    if (!found) return;
    const lut = block.lut(i);
    const { startMs, endMs, missed, missedAfterMs } = found;
    if (missed === 0 && startMs >= endMs && lut >= block.ts(i)) return;
    this.#count++;
    // at the instant itself nothing was missed: that is often a frontier, and so a mark
    const missedSince = missedAfterMs === 0 ? 0 : missedAfterMs + 1;
    const missedFrom = missed > 0 ? missedSince : Number.POSITIVE_INFINITY;
    this.#fromTs = Math.min(this.#fromTs, missedFrom, startMs, lut);
  }

  truncation(e: TruncateEvent): void {
    if (e.windowStartMs === undefined) return;
    this.#count++;
    this.#fromTs = Math.min(this.#fromTs, e.windowStartMs);
  }

  get part(): InexactPart | undefined {
    return this.#count === 0 ? undefined : { count: this.#count, fromTs: this.#fromTs };
  }
}

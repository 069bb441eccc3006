import {
  minusCounts,
  NO_REQUESTS,
  plusCounts,
  type RequestCounts,
  type RequestTally,
} from '../engine/request-tally.ts';

const EARLIER_MS = 12 * 60 * 60 * 1000;
const EARLIER_MAX = 2;

/** Counts at a time. */
export interface AskedAt extends RequestCounts {
  readonly atMs: number;
}

/** What the archivers of a stream have asked of the archive, as its head says. */
export interface Asked extends RequestCounts {
  /** Since when it is counted. */
  readonly sinceMs: number;
  /** The same at up to two earlier times, half a day apart, oldest first: the rate is measured from the older one. */
  readonly earlier: readonly AskedAt[];
}

/** Goes on with a head's counts. */
export class AskedCounter {
  readonly #tally: RequestTally;
  readonly #before: RequestCounts;
  #asked: Asked;

  constructor(found: Asked | undefined, tally: RequestTally, nowMs: number) {
    this.#tally = tally;
    // the swap that published what was found could not count itself
    this.#before = found ? plusCounts(found, { ...NO_REQUESTS, puts: 1 }) : NO_REQUESTS;
    this.#asked = found ?? {
      ...NO_REQUESTS,
      sinceMs: nowMs,
      earlier: [{ ...NO_REQUESTS, atMs: nowMs }],
    };
  }

  /** Everything up to now, to be published. */
  at(nowMs: number): Asked {
    const counts = plusCounts(this.#before, this.#tally.counts);
    const { sinceMs, earlier } = this.#asked;
    const isDue = nowMs - (earlier.at(-1)?.atMs ?? 0) >= EARLIER_MS;
    this.#asked = {
      ...counts,
      sinceMs,
      earlier: isDue ? [...earlier, { ...counts, atMs: nowMs }].slice(-EARLIER_MAX) : earlier,
    };
    return this.#asked;
  }
}

/** What was asked for in the last 12 to 24 hours, or since the counting began; and how long that is, ms, at least 1. */
export const recentlyAsked = (asked: Asked, nowMs: number): { counts: RequestCounts; ms: number } => {
  const [from = { ...NO_REQUESTS, atMs: asked.sinceMs }] = asked.earlier;
  return { counts: minusCounts(asked, from), ms: Math.max(1, nowMs - from.atMs) };
};

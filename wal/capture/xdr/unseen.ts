import type { XdrGap } from './xdr-report.ts';

/** Times that are told one by one; the two oldest become one. */
const TIMES_MAX = 64;
/** Times of a namespace that are no further apart are one, ms. */
const NEAR_MS = 1000;
const WHY = 'a change came after a later one of its record, and was not logged';

/**
 * Changes that were dropped as older than what is known of their record although nobody had seen them: as around a failover of the source. History
 * lacks them from their own time to that of the later one, and no generation needs to tell.
 */
export class Unseen {
  #times: XdrGap[] = [];
  count = 0;
  /** It is not what {@link stored} said last. */
  hasChanged = false;

  get gaps(): readonly XdrGap[] {
    return this.#times;
  }

  /** A change at `lutMs`; what is known of the record is of `laterMs`. */
  add(namespace: string, lutMs: number, laterMs: number): void {
    this.count++;
    this.hasChanged = true;
    const time = { sinceMs: lutMs - 1, untilMs: laterMs };
    const near = this.#times.findIndex(
      (t) =>
        t.namespace === namespace &&
        time.sinceMs <= (t.untilMs as number) + NEAR_MS &&
        time.untilMs >= t.sinceMs - NEAR_MS,
    );
    if (near >= 0) this.#times[near] = joined(this.#times[near], { namespace, why: WHY, ...time });
    else this.#times.push({ namespace, why: WHY, ...time });
    while (this.#times.length > TIMES_MAX) {
      const [a, b] = this.#times.splice(0, 2);
      this.#times.unshift(joined(a, b));
    }
  }

  stored(): readonly XdrGap[] {
    this.hasChanged = false;
    return this.#times;
  }

  static from(stored: readonly XdrGap[] | undefined): Unseen {
    const unseen = new Unseen();
    unseen.#times = [...(stored ?? [])];
    return unseen;
  }
}

/** Of several namespaces: `*`. */
const joined = (a: XdrGap, b: XdrGap): XdrGap => ({
  namespace: a.namespace === b.namespace ? a.namespace : '*',
  sinceMs: Math.min(a.sinceMs, b.sinceMs),
  untilMs: Math.max(a.untilMs as number, b.untilMs as number),
  why: a.why,
});

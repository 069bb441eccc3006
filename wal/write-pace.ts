/** Average of writes that blocked, ms, above which they stop doing so. */
const BLOCK_MS = 0.3;
/** One write counts for at most so much, ms: the odd slow one among fast ones changes nothing, a few in a row do. */
const SLOW_MS = 2;
const WEIGHT = 1 / 64;
/** What a write through the thread pool took is never less than it would have blocked: below this, ms, blocking is tried. */
const TRY_MS = 2;
/** Not again for so long after blocking was too slow, ms: a disk of 1 ms then blocks for some 10 ms each second. */
const RETRY_MS = 1000;

/**
 * Whether the log's next small write blocks the event loop or goes through the thread pool: on a fast disk the way there and
 * back takes longer than write and sync together, on a slow one blocking would stop every reader. Times are ms.
 */
export class WritePace {
  #average = 0;
  #blocks = false;
  #notBefore = 0;

  get blocks(): boolean {
    return this.#blocks;
  }

  /** A write blocked from `start` to `end`. */
  blocked(start: number, end: number): void {
    this.#average += (Math.min(end - start, SLOW_MS) - this.#average) * WEIGHT;
    if (this.#average <= BLOCK_MS) return;
    this.#blocks = false;
    this.#notBefore = end + RETRY_MS;
  }

  /** A write through the thread pool was under way from `start` to `end`. */
  waited(start: number, end: number): void {
    if (this.#blocks || end - start > TRY_MS || end < this.#notBefore) return;
    this.#blocks = true;
    this.#average = BLOCK_MS / 2;
  }
}

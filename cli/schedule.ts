import { Cron, CronPattern } from 'croner';
import { type Clock, systemClock } from '../engine/clock.ts';

/** The first instant after `afterMs` at which to run, or undefined when there is none. Epoch ms. */
export type NextRun = (afterMs: number) => number | undefined;

export interface ScheduleOptions {
  readonly nextRun: NextRun;
  /** Receives the instant that it was due at, which is not the instant at which it runs. */
  readonly job: (dueMs: number) => Promise<void>;
  /** A failed run does not end the schedule; this is where its error goes. */
  readonly onError: (error: unknown) => void;
  readonly clock?: Clock;
}

/**
 * Timers do not follow a clock that is set, and setTimeout ends at 24.8 days: a long wait is made of short ones, each of
 * which looks at the clock again.
 */
const WAIT_MS_MAX = 30_000;
/** A clock set back further than this has been corrected, not adjusted. */
const CLOCK_STEP_MS = 60_000;

/**
 * The runs of a cron pattern (5 fields, or 6 with seconds; local time, as crontab has it).
 *
 * @throws what croner throws on a pattern that it cannot read, or an Error when it never comes due
 */
export function cronRuns(pattern: string): NextRun {
  // Cron also takes a single date; CronPattern refuses it, and so do we: a schedule that runs once is a mistake.
  new CronPattern(pattern);
  const cron = new Cron(pattern, { paused: true });
  if (cron.nextRun() === null) throw new Error(`the pattern "${pattern}" never comes due`);
  return (afterMs) => cron.nextRun(new Date(afterMs))?.getTime();
}

/**
 * Runs an async job on a schedule. Two runs never overlap: one that comes due while the previous is still going is skipped
 * and counted. Every run is derived from the instant at which the last was due, not from when it started, so that
 * lateness does not add up. If the machine slept through several runs, one is made at waking.
 */
export class Schedule {
  readonly #options: ScheduleOptions;
  readonly #clock: Clock;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #dueMs: number | undefined;
  #seenMs: number;
  #skippedCount = 0;
  #stopped = false;

  constructor(options: ScheduleOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#seenMs = this.#clock.nowMs();
    this.#dueMs = options.nextRun(this.#seenMs);
    this.#wait();
  }

  /** When the next run is due, epoch ms; undefined after {@link stop} or when the pattern has no more runs. */
  get nextMs(): number | undefined {
    return this.#stopped ? undefined : this.#dueMs;
  }

  /** Runs that were left out because the previous one was still going. */
  get skippedCount(): number {
    return this.#skippedCount;
  }

  /** No run starts after this call; returns when the one that is going has ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #wait(): void {
    if (this.#stopped || this.#dueMs === undefined) return;
    const delayMs = Math.max(0, Math.min(this.#dueMs - this.#clock.nowMs(), WAIT_MS_MAX));
    this.#timer = setTimeout(() => this.#wake(), delayMs);
  }

  #wake(): void {
    const nowMs = this.#clock.nowMs();
    // A clock that was years ahead and is put right would leave the next run years away.
    if (nowMs < this.#seenMs - CLOCK_STEP_MS) this.#dueMs = this.#options.nextRun(nowMs);
    this.#seenMs = nowMs;
    // Timers may fire up to 1 ms early: then this only waits again.
    if (this.#dueMs !== undefined && nowMs >= this.#dueMs) {
      this.#run(this.#dueMs);
      const afterMs = this.#options.nextRun(this.#dueMs);
      this.#dueMs = afterMs !== undefined && afterMs <= nowMs ? this.#options.nextRun(nowMs) : afterMs;
    }
    this.#wait();
  }

  #run(dueMs: number): void {
    if (this.#running !== undefined) {
      this.#skippedCount++;
      return;
    }
    // Cleared here and not in #attempt: a job that throws at once would clear it before it is set.
    this.#running = this.#attempt(dueMs).finally(() => {
      this.#running = undefined;
    });
  }

  async #attempt(dueMs: number): Promise<void> {
    try {
      await this.#options.job(dueMs);
    } catch (error) {
      this.#options.onError(error);
    }
  }
}

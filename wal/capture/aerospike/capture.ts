import { sleep, systemTiming, type Timing } from '../../../engine/aerospike/client/timing.ts';
import type { PollReport } from './poll-report.ts';
import type { Poller } from './poller.ts';

export interface CaptureOptions {
  /** From the beginning of a poll to that of the next, ms. Default 1,000. */
  readonly intervalMs?: number;
  /** After failures waits double up to this, ms. Default 30,000. */
  readonly backoffMsMax?: number;
  readonly timing?: Timing;
  readonly onReport?: (report: PollReport) => void;
  /** A poll failed; the next one finds what it did not. */
  readonly onError?: (error: unknown) => void;
  /** What can only be ended by opening the directory anew. */
  readonly isFatal?: (error: unknown) => boolean;
}

/** How a capture ended. */
export type CaptureEnd =
  | { readonly kind: 'closed' }
  | { readonly kind: 'copy-again'; readonly why: string }
  | { readonly kind: 'failed'; readonly error: unknown };

/** Polls at an interval until it is closed, or cannot go on. */
export class Capture {
  /** Resolves when no poll is under way and none will be. */
  readonly ended: Promise<CaptureEnd>;
  readonly #poller: Poller;
  readonly #options: CaptureOptions;
  readonly #timing: Timing;
  readonly #closing = new AbortController();

  constructor(poller: Poller, options: CaptureOptions = {}) {
    this.#poller = poller;
    this.#options = options;
    this.#timing = options.timing ?? systemTiming;
    this.ended = this.#run();
  }

  /** Ends the poll that is under way as soon as it can be, and resolves then. */
  async close(): Promise<CaptureEnd> {
    this.#closing.abort();
    return this.ended;
  }

  async #run(): Promise<CaptureEnd> {
    const { intervalMs = 1000, backoffMsMax = 30_000, onReport, onError, isFatal } = this.#options;
    const { signal } = this.#closing;
    for (let failures = 0; !signal.aborted; ) {
      const startedMs = this.#timing.nowMs();
      let waitMs = intervalMs;
      try {
        const report = await this.#poller.poll(signal);
        failures = 0;
        onReport?.(report);
        if (report.copyAgain !== undefined) return { kind: 'copy-again', why: report.copyAgain };
      } catch (error) {
        if (signal.aborted) break;
        onError?.(error);
        if (isFatal?.(error)) return { kind: 'failed', error };
        waitMs = Math.min(backoffMsMax, intervalMs * 2 ** Math.min(failures++, 20));
      }
      const tookMs = this.#timing.nowMs() - startedMs;
      await sleep(this.#timing, Math.max(0, waitMs - tookMs), signal);
    }
    return { kind: 'closed' };
  }
}

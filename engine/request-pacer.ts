import type { Timing } from './timing.ts';

/** How much of a provider one store uses at a time. */
export interface PacerLimits {
  /** Requests in flight; further ones wait in their order. */
  readonly requestsMax: number;
  /** Bytes a second, both directions together; undefined: no limit. */
  readonly bytesPerSecond?: number;
}

/** Bounds requests in flight, and bytes a second over all of them. */
export class RequestPacer {
  readonly #limits: PacerLimits;
  readonly #timing: Timing;
  readonly #waiting: (() => void)[] = [];
  #inFlight = 0;
  /** When the bytes that were let through so far are paid for. */
  #paidMs = 0;
  #lastMs = 0;

  constructor(limits: PacerLimits, timing: Timing) {
    this.#limits = limits;
    this.#timing = timing;
  }

  /** Runs one request when there is room for it. */
  async run<T>(request: () => Promise<T>): Promise<T> {
    if (this.#inFlight >= this.#limits.requestsMax)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#inFlight++;
    try {
      return await request();
    } finally {
      const next = this.#waiting.shift();
      // the place is handed on, so that nobody who comes now overtakes
      if (next) next();
      else this.#inFlight--;
    }
  }

  /** Waits until what passed before is paid for, then lets `bytes` more pass. */
  async pass(bytes: number): Promise<void> {
    const { bytesPerSecond } = this.#limits;
    if (bytesPerSecond === undefined || bytes === 0) return;
    const nowMs = this.#timing.nowMs();
    // a clock that was set back must not stop the traffic
    if (nowMs < this.#lastMs) this.#paidMs -= this.#lastMs - nowMs;
    this.#lastMs = nowMs;
    const fromMs = Math.max(nowMs, this.#paidMs);
    this.#paidMs = fromMs + (bytes / bytesPerSecond) * 1000;
    if (fromMs > nowMs) await this.#timing.pause(fromMs - nowMs);
  }
}

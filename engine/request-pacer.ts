import type { StoreObserver } from './store-observer.ts';
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
  readonly #observe: StoreObserver | undefined;
  readonly #waiting: (() => void)[] = [];
  #inFlight = 0;
  /** When the bytes that were let through so far are paid for. */
  #paidMs = 0;
  #lastMs = 0;

  constructor(limits: PacerLimits, timing: Timing, observe?: StoreObserver) {
    this.#limits = limits;
    this.#timing = timing;
    this.#observe = observe;
  }

  /** Runs one request when there is room for it. */
  async run<T>(request: () => Promise<T>): Promise<T> {
    if (this.#inFlight >= this.#limits.requestsMax) await this.#place();
    else this.#inFlight++;
    this.#observe?.({ kind: 'flight', change: 1 });
    try {
      return await request();
    } finally {
      this.#observe?.({ kind: 'flight', change: -1 });
      const next = this.#waiting.shift();
      // the place is handed on, so that nobody who comes now overtakes
      if (next) next();
      else this.#inFlight--;
    }
  }

  /** Waits for the place of a request that ends. */
  async #place(): Promise<void> {
    const startMs = this.#timing.nowMs();
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
    // the clock may have been set back meanwhile
    this.#observe?.({ kind: 'wait', reason: 'place', ms: Math.max(0, this.#timing.nowMs() - startMs) });
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
    if (fromMs <= nowMs) return;
    this.#observe?.({ kind: 'wait', reason: 'bandwidth', ms: fromMs - nowMs });
    await this.#timing.pause(fromMs - nowMs);
  }
}

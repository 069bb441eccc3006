/** A source of wall-clock time, integer ms since 1970. Passed in everywhere, so that a test or a simulation owns it. */
export interface Clock {
  nowMs(): number;
}

export const systemClock: Clock = { nowMs: () => Date.now() };

/** A clock that a test sets. */
export class ManualClock implements Clock {
  #nowMs: number;

  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** Moves the clock by `ms`, which may be negative: a clock step. */
  step(ms: number): void {
    this.#nowMs += ms;
  }
}

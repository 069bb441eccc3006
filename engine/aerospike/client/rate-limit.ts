/** What may pass in a second; what is left out is not limited. */
export interface Rate {
  readonly recordsPerSecond?: number;
  readonly bytesPerSecond?: number;
}

/** What may pass at once after a quiet time. */
const CREDIT_MS = 100;

/**
 * Meters what has passed: {@link spend} says how long to wait before more may. Whole pages pass at once and are paid for
 * afterwards, so their size needs not be known before.
 */
export class RateLimit {
  readonly #msPerRecord: number;
  readonly #msPerByte: number;
  /** When everything that has passed is paid for. */
  #paidAtMs = Number.NEGATIVE_INFINITY;

  constructor({ recordsPerSecond, bytesPerSecond }: Rate) {
    this.#msPerRecord = recordsPerSecond ? 1000 / recordsPerSecond : 0;
    this.#msPerByte = bytesPerSecond ? 1000 / bytesPerSecond : 0;
  }

  /** Whether anything is limited. */
  get isSet(): boolean {
    return this.#msPerRecord + this.#msPerByte > 0;
  }

  /** Whether so much is more than should pass at once. */
  isMuch(records: number, bytes: number): boolean {
    return Math.max(records * this.#msPerRecord, bytes * this.#msPerByte) >= CREDIT_MS;
  }

  /** Ms to wait, 0 when there is nothing to wait for. */
  spend(records: number, bytes: number, nowMs: number): number {
    const costMs = Math.max(records * this.#msPerRecord, bytes * this.#msPerByte);
    if (costMs === 0) return 0;
    this.#paidAtMs = Math.max(this.#paidAtMs, nowMs - CREDIT_MS) + costMs;
    return Math.max(0, this.#paidAtMs - nowMs);
  }
}

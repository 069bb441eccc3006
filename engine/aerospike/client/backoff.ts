export interface Backoff {
  readonly firstMs: number;
  readonly maxMs: number;
}

export const DEFAULT_BACKOFF: Backoff = { firstMs: 20, maxMs: 1000 };

/**
 * Wait before attempt `attempt` (1 is the first repetition): doubles up to `maxMs`, and half of it is drawn, so that many clients that
 * failed together do not come back together. `random` gives [0, 1).
 */
export const backoffMs = ({ firstMs, maxMs }: Backoff, attempt: number, random: () => number): number =>
  Math.min(maxMs, firstMs * 2 ** Math.min(30, attempt - 1)) * (0.5 + random() / 2);

import type { Head } from './catalog.ts';
import { FANOUT, nextMerge } from './levels.ts';

/** What only the archive knows of, such as a full copy that ends a stretch, is looked at this often, ms. */
const LOOK_MS = 60_000;

export interface CompactionPaceOptions {
  readonly fanout?: number | undefined;
  /** After so long what was replaced is deleted, ms. */
  readonly retireMs: number;
}

/**
 * When compaction has certainly nothing to do. It is asked after every file that the writer seals; looking at the archive each time
 * would cost more requests than `--seal` saves.
 */
export class CompactionPace {
  readonly #options: CompactionPaceOptions;
  #settled: { readonly runs: Head['runs']; readonly lookMs: number } | undefined;

  constructor(options: CompactionPaceOptions) {
    this.#options = options;
  }

  /** Compaction has ended well, and nothing is left to merge in these runs. `monotonicMs` is of a clock that only goes forward. */
  settled({ runs }: Pick<Head, 'runs'>, monotonicMs: number): void {
    this.#settled = { runs, lookMs: monotonicMs + LOOK_MS };
  }

  /** `nowMs` is of the clock that stamps retirements. */
  isSettled({ runs, retired }: Pick<Head, 'runs' | 'retired'>, nowMs: number, monotonicMs: number): boolean {
    const { fanout = FANOUT, retireMs } = this.#options;
    if (!this.#settled || monotonicMs >= this.#settled.lookMs) return false;
    if (retired.some((r) => r.sinceMs + retireMs <= nowMs)) return false;
    // ends of full copies only forbid merges of a group, so that without a group there is no need to know them
    return runs === this.#settled.runs || nextMerge(runs, { fanout, borders: [] }) === undefined;
  }
}

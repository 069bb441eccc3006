import { PartitionSet } from '../../../engine/partition.ts';

/** Whose turn it is to be compared in full: each partition once in `sweepMs`, in order. */
export class SweepTurn {
  readonly #partitions: readonly number[];
  readonly #sweepMs: number;
  #next = 0;
  #debt = 0;
  #atMs: number | undefined;

  constructor(partitions: readonly number[], sweepMs: number) {
    this.#partitions = partitions;
    this.#sweepMs = sweepMs;
  }

  /** As many as the time since the last call is worth. */
  take(nowMs: number): PartitionSet {
    const size = this.#partitions.length;
    this.#debt += (size * (nowMs - (this.#atMs ?? nowMs))) / this.#sweepMs;
    this.#atMs = nowMs;
    const n = Math.min(size, Math.floor(this.#debt));
    this.#debt = Math.min(this.#debt - n, size);
    const due = Array.from({ length: n }, (_, i) => this.#partitions[(this.#next + i) % size]);
    this.#next = (this.#next + n) % size;
    return PartitionSet.of(due.map((start) => ({ start, end: start + 1 })));
  }
}

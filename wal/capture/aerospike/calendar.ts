import { PARTITIONS, type PartitionSet } from '../../../engine/partition.ts';
import type { RecordIndex } from '../record-index.ts';

/** Seconds for which a walk of the index is good. */
const HORIZON_S = 3600;

/**
 * How many rows of a namespace expire when, by groups of partitions: those that have expired already and are still in the index, and those
 * that will within the hour. So a poll knows how many rows its filter should count without reading the index.
 */
export class Calendar {
  readonly #groupOf = new Uint8Array(PARTITIONS);
  #groups: Map<number, number>[] = [];
  #horizonS = 0;

  /** Whether it has to be made anew to say what expires up to `second`. */
  isOver(second: number): boolean {
    return second >= this.#horizonS;
  }

  /** Reads all rows. `groups`: which partitions are counted together. */
  rebuild(index: RecordIndex, namespace: number, groups: readonly PartitionSet[], nowS: number): void {
    this.#horizonS = nowS + HORIZON_S;
    this.#groups = groups.map(() => new Map());
    for (const [group, partitions] of groups.entries())
      for (const { start, end } of partitions.ranges)
        for (let partition = start; partition < end; partition++) {
          this.#groupOf[partition] = group;
          if (index.count(namespace, partition) === 0) continue;
          const rows = index.partition(namespace, partition);
          for (let i = 0; i < rows.length; i++) this.#count(group, rows.voidTimeS(i), 1);
        }
  }

  /** A row's void time changed; 0: it has none, or there is no row. */
  change(partition: number, from: number, to: number): void {
    if (from === to || this.#groups.length === 0) return;
    this.#count(this.#groupOf[partition], from, -1);
    this.#count(this.#groupOf[partition], to, 1);
  }

  /** Rows of a group with a void time in `[from, to)`. */
  expiring(group: number, from: number, to: number): number {
    let rows = 0;
    for (const [second, n] of this.#groups[group]) if (second >= from && second < to) rows += n;
    return rows;
  }

  #count(group: number, second: number, change: number): void {
    if (second === 0 || second >= this.#horizonS) return;
    const counts = this.#groups[group];
    const n = (counts.get(second) ?? 0) + change;
    if (n === 0) counts.delete(second);
    else counts.set(second, n);
  }
}

import { PitrError } from '../../errors.ts';
import { DIGEST_BYTES, PARTITIONS, PartitionSet, partitionOf } from '../../partition.ts';
import type { QueryPartition } from '../partition-query.ts';

const State = { absent: 0, waiting: 1, done: 2 } as const;

/** Where each partition of a scan stands. A point moves only down (N2). */
export class ScanPlan {
  readonly #states = new Uint8Array(PARTITIONS);
  readonly #after: (Buffer | undefined)[] = new Array<Buffer | undefined>(PARTITIONS).fill(undefined);
  #waiting = 0;

  /** @throws usage: a partition twice, or a digest of another one */
  constructor(points: Iterable<QueryPartition>) {
    for (const { partition, after } of points) {
      const isWrong =
        !Number.isInteger(partition) ||
        partition < 0 ||
        partition >= PARTITIONS ||
        this.#states[partition] !== State.absent ||
        (after && (after.length !== DIGEST_BYTES || partitionOf(after) !== partition));
      if (isWrong)
        throw new PitrError('usage', { what: `a scan cannot begin at this point of partition ${partition}` });
      this.#states[partition] = State.waiting;
      this.#after[partition] = after;
      this.#waiting++;
    }
  }

  static points(partitions: PartitionSet): QueryPartition[] {
    return partitions.ranges.flatMap(({ start, end }) =>
      Array.from({ length: end - start }, (_, i) => ({ partition: start + i, after: undefined })),
    );
  }

  get isDone(): boolean {
    return this.#waiting === 0;
  }

  /** What is left to read. */
  waiting(): QueryPartition[] {
    const points: QueryPartition[] = [];
    for (let p = 0; p < PARTITIONS; p++)
      if (this.#states[p] === State.waiting) points.push({ partition: p, after: this.#after[p] });
    return points;
  }

  point(partition: number): QueryPartition {
    return { partition, after: this.#after[partition] };
  }

  advance(partition: number, after: Buffer): void {
    this.#after[partition] = after;
  }

  finish(partition: number): void {
    if (this.#states[partition] === State.waiting) this.#waiting--;
    this.#states[partition] = State.done;
  }

  /** For messages: `0-12,4000`. */
  waitingText(): string {
    return PartitionSet.of(
      this.waiting().map(({ partition }) => ({ start: partition, end: partition + 1 })),
    ).toString();
  }
}

const PARTITIONS_FIRST = 16;
const RECORDS_FIRST = 256;
const RECORDS_MAX = 100_000;
/** By how much a size may grow from page to page: what was seen so far may not be what comes. */
const GROWTH_MAX = 8;

/** How much the next page of a node asks for, from what the last ones had. */
export class PageSize {
  readonly #bytesWanted: number;
  partitions = PARTITIONS_FIRST;
  records = RECORDS_FIRST;

  constructor(bytesWanted: number) {
    this.#bytesWanted = bytesWanted;
  }

  learn(partitions: number, records: number, bytes: number, isFull: boolean): void {
    if (records > 0) {
      const fitting = Math.floor((this.#bytesWanted * records) / bytes);
      this.records = Math.max(1, Math.min(fitting, RECORDS_MAX, this.records * GROWTH_MAX));
    }
    const fitting = isFull
      ? partitions / 2
      : records === 0
        ? PARTITIONS
        : (0.8 * this.records * partitions) / records;
    this.partitions = Math.max(1, Math.min(Math.floor(fitting), PARTITIONS, partitions * GROWTH_MAX));
  }

  /** After a page that was too large or could not be verified. */
  shrink(): void {
    this.records = Math.max(1, Math.floor(this.records / GROWTH_MAX));
    this.partitions = Math.max(1, Math.floor(this.partitions / GROWTH_MAX));
  }
}

/** The size of each node's pages. Scans of one namespace may share it. */
export class PageSizes {
  readonly bytesWanted: number;
  readonly #sizes = new WeakMap<object, PageSize>();

  constructor(bytesWanted: number) {
    this.bytesWanted = bytesWanted;
  }

  of(node: object): PageSize {
    let size = this.#sizes.get(node);
    if (!size) {
      size = new PageSize(this.bytesWanted);
      this.#sizes.set(node, size);
    }
    return size;
  }
}

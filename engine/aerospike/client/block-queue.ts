import type { RecordBlock } from './record-block.ts';

/** A block, or what the consumer's having taken all before it means. */
type Item = RecordBlock | (() => void);

/** Between the sockets of a scan and its consumer. Pages ask for room before they ask a node, so that what arrives can always be taken (N4). */
export class BlockQueue {
  readonly #bytesMax: number;
  readonly #items: Item[] = [];
  #bytes = 0;
  #reserved = 0;
  #isEnded = false;
  #error: unknown;
  #wakeConsumer: (() => void) | undefined;
  #waiting: (() => void)[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get isFull(): boolean {
    return this.#bytes > this.#bytesMax;
  }

  /** Resolves when a page of about `bytes` has room; one always has. Ends early when the queue has ended. */
  async reserve(bytes: number): Promise<void> {
    while (!this.#isEnded && this.#bytes + this.#reserved > 0) {
      if (this.#bytes + this.#reserved + bytes <= this.#bytesMax / 2) break;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#reserved += bytes;
  }

  unreserve(bytes: number): void {
    this.#reserved -= bytes;
    this.#wakeWaiting();
  }

  push(block: RecordBlock): void {
    this.#bytes += block.bytes.length;
    this.#put(block);
  }

  /** `run` is called when the consumer has come back from all that was pushed before (N3). */
  mark(run: () => void): void {
    this.#put(run);
  }

  /** No more; with an error that is what the consumer gets after all that was pushed. */
  end(error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    this.#wakeConsumer?.();
    this.#wakeWaiting();
  }

  /** The next block; undefined: that was the last. @throws what {@link end} was given */
  async next(): Promise<RecordBlock | undefined> {
    for (;;) {
      const item = this.#items.shift();
      if (typeof item === 'function') item();
      else if (item) {
        this.#bytes -= item.bytes.length;
        this.#wakeWaiting();
        return item;
      } else if (this.#isEnded) {
        if (this.#error !== undefined) throw this.#error;
        return undefined;
      } else await new Promise<void>((resolve) => (this.#wakeConsumer = resolve));
    }
  }

  #put(item: Item): void {
    this.#items.push(item);
    this.#wakeConsumer?.();
    this.#wakeConsumer = undefined;
  }

  #wakeWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

/**
 * Stored bytes that the cursors of a merge may have read ahead of it, beyond the one fetch that each of them always has. Of a store
 * that answers late, much must be on its way at once; the bound keeps that from growing with the data.
 */
export class ReadAhead {
  readonly bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** Bytes that are on their way or wait to be merged. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True when there was room, which is then taken until {@link give}. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > this.bytesMax) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

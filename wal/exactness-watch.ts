import { FLAG } from './block.ts';
import type { TruncateEvent } from './event.ts';
import { type Doubt, doubtOfChosen, doubtOfNext, type InexactRecord } from './exactness.ts';
import type { RunCursor } from './run-cursor.ts';
import { hides, type Truncation, withMask } from './truncation.ts';

/** Which records are inexact at T, and who is told. Only for a history of which something was found, not made. */
export interface ExactnessOptions {
  /** The target's timeline forked here: what it has inherited is as it was restored, and so exact. -1: it did not. */
  readonly sinceTs: number;
  /** Truncations of this timeline that leave open whether they had taken effect by T. */
  readonly truncations: readonly TruncateEvent[];
  /** Does anybody want to know about the row's record? */
  readonly isWanted: (cursor: RunCursor) => boolean;
  /** Told once for each record. May say (true) that it wants to be drained. */
  readonly found: (record: InexactRecord) => boolean;
}

/** Follows the rows of one record after the other, ts descending, and tells which are inexact at T. */
export class ExactnessWatch {
  readonly #ts: number;
  readonly #options: ExactnessOptions;
  readonly #truncations: readonly Truncation[];
  /** What the nearest version after T that was seen says; the one that is nearest in the end counts. */
  #after: InexactRecord | undefined;
  #record: InexactRecord | undefined;

  constructor(ts: number, options: ExactnessOptions) {
    this.#ts = ts;
    this.#options = options;
    this.#truncations = options.truncations.map(withMask);
  }

  after(cursor: RunCursor): void {
    this.#after = this.#told(cursor, doubtOfNext(cursor.block, cursor.row, this.#ts));
  }

  chosen(cursor: RunCursor): void {
    const { block, row } = cursor;
    const own = block.ts(row) > this.#options.sinceTs ? doubtOfChosen(block, row, this.#ts) : undefined;
    let record = this.#told(cursor, own);
    if (!(block.flags[row] & FLAG.delete))
      for (const e of this.#truncations)
        if (hides(e, cursor)) record = this.#told(cursor, doubtOf(e), record);
    this.#record = record;
    // a delete after T does not tell the stored key; what it deleted does
    if (this.#after && !this.#after.image) this.#after = { ...this.#after, image: imageOf(cursor) };
  }

  /** Ends a record. Returns what the one who is told says. */
  next(): boolean {
    const [chosen, after] = [this.#record, this.#after];
    if (!chosen && !after) return false;
    this.#record = undefined;
    this.#after = undefined;
    const record = chosen ?? (after as InexactRecord);
    const image = chosen?.image ?? after?.image;
    const doubts = [...(after?.doubts ?? []), ...(chosen?.doubts ?? [])];
    return this.#options.found({ ...record, image, doubts });
  }

  #told(cursor: RunCursor, doubt: Doubt | undefined, so?: InexactRecord): InexactRecord | undefined {
    if (!doubt) return so;
    if (so) return { ...so, doubts: [...so.doubts, doubt] };
    if (!this.#options.isWanted(cursor)) return undefined;
    const { block, row, reader } = cursor;
    const { namespaces, sets } = reader.properties;
    return {
      namespace: namespaces[block.namespace],
      set: sets[block.set[row]],
      sortKey: block.sortKey(row),
      image: imageOf(cursor),
      doubts: [doubt],
    };
  }
}

/** A copy: the block may be gone when the record ends. */
const imageOf = ({ block, row }: RunCursor): Uint8Array | undefined =>
  block.flags[row] & FLAG.delete ? undefined : block.heap.slice(block.imageStart(row), block.heapEnd[row]);

const doubtOf = (e: TruncateEvent): Doubt => ({
  by: 'truncation',
  ts: e.ts,
  missed: 0,
  window: { startMs: e.windowStartMs as number, endMs: e.windowEndMs as number },
});

import { giveBack } from './give-back.ts';
import { entryEnd, PAGE_ENTRY_BYTES } from './page.ts';
import { DIGEST_BYTES } from './partition.ts';

/** A record of the store: key and value, copies. */
export interface Row {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Walks the entries of pages in key order; what it stands on is described by its fields, without an object for a record. */
export class PageWalk {
  /** The page, where the entry in it starts, and where it ends. Its memory is given back when the walk leaves it. */
  page: Buffer = Buffer.alloc(0);
  at = 0;
  end = 0;
  /** What precedes the sort key in the store keys of this page. */
  prefix: Buffer = Buffer.alloc(0);
  readonly #pages: Iterator<Row>;
  readonly #dir: string;

  constructor(pages: Iterator<Row>, dir: string) {
    this.#pages = pages;
    this.#dir = dir;
  }

  /** Goes on to the next entry; false at the end. @throws store-corrupt */
  next(): boolean {
    this.at = this.end;
    while (this.at === this.page.length) {
      const next = this.#pages.next();
      if (next.done) return false;
      const { key, value } = next.value;
      giveBack([this.page]);
      this.page = value;
      this.prefix = key.subarray(0, key.length - 4);
      this.at = 0;
    }
    this.end = entryEnd(this.page, this.at, this.#dir);
    return true;
  }

  get valueStart(): number {
    return this.at + PAGE_ENTRY_BYTES;
  }

  /** The entry as a row of its own. */
  row(): Row {
    return {
      key: Buffer.concat([this.prefix, this.page.subarray(this.at, this.at + DIGEST_BYTES)]),
      value: Buffer.from(this.page.subarray(this.valueStart, this.end)),
    };
  }

  /** Order of a store key and this entry's. */
  compare(key: Buffer): number {
    const split = key.length - DIGEST_BYTES;
    return (
      key.compare(this.prefix, 0, this.prefix.length, 0, split) ||
      key.compare(this.page, this.at, this.at + DIGEST_BYTES, split)
    );
  }

  close(): void {
    this.#pages.return?.();
  }
}

/**
 * Rows that lie beside the pages and entries of pages as one sequence in key order: a row, or the walk standing on an entry. A row hides
 * the entry of the same key; without value it is a tombstone and says only that.
 */
export function* rowsAndPages(rows: Iterator<Row>, pages: PageWalk): Generator<Row | PageWalk> {
  try {
    let row = rows.next();
    let paged = pages.next();
    while (paged || !row.done) {
      const order = row.done ? 1 : paged ? pages.compare(row.value.key) : -1;
      if (order > 0) {
        yield pages;
        paged = pages.next();
        continue;
      }
      if (!row.done && row.value.value.length > 0) yield row.value;
      if (order === 0) paged = pages.next();
      row = rows.next();
    }
  } finally {
    rows.return?.();
    pages.close();
  }
}

import { PitrError } from '../engine/errors.ts';
import { PARTITIONS } from '../engine/partition.ts';
import { ROW_BYTES, renumberSets } from '../wal/capture/index-row.ts';
import type { Journal } from '../wal/capture/journal.ts';
import type { CopiedRows } from './copy-job.ts';

/** Rows that one transaction takes: each is a sync. */
const LOAD_BYTES = 8 * 1024 * 1024;

interface Part {
  readonly partition: number;
  readonly rows: Buffer;
}

/** Rows of a copy on their way into a journal's index, many partitions in one transaction, and each partition once. */
export class IndexLoad {
  readonly #journal: Journal;
  readonly #missing: Map<string, Uint8Array>;
  #namespace = '';
  #parts: Part[] = [];
  #bytes = 0;

  constructor(journal: Journal, namespaces: readonly string[]) {
    this.#journal = journal;
    this.#missing = new Map(namespaces.map((namespace) => [namespace, journal.partitions.toMask()]));
  }

  /** Returns how many rows there are. */
  add({ namespace, sets, parts, buffer }: CopiedRows): number {
    const rows = Buffer.from(buffer);
    renumberSets(
      rows,
      sets.map((set) => this.#journal.setId(namespace, set)),
    );
    if (namespace !== this.#namespace) this.#store();
    this.#namespace = namespace;
    const missing = this.#missing.get(namespace) ?? new Uint8Array(PARTITIONS);
    let at = 0;
    for (const { partition, rows: count } of parts) {
      if (missing[partition] === 0)
        throw new PitrError('internal', { what: `partition ${partition} of ${namespace} was copied again` });
      missing[partition] = 0;
      const end = at + count * ROW_BYTES;
      this.#parts.push({ partition, rows: rows.subarray(at, end) });
      at = end;
    }
    this.#bytes += rows.length;
    if (this.#bytes >= LOAD_BYTES) this.#store();
    return rows.length / ROW_BYTES;
  }

  /** @throws internal: a partition was not copied */
  finish(): void {
    this.#store();
    for (const [namespace, missing] of this.#missing)
      if (missing.includes(1))
        throw new PitrError('internal', {
          what: `partition ${missing.indexOf(1)} of ${namespace} was not copied`,
        });
  }

  #store(): void {
    if (this.#parts.length > 0) this.#journal.load(this.#namespace, this.#parts);
    this.#parts = [];
    this.#bytes = 0;
  }
}

import { Info2 } from '../../engine/aerospike/bits.ts';
import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { RecordBlock } from '../../engine/aerospike/client/record-block.ts';
import { ResultCode, resultCodeName } from '../../engine/aerospike/result-code.ts';
import { PitrError } from '../../engine/errors.ts';
import { digestOfSortKey, PartitionSet } from '../../engine/partition.ts';
import type { ClusterJob } from './cluster-job.ts';
import { lastUpdateBefore } from './range-load.ts';
import { Fate, RangeTable } from './range-table.ts';
import { RowSender } from './row-sender.ts';
import { digestWordAt, type FoundPlace, FoundPlaces, scanScope, sortWord } from './scope-scan.ts';

/** Records that the target has of what is in question, and the state has not: each once, although a scan may give it twice. */
export class Others {
  readonly #client: AerospikeClient;
  readonly #job: ClusterJob;
  readonly #table = new RangeTable();
  readonly #places = new FoundPlaces();
  readonly #areNew: boolean[] = [];
  deleted = 0;
  /** Somebody wrote them since the restore began. */
  notDeleted = 0;

  constructor(client: AerospikeClient, job: ClusterJob) {
    this.#client = client;
    this.#job = job;
  }

  /** A record of scope number `scope`. What transactions left does not count. */
  found(scope: number, block: RecordBlock, i: number): void {
    const place = this.#places.of(this.#job.scopes[scope].namespace, block, i);
    if (place.isMonitor) return;
    const w0 = sortWord(block, i);
    const [w1, w2, w3, w4] = [1, 2, 3, 4].map((n) => digestWordAt(block, i, n));
    this.#table.place(place.number, scope);
    if (this.#table.find(scope, w0, w1, w2, w3, w4) >= 0) return;
    const entry = this.#table.add(place.number, w0, w1, w2, w3, w4, 0, 0, 0);
    if (!this.#isNew(place)) return;
    this.notDeleted++;
    this.#table.setFate(entry, Fate.kept);
  }

  /** Of a set that the archive has never had, which the plan would have refused: it came since (C11). */
  #isNew({ number, namespace, set }: FoundPlace): boolean {
    const { knownSets } = this.#job;
    this.#areNew[number] ??= knownSets !== undefined && !knownSets.has(`${namespace}/${set}`);
    return this.#areNew[number];
  }

  /** Digests of those that are there and must not be. */
  left(): Buffer[] {
    const left: Buffer[] = [];
    for (let entry = 0; entry < this.#table.length; entry++)
      if (this.#table.fate(entry) === Fate.sent) left.push(digestOfSortKey(this.#table.sortKey(entry)));
    return left;
  }

  /** Deletes them, and looks whether they are gone (C5). @throws aerospike-… */
  async delete(): Promise<void> {
    const table = this.#table;
    if (table.length === 0) return;
    const sender = this.#sender();
    for (let entry = 0; entry < table.length; entry++) {
      if (table.fate(entry) === Fate.kept) continue;
      const place = this.#places.all[table.placeOf(entry)];
      const words = table.words(entry);
      const batch = sender.batchFor(place, words[0] >>> 20);
      batch.bare(place, entry, words, 0, this.#filter);
      if (sender.added(batch)) await sender.room();
    }
    await sender.finish();
    await this.#look();
  }

  /** Those that are still there are left; what was deleted and is gone is written off. */
  async #look(): Promise<void> {
    const table = this.#table;
    const partitions = new Set<number>();
    for (let entry = 0; entry < table.length; entry++) partitions.add(table.word(entry, 0) >>> 20);
    const wanted = PartitionSet.of([...partitions].map((p) => ({ start: p, end: p + 1 })));
    for (const [scope, where] of this.#job.scopes.entries())
      for await (const block of scanScope(this.#client, where, wanted, 'none'))
        for (let i = 0; i < block.length; i++) {
          const [w1, w2, w3, w4] = [1, 2, 3, 4].map((n) => digestWordAt(block, i, n));
          const entry = table.find(scope, sortWord(block, i), w1, w2, w3, w4);
          if (entry >= 0 && table.fate(entry) === Fate.written) table.setFate(entry, Fate.sent);
        }
  }

  get #filter(): Buffer | undefined {
    const { conflict, recheckOnly, startedMs } = this.#job;
    return conflict === 'keep-changed' || recheckOnly ? lastUpdateBefore(startedMs) : undefined;
  }

  #sender(): RowSender {
    const durable = this.#job.durableDeletes ? Info2.durableDelete : 0;
    const what = 'the deletion of a record';
    return new RowSender({
      client: this.#client,
      kind: { info1: 0, info2: Info2.write | Info2.delete | durable, info3: 0 },
      rowsMax: this.#job.batchRows,
      what,
      onCode: (batch, row, code) => {
        const entry = batch.tags[row];
        if (code === ResultCode.filteredOut) {
          this.notDeleted++;
          this.#table.setFate(entry, Fate.kept);
        } else if (code === ResultCode.ok || code === ResultCode.notFound) {
          if (code === ResultCode.ok) this.deleted++;
          this.#table.setFate(entry, Fate.written);
        } else throw new PitrError('aerospike-result', { what, code, name: resultCodeName(code) });
      },
    });
  }
}

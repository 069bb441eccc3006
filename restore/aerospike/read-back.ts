import { Info1 } from '../../engine/aerospike/bits.ts';
import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { fromWireVoidTime } from '../../engine/aerospike/epoch.ts';
import type { MessageView } from '../../engine/aerospike/message.ts';
import { ResultCode, resultCodeName } from '../../engine/aerospike/result-code.ts';
import { PitrError } from '../../engine/errors.ts';
import { digestOfSortKey, PartitionSet, partitionOf } from '../../engine/partition.ts';
import {
  type ClusterJob,
  type ClusterTally,
  NO_TALLY,
  SAMPLES_MAX,
  type Scope,
  VOID_TIME_OFF_S_MAX,
} from './cluster-job.ts';
import { Others } from './others.ts';
import type { RangeLoad } from './range-load.ts';
import { Fate } from './range-table.ts';
import { RowSender } from './row-sender.ts';
import { digestWordAt, scanScope, sortWord } from './scope-scan.ts';
import { Seeds, WireHash } from './wire-hash.ts';

/** A read must not count as one that extends the life of a record. */
const NEVER_TOUCH = 0xffffffff;

/** Gives the hash of records in canonical form, by entry of the table. */
export type Canonical = (entries: readonly number[]) => Promise<Map<number, readonly [number, number]>>;

/** Reads a range of the target back, compares it with the table of what should be there, and deletes what should not. */
export class ReadBack {
  readonly #client: AerospikeClient;
  readonly #job: ClusterJob;
  readonly #load: RangeLoad;
  readonly #partitions: PartitionSet;
  readonly #canonical: Canonical;
  readonly #others: Others;
  readonly #differing = new Set<number>();
  #readBack = 0;

  /** `partitions`: those that a scan reads; of the others everything has been seen. */
  constructor(
    client: AerospikeClient,
    job: ClusterJob,
    load: RangeLoad,
    partitions: PartitionSet,
    canonical: Canonical,
  ) {
    this.#client = client;
    this.#job = job;
    this.#load = load;
    this.#partitions = partitions;
    this.#canonical = canonical;
    this.#others = new Others(client, job);
  }

  /** Scans what is in question. @throws aerospike-… */
  async scan(): Promise<ClusterTally> {
    await this.#scan(this.#partitions, 'all');
    if (this.#job.mode === 'exact') await this.#others.delete();
    return this.#judge((differing) => this.#scanAgain(differing));
  }

  /** Reads the records of the table by their digests; stored keys are not compared, since answers have none. @throws aerospike-… */
  async byDigest(): Promise<ClusterTally> {
    const { table } = this.#load;
    const entries: number[] = [];
    for (let entry = 0; entry < table.length; entry++)
      if (table.fate(entry) !== Fate.refused) entries.push(entry);
    await this.#read(entries);
    return this.#judge((differing) => this.#read(differing));
  }

  /** Scans digests only and deletes: for who does not verify, and for `--recheck`. @throws aerospike-… */
  async deleteOthers(): Promise<ClusterTally> {
    await this.#scan(this.#partitions, 'none');
    await this.#others.delete();
    return this.#tally([], 0, 0);
  }

  /** `wanted`: only these entries, and nobody is a stranger. */
  async #scan(partitions: PartitionSet, bins: 'all' | 'none', wanted?: ReadonlySet<number>): Promise<void> {
    if (partitions.size === 0) return;
    for (const [number, scope] of this.#job.scopes.entries())
      await this.#scanScope(number, scope, partitions, bins, wanted);
  }

  async #scanScope(
    number: number,
    scope: Scope,
    partitions: PartitionSet,
    bins: 'all' | 'none',
    wanted: ReadonlySet<number> | undefined,
  ): Promise<void> {
    const { table, namespaces } = this.#load;
    const namespace = namespaces.indexOf(scope.namespace);
    const hash = new WireHash(true);
    const seeds = new Seeds(scope.namespace);
    for await (const block of scanScope(this.#client, scope, partitions, bins))
      for (let i = 0; i < block.length; i++) {
        const w0 = sortWord(block, i);
        const w1 = digestWordAt(block, i, 1);
        const w2 = digestWordAt(block, i, 2);
        const w3 = digestWordAt(block, i, 3);
        const w4 = digestWordAt(block, i, 4);
        const entry = namespace < 0 ? -1 : table.find(namespace, w0, w1, w2, w3, w4);
        if (wanted && !wanted.has(entry)) continue;
        if (entry < 0) this.#others.found(number, block, i);
        else if (bins === 'all') this.#compare(entry, seeds.of(block, i), block.message(i), hash);
      }
  }

  async #scanAgain(differing: readonly number[]): Promise<void> {
    const { table } = this.#load;
    const partitions = new Set(differing.map((entry) => table.word(entry, 0) >>> 20));
    const where = PartitionSet.of([...partitions].map((p) => ({ start: p, end: p + 1 })));
    await this.#scan(where, 'all', new Set(differing));
  }

  /** Reads records by their digests. */
  async #read(entries: readonly number[]): Promise<void> {
    const { table, places } = this.#load;
    const hash = new WireHash(false);
    const what = 'the reading back of a record';
    const sender = new RowSender({
      client: this.#client,
      kind: { info1: Info1.read | Info1.getAll, info2: 0, info3: 0 },
      rowsMax: this.#job.batchRows,
      what,
      onAnswer: (batch) => (row, m) => {
        const entry = batch.tags[row];
        if (m.result === ResultCode.ok) this.#compare(entry, places[table.placeOf(entry)].seed, m, hash);
      },
      onCode: (_batch, _row, code) => {
        if (code !== ResultCode.ok && code !== ResultCode.notFound)
          throw new PitrError('aerospike-result', { what, code, name: resultCodeName(code) });
      },
    });
    for (const entry of entries) {
      const place = places[table.placeOf(entry)];
      const words = table.words(entry);
      const batch = sender.batchFor(place, words[0] >>> 20);
      batch.bare(place, entry, words, NEVER_TOUCH);
      if (sender.added(batch)) await sender.room();
    }
    await sender.finish();
  }

  /** A record that is there, against the one that should be. */
  #compare(entry: number, seed: number, m: MessageView, hash: WireHash): void {
    const { table } = this.#load;
    if (!table.isSeen(entry)) this.#readBack++;
    table.see(entry);
    const fate = table.fate(entry);
    if (fate === Fate.refused) return;
    const [w0, w1, w2, w3, w4] = table.words(entry);
    const h = hash.ofMessage(seed, w0, w1, w2, w3, w4, m);
    if (table.isHash(entry, h[0], h[1]) && this.#isVoidTime(entry, fromWireVoidTime(m.recordTtl))) {
      this.#differing.delete(entry);
      // what the rule kept is what was to be written
      if (fate === Fate.kept) table.setFate(entry, Fate.written);
    } else if (fate === Fate.written || this.#job.mode === undefined) this.#differing.add(entry);
  }

  #isVoidTime(entry: number, found: number): boolean {
    const expected = this.#load.table.voidTimeS(entry);
    if (expected === 0 || found === 0) return expected === found;
    return Math.abs(found - expected) <= VOID_TIME_OFF_S_MAX;
  }

  /** What differs is read `again` and compared with lists and maps as a server writes them. */
  async #judge(again: (differing: readonly number[]) => Promise<void>): Promise<ClusterTally> {
    const { table } = this.#load;
    const differing = this.#differing.size;
    if (differing > 0) {
      const hashes = await this.#canonical([...this.#differing]);
      for (const [entry, [h0, h1]] of hashes) table.setHash(entry, h0, h1);
      await again([...this.#differing]);
    }
    const nowS = this.#load.nowS();
    let expiredSince = 0;
    const missing: number[] = [];
    for (let entry = 0; entry < table.length; entry++) {
      if (table.isSeen(entry) || table.fate(entry) === Fate.refused) continue;
      const voidTimeS = table.voidTimeS(entry);
      if (voidTimeS !== 0 && voidTimeS <= nowS + 1) expiredSince++;
      else missing.push(entry);
    }
    return this.#tally(missing, differing - this.#differing.size, expiredSince);
  }

  #tally(missing: readonly number[], canonical: number, expiredSince: number): ClusterTally {
    const { table } = this.#load;
    const foreign = this.#others.left();
    const wrong = [
      ...[...this.#differing, ...missing].map((entry) => digestOfSortKey(table.sortKey(entry))),
      ...foreign,
    ];
    return {
      ...NO_TALLY,
      readBack: this.#readBack,
      deleted: this.#others.deleted,
      notDeleted: this.#others.notDeleted,
      foreign: foreign.length,
      missing: missing.length,
      differing: this.#differing.size,
      canonical,
      expiredSince,
      samples: wrong.slice(0, SAMPLES_MAX).map((digest) => digest.toString('hex')),
      wrongPartitions: [...new Set(wrong.map((digest) => partitionOf(digest)))],
    };
  }
}

import { Info1, Info2 } from '../../engine/aerospike/bits.ts';
import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { RowBatch, RowPlace } from '../../engine/aerospike/client/row-batch.ts';
import { rowPlace } from '../../engine/aerospike/client/row-batch.ts';
import type { Scan } from '../../engine/aerospike/client/scan.ts';
import { fromWireVoidTime } from '../../engine/aerospike/epoch.ts';
import { FieldId } from '../../engine/aerospike/field.ts';
import type { MessageView } from '../../engine/aerospike/message.ts';
import { ResultCode, resultCodeName } from '../../engine/aerospike/result-code.ts';
import { PitrError } from '../../engine/errors.ts';
import { digestOfSortKey, type PartitionRange, PartitionSet, sortKeyOf } from '../../engine/partition.ts';
import { type ClusterJob, type ClusterTally, NO_TALLY, type Scope } from './cluster-job.ts';
import { lastUpdateBefore, MONITOR_SET, type RangeLoad } from './range-load.ts';
import { Fate } from './range-table.ts';
import { RowSender } from './row-sender.ts';
import { setsFilter } from './sets-filter.ts';
import { Seeds, WireHash } from './wire-hash.ts';

/** By how much a void time may be off: the server counts it from when the row arrives, by its own clock. */
const VOID_TIME_OFF_S_MAX = 60;
const SAMPLES_MAX = 20;
/** A page of a scan: several threads have one each in memory. */
const PAGE_BYTES = 2 * 1024 * 1024;
const DELETE_ROWS_MAX = 200;

/** Gives the hash of records in canonical form, by entry of the table. */
export type Canonical = (entries: readonly number[]) => Promise<Map<number, readonly [number, number]>>;

/** Reads a range of the target back, compares it with the table of what should be there, and deletes what should not. */
export class ReadBack {
  readonly #client: AerospikeClient;
  readonly #job: ClusterJob;
  readonly #load: RangeLoad;
  readonly #range: PartitionRange;
  readonly #canonical: Canonical;
  readonly #differing = new Set<number>();
  readonly #samples: string[] = [];
  readonly #wrong = new Set<number>();
  #readBack = 0;
  #foreign = 0;
  #deleted = 0;
  #notDeleted = 0;

  constructor(
    client: AerospikeClient,
    job: ClusterJob,
    load: RangeLoad,
    range: PartitionRange,
    canonical: Canonical,
  ) {
    this.#client = client;
    this.#job = job;
    this.#load = load;
    this.#range = range;
    this.#canonical = canonical;
  }

  /** Scans what is in question. @throws aerospike-… */
  async scan(): Promise<ClusterTally> {
    for (const scope of this.#job.scopes) await this.#scanScope(scope);
    return this.#judge(true);
  }

  /** Reads the records of the table by their digests; stored keys are not compared, since answers have none. @throws aerospike-… */
  async byDigest(): Promise<ClusterTally> {
    const { table, places } = this.#load;
    const hash = new WireHash(false);
    const check = (batch: RowBatch) => (row: number, m: MessageView) => {
      const entry = batch.tags[row];
      if (m.result === ResultCode.ok) this.#compare(entry, places[table.placeOf(entry)].seed, m, hash);
    };
    const sender = new RowSender({
      client: this.#client,
      kind: { info1: Info1.read | Info1.getAll, info2: 0, info3: 0 },
      rowsMax: this.#job.batchRows,
      what: 'the reading back of a record',
      onAnswer: check,
      onCode: (_batch, _row, code) => {
        if (code !== ResultCode.ok && code !== ResultCode.notFound)
          throw new PitrError('aerospike-result', {
            what: 'the reading back of a record',
            code,
            name: resultCodeName(code),
          });
      },
    });
    for (let entry = 0; entry < table.length; entry++) {
      const fate = table.fate(entry);
      if (fate !== Fate.written && fate !== Fate.kept) continue;
      if (this.#addRow(sender, places[table.placeOf(entry)], entry, 0xffffffff)) await sender.room();
    }
    await sender.finish();
    return this.#judge(false);
  }

  /** Scans digests only and deletes: for who does not verify, and for `--recheck`. @throws aerospike-… */
  async deleteOthers(): Promise<ClusterTally> {
    for (const scope of this.#job.scopes) await this.#scanScope(scope, true);
    return this.#tally(0, 0, 0, 0);
  }

  async #scanScope(scope: Scope, isDigestOnly = false): Promise<void> {
    const { table, namespaces } = this.#load;
    const number = namespaces.indexOf(scope.namespace);
    const hash = new WireHash(true);
    const seeds = new Seeds(scope.namespace);
    const deleter = this.#deleter();
    const setPlaces = new SetPlaces(scope.namespace);
    const keptBefore = this.#notDeleted;
    let deletions = 0;
    for await (const block of this.#scanOf(scope, isDigestOnly)) {
      const { bytes } = block;
      for (let i = 0; i < block.length; i++) {
        const at = block.digestStart(i);
        const w0 = sortWord(bytes, at);
        const w1 = bytes.readUInt32BE(at + 4);
        const w2 = bytes.readUInt32BE(at + 8);
        const w3 = bytes.readUInt32BE(at + 12);
        const w4 = bytes.readUInt32BE(at + 16);
        const entry = number < 0 ? -1 : table.find(number, w0, w1, w2, w3, w4);
        if (entry >= 0) {
          if (!isDigestOnly) this.#compare(entry, seeds.of(block, i), block.message(i), hash);
          continue;
        }
        const place = setPlaces.of(bytes, block.setStart(i), block.setEnd(i));
        if (place.isMonitor) continue;
        if (this.#job.mode !== 'exact') {
          this.#foreign++;
          this.#sample(w0, bytes.toString('hex', at, at + 20));
          continue;
        }
        deletions++;
        const batch = deleter.batchFor(place, w0 >>> 20);
        appendBare(batch, place, 0, [w0, w1, w2, w3, w4], 0, this.#deleteFilter);
        if (deleter.added(batch)) await deleter.room();
      }
    }
    await deleter.finish();
    if (deletions > 0) await this.#assertGone(scope, this.#notDeleted - keptBefore);
  }

  /** What was deleted is not there. Records that somebody wrote since the restore began stay by rule. */
  async #assertGone(scope: Scope, kept: number): Promise<void> {
    const { table, namespaces } = this.#load;
    const number = namespaces.indexOf(scope.namespace);
    let left = 0;
    const samples: [number, string][] = [];
    for await (const block of this.#scanOf(scope, true))
      for (let i = 0; i < block.length; i++) {
        const at = block.digestStart(i);
        const key = sortKeyOf(block.bytes.subarray(at, at + 20));
        const words = [0, 4, 8, 12, 16].map((b) => key.readUInt32BE(b)) as [
          number,
          number,
          number,
          number,
          number,
        ];
        if (number >= 0 && table.find(number, ...words) >= 0) continue;
        if (block.bytes.toString('utf8', block.setStart(i), block.setEnd(i)) === MONITOR_SET) continue;
        left++;
        samples.push([words[0], block.bytes.toString('hex', at, at + 20)]);
      }
    const faults = Math.max(0, left - kept);
    this.#foreign += faults;
    if (faults > 0) for (const [w0, digest] of samples) this.#sample(w0, digest);
  }

  get #deleteFilter(): Buffer | undefined {
    const { conflict, recheckOnly, startedMs } = this.#job;
    return conflict === 'keep-changed' || recheckOnly ? lastUpdateBefore(startedMs) : undefined;
  }

  #deleter(): RowSender {
    const durable = this.#job.durableDeletes ? Info2.durableDelete : 0;
    return new RowSender({
      client: this.#client,
      kind: { info1: 0, info2: Info2.write | Info2.delete | durable, info3: 0 },
      rowsMax: Math.min(DELETE_ROWS_MAX, this.#job.batchRows),
      what: 'the deletion of a record',
      onCode: (_batch, _row, code) => {
        if (code === ResultCode.ok || code === ResultCode.notFound) this.#deleted++;
        else if (code === ResultCode.filteredOut) this.#notDeleted++;
        else
          throw new PitrError('aerospike-result', {
            what: 'the deletion of a record',
            code,
            name: resultCodeName(code),
          });
      },
    });
  }

  #scanOf({ namespace, sets }: Scope, isDigestOnly: boolean): Scan {
    // the name '' would mean every set
    const only = sets?.length === 1 ? sets[0] : undefined;
    return this.#client.scan({
      namespace,
      ...(only ? { set: only } : {}),
      ...(sets && !only ? { filter: setsFilter(sets) } : {}),
      partitions: PartitionSet.of([this.#range]),
      bins: isDigestOnly ? 'none' : 'all',
      pageBytes: PAGE_BYTES,
    });
  }

  #addRow(sender: RowSender, place: RowPlace, entry: number, recordTtl: number): boolean {
    const { table } = this.#load;
    const words = [0, 1, 2, 3, 4].map((w) => table.word(entry, w)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const batch = sender.batchFor(place, words[0] >>> 20);
    appendBare(batch, place, entry, words, recordTtl, undefined);
    return sender.added(batch);
  }

  /** A record that is there, against the one that should be. */
  #compare(entry: number, seed: number, m: MessageView, hash: WireHash): void {
    const { table } = this.#load;
    this.#readBack++;
    if (table.fate(entry) === Fate.refused) {
      table.see(entry);
      return;
    }
    const word = (n: number): number => table.word(entry, n);
    const h = hash.ofMessage(seed, word(0), word(1), word(2), word(3), word(4), m);
    const isEqual = table.isHash(entry, h[0], h[1]) && this.#isVoidTime(entry, fromWireVoidTime(m.recordTtl));
    table.see(entry);
    if (isEqual) {
      this.#differing.delete(entry);
      // what the rule kept is what was to be written
      if (table.fate(entry) === Fate.kept) table.setFate(entry, Fate.written);
    } else if (table.fate(entry) === Fate.written || this.#job.mode === undefined) this.#differing.add(entry);
  }

  #isVoidTime(entry: number, found: number): boolean {
    const expected = this.#load.table.voidTimeS(entry);
    if (expected === 0 || found === 0) return expected === found;
    return Math.abs(found - expected) <= VOID_TIME_OFF_S_MAX;
  }

  /** `isKeyed`: the hashes of the table count stored keys. */
  async #judge(isKeyed: boolean): Promise<ClusterTally> {
    const { table } = this.#load;
    const nowS = this.#load.nowS();
    let expiredSince = 0;
    const missing: number[] = [];
    for (let entry = 0; entry < table.length; entry++) {
      if (table.isSeen(entry) || table.fate(entry) === Fate.refused) continue;
      const voidTimeS = table.voidTimeS(entry);
      if (voidTimeS !== 0 && voidTimeS <= nowS + 1) expiredSince++;
      else missing.push(entry);
    }
    const canonical = this.#differing.size > 0 ? await this.#compareCanonical(isKeyed) : 0;
    for (const entry of [...this.#differing, ...missing])
      this.#sample(table.word(entry, 0), digestOfSortKey(table.sortKey(entry)).toString('hex'));
    return this.#tally(missing.length, this.#differing.size, canonical, expiredSince);
  }

  /** Looks again at what differs, with lists and maps as a server writes them. Returns how many are equal then. */
  async #compareCanonical(isKeyed: boolean): Promise<number> {
    const { table } = this.#load;
    const before = this.#differing.size;
    const hashes = await this.#canonical([...this.#differing]);
    for (const [entry, [h0, h1]] of hashes) table.setHash(entry, h0, h1);
    if (isKeyed) for (const scope of this.#job.scopes) await this.#compareAgain(scope);
    else await this.#byDigestAgain();
    return before - this.#differing.size;
  }

  /** The partitions of what differs once more. */
  async #compareAgain(scope: Scope): Promise<void> {
    const { table, namespaces } = this.#load;
    const number = namespaces.indexOf(scope.namespace);
    if (number < 0) return;
    const hash = new WireHash(true);
    const seeds = new Seeds(scope.namespace);
    const partitions = new Set([...this.#differing].map((entry) => table.word(entry, 0) >>> 20));
    const scan = this.#client.scan({
      namespace: scope.namespace,
      partitions: PartitionSet.of([...partitions].map((p) => ({ start: p, end: p + 1 }))),
      pageBytes: PAGE_BYTES,
    });
    for await (const block of scan)
      for (let i = 0; i < block.length; i++) {
        const at = block.digestStart(i);
        const { bytes } = block;
        const entry = table.find(
          number,
          sortWord(bytes, at),
          bytes.readUInt32BE(at + 4),
          bytes.readUInt32BE(at + 8),
          bytes.readUInt32BE(at + 12),
          bytes.readUInt32BE(at + 16),
        );
        if (entry < 0 || !this.#differing.has(entry)) continue;
        this.#readBack--;
        this.#compare(entry, seeds.of(block, i), block.message(i), hash);
      }
  }

  async #byDigestAgain(): Promise<void> {
    const { table, places } = this.#load;
    const hash = new WireHash(false);
    const sender = new RowSender({
      client: this.#client,
      kind: { info1: Info1.read | Info1.getAll, info2: 0, info3: 0 },
      rowsMax: this.#job.batchRows,
      what: 'the reading back of a record',
      onAnswer: (batch) => (row, m) => {
        const entry = batch.tags[row];
        if (m.result !== ResultCode.ok) return;
        this.#readBack--;
        this.#compare(entry, places[table.placeOf(entry)].seed, m, hash);
      },
      onCode: () => undefined,
    });
    for (const entry of [...this.#differing])
      if (this.#addRow(sender, places[table.placeOf(entry)], entry, 0xffffffff)) await sender.room();
    await sender.finish();
  }

  #sample(w0: number, digest: string): void {
    this.#wrong.add(w0 >>> 20);
    if (this.#samples.length < SAMPLES_MAX) this.#samples.push(digest);
  }

  #tally(missing: number, differing: number, canonical: number, expiredSince: number): ClusterTally {
    return {
      ...NO_TALLY,
      readBack: this.#readBack,
      deleted: this.#deleted,
      notDeleted: this.#notDeleted,
      foreign: this.#foreign,
      missing,
      differing,
      canonical,
      expiredSince,
      samples: this.#samples,
      wrongPartitions: [...this.#wrong],
    };
  }
}

/** Places of records that the table has not, by the bytes of their sets. */
class SetPlaces {
  readonly #namespace: string;
  readonly #known = new Map<string, RowPlace & { readonly isMonitor: boolean }>();

  constructor(namespace: string) {
    this.#namespace = namespace;
  }

  of(bytes: Buffer, start: number, end: number): RowPlace & { readonly isMonitor: boolean } {
    const id = bytes.toString('latin1', start, end);
    let place = this.#known.get(id);
    if (!place) {
      place = {
        ...rowPlace(this.#namespace, Buffer.from(bytes.subarray(start, end))),
        isMonitor: id === MONITOR_SET,
      };
      this.#known.set(id, place);
    }
    return place;
  }
}

/** A row with no ops: a read of everything, or a deletion. */
const appendBare = (
  batch: RowBatch,
  place: RowPlace,
  tag: number,
  [w0, w1, w2, w3, w4]: readonly [number, number, number, number, number],
  recordTtl: number,
  filter: Buffer | undefined,
): void => {
  const filterBytes = filter === undefined ? 0 : 5 + filter.length;
  batch.begin(place, tag, w0, w1, w2, w3, w4, 0, recordTtl, filterBytes);
  if (filter) {
    const { bytes, used } = batch;
    bytes.writeUInt32BE(filter.length + 1, used);
    bytes[used + 4] = FieldId.filter;
    filter.copy(bytes, used + 5);
    batch.used += filterBytes;
  }
  batch.end(place.fieldCount + (filter ? 1 : 0), 0);
};

/** The first word of the sort key of the digest at `at`: engine/partition.ts says how the two differ. */
const sortWord = (b: Buffer, at: number): number => {
  const b0 = b[at];
  const b1 = b[at + 1];
  return (
    ((((b1 & 0x0f) << 28) | ((b0 >> 4) << 24) | ((b0 & 0x0f) << 20) | ((b1 >> 4) << 16)) >>> 0) +
    ((b[at + 2] << 8) | b[at + 3])
  );
};

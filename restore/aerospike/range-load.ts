import { Info2, Info3, TTL_SECONDS_MAX, WireTtl } from '../../engine/aerospike/bits.ts';
import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { appendImage, RowFlag } from '../../engine/aerospike/client/image-row.ts';
import {
  type RowBatch,
  type RowKind,
  type RowPlace,
  rowPlace,
} from '../../engine/aerospike/client/row-batch.ts';
import { ResultCode, resultCodeName } from '../../engine/aerospike/result-code.ts';
import type { Clock } from '../../engine/clock.ts';
import { seedOf } from '../../engine/content-digest.ts';
import { decodeImage } from '../../engine/image.ts';
import { digestOfSortKey, PARTITIONS } from '../../engine/partition.ts';
import type { StateHeader } from '../../engine/state-record.ts';
import { toJson } from '../../engine/value.ts';
import type { RunCursor } from '../../wal/run-cursor.ts';
import type { SegmentReader } from '../../wal/segment-reader.ts';
import { Chunks } from '../chunks.ts';
import type { RowSink } from '../range-job.ts';
import { type ClusterJob, type ClusterTally, type ConflictRule, NO_TALLY } from './cluster-job.ts';
import { Fate, RangeTable } from './range-table.ts';
import { RowSender } from './row-sender.ts';
import type { TargetBefore } from './target-before.ts';
import { WireHash } from './wire-hash.ts';

/** What enterprise transactions leave behind. */
export const MONITOR_SET = '<ERO~MRT';

/** A namespace and set of the target. */
export interface Place extends RowPlace {
  readonly number: number;
  readonly set: string;
  readonly seed: number;
  readonly isMonitor: boolean;
  /** Why nothing can be written there. */
  readonly refusal: string | undefined;
}

const KIND: Readonly<Record<ConflictRule, RowKind>> = {
  overwrite: { info1: 0, info2: Info2.write, info3: Info3.createOrReplace },
  'keep-changed': { info1: 0, info2: Info2.write, info3: Info3.createOrReplace },
  'keep-newer': { info1: 0, info2: Info2.write, info3: Info3.createOrReplace },
  'keep-generation': { info1: 0, info2: Info2.write | Info2.generationGreater, info3: Info3.createOrReplace },
  'keep-existing': { info1: 0, info2: Info2.write | Info2.createOnly, info3: 0 },
};

/** Codes that say that a rule has kept what the target has. */
const KEPT: ReadonlySet<number> = new Set([ResultCode.filteredOut, ResultCode.generation, ResultCode.exists]);

/** `last update < instant`, an expression. */
export const lastUpdateBefore = (ms: number): Buffer => {
  const filter = Buffer.from('93059142cf0000000000000000', 'hex');
  filter.writeBigUInt64BE(BigInt(ms) * 1_000_000n, filter.length - 8);
  return filter;
};

const SET_NAME_BYTES_MAX = 63;
/** No server takes a larger record, whatever its configuration; it is not even sent. */
const RECORD_BYTES_MAX = 8 * 1024 * 1024;

/** Why a server would not take a set of this name; undefined: it does. */
export const setRefusal = (set: string): string | undefined => {
  if (Buffer.byteLength(set, 'utf8') > SET_NAME_BYTES_MAX) return 'set-name-too-long';
  return /[:;\0]/.test(set) ? 'set-name-invalid' : undefined;
};

/** Why no server would take a record of these sizes; undefined: it may. */
const refusalOf = (imageBytes: number, ttlS: number): string | undefined => {
  if (imageBytes > RECORD_BYTES_MAX) return resultCodeName(ResultCode.recordTooBig);
  return ttlS > TTL_SECONDS_MAX ? 'ttl-too-long' : undefined;
};

export interface LoadContext {
  /** Of a target that has records already. */
  readonly before?: TargetBefore;
  readonly client: AerospikeClient;
  readonly job: ClusterJob;
  readonly clock: Clock;
  /** Records have new names, so two of them may get one digest. */
  readonly mayMeet: boolean;
  /** The key counts for the hash: what is read back by scan has it. */
  readonly isKeyed: boolean;
}

/** The records of one range on their way to the cluster: rows of batches, and a table of what should be there then. */
export class RangeLoad implements RowSink {
  readonly table = new RangeTable();
  readonly places: Place[] = [];
  readonly namespaces: string[] = [];
  /** Lines of the file of refused records. */
  readonly lines = new Chunks();
  readonly #context: LoadContext;
  readonly #sender: RowSender;
  readonly #hash: WireHash;
  readonly #filter: Buffer | undefined;
  readonly #byCursor: { reader: SegmentReader; places: Map<number, Place> }[] = [];
  readonly #byName = new Map<string, Place>();
  /** One byte for each partition, 1 where something was sent to. */
  readonly touched = new Uint8Array(PARTITIONS);
  readonly #refused: Record<string, number> = {};
  #unchanged = 0;
  #over = 0;
  #monitors = 0;
  #masked = 0;

  constructor(context: LoadContext) {
    const { client, job } = context;
    this.#context = context;
    this.#hash = new WireHash(context.isKeyed);
    this.#filter = job.conflict === 'keep-changed' ? lastUpdateBefore(job.startedMs) : undefined;
    this.#sender = new RowSender({
      client,
      kind: KIND[job.conflict],
      rowsMax: job.batchRows,
      what: 'the write of a record',
      onCode: (batch, row, code) => this.#settle(batch, row, code),
    });
  }

  row(cursor: RunCursor, voidTimeS: number, hash: Uint32Array): boolean {
    const { block, row } = cursor;
    const place = this.#placeOf(cursor);
    const { w0, w1, w2, w3, w4, heap } = block;
    return this.#add(
      place,
      w0[row],
      w1[row],
      w2[row],
      w3[row],
      w4[row],
      block.generation[row],
      block.lut(row),
      voidTimeS,
      heap,
      block.imageStart(row),
      block.heapEnd[row],
      hash,
    );
  }

  record(
    namespace: string,
    set: string,
    words: readonly number[],
    header: StateHeader,
    image: Uint8Array,
    hash: Uint32Array,
  ): boolean {
    const [w0, w1, w2, w3, w4] = words;
    const { generation, lut, voidTime } = header;
    const place = this.#place(namespace, set);
    return this.#add(place, w0, w1, w2, w3, w4, generation, lut, voidTime, image, 0, image.length, hash);
  }

  drain(): Promise<void> {
    return this.#sender.room();
  }

  /** Everything is answered. */
  finish(): Promise<void> {
    return this.#sender.finish();
  }

  /** Of what was written so far. */
  tally(): ClusterTally {
    let written = 0;
    let kept = 0;
    const { table } = this;
    for (let entry = 0; entry < table.length; entry++) {
      const fate = table.fate(entry);
      if (fate === Fate.written) written++;
      else if (fate === Fate.kept) kept++;
    }
    const { job } = this.#context;
    return {
      ...NO_TALLY,
      written: job.recheckOnly ? 0 : written - this.#unchanged,
      unchanged: this.#unchanged,
      readBack: this.#unchanged,
      kept,
      over: this.#over,
      monitors: this.#monitors,
      masked: this.#masked,
      refused: { ...this.#refused },
    };
  }

  nowS(): number {
    const { clock, job } = this.#context;
    return Math.floor((clock.nowMs() + job.clockAheadMs) / 1000);
  }

  #add(
    place: Place,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    generation: number,
    lutMs: number,
    voidTimeS: number,
    image: Uint8Array,
    start: number,
    end: number,
    hash: Uint32Array,
  ): boolean {
    if (place.isMonitor) {
      this.#monitors++;
      return false;
    }
    const ttl = voidTimeS === 0 ? WireTtl.never : voidTimeS - this.nowS();
    if (ttl <= 0) {
      this.#over++;
      return false;
    }
    const { table } = this;
    const { job } = this.#context;
    const { mayMeet } = this.#context;
    const isTaken = mayMeet && table.find(this.namespaces.indexOf(place.namespace), w0, w1, w2, w3, w4) >= 0;
    const entry = table.add(place.number, w0, w1, w2, w3, w4, voidTimeS, hash[0], hash[1]);
    if (isTaken) return this.#refuse(entry, 'same-key', undefined, image, start, end);
    if (job.recheckOnly) {
      table.setFate(entry, Fate.written);
      return false;
    }
    const { before } = this.#context;
    if (before?.isEqual(place.namespace, w0, w1, w2, w3, w4, hash, voidTimeS)) {
      this.#unchanged++;
      table.setFate(entry, Fate.written);
      table.see(entry);
      return false;
    }
    const refusal = place.refusal ?? refusalOf(end - start, voidTimeS === 0 ? 0 : ttl);
    if (refusal !== undefined) return this.#refuse(entry, refusal, undefined, image, start, end);
    const batch = this.#sender.batchFor(place, w0 >>> 20);
    this.touched[w0 >>> 20] = 1;
    const flags = appendImage(
      batch,
      place,
      entry,
      w0,
      w1,
      w2,
      w3,
      w4,
      job.conflict === 'keep-generation' ? generation : 0,
      ttl,
      job.conflict === 'keep-newer' ? lastUpdateBefore(lutMs) : this.#filter,
      image,
      start,
      end,
    );
    if (flags & RowFlag.persist) return this.#refuse(entry, 'persist-index', undefined, image, start, end);
    if (flags & RowFlag.masked) this.#masked++;
    if (flags !== 0 || !this.#context.isKeyed) {
      const h = this.#hash.ofImage(place.seed, w0, w1, w2, w3, w4, image, start, end, flags, hash);
      table.setHash(entry, h[0], h[1]);
    }
    return this.#sender.added(batch);
  }

  #settle(batch: RowBatch, row: number, code: number): void {
    const entry = batch.tags[row];
    if (code === ResultCode.ok) this.table.setFate(entry, Fate.written);
    else if (KEPT.has(code) && this.#context.job.conflict !== 'overwrite')
      this.table.setFate(entry, Fate.kept);
    else {
      this.#refuseLine(entry, resultCodeName(code), code, batch.keyOf(row));
    }
  }

  #refuse(
    entry: number,
    cause: string,
    code: number | undefined,
    image: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const { key } = decodeImage(image.subarray(start, end));
    this.#refuseLine(entry, cause, code, key);
    return this.lines.isDue;
  }

  #refuseLine(
    entry: number,
    cause: string,
    code: number | undefined,
    key: { readonly type: number; readonly bytes: Uint8Array } | undefined,
  ): void {
    const { table } = this;
    table.setFate(entry, Fate.refused);
    this.#refused[cause] = (this.#refused[cause] ?? 0) + 1;
    const { namespace, set } = this.places[table.placeOf(entry)];
    const digest = digestOfSortKey(table.sortKey(entry)).toString('hex');
    const line = JSON.stringify({
      namespace,
      set,
      digest,
      ...(key ? { key: toJson(key) } : {}),
      cause,
      ...(code === undefined ? {} : { code }),
    });
    this.lines.append(Buffer.from(`${line}\n`));
  }

  #placeOf({ index, reader, block, row }: RunCursor): Place {
    let known = this.#byCursor[index];
    if (known?.reader !== reader) {
      known = { reader, places: new Map() };
      this.#byCursor[index] = known;
    }
    const id = block.namespace * 2 ** 32 + block.set[row];
    let place = known.places.get(id);
    if (!place) {
      const { namespaces, sets } = reader.properties;
      place = this.#place(namespaces[block.namespace], sets[block.set[row]]);
      known.places.set(id, place);
    }
    return place;
  }

  #place(namespace: string, set: string): Place {
    const id = `${namespace}\0${set}`;
    const known = this.#byName.get(id);
    if (known) return known;
    const number = this.places.length;
    const place: Place = {
      ...rowPlace(namespace, Buffer.from(set, 'utf8')),
      number,
      set,
      seed: seedOf(namespace, set),
      isMonitor: set === MONITOR_SET,
      refusal: setRefusal(set),
    };
    if (!this.namespaces.includes(namespace)) this.namespaces.push(namespace);
    this.table.place(number, this.namespaces.indexOf(namespace));
    this.places.push(place);
    this.#byName.set(id, place);
    return place;
  }
}

import { PitrError } from '../../errors.ts';
import { MAX_BIN_NAME_BYTES } from '../../particle.ts';
import { DIGEST_BYTES } from '../../partition.ts';
import { RecordId } from '../../record-key.ts';
import { state, stateHeaderBytes } from '../../state-record.ts';
import { type Decider, nextGeneration } from '../../write-op.ts';
import { Info1, Info2, Info3, TTL_SECONDS_MAX, WireTtl } from '../bits.ts';
import { toWireVoidTime } from '../epoch.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import type { MessageWriter } from '../message-writer.ts';
import { OpId } from '../operation.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { BinOps } from './bin-ops.ts';
import { BinTable } from './bin-table.ts';
import type { Database } from './database.ts';
import { FilterCache } from './filter-cache.ts';
import { isSame } from './image-cursor.ts';
import type { Namespace } from './namespace.ts';
import { RecordView, wireVoidTime } from './record-view.ts';

const SET_BYTES_MAX = 63;

/**
 * Carries out commands on one record, one after another, and writes the answer of each as one message. Reading and deciding happen at
 * once; whoever calls sends nothing before what was decided is durable. The semantics are those of aerospike-wire.md 4.1.
 */
export class RecordCommand implements Decider {
  voidTime = 0;
  generation = 0;
  lut = 0;
  readonly #database: Database;
  readonly #filters = new FilterCache();
  readonly #table = new BinTable();
  readonly #view = new RecordView();
  readonly #ops: BinOps;
  // of the command that is being carried out
  #m!: MessageView;
  #out!: MessageWriter;
  #namespace!: Namespace;
  #id!: RecordId;
  #filter: Buffer | undefined;
  #row = 0;
  #isBatch = false;
  #result = 0;

  constructor(database: Database) {
    this.#database = database;
    this.#ops = new BinOps(this.#table, this.#view);
  }

  /**
   * One command. `digest` is where the record's digest is; `filter` is that of the batch, for rows without their own; `row`
   * is the number that the answer bears, -1 outside a batch. Returns the result code.
   */
  run(
    m: MessageView,
    out: MessageWriter,
    digest: Buffer | undefined,
    digestStart: number,
    filter: Buffer | undefined,
    row: number,
  ): number {
    this.#m = m;
    this.#out = out;
    this.#isBatch = row >= 0;
    this.#row = Math.max(0, row);
    const namespace = this.#database.namespaceIn(m);
    if (!namespace) return this.#answer(ResultCode.badNamespace, 0, 0);
    this.#namespace = namespace;
    if (!digest) return this.#answer(ResultCode.unsupportedFeature, 0, 0);
    const refusal = this.#prepare(digest, digestStart);
    if (refusal !== 0) return this.#answer(refusal, 0, 0);
    this.#filter = m.field(FieldId.filter) ?? filter;
    if (m.info2 & Info2.write) return this.#write();
    if (m.info1 & Info1.read) return this.#read();
    return this.#answer(ResultCode.parameter, 0, 0);
  }

  /** What can be refused before the record is looked at. */
  #prepare(bytes: Buffer, digestStart: number): number {
    const m = this.#m;
    if (m.has(FieldId.transactionId) || m.info4 !== 0) return ResultCode.enterpriseOnly;
    if (m.has(FieldId.udfFile)) return ResultCode.unsupportedFeature;
    const setStart = m.fieldStart(FieldId.set);
    const setBytes = m.fieldEnd(FieldId.set) - setStart;
    if (setBytes > SET_BYTES_MAX) return ResultCode.parameter;
    const digest = Buffer.from(bytes.subarray(digestStart, digestStart + DIGEST_BYTES));
    const set = setBytes > 0 ? this.#database.setName(m.bytes, setStart, setStart + setBytes) : '';
    const id = new RecordId({ namespace: this.#namespace.name, digest }, set, digest, undefined);
    this.#id = id;
    const key = m.fieldEnd(FieldId.key) - m.fieldStart(FieldId.key);
    if (key !== 0 && (key < 2 || !isKeyType(m.bytes[m.fieldStart(FieldId.key)]))) return ResultCode.parameter;
    return this.#database.partitionRefusal(id.partition);
  }

  #read(): number {
    const { engine } = this.#database;
    const value = engine.newest(this.#id);
    if (!value) return this.#answer(ResultCode.notFound, 0, 0);
    const generation = state.generation(value);
    const voidTime = wireVoidTime(value);
    this.#view.open(value, 0, value.length, this.#id.digest, this.#database.nowMs());
    const refusal = this.#filterRefusal() || this.#keyRefusal();
    if (refusal !== 0) return this.#answer(refusal, generation, voidTime);
    this.#begin(ResultCode.ok, generation, voidTime);
    const m = this.#m;
    if (m.info1 & Info1.getAll) this.#ops.answerAll(this.#out);
    else if ((m.info1 & Info1.noBins) === 0) {
      const failed = this.#ops.answerReads(m, this.#out, (m.info2 & Info2.respondAllOps) !== 0);
      if (failed !== 0) {
        this.#out.dropMessage();
        return this.#answer(failed, generation, voidTime);
      }
    }
    return this.#end(ResultCode.ok);
  }

  #write(): number {
    const m = this.#m;
    if (m.info2 & Info2.durableDelete && m.info2 & Info2.delete)
      return this.#answer(ResultCode.enterpriseOnly, 0, 0);
    const refusal = m.info2 & Info2.delete ? 0 : this.#writeRefusal();
    if (refusal !== 0) return this.#answer(refusal, 0, 0);
    if (this.#id.set === '') this.#takeStoredSet();
    this.voidTime = 0;
    this.generation = 0;
    this.lut = 0;
    try {
      this.#database.engine.decide(this.#id, this);
      return this.#result;
    } catch (error) {
      const code = error instanceof PitrError ? codeOf(error) : undefined;
      if (code === undefined) throw error;
      return this.#answer(code, 0, 0);
    }
  }

  /** A request may leave out the set of a record that is there: it stays as it is. */
  #takeStoredSet(): void {
    const value = this.#database.engine.newest(this.#id);
    if (!value || value[24] === 0) return;
    const { digest, namespace } = this.#id;
    this.#id = new RecordId({ namespace, digest }, state.set(value), digest, undefined);
  }

  #writeRefusal(): number {
    const m = this.#m;
    const ttl = m.recordTtl;
    if (ttl !== WireTtl.never && ttl !== WireTtl.keep && ttl > TTL_SECONDS_MAX) return ResultCode.parameter;
    if (m.ops === 0) return ResultCode.parameter;
    const isReplace = (m.info3 & (Info3.createOrReplace | Info3.replaceOnly)) !== 0;
    m.rewindOps();
    while (m.nextOp()) {
      if (m.opNameEnd - m.opNameStart > MAX_BIN_NAME_BYTES) return ResultCode.badBinName;
      if (m.op === OpId.write && m.opType === 0 && isReplace) return ResultCode.parameter;
    }
    return 0;
  }

  /** The engine asks what becomes of the record: {@link Decider}. Writes the answer, too. */
  decide(current: Buffer | undefined, ts: number): Buffer | 'keep' | 'remove' {
    const m = this.#m;
    const generation = current ? state.generation(current) : 0;
    const voidTime = current ? wireVoidTime(current) : 0;
    if (current) this.#view.open(current, 0, current.length, this.#id.digest, ts);
    const refusal = this.#refusal(current, generation);
    if (refusal !== 0) {
      const isDelete = (m.info2 & Info2.delete) !== 0;
      this.#answer(
        refusal,
        isDelete && refusal === ResultCode.filteredOut ? 0 : generation,
        isDelete ? 0 : voidTime,
      );
      return 'keep';
    }
    if (m.info2 & Info2.delete) {
      this.#namespace.countRecord(this.#id.set, -1);
      this.#answer(ResultCode.ok, 0, 0);
      return 'remove';
    }
    return this.#change(current, generation, voidTime, ts);
  }

  /** Why nothing is written, from what is there. */
  #refusal(current: Buffer | undefined, generation: number): number {
    const m = this.#m;
    const { info2, info3 } = m;
    if (!current) {
      if (info2 & Info2.delete || info3 & (Info3.updateOnly | Info3.replaceOnly)) return ResultCode.notFound;
      if (onlyTouches(m)) return ResultCode.notFound;
    } else {
      if (info2 & Info2.createOnly) return ResultCode.exists;
      const filtered = this.#filterRefusal();
      if (filtered !== 0) return filtered;
    }
    if (info2 & Info2.generation && m.generation !== generation) return ResultCode.generation;
    if (info2 & Info2.generationGreater && m.generation <= generation) return ResultCode.generation;
    if (!current) return this.#filterIsBad();
    if (this.#hasOtherSet(current)) return ResultCode.parameter;
    return this.#keyRefusal();
  }

  #hasOtherSet(current: Buffer): boolean {
    const m = this.#m;
    const start = m.fieldStart(FieldId.set);
    const end = m.fieldEnd(FieldId.set);
    if (end === start) return false;
    return !isSame(current, this.#view.setStart, this.#view.setEnd, m.bytes, start, end);
  }

  /** Code of a filter that lets the record at {@link #view} not pass; 0: it does. */
  #filterRefusal(): number {
    if (!this.#filter) return 0;
    const filter = this.#filters.of(this.#filter);
    if (filter instanceof Refusal) return filter.code;
    return filter.decide(this.#view) === true ? 0 : ResultCode.filteredOut;
  }

  /** A record that is not there passes every filter that can be read. */
  #filterIsBad(): number {
    const filter = this.#filter && this.#filters.of(this.#filter);
    return filter instanceof Refusal ? filter.code : 0;
  }

  /** A key that came along must be the one that is stored, if one is. */
  #keyRefusal(): number {
    const m = this.#m;
    const start = m.fieldStart(FieldId.key);
    const { cursor } = this.#view;
    if (start === 0 || cursor.keyType < 0) return 0;
    const same =
      m.bytes[start] === cursor.keyType &&
      isSame(m.bytes, start + 1, m.fieldEnd(FieldId.key), cursor.bytes, cursor.keyStart, cursor.keyEnd);
    return same ? 0 : ResultCode.keyMismatch;
  }

  #change(
    current: Buffer | undefined,
    generation: number,
    oldVoidTime: number,
    ts: number,
  ): Buffer | 'keep' | 'remove' {
    const m = this.#m;
    const out = this.#out;
    const id = this.#id;
    this.voidTime = this.#voidTimeOf(current, ts);
    const after = this.#database.faults?.takeGeneration() ?? nextGeneration(generation);
    this.generation = after;
    const isReplace = (m.info3 & (Info3.createOrReplace | Info3.replaceOnly)) !== 0;
    if (current && !isReplace) this.#table.load(this.#view.cursor);
    else this.#table.clear();
    if (!current) this.#view.create(id.digest, ts, Buffer.from(id.set));
    this.#view.become(this.#table, ts, this.voidTime);
    this.#begin(ResultCode.ok, after, toWireVoidTime(this.voidTime));
    const failed = this.#ops.apply(m, out);
    if (failed !== 0) return this.#fail(failed, generation, oldVoidTime);
    if (this.#table.size === 0) {
      if (!current) return this.#fail(ResultCode.notFound, 0, 0);
      out.setOutcome(ResultCode.ok, 0, 0);
      this.#namespace.count('deleted_last_bin');
      this.#namespace.countRecord(id.set, -1);
      this.#end(ResultCode.ok);
      return 'remove';
    }
    const image = this.#encode(current !== undefined);
    if (image.length > this.#namespace.settings.recordBytesMax)
      return this.#fail(ResultCode.recordTooBig, generation, oldVoidTime);
    if (!current) this.#namespace.countRecord(id.set, 1);
    this.#end(ResultCode.ok);
    return image;
  }

  #fail(code: number, generation: number, voidTime: number): 'keep' {
    this.#out.dropMessage();
    this.#answer(code, generation, voidTime);
    return 'keep';
  }

  /** The new image; the key is the one that came along, or the one that is stored. */
  #encode(isUpdate: boolean): Buffer {
    const m = this.#m;
    const before = stateHeaderBytes(this.#id.set);
    const start = m.fieldStart(FieldId.key);
    const { cursor } = this.#view;
    if (start !== 0)
      return this.#table.encode(before, m.bytes[start], m.bytes, start + 1, m.fieldEnd(FieldId.key));
    if (!isUpdate) return this.#table.encode(before, -1, cursor.bytes, 0, 0);
    return this.#table.encode(before, cursor.keyType, cursor.bytes, cursor.keyStart, cursor.keyEnd);
  }

  #voidTimeOf(current: Buffer | undefined, ts: number): number {
    const ttl = this.#m.recordTtl;
    if (ttl === WireTtl.never) return 0;
    if (ttl === WireTtl.keep) return current ? state.voidTime(current) : 0;
    const seconds = ttl === WireTtl.namespaceDefault ? this.#namespace.settings.defaultTtlS : ttl;
    return seconds === 0 ? 0 : Math.floor(ts / 1000) + seconds;
  }

  #begin(result: number, generation: number, voidTime: number): void {
    this.#out.beginMessageOf(0, 0, 0, 0, result, generation, voidTime, this.#row);
  }

  #end(result: number): number {
    this.#out.endMessage();
    this.#result = result;
    this.#count(result);
    return result;
  }

  #answer(result: number, generation: number, voidTime: number): number {
    this.#begin(result, generation, voidTime);
    return this.#end(result);
  }

  #count(result: number): void {
    if (result === ResultCode.badNamespace) return;
    const m = this.#m;
    const verb = m.info2 & Info2.write ? (m.info2 & Info2.delete ? 'delete' : 'write') : 'read';
    const how =
      result === ResultCode.ok
        ? 'success'
        : result === ResultCode.notFound && verb !== 'write'
          ? 'not_found'
          : result === ResultCode.filteredOut
            ? 'filtered_out'
            : 'error';
    this.#namespace.count(COUNTERS[this.#isBatch ? 'batch_sub' : 'client'][verb][how as 'success']);
  }
}

const outcomes = <P extends 'batch_sub' | 'client', V extends 'read' | 'write' | 'delete'>(
  prefix: P,
  verb: V,
) =>
  ({
    success: `${prefix}_${verb}_success`,
    not_found: `${prefix}_${verb === 'write' ? ('delete' as never) : verb}_not_found`,
    filtered_out: `${prefix}_${verb}_filtered_out`,
    error: `${prefix}_${verb}_error`,
  }) as const;

const COUNTERS = {
  client: {
    read: outcomes('client', 'read'),
    write: outcomes('client', 'write'),
    delete: outcomes('client', 'delete'),
  },
  batch_sub: {
    read: outcomes('batch_sub', 'read'),
    write: outcomes('batch_sub', 'write'),
    delete: outcomes('batch_sub', 'delete'),
  },
} as const;

/** Nothing but TOUCH, which makes no record. */
const onlyTouches = (m: MessageView): boolean => {
  m.rewindOps();
  while (m.nextOp()) if (m.op !== OpId.touch && m.op !== OpId.read) return false;
  return true;
};

const isKeyType = (type: number): boolean => (type >= 1 && type <= 4) || (type >= 7 && type <= 12);

/** What the engine refuses, in the protocol's codes. */
const codeOf = (error: PitrError): number | undefined => {
  switch (error.id) {
    case 'partition-not-owned':
      return ResultCode.partitionUnavailable;
    case 'log-full':
    case 'store-full':
    case 'log-quota':
      return ResultCode.outOfSpace;
    case 'engine-closed':
      return ResultCode.timeout;
    default:
      return undefined;
  }
};

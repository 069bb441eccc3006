import { PitrError } from '../../errors.ts';
import { ParticleType } from '../../particle.ts';
import { DIGEST_BYTES } from '../../partition.ts';
import { RecordId } from '../../record-key.ts';
import { state, stateHeaderBytes } from '../../state-record.ts';
import { type Decider, nextGeneration } from '../../write-op.ts';
import { Info1, Info2, Info3, TTL_SECONDS_MAX, WireTtl } from '../bits.ts';
import { toWireVoidTime } from '../epoch.ts';
import { refusalOr } from '../expression/expression.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import type { MessageWriter } from '../message-writer.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { BinOps } from './bin-ops.ts';
import { BinTable } from './bin-table.ts';
import { counterOf } from './command-counters.ts';
import { hasTouch, isReplacement, writeShapeRefusal } from './command-shape.ts';
import type { Database } from './database.ts';
import { engineRefusal } from './engine-refusal.ts';
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

  /** Whether a message names a namespace that is served. */
  knowsNamespace(m: MessageView): boolean {
    return this.#database.namespaceIn(m) !== undefined;
  }

  /** The answer to a command that is not carried out. */
  refuse(m: MessageView, out: MessageWriter, code: number, row: number): number {
    this.#m = m;
    this.#out = out;
    this.#isBatch = row >= 0;
    this.#row = Math.max(0, row);
    const namespace = this.#database.namespaceIn(m);
    if (!namespace) return this.#answer(ResultCode.badNamespace, 0, 0);
    this.#namespace = namespace;
    return this.#answer(code, 0, 0);
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
    return this.#database.partitionRefusal(id.partition);
  }

  #read(): number {
    const { info3 } = this.#m;
    // linearized: of strong consistency
    if (info3 & Info3.scReadType && (info3 & Info3.scReadRelax) === 0)
      return this.#answer(ResultCode.enterpriseOnly, 0, 0);
    const { engine } = this.#database;
    const value = engine.newest(this.#id);
    if (!value) return this.#answer(ResultCode.notFound, 0, 0);
    const generation = state.generation(value);
    const voidTime = wireVoidTime(value);
    this.#view.open(value, 0, value.length, this.#id.digest, this.#database.nowMs());
    const m = this.#m;
    const other = this.#namesSet && this.#hasOtherSet(value);
    const refusal = other ? ResultCode.parameter : this.#filterRefusal() || this.#keyRefusal();
    if (refusal !== 0) return this.#answer(refusal, generation, voidTime);
    this.#begin(ResultCode.ok, generation, voidTime);
    if ((m.info1 & Info1.noBins) === 0 && m.info1 & Info1.getAll) this.#ops.answerAll(this.#out);
    else if ((m.info1 & Info1.noBins) === 0) {
      const failed =
        m.ops === 0
          ? ResultCode.parameter
          : this.#ops.answerReads(m, this.#out, (m.info2 & Info2.respondAllOps) !== 0, this.#isBatch);
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
    const refusal = m.info2 & Info2.delete ? 0 : writeShapeRefusal(m);
    if (refusal !== 0) return this.#answer(refusal, 0, 0);
    // a write names the set of its record, a remove need not
    if (this.#id.set === '' && m.info2 & Info2.delete) this.#takeStoredSet();
    this.voidTime = 0;
    this.generation = 0;
    this.lut = 0;
    try {
      this.#database.engine.decide(this.#id, this);
      return this.#result;
    } catch (error) {
      const code = error instanceof PitrError ? engineRefusal(error) : undefined;
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

  #setStart(): number {
    return this.#m.fieldStart(FieldId.set);
  }

  #setEnd(): number {
    return this.#m.fieldEnd(FieldId.set);
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
      this.#answer(refusal, isDelete ? 0 : generation, isDelete ? 0 : voidTime);
      return 'keep';
    }
    if (m.info2 & Info2.delete) {
      if (current) this.#database.faults?.graveyard?.keep(this.#id, current);
      this.#namespace.countRecord(this.#id.set, -1);
      this.#answer(ResultCode.ok, 0, 0);
      return 'remove';
    }
    return this.#change(current, generation, voidTime, ts);
  }

  /** Why nothing is written, from what is there: in the server's order. */
  #refusal(current: Buffer | undefined, generation: number): number {
    const m = this.#m;
    const { info2, info3 } = m;
    const isDelete = (info2 & Info2.delete) !== 0;
    if (!current) {
      if (isDelete || info3 & (Info3.updateOnly | Info3.replaceOnly) || hasTouch(m))
        return ResultCode.notFound;
      // nobody asks a filter about what is not there
      if (this.#hasOtherGeneration(0)) return ResultCode.generation;
      return this.#badKey() || this.#ttlRefusal();
    }
    if (isDelete) {
      if (this.#namesSet && this.#hasOtherSet(current)) return ResultCode.parameter;
      if (this.#hasOtherGeneration(generation)) return ResultCode.generation;
      return this.#filterRefusal() || this.#keyRefusal();
    }
    if (info2 & Info2.createOnly) return ResultCode.exists;
    if (this.#hasOtherGeneration(generation)) return ResultCode.generation;
    if (this.#hasOtherSet(current)) return ResultCode.parameter;
    return this.#filterRefusal() || this.#keyRefusal() || this.#badKey() || this.#ttlRefusal();
  }

  /** Of two conditions on the generation that of being equal counts. */
  #hasOtherGeneration(generation: number): boolean {
    const { info2, generation: expected } = this.#m;
    if (info2 & Info2.generation) return expected !== generation;
    return (info2 & Info2.generationGreater) !== 0 && expected <= generation;
  }

  /** Code of a key that cannot be stored. */
  #badKey(): number {
    const m = this.#m;
    const start = m.fieldStart(FieldId.key);
    if (start === 0) return 0;
    return isKey(m.bytes[start], m.fieldEnd(FieldId.key) - start) ? 0 : ResultCode.unsupportedFeature;
  }

  #ttlRefusal(): number {
    const ttl = this.#m.recordTtl;
    return ttl > TTL_SECONDS_MAX && ttl !== WireTtl.never && ttl !== WireTtl.keep ? ResultCode.parameter : 0;
  }

  get #namesSet(): boolean {
    return this.#setEnd() > this.#setStart();
  }

  #hasOtherSet(current: Buffer): boolean {
    const { setStart, setEnd } = this.#view;
    return !isSame(current, setStart, setEnd, this.#m.bytes, this.#setStart(), this.#setEnd());
  }

  /** Code of a filter that lets the record at {@link #view} not pass; 0: it does. */
  #filterRefusal(): number {
    if (!this.#filter) return 0;
    const filter = this.#filters.of(this.#filter);
    if (filter instanceof Refusal) return filter.code;
    const verdict = refusalOr(() => filter.decide(this.#view));
    if (verdict instanceof Refusal) return verdict.code;
    return verdict === true ? 0 : ResultCode.filteredOut;
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
    this.lut = this.#database.faults ? this.#lutOf(current) : 0;
    if (current && !isReplacement(m)) this.#table.load(this.#view.cursor);
    else this.#table.clear();
    if (!current) this.#view.create(id.digest, ts, Buffer.from(id.set));
    this.#view.become(this.#table, this.lut || ts, this.voidTime);
    this.#begin(ResultCode.ok, after, toWireVoidTime(this.voidTime));
    const failed = this.#ops.apply(m, out);
    if (failed !== 0) return this.#fail(failed, generation, oldVoidTime);
    if (this.#table.size === 0) {
      // a replacement that writes nothing is none
      if (!current || isReplacement(m)) return this.#fail(ResultCode.notFound, generation, oldVoidTime);
      if (m.info2 & Info2.durableDelete)
        return this.#fail(ResultCode.enterpriseOnly, generation, oldVoidTime);
      this.#database.faults?.graveyard?.keep(id, current);
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

  /** A server whose clock went back gives new records its own time, and keeps that of those which are there. */
  #lutOf(current: Buffer | undefined): number {
    return Math.max(this.#database.nowMs(), current ? state.lut(current) : 0);
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
    if (result !== ResultCode.badNamespace) this.#namespace.count(counterOf(this.#m, result, this.#isBatch));
    return result;
  }

  #answer(result: number, generation: number, voidTime: number): number {
    this.#begin(result, generation, voidTime);
    return this.#end(result);
  }
}

/** `size` counts the type's byte; numbers have 8 more. */
const isKey = (type: number, size: number): boolean => {
  if (size < 1) return false;
  if (type === ParticleType.integer || type === ParticleType.float) return size === 9;
  return (
    (type >= ParticleType.string && type <= ParticleType.blob) ||
    (type >= ParticleType.java && type <= ParticleType.erlang)
  );
};

import { MAX_BINS, type Particle, ParticleType } from '../../particle.ts';
import { Info1, Info2 } from '../bits.ts';
import { cdtModify, cdtRead } from '../cdt/operations.ts';
import { ExpressionFlag, expressionRead, refusalOr } from '../expression/expression.ts';
import type { MessageView } from '../message.ts';
import type { MessageWriter } from '../message-writer.ts';
import { OpId } from '../operation.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import type { BinTable } from './bin-table.ts';
import { isBinName } from './command-shape.ts';
import { ExpressionOpCache } from './filter-cache.ts';
import type { RecordView } from './record-view.ts';
import { added, isJoinable, isStoredAsIs, storedValue, valueRefusal } from './wire-value.ts';

const NOTHING = new Uint8Array(0);
/** Bytes of lists and maps that the operations of one command may walk through in all. */
const CONTAINER_BYTES_MAX = 16 * 1024 * 1024;

/**
 * The ops of commands: those that read a stored record where it lies, and those that change its bins in a {@link BinTable}. Each
 * writes what the client is answered. What is returned is a result code; when it is not 0, nothing of the command holds.
 */
export class BinOps {
  readonly #table: BinTable;
  readonly #view: RecordView;
  readonly #expReads = new ExpressionOpCache(false);
  readonly #expModifies = new ExpressionOpCache(true);
  #respondAll = false;
  #containerBytes = 0;
  /** Answers bear the id of a plain read, whatever was read. */
  #asRead = false;
  /** The command writes: then an expression without a value is answered, too. */
  #writes = false;

  constructor(table: BinTable, view: RecordView) {
    this.#table = table;
    this.#view = view;
  }

  /** All bins of the stored record. */
  answerAll(out: MessageWriter): void {
    const { cursor } = this.#view;
    cursor.rewind();
    while (cursor.next()) answerBin(out, cursor);
  }

  /** What a command that only reads asks for, or the projection of a scan. */
  answerReads(m: MessageView, out: MessageWriter, respondAll: boolean, asRead: boolean): number {
    const { cursor } = this.#view;
    this.#respondAll = respondAll;
    this.#asRead = asRead;
    this.#writes = false;
    this.#containerBytes = 0;
    m.rewindOps();
    while (m.nextOp()) {
      if (!isBinName(m)) return ResultCode.badBinName;
      const found = m.opNameEnd > m.opNameStart && cursor.find(m.bytes, m.opNameStart, m.opNameEnd);
      if (m.op === OpId.read) {
        if (found) answerBin(out, cursor);
        else if (respondAll) this.#answer(m, out, undefined);
        continue;
      }
      const particle = found
        ? { type: cursor.type, bytes: cursor.bytes.subarray(cursor.valueStart, cursor.valueEnd) }
        : undefined;
      const failed = this.#readOp(m, out, particle);
      if (failed !== 0) return failed;
    }
    return 0;
  }

  /** The ops of a command that writes, on the bins in the table. */
  apply(m: MessageView, out: MessageWriter): number {
    const { info1, info2 } = m;
    const readsAll = (info1 & Info1.getAll) !== 0;
    this.#respondAll = (info2 & Info2.respondAllOps) !== 0;
    this.#asRead = false;
    this.#writes = true;
    this.#containerBytes = 0;
    m.rewindOps();
    while (m.nextOp()) {
      const failed = readsAll && m.op === OpId.read ? this.#answerTable(out) : this.#applyOp(m, out);
      if (failed !== 0) return failed;
      if (this.#table.size > MAX_BINS) return ResultCode.parameter;
    }
    return 0;
  }

  #applyOp(m: MessageView, out: MessageWriter): number {
    const { op } = m;
    switch (op) {
      case OpId.read:
        this.#answerTableBin(m, out);
        return 0;
      case OpId.cdtRead:
      case OpId.expRead:
      case OpId.bitsRead:
      case OpId.hllRead:
        return this.#readOp(m, out, this.#current(m));
      default:
        return this.#writeOp(m, out);
    }
  }

  #writeOp(m: MessageView, out: MessageWriter): number {
    const { op } = m;
    let failed = 0;
    switch (op) {
      case OpId.write:
        failed = this.#set(m);
        break;
      case OpId.incr:
        failed = this.#increment(m);
        break;
      case OpId.append:
      case OpId.prepend:
        failed = this.#join(m);
        break;
      case OpId.touch:
        break;
      case OpId.deleteAll:
        this.#table.removeAll();
        break;
      case OpId.cdtModify:
        return this.#modify(m, out);
      case OpId.expModify:
        failed = this.#setExpression(m);
        break;
      default:
        return op === OpId.bitsModify || op === OpId.hllModify
          ? ResultCode.unsupportedFeature
          : ResultCode.parameter;
    }
    if (failed === 0 && this.#respondAll && op !== OpId.touch) this.#answer(m, out, undefined);
    return failed;
  }

  #set(m: MessageView): number {
    if (m.opType === ParticleType.null) {
      const i = this.#find(m);
      if (i >= 0) this.#table.remove(i);
      return 0;
    }
    return this.#store(m, m.opType, m.bytes, m.opValueStart, m.opValueEnd);
  }

  /** Stores a value that came by the wire in the op's bin. */
  #store(m: MessageView, type: number, bytes: Uint8Array, start: number, end: number): number {
    const refusal = valueRefusal(type, bytes, start, end);
    if (refusal !== 0) return refusal;
    const { bytes: name, opNameStart, opNameEnd } = m;
    if (isStoredAsIs(type, end - start)) {
      this.#table.set(name, opNameStart, opNameEnd, type, bytes, start, end);
      return 0;
    }
    const value = storedValue(type, bytes.subarray(start, end));
    if (value instanceof Refusal) return value.code;
    this.#table.set(name, opNameStart, opNameEnd, type, value, 0, value.length);
    return 0;
  }

  #increment(m: MessageView): number {
    const { opType } = m;
    if (opType === ParticleType.null) return ResultCode.parameter;
    if (opType !== ParticleType.integer && opType !== ParticleType.float) return ResultCode.incompatibleType;
    const old = this.#current(m);
    if (!old) return this.#store(m, opType, m.bytes, m.opValueStart, m.opValueEnd);
    if (valueRefusal(opType, m.bytes, m.opValueStart, m.opValueEnd) !== 0) return ResultCode.parameter;
    const delta =
      opType === ParticleType.integer ? (storedValue(opType, m.opValue) as Uint8Array) : m.opValue;
    const sum = added(old, opType, delta);
    if (!sum) return ResultCode.incompatibleType;
    this.#table.set(m.bytes, m.opNameStart, m.opNameEnd, opType, sum, 0, sum.length);
    return 0;
  }

  #join(m: MessageView): number {
    if (m.opType === ParticleType.null) return ResultCode.parameter;
    const old = this.#current(m);
    if (!old) return this.#store(m, m.opType, m.bytes, m.opValueStart, m.opValueEnd);
    if (old.type !== m.opType || !isJoinable(m.opType)) return ResultCode.incompatibleType;
    const joined = Buffer.concat(m.op === OpId.append ? [old.bytes, m.opValue] : [m.opValue, old.bytes]);
    this.#table.set(m.bytes, m.opNameStart, m.opNameEnd, m.opType, joined, 0, joined.length);
    return 0;
  }

  #modify(m: MessageView, out: MessageWriter): number {
    const old = this.#current(m);
    if (this.#isTooMuch(old)) return ResultCode.unsupportedFeature;
    const done = cdtModify(old, m.opValue);
    if (done instanceof Refusal) return done.code;
    const { particle, result } = done;
    if (particle !== old) this.#put(m, particle);
    if (result || this.#respondAll) this.#answer(m, out, result);
    return 0;
  }

  /** Sets the op's bin to a value that the server made; undefined: there is no such bin any more. */
  #put(m: MessageView, particle: Particle | undefined): void {
    const { bytes, opNameStart, opNameEnd } = m;
    if (particle) {
      const value = particle.bytes;
      this.#table.set(bytes, opNameStart, opNameEnd, particle.type, value, 0, value.length);
      return;
    }
    const i = this.#find(m);
    if (i >= 0) this.#table.remove(i);
  }

  /** An op that reads, other than READ. `particle` is what its bin holds. */
  #readOp(m: MessageView, out: MessageWriter, particle: Particle | undefined): number {
    switch (m.op) {
      case OpId.cdtRead: {
        if (this.#isTooMuch(particle)) return ResultCode.unsupportedFeature;
        const result = cdtRead(particle, m.opValue);
        if (result instanceof Refusal) return result.code;
        if (result || this.#respondAll) this.#answer(m, out, result);
        return 0;
      }
      case OpId.expRead: {
        const op = this.#expReads.of(m.opValue);
        const value = op instanceof Refusal ? op : expressionRead(op, this.#view);
        if (value instanceof Refusal) return value.code;
        if (value || this.#respondAll || this.#writes) this.#answer(m, out, value);
        return 0;
      }
      case OpId.bitsRead:
      case OpId.hllRead:
        return ResultCode.unsupportedFeature;
      default:
        return ResultCode.parameter;
    }
  }

  /** Counts what list and map operations of this command walk through: many of them on a large one would hold up everybody. */
  #isTooMuch(container: Particle | undefined): boolean {
    this.#containerBytes += container?.bytes.length ?? 0;
    return this.#containerBytes > CONTAINER_BYTES_MAX;
  }

  #setExpression(m: MessageView): number {
    const op = this.#expModifies.of(m.opValue);
    if (op instanceof Refusal) return op.code;
    const { flags } = op;
    const exists = this.#find(m) >= 0;
    const quietly = (code: number): number => (flags & ExpressionFlag.policyNoFail ? 0 : code);
    if (flags & ExpressionFlag.createOnly && exists) return quietly(ResultCode.binExists);
    if (flags & ExpressionFlag.updateOnly && !exists) return quietly(ResultCode.binNotFound);
    const value = refusalOr(() => op.expression.valueOrUnknown(this.#view));
    if (value instanceof Refusal) return value.code;
    if (value === 'unknown') return flags & ExpressionFlag.evalNoFail ? 0 : ResultCode.opNotApplicable;
    if (value === undefined) {
      // nil: any flag makes it no failure, on a server too
      if ((flags & ExpressionFlag.allowDelete) === 0)
        return flags === 0 && exists ? ResultCode.opNotApplicable : 0;
      this.#put(m, undefined);
      return 0;
    }
    return this.#store(m, value.type, value.bytes, 0, value.bytes.length);
  }

  #find(m: MessageView): number {
    return this.#table.find(m.bytes, m.opNameStart, m.opNameEnd);
  }

  #current(m: MessageView): Particle | undefined {
    return this.#table.particle(this.#find(m));
  }

  #answerTableBin(m: MessageView, out: MessageWriter): void {
    const i = this.#find(m);
    if (i >= 0) this.#answerRow(out, i);
    else if (this.#respondAll) this.#answer(m, out, undefined);
  }

  #answerTable(out: MessageWriter): number {
    for (let i = 0; i < this.#table.size; i++) this.#answerRow(out, i);
    return 0;
  }

  #answerRow(out: MessageWriter, i: number): void {
    const t = this.#table;
    out.op(
      OpId.read,
      t.type(i),
      t.name(i),
      t.nameStart(i),
      t.nameEnd(i),
      t.value(i),
      t.valueStart(i),
      t.valueEnd(i),
    );
  }

  /** The answer to the current op, under its own id and name. */
  #answer(m: MessageView, out: MessageWriter, particle: Particle | undefined): void {
    const value = particle?.bytes ?? NOTHING;
    const id = this.#asRead ? OpId.read : (m.op as OpId);
    out.op(id, particle?.type ?? 0, m.bytes, m.opNameStart, m.opNameEnd, value, 0, value.length);
  }
}

const answerBin = (
  out: MessageWriter,
  c: {
    readonly bytes: Buffer;
    readonly type: number;
    readonly nameStart: number;
    readonly nameEnd: number;
    readonly valueStart: number;
    readonly valueEnd: number;
  },
): void => out.op(OpId.read, c.type, c.bytes, c.nameStart, c.nameEnd, c.bytes, c.valueStart, c.valueEnd);

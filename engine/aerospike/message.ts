import { FIELD_IDS, type FieldId } from './field.ts';
import { malformed } from './malformed.ts';
import { OP_HAS_LUT, OP_HEAD_BYTES, OPS_MAX } from './operation.ts';

/** Bytes before the fields of a message. */
export const MESSAGE_HEADER_BYTES = 22;

/**
 * A view over one message, used again for the next (A6): {@link parse} checks that fields and ops fill it exactly (A3) and
 * remembers where they are; values are read from the bytes when asked for. Of two fields with one id the first counts.
 *
 *     const m = new MessageView();
 *     for (let at = 0; at < body.length; ) {
 *       at = m.parse(body, at);
 *       while (m.nextOp()) use(m.bytes, m.opValueStart, m.opValueEnd);
 *     }
 */
export class MessageView {
  bytes: Buffer = EMPTY;
  info1 = 0;
  info2 = 0;
  info3 = 0;
  info4 = 0;
  result = 0;
  generation = 0;
  recordTtl = 0;
  transactionTtl = 0;
  ops = 0;
  /** Of the op that {@link nextOp} stepped to: where name and value are in {@link bytes}. */
  op = 0;
  opType = 0;
  opNameStart = 0;
  opNameEnd = 0;
  opValueStart = 0;
  opValueEnd = 0;
  /** Where the data of each field begins, and ends; begin 0: there is none. */
  readonly #fieldStarts = new Uint32Array(FIELD_IDS);
  readonly #fieldEnds = new Uint32Array(FIELD_IDS);
  #opsStart = 0;
  #opAt = 0;
  #opsLeft = 0;

  /** Reads the message at `at`; returns where it ends. @throws wire-malformed */
  parse(bytes: Buffer, at = 0): number {
    if (bytes.length - at < MESSAGE_HEADER_BYTES)
      throw malformed(`a message of ${bytes.length - at} bytes is shorter than its header`);
    const headerBytes = bytes[at];
    if (headerBytes < MESSAGE_HEADER_BYTES || headerBytes > bytes.length - at)
      throw malformed(`a message header of ${headerBytes} bytes`);
    this.info1 = bytes[at + 1];
    this.info2 = bytes[at + 2];
    this.info3 = bytes[at + 3];
    this.info4 = bytes[at + 4];
    this.result = bytes[at + 5];
    this.generation = u32(bytes, at + 6);
    this.recordTtl = u32(bytes, at + 10);
    this.transactionTtl = u32(bytes, at + 14);
    const fields = (bytes[at + 18] << 8) | bytes[at + 19];
    const ops = (bytes[at + 20] << 8) | bytes[at + 21];
    return this.readBody(bytes, at + headerBytes, fields, ops);
  }

  /** The same for a body that holds one message and nothing else. @throws wire-malformed */
  parseWhole(bytes: Buffer): void {
    const end = this.parse(bytes, 0);
    if (end !== bytes.length) throw malformed(`${bytes.length - end} bytes follow the message`);
  }

  /** Reads fields and ops from `at`; returns where they end. Rows of a batch have them behind a header of their own. */
  readBody(bytes: Buffer, start: number, fields: number, ops: number): number {
    this.bytes = bytes;
    this.#fieldStarts.fill(0);
    let at = start;
    for (let n = 0; n < fields; n++) {
      if (bytes.length - at < 5) throw malformed(`field ${n + 1} of ${fields} is not there`);
      const length = u32(bytes, at);
      if (length < 1 || length > bytes.length - at - 4) throw malformed(`a field of ${length} bytes`);
      const id = bytes[at + 4];
      if (id < FIELD_IDS && this.#fieldStarts[id] === 0) {
        this.#fieldStarts[id] = at + 5;
        this.#fieldEnds[id] = at + 4 + length;
      }
      at += 4 + length;
    }
    if (ops > OPS_MAX) throw malformed(`${ops} ops; at most ${OPS_MAX}`);
    this.ops = ops;
    this.#opsStart = at;
    for (let n = 0; n < ops; n++) at = this.#checkOp(at, n);
    this.rewindOps();
    return at;
  }

  #checkOp(at: number, n: number): number {
    const { bytes } = this;
    if (bytes.length - at < 4 + OP_HEAD_BYTES) throw malformed(`op ${n + 1} of ${this.ops} is not there`);
    const length = u32(bytes, at);
    const lutBytes = bytes[at + 6] & OP_HAS_LUT ? 8 : 0;
    if (length > bytes.length - at - 4 || length < OP_HEAD_BYTES + bytes[at + 7] + lutBytes)
      throw malformed(`an op of ${length} bytes`);
    return at + 4 + length;
  }

  /** Where the ops begin in {@link bytes}. */
  get opsStart(): number {
    return this.#opsStart;
  }

  /** Before the first op again. */
  rewindOps(): void {
    this.#opAt = this.#opsStart;
    this.#opsLeft = this.ops;
  }

  /** Steps to the next op; false: there is none. */
  nextOp(): boolean {
    if (this.#opsLeft === 0) return false;
    this.#opsLeft--;
    const { bytes } = this;
    const at = this.#opAt;
    const end = at + 4 + u32(bytes, at);
    this.op = bytes[at + 4];
    this.opType = bytes[at + 5];
    this.opNameStart = at + 8;
    this.opNameEnd = at + 8 + bytes[at + 7];
    this.opValueStart = this.opNameEnd + (bytes[at + 6] & OP_HAS_LUT ? 8 : 0);
    this.opValueEnd = end;
    this.#opAt = end;
    return true;
  }

  /** A view of the current op's value. */
  get opValue(): Buffer {
    return this.bytes.subarray(this.opValueStart, this.opValueEnd);
  }

  /** The current op's bin name. */
  get opName(): string {
    return this.bytes.toString('utf8', this.opNameStart, this.opNameEnd);
  }

  has(id: FieldId): boolean {
    return this.#fieldStarts[id] !== 0;
  }

  /** Where a field's data begins in {@link bytes}; 0: there is none. */
  fieldStart(id: FieldId): number {
    return this.#fieldStarts[id];
  }

  fieldEnd(id: FieldId): number {
    return this.#fieldStarts[id] === 0 ? 0 : this.#fieldEnds[id];
  }

  /** A view of a field's data; undefined: there is none. */
  field(id: FieldId): Buffer | undefined {
    const start = this.#fieldStarts[id];
    return start === 0 ? undefined : this.bytes.subarray(start, this.#fieldEnds[id]);
  }

  /** A field as text; '' when there is none. */
  fieldText(id: FieldId): string {
    const start = this.#fieldStarts[id];
    return start === 0 ? '' : this.bytes.toString('utf8', start, this.#fieldEnds[id]);
  }

  /** A field of 4 bytes. @throws wire-malformed when it has another size */
  fieldU32(id: FieldId): number | undefined {
    const start = this.#fieldOf(id, 4);
    return start === 0 ? undefined : this.bytes.readUInt32BE(start);
  }

  /** A field of 8 bytes. @throws wire-malformed when it has another size */
  fieldU64(id: FieldId): bigint | undefined {
    const start = this.#fieldOf(id, 8);
    return start === 0 ? undefined : this.bytes.readBigUInt64BE(start);
  }

  #fieldOf(id: FieldId, size: number): number {
    const start = this.#fieldStarts[id];
    if (start !== 0 && this.#fieldEnds[id] - start !== size)
      throw malformed(`field ${id} has ${this.#fieldEnds[id] - start} bytes, not ${size}`);
    return start;
  }
}

const EMPTY = Buffer.alloc(0);

/** As readUInt32BE where the bounds are known already. */
const u32 = (b: Buffer, at: number): number =>
  ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0;

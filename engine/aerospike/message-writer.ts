import { giveBack } from '../give-back.ts';
import type { FieldId } from './field.ts';
import { MESSAGE_HEADER_BYTES } from './message.ts';
import { OP_HEAD_BYTES, type OpId } from './operation.ts';
import { PROTO_HEADER_BYTES, ProtoType, writeProtoHeader } from './proto.ts';

/** What a message begins with; what is left out is 0. */
export interface MessageHeader {
  readonly info1?: number;
  readonly info2?: number;
  readonly info3?: number;
  readonly info4?: number;
  readonly result?: number;
  readonly generation?: number;
  readonly recordTtl?: number;
  readonly transactionTtl?: number;
}

/** A buffer is at first as large as what was taken last, within these bounds. */
const FIRST_BYTES_MIN = 1024;
const FIRST_BYTES_MAX = 256 * 1024;
/** Below this a loop is faster than the call. */
const LOOP_BYTES_MAX = 48;

/**
 * Frames and messages, one after another into one growing buffer; {@link take} gives out what was written. Numbers of fields
 * and ops and lengths are filled in at the end, so nobody counts ahead.
 *
 *     w.beginFrame();
 *     w.beginMessage({ result: ResultCode.ok, generation, recordTtl: voidTime });
 *     w.op(OpId.read, type, name, 0, name.length, value, 0, value.length);
 *     w.endMessage();
 *     w.endFrame();
 */
export class MessageWriter {
  #buffer: Buffer = EMPTY;
  /** Where what was written ends. */
  #end = 0;
  #frameAt = 0;
  #messageAt = 0;
  #fields = 0;
  #ops = 0;
  /** Bytes that were taken last. */
  #lastBytes = 0;

  /** Bytes written and not taken. */
  get length(): number {
    return this.#end;
  }

  /** Bytes of the frame that has begun, its header included. */
  get frameBytes(): number {
    return this.#end - this.#frameAt;
  }

  /** What was written, for good: it is not written to again, and nothing of it is kept here. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#end);
    this.#lastBytes = this.#end;
    this.#buffer = EMPTY;
    this.#end = 0;
    return taken;
  }

  /** What was written, to look at: it holds until the next call. */
  view(): Buffer {
    return this.#buffer.subarray(0, this.#end);
  }

  /** Forgets what was written and not taken, and keeps the memory. */
  clear(): void {
    this.#end = 0;
  }

  beginFrame(): void {
    this.#room(PROTO_HEADER_BYTES);
    this.#frameAt = this.#end;
    this.#end += PROTO_HEADER_BYTES;
  }

  endFrame(type: ProtoType = ProtoType.message): void {
    const bodyBytes = this.#end - this.#frameAt - PROTO_HEADER_BYTES;
    writeProtoHeader(this.#buffer, this.#frameAt, type, bodyBytes);
  }

  /** Forgets what was written since {@link length} was `length`. */
  truncate(length: number): void {
    this.#end = length;
  }

  /** Gives up the frame that has begun: as if it had not. */
  dropFrame(): void {
    this.#end = this.#frameAt;
  }

  /** Begins a message; fields, then ops, then {@link endMessage}. */
  beginMessage(header: MessageHeader = {}): void {
    this.beginMessageOf(
      header.info1 ?? 0,
      header.info2 ?? 0,
      header.info3 ?? 0,
      header.info4 ?? 0,
      header.result ?? 0,
      header.generation ?? 0,
      header.recordTtl ?? 0,
      header.transactionTtl ?? 0,
    );
  }

  /** The same without an object, for where there are many. */
  beginMessageOf(
    info1: number,
    info2: number,
    info3: number,
    info4: number,
    result: number,
    generation: number,
    recordTtl: number,
    transactionTtl: number,
  ): void {
    this.#room(MESSAGE_HEADER_BYTES);
    const b = this.#buffer;
    const at = this.#end;
    b[at] = MESSAGE_HEADER_BYTES;
    b[at + 1] = info1;
    b[at + 2] = info2;
    b[at + 3] = info3;
    b[at + 4] = info4;
    b[at + 5] = result;
    putU32(b, at + 6, generation);
    putU32(b, at + 10, recordTtl);
    putU32(b, at + 14, transactionTtl);
    this.#messageAt = at;
    this.#end = at + MESSAGE_HEADER_BYTES;
    this.#fields = 0;
    this.#ops = 0;
  }

  /** What the message's header says of result and record, for who knows it only at the end. */
  setOutcome(result: number, generation: number, recordTtl: number): void {
    this.#buffer[this.#messageAt + 5] = result;
    putU32(this.#buffer, this.#messageAt + 6, generation);
    putU32(this.#buffer, this.#messageAt + 10, recordTtl);
  }

  endMessage(): void {
    const b = this.#buffer;
    const at = this.#messageAt;
    b[at + 18] = this.#fields >>> 8;
    b[at + 19] = this.#fields;
    b[at + 20] = this.#ops >>> 8;
    b[at + 21] = this.#ops;
  }

  /** Gives up the message that has begun: as if it had not. */
  dropMessage(): void {
    this.#end = this.#messageAt;
  }

  /** Ops of the message so far. */
  get ops(): number {
    return this.#ops;
  }

  /** One message in a frame of its own, without fields and ops: most answers. */
  status(result: number, generation: number, recordTtl: number, info3 = 0, transactionTtl = 0): void {
    this.beginFrame();
    this.beginMessageOf(0, 0, info3, 0, result, generation, recordTtl, transactionTtl);
    this.endMessage();
    this.endFrame();
  }

  field(id: FieldId, data: Uint8Array, start = 0, end = data.length): void {
    const bytes = end - start;
    this.#room(5 + bytes);
    putU32(this.#buffer, this.#end, bytes + 1);
    this.#buffer[this.#end + 4] = id;
    copy(this.#buffer, this.#end + 5, data, start, end);
    this.#end += 5 + bytes;
    this.#fields++;
  }

  fieldText(id: FieldId, text: string): void {
    this.field(id, Buffer.from(text, 'utf8'));
  }

  fieldU32(id: FieldId, value: number): void {
    this.#fieldHead(id, 4);
    putU32(this.#buffer, this.#end, value);
    this.#end += 4;
  }

  fieldU64(id: FieldId, value: bigint): void {
    this.#fieldHead(id, 8);
    this.#buffer.writeBigUInt64BE(value, this.#end);
    this.#end += 8;
  }

  /** A key: its particle type and bytes in one field. */
  fieldKey(id: FieldId, type: number, key: Uint8Array, start = 0, end = key.length): void {
    this.#fieldHead(id, 1 + end - start);
    this.#buffer[this.#end] = type;
    copy(this.#buffer, this.#end + 1, key, start, end);
    this.#end += 1 + end - start;
  }

  #fieldHead(id: FieldId, bytes: number): void {
    this.#room(5 + bytes);
    putU32(this.#buffer, this.#end, bytes + 1);
    this.#buffer[this.#end + 4] = id;
    this.#end += 5;
    this.#fields++;
  }

  /** An op; name and value are parts of buffers, so that nobody makes views of them. */
  op(
    op: OpId,
    type: number,
    name: Uint8Array,
    nameStart: number,
    nameEnd: number,
    value: Uint8Array,
    valueStart: number,
    valueEnd: number,
  ): void {
    const nameBytes = nameEnd - nameStart;
    const bytes = OP_HEAD_BYTES + nameBytes + valueEnd - valueStart;
    this.#room(4 + bytes);
    const b = this.#buffer;
    const at = this.#end;
    putU32(b, at, bytes);
    b[at + 4] = op;
    b[at + 5] = type;
    b[at + 6] = 0;
    b[at + 7] = nameBytes;
    copy(b, at + 8, name, nameStart, nameEnd);
    copy(b, at + 8 + nameBytes, value, valueStart, valueEnd);
    this.#end = at + 4 + bytes;
    this.#ops++;
  }

  /** An op whose name and value are whole; null: without value. */
  opOf(op: OpId, name: string, particle: { readonly type: number; readonly bytes: Uint8Array } | null): void {
    const nameBytes = Buffer.from(name, 'utf8');
    const value = particle?.bytes ?? EMPTY;
    this.op(op, particle?.type ?? 0, nameBytes, 0, nameBytes.length, value, 0, value.length);
  }

  /** Single numbers and bytes, for data that is written piece by piece. */
  u8(value: number): void {
    this.#room(1);
    this.#buffer[this.#end++] = value;
  }

  u16(value: number): void {
    this.#room(2);
    this.#buffer[this.#end++] = value >>> 8;
    this.#buffer[this.#end++] = value;
  }

  u32(value: number): void {
    this.#room(4);
    putU32(this.#buffer, this.#end, value);
    this.#end += 4;
  }

  bytes(data: Uint8Array, start = 0, end = data.length): void {
    this.#room(end - start);
    copy(this.#buffer, this.#end, data, start, end);
    this.#end += end - start;
  }

  /** A field whose data is written piece by piece: returns what {@link endField} takes. */
  beginField(id: FieldId): number {
    this.#fieldHead(id, 0);
    return this.length;
  }

  endField(begun: number): void {
    putU32(this.#buffer, begun - 5, this.length - begun + 1);
  }

  /** Overwrites a word written earlier; `at` is what {@link length} was before it. */
  setU16(at: number, value: number): void {
    this.#buffer.writeUInt16BE(value, at);
  }

  setU32(at: number, value: number): void {
    putU32(this.#buffer, at, value);
  }

  /** Fields or ops that are not the message's own: rows of a batch count theirs. Calls `write`, returns how many it wrote. */
  counting(write: () => void): { fields: number; ops: number } {
    const [fields, ops] = [this.#fields, this.#ops];
    this.#fields = 0;
    this.#ops = 0;
    write();
    const counted = { fields: this.#fields, ops: this.#ops };
    this.#fields = fields;
    this.#ops = ops;
    return counted;
  }

  /** Makes room for so many bytes at once, for who knows how many there will be. */
  reserve(bytes: number): void {
    this.#room(bytes);
  }

  #room(bytes: number): void {
    const old = this.#buffer;
    if (old.length - this.#end >= bytes) return;
    const first = Math.min(FIRST_BYTES_MAX, Math.max(FIRST_BYTES_MIN, this.#lastBytes));
    const grown = Buffer.allocUnsafeSlow(Math.max(first, 2 * this.#end, this.#end + bytes));
    old.copy(grown, 0, 0, this.#end);
    // the garbage collector would be late with what large answers leave behind
    if (old.length > 0) giveBack([old]);
    this.#buffer = grown;
  }
}

const EMPTY = Buffer.alloc(0);

const putU32 = (b: Buffer, at: number, value: number): void => {
  b[at] = value >>> 24;
  b[at + 1] = value >>> 16;
  b[at + 2] = value >>> 8;
  b[at + 3] = value;
};

const copy = (out: Buffer, at: number, data: Uint8Array, start: number, end: number): void => {
  if (end - start > LOOP_BYTES_MAX) out.set(data.subarray(start, end), at);
  else for (let i = start, o = at; i < end; i++, o++) out[o] = data[i];
};

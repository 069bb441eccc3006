import { DIGEST_BYTES } from '../partition.ts';
import { FieldId } from './field.ts';
import { malformed } from './malformed.ts';
import { MessageView } from './message.ts';
import type { MessageWriter } from './message-writer.ts';

/** Flags of a batch. */
export const BatchFlag = { inline: 0x01, inlineSsd: 0x02, respondAll: 0x04, reportErrors: 0x08 } as const;

/** What a row has. */
const RowHas = { repeat: 0x01, info: 0x02, generation: 0x04, ttl: 0x08, info4: 0x10 } as const;

/** Bytes of the rows' count and the flags. */
const HEAD_BYTES = 5;
/** The smallest row, which repeats the one before: index, digest, what it has. */
const ROW_BYTES_MIN = 4 + DIGEST_BYTES + 1;

/**
 * The rows of field 41, one at a time: {@link row} is the current one's command as if it had come alone, with fields, ops, info
 * bits, generation and ttl; it stays as it is where a row repeats the one before. Key of the record: {@link digestStart}.
 */
export class BatchView {
  readonly row = new MessageView();
  count = 0;
  flags = 0;
  /** The client's number of the row. */
  index = 0;
  /** Where the row's digest is in {@link bytes}. */
  digestStart = 0;
  /** The row is the one before with another digest. */
  isRepeat = false;
  bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #rows = 0;

  /** @throws wire-malformed when more rows are stated than can be there */
  parse(data: Buffer): void {
    if (data.length < HEAD_BYTES) throw malformed('a batch without its head');
    this.count = data.readUInt32BE(0);
    this.flags = data[4];
    if (this.count * ROW_BYTES_MIN > data.length - HEAD_BYTES)
      throw malformed(`a batch of ${data.length} bytes that states ${this.count} rows`);
    this.bytes = data;
    this.#at = HEAD_BYTES;
    this.#rows = 0;
  }

  /** Steps to the next row; false: that was the last. @throws wire-malformed, also when bytes are left over */
  next(): boolean {
    const { bytes } = this;
    if (this.#rows === this.count) {
      if (this.#at !== bytes.length) throw malformed(`${bytes.length - this.#at} bytes follow the rows`);
      return false;
    }
    const at = this.#at;
    if (bytes.length - at < ROW_BYTES_MIN)
      throw malformed(`row ${this.#rows + 1} of ${this.count} is not there`);
    this.index = bytes.readUInt32BE(at);
    this.digestStart = at + 4;
    const has = bytes[at + 4 + DIGEST_BYTES];
    this.isRepeat = (has & RowHas.repeat) !== 0;
    this.#at = at + ROW_BYTES_MIN;
    if (this.isRepeat && this.#rows === 0) throw malformed('the first row repeats one before it');
    if (!this.isRepeat) this.#readRow(has);
    this.#rows++;
    this.row.rewindOps();
    return true;
  }

  #readRow(has: number): void {
    const { bytes, row } = this;
    let at = this.#at;
    const info4 = has & RowHas.info4 ? 1 : 0;
    const headBytes =
      1 +
      (has & RowHas.info ? 2 : 0) +
      info4 +
      (has & RowHas.generation ? 2 : 0) +
      (has & RowHas.ttl ? 4 : 0);
    if (bytes.length - at < headBytes + 4) throw malformed('a row without its head');
    row.info1 = bytes[at++];
    row.info2 = has & RowHas.info ? bytes[at++] : 0;
    row.info3 = has & RowHas.info ? bytes[at++] : 0;
    row.info4 = info4 ? bytes[at++] : 0;
    row.generation = 0;
    row.recordTtl = 0;
    if (has & RowHas.generation) {
      row.generation = bytes.readUInt16BE(at);
      at += 2;
    }
    if (has & RowHas.ttl) {
      row.recordTtl = bytes.readUInt32BE(at);
      at += 4;
    }
    this.#at = row.readBody(bytes, at + 4, bytes.readUInt16BE(at), bytes.readUInt16BE(at + 2));
  }
}

/** The head of a row that a client writes. */
export interface BatchRowHead {
  readonly info1: number;
  readonly info2: number;
  readonly info3: number;
  readonly generation: number;
  readonly recordTtl: number;
}

/** Begins field 41 of a request; then {@link writeBatchRow} and {@link writeBatchRepeat}, then {@link endBatch}. */
export const beginBatch = (w: MessageWriter, flags: number): number => {
  const begun = w.beginField(FieldId.batch);
  w.u32(0);
  w.u8(flags);
  return begun;
};

export const endBatch = (w: MessageWriter, begun: number, rows: number): void => {
  w.setU32(begun, rows);
  w.endField(begun);
};

/** A row with all of its head; `body` writes its fields, the namespace first, and ops. */
export const writeBatchRow = (
  w: MessageWriter,
  index: number,
  digest: Uint8Array,
  head: BatchRowHead,
  body: () => void,
): void => {
  w.u32(index);
  w.bytes(digest);
  w.u8(RowHas.info | RowHas.generation | RowHas.ttl);
  w.u8(head.info1);
  w.u8(head.info2);
  w.u8(head.info3);
  w.u16(head.generation);
  w.u32(head.recordTtl);
  const counts = w.length;
  w.u32(0);
  const { fields, ops } = w.counting(body);
  w.setU16(counts, fields);
  w.setU16(counts + 2, ops);
};

/** The row before once more, for another record. Not after a row that has a key. */
export const writeBatchRepeat = (w: MessageWriter, index: number, digest: Uint8Array): void => {
  w.u32(index);
  w.bytes(digest);
  w.u8(RowHas.repeat);
};

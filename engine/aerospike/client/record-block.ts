import { ParticleType } from '../../particle.ts';
import { partitionOf } from '../../partition.ts';
import { fromWireVoidTime } from '../epoch.ts';
import { FieldId } from '../field.ts';
import { MessageView } from '../message.ts';
import { imageOf } from './image.ts';
import { type AerospikeRecord, isLutAnswer, lutMsAt, recordOf } from './record.ts';

/** Words of a record in {@link RecordBlock.columns}. */
const COLUMNS = 10;
const START = 0;
const GENERATION = 1;
const VOID_TIME = 2;
const DIGEST = 3;
const SET = 4;
const SET_END = 5;
const KEY = 6;
const KEY_END = 7;
const OPS = 8;
const OPS_START = 9;

/**
 * Records of a scan as they came in one frame: where their parts are in {@link bytes}, in columns, no object for each. It holds as long as it is
 * kept; keeping it keeps the frame, about 1 MiB.
 *
 *     for (let i = 0; i < block.length; i++) {
 *       write(block.bytes, block.digestStart(i), block.generation(i), block.voidTimeS(i));
 *       for (block.rewindBins(i); block.nextBin(); )
 *         write(block.bytes, block.binNameStart, block.binNameEnd, block.binType, block.binStart, block.binEnd);
 *     }
 */
export class RecordBlock {
  readonly bytes: Buffer;
  readonly length: number;
  readonly #columns: Uint32Array;
  readonly #view = new MessageView();
  /** Of the bin that {@link nextBin} stepped to. */
  binType = 0;
  binNameStart = 0;
  binNameEnd = 0;
  binStart = 0;
  binEnd = 0;
  /** Last update of the record, ms since 1970, once its bins were stepped through; undefined unless the scan asked for it. */
  lutMs: number | undefined;

  constructor(bytes: Buffer, columns: Uint32Array, length: number) {
    this.bytes = bytes;
    this.#columns = columns;
    this.length = length;
  }

  generation(i: number): number {
    return this.#columns[i * COLUMNS + GENERATION];
  }

  /** Seconds since 1970, 0 never. */
  voidTimeS(i: number): number {
    return fromWireVoidTime(this.#columns[i * COLUMNS + VOID_TIME]);
  }

  /** Of 20 bytes. */
  digestStart(i: number): number {
    return this.#columns[i * COLUMNS + DIGEST];
  }

  partition(i: number): number {
    return partitionOf(this.bytes, this.digestStart(i));
  }

  /** Equal to {@link setEnd} when the record has no set. */
  setStart(i: number): number {
    return this.#columns[i * COLUMNS + SET];
  }

  setEnd(i: number): number {
    return this.#columns[i * COLUMNS + SET_END];
  }

  /** Of the stored key: one byte of particle type, then the key. Equal to {@link keyEnd} when none is stored. */
  keyStart(i: number): number {
    return this.#columns[i * COLUMNS + KEY];
  }

  keyEnd(i: number): number {
    return this.#columns[i * COLUMNS + KEY_END];
  }

  /** Answers of the record: bins, and its last update where that was asked for. */
  ops(i: number): number {
    return this.#columns[i * COLUMNS + OPS];
  }

  /** Of the first of them; the next begins where one ends. They were checked. */
  opsStart(i: number): number {
    return this.#columns[i * COLUMNS + OPS_START];
  }

  /** So many bytes, at least, the record has in the frame. */
  bytesOf(i: number): number {
    const end = i + 1 < this.length ? this.#columns[(i + 1) * COLUMNS + START] : this.bytes.length;
    return end - this.#columns[i * COLUMNS + START];
  }

  /** Before the first bin of record `i`. */
  rewindBins(i: number): void {
    this.#view.parse(this.bytes, this.#columns[i * COLUMNS + START]);
    this.lutMs = undefined;
  }

  /** Steps to the next bin that has a value. */
  nextBin(): boolean {
    const m = this.#view;
    while (m.nextOp()) {
      if (isLutAnswer(m)) this.lutMs = lutMsAt(m.bytes, m.opValueStart);
      else if (m.opType !== ParticleType.null) {
        this.binType = m.opType;
        this.binNameStart = m.opNameStart;
        this.binNameEnd = m.opNameEnd;
        this.binStart = m.opValueStart;
        this.binEnd = m.opValueEnd;
        return true;
      }
    }
    return false;
  }

  /** A view of record `i` before its first answer; it holds until the next one. */
  message(i: number): MessageView {
    this.#view.parse(this.bytes, this.#columns[i * COLUMNS + START]);
    return this.#view;
  }

  /** Last update of record `i`, ms since 1970; undefined unless the scan asked for it. */
  lutMsOf(i: number): number | undefined {
    this.rewindBins(i);
    while (this.nextBin());
    return this.lutMs;
  }

  /** Stored key and bins of record `i` as an image (engine/image.ts). */
  image(i: number): Buffer {
    this.#view.parse(this.bytes, this.#columns[i * COLUMNS + START]);
    return imageOf(this.#view, this.bytes, this.keyStart(i), this.keyEnd(i));
  }

  /** Record `i` as an object of its own. */
  record(i: number): AerospikeRecord {
    this.#view.parse(this.bytes, this.#columns[i * COLUMNS + START]);
    return recordOf(this.#view);
  }

  /** All of them, each an object of its own. */
  *records(): Generator<AerospikeRecord> {
    for (let i = 0; i < this.length; i++) yield this.record(i);
  }
}

const FIRST_RECORDS = 64;

/** Columns of one frame, while it is read. */
export class BlockBuilder {
  #columns = new Uint32Array(FIRST_RECORDS * COLUMNS);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** Adds the record that `m` has read from `start`; it has a digest. */
  add(m: MessageView, start: number): void {
    if (this.#columns.length === this.#length * COLUMNS) {
      const grown = new Uint32Array(2 * this.#columns.length);
      grown.set(this.#columns);
      this.#columns = grown;
    }
    const c = this.#columns;
    const at = this.#length++ * COLUMNS;
    c[at + START] = start;
    c[at + GENERATION] = m.generation;
    c[at + VOID_TIME] = m.recordTtl;
    c[at + DIGEST] = m.fieldStart(FieldId.digest);
    c[at + SET] = m.fieldStart(FieldId.set);
    c[at + SET_END] = m.fieldEnd(FieldId.set);
    c[at + KEY] = m.fieldStart(FieldId.key);
    c[at + KEY_END] = m.fieldEnd(FieldId.key);
    c[at + OPS] = m.ops;
    c[at + OPS_START] = m.opsStart;
  }

  /** The block of what was added. */
  take(bytes: Buffer): RecordBlock {
    const block = new RecordBlock(bytes, this.#columns.slice(0, this.#length * COLUMNS), this.#length);
    this.#length = 0;
    return block;
  }
}

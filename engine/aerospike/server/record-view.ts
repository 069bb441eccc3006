import type { Particle } from '../../particle.ts';
import { isExpired, state } from '../../state-record.ts';
import { toWireVoidTime } from '../epoch.ts';
import type { ExpressionRecord } from '../expression/expression.ts';
import type { BinTable } from './bin-table.ts';
import { ImageCursor } from './image-cursor.ts';

/** Stored sizes are told in blocks of this many bytes. */
const BLOCK_BYTES = 16;

/**
 * What expressions may ask of a record: of a stored value where it lies, or, within a command that writes, of its bins as they are by
 * then. One object for record after record; what costs something is made when it is asked for.
 */
export class RecordView implements ExpressionRecord {
  readonly cursor = new ImageCursor();
  digest: Buffer = Buffer.alloc(0);
  lut = 0;
  voidTime = 0;
  generation = 0;
  now = 0;
  storedBytes = 0;
  #value: Buffer = Buffer.alloc(0);
  #start = 0;
  #table: BinTable | undefined;

  /** Stands on a stored value, `bytes[start, end)`. `digest` is kept, not copied. */
  open(bytes: Buffer, start: number, end: number, digest: Buffer, now: number): void {
    this.digest = digest;
    this.now = now;
    this.#value = bytes;
    this.#start = start;
    this.#table = undefined;
    this.generation = bytes.readUInt16LE(start);
    this.voidTime = toWireVoidTime(bytes.readUInt32LE(start + 2));
    this.lut = bytes.readUIntLE(start + 18, 6);
    this.storedBytes = Math.ceil((end - start) / BLOCK_BYTES) * BLOCK_BYTES;
    this.cursor.open(bytes, this.imageStart, end);
  }

  /** From here on its bins are those of `table`, and its time of update is the one that it is given. */
  become(table: BinTable, lut: number, voidTime: number): void {
    this.#table = table;
    this.lut = lut;
    this.voidTime = toWireVoidTime(voidTime);
  }

  /** A record that is being created. */
  create(digest: Buffer, now: number, set: Buffer): void {
    this.digest = digest;
    this.now = now;
    this.generation = 0;
    this.storedBytes = 0;
    this.#value = set;
    this.#start = -1;
    this.cursor.keyType = -1;
  }

  get setStart(): number {
    return this.#start < 0 ? 0 : this.#start + 25;
  }

  get setEnd(): number {
    return this.#start < 0 ? this.#value.length : this.#start + 25 + this.#value[this.#start + 24];
  }

  get imageStart(): number {
    return this.setEnd;
  }

  get set(): string {
    return this.#value.toString('utf8', this.setStart, this.setEnd);
  }

  get key(): Particle | undefined {
    const { keyType, keyStart, keyEnd, bytes } = this.cursor;
    return keyType < 0 ? undefined : { type: keyType, bytes: bytes.subarray(keyStart, keyEnd) };
  }

  bin(name: string): Particle | undefined {
    const bytes = Buffer.from(name, 'utf8');
    if (this.#table) return this.#table.particle(this.#table.find(bytes, 0, bytes.length));
    const { cursor } = this;
    if (!cursor.find(bytes, 0, bytes.length)) return undefined;
    return { type: cursor.type, bytes: cursor.bytes.subarray(cursor.valueStart, cursor.valueEnd) };
  }
}

/** Whether a stored value, `bytes[start, …)`, counts no more at an instant. */
export const isGone = (bytes: Buffer, start: number, nowMs: number): boolean =>
  isExpired(bytes.readUInt32LE(start + 2), nowMs);

/** Void time of a stored value as it is sent. */
export const wireVoidTime = (value: Buffer): number => toWireVoidTime(state.voidTime(value));

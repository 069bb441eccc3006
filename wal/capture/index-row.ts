import { digestOfSortKey } from '../../engine/partition.ts';

/** Bytes of a row; the layout is in README.md, section "Index". */
export const ROW_BYTES = 60;
export const KEY_BYTES = 20;

export const ROW_FLAG = {
  /** The LUT is a bound: at most that. */
  base: 1,
  /** Of a set that is left out: counted, never logged. */
  unlogged: 2,
  /** The LUT is exact, as it was learned later; the log has a bound, which is the ts. */
  learned: 4,
} as const;

const GENERATION = 20;
const FLAGS = 22;
const SET = 24;
const VOID_TIME = 28;
const LUT = 32;
const TS = 38;
const HASH = 44;

/** What a row says, apart from its key. */
export interface RowFields {
  readonly generation: number;
  readonly flags: number;
  /** Index into the table of sets. */
  readonly set: number;
  readonly voidTimeS: number;
  readonly lutMs: number;
  /** Ts of the last version in the log, ms. */
  readonly ts: number;
  /** Four words; copied. */
  readonly hash: Uint32Array;
}

export const writeRow = (out: Buffer, at: number, key: Uint8Array, fields: RowFields): void => {
  out.set(key, at);
  writeFields(out, at, fields);
};

export const writeFields = (out: Buffer, at: number, fields: RowFields): void => {
  out.writeUInt16LE(fields.generation, at + GENERATION);
  out[at + FLAGS] = fields.flags;
  out[at + FLAGS + 1] = 0;
  out.writeUInt32LE(fields.set, at + SET);
  out.writeUInt32LE(fields.voidTimeS, at + VOID_TIME);
  out.writeUIntLE(fields.lutMs, at + LUT, 6);
  out.writeUIntLE(fields.ts, at + TS, 6);
  for (let lane = 0; lane < 4; lane++) out.writeUInt32LE(fields.hash[lane], at + HASH + lane * 4);
};

const ROW_WORDS = ROW_BYTES / 4;

/**
 * Rows of a base copy, in place of {@link writeRow} a million times: they differ in few fields, and all are whole words. Little endian, as everything here.
 * Words of the sort key are its bytes read big endian.
 */
export class BaseRows {
  length = 0;
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  /** LUT and ts of all of them, six bytes each. */
  readonly #times: Uint32Array;

  /** `ts`: that of the copy, ms. */
  constructor(rowsMax: number, ts: number) {
    const buffer = new ArrayBuffer(rowsMax * ROW_BYTES);
    this.#bytes = Buffer.from(buffer);
    this.#words = new Uint32Array(buffer);
    const times = Buffer.alloc(TS + 6 - LUT);
    times.writeUIntLE(ts, 0, 6);
    times.writeUIntLE(ts, TS - LUT, 6);
    this.#times = Uint32Array.from([0, 4, 8], (at) => times.readUInt32LE(at));
  }

  /** The rows so far, a view. */
  get used(): Buffer {
    return this.#bytes.subarray(0, this.length * ROW_BYTES);
  }

  add(
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    generation: number,
    flags: number,
    set: number,
    voidTimeS: number,
    hash: Uint32Array,
  ): void {
    const words = this.#words;
    let at = this.length++ * ROW_WORDS;
    words[at++] = swapped(w0);
    words[at++] = swapped(w1);
    words[at++] = swapped(w2);
    words[at++] = swapped(w3);
    words[at++] = swapped(w4);
    words[at++] = generation | (flags << 16);
    words[at++] = set;
    words[at++] = voidTimeS;
    words[at++] = this.#times[0];
    words[at++] = this.#times[1];
    words[at++] = this.#times[2];
    for (let lane = 0; lane < 4; lane++) words[at++] = hash[lane];
  }
}

const swapped = (word: number): number =>
  (word << 24) | ((word << 8) & 0xff0000) | ((word >>> 8) & 0xff00) | (word >>> 24);

/** Gives sets other numbers: `numbers` has the new one of each. */
export const renumberSets = (rows: Buffer, numbers: readonly number[]): void => {
  if (numbers.every((number, old) => number === old)) return;
  for (let at = SET; at < rows.length; at += ROW_BYTES)
    rows.writeUInt32LE(numbers[rows.readUInt32LE(at)], at);
};

/** Rows one after the other, sorted by key. No object for a row: ask by its number. */
export class Rows {
  readonly bytes: Buffer;
  readonly length: number;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.length = bytes.length / ROW_BYTES;
  }

  generation(i: number): number {
    return this.bytes.readUInt16LE(i * ROW_BYTES + GENERATION);
  }

  flags(i: number): number {
    return this.bytes[i * ROW_BYTES + FLAGS];
  }

  /** The LUT is only a bound: at most {@link lutMs}. */
  isBase(i: number): boolean {
    return (this.flags(i) & ROW_FLAG.base) !== 0;
  }

  isLogged(i: number): boolean {
    return (this.flags(i) & ROW_FLAG.unlogged) === 0;
  }

  set(i: number): number {
    return this.bytes.readUInt32LE(i * ROW_BYTES + SET);
  }

  /** Seconds since 1970, 0 never. */
  voidTimeS(i: number): number {
    return this.bytes.readUInt32LE(i * ROW_BYTES + VOID_TIME);
  }

  lutMs(i: number): number {
    return this.bytes.readUIntLE(i * ROW_BYTES + LUT, 6);
  }

  /** LUT as the log has it, ms: what a truncation goes by. */
  loggedLutMs(i: number): number {
    return (this.flags(i) & ROW_FLAG.learned) === 0 ? this.lutMs(i) : this.ts(i);
  }

  /** Ts of the last version in the log, ms. */
  ts(i: number): number {
    return this.bytes.readUIntLE(i * ROW_BYTES + TS, 6);
  }

  /** Content hash, copied into `out`. */
  hash(i: number, out: Uint32Array): Uint32Array {
    for (let lane = 0; lane < 4; lane++) out[lane] = this.bytes.readUInt32LE(i * ROW_BYTES + HASH + lane * 4);
    return out;
  }

  digest(i: number): Buffer {
    return digestOfSortKey(this.bytes, i * ROW_BYTES);
  }

  /** The sort key, a view. */
  key(i: number): Buffer {
    return this.bytes.subarray(i * ROW_BYTES, i * ROW_BYTES + KEY_BYTES);
  }

  /** Order of row `i` and the sort key at `at` of `key`. */
  compare(i: number, key: Uint8Array, at = 0): number {
    const { bytes } = this;
    for (let j = 0, from = i * ROW_BYTES; j < KEY_BYTES; j++) {
      const order = bytes[from + j] - key[at + j];
      if (order !== 0) return order;
    }
    return 0;
  }

  /** Number of the first row whose key is not below `key`. */
  lowerBound(key: Uint8Array): number {
    let from = 0;
    let to = this.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.compare(middle, key) < 0) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  /** Number of the row of `key`, or -1. */
  find(key: Uint8Array): number {
    const i = this.lowerBound(key);
    return i < this.length && this.compare(i, key) === 0 ? i : -1;
  }
}

export const NO_ROWS = new Rows(Buffer.alloc(0));

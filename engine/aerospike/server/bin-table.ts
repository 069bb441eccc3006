import { varintBytes, writeVarint } from '../../image.ts';
import type { Particle } from '../../particle.ts';
import { type ImageCursor, isSame } from './image-cursor.ts';

/** With more bins than this a name is looked up in a map. */
const LINEAR_MAX = 24;

/**
 * The bins of a record while a command changes them, in columns that are used again for the next record. Names and values stay where they
 * are, in the stored image, the request or a buffer of their own, until {@link encode} copies them into the new image.
 */
export class BinTable {
  #rows = 0;
  readonly #names: Uint8Array[] = [];
  readonly #nameStarts: number[] = [];
  readonly #nameEnds: number[] = [];
  /** 0: the bin was removed. */
  readonly #types: number[] = [];
  readonly #values: Uint8Array[] = [];
  readonly #valueStarts: number[] = [];
  readonly #valueEnds: number[] = [];
  #live = 0;
  #index: Map<string, number> | undefined;

  /** Bins that there are. */
  get size(): number {
    return this.#live;
  }

  /** Rows, removed ones included: what indexes run over. */
  get rows(): number {
    return this.#rows;
  }

  clear(): void {
    this.#rows = 0;
    this.#live = 0;
    this.#index = undefined;
  }

  /** Lets go of what it refers to, when that was large. */
  forget(): void {
    this.clear();
    this.#names.length = 0;
    this.#values.length = 0;
  }

  /** The bins of a stored image. */
  load(cursor: ImageCursor): void {
    this.clear();
    cursor.rewind();
    while (cursor.next())
      this.#add(
        cursor.bytes,
        cursor.nameStart,
        cursor.nameEnd,
        cursor.type,
        cursor.bytes,
        cursor.valueStart,
        cursor.valueEnd,
      );
  }

  /** Index of a bin, -1 when there is none. */
  find(name: Uint8Array, start: number, end: number): number {
    if (this.#rows > LINEAR_MAX) return this.#lookUp(name, start, end);
    for (let i = 0; i < this.#rows; i++)
      if (
        this.#types[i] !== 0 &&
        isSame(this.#names[i], this.#nameStarts[i], this.#nameEnds[i], name, start, end)
      )
        return i;
    return -1;
  }

  #lookUp(name: Uint8Array, start: number, end: number): number {
    if (!this.#index) {
      this.#index = new Map();
      for (let i = 0; i < this.#rows; i++) if (this.#types[i] !== 0) this.#index.set(this.#nameText(i), i);
    }
    return this.#index.get(latin1(name, start, end)) ?? -1;
  }

  /** Sets a bin, which keeps its place, or adds it at the end. */
  set(
    name: Uint8Array,
    nameStart: number,
    nameEnd: number,
    type: number,
    value: Uint8Array,
    valueStart: number,
    valueEnd: number,
  ): void {
    const i = this.find(name, nameStart, nameEnd);
    if (i < 0) {
      this.#add(name, nameStart, nameEnd, type, value, valueStart, valueEnd);
      return;
    }
    this.#types[i] = type;
    this.#values[i] = value;
    this.#valueStarts[i] = valueStart;
    this.#valueEnds[i] = valueEnd;
  }

  #add(
    name: Uint8Array,
    nameStart: number,
    nameEnd: number,
    type: number,
    value: Uint8Array,
    valueStart: number,
    valueEnd: number,
  ): void {
    const i = this.#rows++;
    this.#names[i] = name;
    this.#nameStarts[i] = nameStart;
    this.#nameEnds[i] = nameEnd;
    this.#types[i] = type;
    this.#values[i] = value;
    this.#valueStarts[i] = valueStart;
    this.#valueEnds[i] = valueEnd;
    this.#live++;
    this.#index?.set(this.#nameText(i), i);
  }

  remove(i: number): void {
    this.#index?.delete(this.#nameText(i));
    this.#types[i] = 0;
    this.#live--;
  }

  removeAll(): void {
    this.clear();
  }

  /** 0: removed. */
  type(i: number): number {
    return this.#types[i];
  }

  name(i: number): Uint8Array {
    return this.#names[i];
  }

  nameStart(i: number): number {
    return this.#nameStarts[i];
  }

  nameEnd(i: number): number {
    return this.#nameEnds[i];
  }

  value(i: number): Uint8Array {
    return this.#values[i];
  }

  valueStart(i: number): number {
    return this.#valueStarts[i];
  }

  valueEnd(i: number): number {
    return this.#valueEnds[i];
  }

  /** A bin's value as a view; undefined: there is no such bin. */
  particle(i: number): Particle | undefined {
    if (i < 0 || this.#types[i] === 0) return undefined;
    return {
      type: this.#types[i],
      bytes: this.#values[i].subarray(this.#valueStarts[i], this.#valueEnds[i]),
    };
  }

  /** The image of these bins and a key (type -1: none), with `before` bytes left free in front of it. */
  encode(before: number, keyType: number, key: Uint8Array, keyStart: number, keyEnd: number): Buffer {
    const keyBytes = keyType < 0 ? 0 : keyEnd - keyStart + 2;
    let bytes = varintBytes(keyBytes) + Math.max(0, keyBytes - 1) + varintBytes(this.#live);
    for (let i = 0; i < this.#rows; i++) {
      if (this.#types[i] === 0) continue;
      const valueBytes = this.#valueEnds[i] - this.#valueStarts[i];
      bytes += 2 + this.#nameEnds[i] - this.#nameStarts[i] + varintBytes(valueBytes) + valueBytes;
    }
    const out = Buffer.allocUnsafe(before + bytes);
    let at = writeVarint(out, before, keyBytes);
    if (keyType >= 0) {
      out[at++] = keyType;
      at = copy(out, at, key, keyStart, keyEnd);
    }
    at = writeVarint(out, at, this.#live);
    for (let i = 0; i < this.#rows; i++) {
      if (this.#types[i] === 0) continue;
      out[at++] = this.#nameEnds[i] - this.#nameStarts[i];
      at = copy(out, at, this.#names[i], this.#nameStarts[i], this.#nameEnds[i]);
      out[at++] = this.#types[i];
      at = writeVarint(out, at, this.#valueEnds[i] - this.#valueStarts[i]);
      at = copy(out, at, this.#values[i], this.#valueStarts[i], this.#valueEnds[i]);
    }
    return out;
  }

  #nameText(i: number): string {
    return latin1(this.#names[i], this.#nameStarts[i], this.#nameEnds[i]);
  }
}

const latin1 = (bytes: Uint8Array, start: number, end: number): string => {
  let text = '';
  for (let i = start; i < end; i++) text += String.fromCharCode(bytes[i]);
  return text;
};

/** Below this a loop is faster than the call. */
const LOOP_BYTES_MAX = 48;

const copy = (out: Buffer, at: number, from: Uint8Array, start: number, end: number): number => {
  if (end - start > LOOP_BYTES_MAX) out.set(from.subarray(start, end), at);
  else for (let i = start, o = at; i < end; i++, o++) out[o] = from[i];
  return at + end - start;
};

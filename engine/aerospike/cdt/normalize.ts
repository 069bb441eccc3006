/**
 * What a server makes of a list or map that a client sends (L1): smallest integers and headers, order markers
 * `c7 00 flags` without hints, keys of maps sorted, at every level.
 */
import { ParticleType } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { type ContainerKind, header, LIST_FLAGS, MAP_FLAGS, ORDERED, sortedPlaces } from './container.ts';
import { compare, Head, isMapKey, Kind, type Span } from './element.ts';

/** Levels of lists and maps. A server has no bound of its own; more than this is no data. */
export const LEVELS_MAX = 8192;

/**
 * The bytes that a server stores when a client writes this particle: lists and maps in canonical form, every other type
 * as it is (the same array). A refusal has the code that a server answers.
 */
export const normalizeParticle = (type: number, bytes: Uint8Array): Uint8Array | Refusal => {
  if (type !== ParticleType.list && type !== ParticleType.map) return bytes;
  const kind = type === ParticleType.list ? Kind.list : Kind.map;
  const head = new Head();
  head.read(bytes, 0, bytes.length);
  const stored = head.kind === kind ? normalizeElement({ bytes, at: 0, end: bytes.length }) : undefined;
  return stored ?? new Refusal(ResultCode.unknown, `not a ${kind === Kind.list ? 'list' : 'map'}`);
};

/** The canonical form of an element, or `undefined` when a server would not store it: it must be all of the span. */
export const normalizeElement = (element: Span): Uint8Array | undefined => {
  if (isCanonicalScalar(element)) return element.bytes.subarray(element.at, element.end);
  return new Rewrite(element).run();
};

const quick = new Head();

/** The common case of an argument: one small scalar. */
const isCanonicalScalar = ({ bytes, at, end }: Span): boolean => {
  quick.read(bytes, at, end);
  if (quick.next !== end) return false;
  const tag = bytes[at]!;
  return (
    quick.kind !== Kind.none && (tag < 0x80 || (tag >= 0xa0 && tag < 0xc4 && tag !== 0xc1) || tag >= 0xe0)
  );
};

/** A list or map that is being written. */
interface Level {
  readonly kind: ContainerKind;
  readonly flags: number;
  /** Elements to come; keys and values each count. */
  left: number;
  /** Where its contents start in the output. */
  readonly contents: number;
  /** Maps: where each key starts in the output. */
  readonly keys: number[];
  /** Where the previous element or key was in the input, for the order check; -1 before the first. */
  previous: number;
  isKey: boolean;
  isSorted: boolean;
}

/** Non-recursive: the levels are on a heap stack. The output is never longer than the input. */
class Rewrite {
  readonly #source: Uint8Array;
  readonly #end: number;
  readonly #out: Buffer;
  readonly #levels: Level[] = [];
  readonly #head = new Head();
  #at: number;
  #length = 0;

  constructor({ bytes, at, end }: Span) {
    this.#source = bytes;
    this.#at = at;
    this.#end = end;
    this.#out = Buffer.allocUnsafe(end - at);
  }

  run(): Uint8Array | undefined {
    do {
      if (!this.#element()) return undefined;
      if (!this.#closeFinished()) return undefined;
    } while (this.#levels.length > 0);
    return this.#at === this.#end ? this.#out.subarray(0, this.#length) : undefined;
  }

  #element(): boolean {
    const level = this.#levels.at(-1);
    if (level !== undefined && !this.#enter(level)) return false;
    const h = this.#head;
    h.read(this.#source, this.#at, this.#end);
    if (h.kind === Kind.none || h.isQueryArgument) return false;
    if (h.kind === Kind.list || h.kind === Kind.map) return this.#open(h.kind);
    this.#scalar();
    this.#at = h.next;
    return true;
  }

  /** Order and kind of the next element where its container asks for them. */
  #enter(level: Level): boolean {
    level.left--;
    if (level.kind === Kind.map) {
      const isKey = level.isKey;
      level.isKey = !isKey;
      if (!isKey) return true;
      if (!isMapKey(this.#source, this.#at, this.#end)) return false;
      level.keys.push(this.#length);
      // Once keys are out of order they are sorted at the end, where duplicates are found.
      if (!level.isSorted) return true;
    } else if ((level.flags & ORDERED) === 0) return true;
    const { previous } = level;
    level.previous = this.#at;
    if (previous < 0) return true;
    const order = compare(this.#source, previous, this.#source, this.#at);
    if (order < 0) return true;
    if (order === 0) return level.kind === Kind.list;
    if ((level.flags & ORDERED) !== 0) return false;
    level.isSorted = false;
    return true;
  }

  #open(kind: ContainerKind): boolean {
    let count = this.#head.length;
    this.#at = this.#head.next;
    const flags = count === 0 ? 0 : this.#marker(kind);
    if (flags < 0) return false;
    if (flags !== NO_MARKER && count > 0) count--;
    const stored = flags === NO_MARKER ? 0 : flags;
    const start = header(kind, stored, count);
    if (this.#length + start.length > this.#out.length) return false;
    this.#out.set(start, this.#length);
    this.#length += start.length;
    const left = kind === Kind.map ? 2 * count : count;
    if (left > this.#end - this.#at || this.#levels.length >= LEVELS_MAX) return false;
    this.#levels.push({
      kind,
      flags: stored,
      left,
      contents: this.#length,
      keys: [],
      previous: -1,
      isKey: true,
      isSorted: true,
    });
    return true;
  }

  /** Flags of an order marker, which is stepped over; NO_MARKER when the first element is none; -1 when it is malformed. */
  #marker(kind: ContainerKind): number {
    const h = this.#head;
    h.read(this.#source, this.#at, this.#end);
    if (h.kind !== Kind.extension || this.#source[this.#at] === FIXED_EXTENSION_1) return NO_MARKER;
    this.#at = h.next;
    const flags = h.extension & (kind === Kind.map ? MAP_FLAGS : LIST_FLAGS);
    if (kind === Kind.list) return flags;
    return this.#markerValue() ? flags : -1;
  }

  /** The marker of a map has a value, of which only the header is looked at; a nil is stored. */
  #markerValue(): boolean {
    const h = this.#head;
    h.read(this.#source, this.#at, this.#end);
    if (h.kind === Kind.none) return false;
    this.#at = h.next;
    return true;
  }

  #scalar(): void {
    const h = this.#head;
    const out = this.#out;
    const tag = this.#source[this.#at]!;
    if (h.isInteger) this.#length = writeInteger(out, this.#length, h);
    else if (h.kind === Kind.extension) {
      this.#length = writeExtensionHeader(out, this.#length, h);
      this.#copy(h.data, h.next);
    } else if (hasWideHeader(tag, h.length)) {
      this.#length = writeStringHeader(out, this.#length, h.length);
      this.#copy(h.data, h.next);
    } else this.#copy(this.#at, h.next);
  }

  #copy(from: number, to: number): void {
    this.#out.set(this.#source.subarray(from, to), this.#length);
    this.#length += to - from;
  }

  /** Ends every container whose last element was written. */
  #closeFinished(): boolean {
    for (let level = this.#levels.at(-1); level !== undefined && level.left === 0; ) {
      if (!level.isSorted && !this.#sort(level)) return false;
      this.#levels.pop();
      level = this.#levels.at(-1);
    }
    return true;
  }

  /** Sorts the pairs of a map. False when it has a key twice. */
  #sort({ keys, contents }: Level): boolean {
    const out = this.#out;
    const end = this.#length;
    const compareAt = (i: number, j: number): -1 | 0 | 1 => compare(out, keys[i]!, out, keys[j]!);
    const places = sortedPlaces(keys.length, compareAt);
    for (let i = 1; i < places.length; i++) if (compareAt(places[i - 1]!, places[i]!) === 0) return false;
    const unsorted = Buffer.from(out.subarray(contents, end));
    let at = contents;
    for (const place of places) {
      const from = keys[place]! - contents;
      const to = (keys[place + 1] ?? end) - contents;
      unsorted.copy(out, at, from, to);
      at += to - from;
    }
    return true;
  }
}

const NO_MARKER = 0x100;

/** The one extension header that a server does not take for an order marker when it stores. */
const FIXED_EXTENSION_1 = 0xd4;

/** A header longer than the payload needs. A bin header of the right width stays one. */
const hasWideHeader = (tag: number, length: number): boolean => {
  if (tag === 0xc4 || tag === 0xd9) return length < 0x20;
  if (tag === 0xc5 || tag === 0xda) return length <= 0xff;
  return (tag === 0xc6 || tag === 0xdb) && length <= 0xffff;
};

/** Writes an integer in its smallest form. */
export const writeInteger = (out: Buffer, at: number, h: Head): number => {
  const { high, low } = h;
  if (h.kind === Kind.negative) {
    if (high !== 0xffffffff || low < 0x80000000) return write64(out, at, 0xd3, high, low);
    const n = low | 0;
    if (n >= -0x20) return out.writeInt8(n, at);
    if (n >= -0x80) {
      out[at] = 0xd0;
      return out.writeInt8(n, at + 1);
    }
    const narrow = n >= -0x8000;
    out[at] = narrow ? 0xd1 : 0xd2;
    return out.writeIntBE(n, at + 1, narrow ? 2 : 4);
  }
  if (high !== 0) return write64(out, at, 0xcf, high, low);
  if (low < 0x80) return out.writeUInt8(low, at);
  const bytes = low <= 0xff ? 1 : low <= 0xffff ? 2 : 4;
  out[at] = bytes === 1 ? 0xcc : bytes === 2 ? 0xcd : 0xce;
  return out.writeUIntBE(low, at + 1, bytes);
};

const write64 = (out: Buffer, at: number, tag: number, high: number, low: number): number => {
  out[at] = tag;
  out.writeUInt32BE(high, at + 1);
  return out.writeUInt32BE(low, at + 5);
};

const writeStringHeader = (out: Buffer, at: number, length: number): number => {
  if (length < 0x20) return out.writeUInt8(0xa0 | length, at);
  const bytes = length <= 0xff ? 1 : length <= 0xffff ? 2 : 4;
  out[at] = bytes === 1 ? 0xd9 : bytes === 2 ? 0xda : 0xdb;
  return out.writeUIntBE(length, at + 1, bytes);
};

const FIXED_EXTENSION = new Map([
  [1, 0xd4],
  [2, 0xd5],
  [4, 0xd6],
  [8, 0xd7],
  [16, 0xd8],
]);

const writeExtensionHeader = (out: Buffer, at: number, { length, extension }: Head): number => {
  const fixed = FIXED_EXTENSION.get(length);
  if (fixed !== undefined) {
    out[at] = fixed;
    return out.writeUInt8(extension, at + 1);
  }
  const bytes = length <= 0xff ? 1 : length <= 0xffff ? 2 : 4;
  out[at] = bytes === 1 ? 0xc7 : bytes === 2 ? 0xc8 : 0xc9;
  return out.writeUInt8(extension, out.writeUIntBE(length, at + 1, bytes));
};

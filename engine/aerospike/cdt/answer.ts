/** What get and remove operations answer: return types of the protocol, and the particles made of them. */
import { GEOJSON_HEADER_BYTES, type Particle, ParticleType } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { buildContainer, type Container, ORDERED } from './container.ts';
import { Head, Kind, type Span } from './element.ts';

export const ReturnType = {
  none: 0,
  index: 1,
  reverseIndex: 2,
  rank: 3,
  reverseRank: 4,
  count: 5,
  key: 6,
  value: 7,
  keyValue: 8,
  indexRange: 9,
  reverseIndexRange: 10,
  rankRange: 11,
  reverseRankRange: 12,
  exists: 13,
  unorderedMap: 16,
  orderedMap: 17,
} as const;

const INVERTED = 0x10000;

/** What is asked: a return type, of one element or of several, of those found or of the others. */
export interface Want {
  readonly type: number;
  readonly inverted: boolean;
  /** The operation may find several elements and answers a list. */
  readonly multi: boolean;
}

export const want = (flags: number, multi: boolean): Want => ({
  type: flags % 0x10000,
  inverted: Math.floor(flags / INVERTED) % 2 === 1,
  multi,
});

/** What an operation has found. */
export interface Found {
  /** 1 where an element is to be removed, when the operation removes. `undefined`: none. */
  readonly mask: Uint8Array | undefined;
  readonly answer: Particle | undefined;
}

export const refuse = (code: ResultCode, why: string): never => {
  throw new Refusal(code, why);
};

export const notApplicable = (why: string): never => refuse(ResultCode.opNotApplicable, why);

export const isIndexRange = (w: Want): boolean =>
  w.type === ReturnType.indexRange || w.type === ReturnType.reverseIndexRange;

export const isRankRange = (w: Want): boolean =>
  w.type === ReturnType.rankRange || w.type === ReturnType.reverseRankRange;

export const isIndex = (w: Want): boolean =>
  w.type === ReturnType.index || w.type === ReturnType.reverseIndex;

export const isRank = (w: Want): boolean => w.type === ReturnType.rank || w.type === ReturnType.reverseRank;

export const isElements = (w: Want): boolean =>
  w.type === ReturnType.key || w.type === ReturnType.value || isMap(w);

export const isMap = (w: Want): boolean =>
  w.type === ReturnType.keyValue || w.type === ReturnType.unorderedMap || w.type === ReturnType.orderedMap;

export const isReversed = (w: Want): boolean =>
  w.type === ReturnType.reverseIndex || w.type === ReturnType.reverseRank;

export const int = (n: number | bigint): Particle => {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigInt64BE(BigInt.asIntN(64, BigInt(n)));
  return { type: ParticleType.integer, bytes };
};

export const float = (n: number): Particle => {
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeDoubleBE(n);
  return { type: ParticleType.float, bytes };
};

export const bool = (b: boolean): Particle => ({
  type: ParticleType.bool,
  bytes: Uint8Array.of(b ? 1 : 0),
});

export const list = (count: number, elements: readonly Span[]): Particle => ({
  type: ParticleType.list,
  bytes: buildContainer(Kind.list, 0, count, elements),
});

/** A list of small non-negative integers. */
export const ints = (numbers: readonly number[]): Particle => {
  const out = Buffer.allocUnsafe(5 * numbers.length);
  let at = 0;
  for (const n of numbers) {
    if (n < 0x80) out[at++] = n;
    else if (n <= 0xff) {
      out[at++] = 0xcc;
      out[at++] = n;
    } else {
      const wide = n > 0xffff;
      out[at] = wide ? 0xce : 0xcd;
      out.writeUIntBE(n, at + 1, wide ? 4 : 2);
      at += wide ? 5 : 3;
    }
  }
  return list(numbers.length, [{ bytes: out, at: 0, end: at }]);
};

/** `[first, count]`, the answer of the range types. `first` may be -1. */
export const pair = (first: number, count: number): Particle => {
  if (first >= 0) return ints([first, count]);
  const rest = ints([count]).bytes;
  const bytes = Buffer.concat([Uint8Array.of(0x92, 0x100 + first), rest.subarray(1)]);
  return { type: ParticleType.list, bytes };
};

const MAP_MARKER = new Map<number, number>([
  [ReturnType.keyValue, 0x08],
  [ReturnType.unorderedMap, 0],
  [ReturnType.orderedMap, ORDERED],
]);

/** Key-value answers carry the marker 08h: the client shall keep the order it gets. */
export const map = (w: Want, count: number, pairs: readonly Span[]): Particle => ({
  type: ParticleType.map,
  bytes: buildContainer(Kind.map, MAP_MARKER.get(w.type)!, count, pairs),
});

const head = new Head();

/** The particle that an element is as a bin value; `undefined` for nil. */
export const elementParticle = (s: Span): Particle | undefined => {
  head.read(s.bytes, s.at, s.end);
  const payload = () => s.bytes.slice(head.data + 1, head.data + head.length);
  switch (head.kind) {
    case Kind.nil:
      return undefined;
    case Kind.false:
    case Kind.true:
      return bool(head.kind === Kind.true);
    case Kind.negative:
    case Kind.integer:
      return int(head.bigint);
    case Kind.double:
      return doubleParticle(s);
    case Kind.string:
      return { type: ParticleType.string, bytes: payload() };
    case Kind.bytes:
      return { type: blobType(head.length === 0 ? 0 : s.bytes[head.data]!), bytes: payload() };
    case Kind.geojson:
      return {
        type: ParticleType.geojson,
        bytes: Buffer.concat([new Uint8Array(GEOJSON_HEADER_BYTES), payload()]),
      };
    case Kind.list:
      return { type: ParticleType.list, bytes: s.bytes.slice(s.at, s.end) };
    case Kind.map:
      return { type: ParticleType.map, bytes: s.bytes.slice(s.at, s.end) };
    default:
      return refuse(ResultCode.unknown, 'an element that is no value');
  }
};

/** From the bits, where there are 64: a number would lose the payload of a NaN. */
const doubleParticle = (s: Span): Particle =>
  s.bytes[s.at] === 0xcb
    ? { type: ParticleType.float, bytes: s.bytes.slice(s.at + 1, s.at + 9) }
    : float(head.double);

const BLOB_TYPES = new Set<number>([4, 7, 8, 9, 10, 11, 12, ParticleType.vector, ParticleType.hll]);
const blobType = (type: number): number => (BLOB_TYPES.has(type) ? type : ParticleType.blob);

/** Nothing was found at `index`. @throws Refusal 26 for a return type that there is not */
export const notFound = (w: Want, index: number): Particle | undefined => {
  switch (w.type) {
    case ReturnType.none:
      return undefined;
    case ReturnType.indexRange:
    case ReturnType.reverseIndexRange:
    case ReturnType.rankRange:
    case ReturnType.reverseRankRange:
      return pair(index, 0);
    case ReturnType.index:
    case ReturnType.reverseIndex:
    case ReturnType.rank:
    case ReturnType.reverseRank:
      return w.multi ? ints([]) : int(-1);
    case ReturnType.count:
      return int(0);
    case ReturnType.exists:
      return bool(false);
    case ReturnType.key:
    case ReturnType.value:
      return w.multi ? ints([]) : undefined;
    case ReturnType.keyValue:
    case ReturnType.unorderedMap:
    case ReturnType.orderedMap:
      return map(w, 0, []);
    default:
      return notApplicable(`return type ${w.type}`);
  }
};

/** Numbers of `count` places from `start`, of `total`; reversed ones count from the end, and still ascend. */
export const pushRange = (out: number[], w: Want, start: number, count: number, total: number): void => {
  const first = isReversed(w) ? total - start - count : start;
  for (let i = 0; i < count; i++) out.push(first + i);
};

/**
 * Answer of what was found as one range of indexes or ranks: `count` from `start` of `total`.
 * @throws Refusal 26 for return types that a range cannot answer
 */
export const rangeAnswer = (w: Want, start: number, count: number, total: number): Particle | undefined => {
  switch (w.type) {
    case ReturnType.none:
      return undefined;
    case ReturnType.count:
      return int(w.inverted ? total - count : count);
    case ReturnType.exists:
      return bool(w.inverted ? count === 0 : count !== 0);
    case ReturnType.index:
    case ReturnType.reverseIndex:
    case ReturnType.rank:
    case ReturnType.reverseRank: {
      if (!w.multi) return int(count === 0 ? -1 : isReversed(w) ? total - start - 1 : start);
      const numbers: number[] = [];
      if (w.inverted) {
        pushRange(numbers, w, 0, start, total);
        pushRange(numbers, w, start + count, total - start - count, total);
      } else pushRange(numbers, w, start, count, total);
      return ints(numbers);
    }
    case ReturnType.indexRange:
    case ReturnType.rankRange:
    case ReturnType.reverseIndexRange:
    case ReturnType.reverseRankRange: {
      if (w.inverted) return notApplicable('a range of what was not found');
      const reversed = w.type === ReturnType.reverseIndexRange || w.type === ReturnType.reverseRankRange;
      return pair(reversed ? total - start - count : start, count);
    }
    default:
      return notApplicable(`return type ${w.type}`);
  }
};

/** Indexes of the places in `mask`, ascending in the places. */
export const maskIndexes = (w: Want, mask: Uint8Array): Particle => {
  const numbers: number[] = [];
  for (let i = 0; i < mask.length; i++)
    if (mask[i] !== 0) numbers.push(isReversed(w) ? mask.length - i - 1 : i);
  return w.multi ? ints(numbers) : int(numbers[0] ?? -1);
};

export const countOf = (mask: Uint8Array): number => {
  let count = 0;
  for (const bit of mask) count += bit;
  return count;
};

/** A mask of `count` places from `start`. */
export const rangeMask = (c: Container, start: number, count: number): Uint8Array =>
  new Uint8Array(c.count).fill(1, start, start + count);

export const placesOf = (mask: Uint8Array): number[] => {
  const places: number[] = [];
  for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) places.push(i);
  return places;
};

export const invert = (mask: Uint8Array): Uint8Array => mask.map((bit) => 1 - bit);

export interface Range {
  readonly start: number;
  readonly count: number;
}

/** `count` places from `index`, which counts from the end when negative; out of bounds is cut off. */
export const clampRange = (index: number, count: number, total: number): Range => {
  if (index >= total) return { start: total, count: 0 };
  if (index >= 0) return { start: index, count: Math.min(count, total - index) };
  const start = total + index;
  if (start >= 0) return { start, count: Math.min(count, total - start) };
  return { start: 0, count: Math.max(0, Math.min(total, count + start)) };
};

/** The one place `index`. @throws Refusal 26 out of bounds */
export const singleRange = (index: number, total: number): Range => {
  const start = index < 0 ? total + index : index;
  if (start < 0 || start >= total) notApplicable(`index ${index} of ${total}`);
  return { start, count: 1 };
};

/** A range that is relative to the place `origin`. What lies before the first place is cut off. */
export const relativeRange = (index: number, count: number, origin: number): Range => {
  const start = index + origin;
  return start >= 0 ? { start, count } : { start: 0, count: Math.max(0, count + start) };
};

/** The places outside of a range, when they are one range themselves. */
export const complement = ({ start, count }: Range, total: number): Range | undefined => {
  if (count === 0) return { start: 0, count: total };
  if (start === 0) return { start: count, count: total - count };
  if (start + count >= total) return { start: 0, count: start };
  return undefined;
};

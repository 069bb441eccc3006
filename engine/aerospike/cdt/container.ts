/** A list or map in its bytes: where its elements are, and how such bytes are put together again. */
import { ParticleType } from '../../particle.ts';
import { compare, Head, Kind, type Span, skip } from './element.ts';

/** Order flags that are stored. Others are hints, which a server drops (10h: keep an index) or which only answers carry (08h). */
export const ORDERED = 0x01;
export const LIST_FLAGS = 0x01;
export const MAP_FLAGS = 0x03;

export type ContainerKind = typeof Kind.list | typeof Kind.map;

export interface Container extends Span {
  readonly kind: ContainerKind;
  /** What the order marker says, hints left out. 0 without a marker. */
  readonly flags: number;
  /** Elements or pairs. */
  readonly count: number;
  /** Where each element or pair starts, and one more: where the last one ends. */
  readonly starts: Uint32Array;
  /** Maps: where the value of each pair starts. Lists: the same as `starts`. */
  readonly values: Uint32Array;
}

const head = new Head();

/** The list or map that is all of `[at, end)`, or `undefined` when these bytes are something else or malformed. */
export const openContainer = (b: Uint8Array, at: number, end: number): Container | undefined => {
  head.read(b, at, end);
  if (head.kind !== Kind.list && head.kind !== Kind.map) return undefined;
  const kind: ContainerKind = head.kind;
  let count = head.length;
  let next = head.next;
  // Bounded before the offsets are allocated: every element has a byte.
  if ((kind === Kind.map ? 2 * count : count) > end - next) return undefined;
  let flags = 0;
  if (count > 0 && isMarker(b, next, end)) {
    flags = head.extension & (kind === Kind.map ? MAP_FLAGS : LIST_FLAGS);
    count--;
    next = skip(b, next, end, kind === Kind.map ? 2 : 1);
    if (next < 0) return undefined;
  }
  const starts = new Uint32Array(count + 1);
  const values = kind === Kind.map ? new Uint32Array(count) : starts;
  for (let i = 0; i < count; i++) {
    starts[i] = next;
    if (kind === Kind.map) {
      next = skip(b, next, end);
      if (next < 0) return undefined;
      values[i] = next;
    }
    next = skip(b, next, end);
    if (next < 0) return undefined;
  }
  starts[count] = next;
  return next === end ? { bytes: b, at, end, kind, flags, count, starts, values } : undefined;
};

/** Leaves what it read in `head`. */
const isMarker = (b: Uint8Array, at: number, end: number): boolean => {
  head.read(b, at, end);
  return head.kind === Kind.extension;
};

export const emptyContainer = (kind: ContainerKind, flags: number): Container => {
  const bytes = buildContainer(kind, flags, 0, []);
  return openContainer(bytes, 0, bytes.length)!;
};

export const elementAt = (c: Container, i: number): Span => ({
  bytes: c.bytes,
  at: c.starts[i]!,
  end: c.starts[i + 1]!,
});

/** The value of pair `i` of a map; element `i` of a list. */
export const valueAt = (c: Container, i: number): Span => ({
  bytes: c.bytes,
  at: c.values[i]!,
  end: c.starts[i + 1]!,
});

export const keyAt = (c: Container, i: number): Span => ({
  bytes: c.bytes,
  at: c.starts[i]!,
  end: c.values[i]!,
});

/** Bytes of several elements that follow one another in `c`. */
export const run = (c: Container, from: number, to: number): Span => ({
  bytes: c.bytes,
  at: c.starts[from]!,
  end: c.starts[to]!,
});

export const span = (bytes: Uint8Array): Span => ({ bytes, at: 0, end: bytes.length });

const bytesOf = (s: Span): Uint8Array => s.bytes.subarray(s.at, s.end);

/** Elements in canonical form put together: header, marker when `flags` are not 0, contents. */
export const buildContainer = (
  kind: ContainerKind,
  flags: number,
  count: number,
  contents: readonly Span[],
): Uint8Array => Buffer.concat([header(kind, flags, count), ...contents.map(bytesOf)]);

/** Header and marker. @internal */
export const header = (kind: ContainerKind, flags: number, elements: number): Uint8Array => {
  const isMap = kind === Kind.map;
  const count = elements + (flags === 0 ? 0 : 1);
  const fix = isMap ? 0x80 : 0x90;
  const wide = isMap ? 0xde : 0xdc;
  const out =
    count < 0x10
      ? [fix | count]
      : count <= 0xffff
        ? [wide, count >> 8, count & 0xff]
        : [wide + 1, count >>> 24, (count >> 16) & 0xff, (count >> 8) & 0xff, count & 0xff];
  if (flags !== 0) out.push(0xc7, 0, flags);
  if (flags !== 0 && isMap) out.push(0xc0);
  return Uint8Array.from(out);
};

/** The elements of `c` whose place in `mask` is 0, or `c` itself when there is no mask. */
export const without = (c: Container, mask: Uint8Array | undefined): Uint8Array | undefined => {
  if (mask === undefined) return undefined;
  const kept: Span[] = [];
  let count = 0;
  for (let i = 0; i < c.count; ) {
    if (mask[i] !== 0) {
      i++;
      continue;
    }
    const from = i;
    while (i < c.count && mask[i] === 0) i++;
    kept.push(run(c, from, i));
    count += i - from;
  }
  return count === c.count ? undefined : buildContainer(c.kind, c.flags, count, kept);
};

export const particleTypeOf = (kind: ContainerKind): ParticleType =>
  kind === Kind.map ? ParticleType.map : ParticleType.list;

/** Places 0 to `count` - 1 in the order of `compareAt`; equal ones stay as they are. */
export const sortedPlaces = (
  count: number,
  compareAt: (i: number, j: number) => -1 | 0 | 1,
  descending = false,
): Uint32Array => {
  const places = new Uint32Array(count);
  for (let i = 0; i < count; i++) places[i] = i;
  return places.sort(descending ? (i, j) => -compareAt(i, j) : compareAt);
};

export const compareElements =
  (c: Container) =>
  (i: number, j: number): -1 | 0 | 1 =>
    compare(c.bytes, c.starts[i]!, c.bytes, c.starts[j]!);

/** Order of the values of a map, its keys deciding between equal ones: ranks are unique. */
export const comparePairsByValue =
  (c: Container) =>
  (i: number, j: number): -1 | 0 | 1 =>
    compare(c.bytes, c.values[i]!, c.bytes, c.values[j]!) ||
    compare(c.bytes, c.starts[i]!, c.bytes, c.starts[j]!);

/** First place in a sorted list, or among the sorted keys of a map, whose element is not below `value`. */
export const lowerBound = (c: Container, value: Span): number => bound(c, value, 0);

/** First place whose element is above `value`. */
export const upperBound = (c: Container, value: Span): number => bound(c, value, 1);

const bound = (c: Container, value: Span, equalIsBelow: 0 | 1): number => {
  let low = 0;
  let high = c.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compare(c.bytes, c.starts[middle]!, value.bytes, value.at);
    if (order < equalIsBelow) low = middle + 1;
    else high = middle;
  }
  return low;
};

/** What the get-by and remove-by operations find in a list, and what they answer. */
import type { Particle } from '../../particle.ts';
import { ResultCode } from '../result-code.ts';
import {
  bool,
  clampRange,
  complement,
  countOf,
  elementParticle,
  type Found,
  int,
  ints,
  invert,
  isIndexRange,
  isMap,
  isRankRange,
  isReversed,
  list,
  maskIndexes,
  notApplicable,
  notFound,
  placesOf,
  pushRange,
  type Range,
  ReturnType,
  rangeAnswer,
  rangeMask,
  refuse,
  relativeRange,
  singleRange,
  type Want,
} from './answer.ts';
import {
  type Container,
  compareElements,
  elementAt,
  lowerBound,
  ORDERED,
  run,
  sortedPlaces,
  upperBound,
} from './container.ts';
import { compare, Head, Kind, type Span, skip } from './element.ts';
import { selectRanks } from './rank-selection.ts';

/** Elements that one argument list may have. */
export const ARGUMENTS_MAX = 1024 * 1024;

const isOrdered = (c: Container): boolean => (c.flags & ORDERED) !== 0;

const noInverted = (w: Want): void => {
  if (w.inverted && !w.multi) notApplicable('inverted, of a single element');
};

const listNotFound = (w: Want, index: number): Particle | undefined =>
  w.type === ReturnType.key || isMap(w) ? notApplicable('keys of a list') : notFound(w, index);

export const byIndexRange = (c: Container, w: Want, index: number, count: number): Found => {
  let range: Range = w.multi ? clampRange(index, count, c.count) : singleRange(index, c.count);
  if (w.inverted) {
    noInverted(w);
    if (isIndexRange(w) || isRankRange(w)) notApplicable('a range of what was not found');
    const others = complement(range, c.count);
    if (others === undefined) return trimmed(c, w, range);
    range = others;
  }
  if (range.count === 0) return { mask: undefined, answer: listNotFound(w, range.start) };
  return { mask: rangeMask(c, range.start, range.count), answer: indexRangeAnswer(c, w, range) };
};

const indexRangeAnswer = (c: Container, w: Want, { start, count }: Range): Particle | undefined => {
  const direct: Want = { ...w, inverted: false };
  switch (w.type) {
    case ReturnType.none:
      return undefined;
    case ReturnType.rank:
    case ReturnType.reverseRank:
      // A server does not look when all are removed, or when the order is known.
      return count === c.count || isOrdered(c)
        ? rangeAnswer(direct, count === c.count ? 0 : start, count, c.count)
        : ranksOf(c, w, [{ start, count }]);
    case ReturnType.value:
      return w.multi ? list(count, [run(c, start, start + count)]) : elementParticle(elementAt(c, start));
    case ReturnType.rankRange:
    case ReturnType.reverseRankRange:
      if (!isOrdered(c)) return notApplicable('a rank range by index');
      return rangeAnswer(direct, start, count, c.count);
    default:
      return rangeAnswer(direct, start, count, c.count);
  }
};

/** All but a range that has elements on both sides. */
const trimmed = (c: Container, w: Want, kept: Range): Found => {
  const mask = invert(rangeMask(c, kept.start, kept.count));
  const after = kept.start + kept.count;
  const removed: Range[] = [
    { start: 0, count: kept.start },
    { start: after, count: c.count - after },
  ];
  const answer = (): Particle | undefined => {
    switch (w.type) {
      case ReturnType.none:
        return undefined;
      case ReturnType.count:
        return int(c.count - kept.count);
      case ReturnType.exists:
        return bool(true);
      case ReturnType.rank:
      case ReturnType.reverseRank:
        if (!isOrdered(c)) return ranksOf(c, w, removed);
        return numbersOf(c, w, removed);
      case ReturnType.index:
      case ReturnType.reverseIndex:
        return numbersOf(c, w, removed);
      case ReturnType.value:
        return list(c.count - kept.count, [run(c, 0, kept.start), run(c, after, c.count)]);
      default:
        return notApplicable(`return type ${w.type}`);
    }
  };
  return { mask, answer: answer() };
};

const numbersOf = (c: Container, w: Want, ranges: readonly Range[]): Particle => {
  const numbers: number[] = [];
  for (const { start, count } of ranges) pushRange(numbers, w, start, count, c.count);
  return ints(numbers);
};

/** A rank by value is the number of elements below: equal elements have the same. */
const ranksOf = (c: Container, w: Want, ranges: readonly Range[]): Particle => {
  const shown = (rank: number): number => (isReversed(w) ? c.count - rank - 1 : rank);
  if (!w.multi) return int(shown(elementsBelow(c, elementAt(c, ranges[0]!.start))));
  const ranks = allRanks(c);
  const numbers: number[] = [];
  for (const { start, count } of ranges)
    for (let i = start; i < start + count; i++) numbers.push(shown(ranks[i]!));
  return ints(numbers);
};

const allRanks = (c: Container): Uint32Array => {
  const compareAt = compareElements(c);
  const places = sortedPlaces(c.count, compareAt);
  const ranks = new Uint32Array(c.count);
  for (let i = 1; i < c.count; i++) {
    const before = places[i - 1]!;
    ranks[places[i]!] = compareAt(before, places[i]!) === 0 ? ranks[before]! : i;
  }
  return ranks;
};

const elementsBelow = (c: Container, value: Span): number => {
  let below = 0;
  for (let i = 0; i < c.count; i++) if (compare(c.bytes, c.starts[i]!, value.bytes, value.at) < 0) below++;
  return below;
};

/** Elements equal to `value`: all of them, or the first. */
export const byValue = (c: Container, w: Want, value: Span): Found => byInterval(c, w, value, value);

/** Elements from `low` up to, not including, `high`; to the end without `high`; the equal ones when both are the same span. */
export const byInterval = (c: Container, w: Want, low: Span, high: Span | undefined): Found => {
  noInverted(w);
  return isOrdered(c) ? byIntervalOrdered(c, w, low, high) : byIntervalUnordered(c, w, low, high);
};

const byIntervalOrdered = (c: Container, w: Want, low: Span, high: Span | undefined): Found => {
  const { start, count } = orderedRange(c, w.multi, low, high);
  if (count === 0 && !w.multi) return { mask: undefined, answer: listNotFound(w, 0) };
  return byIndexRange(c, w, start, count);
};

const orderedRange = (c: Container, multi: boolean, low: Span, high: Span | undefined): Range => {
  const start = lowerBound(c, low);
  if (high === undefined) return { start, count: c.count - start };
  if (high !== low) {
    // Compared with each other first: a wildcard equals any bound, and then there is nothing between them.
    const isEmpty = compare(low.bytes, low.at, high.bytes, high.at) >= 0;
    return { start, count: isEmpty ? 0 : lowerBound(c, high) - start };
  }
  const equal = upperBound(c, low) - start;
  return { start, count: multi ? equal : Math.min(1, equal) };
};

const byIntervalUnordered = (c: Container, w: Want, low: Span, high: Span | undefined): Found => {
  const inside = new Uint8Array(c.count);
  let rank = 0;
  let count = 0;
  for (let i = 0; i < c.count; i++) {
    const order = compare(c.bytes, c.starts[i]!, low.bytes, low.at);
    if (order < 0) rank++;
    else if (
      high === undefined ||
      (high === low
        ? order === 0 && (w.multi || count === 0)
        : compare(c.bytes, c.starts[i]!, high.bytes, high.at) < 0)
    ) {
      inside[i] = 1;
      count++;
    }
  }
  const mask = w.inverted ? invert(inside) : inside;
  switch (w.type) {
    case ReturnType.index:
    case ReturnType.reverseIndex:
      return { mask, answer: maskIndexes(w, mask) };
    case ReturnType.value:
      return { mask, answer: valuesOf(c, w, placesOf(mask)) };
    case ReturnType.indexRange:
    case ReturnType.reverseIndexRange:
      return notApplicable('an index range by value');
    default:
      return { mask, answer: rangeAnswer(w, rank, count, c.count) };
  }
};

const valuesOf = (c: Container, w: Want, places: ArrayLike<number>): Particle | undefined => {
  if (!w.multi) return places.length === 0 ? undefined : elementParticle(elementAt(c, places[0]!));
  return list(
    places.length,
    Array.from(places, (i) => elementAt(c, i)),
  );
};

export const byRankRange = (c: Container, w: Want, rank: number, count: number): Found => {
  noInverted(w);
  if (isOrdered(c)) return byIndexRange(c, w, rank, count);
  const range = w.multi ? clampRange(rank, count, c.count) : singleRange(rank, c.count);
  const removed = w.inverted ? c.count - range.count : range.count;
  if (removed === 0) return { mask: undefined, answer: listNotFound(w, range.start) };
  if (w.inverted && isRankRange(w)) notApplicable('a range of what was not found');
  const { places } = selectRanks(c.count, range.start, range.count, compareElements(c));
  const selected = new Uint8Array(c.count);
  for (const place of places) selected[place] = 1;
  const mask = w.inverted ? invert(selected) : selected;
  switch (w.type) {
    case ReturnType.index:
    case ReturnType.reverseIndex:
      return { mask, answer: maskIndexes(w, mask) };
    case ReturnType.value:
      return { mask, answer: valuesOf(c, w, w.inverted ? placesOf(mask) : places) };
    case ReturnType.indexRange:
    case ReturnType.reverseIndexRange:
      return notApplicable('an index range by rank');
    default:
      return { mask, answer: rangeAnswer(w, range.start, range.count, c.count) };
  }
};

export const byRelativeRankRange = (
  c: Container,
  w: Want,
  value: Span,
  rank: number,
  count: number,
): Found => {
  const origin = isOrdered(c) ? lowerBound(c, value) : elementsBelow(c, value);
  const range = relativeRange(rank, count, origin);
  return isOrdered(c)
    ? byIndexRange(c, w, range.start, range.count)
    : byRankRange(c, w, range.start, range.count);
};

const head = new Head();

/**
 * The values of a list argument. An order marker counts as one, as it does for a server: nothing is equal to it.
 * @throws Refusal 4 when it is no list, or too long
 */
export const argumentList = ({ bytes, at, end }: Span): Span[] => {
  head.read(bytes, at, end);
  if (head.kind !== Kind.list || head.length > ARGUMENTS_MAX)
    return refuse(ResultCode.parameter, 'the argument is not a list, or too long');
  const count = head.length;
  let next = head.next;
  return Array.from({ length: count }, () => {
    const from = next;
    next = skip(bytes, from, end);
    return { bytes, at: from, end: next };
  });
};

export const byValueList = (c: Container, w: Want, argument: Span): Found => {
  if (isIndexRange(w) || isRankRange(w)) notApplicable('a range by a list of values');
  const values = argumentList(argument);
  if (values.length === 0)
    return w.inverted
      ? byIndexRange(c, { ...w, inverted: false }, 0, c.count)
      : { mask: undefined, answer: listNotFound(w, 0) };
  return isOrdered(c) ? byValueListOrdered(c, w, values) : byValueListUnordered(c, w, values);
};

const byValueListOrdered = (c: Container, w: Want, values: readonly Span[]): Found => {
  const ranges = values.map((value) => orderedRange(c, true, value, value));
  const found = new Uint8Array(c.count);
  for (const { start, count } of ranges) found.fill(1, start, start + count);
  const mask = w.inverted ? invert(found) : found;
  const total = ranges.reduce((sum, { count }) => sum + count, 0);
  switch (w.type) {
    case ReturnType.none:
      return { mask, answer: undefined };
    case ReturnType.count:
      return { mask, answer: int(countOf(mask)) };
    case ReturnType.exists:
      return { mask, answer: bool(countOf(mask) !== 0) };
    case ReturnType.index:
    case ReturnType.reverseIndex:
    case ReturnType.rank:
    case ReturnType.reverseRank:
      return { mask, answer: w.inverted ? maskIndexes(w, mask) : numbersOf(c, w, ranges) };
    case ReturnType.value:
      if (w.inverted) return { mask, answer: valuesOf(c, w, placesOf(mask)) };
      return {
        mask,
        answer: list(
          total,
          ranges.map(({ start, count }) => run(c, start, start + count)),
        ),
      };
    default:
      return notApplicable(`return type ${w.type}`);
  }
};

const byValueListUnordered = (c: Container, w: Want, values: readonly Span[]): Found => {
  const { found, ranges, sorted } = matchValues(c.count, (i) => elementAt(c, i), values);
  const mask = w.inverted ? invert(found) : found;
  switch (w.type) {
    case ReturnType.none:
      return { mask, answer: undefined };
    case ReturnType.count:
      return { mask, answer: int(countOf(mask)) };
    case ReturnType.exists:
      return { mask, answer: bool(countOf(mask) !== 0) };
    case ReturnType.index:
    case ReturnType.reverseIndex:
      return { mask, answer: maskIndexes(w, mask) };
    case ReturnType.rank:
    case ReturnType.reverseRank:
      return { mask, answer: itemRanks(w, ranges, sorted, c.count) };
    case ReturnType.value:
      return { mask, answer: valuesOf(c, w, placesOf(mask)) };
    default:
      return notApplicable(`return type ${w.type}`);
  }
};

interface Matches {
  /** 1 where an element is one of the values. */
  readonly found: Uint8Array;
  /** For each value: how many elements are below it, and how many are equal. Of equal values the last one has the count. */
  readonly ranges: readonly Range[];
  /** Places of the values in ascending order. */
  readonly sorted: Uint32Array;
}

/** Which of `count` elements are among `values`, and where each value would stand in their order. */
export const matchValues = (count: number, at: (i: number) => Span, values: readonly Span[]): Matches => {
  const compareValues = (i: number, j: number): -1 | 0 | 1 => {
    const x = values[i]!;
    const y = values[j]!;
    return compare(x.bytes, x.at, y.bytes, y.at);
  };
  const sorted = sortedPlaces(values.length, compareValues);
  const found = new Uint8Array(count);
  const below = new Uint32Array(values.length + 1);
  const equal = new Uint32Array(values.length);
  for (let i = 0; i < count; i++) {
    const element = at(i);
    let low = 0;
    let high = values.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const value = values[sorted[middle]!]!;
      if (compare(value.bytes, value.at, element.bytes, element.at) <= 0) low = middle + 1;
      else high = middle;
    }
    below[low]!++;
    const last = low > 0 ? values[sorted[low - 1]!]! : undefined;
    if (last === undefined || compare(last.bytes, last.at, element.bytes, element.at) !== 0) continue;
    found[i] = 1;
    equal[sorted[low - 1]!]!++;
  }
  const ranges: Range[] = new Array(values.length);
  let start = 0;
  for (let i = 0; i < values.length; i++) {
    start += below[i]!;
    ranges[sorted[i]!] = { start, count: equal[sorted[i]!]! };
  }
  return { found, ranges, sorted };
};

/** Ranks (or key indexes) of the values that were found, in the order of the values; of all others, ascending, when inverted. */
export const itemRanks = (
  w: Want,
  ranges: readonly Range[],
  sorted: Uint32Array,
  total: number,
): Particle => {
  const numbers: number[] = [];
  if (!w.inverted) {
    for (const { start, count } of ranges)
      for (let i = 0; i < count; i++) pushRange(numbers, w, start + i, 1, total);
    return ints(numbers);
  }
  let next = 0;
  for (const place of sorted) {
    const { start, count } = ranges[place]!;
    if (count === 0) continue;
    pushRange(numbers, w, next, start - next, total);
    next = start + count;
  }
  pushRange(numbers, w, next, total - next, total);
  return ints(numbers);
};

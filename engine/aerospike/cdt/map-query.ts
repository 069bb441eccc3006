/** What the get-by and remove-by operations find in a map, and what they answer. */
import type { Particle } from '../../particle.ts';
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
  isElements,
  isIndex,
  isIndexRange,
  isMap,
  isRank,
  isRankRange,
  isReversed,
  list,
  map,
  notApplicable,
  notFound,
  pair,
  placesOf,
  pushRange,
  type Range,
  ReturnType,
  rangeAnswer,
  rangeMask,
  relativeRange,
  singleRange,
  type Want,
} from './answer.ts';
import {
  type Container,
  compareElements,
  comparePairsByValue,
  elementAt,
  keyAt,
  lowerBound,
  sortedPlaces,
  valueAt,
} from './container.ts';
import { compare, type Span, skip, skippedQueryArgument } from './element.ts';
import { argumentList, itemRanks, matchValues } from './list-query.ts';
import { selectRanks } from './rank-selection.ts';

/** A map with any order flag has its keys in order. Others are sorted when they are stored, unless they come from elsewhere. */
export const isKeyOrdered = (c: Container): boolean => c.flags !== 0;

const noInverted = (w: Want): void => {
  if (w.inverted && !w.multi) notApplicable('inverted, of a single element');
};

const keyNotFound = (w: Want, index: number): Particle | undefined =>
  isRankRange(w) ? notApplicable('a rank range by key') : notFound(w, index);

const valueNotFound = (w: Want, rank: number): Particle | undefined =>
  isIndexRange(w) ? notApplicable('an index range by value') : notFound(w, rank);

/** Places in the order of their keys, or `undefined` when they are in it. */
const keyOrder = (c: Container): Uint32Array | undefined => {
  if (isKeyOrdered(c)) return undefined;
  const compareAt = compareElements(c);
  for (let i = 1; i < c.count; i++) if (compareAt(i - 1, i) > 0) return sortedPlaces(c.count, compareAt);
  return undefined;
};

const inverse = (places: Uint32Array): Uint32Array => {
  const numbers = new Uint32Array(places.length);
  for (let i = 0; i < places.length; i++) numbers[places[i]!] = i;
  return numbers;
};

/** Elements at `places`, in this order: keys, values or pairs. */
const elements = (c: Container, w: Want, places: ArrayLike<number>): Particle | undefined => {
  const at = isMap(w) ? elementAt : w.type === ReturnType.key ? keyAt : valueAt;
  if (isMap(w)) {
    const compareAt = compareElements(c);
    const sorts = w.type === ReturnType.orderedMap && !isKeyOrdered(c);
    const ordered = sorts ? Array.from(places).sort(compareAt) : Array.from(places);
    return map(
      w,
      ordered.length,
      ordered.map((i) => at(c, i)),
    );
  }
  if (!w.multi) return places.length === 0 ? undefined : elementParticle(at(c, places[0]!));
  return list(
    places.length,
    Array.from(places, (i) => at(c, i)),
  );
};

/** Ranks of the pairs at `places`: by value, then by key. */
const ranks = (c: Container, w: Want, places: ArrayLike<number>): Particle => {
  const shown = (rank: number): number => (isReversed(w) ? c.count - rank - 1 : rank);
  if (!w.multi) {
    const compareAt = comparePairsByValue(c);
    let rank = 0;
    for (let i = 0; i < c.count; i++) if (compareAt(i, places[0]!) < 0) rank++;
    return int(shown(rank));
  }
  const numbers = inverse(sortedPlaces(c.count, comparePairsByValue(c)));
  return ints(Array.from(places, (i) => shown(numbers[i]!)));
};

/** Indexes of the pairs at `places`: their places in the order of keys. */
const indexes = (c: Container, w: Want, places: ArrayLike<number>): Particle | undefined => {
  if (places.length === 0) return notFound(w, -1);
  const order = keyOrder(c);
  const numbers = order && inverse(order);
  const shown = (i: number): number => {
    const index = numbers ? numbers[i]! : i;
    return isReversed(w) ? c.count - index - 1 : index;
  };
  return w.multi ? ints(Array.from(places, shown)) : int(shown(places[0]!));
};

export const byKey = (c: Container, w: Want, key: Span): Found => {
  if (isRankRange(w)) notApplicable('a rank range by key');
  const place = findKey(c, key);
  if (isKeyOrdered(c)) {
    if (place < 0) return { mask: undefined, answer: keyNotFound(w, -1) };
    return byIndexRange(c, w, place, 1);
  }
  noInverted(w);
  if (place < 0) return { mask: undefined, answer: keyNotFound(w, -1) };
  return { mask: rangeMask(c, place, 1), answer: byKeyAnswer(c, w, place) };
};

const byKeyAnswer = (c: Container, w: Want, place: number): Particle | undefined => {
  if (isElements(w)) return elements(c, w, [place]);
  if (isRank(w)) return ranks(c, w, [place]);
  if (isIndex(w)) return indexes(c, w, [place]);
  const order = isIndexRange(w) ? keyOrder(c) : undefined;
  const index = order ? inverse(order)[place]! : place;
  return rangeAnswer(w, index, 1, c.count);
};

/** The place of a key, or -1. Maps without an order are searched from the start. */
export const findKey = (c: Container, key: Span): number => {
  if (isKeyOrdered(c)) {
    const place = lowerBound(c, key);
    return place < c.count && compare(c.bytes, c.starts[place]!, key.bytes, key.at) === 0 ? place : -1;
  }
  for (let i = 0; i < c.count; i++) if (compare(c.bytes, c.starts[i]!, key.bytes, key.at) === 0) return i;
  return -1;
};

/** Keys from `low` up to, not including, `high`; to the end without `high`. */
export const byKeyInterval = (c: Container, w: Want, low: Span, high: Span | undefined): Found => {
  if (isRankRange(w)) notApplicable('a rank range by key');
  if (isKeyOrdered(c)) {
    const start = lowerBound(c, low);
    const end = high === undefined ? c.count : lowerBound(c, high);
    return byIndexRange(c, w, start, Math.max(0, end - start));
  }
  const inside = new Uint8Array(c.count);
  let start = 0;
  for (let i = 0; i < c.count; i++) {
    if (compare(c.bytes, c.starts[i]!, low.bytes, low.at) < 0) start++;
    else if (high === undefined || compare(c.bytes, c.starts[i]!, high.bytes, high.at) < 0) inside[i] = 1;
  }
  const mask = w.inverted ? invert(inside) : inside;
  if (isElements(w)) return { mask, answer: elements(c, w, placesOf(mask)) };
  if (isRank(w)) return { mask, answer: ranks(c, w, placesOf(mask)) };
  return { mask, answer: rangeAnswer(w, start, countOf(inside), c.count) };
};

/** All pairs. Ranks are not looked up: whoever asks for all gets 0, 1, 2, … */
const all = (c: Container, w: Want): Found => {
  const mask = rangeMask(c, 0, c.count);
  if (isElements(w)) return { mask, answer: elements(c, w, placesOf(mask)) };
  if (isIndexRange(w) || isRankRange(w)) return { mask, answer: pair(0, c.count) };
  return { mask, answer: rangeAnswer({ ...w, inverted: false }, 0, c.count, c.count) };
};

export const byIndexRange = (c: Container, asked: Want, index: number, count: number): Found => {
  let w = asked;
  let range: Range = w.multi ? clampRange(index, count, c.count) : singleRange(index, c.count);
  if (isRankRange(w)) notApplicable('a rank range by index');
  if (w.inverted) {
    noInverted(w);
    const others = complement(range, c.count);
    if (others === undefined) return trimmed(c, w, range);
    range = others;
    w = { ...w, inverted: false };
  }
  if (range.count === 0) return { mask: undefined, answer: keyNotFound(w, range.start) };
  if (range.count === c.count) return all(c, w);
  const places = keyRange(c, range);
  const mask = maskOf(c, places);
  if (isElements(w)) return { mask, answer: elements(c, w, places) };
  if (isRank(w)) return { mask, answer: ranks(c, w, places) };
  return { mask, answer: rangeAnswer(w, range.start, range.count, c.count) };
};

/** Places of the pairs with these indexes, in the order of the keys. */
const keyRange = (c: Container, { start, count }: Range): number[] => {
  const order = keyOrder(c);
  return Array.from({ length: count }, (_, i) => (order ? order[start + i]! : start + i));
};

const maskOf = (c: Container, places: ArrayLike<number>): Uint8Array => {
  const mask = new Uint8Array(c.count);
  for (let i = 0; i < places.length; i++) mask[places[i]!] = 1;
  return mask;
};

/** All but a range that has pairs on both sides. */
const trimmed = (c: Container, w: Want, kept: Range): Found => {
  const mask = invert(maskOf(c, keyRange(c, kept)));
  if (isElements(w)) return { mask, answer: elements(c, w, placesOf(mask)) };
  if (isRank(w)) return { mask, answer: ranks(c, w, placesOf(mask)) };
  return { mask, answer: rangeAnswer(w, kept.start, kept.count, c.count) };
};

export const byValue = (c: Container, w: Want, value: Span): Found => byValueInterval(c, w, value, value);

/** Values from `low` up to, not including, `high`; to the end without `high`; the equal ones when both are the same span. */
export const byValueInterval = (c: Container, w: Want, low: Span, high: Span | undefined): Found => {
  if (isIndexRange(w)) notApplicable('an index range by value');
  noInverted(w);
  if (c.count === 0) return { mask: undefined, answer: valueNotFound(w, -1) };
  const inside = new Uint8Array(c.count);
  let below = 0;
  let count = 0;
  for (let i = 0; i < c.count; i++) {
    const order = compare(c.bytes, c.values[i]!, low.bytes, low.at);
    if (order < 0) below++;
    else if (
      high === undefined ||
      (high === low
        ? order === 0 && (w.multi || count === 0)
        : compare(c.bytes, c.values[i]!, high.bytes, high.at) < 0)
    ) {
      inside[i] = 1;
      count++;
    }
  }
  if (count === 0) {
    if (w.inverted) return all(c, w);
    return { mask: undefined, answer: valueNotFound(w, isRank(w) || isRankRange(w) ? below : 0) };
  }
  const mask = w.inverted ? invert(inside) : inside;
  if (isElements(w)) return { mask, answer: elements(c, w, placesOf(mask)) };
  if (isIndex(w)) return { mask, answer: indexes(c, w, placesOf(mask)) };
  return { mask, answer: rangeAnswer(w, below, count, c.count) };
};

export const byRankRange = (c: Container, asked: Want, rank: number, count: number): Found => {
  let w = asked;
  let range: Range = w.multi ? clampRange(rank, count, c.count) : singleRange(rank, c.count);
  if (isIndexRange(w)) notApplicable('an index range by rank');
  if (w.inverted) {
    noInverted(w);
    const others = complement(range, c.count);
    if (others !== undefined) {
      range = others;
      w = { ...w, inverted: false };
    }
  }
  if (range.count === 0) return { mask: undefined, answer: valueNotFound(w, range.start) };
  const { places, ascending } = selectRanks(c.count, range.start, range.count, comparePairsByValue(c));
  const inside = maskOf(c, places);
  const mask = w.inverted ? invert(inside) : inside;
  const byPlace = w.inverted || w.type === ReturnType.orderedMap;
  const shown = byPlace ? placesOf(mask) : ascending ? places : places.slice().reverse();
  if (isElements(w)) return { mask, answer: elements(c, w, shown) };
  if (isIndex(w)) return { mask, answer: indexes(c, w, shown) };
  return { mask, answer: rangeAnswer(w, range.start, range.count, c.count) };
};

export const byRelativeIndexRange = (
  c: Container,
  w: Want,
  key: Span,
  index: number,
  count: number,
): Found => {
  let origin = 0;
  if (isKeyOrdered(c)) origin = lowerBound(c, key);
  else for (let i = 0; i < c.count; i++) if (compare(c.bytes, c.starts[i]!, key.bytes, key.at) < 0) origin++;
  const range = relativeRange(index, count, origin);
  return byIndexRange(c, w, range.start, range.count);
};

export const byRelativeRankRange = (
  c: Container,
  w: Want,
  value: Span,
  rank: number,
  count: number,
): Found => {
  let origin = 0;
  for (let i = 0; i < c.count; i++) if (compare(c.bytes, c.values[i]!, value.bytes, value.at) < 0) origin++;
  const range = relativeRange(rank, count, origin);
  return byRankRange(c, w, range.start, range.count);
};

export const byKeyList = (c: Container, w: Want, argument: Span): Found => {
  const keys = argumentList(argument);
  if (keys.length === 0) {
    if (isRank(w) || isRankRange(w) || isIndexRange(w)) notApplicable('by an empty list of keys');
    return w.inverted ? all(c, w) : { mask: undefined, answer: notFoundOf(w) };
  }
  return isKeyOrdered(c) ? byKeyListOrdered(c, w, keys) : byKeyListUnordered(c, w, keys);
};

/** An empty list finds nothing; a return type that there is not is no reason to refuse it. */
const notFoundOf = (w: Want): Particle | undefined => (isKnown(w) ? notFound(w, 0) : undefined);

const KNOWN = new Set<number>(Object.values(ReturnType));
const isKnown = (w: Want): boolean => KNOWN.has(w.type);

const byKeyListOrdered = (c: Container, w: Want, keys: readonly Span[]): Found => {
  const ranges = keys.map((key) => keyMatches(c, key));
  const found = new Uint8Array(c.count);
  for (const { start, count } of ranges) found.fill(1, start, start + count);
  const mask = w.inverted ? invert(found) : found;
  switch (w.type) {
    case ReturnType.none:
      return { mask, answer: undefined };
    case ReturnType.index:
    case ReturnType.reverseIndex: {
      if (w.inverted) return { mask, answer: ints(reversible(c, w, placesOf(mask))) };
      const numbers: number[] = [];
      for (const { start, count } of ranges) pushRange(numbers, w, start, count, c.count);
      return { mask, answer: ints(numbers) };
    }
    case ReturnType.rank:
    case ReturnType.reverseRank:
      return notApplicable('ranks by a list of keys');
    default:
      return { mask, answer: maskAnswer(c, w, mask) };
  }
};

const reversible = (c: Container, w: Want, places: readonly number[]): number[] =>
  places.map((i) => (isReversed(w) ? c.count - i - 1 : i));

/** One place for a key; for one with a wildcard in it, what it matches. */
const keyMatches = (c: Container, key: Span): Range => {
  const start = lowerBound(c, key);
  skip(key.bytes, key.at, key.end);
  if (!skippedQueryArgument) return { start, count: findKey(c, key) < 0 ? 0 : 1 };
  let count = 0;
  while (start + count < c.count && compare(c.bytes, c.starts[start + count]!, key.bytes, key.at) === 0)
    count++;
  return { start, count };
};

const byKeyListUnordered = (c: Container, w: Want, keys: readonly Span[]): Found => {
  const { found, ranges, sorted } = matchValues(c.count, (i) => keyAt(c, i), keys);
  const mask = w.inverted ? invert(found) : found;
  if (isIndex(w)) return { mask, answer: itemRanks(w, ranges, sorted, c.count) };
  return { mask, answer: maskAnswer(c, w, mask) };
};

/** Elements, their number, or whether there are any. @throws Refusal 26 for what a list of keys or values cannot answer */
const maskAnswer = (c: Container, w: Want, mask: Uint8Array): Particle | undefined => {
  if (isElements(w)) return elements(c, w, placesOf(mask));
  if (w.type === ReturnType.none) return undefined;
  if (w.type === ReturnType.count) return int(countOf(mask));
  if (w.type === ReturnType.exists) return bool(countOf(mask) !== 0);
  return notApplicable(`return type ${w.type}`);
};

export const byValueList = (c: Container, w: Want, argument: Span): Found => {
  const values = argumentList(argument);
  if (values.length === 0) {
    if (isRankRange(w) || isIndexRange(w)) notApplicable('by an empty list of values');
    return w.inverted ? all(c, w) : { mask: undefined, answer: notFoundOf(w) };
  }
  const { found, ranges, sorted } = matchValues(c.count, (i) => valueAt(c, i), values);
  const mask = w.inverted ? invert(found) : found;
  // A single value is in order by itself: it is then answered for each of the values that it is equal to.
  const perValue = c.count <= 1 && !w.inverted && (isIndex(w) || isRank(w));
  if (perValue) return { mask, answer: ints(zeros(c, values)) };
  if (isIndex(w)) return { mask, answer: indexes(c, w, placesOf(mask)) };
  if (isRank(w)) return { mask, answer: itemRanks(w, ranges, sorted, c.count) };
  return { mask, answer: maskAnswer(c, w, mask) };
};

/** A zero for each value that the only pair has. */
const zeros = (c: Container, values: readonly Span[]): number[] =>
  values
    .filter((value) => c.count === 1 && compare(c.bytes, c.values[0]!, value.bytes, value.at) === 0)
    .map(() => 0);

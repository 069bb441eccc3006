/** Operations that change a list. Each returns the list's new bytes and what the client is answered. */
import type { Particle } from '../../particle.ts';
import { ResultCode } from '../result-code.ts';
import { float, int, notApplicable, refuse } from './answer.ts';
import {
  buildContainer,
  type Container,
  compareElements,
  elementAt,
  LIST_FLAGS,
  lowerBound,
  ORDERED,
  openContainer,
  run,
  sortedPlaces,
  span,
  upperBound,
} from './container.ts';
import { compare, Head, Kind, type Span } from './element.ts';
import { normalizeElement, writeInteger } from './normalize.ts';

export interface Modified {
  /** The list or map afterwards; `undefined`: nothing was written. */
  readonly bytes: Uint8Array | undefined;
  readonly answer: Particle | undefined;
  /** With nothing written: a list or map inside of another is created all the same when it is missing. */
  readonly creates?: boolean;
}

/** Nothing to write, though to a list or map that is to be there. */
export const present = (answer: Particle | undefined): Modified => ({
  bytes: undefined,
  answer,
  creates: true,
});

/** Write flags of lists. */
const ADD_UNIQUE = 1;
const INSERT_BOUNDED = 2;
const NO_FAIL = 4;
const PARTIAL = 8;

/** Nils that one write may put in front of a far index: more than the largest record has room for. */
const PADDING_MAX = 8 * 1024 * 1024;

const has = (flags: number, flag: number): boolean => (Math.floor(flags / flag) & 1) === 1;
const isPartial = (flags: number): boolean => has(flags, NO_FAIL) && has(flags, PARTIAL);
const isOrdered = (c: Container): boolean => (c.flags & ORDERED) !== 0;

const unchanged = (c: Container): Modified => ({ bytes: undefined, answer: int(c.count) });

/** What happens when a value that must be unique is there: an answer without a write, or a refusal. */
const exists = (c: Container, flags: number): Modified =>
  has(flags, NO_FAIL) ? unchanged(c) : refuse(ResultCode.elementExists, 'the value is in the list');

const stored = (value: Span): Span =>
  span(normalizeElement(value) ?? refuse(ResultCode.parameter, 'a value cannot be stored'));

const storedList = (value: Span): Container => {
  const { bytes } = stored(value);
  const items = openContainer(bytes, 0, bytes.length);
  return items?.kind === Kind.list ? items : refuse(ResultCode.parameter, 'the items are not a list');
};

const rebuild = (c: Container, count: number, contents: readonly Span[]): Uint8Array =>
  buildContainer(Kind.list, c.flags, count, contents);

/** `insert` at `place`, and `remove` elements from there gone. */
const splice = (
  c: Container,
  place: number,
  remove: number,
  insert: readonly Span[],
  count: number,
): Uint8Array =>
  rebuild(c, c.count - remove + count, [run(c, 0, place), ...insert, run(c, place + remove, c.count)]);

const contains = (c: Container, value: Span, except = -1): boolean => {
  for (let i = 0; i < c.count; i++)
    if (i !== except && compare(c.bytes, c.starts[i]!, value.bytes, value.at) === 0) return true;
  return false;
};

export const setListType = (c: Container, flags: number): Modified => {
  if ((flags & 0xff & ~(LIST_FLAGS | PERSIST_INDEX)) !== 0) notApplicable(`list flags ${flags}`);
  const order = flags & LIST_FLAGS;
  if (order === c.flags) return present(undefined);
  const places = order === ORDERED ? sortedPlaces(c.count, compareElements(c)) : undefined;
  const contents = places ? Array.from(places, (i) => elementAt(c, i)) : [run(c, 0, c.count)];
  return { bytes: buildContainer(Kind.list, order, c.count, contents), answer: undefined };
};

/** Asks a server to keep an index with the container. No client can see it; it is not stored here. */
const PERSIST_INDEX = 0x10;

/** The flags that a container is created with: those asked for, or none when they are not valid. */
export const createFlags = (asked: number, valid: number): number =>
  (asked & 0xff & ~(valid | PERSIST_INDEX)) === 0 ? asked & valid : 0;

export const append = (c: Container, argument: Span, flags: number): Modified => {
  const value = stored(argument);
  if (!isOrdered(c)) return insertAt(c, c.count, value, flags);
  const place = lowerBound(c, value);
  if (has(flags, ADD_UNIQUE) && upperBound(c, value) > place) return exists(c, flags);
  return { bytes: splice(c, place, 0, [value], 1), answer: int(c.count + 1) };
};

export const appendItems = (c: Container, argument: Span, flags: number): Modified => {
  const items = storedList(argument);
  return isOrdered(c) ? mergeItems(c, items, flags) : insertItemsAt(c, c.count, items, flags);
};

export const insert = (c: Container, index: number, argument: Span, flags: number): Modified => {
  const value = stored(argument);
  if (isOrdered(c)) notApplicable('insert into an ordered list');
  return insertAt(c, index, value, flags);
};

export const insertItems = (c: Container, index: number, argument: Span, flags: number): Modified => {
  const items = storedList(argument);
  if (isOrdered(c)) notApplicable('insert into an ordered list');
  return insertItemsAt(c, index, items, flags);
};

/** Where index `index` is; at or beyond the end: where it would be. @throws Refusal 26 before the start */
const placeFor = (c: Container, index: number): number => {
  const place = index < 0 ? c.count + index : index;
  return place < 0 || index > 0x7fffffff ? notApplicable(`index ${index} of ${c.count}`) : place;
};

const padding = (c: Container, place: number): Span[] => {
  const missing = place - c.count;
  if (missing <= 0) return [];
  if (missing > PADDING_MAX) refuse(ResultCode.recordTooBig, `${missing} nils before index ${place}`);
  return [span(new Uint8Array(missing).fill(0xc0))];
};

const insertAt = (c: Container, index: number, value: Span, flags: number): Modified => {
  const place = placeFor(c, index);
  if (has(flags, INSERT_BOUNDED) && place > c.count) return outOfBounds(c, flags);
  if (has(flags, ADD_UNIQUE) && contains(c, value)) return exists(c, flags);
  return inserted(c, place, [value], 1);
};

const outOfBounds = (c: Container, flags: number): Modified =>
  has(flags, NO_FAIL) ? unchanged(c) : notApplicable('index out of bounds');

const inserted = (c: Container, place: number, values: readonly Span[], count: number): Modified => {
  const pad = padding(c, place);
  const nils = Math.max(0, place - c.count);
  return {
    bytes: splice(c, Math.min(place, c.count), 0, [...pad, ...values], nils + count),
    answer: int(c.count + nils + count),
  };
};

const insertItemsAt = (c: Container, index: number, items: Container, flags: number): Modified => {
  if (items.count === 0) return present(int(c.count));
  const place = placeFor(c, index);
  if (has(flags, INSERT_BOUNDED) && place > c.count) return outOfBounds(c, flags);
  if (!has(flags, ADD_UNIQUE)) return inserted(c, place, [run(items, 0, items.count)], items.count);
  const fresh = uniqueItems(c, items, flags);
  return Array.isArray(fresh)
    ? fresh.length === 0
      ? unchanged(c)
      : inserted(c, place, fresh, fresh.length)
    : fresh;
};

/** The items that are not yet in the list, each once; or what to answer when the flags forbid a duplicate. */
const uniqueItems = (c: Container, items: Container, flags: number): Span[] | Modified => {
  const known = new Lookup(c);
  const own = new Lookup(items);
  const fresh: Span[] = [];
  for (let i = 0; i < items.count; i++) {
    const item = elementAt(items, i);
    if (known.has(item)) {
      if (!isPartial(flags)) return exists(c, flags);
    } else if (own.firstPlace(item) < i) {
      if (!has(flags, NO_FAIL)) return notApplicable('the items have a value twice');
      if (!isPartial(flags)) return unchanged(c);
    } else fresh.push(item);
  }
  return fresh;
};

/** Finds elements of an unordered list by value. Sorted once: a long list of items would otherwise cost its square. */
class Lookup {
  readonly #c: Container;
  readonly #places: Uint32Array;

  constructor(c: Container) {
    this.#c = c;
    this.#places = sortedPlaces(c.count, compareElements(c));
  }

  /** The first place of an element equal to `value`, or Infinity. */
  firstPlace(value: Span): number {
    const c = this.#c;
    let low = 0;
    let high = c.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compare(c.bytes, c.starts[this.#places[middle]!]!, value.bytes, value.at) < 0) low = middle + 1;
      else high = middle;
    }
    const place = this.#places[low];
    if (place === undefined || compare(c.bytes, c.starts[place]!, value.bytes, value.at) !== 0)
      return Number.POSITIVE_INFINITY;
    return place;
  }

  has(value: Span): boolean {
    return this.firstPlace(value) !== Number.POSITIVE_INFINITY;
  }
}

/** Items into an ordered list. */
const mergeItems = (c: Container, items: Container, flags: number): Modified => {
  if (items.count === 0) return present(int(c.count));
  const compareAt = compareElements(items);
  const unique = has(flags, ADD_UNIQUE);
  let places = Array.from(sortedPlaces(items.count, compareAt));
  if (unique) {
    const first = places.filter((place, i) => i === 0 || compareAt(places[i - 1]!, place) !== 0);
    if (first.length < places.length && !has(flags, NO_FAIL)) notApplicable('the items have a value twice');
    if (first.length < places.length && !isPartial(flags)) return unchanged(c);
    places = first;
  }
  const contents: Span[] = [];
  let from = 0;
  let count = c.count;
  for (const place of places) {
    const item = elementAt(items, place);
    const at = lowerBound(c, item);
    if (unique && upperBound(c, item) > at) {
      if (!isPartial(flags)) return exists(c, flags);
      continue;
    }
    contents.push(run(c, from, at), item);
    from = at;
    count++;
  }
  contents.push(run(c, from, c.count));
  return { bytes: rebuild(c, count, contents), answer: int(count) };
};

export const set = (c: Container, index: number, argument: Span, flags: number): Modified => {
  const value = stored(argument);
  if (isOrdered(c)) notApplicable('set in an ordered list');
  return replace(c, index, value, flags);
};

const replace = (c: Container, index: number, value: Span, flags: number): Modified => {
  // Beyond the end it is an insert, which answers nothing here.
  if (index >= c.count) return { ...insertAt(c, index, value, flags), answer: undefined };
  const place = placeFor(c, index);
  if (has(flags, ADD_UNIQUE) && contains(c, value, place)) return { ...exists(c, flags), answer: undefined };
  return { bytes: splice(c, place, 1, [value], 1), answer: undefined };
};

export const increment = (c: Container, index: number, delta: Span | undefined, flags: number): Modified => {
  const place = placeFor(c, index);
  const sum = add(place < c.count ? elementAt(c, place) : undefined, delta, false);
  const { bytes } = isOrdered(c)
    ? replaceOrdered(c, place, sum.element, flags)
    : replace(c, place, sum.element, flags);
  return { bytes, answer: sum.particle };
};

const replaceOrdered = (c: Container, place: number, value: Span, flags: number): Modified => {
  if (place > c.count) notApplicable(`index ${place} of ${c.count}, in an ordered list`);
  const rank = lowerBound(c, value);
  if (has(flags, ADD_UNIQUE) && upperBound(c, value) > rank)
    return rank === place ? unchanged(c) : exists(c, flags);
  return { bytes: reordered(c, place, value), answer: undefined };
};

/** An ordered list whose element `place` (its count: none) became `value`, which moves to where it belongs. */
export const reordered = (c: Container, place: number, value: Span): Uint8Array => {
  const rank = lowerBound(c, value);
  const gone = place < c.count ? 1 : 0;
  const contents =
    rank <= place
      ? [run(c, 0, rank), value, run(c, rank, place), run(c, place + gone, c.count)]
      : [run(c, 0, place), run(c, place + gone, rank), value, run(c, rank, c.count)];
  return rebuild(c, c.count - gone + 1, contents);
};

const SORT_DESCENDING = 1;
const SORT_DROP_DUPLICATES = 2;

export const sort = (c: Container, flags: number): Modified => {
  if (c.count <= 1) return { bytes: undefined, answer: undefined };
  const compareAt = compareElements(c);
  const descending = !isOrdered(c) && has(flags, SORT_DESCENDING);
  let places = Array.from(
    isOrdered(c) ? new Uint32Array(c.count).keys() : sortedPlaces(c.count, compareAt, descending),
  );
  if (has(flags, SORT_DROP_DUPLICATES)) {
    places = places.filter((place, i) => i === 0 || compareAt(places[i - 1]!, place) !== 0);
    // A server looks for duplicates in ascending order only.
    if (descending && places.length > 1) refuse(ResultCode.parameter, 'descending, and without duplicates');
  }
  return {
    bytes: rebuild(
      c,
      places.length,
      places.map((i) => elementAt(c, i)),
    ),
    answer: undefined,
  };
};

export interface Sum {
  readonly element: Span;
  readonly particle: Particle;
}

const head = new Head();

/**
 * `value` plus `delta`: of the type that `value` has. Without a value, `delta` itself; without a delta, 1.
 * @throws Refusal 4 unless both are numbers
 */
export const add = (value: Span | undefined, delta: Span | undefined, negated: boolean): Sum => {
  const step = numberOf(delta);
  const by = step === undefined ? 1n : step;
  const base = value === undefined ? undefined : numberOf(value);
  if (value !== undefined && base === undefined) refuse(ResultCode.parameter, 'only numbers are incremented');
  const sign = negated ? -1 : 1;
  if (typeof base === 'number' || (base === undefined && typeof by === 'number'))
    return floatSum((base ?? 0) as number, sign * Number(by));
  const whole = typeof by === 'number' ? truncated(sign * by) : BigInt(sign) * by;
  return intSum(BigInt.asIntN(64, ((base ?? 0n) as bigint) + whole));
};

/** An integer, a float, or `undefined` for nil and for what is not there. */
const numberOf = (s: Span | undefined): bigint | number | undefined => {
  if (s === undefined) return undefined;
  head.read(s.bytes, s.at, s.end);
  if (head.isInteger) return head.bigint;
  if (head.kind === Kind.double) return head.double;
  return head.kind === Kind.nil ? undefined : refuse(ResultCode.parameter, 'only numbers are added');
};

/** What a processor makes of a float that fits in no 64-bit integer. */
const OVERFLOW = -(2n ** 63n);

const truncated = (n: number): bigint => (n >= -(2 ** 63) && n < 2 ** 63 ? BigInt(Math.trunc(n)) : OVERFLOW);

const floatSum = (base: number, by: number): Sum => {
  const particle = float(base + by);
  return { element: span(Buffer.concat([Uint8Array.of(0xcb), particle.bytes])), particle };
};

const intSum = (n: bigint): Sum => {
  const particle = int(n);
  head.high = Number(BigInt.asUintN(32, n >> 32n));
  head.low = Number(BigInt.asUintN(32, n));
  head.kind = n < 0n ? Kind.negative : Kind.integer;
  const out = Buffer.alloc(9);
  return { element: span(out.subarray(0, writeInteger(out, 0, head))), particle };
};

/** Operations that change a map. */
import { ResultCode } from '../result-code.ts';
import { int, notApplicable, refuse } from './answer.ts';
import {
  buildContainer,
  type Container,
  compareElements,
  elementAt,
  lowerBound,
  MAP_FLAGS,
  openContainer,
  run,
  sortedPlaces,
  span,
  valueAt,
} from './container.ts';
import { compare, isMapKey, Kind, type Span } from './element.ts';
import { add, type Modified, present } from './list-modify.ts';
import { findKey, isKeyOrdered } from './map-query.ts';
import { normalizeElement } from './normalize.ts';

/** What a put may do. */
export interface PutMode {
  readonly overwrites: boolean;
  readonly creates: boolean;
  /** A pair that may not be put is left out instead of refused: alone, or with all others. */
  readonly noFail: boolean;
  readonly partial: boolean;
}

export const ADD: PutMode = { overwrites: false, creates: true, noFail: false, partial: false };
export const REPLACE: PutMode = { overwrites: true, creates: false, noFail: false, partial: false };

/** Write flags of maps: 1 no overwrite, 2 no create, 4 no fail, 8 partial. */
export const putMode = (flags: number): PutMode => {
  const bits = flags % 16;
  return {
    overwrites: (bits & 1) === 0,
    creates: (bits & 2) === 0,
    noFail: (bits & 4) !== 0,
    partial: (bits & 8) !== 0,
  };
};

const PERSIST_INDEX = 0x10;

const unchanged = (c: Container): Modified => ({ bytes: undefined, answer: int(c.count) });

export const setMapType = (c: Container, flags: number): Modified => {
  if ((flags & 0xff & ~(MAP_FLAGS | PERSIST_INDEX)) !== 0) notApplicable(`map flags ${flags}`);
  const contents = isKeyOrdered(c)
    ? [run(c, 0, c.count)]
    : Array.from(sortedPlaces(c.count, compareElements(c)), (i) => elementAt(c, i));
  return { bytes: buildContainer(Kind.map, flags & MAP_FLAGS, c.count, contents), answer: undefined };
};

export const clear = (c: Container): Modified => ({
  bytes: buildContainer(c.kind, c.flags, 0, []),
  answer: undefined,
});

const storedKey = (key: Span): Span => {
  const bytes = isMapKey(key.bytes, key.at, key.end) ? normalizeElement(key) : undefined;
  return span(bytes ?? refuse(ResultCode.parameter, 'a map key is an integer, a string or a blob'));
};

const storedValue = (value: Span): Span =>
  span(normalizeElement(value) ?? refuse(ResultCode.parameter, 'a value cannot be stored'));

/** Why a pair may not be put, or `undefined`. */
const objection = (mode: PutMode, found: boolean): ResultCode | undefined => {
  if (found) return mode.overwrites ? undefined : ResultCode.elementExists;
  return mode.creates ? undefined : ResultCode.elementNotFound;
};

export const put = (c: Container, key: Span, value: Span, mode: PutMode): Modified => {
  const k = storedKey(key);
  const v = storedValue(value);
  const place = findKey(c, k);
  const code = objection(mode, place >= 0);
  if (code !== undefined) return mode.noFail ? unchanged(c) : refuse(code, 'the key');
  const bytes = place >= 0 ? replacePair(c, place, k, v) : insertPair(c, placeForKey(c, k), k, v);
  return { bytes, answer: int(place >= 0 ? c.count : c.count + 1) };
};

const replacePair = (c: Container, place: number, key: Span, value: Span): Uint8Array =>
  buildContainer(c.kind, c.flags, c.count, [run(c, 0, place), key, value, run(c, place + 1, c.count)]);

export const insertPair = (c: Container, place: number, key: Span, value: Span): Uint8Array =>
  buildContainer(c.kind, c.flags, c.count + 1, [run(c, 0, place), key, value, run(c, place, c.count)]);

/** Where a new key belongs: in order, as far as the map is in order; else at the end. */
export const placeForKey = (c: Container, key: Span): number => {
  if (isKeyOrdered(c)) return lowerBound(c, key);
  const compareAt = compareElements(c);
  for (let i = 0; i < c.count; i++) {
    if (i > 0 && compareAt(i - 1, i) > 0) return c.count;
    if (compare(key.bytes, key.at, c.bytes, c.starts[i]!) < 0) return i;
  }
  return c.count;
};

export const putItems = (c: Container, argument: Span, mode: PutMode): Modified => {
  const bytes = normalizeElement(argument);
  const items = bytes && openContainer(bytes, 0, bytes.length);
  if (items?.kind !== Kind.map) return refuse(ResultCode.parameter, 'the items are not a map');
  const order = isKeyOrdered(c) ? undefined : sortedPlaces(c.count, compareElements(c));
  const inOrder = (i: number): Span => elementAt(c, order ? order[i]! : i);
  if (items.count === 0) return present(int(c.count));
  if (c.count === 0) return putIntoEmpty(c, items, mode);
  const contents: Span[] = [];
  let next = 0;
  let count = 0;
  for (let i = 0; i < items.count; i++) {
    const item = elementAt(items, i);
    let relation = 1;
    for (; next < c.count; next++) {
      const own = inOrder(next);
      relation = compare(own.bytes, own.at, item.bytes, item.at);
      if (relation >= 0) break;
      contents.push(own);
      count++;
    }
    const found = next < c.count && relation === 0;
    const code = objection(mode, found);
    if (code !== undefined && !mode.noFail) return refuse(code, 'a key');
    if (code !== undefined && !mode.partial) return unchanged(c);
    if (code !== undefined) continue;
    if (found) next++;
    contents.push(item);
    count++;
  }
  for (; next < c.count; next++) {
    contents.push(inOrder(next));
    count++;
  }
  return { bytes: buildContainer(c.kind, c.flags, count, contents), answer: int(count) };
};

/** Into an empty map, no-fail and partial together put what no-create forbids: a server does. */
const putIntoEmpty = (c: Container, items: Container, mode: PutMode): Modified => {
  if (!mode.creates) {
    if (!mode.noFail) return refuse(ResultCode.elementNotFound, 'the map is empty');
    if (!mode.partial) return unchanged(c);
  }
  const contents = [run(items, 0, items.count)];
  return { bytes: buildContainer(c.kind, c.flags, items.count, contents), answer: int(items.count) };
};

/** `negated`: decrement. */
export const incrementKey = (
  c: Container,
  key: Span,
  delta: Span | undefined,
  negated: boolean,
): Modified => {
  const place = findKey(c, key);
  const sum = add(place < 0 ? undefined : valueAt(c, place), delta, negated);
  const { bytes } = put(c, key, sum.element, { ...ADD, overwrites: true });
  return { bytes, answer: sum.particle };
};

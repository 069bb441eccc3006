/**
 * Contexts: the way from a bin's list or map down to the one inside that an operation works on, and back up with what became of it.
 *
 * A context is a list `[type, value, type, value, …]`. Type: 10h list or 20h map, plus 0 index, 1 rank, 2 key, 3 value; neither bit
 * takes whichever it finds. Flags 40h, 80h, C0h create what is missing: an unordered list, an unordered list with nils before a far
 * index, an ordered list; or a map unordered, by key, by key and value.
 */
import { ResultCode } from '../result-code.ts';
import { notApplicable, refuse, singleRange } from './answer.ts';
import type { OperationReader } from './arguments.ts';
import {
  buildContainer,
  type Container,
  type ContainerKind,
  compareElements,
  comparePairsByValue,
  elementAt,
  ORDERED,
  openContainer,
  run,
  span,
  valueAt,
} from './container.ts';
import { compare, Head, isMapKey, Kind, type Span } from './element.ts';
import { reordered } from './list-modify.ts';
import { insertPair, placeForKey } from './map-modify.ts';
import { findKey, isKeyOrdered } from './map-query.ts';
import { normalizeElement } from './normalize.ts';
import { selectRanks } from './rank-selection.ts';

const BASE = 0x0f;
const LIST = 0x10;
const MAP = 0x20;
const CREATE = 0xc0;
const CREATE_UNBOUNDED = 0x80;
const CREATE_ORDERED = 0xc0;
const PERSIST_INDEX = 0x100;

const By = { index: 0, rank: 1, key: 2, value: 3 } as const;

/** Nils that one context may create. */
const PADDING_MAX = 8 * 1024 * 1024;

/** One level: a container and the place in it of the next level, or where the next level will be created. */
interface Level {
  readonly container: Container;
  readonly place: number;
  /** Set when the place is to be created: the key in a map, the number of nils before it in a list. */
  readonly created: { readonly key: Span | undefined; readonly nils: number } | undefined;
}

/** A container that is missing: what it will be, and where in it the next one stands. */
interface Missing {
  readonly kind: ContainerKind;
  readonly flags: number;
  readonly key: Span | undefined;
  readonly nils: number;
}

export interface Place {
  readonly levels: readonly Level[];
  readonly missing: readonly Missing[];
  /** What is there; `undefined` when it is to be created. */
  readonly target: Span | undefined;
}

interface Step {
  readonly type: number;
  readonly value: Span;
}

const readSteps = (reader: OperationReader): Step[] => {
  const count = reader.listCount();
  if (count === 0 || count % 2 === 1) refuse(ResultCode.parameter, `a context of ${count}`);
  const steps: Step[] = [];
  for (let i = 0; i < count; i += 2) {
    const type = reader.uint();
    if ((type & BASE) === By.key) reader.forgetQueryArguments();
    steps.push({ type, value: reader.element(false) });
  }
  return steps;
};

/**
 * Goes down. `root` is what the bin holds, `undefined` when there is no bin.
 * @throws Refusal 4 for a malformed context or a bin that is no list or map, 26 when there is no such element
 */
export const dig = (root: Span | undefined, reader: OperationReader, modifies: boolean): Place => {
  const steps = readSteps(reader);
  const levels: Level[] = [];
  let target = root;
  for (const [i, step] of steps.entries()) {
    const creates = checkedCreate(step.type);
    if (target === undefined) {
      if (!creates) notApplicable('there is no bin and nothing to create');
      return { levels, missing: steps.slice(i).map(missingAt), target: undefined };
    }
    const container = openContainer(target.bytes, target.at, target.end);
    if (container === undefined) return notApplicable('a context of what is no list or map');
    const level =
      (step.type % 0x40) & (container.kind === Kind.list ? MAP : LIST)
        ? notApplicable('a context of the other kind')
        : find(container, step, creates);
    levels.push(level);
    if (level.created === undefined) {
      target =
        container.kind === Kind.list ? elementAt(container, level.place) : valueAt(container, level.place);
      continue;
    }
    if (!modifies) notApplicable('nothing is created by a read');
    return { levels, missing: steps.slice(i + 1).map(missingAt), target: undefined };
  }
  return { levels, missing: [], target };
};

/** True when the step may create. @throws Refusal 26 for types that there are not */
const checkedCreate = (type: number): boolean => {
  if ((type & BASE) > By.value) notApplicable(`context type ${type}`);
  const creates = (type & (CREATE | PERSIST_INDEX)) !== 0;
  if (creates && (type & (LIST | MAP)) === 0) notApplicable('only a list or map context creates');
  return (type & CREATE) !== 0;
};

const find = (c: Container, { type, value }: Step, creates: boolean): Level => {
  const by = type & BASE;
  if (by === By.key) return byKey(c, value, creates);
  if (by === By.value) return existing(c, placeOfValue(c, value));
  const index = indexOf(value);
  if (by === By.rank && !isOrderedList(c))
    return existing(c, placeOfRank(c, singleRange(index, c.count).start));
  if (c.kind === Kind.list && creates && (index >= c.count || index < -c.count))
    return createdElement(c, type, index);
  const { start } = singleRange(index, c.count);
  if (c.kind === Kind.list || isKeyOrdered(c)) return existing(c, start);
  return existing(c, selectRanks(c.count, start, 1, compareElements(c)).places[0]!);
};

const existing = (container: Container, place: number): Level => ({ container, place, created: undefined });

const head = new Head();

const indexOf = (value: Span): number => {
  head.read(value.bytes, value.at, value.end);
  return head.isInteger ? head.number : notApplicable('a context index is an integer');
};

/** Its ranks are its indexes. */
const isOrderedList = (c: Container): boolean => c.kind === Kind.list && (c.flags & ORDERED) !== 0;

const placeOfRank = (c: Container, rank: number): number => {
  const compareAt = c.kind === Kind.list ? compareElements(c) : comparePairsByValue(c);
  return selectRanks(c.count, rank, 1, compareAt).places[0]!;
};

const placeOfValue = (c: Container, value: Span): number => {
  for (let i = 0; i < c.count; i++) if (compare(c.bytes, c.values[i]!, value.bytes, value.at) === 0) return i;
  return notApplicable('there is no such value');
};

const byKey = (c: Container, value: Span, creates: boolean): Level => {
  if (c.kind === Kind.list) return notApplicable('a key of a list');
  const bytes = normalizeElement(value);
  const key = bytes ? span(bytes) : notApplicable('a key that cannot be');
  const place = findKey(c, key);
  if (place >= 0) return existing(c, place);
  if (!creates) notApplicable('there is no such key');
  return { container: c, place: placeForKey(c, key), created: { key: creatableKey(key), nils: 0 } };
};

const creatableKey = (key: Span): Span =>
  isMapKey(key.bytes, key.at, key.end) ? key : notApplicable('a key that cannot be');

/** A list element beyond the end. */
const createdElement = (c: Container, type: number, index: number): Level => {
  const atEnd: Level = { container: c, place: c.count, created: { key: undefined, nils: 0 } };
  if (index === c.count || (c.count === 0 && index === -1)) return atEnd;
  if (index < 0) return notApplicable(`index ${index} of ${c.count}`);
  // In an ordered list every new element finds its place by itself, whatever its index.
  if ((c.flags & ORDERED) !== 0) return atEnd;
  if ((type & CREATE) !== CREATE_UNBOUNDED) return notApplicable(`index ${index} of ${c.count}`);
  return { ...atEnd, created: { key: undefined, nils: paddingOf(index - c.count) } };
};

const paddingOf = (nils: number): number =>
  nils > PADDING_MAX ? refuse(ResultCode.recordTooBig, `${nils} nils before a context index`) : nils;

/** What a step creates when even its container is missing. */
const missingAt = ({ type, value }: Step): Missing => {
  checkedCreate(type);
  if ((type & PERSIST_INDEX) !== 0) notApplicable('an index is kept at the top only');
  if ((type & 0x3f) === (MAP | By.key)) {
    const bytes = normalizeElement(value);
    const key = bytes ? creatableKey(span(bytes)) : notApplicable('a key that cannot be');
    return { kind: Kind.map, flags: MAP_ORDER[(type & CREATE) >> 6]!, key, nils: 0 };
  }
  if ((type & 0x3f) !== (LIST | By.index)) return notApplicable(`context type ${type} creates nothing`);
  const index = indexOf(value);
  const create = type & CREATE;
  if (index < -1) notApplicable(`index ${index} of a new list`);
  if (index > 0 && create !== CREATE_UNBOUNDED && create !== CREATE_ORDERED)
    notApplicable(`index ${index} of a new list`);
  const nils = create === CREATE_UNBOUNDED ? paddingOf(Math.max(0, index)) : 0;
  return { kind: Kind.list, flags: create === CREATE_ORDERED ? ORDERED : 0, key: undefined, nils };
};

/** Order flags of a map by its create flag. */
const MAP_ORDER = [0, 0, 1, 3] as const;

/** Goes back up: the bytes of the whole, with `bytes` where the context leads to. */
export const wrap = ({ levels, missing }: Place, bytes: Uint8Array): Uint8Array => {
  let inner = bytes;
  for (const { kind, flags, key, nils } of missing.toReversed()) {
    const before = key ?? span(new Uint8Array(nils).fill(NIL));
    inner = buildContainer(kind, flags, kind === Kind.map ? 1 : nils + 1, [before, span(inner)]);
  }
  for (const level of levels.toReversed()) inner = wrapLevel(level, span(inner));
  return inner;
};

const NIL = 0xc0;

const wrapLevel = ({ container: c, place, created }: Level, inner: Span): Uint8Array => {
  if (c.kind === Kind.map) {
    if (created?.key) return insertPair(c, place, created.key, inner);
    return buildContainer(c.kind, c.flags, c.count, [
      { bytes: c.bytes, at: c.starts[0]!, end: c.values[place]! },
      inner,
      run(c, place + 1, c.count),
    ]);
  }
  if ((c.flags & ORDERED) !== 0) return reordered(c, place, inner);
  const nils = span(new Uint8Array(created?.nils ?? 0).fill(NIL));
  const gone = created === undefined ? 1 : 0;
  const count = c.count - gone + 1 + nils.end;
  return buildContainer(c.kind, c.flags, count, [
    run(c, 0, place),
    nils,
    inner,
    run(c, place + gone, c.count),
  ]);
};

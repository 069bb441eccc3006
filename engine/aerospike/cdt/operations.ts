/**
 * The list and map operations of the protocol: what op 3 (CDT_READ) and op 4 (CDT_MODIFY) do to one bin. The specification is
 * README.md.
 *
 * An op is the wire op's value: msgpack `[subop, args…]`, or `[0xFF, [context…], [subop, args…]]`.
 */
import { type Particle, ParticleType } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { type Found, int, ReturnType, refuse, type Want, want } from './answer.ts';
import { ALL, type Arguments, OperationReader, readArguments, type Signature } from './arguments.ts';
import {
  type Container,
  type ContainerKind,
  emptyContainer,
  LIST_FLAGS,
  MAP_FLAGS,
  openContainer,
  particleTypeOf,
  without,
} from './container.ts';
import { dig, type Place, wrap } from './context.ts';
import { Kind, type Span } from './element.ts';
import * as lists from './list-modify.ts';
import { createFlags, type Modified } from './list-modify.ts';
import * as listQuery from './list-query.ts';
import * as maps from './map-modify.ts';
import * as mapQuery from './map-query.ts';

export interface CdtModified {
  /** What the bin holds afterwards; the very object that came in when nothing changed; `undefined`: there is no such bin. */
  readonly particle: Particle | undefined;
  /** What the client is answered; `undefined` when the operation has no result. */
  readonly result: Particle | undefined;
}

/** Operations that look for elements: to get them, or to remove them and answer the same. */
interface Query extends Signature {
  readonly find: (c: Container, args: Arguments) => Found;
}

/** Operations that change a list or map in another way. */
interface Change extends Signature {
  readonly change: (c: Container, args: Arguments) => Modified;
  /** The flags of the list or map that is created for it. `refused`: none is created, and this is the answer. */
  readonly creates: ((args: Arguments) => number) | { readonly refused: ResultCode } | 'nothing';
}

const get = (
  parameters: string,
  optional: number,
  multi: boolean,
  find: (c: Container, w: Want, args: Arguments) => Found,
): Query => ({
  parameters,
  optional,
  find: (c, args) => find(c, want(args.number(0), multi), args),
});

const fixed = (
  parameters: string,
  optional: number,
  w: Want,
  find: (c: Container, w: Want, args: Arguments) => Found,
): Query => ({ parameters, optional, find: (c, args) => find(c, w, args) });

const count = (args: Arguments, place: number): number => args.number(place, ALL);

const one: Want = { type: ReturnType.value, inverted: false, multi: false };
const several: Want = { ...one, multi: true };
const removedOne: Want = { ...one, type: ReturnType.count };
const removedSeveral: Want = { ...several, type: ReturnType.count };

const listIndex = (c: Container, w: Want, a: Arguments): Found =>
  listQuery.byIndexRange(c, w, a.number(0), 1);
const listRange = (c: Container, w: Want, a: Arguments): Found =>
  listQuery.byIndexRange(c, w, a.number(0), count(a, 1));

const byIndex = get('fi', 0, false, (c, w, a) => listQuery.byIndexRange(c, w, a.number(1), 1));
const byFirstValue = get('fv', 0, false, (c, w, a) => listQuery.byValue(c, w, a.span(1)));
const byRank = get('fi', 0, false, (c, w, a) => listQuery.byRankRange(c, w, a.number(1), 1));
const byValue = get('fv', 0, true, (c, w, a) => listQuery.byValue(c, w, a.span(1)));
const byValueList = get('fv', 0, true, (c, w, a) => listQuery.byValueList(c, w, a.span(1)));
const byIndexRange = get('fic', 1, true, (c, w, a) => listQuery.byIndexRange(c, w, a.number(1), count(a, 2)));
const byInterval = get('fvv', 1, true, (c, w, a) => listQuery.byInterval(c, w, a.span(1), a.optionalSpan(2)));
const byRankRange = get('fic', 1, true, (c, w, a) => listQuery.byRankRange(c, w, a.number(1), count(a, 2)));
const byRelativeRank = get('fvic', 1, true, (c, w, a) =>
  listQuery.byRelativeRankRange(c, w, a.span(1), a.number(2), count(a, 3)),
);

const mapKey = get('iv', 0, false, (c, w, a) => mapQuery.byKey(c, w, a.span(1)));
const mapIndex = get('ii', 0, false, (c, w, a) => mapQuery.byIndexRange(c, w, a.number(1), 1));
const mapFirstValue = get('iv', 0, false, (c, w, a) => mapQuery.byValue(c, w, a.span(1)));
const mapRank = get('ii', 0, false, (c, w, a) => mapQuery.byRankRange(c, w, a.number(1), 1));
const mapKeyList = get('iv', 0, true, (c, w, a) => mapQuery.byKeyList(c, w, a.span(1)));
const mapValue = get('iv', 0, true, (c, w, a) => mapQuery.byValue(c, w, a.span(1)));
const mapValueList = get('iv', 0, true, (c, w, a) => mapQuery.byValueList(c, w, a.span(1)));
const mapKeyInterval = get('ivv', 1, true, (c, w, a) =>
  mapQuery.byKeyInterval(c, w, a.span(1), a.optionalSpan(2)),
);
const mapIndexRange = get('iic', 1, true, (c, w, a) => mapQuery.byIndexRange(c, w, a.number(1), count(a, 2)));
const mapValueInterval = get('ivv', 1, true, (c, w, a) =>
  mapQuery.byValueInterval(c, w, a.span(1), a.optionalSpan(2)),
);
const mapRankRange = get('iic', 1, true, (c, w, a) => mapQuery.byRankRange(c, w, a.number(1), count(a, 2)));
const mapRelativeIndex = get('ivic', 1, true, (c, w, a) =>
  mapQuery.byRelativeIndexRange(c, w, a.span(1), a.number(2), count(a, 3)),
);
const mapRelativeRank = get('ivic', 1, true, (c, w, a) =>
  mapQuery.byRelativeRankRange(c, w, a.span(1), a.number(2), count(a, 3)),
);

const size: Query = {
  parameters: '',
  optional: 0,
  find: (c) => ({ mask: undefined, answer: int(c.count) }),
};

const READS: ReadonlyMap<number, Query> = new Map([
  [16, size],
  [17, fixed('i', 0, one, listIndex)],
  [18, fixed('ic', 1, several, listRange)],
  [19, byIndex],
  [20, byFirstValue],
  [21, byRank],
  [22, byValue],
  [23, byValueList],
  [24, byIndexRange],
  [25, byInterval],
  [26, byRankRange],
  [27, byRelativeRank],
  [96, size],
  [97, mapKey],
  [98, mapIndex],
  [99, mapFirstValue],
  [100, mapRank],
  [102, mapValue],
  [103, mapKeyInterval],
  [104, mapIndexRange],
  [105, mapValueInterval],
  [106, mapRankRange],
  [107, mapKeyList],
  [108, mapValueList],
  [109, mapRelativeIndex],
  [110, mapRelativeRank],
]);

const REMOVES: ReadonlyMap<number, Query> = new Map([
  [5, fixed('i', 0, one, listIndex)],
  [6, fixed('ic', 1, several, listRange)],
  [7, fixed('i', 0, removedOne, listIndex)],
  [8, fixed('ic', 1, removedSeveral, listRange)],
  [10, fixed('ic', 0, { ...removedSeveral, inverted: true }, listRange)],
  [32, byIndex],
  [33, byFirstValue],
  [34, byRank],
  [35, byValue],
  [36, byValueList],
  [37, byIndexRange],
  [38, byInterval],
  [39, byRankRange],
  [40, byRelativeRank],
  [76, mapKey],
  [77, mapIndex],
  [78, mapFirstValue],
  [79, mapRank],
  [81, mapKeyList],
  [82, mapValue],
  [83, mapValueList],
  [84, mapKeyInterval],
  [85, mapIndexRange],
  [86, mapValueInterval],
  [87, mapRankRange],
  [88, mapRelativeIndex],
  [89, mapRelativeRank],
]);

const change = (
  parameters: string,
  optional: number,
  creates: Change['creates'],
  run: Change['change'],
): Change => ({ parameters, optional, creates, change: run });

const plain = (): number => 0;
const listFlags =
  (place: number) =>
  (a: Arguments): number =>
    createFlags(a.number(place), LIST_FLAGS);
const mapFlags =
  (place: number) =>
  (a: Arguments): number =>
    createFlags(a.number(place), MAP_FLAGS);

const CHANGES: ReadonlyMap<number, Change> = new Map([
  [0, change('f', 0, plain, (c, a) => lists.setListType(c, a.number(0)))],
  [1, change('sff', 2, listFlags(1), (c, a) => lists.append(c, a.span(0), a.number(2)))],
  [2, change('sff', 2, listFlags(1), (c, a) => lists.appendItems(c, a.span(0), a.number(2)))],
  [3, change('isf', 1, plain, (c, a) => lists.insert(c, a.number(0), a.span(1), a.number(2)))],
  [4, change('isf', 1, plain, (c, a) => lists.insertItems(c, a.number(0), a.span(1), a.number(2)))],
  [9, change('isf', 1, plain, (c, a) => lists.set(c, a.number(0), a.span(1), a.number(2)))],
  [11, change('', 0, 'nothing', maps.clear)],
  [
    12,
    change('ivff', 3, listFlags(2), (c, a) =>
      lists.increment(c, a.number(0), a.optionalSpan(1), a.number(3)),
    ),
  ],
  [13, change('f', 1, { refused: ResultCode.incompatibleType }, (c, a) => lists.sort(c, a.number(0)))],
  [64, change('f', 0, plain, (c, a) => maps.setMapType(c, a.number(0)))],
  [65, change('ssf', 1, mapFlags(2), (c, a) => maps.put(c, a.span(0), a.span(1), maps.ADD))],
  [66, change('sf', 1, mapFlags(1), (c, a) => maps.putItems(c, a.span(0), maps.ADD))],
  [
    67,
    change('ssff', 2, mapFlags(2), (c, a) => maps.put(c, a.span(0), a.span(1), maps.putMode(a.number(3)))),
  ],
  [68, change('sff', 2, mapFlags(1), (c, a) => maps.putItems(c, a.span(0), maps.putMode(a.number(2))))],
  [69, change('ss', 0, plain, (c, a) => maps.put(c, a.span(0), a.span(1), maps.REPLACE))],
  [
    70,
    change('s', 0, { refused: ResultCode.elementNotFound }, (c, a) =>
      maps.putItems(c, a.span(0), maps.REPLACE),
    ),
  ],
  [73, change('vvf', 2, mapFlags(2), (c, a) => maps.incrementKey(c, a.span(0), a.optionalSpan(1), false))],
  [74, change('vvf', 2, mapFlags(2), (c, a) => maps.incrementKey(c, a.span(0), a.optionalSpan(1), true))],
  [75, change('', 0, 'nothing', maps.clear)],
]);

const MAP_OPERATIONS = 64;
const SELECT = 0xfe;
const CONTEXT = 0xff;

const kindOf = (operation: number): ContainerKind => (operation < MAP_OPERATIONS ? Kind.list : Kind.map);

/** Op 4. `particle` is what the bin holds, `undefined` when there is no such bin. Never throws for what a peer sent. */
export const cdtModify = (particle: Particle | undefined, op: Uint8Array): CdtModified | Refusal =>
  answered(() => modify(particle, new OperationReader(op)));

/** Op 3. `undefined`: no result (there is no such bin, or none was asked for). Never throws for what a peer sent. */
export const cdtRead = (particle: Particle | undefined, op: Uint8Array): Particle | undefined | Refusal =>
  answered(() => (particle === undefined ? undefined : read(particle, new OperationReader(op))));

const answered = <T>(run: () => T): T | Refusal => {
  try {
    return run();
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
};

const rootOf = (particle: Particle | undefined): Span | undefined => {
  if (particle === undefined) return undefined;
  const { type, bytes } = particle;
  if (type !== ParticleType.list && type !== ParticleType.map) return undefined;
  return { bytes, at: 0, end: bytes.length };
};

interface Target {
  readonly place: Place | undefined;
  readonly operation: number;
  /** Arguments that follow. */
  readonly count: number;
  /** What the operation works on; `undefined` when it is not there. */
  readonly container: Container | undefined;
}

/** Finds what an operation is about. @throws Refusal */
const locate = (particle: Particle | undefined, reader: OperationReader, modifies: boolean): Target => {
  let count = operationCount(reader);
  let operation = reader.uint();
  const root = rootOf(particle);
  let place: Place | undefined;
  let target = root;
  if (operation === SELECT) refuse(ResultCode.unsupportedFeature, 'select is not supported');
  if (operation === CONTEXT) {
    if (count !== 3) refuse(ResultCode.parameter, `a context operation of ${count}`);
    if (particle !== undefined && root === undefined)
      refuse(ResultCode.parameter, 'a context of a bin that is no list or map');
    place = dig(root, reader, modifies);
    target = place.target;
    count = operationCount(reader);
    operation = reader.uint();
  } else if (particle !== undefined && root === undefined)
    refuse(ResultCode.incompatibleType, 'the bin is no list or map');
  if (target === undefined) return { place, operation, count: count - 1, container: undefined };
  const container = openContainer(target.bytes, target.at, target.end);
  if (container?.kind !== kindOf(operation) || (place === undefined && !hasType(particle, operation)))
    return refuse(ResultCode.incompatibleType, 'an operation of the other kind');
  return { place, operation, count: count - 1, container };
};

const hasType = (particle: Particle | undefined, operation: number): boolean =>
  particle?.type === particleTypeOf(kindOf(operation));

const operationCount = (reader: OperationReader): number => {
  const count = reader.listCount();
  return count === 0 ? refuse(ResultCode.parameter, 'an empty operation') : count;
};

const read = (particle: Particle, reader: OperationReader): Particle | undefined => {
  const { operation, count, container } = locate(particle, reader, false);
  const query = READS.get(operation);
  if (query === undefined || container === undefined)
    return refuse(ResultCode.parameter, `${operation} reads nothing`);
  return query.find(container, readArguments(reader, count, query)).answer;
};

const modify = (particle: Particle | undefined, reader: OperationReader): CdtModified => {
  const { place, operation, count, container } = locate(particle, reader, true);
  const remove = REMOVES.get(operation);
  const change = CHANGES.get(operation);
  if (remove !== undefined) {
    // A server does not even look at the arguments when there is nothing to remove from.
    if (container === undefined) return { particle, result: undefined };
    const { mask, answer } = remove.find(container, readArguments(reader, count, remove));
    return finish(particle, place, without(container, mask), answer);
  }
  if (change === undefined) return refuse(ResultCode.parameter, `${operation} changes nothing`);
  if (container !== undefined) {
    const { bytes, answer } = change.change(container, readArguments(reader, count, change));
    return finish(particle, place, bytes, answer);
  }
  return create(particle, place, change, kindOf(operation), () => readArguments(reader, count, change));
};

/** The list or map is not there: most changes create it. */
const create = (
  particle: Particle | undefined,
  place: Place | undefined,
  { creates, change }: Change,
  kind: ContainerKind,
  read: () => Arguments,
): CdtModified => {
  if (creates === 'nothing') return { particle, result: undefined };
  if (typeof creates === 'object') {
    // Inside of a bin, a list that is not there has nothing to sort.
    if (creates.refused === ResultCode.incompatibleType && particle !== undefined)
      return { particle, result: undefined };
    return refuse(creates.refused, 'there is nothing to change');
  }
  const args = read();
  const created = emptyContainer(kind, creates(args));
  const { bytes, answer, creates: anyway } = change(created, args);
  // A bin of its own is created even when nothing was written to it, an element of another bin is not.
  const empty = place === undefined || anyway ? created.bytes : undefined;
  return finish(particle, place, bytes ?? empty, answer);
};

const finish = (
  particle: Particle | undefined,
  place: Place | undefined,
  bytes: Uint8Array | undefined,
  result: Particle | undefined,
): CdtModified => {
  if (bytes === undefined) return { particle, result };
  const whole = place === undefined ? bytes : wrap(place, bytes);
  if (particle !== undefined && Buffer.compare(whole, particle.bytes) === 0) return { particle, result };
  const isMap = whole[0]! === 0xde || whole[0]! === 0xdf || whole[0]! < 0x90;
  // A copy of its own: `whole` may be a part of what came in.
  const own = whole.buffer.byteLength === whole.length ? whole : Uint8Array.from(whole);
  return { particle: { type: isMap ? ParticleType.map : ParticleType.list, bytes: own }, result };
};

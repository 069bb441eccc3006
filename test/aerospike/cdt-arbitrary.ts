/** Random operations on lists and maps, with and without contexts, good and bad arguments. */
import fc from 'fast-check';
import { INFINITY, key, listOf, mapOf, type Packable, pack, scalar, value, WILDCARD } from './packed.ts';

const index = fc.integer({ min: -9, max: 9 });
const count = fc.oneof(fc.integer({ min: 0, max: 8 }), fc.constantFrom(2n ** 40n, -1));
const returnType = fc
  .tuple(
    fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17) },
      {
        weight: 2,
        arbitrary: fc.constantFrom(9, 10, 11, 12, 14, 18),
      },
    ),
    fc.constantFrom(0, 0, 0, 0x10000),
  )
  .map(([type, inverted]) => type + inverted);

const queryValue = fc.oneof(
  { weight: 8, arbitrary: value },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Packable>(WILDCARD, INFINITY, { list: [1, WILDCARD] }, { list: [WILDCARD] }),
  },
);
/** Sorted by a server before it looks: with a bare wildcard among them what is found depends on its sort. */
const listedValue = fc.oneof(
  { weight: 8, arbitrary: value },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Packable>(INFINITY, { list: [1, WILDCARD] }, { list: ['a', WILDCARD] }),
  },
);
const end = fc.oneof(value, fc.constant(INFINITY));
const listFlags = fc.constantFrom(0, 0, 1, 1, 2);
const listWrite = fc.oneof(
  { weight: 2, arbitrary: fc.constant(0) },
  {
    weight: 3,
    arbitrary: fc.integer({ min: 0, max: 15 }),
  },
);
const mapFlags = fc.constantFrom(0, 1, 3, 2, 4, 0);
const mapWrite = fc.integer({ min: 0, max: 15 });
const sortFlags = fc.integer({ min: 0, max: 3 });
const items = fc.oneof({ weight: 8, arbitrary: listOf(value, 5) }, { weight: 1, arbitrary: value });
const pairs = fc.oneof({ weight: 8, arbitrary: mapOf(value, 5) }, { weight: 1, arbitrary: value });
const delta = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom<Packable>(1, 2, -3, { f64: 0.5 }, null, 2n ** 62n, { f64: 1e300 }),
  },
  { weight: 1, arbitrary: scalar },
);

type Args = readonly fc.Arbitrary<Packable>[];

/** Arguments of each operation, and how many of them may be missing. */
const OPERATIONS: readonly (readonly [subop: number, optional: number, args: Args])[] = [
  [0, 0, [listFlags]],
  [1, 2, [value, listFlags, listWrite]],
  [2, 2, [items, listFlags, listWrite]],
  [3, 1, [index, value, listWrite]],
  [4, 1, [index, items, listWrite]],
  [5, 0, [index]],
  [6, 1, [index, count]],
  [7, 0, [index]],
  [8, 1, [index, count]],
  [9, 1, [index, value, listWrite]],
  [10, 0, [index, count]],
  [11, 0, []],
  [12, 3, [index, delta, listFlags, listWrite]],
  [13, 1, [sortFlags]],
  [16, 0, []],
  [17, 0, [index]],
  [18, 1, [index, count]],
  ...[19, 32, 21, 34].map((op) => [op, 0, [returnType, index]] as const),
  ...[20, 33, 22, 35].map((op) => [op, 0, [returnType, queryValue]] as const),
  ...[23, 36].map((op) => [op, 0, [returnType, listOf(listedValue, 4)]] as const),
  ...[24, 37, 26, 39].map((op) => [op, 1, [returnType, index, count]] as const),
  ...[25, 38].map((op) => [op, 1, [returnType, queryValue, end]] as const),
  ...[27, 40].map((op) => [op, 1, [returnType, queryValue, index, count]] as const),
  [64, 0, [mapFlags]],
  [65, 1, [key, value, mapFlags]],
  [66, 1, [pairs, mapFlags]],
  [
    67,
    2,
    [fc.oneof({ weight: 9, arbitrary: key }, { weight: 1, arbitrary: scalar }), value, mapFlags, mapWrite],
  ],
  [68, 2, [pairs, mapFlags, mapWrite]],
  [69, 0, [key, value]],
  [70, 0, [pairs]],
  ...[73, 74].map((op) => [op, 2, [key, delta, mapFlags]] as const),
  [75, 0, []],
  [96, 0, []],
  ...[97, 76].map((op) => [op, 0, [returnType, key]] as const),
  ...[98, 77, 100, 79].map((op) => [op, 0, [returnType, index]] as const),
  ...[99, 78, 102, 82].map((op) => [op, 0, [returnType, queryValue]] as const),
  // Never an empty list: asked for all others of it, server 8.1.2 crashes.
  ...[107, 81].map((op) => [op, 0, [returnType, listOf(key, 4, 1)]] as const),
  ...[108, 83].map((op) => [op, 0, [returnType, listOf(listedValue, 4, 1)]] as const),
  ...[103, 84].map((op) => [op, 1, [returnType, key, fc.oneof(key, fc.constant(INFINITY))]] as const),
  ...[104, 85, 106, 87].map((op) => [op, 1, [returnType, index, count]] as const),
  ...[105, 86].map((op) => [op, 1, [returnType, queryValue, end]] as const),
  ...[109, 88].map((op) => [op, 1, [returnType, key, index, count]] as const),
  ...[110, 89].map((op) => [op, 1, [returnType, queryValue, index, count]] as const),
];

const READS = new Set([
  16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 96, 97, 98, 99, 100, 102, 103, 104, 105,
]);
for (const op of [106, 107, 108, 109, 110]) READS.add(op);

const isRead = (subop: number): boolean => READS.has(subop);

/**
 * Left out is what ends server 8.1.2: creating by rank in an ordered list, by an index before the start of a list, by -1 in a list
 * with nils that is not there.
 */
const step: fc.Arbitrary<readonly [number, Packable]> = fc.oneof(
  fc.tuple(fc.constantFrom(0x10, 0x20, 0x10), index),
  fc.tuple(fc.constantFrom(0x50, 0xd0), fc.integer({ min: -1, max: 9 })),
  fc.tuple(fc.constant(0x90), fc.integer({ min: 0, max: 9 })),
  fc.tuple(fc.constantFrom(0x00, 0x11, 0x21, 0x01), index),
  fc.tuple(fc.constantFrom(0x22, 0x22, 0x62, 0xa2, 0xe2), key),
  fc.tuple(fc.constantFrom(0x13, 0x23, 0x03, 0x12, 0x63), queryValue),
);

const context = fc.array(step, { minLength: 1, maxLength: 3 }).map((steps) => steps.flat() as Packable[]);

export interface Trial {
  /** Op of the wire: 3 reads, 4 modifies. */
  readonly op: 3 | 4;
  readonly bin: Packable | undefined;
  readonly value: Buffer;
}

const body: fc.Arbitrary<{ subop: number; list: Packable[] }> = fc
  .constantFrom(...OPERATIONS)
  .chain(([subop, optional, args]) =>
    fc
      .tuple(fc.integer({ min: 0, max: optional }), ...args)
      .map(([missing, ...all]) => ({ subop, list: [subop, ...all.slice(0, all.length - missing)] })),
  );

const bin = (subop: number): fc.Arbitrary<Packable | undefined> => {
  const own = subop < 64 ? listOf(value) : mapOf(value);
  const numbers = subop < 64 ? listOf(fc.integer({ min: 0, max: 9 })) : mapOf(fc.integer({ min: 0, max: 3 }));
  const other = subop < 64 ? mapOf(value, 2) : listOf(value, 2);
  return fc.oneof(
    { weight: 8, arbitrary: own },
    { weight: 4, arbitrary: numbers },
    { weight: 2, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: other },
  );
};

export const plainTrial: fc.Arbitrary<Trial> = body.chain(({ subop, list }) =>
  bin(subop).map((b) => ({ op: isRead(subop) ? 3 : 4, bin: b, value: pack({ list }) })),
);

const deep = fc.oneof(
  listOf(fc.oneof(value, listOf(value, 4), mapOf(value, 4)), 4, 1),
  mapOf(fc.oneof(value, listOf(value, 4), mapOf(value, 4)), 4),
);

const deepOrNone = fc.oneof({ weight: 9, arbitrary: deep }, { weight: 1, arbitrary: fc.constant(undefined) });

const inContext = (steps: readonly Packable[], list: readonly Packable[]): Buffer =>
  pack({ list: [0xff, { list: steps }, { list }] });

/** Any context, most of which lead nowhere. */
export const contextTrial: fc.Arbitrary<Trial> = fc
  .tuple(body, context, deepOrNone)
  .map(([{ subop, list }, steps, b]) => ({
    op: isRead(subop) ? 3 : 4,
    bin: b,
    value: inContext(steps, list),
  }));

type ListOf = { readonly list: readonly Packable[]; readonly flags?: number };
type MapOf = { readonly map: readonly (readonly [Packable, Packable])[] };

const isList = (v: Packable): v is ListOf => typeof v === 'object' && v !== null && 'list' in v;
const isMap = (v: Packable): v is MapOf => typeof v === 'object' && v !== null && 'map' in v;

interface Way {
  readonly steps: Packable[];
  readonly family: 'list' | 'map';
}

/** A context that leads to a list or map of `bin`, or to one that it creates; `choices` decide. */
const wayInto = (bin: Packable, choices: readonly number[], creating: boolean): Way => {
  const steps: Packable[] = [];
  let at = bin;
  let left = choices;
  const choose = (n: number): number => {
    const [first = 0, ...rest] = left;
    left = rest;
    return first % n;
  };
  for (let level = 1 + choose(2); level > 0; level--) {
    if (isList(at) && at.list.length > 0) {
      const { list } = at;
      const containers = list.flatMap((v, i) => (isList(v) || isMap(v) ? [i] : []));
      const i = containers.length > 0 ? containers[choose(containers.length)]! : choose(list.length);
      const by = choose(3);
      if (by === 0) steps.push(0x10, i);
      else if (by === 1) steps.push(0x10, i - list.length);
      else steps.push(0x13, list[i]!);
      at = list[i]!;
    } else if (isMap(at) && at.map.length > 0) {
      const { map } = at;
      const containers = map.flatMap(([, v], i) => (isList(v) || isMap(v) ? [i] : []));
      const i = containers.length > 0 ? containers[choose(containers.length)]! : choose(map.length);
      const by = choose(3);
      if (by === 0) steps.push(0x20, i);
      else if (by === 1) steps.push(0x22, map[i]![0]);
      else steps.push(0x23, map[i]![1]);
      at = map[i]![1];
    } else break;
  }
  if (creating && (isList(at) || isMap(at))) {
    const flag = [0x40, 0x80, 0xc0][choose(3)]!;
    if (isList(at)) steps.push(0x10 + flag, at.list.length + choose(3));
    else steps.push(0x22 + flag, ['new', 7, 'c'][choose(3)]!);
    if (choose(2) === 1)
      steps.push(
        ...[
          [0x10, 0],
          [0x90, 2],
          [0xd0, 1],
          [0x62, 'k'],
          [0xa2, 'k'],
          [0xe2, 1],
        ][choose(6)]!,
      );
    return { steps, family: choose(2) === 1 ? 'list' : 'map' };
  }
  return { steps, family: isMap(at) ? 'map' : 'list' };
};

const listBody = body.filter(({ subop }) => subop < 64);
const mapBody = body.filter(({ subop }) => subop >= 64);

/** Contexts that lead somewhere. */
export const guidedTrial: fc.Arbitrary<Trial> = fc
  .tuple(
    deep,
    fc.array(fc.nat(1000), { minLength: 12, maxLength: 12 }),
    fc.constantFrom(true, false),
    listBody,
    mapBody,
  )
  .map(([b, choices, creating, ofList, ofMap]) => {
    const { steps, family } = wayInto(b, choices, creating);
    const { subop, list } = family === 'list' ? ofList : ofMap;
    return {
      op: isRead(subop) ? 3 : 4,
      bin: b,
      value: steps.length === 0 ? pack({ list }) : inContext(steps, list),
    };
  });

/** Random expressions, well typed for the most part, as values to be packed. */
import fc from 'fast-check';
import { key, type Packable, typed, WILDCARD } from './packed.ts';

const Type = { nil: 0, bool: 1, int: 2, string: 3, list: 4, map: 5, blob: 6, float: 7 } as const;
type Type = (typeof Type)[keyof typeof Type];

/** Bin names have no type byte. */
export const raw = (text: string): Packable => {
  const bytes = Buffer.from(text);
  const header = bytes.length < 32 ? [0xa0 + bytes.length] : [0xd9, bytes.length];
  return { raw: Buffer.concat([Buffer.from(header), bytes]) };
};

const op = (code: number, ...args: Packable[]): Packable => ({ list: [code, ...args] });

/** Bins of the record that expressions are tried on. */
export const BINS: readonly (readonly [name: string, type: Type, value: Packable])[] = [
  ['i', Type.int, 3],
  ['j', Type.int, -7],
  ['big', Type.int, 2n ** 62n],
  ['f', Type.float, { f64: 1.5 }],
  ['g', Type.float, { f64: -2 }],
  ['s', Type.string, 'hello'],
  ['t', Type.string, 'Abc 12'],
  ['b', Type.blob, typed(4, Buffer.of(1, 2, 3))],
  ['y', Type.bool, true],
  ['l', Type.list, { list: [1, 3, 2, 'a', { f64: 1.5 }] }],
  ['o', Type.list, { list: [1, 2, 3], flags: 1 }],
  [
    'm',
    Type.map,
    {
      map: [
        ['a', 1],
        ['b', 2],
      ],
      flags: 1,
    },
  ],
  [
    'u',
    Type.map,
    {
      map: [
        [1, 'x'],
        [2, 'y'],
      ],
    },
  ],
  ['none', Type.int, null],
];

const ints = fc.constantFrom<Packable>(
  0,
  1,
  2,
  3,
  -1,
  -7,
  64,
  63,
  2n ** 62n,
  2n ** 63n - 1n,
  -(2n ** 63n) + 1n,
);
const floats = fc.constantFrom<Packable>({ f64: 0 }, { f64: 1.5 }, { f64: -2 }, { f64: 2 }, { f64: 0.1 });
const strings = fc.constantFrom<Packable>('', 'hello', 'Abc 12', 'h', 'x');
const patterns = fc.constantFrom(
  '^h',
  'l+o$',
  '[a-c]',
  '(b|c) [0-9]{2}',
  'HELLO',
  'a*',
  '.',
  '^$',
  'l{2}',
  '\\w+',
);

const LITERALS: Readonly<Record<Type, fc.Arbitrary<Packable>>> = {
  0: fc.constant(null),
  1: fc.boolean(),
  2: ints,
  3: strings,
  4: fc.constantFrom<Packable>(
    op(126, { list: [] }),
    op(126, { list: [1, 2, 3] }),
    op(126, { list: [3, 'a'], flags: 1 }),
  ),
  5: fc.constantFrom<Packable>(
    { map: [] },
    {
      map: [
        ['a', 1],
        ['b', 2],
      ],
      flags: 1,
    },
    { map: [[1, 'x']] },
  ),
  6: fc.constantFrom<Packable>(typed(4, Buffer.of(1, 2, 3)), typed(4, Buffer.of())),
  7: floats,
};

const bin = (type: Type): fc.Arbitrary<Packable> =>
  fc
    .constantFrom(...BINS.filter(([, t]) => t === type || type === Type.nil), ['i', Type.int, 3] as const)
    .map(([name]) => op(81, type, raw(name)));

const COMPARABLE = [
  Type.bool,
  Type.int,
  Type.string,
  Type.list,
  Type.map,
  Type.blob,
  Type.float,
  Type.nil,
] as const;

/** Expressions of a type; `names` are the variables in sight. */
const of = (type: Type, depth: number): fc.Arbitrary<Packable> => {
  const leaf = fc.oneof({ weight: 2, arbitrary: LITERALS[type] }, { weight: 3, arbitrary: bin(type) });
  if (depth === 0) return leaf;
  const sub = (t: Type): fc.Arbitrary<Packable> => of(t, depth - 1);
  const some = (t: Type, min = 1): fc.Arbitrary<Packable[]> =>
    fc.array(sub(t), { minLength: min, maxLength: 3 });
  const condition = fc.tuple(sub(Type.bool), sub(type), sub(type)).map(([c, a, b]) => op(123, c, a, b));
  const variable = fc
    .tuple(sub(type), sub(Type.int))
    .map(([a, b]) => op(125, raw('v'), a, raw('w'), b, op(124, raw('v'))));
  const choices: { weight: number; arbitrary: fc.Arbitrary<Packable> }[] = [
    { weight: 2, arbitrary: leaf },
    { weight: 1, arbitrary: condition },
    { weight: 1, arbitrary: variable },
  ];
  const more = (weight: number, ...arbitraries: fc.Arbitrary<Packable>[]): void => {
    for (const arbitrary of arbitraries) choices.push({ weight, arbitrary });
  };
  if (type === Type.bool)
    more(
      2,
      fc
        .constantFrom(...COMPARABLE)
        .chain((t) => fc.tuple(fc.integer({ min: 1, max: 6 }), sub(t), sub(t)))
        .map(([code, a, b]) => op(code, a, b)),
      fc.tuple(fc.constantFrom(16, 17, 19), some(Type.bool, 2)).map(([code, parts]) => op(code, ...parts)),
      sub(Type.bool).map((a) => op(18, a)),
      fc
        .tuple(fc.constantFrom(1, 3, 1, 0), patterns, sub(Type.string))
        .map(([options, p, s]) => op(7, options, raw(p), s)),
      fc
        .constantFrom(Type.int, Type.string, Type.float)
        .chain((t) => fc.tuple(sub(t), sub(Type.list)))
        .map(([v, l]) => op(9, v, l)),
    );
  if (type === Type.int || type === Type.float)
    more(
      2,
      fc.tuple(fc.constantFrom(20, 21, 22, 50, 51), some(type)).map(([code, parts]) => op(code, ...parts)),
      sub(type).map((a) => op(27, a)),
    );
  if (type === Type.float)
    more(
      1,
      some(type).map((parts) => op(23, ...parts)),
      fc.tuple(fc.constantFrom(28, 29), sub(type)).map(([code, a]) => op(code, a)),
      sub(Type.int).map((a) => op(31, a)),
    );
  if (type === Type.int)
    more(
      1,
      // The smallest integer divided by -1 ends a server: no dividend is that small.
      fc.tuple(fc.constantFrom<Packable>(7, -7, 100, 0), sub(Type.int)).map(([a, b]) => op(23, a, b)),
      fc.tuple(fc.constantFrom<Packable>(7, -7, 100), sub(Type.int)).map(([a, b]) => op(26, a, b)),
      floats.map((a) => op(30, a)),
      fc.tuple(fc.constantFrom(32, 33, 34), some(Type.int)).map(([code, parts]) => op(code, ...parts)),
      sub(Type.int).map((a) => op(35, a)),
      sub(Type.int).map((a) => op(39, a)),
      fc
        .tuple(fc.constantFrom(36, 37, 38), sub(Type.int), fc.integer({ min: 0, max: 63 }))
        .map(([code, a, by]) => op(code, a, by)),
      fc.tuple(fc.constantFrom(40, 41), sub(Type.int), fc.boolean()).map(([code, a, b]) => op(code, a, b)),
      fc.constantFrom('i', 's', 'l', 'none', 'y').map((name) => op(82, raw(name))),
      fc.constantFrom<Packable>(op(64, 7), op(64, -5), op(69), op(68), op(74), op(65), op(73)),
      fc.tuple(key, sub(Type.map)).map(([k, m]) => op(127, Type.int, 0, { list: [97, 7, k] }, m)),
      fc.tuple(sub(Type.list)).map(([l]) => op(127, Type.int, 0, { list: [16] }, l)),
      fc.tuple(sub(Type.int), sub(Type.list)).map(([i, l]) => op(127, Type.int, 0, { list: [22, 5, i] }, l)),
    );
  if (type === Type.list)
    more(
      1,
      sub(Type.map).map((m) => op(101, m)),
      sub(Type.map).map((m) => op(102, m)),
      fc.tuple(sub(Type.int), sub(Type.list)).map(([v, l]) => op(127, Type.list, 0x40, { list: [1, v] }, l)),
      fc
        .tuple(fc.constantFrom(0, 1), sub(Type.list))
        .map(([i, l]) => op(127, Type.list, 0, { list: [24, 7, i, 2] }, l)),
      sub(Type.list).map((l) => op(127, Type.list, 0, { list: [22, 7, WILDCARD] }, l)),
    );
  if (type === Type.map)
    more(
      1,
      fc
        .tuple(key, sub(Type.int), sub(Type.map))
        .map(([k, v, m]) => op(127, Type.map, 0x40, { list: [67, k, v, 1, 0] }, m)),
    );
  if (type === Type.string) more(1, fc.constant(op(70)));
  return fc.oneof(...choices);
};

export const expression: fc.Arbitrary<Packable> = fc.oneof(
  { weight: 6, arbitrary: of(Type.bool, 3) },
  { weight: 3, arbitrary: of(Type.int, 3) },
  ...[Type.float, Type.string, Type.list, Type.map, Type.blob].map((t) => ({
    weight: 1,
    arbitrary: of(t, 2),
  })),
);

/** Anything that looks like an expression: wrong types, wrong counts, opcodes that there are not; but none that tells the time. */
export const nonsense: fc.Arbitrary<Packable> = fc
  .tuple(
    fc.integer({ min: 0, max: 128 }).filter((code) => code !== 67),
    fc.array(fc.oneof(of(Type.int, 1), of(Type.bool, 1), strings), { maxLength: 4 }),
  )
  .map(([code, args]) => op(code, ...args));

const token = fc.constantFrom(
  ...[
    'a',
    'b',
    'A',
    '1',
    ' ',
    '_',
    '.',
    '*',
    '+',
    '?',
    '|',
    '(',
    ')',
    '^',
    '$',
    '[ab]',
    '[^a]',
    '[a-c]',
    '[]a]',
    '[^]b]',
    '[a-]',
  ],
  ...[
    '[[:alpha:]]',
    '[[:digit:]_]',
    '[^[:space:]]',
    '{2}',
    '{1,}',
    '{,2}',
    '{1,2}',
    '{',
    '}',
    '\\(',
    '\\)',
    '\\|',
    '\\+',
  ],
  ...[
    '\\?',
    '\\{2\\}',
    '\\.',
    '\\*',
    '\\w',
    '\\W',
    '\\s',
    '\\b',
    '\\B',
    '\\<',
    '\\>',
    '\\n',
    '\n',
    'ab',
    '(a|b)*',
    '(ab)+',
  ],
);

/** Patterns from pieces, good and bad, on short texts. */
export const regularExpression: fc.Arbitrary<Packable> = fc
  .tuple(
    fc.constantFrom(1, 1, 0, 3, 2, 5, 4),
    fc.array(token, { maxLength: 6 }).map((tokens) => tokens.join('')),
    fc.array(fc.constantFrom('a', 'b', 'A', 'c', '1', ' ', '_', '.', '\n', ']', '*', '{', '('), {
      maxLength: 7,
    }),
  )
  .map(([options, pattern, text]) => op(7, options, raw(pattern), text.join('')));

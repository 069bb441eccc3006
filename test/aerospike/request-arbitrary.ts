/** Requests for one record, made at random: flags, conditions and operations in every combination, right and wrong. */
import fc from 'fast-check';
import {
  append,
  CREATE_ONLY,
  CREATE_OR_REPLACE,
  DELETE,
  DURABLE_DELETE,
  deleteAll,
  expRead,
  f64,
  field,
  filter,
  float,
  GENERATION,
  GENERATION_GT,
  GET_ALL,
  hex,
  incr,
  int,
  KEEP_TTL,
  type MessageParts,
  NEVER_EXPIRE,
  NO_BINS,
  nil,
  op,
  prepend,
  READ,
  REPLACE_ONLY,
  RESPOND_ALL_OPS,
  read,
  str,
  touch,
  UPDATE_ONLY,
  utf8,
  WRITE,
} from './wire-bytes.ts';

const bit = (value: number, weight = 1) =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight, arbitrary: fc.constant(value) });
export const bits = (...values: number[]) =>
  fc.tuple(...values.map((v) => bit(v))).map((all) => all.reduce((a, b) => a | b, 0));

const bin = fc.constantFrom('a', 'b', 'c');
const someInt = fc.constantFrom(0, 1, -1, 7, 2 ** 40);
export const expressions = [
  'c2',
  'c3',
  '93 01 93 51 02 a1 61 01',
  '93 03 93 51 02 a1 62 00',
  '93 01 93 51 03 a1 63 a2 03 78',
  '92 12 93 01 93 51 02 a1 61 01',
  '93 11 93 01 93 51 02 a1 61 01 91 47',
  '93 10 93 04 91 44 00 93 03 93 51 02 a1 61 00',
  '93 01 92 52 a1 61 01',
  '91 47',
  '93 01 91 44 ff',
  '91 42',
] as const;
const values = [
  '93 51 02 a1 61',
  '93 51 03 a1 62',
  '93 14 93 51 02 a1 61 05',
  '92 52 a1 63',
  '91 46',
  '91 47',
  '93 01 93 51 02 a1 61 93 51 02 a1 62',
] as const;

export const readOp = fc.oneof(
  { weight: 5, arbitrary: bin.map(read) },
  { weight: 1, arbitrary: fc.constant(read('')) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom('', 'e', 'a'), fc.constantFrom(...values), fc.constantFrom(0, 16))
      .map(([name, value, flags]) => expRead(name, value, flags)),
  },
);
const writeOp = fc.oneof(
  fc.tuple(bin, someInt).map(([b, v]) => int(b, v)),
  fc.tuple(bin, fc.constantFrom('', 'x', 'yz')).map(([b, v]) => str(b, v)),
  fc.tuple(bin, fc.constantFrom(0, -0, 1.5, Number.NaN)).map(([b, v]) => float(b, v)),
  bin.map((b) => op(2, b, 4, hex('00ff'))),
  bin.map((b) => op(2, b, 17, hex('01'))),
  bin.map(nil),
  fc.tuple(bin, someInt).map(([b, v]) => incr(b, v)),
  bin.map((b) => op(5, b, 2, f64(0.5))),
  bin.map((b) => append(b, 'q')),
  bin.map((b) => prepend(b, 'q')),
  bin.map((b) => op(9, b, 4, hex('01'))),
  fc.constant(touch()),
  fc.constant(deleteAll()),
  fc
    .tuple(bin, fc.constantFrom(...values), fc.constantFrom(0, 1, 2, 4, 8, 16, 24))
    .map(([b, value, flags]) => op(8, b, 4, hex(`92 ${value} ${flags.toString(16).padStart(2, '0')}`))),
);

export interface Request {
  readonly kind: 'read' | 'write' | 'remove';
  readonly parts: MessageParts;
}

/** A request for one of three records. */
export interface Step extends Request {
  readonly record: number;
}

const fields = fc
  .tuple(
    fc.constantFrom(0, 0, 0, 0, 1, 2),
    fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, fc.constantFrom(...expressions)),
  )
  .map(([key, expression]) => [
    ...(key ? [field(2, utf8(`\x03k${key}`))] : []),
    ...(expression ? [filter(expression)] : []),
  ]);
const generation = fc.constantFrom(0, 1, 2, 3);
const ttl = fc.constantFrom(0, 0, 1000, NEVER_EXPIRE, KEEP_TTL, 2 ** 31);

export const writing = fc
  .record({
    ops: fc.array(fc.oneof({ weight: 3, arbitrary: writeOp }, { weight: 1, arbitrary: readOp }), {
      maxLength: 4,
    }),
    info1: fc.constantFrom(0, 0, READ, READ, READ | GET_ALL),
    info2: bits(GENERATION, GENERATION_GT, CREATE_ONLY, DURABLE_DELETE, RESPOND_ALL_OPS).map(
      (b) => b | WRITE,
    ),
    info3: fc.oneof(
      { weight: 3, arbitrary: fc.constant(0) },
      fc.constantFrom(UPDATE_ONLY, CREATE_OR_REPLACE, REPLACE_ONLY, 0x18),
    ),
    generation,
    ttl,
    fields,
  })
  .map((parts): Request => ({ kind: 'write', parts }));
const reading = fc
  .record({
    ops: fc.oneof(
      fc.constant([]),
      fc.array(fc.oneof({ weight: 6, arbitrary: readOp }, writeOp), { maxLength: 4 }),
    ),
    info1: bits(GET_ALL, NO_BINS).map((b) => b | READ),
    info2: bits(RESPOND_ALL_OPS, GENERATION),
    generation,
    fields,
  })
  .map((parts): Request => ({ kind: 'read', parts }));
const removing = fc
  .record({
    info2: bits(GENERATION, GENERATION_GT, DURABLE_DELETE, RESPOND_ALL_OPS, CREATE_ONLY).map(
      (b) => b | WRITE | DELETE,
    ),
    info3: fc.constantFrom(0, 0, UPDATE_ONLY, REPLACE_ONLY),
    info1: fc.constantFrom(0, 0, READ),
    generation,
    fields,
  })
  .map((parts): Request => ({ kind: 'remove', parts }));
export const step: fc.Arbitrary<Step> = fc
  .tuple(
    fc.nat(2),
    fc.oneof(
      { weight: 6, arbitrary: writing },
      { weight: 3, arbitrary: reading },
      { weight: 1, arbitrary: removing },
    ),
  )
  .map(([record, rest]) => ({ record, ...rest }));

/** For the message of a test that failed. */
export const shown = (steps: readonly Step[]): string =>
  steps
    .map(({ record, kind, parts: { ops = [], fields = [], ...flags } }) => {
      const hexes = [...fields, ...ops].map((b) => Buffer.from(b).toString('hex')).join(' ');
      return `${kind} ${record} ${JSON.stringify(flags)} ${hexes}`;
    })
    .join('\n');

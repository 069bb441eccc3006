/** Expressions: bytes of the reference, rules of README.md. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import * as e from '../../engine/aerospike/expression/build.ts';
import {
  type ExpressionRecord,
  expressionRead,
  parseExpression,
  parseExpressionOp,
  parseFilter,
} from '../../engine/aerospike/expression/expression.ts';
import { Regex } from '../../engine/aerospike/expression/regex.ts';
import { Refusal } from '../../engine/aerospike/refusal.ts';
import type { Particle } from '../../engine/particle.ts';
import { expression, nonsense, raw } from './expression-arbitrary.ts';
import { hex, type Packable, pack } from './packed.ts';

const LUT = 1_700_000_000_123;
const LUT_NS = BigInt(LUT) * 1_000_000n;

const intBin = (n: number | bigint): Particle => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return { type: 1, bytes };
};
const floatBin = (n: number): Particle => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(n);
  return { type: 2, bytes };
};
const stringBin = (s: string): Particle => ({ type: 3, bytes: Buffer.from(s) });

const BINS: Record<string, Particle> = {
  a: intBin(5),
  big: intBin(2n ** 62n),
  f: floatBin(1.5),
  nan: floatBin(Number.NaN),
  s: stringBin('hello world'),
  l: { type: 20, bytes: hex('93 01 02 03') },
  m: { type: 19, bytes: hex('82 c7 00 01 c0 a2 03 61 07') },
  u: { type: 19, bytes: hex('81 a2 03 61 07') },
  yes: { type: 17, bytes: Buffer.of(1) },
};

const recordOf = (over: Partial<ExpressionRecord> = {}): ExpressionRecord & { asked: string[] } => {
  const asked: string[] = [];
  return {
    digest: Buffer.from('000102030405060708090a0b0c0d0e0f04000000', 'hex'),
    lut: LUT,
    voidTime: 0,
    set: 'demo',
    key: undefined,
    storedBytes: 112,
    now: LUT + 5000,
    bin: (name) => {
      asked.push(name);
      return BINS[name];
    },
    ...over,
    asked,
  };
};

const op = (code: number, ...args: Packable[]): Packable => ({ list: [code, ...args] });
const bin = (type: number, name: string): Packable => op(81, type, raw(name));
const verdict = (x: Packable, over?: Partial<ExpressionRecord>) =>
  parseFilter(pack(x)).decide(recordOf(over));
const codeOf = (
  bytes: Uint8Array,
  parse: (b: Uint8Array) => unknown = parseExpression,
): number | undefined => {
  try {
    parse(bytes);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof Refusal, `${error}`);
    return error.code;
  }
};

describe('ready-made bytes (aerospike-wire.md 5.3)', () => {
  const x = 1_700_000_000_000_000_000n;
  const xHex = '17979cfe362a0000';
  const rows: [string, e.Expr<'bool'>, string][] = [
    ['last_update >= X', e.ge(e.lastUpdate(), e.int(x)), `93049142cf${xHex}`],
    ['last_update < X', e.lt(e.lastUpdate(), e.nanoseconds(1_700_000_000_000)), `93059142cf${xHex}`],
    [
      'a window',
      e.and(e.ge(e.lastUpdate(), e.int(x)), e.lt(e.lastUpdate(), e.int(x))),
      `931093049142cf${xHex}93059142cf${xHex}`,
    ],
    ['A or B', e.or(e.bool(true), e.bool(false)), '9311c3c2'],
    ['set = "rz"', e.eq(e.setName(), e.string('rz')), '93019146a303727a'],
    ['never expires', e.eq(e.voidTime(), e.int(-1)), '93019144ff'],
    ['changed within 1e8 ms', e.lt(e.sinceUpdate(), e.int(1e8)), '93059143ce05f5e100'],
    ['digest_modulo(4) == 0', e.eq(e.digestModulo(4), e.int(0)), '930192400400'],
    ['record_size >= 100', e.ge(e.recordSize(), e.int(100)), '9304914a64'],
    ['false', e.bool(false), 'c2'],
    ['an int bin', e.eq(e.bin('int', 'a'), e.int(5)), '9301935102a16105'],
  ];
  for (const [name, built, expected] of rows)
    test(name, () => {
      assert.equal(Buffer.from(built.bytes).toString('hex'), expected);
      assert.ok(parseFilter(built.bytes).isFilter);
    });
  test('the last update as an op 7 is 92 91 42 00', () => {
    assert.deepEqual(Buffer.from(e.readOp(e.lastUpdate())), hex('92 91 42 00'));
    assert.deepEqual(expressionRead(parseExpressionOp(hex('92 91 42 00')), recordOf()), intBin(LUT_NS));
  });
  test("the server's clock: last update and what has passed since", () => {
    const now = hex('92 93 14 91 42 93 16 91 43 ce 000f4240 00');
    assert.deepEqual(
      expressionRead(parseExpressionOp(now), recordOf()),
      intBin(BigInt(LUT + 5000) * 1_000_000n),
    );
  });
  test('numbers that were rounded are refused', () => assert.throws(() => e.int(2 ** 60), RangeError));
});

describe('metadata decides alone', () => {
  const rows: [string, Packable, boolean][] = [
    ['last update: equal', op(1, op(66), LUT_NS), true],
    ['last update: a nanosecond later', op(4, op(66), LUT_NS + 1n), false],
    ['last update: before a nanosecond later', op(5, op(66), LUT_NS + 1n), true],
    ['last update: after a nanosecond earlier', op(3, op(66), LUT_NS - 1n), true],
    ['last update: not a whole ms', op(1, op(66), LUT_NS + 1n), false],
    ['last update: a negative bound', op(3, op(66), -1), true],
    ['last update on the right', op(6, LUT_NS, op(66)), true],
    ['since update', op(1, op(67), 5000), true],
    ['void time: never', op(1, op(68), -1), true],
    ['ttl: for ever', op(1, op(69), -1), true],
    ['set', op(1, op(70), 'demo'), true],
    ['no stored key', op(71), false],
    ['no tombstone', op(72), false],
    ['record size', op(1, op(74), 112), true],
    ['digest modulo', op(1, op(64, 4), 0), true],
    ['digest modulo of a negative', op(1, op(64, -3), 1), true],
  ];
  for (const [name, x, expected] of rows)
    test(name, () => {
      const filter = parseFilter(pack(x));
      const record = recordOf();
      assert.equal(filter.usesBins, false);
      assert.equal(filter.decideByMetadata(record), expected);
      assert.equal(filter.decide(record), expected);
      assert.deepEqual(record.asked, []);
    });
  test('void time and ttl of a record that expires', () => {
    const voidTime = Math.floor(LUT / 1000) - 1_262_304_000 + 100;
    assert.equal(verdict(op(1, op(69), 95), { voidTime }), true);
    assert.equal(
      verdict(op(1, op(68), BigInt(Math.floor(LUT / 1000) + 100) * 1_000_000_000n), { voidTime }),
      true,
    );
    assert.equal(verdict(op(1, op(69), 0), { voidTime: 1 }), true);
  });
  test('with bins: what metadata decides needs none of them', () => {
    const old = op(5, op(66), 1);
    const filter = parseFilter(pack(op(16, op(1, bin(2, 'a'), 5), old)));
    const record = recordOf();
    assert.equal(filter.usesBins, true);
    assert.equal(filter.decideByMetadata(record), false);
    assert.deepEqual(record.asked, []);
    const open = parseFilter(pack(op(17, op(1, bin(2, 'a'), 5), old)));
    assert.equal(open.decideByMetadata(record), 'unknown');
    assert.equal(open.decide(record), true);
    assert.deepEqual(record.asked, ['a']);
  });
});

describe('known and unknown (X1)', () => {
  const unknown = op(1, bin(2, 'none'), 1);
  const rows: [string, Packable, boolean | 'unknown'][] = [
    ['a missing bin', unknown, 'unknown'],
    ['a bin of another type', op(1, bin(3, 'a'), 'x'), 'unknown'],
    ['not unknown', op(18, unknown), 'unknown'],
    ['unknown and false', op(16, unknown, false), false],
    ['unknown and true', op(16, unknown, true), 'unknown'],
    ['unknown or true', op(17, unknown, true), true],
    ['unknown or false', op(17, unknown, false), 'unknown'],
    ['exclusive: one', op(19, false, true, false), true],
    ['exclusive: two', op(19, true, true, unknown), false],
    ['exclusive: unknown', op(19, true, unknown, true), 'unknown'],
    ['the opcode unknown', op(0), 'unknown'],
    ['a condition that is unknown', op(123, unknown, true, false), 'unknown'],
    ['a branch that is not taken', op(123, false, unknown, true), true],
    ['unknown for a value of any type', op(1, op(123, false, op(0), 4), 4), true],
    ['a variable that is not used', op(125, raw('v'), unknown, true), true],
    ['a variable', op(125, raw('v'), bin(2, 'a'), op(1, op(124, raw('v')), 5)), true],
    ['division by zero', op(1, op(23, 1, 0), 1), 'unknown'],
    ['maps without an order', op(1, bin(5, 'u'), { map: [['a', 7]] }), 'unknown'],
    ['maps by key', op(1, bin(5, 'm'), { map: [['a', 7]], flags: 1 }), true],
    ['an operation that is refused', op(1, op(127, 2, 0, { list: [17, 9] }, bin(4, 'l')), 1), 'unknown'],
    [
      'NaN is only unequal',
      op(16, op(2, bin(7, 'nan'), bin(7, 'nan')), op(18, op(4, bin(7, 'nan'), { f64: 0 }))),
      true,
    ],
    ['bin type', op(1, op(82, raw('s')), 3), true],
    ['bin type of none', op(1, op(82, raw('none')), 0), true],
    ['a boolean bin is a filter', bin(1, 'yes'), true],
    ['in a list', op(9, 2, bin(4, 'l')), true],
    ['a float is no integer', op(9, { f64: 2 }, bin(4, 'l')), false],
    ['a list operation', op(1, op(127, 2, 0, { list: [22, 5, op(20, 1, 1)] }, bin(4, 'l')), 1), true],
    ['keys of a map', op(9, 'a', op(101, bin(5, 'm'))), true],
    ['values of a map', op(9, 7, op(102, bin(5, 'u'))), true],
    [
      'a value that is changed first',
      op(1, op(127, 2, 0, { list: [16] }, op(127, 4, 0x40, { list: [1, 9] }, bin(4, 'l'))), 4),
      true,
    ],
    ['a regular expression', op(7, 1, raw('^h.*(d|e)$'), bin(3, 's')), true],
    ['wrapping', op(5, op(20, bin(2, 'big'), bin(2, 'big')), 0), true],
    ['integers beyond 2^53 are exact', op(3, bin(2, 'big'), 2n ** 62n - 1n), true],
  ];
  for (const [name, x, expected] of rows) test(name, () => assert.equal(verdict(x), expected));
});

test('the stored key', () => {
  const key = stringBin('k1');
  assert.equal(verdict(op(1, op(80, 3), 'k1'), { key }), true);
  assert.equal(verdict(op(1, op(80, 2), 1), { key }), 'unknown');
  assert.equal(verdict(op(71), { key }), true);
});

describe('arithmetic', () => {
  const max = 2n ** 63n - 1n;
  const min = -(2n ** 63n);
  const value = (x: Packable) => parseExpression(pack(x)).value(recordOf());
  const rows: [string, Packable, number | bigint | undefined][] = [
    ['add wraps', op(20, max, 1), min],
    ['sub of one negates', op(21, 5), -5],
    ['mul wraps', op(22, 2n ** 62n, 4), 0],
    ['div to zero', op(23, -7, 2), -3],
    ['div by a product', op(23, 100, 5, 4), 5],
    ['div of one', op(23, 5), 0],
    ['the smallest by -1 wraps', op(23, min, -1), min],
    ['mod has the sign of the dividend', op(26, -7, 3), -1],
    ['mod 0', op(26, 1, 0), undefined],
    ['abs of the smallest', op(27, min), min],
    ['to int', op(30, { f64: -1.9 }), -1],
    ['to int of too much', op(30, { f64: 1e300 }), min],
    ['not', op(35, 0), -1],
    ['shift left', op(36, 1, 63), min],
    ['shift right', op(37, -1, 60), 15],
    ['shift right with sign', op(38, -16, 2), -4],
    ['bits set', op(39, -1), 64],
    ['first bit', op(40, 1, true), 63],
    ['last bit that is not set', op(41, -2, false), 63],
    ['no bit', op(40, 0, true), -1],
    ['min and max', op(20, op(50, 3, -2), op(51, 3, -2)), 1],
    ['no negative zero', op(22, 0, -5), 0],
  ];
  for (const [name, x, expected] of rows)
    test(name, () => assert.deepEqual(value(x), expected === undefined ? undefined : intBin(expected)));
  test('floats', () => {
    assert.deepEqual(value(op(24, { f64: 2 }, { f64: 10 })), floatBin(1024));
    assert.deepEqual(value(op(29, bin(7, 'f'))), floatBin(2));
    assert.deepEqual(value(op(31, 3)), floatBin(3));
    assert.deepEqual(value(op(23, { f64: 1 }, { f64: 0 })), floatBin(Number.POSITIVE_INFINITY));
  });
});

test('a bin comes back as it is, NaN payload included', () => {
  const odd = { type: 2, bytes: hex('7ff8 0000 0000 0001') };
  assert.equal(parseExpression(pack(bin(7, 'odd'))).value(recordOf({ bin: () => odd })), odd);
});

describe('refused when parsed (X5)', () => {
  const rows: [string, Packable | Buffer, number][] = [
    ['a filter that is no boolean', 5, 4],
    ['types that differ', op(1, 1, 'a'), 4],
    ['an order of GeoJSON', op(1, bin(8, 'g'), bin(8, 'g')), 4],
    ['and of one', op(16, true), 4],
    ['and of integers', op(16, 1, 2), 4],
    ['too few arguments', op(1, 1), 4],
    ['an unknown opcode', op(99), 4],
    ['an opcode beyond all', op(200), 4],
    ['an empty list', hex('90'), 4],
    ['a bin name of 16 bytes', op(1, bin(2, 'abcdefghijklmnop'), 1), 4],
    ['a bin of an unknown type', op(1, bin(77, 'a'), 1), 4],
    ['digest modulo 0', op(1, op(64, 0), 0), 4],
    ['a variable that there is not', op(1, op(124, raw('v')), 1), 4],
    ['a variable in its own value', op(125, raw('v'), op(1, op(124, raw('v')), 1), true), 4],
    ['a variable twice', op(125, raw('v'), 1, raw('v'), 2, true), 4],
    ['a variable name', op(125, raw('1'), 1, true), 4],
    ['a condition of several types', op(1, op(123, true, 1, 'a'), 1), 4],
    ['a malformed regular expression', op(7, 1, raw('('), 'a'), 4],
    ['a back reference', op(7, 0, raw('\\(a\\)\\1'), 'a'), 16],
    ['a comparison of GeoJSON', op(8, bin(8, 'g'), bin(8, 'h')), 16],
    ['bits', op(1, op(127, 2, 1, { list: [51, 0, 8] }, bin(6, 'b')), 1), 16],
    ['HLL', op(1, op(127, 2, 2, { list: [50] }, bin(9, 'h')), 1), 16],
    ['a list that is not quoted', op(9, 1, { list: ['a'] }), 4],
    ['bytes that follow', hex('c3 c3'), 4],
    ['nothing', hex(''), 4],
  ];
  for (const [name, x, code] of rows)
    test(name, () => {
      const bytes = Buffer.isBuffer(x) ? x : pack(x as Packable);
      assert.equal(codeOf(bytes, parseFilter), code);
    });
  test('flags of ops', () => {
    assert.equal(codeOf(hex('92 91 42 01'), parseExpressionOp), 4);
    assert.equal(parseExpressionOp(hex('92 91 42 10')).flags, 16);
    assert.equal(parseExpressionOp(hex('92 91 42 1f'), true).flags, 31);
    assert.equal(codeOf(hex('93 91 42 00 00'), parseExpressionOp), 4);
  });
  test('an unknown value: 26, or nothing', () => {
    const missing = pack(bin(2, 'none'));
    const refused = expressionRead(
      parseExpressionOp(Buffer.concat([hex('92'), missing, hex('00')])),
      recordOf(),
    );
    assert.ok(refused instanceof Refusal && refused.code === 26);
    const allowed = expressionRead(
      parseExpressionOp(Buffer.concat([hex('92'), missing, hex('10')])),
      recordOf(),
    );
    assert.equal(allowed, undefined);
  });
});

describe('hostile bytes (X6)', () => {
  test('a mebibyte of negations ends no stack', () => {
    const bytes = Buffer.alloc(1 << 20, hex('92 12'));
    assert.equal(codeOf(bytes), 4);
    assert.equal(codeOf(Buffer.concat([Buffer.alloc(1800, hex('92 12')), hex('c3')])), undefined);
  });
  test('more than a mebibyte', () => assert.equal(codeOf(Buffer.alloc((1 << 20) + 1, 0xc3)), 4));
  test('counts that lie', () => {
    for (const text of [
      'dd ff ff ff ff 10',
      'dd 00 ff ff ff 10 c3',
      '93 51 02 db ff ff ff ff',
      '92 7e dd ff ff ff ff',
    ])
      assert.equal(codeOf(hex(text)), 4, text);
  });
  test('repetitions of repetitions are too large, not too slow', () => {
    assert.equal(codeOf(pack(op(7, 1, raw('((a{1000}){1000}){1000}'), 'a'))), 4);
    const many = Array.from({ length: 100 }, () => op(7, 1, raw('a{9999}'), 'a'));
    assert.equal(codeOf(pack(op(16, ...many))), 4);
  });
  test('a pattern that makes others backtrack', () => {
    const regex = new Regex(Buffer.from('^(a|aa)+$'), 1);
    assert.equal(regex.test(Buffer.alloc(1 << 20, 'a')), true);
    assert.equal(regex.test(Buffer.concat([Buffer.alloc(1 << 20, 'a'), Buffer.from('b')])), false);
  });
  test('truncated anywhere: refused', () =>
    fc.assert(
      fc.property(expression, (x) => {
        const bytes = pack(x);
        for (let n = 0; n < bytes.length; n++) assert.equal(typeof codeOf(bytes.subarray(0, n)), 'number');
      }),
      { numRuns: 50 },
    ));
  test('anything is parsed or refused, and then evaluated', () =>
    fc.assert(
      fc.property(fc.oneof(expression, nonsense), (x) => {
        const bytes = pack(x);
        if (codeOf(bytes) !== undefined) return;
        const parsed = parseExpression(bytes);
        const record = recordOf();
        const before = parsed.decideByMetadata(record);
        assert.deepEqual(record.asked, []);
        const after = parsed.decide(record);
        if (before !== 'unknown') assert.equal(after, before, 'X2');
        if (!parsed.usesBins) assert.deepEqual(record.asked, []);
      }),
      { numRuns: 1000 },
    ));
});

describe('regular expressions', () => {
  const rows: [string, string, number, boolean][] = [
    ['a+b', 'xaab', 1, true],
    ['a+b', 'xaab', 0, false],
    ['a\\+b', 'xaab', 0, true],
    ['^a|b$', 'cb', 1, true],
    ['^a*$', '', 1, true],
    ['HELLO', 'hello', 3, true],
    ['[[:digit:]]{3}', 'ab123', 1, true],
    ['[[:digit:]]{4}', 'ab123', 1, false],
    ['[^a-c]', 'abc', 1, false],
    ['[]x]', ']', 1, true],
    ['a{2,3}b', 'ab aab', 1, true],
    ['\\bword\\b', 'a word.', 1, true],
    ['\\bword\\b', 'words', 1, false],
    ['^b', 'a\nb', 1, false],
    ['^b', 'a\nb', 5, true],
    ['a.b', 'a\nb', 1, true],
    ['a.b', 'a\nb', 5, false],
    ['(a|b)*c', 'ababc', 1, true],
    ['b', 'a\0b', 1, false],
    ['é', 'café', 1, true],
    ['', 'x', 1, true],
  ];
  for (const [pattern, text, options, expected] of rows)
    test(`${JSON.stringify(pattern)} on ${JSON.stringify(text)}, options ${options}`, () =>
      assert.equal(new Regex(Buffer.from(pattern), options).test(Buffer.from(text)), expected));
  for (const pattern of ['(', '[a', '*a', 'a{2', 'a{3,2}', '[[:no:]]', 'a\\', '[b-a]', '+'])
    test(`${pattern} is malformed`, () => assert.equal(codeOf(pack(op(7, 1, raw(pattern), 'a'))), 4));

  test('the same as the other engine, where both read the pattern alike', () =>
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', 'b', 'c', '.', 'a*', '(a|b)', '(bc)+', 'c?', '[ab]', '[^a]', 'b{2}'), {
          maxLength: 6,
        }),
        fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 8 }),
        (pieces, letters) => {
          const [pattern, text] = [pieces.join(''), letters.join('')];
          assert.equal(
            new Regex(Buffer.from(pattern), 1).test(Buffer.from(text)),
            new RegExp(pattern).test(text),
          );
          const whole = new Regex(Buffer.from(`^${pattern}$`), 1);
          assert.equal(whole.test(Buffer.from(text)), new RegExp(`^${pattern}$`).test(text));
        },
      ),
      { numRuns: 500 },
    ));
});

/** Lists and maps: rules of README.md, bytes from the reference and from a server of version 8.1.2. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Kind, skip } from '../../engine/aerospike/cdt/element.ts';
import { LEVELS_MAX, normalizeParticle } from '../../engine/aerospike/cdt/normalize.ts';
import { cdtModify, cdtRead } from '../../engine/aerospike/cdt/operations.ts';
import { Refusal } from '../../engine/aerospike/refusal.ts';
import type { Particle } from '../../engine/particle.ts';
import { hex, operation, type Packable, pack, WILDCARD } from './packed.ts';

const bin = (text: string): Particle => {
  const bytes = hex(text);
  const isMap = bytes[0]! < 0x90 || bytes[0]! >= 0xde;
  return { type: isMap ? 19 : 20, bytes };
};

const show = (p: Particle | undefined): string | undefined =>
  p && `${p.type}:${Buffer.from(p.bytes).toString('hex')}`;

/** `type:hex` of the result and of the bin afterwards, or the code of a refusal. */
const modify = (particle: Particle | undefined, op: Uint8Array) => {
  const outcome = cdtModify(particle, op);
  return outcome instanceof Refusal ? outcome.code : [show(outcome.result), show(outcome.particle)];
};

const read = (particle: Particle | undefined, op: Uint8Array) => {
  const result = cdtRead(particle, op);
  return result instanceof Refusal ? result.code : show(result);
};

const int = (n: number): string => {
  const b = Buffer.alloc(8);
  b.writeBigInt64BE(BigInt(n));
  return `1:${b.toString('hex')}`;
};

const inside = (steps: Packable[], op: Packable[]): Buffer =>
  pack({ list: [0xff, { list: steps }, { list: op }] });

describe('operations of the reference (aerospike-wire.md 4.2)', () => {
  test('list append 92 01 value creates a list', () =>
    assert.deepEqual(modify(undefined, hex('92 01 05')), [int(1), '20:9105']));
  test('map put 94 43 key value 01 creates a K-ordered map', () =>
    assert.deepEqual(modify(undefined, hex('94 43 a2 03 61 07 01')), [int(1), '19:82c70001c0a2036107']));
  test('map size 91 60, list size 91 10', () => {
    assert.equal(read(bin('82 c7 00 01 c0 01 02'), hex('91 60')), int(1));
    assert.equal(read(bin('93 01 02 03'), hex('91 10')), int(3));
  });
  test('list get-range 93 12 i n', () =>
    assert.equal(read(bin('94 01 02 03 04'), hex('93 12 01 02')), '20:920203'));
  test('map get-by-key 93 61 rt key', () => {
    const map = bin('82 a2 03 61 01 a2 03 62 02');
    assert.equal(read(map, hex('93 61 07 a2 03 62')), int(2));
    assert.equal(read(map, hex('93 61 01 a2 03 62')), int(1));
    assert.equal(read(map, hex('93 61 07 a2 03 7a')), undefined);
  });
});

describe('example of the README', () => {
  const list = bin('94 c7 00 01 01 03 05');
  test('append to an ordered list', () =>
    assert.deepEqual(modify(list, hex('92 01 04')), [int(4), '20:95c7000101030405']));
  test('get by value interval', () => {
    const longer = bin('95 c7 00 01 01 03 04 05');
    assert.equal(read(longer, hex('94 19 07 02 05')), '20:920304');
  });
  test('a context creates what is missing', () =>
    assert.deepEqual(modify(undefined, hex('93 cc ff 92 cc a2 a2 03 61 92 01 01')), [
      int(1),
      '19:82c70001c0a203619101',
    ]));
});

describe('write flags of lists', () => {
  const list = bin('93 01 02 03');
  const [UNIQUE, BOUNDED, NO_FAIL, PARTIAL] = [1, 2, 4, 8];
  const rows: [string, Buffer, unknown][] = [
    ['unique value that is there: 24', operation(1, 2, 0, UNIQUE), 24],
    ['… no fail: the count', operation(1, 2, 0, UNIQUE + NO_FAIL), [int(3), '20:93010203']],
    ['items, one there: 24', operation(2, { list: [9, 2] }, 0, UNIQUE), 24],
    ['items twice among themselves: 26', operation(2, { list: [9, 9] }, 0, UNIQUE), 26],
    [
      'partial: the others',
      operation(2, { list: [9, 2, 9, 8] }, 0, UNIQUE + NO_FAIL + PARTIAL),
      [int(5), '20:950102030908'],
    ],
    ['insert beyond the end pads with nil', operation(3, 5, 9), [int(6), '20:96010203c0c009']],
    ['bounded: 26', operation(3, 5, 9, BOUNDED), 26],
    ['bounded, no fail: the count', operation(3, 5, 9, BOUNDED + NO_FAIL), [int(3), '20:93010203']],
    ['set beyond the end has no result', operation(9, 3, 9), [undefined, '20:9401020309']],
    ['set before the start: 26', operation(9, -4, 9), 26],
    ['far beyond any record: 13', operation(3, 2_000_000_000, 9), 13],
    ['a wildcard is not stored: 4', operation(1, WILDCARD), 4],
  ];
  for (const [name, op, expected] of rows) test(name, () => assert.deepEqual(modify(list, op), expected));
});

describe('write flags of maps', () => {
  const map = bin('82 a2 03 61 01 a2 03 62 02');
  const [NO_OVERWRITE, NO_CREATE, NO_FAIL, PARTIAL] = [1, 2, 4, 8];
  const same = '19:82a2036101a2036202';
  const rows: [string, Buffer, unknown][] = [
    ['put replaces in place', operation(67, 'a', 9, 0), [int(2), '19:82a2036109a2036202']],
    ['put sorts in', operation(67, 'aa', 9, 0), [int(3), '19:83a2036101a303616109a2036202']],
    ['no overwrite: 24', operation(67, 'a', 9, 0, NO_OVERWRITE), 24],
    ['no create: 23', operation(67, 'c', 9, 0, NO_CREATE), 23],
    ['no fail: the count', operation(67, 'a', 9, 0, NO_OVERWRITE + NO_FAIL), [int(2), same]],
    ['add is no overwrite', operation(65, 'a', 9), 24],
    ['replace is no create', operation(69, 'c', 9), 23],
    [
      'items, partial: the others',
      operation(
        68,
        {
          map: [
            ['a', 9],
            ['c', 3],
          ],
        },
        0,
        NO_OVERWRITE + NO_FAIL + PARTIAL,
      ),
      [int(3), '19:83a2036101a2036202a2036303'],
    ],
    ['a float is no key: 4', operation(67, { f64: 1 }, 9, 0), 4],
    ['decrement keeps the type', operation(74, 'a', { f64: 1.9 }, 0), [int(0), '19:82a2036100a2036202']],
    ['increment of a new key', operation(73, 'c', 5, 0), [int(5), '19:83a2036101a2036202a2036305']],
    ['increment of a string: 4', operation(73, 'a', 'x', 0), 4],
    ['set type', operation(64, 3), [undefined, '19:83c70003c0a2036101a2036202']],
    ['set type with an unknown flag: 26', operation(64, 4), 26],
  ];
  for (const [name, op, expected] of rows) test(name, () => assert.deepEqual(modify(map, op), expected));
});

describe('return types', () => {
  // ranks by value: b 1, c 2, a 3
  const map = bin('83 a2 03 61 03 a2 03 62 01 a2 03 63 02');
  const by = (type: number) => operation(104, type, 1, 2);
  const rows: [number, unknown][] = [
    [0, undefined],
    [1, '20:920102'],
    [2, '20:920001'],
    [3, '20:920001'],
    [4, '20:920201'],
    [5, int(2)],
    [6, '20:92a20362a20363'],
    [7, '20:920102'],
    [8, '19:83c70008c0a2036201a2036302'],
    [9, '20:920102'],
    [10, '20:920002'],
    [11, 26],
    [13, '17:01'],
    [14, 26],
    [16, '19:82a2036201a2036302'],
    [17, '19:83c70001c0a2036201a2036302'],
    [0x10000 + 6, '20:91a20361'],
    [0x10000 + 5, int(1)],
  ];
  for (const [type, expected] of rows)
    test(`by index range, type ${type}`, () => assert.deepEqual(read(map, by(type)), expected));

  test('a list has no keys: 26', () => assert.equal(read(bin('93 01 02 03'), operation(24, 6, 0, 2)), 26));
  test('inverted, of one element: 26', () => assert.equal(read(map, operation(98, 0x10007, 0)), 26));
  test('one element that is not there', () => {
    assert.equal(read(map, operation(97, 1, 'z')), int(-1));
    assert.equal(read(map, operation(97, 5, 'z')), int(0));
    assert.equal(read(map, operation(98, 7, 3)), 26);
  });
  test('values of the lower ranks come highest first', () => {
    const list = bin('95 05 01 04 02 03');
    assert.equal(read(list, operation(26, 7, 0, 2)), '20:920201');
    assert.equal(read(list, operation(26, 7, 3, 2)), '20:920405');
  });
});

describe('bins of other kinds, and none', () => {
  const string: Particle = { type: 3, bytes: Buffer.from('x') };
  const rows: [string, Particle | undefined, Buffer, unknown][] = [
    ['a list operation on a string: 12', string, operation(1, 1), 12],
    ['a list operation on a map: 12', bin('80'), operation(1, 1), 12],
    ['a map operation on a list: 12', bin('90'), operation(67, 1, 1, 0), 12],
    ['a context of a string: 4', string, inside([0x10, 0], [1, 1]), 4],
    ['pop of nothing', undefined, operation(5, 0), [undefined, undefined]],
    ['clear of nothing', undefined, operation(11), [undefined, undefined]],
    ['sort of nothing: 12', undefined, operation(13, 0), 12],
    ['replace-items of nothing: 23', undefined, operation(70, { map: [[1, 1]] }), 23],
    [
      'no-create, no-fail makes an empty map',
      undefined,
      operation(67, 1, 1, 1, 6),
      [int(0), '19:81c70001c0'],
    ],
    [
      'the last element leaves an empty ordered list',
      bin('92 c7 00 01 05'),
      operation(5, 0),
      [int(5), '20:91c70001'],
    ],
    ['an unknown operation: 4', bin('90'), operation(50, 1), 4],
    ['a read as a modify: 4', bin('90'), operation(16), 4],
    ['too few arguments: 4', bin('90'), operation(3, 1), 4],
    ['too many: 4', bin('90'), operation(5, 1, 2), 4],
    ['select: 16', bin('90'), operation(0xfe, { list: [] }, 0), 16],
    ['no operation: 4', bin('90'), hex(''), 4],
    ['an empty list: 4', bin('90'), hex('90'), 4],
    ['the old form: 4', bin('90'), hex('00 01 91 05'), 4],
  ];
  for (const [name, particle, op, expected] of rows)
    test(name, () => assert.deepEqual(modify(particle, op), expected));
  test('a read of nothing has no result', () => assert.equal(read(undefined, operation(16)), undefined));
  test('a read of another kind: 12', () => assert.equal(read(string, operation(16)), 12));
});

describe('contexts', () => {
  const nested = bin('82 a2 03 61 92 01 02 a2 03 62 81 c7 00 01 c0');
  const rows: [string, Packable[], Packable[], unknown][] = [
    ['by key', [0x22, 'a'], [1, 3], [int(3), '19:82a2036193010203a2036281c70001c0']],
    ['by index', [0x20, 0], [16], 4],
    ['an element that is no list or map: 12', [0x22, 'a', 0x10, 0], [1, 3], 12],
    ['deeper than there is anything: 26', [0x22, 'a', 0x10, 0, 0x10, 0], [1, 3], 26],
    ['a list context of a map: 26', [0x10, 0], [1, 3], 26],
    ['a key that is not there: 26', [0x22, 'z'], [1, 3], 26],
    ['created', [0x62, 'z'], [1, 3], [int(1), '19:83a20361920102a2036281c70001c0a2037a9103']],
    [
      'nothing is created to be removed from',
      [0x62, 'z'],
      [5, 0],
      [undefined, '19:82a20361920102a2036281c70001c0'],
    ],
    ['an odd context: 4', [0x22], [1, 3], 4],
    ['an unknown type: 26', [0x25, 0], [1, 3], 26],
  ];
  for (const [name, steps, op, expected] of rows)
    test(name, () => assert.deepEqual(modify(nested, inside(steps, op)), expected));

  test('an element of an ordered list moves to where it belongs', () => {
    const list = bin('93 c7 00 01 91 01 91 05');
    assert.deepEqual(modify(list, inside([0x10, 0], [9, 0, 9])), [undefined, '20:93c7000191059109']);
  });
  test('what a context passes is written back byte for byte', () => {
    const list = bin('93 a3 07 08 09 ca 3f c0 00 00 91 01');
    assert.deepEqual(modify(list, inside([0x10, 2], [1, 2])), [int(2), '20:93a3070809ca3fc00000920102']);
  });
});

describe('canonical form (aerospike-wire.md 6)', () => {
  const stored = (text: string, type?: number) => {
    const { bytes, type: own } = bin(text);
    const result = normalizeParticle(type ?? own, bytes);
    return result instanceof Refusal ? result.code : Buffer.from(result).toString('hex');
  };
  const long = 'x'.repeat(40);
  const longHex = Buffer.from(long).toString('hex');
  const rows: [string, string, unknown][] = [
    ['an unordered map is sorted, no marker added', '82 a2 03 62 01 01 02', '820102a2036201'],
    ['a K-ordered map with unsorted keys', '83 c7 00 01 c0 02 01 01 02', 1],
    ['a key twice', '82 01 02 01 03', 1],
    ['a key twice, apart', '83 02 00 01 00 02 00', 1],
    ['an ordered list with unsorted items', '93 c7 00 01 02 01', 1],
    ['an ordered list with equal items', '93 c7 00 01 01 01', '93c700010101'],
    ['truncated', '93 01 02', 1],
    ['bytes left over', '91 01 02', 1],
    ['a wildcard', '91 d4 ff 00', 1],
    ['a string without a type byte', '91 a0', '91a0'],
    ['a string with an unknown type byte', '91 a2 63 01', '91a26301'],
    [
      'non-minimal integers',
      '94 cd 00 05 d3 ff ff ff ff ff ff ff ff d1 00 80 cf 00 00 00 00 ff ff ff ff',
      '9405ffcc80ceffffffff',
    ],
    ['a short bin header', '91 c4 02 04 01', '91a20401'],
    ['a bin header of the right width stays', `91 c4 29 04 ${longHex}`, `91c42904${longHex}`],
    ['a str header too long', `91 da 00 29 03 ${longHex}`, `91d92903${longHex}`],
    ['long counts', 'dd 00 00 00 01 de 00 01 01 02', '91810102'],
    ['an empty list', '90', '90'],
    ['an empty map', '80', '80'],
    ['an empty K-ordered map', '81 c7 00 01 c0', '81c70001c0'],
    ['an empty ordered list', '91 c7 00 01', '91c70001'],
    ['a marker without flags', '92 c7 00 00 05', '9105'],
    ['the hint of a client is dropped', '82 c7 00 08 c0 01 02', '810102'],
    ['the index hint of a map is dropped', '82 c7 00 11 c0 01 02', '82c70001c00102'],
    ['the index hint of an unordered list is dropped', '93 c7 00 10 01 02', '920102'],
    ['a map by value only', '82 c7 00 02 c0 01 02', '82c70002c00102'],
    ['floats as they are', '92 ca 3f 80 00 00 cb 80 00 00 00 00 00 00 00', '92ca3f800000cb8000000000000000'],
    ['inner maps are sorted', '91 82 02 00 01 00', '918201000200'],
    ['a bool key', '81 c3 01', 1],
    ['a float key', '81 cb 3f f0 00 00 00 00 00 00 01', 1],
    ['a nil key', '81 c0 01', 1],
    ['a list key', '81 90 01', 1],
    ['a language-blob key', '81 a2 07 01 01', 1],
    ['the reserved tag', '91 c1', 1],
    ['nothing', '', 1],
  ];
  for (const [name, input, expected] of rows) test(name, () => assert.equal(stored(input), expected));

  test('a list under the type of a map', () => assert.equal(stored('90', 19), 1));
  test('other types are not looked at', () => {
    const bytes = Buffer.of(1, 2, 3);
    assert.equal(normalizeParticle(4, bytes), bytes);
  });
});

describe('hostile bytes (L4, L5)', () => {
  const nest = (levels: number): Buffer => Buffer.concat([Buffer.alloc(levels - 1, 0x91), Buffer.of(0x90)]);

  test('many levels are stored as they are', () => {
    const bytes = nest(LEVELS_MAX);
    assert.deepEqual(Buffer.from(normalizeParticle(20, bytes) as Uint8Array), bytes);
  });
  test('a mebibyte of levels ends no stack', () => {
    const bytes = nest(1 << 20);
    assert.ok(normalizeParticle(20, bytes) instanceof Refusal);
    assert.equal(skip(bytes, 0, bytes.length), bytes.length);
    assert.equal(read({ type: 20, bytes }, operation(16)), int(1));
    assert.equal(read({ type: 20, bytes }, pack({ list: [22, 5, { raw: bytes.subarray(1) }] })), int(1));
    assert.equal(modify({ type: 20, bytes }, pack({ list: [1, { raw: bytes }] })), 4);
  });
  test('a mebibyte of levels that never ends', () => {
    const bytes = Buffer.alloc(1 << 20, 0x91);
    assert.ok(normalizeParticle(20, bytes) instanceof Refusal);
    assert.equal(skip(bytes, 0, bytes.length), -1);
    assert.equal(read({ type: 20, bytes }, operation(16)), 12);
  });
  test('a context of a mebibyte', () => {
    const steps = Buffer.concat([Buffer.of(0xdd, 0, 0x0f, 0xff, 0xfe), Buffer.alloc(0xffffe, 0x10)]);
    const op = Buffer.concat([hex('93 cc ff'), steps, hex('92 01 01')]);
    assert.equal(modify(bin('91 91 01'), op), 26);
  });
  test('counts that lie allocate nothing', () => {
    for (const text of [
      'dd ff ff ff ff',
      'df ff ff ff ff',
      'dd 7f ff ff ff 01',
      'db ff ff ff ff 03',
      'c9 ff ff ff ff 00',
    ]) {
      const bytes = hex(text);
      assert.ok(normalizeParticle(20, bytes) instanceof Refusal, text);
      assert.ok(normalizeParticle(20, Buffer.concat([Buffer.of(0x91), bytes])) instanceof Refusal, text);
      assert.equal(read({ type: 20, bytes }, operation(16)), 12, text);
      assert.equal(modify(bin('90'), Buffer.concat([hex('92 01'), bytes])), 4, text);
    }
  });
  test('a thousand items of a thousand are found quickly', () => {
    const many = Array.from({ length: 20_000 }, (_, i) => i * 7);
    const list = { type: 20, bytes: pack({ list: many }) };
    assert.equal(read(list, operation(23, 5, { list: many })), int(20_000));
    assert.deepEqual(modify(list, operation(2, { list: many }, 0, 1 + 4 + 8)), [int(20_000), show(list)]);
  });
  test('truncated anywhere: refused, not thrown', () => {
    const op = inside([0x22, 'a', 0x10, -1], [36, 0x10007, { list: [1, 'x', { map: [[1, { f64: 2 }]] }] }]);
    const map = bin('81 a2 03 61 91 93 01 02 03');
    for (let n = 0; n < op.length; n++) assert.equal(typeof modify(map, op.subarray(0, n)), 'number', `${n}`);
    for (let n = 0; n < map.bytes.length; n++) {
      const cut = { type: 19, bytes: map.bytes.subarray(0, n) };
      assert.ok(normalizeParticle(19, cut.bytes) instanceof Refusal);
      assert.ok(modify(cut, op) !== undefined && cdtRead(cut, operation(96)) instanceof Refusal);
    }
  });
});

test('order of kinds is that of the server', () => {
  const kinds = [
    null,
    false,
    true,
    -1,
    1,
    'a',
    { list: [] },
    { map: [] },
    { raw: hex('a2 04 01') },
    { f64: 0 },
  ];
  const unordered = { type: 20, bytes: pack({ list: kinds.toReversed() }) };
  const expected = `20:${pack({ list: [...kinds] }).toString('hex')}`;
  assert.deepEqual(modify(unordered, operation(13, 0)), [undefined, expected]);
  assert.equal(Kind.string > Kind.integer && Kind.list > Kind.string && Kind.bytes > Kind.map, true);
});

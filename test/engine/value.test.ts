import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decodeCdt, MAX_DEPTH } from '../../engine/cdt.ts';
import { PitrError } from '../../engine/errors.ts';
import { assertBinName, assertParticle, type Particle, ParticleType } from '../../engine/particle.ts';
import {
  CdtList,
  CdtMap,
  Double,
  Float32,
  fromJson,
  fromParticle,
  GeoJson,
  type JsonValue,
  ListOrder,
  MapOrder,
  Opaque,
  particle,
  toJson,
  toParticle,
  type Value,
} from '../../engine/value.ts';
import {
  binNameCorpus,
  canonicalParticles,
  particleCorpus,
  refusedParticles,
  unusualParticles,
} from './particle-corpus.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
const sameParticle = (actual: Particle, expected: Particle) => {
  assert.equal(actual.type, expected.type);
  assert.equal(hex(actual.bytes), hex(expected.bytes));
};
const refused = (body: () => unknown) =>
  assert.throws(body, (error) => error instanceof PitrError && error.id === 'bad-record');
const throughText = (json: JsonValue): JsonValue => JSON.parse(JSON.stringify(json)) as JsonValue;

describe('the corpus', () => {
  for (const p of particleCorpus) {
    test(`${p.name}: accepted, and V2 JSON gives the bytes back`, () => {
      assertParticle(p, 'bin');
      sameParticle(fromJson(throughText(toJson(p))), p);
    });
  }
  for (const p of [...canonicalParticles, ...refusedParticles]) {
    test(`${p.name}: V1 value gives the bytes back`, () => {
      const value = fromParticle(p);
      sameParticle(toParticle(value), p);
      assert.deepEqual(fromParticle(toParticle(value)), value);
    });
  }
  for (const p of unusualParticles) {
    test(`${p.name}: JSON keeps the bytes, reading does not throw`, () => {
      assert.deepEqual(Object.keys(toJson(p) as object), ['$particle', '$bytes']);
      fromParticle(p);
    });
  }
  for (const p of unusualParticles.filter(({ name }) => name.startsWith('malformed'))) {
    test(`${p.name}: C3 refused by the decoder, kept as bytes by fromParticle`, () => {
      refused(() => decodeCdt(p.bytes));
      assert.deepEqual(fromParticle(p), new Opaque(p.type, p.bytes));
    });
  }
  test('names are unique', () => {
    assert.equal(
      new Set(particleCorpus.map(({ name, type }) => `${type} ${name}`)).size,
      particleCorpus.length,
    );
  });
  test('every storable type is there', () => {
    const types = new Set(canonicalParticles.map(({ type }) => type));
    assert.deepEqual(new Set([...types, ParticleType.null]), new Set(Object.values(ParticleType)));
  });
});

describe('particles', () => {
  const bad: [string, number, string][] = [
    ['null', 0, ''],
    ['type 5', 5, '00'],
    ['type 15', 15, '00'],
    ['type 21', 21, '00'],
    ['type 22', 22, '00'],
    ['type 255', 255, '00'],
    ['4-byte integer', 1, '00000001'],
    ['9-byte integer', 1, '000000000000000001'],
    ['4-byte float', 2, '3f800000'],
    ['empty bool', 17, ''],
    ['bool 2', 17, '02'],
    ['2-byte bool', 17, '0001'],
    ['GeoJSON without header', 23, '0000'],
    ['GeoJSON with cells cut off', 23, '00 0002 0000000000000000 7b7d'],
    ['empty list', 20, ''],
    ['empty map', 19, ''],
  ];
  for (const [name, type, bytes] of bad) {
    test(`${name} is refused`, () => refused(() => assertParticle({ type, bytes: bytesOf(bytes) }, 'b')));
  }
  test('bin names of 1 to 15 bytes are accepted', () => {
    for (const name of binNameCorpus) assertBinName(name);
  });
  test('bin names that are empty, too long in bytes, with NUL or not Unicode are refused', () => {
    for (const name of ['', 'sixteen-bytes-xx', 'éééééééé', 'a\0b', '\ud800'])
      refused(() => assertBinName(name));
  });
});

describe('values', () => {
  const forms: [string, Value, number, string][] = [
    ['integer', 1, 1, '0000000000000001'],
    ['-0 is the integer 0', -0, 1, '0000000000000000'],
    ['bigint', -(2n ** 63n), 1, '8000000000000000'],
    ['fraction', 1.5, 2, '3ff8000000000000'],
    ['NaN', Number.NaN, 2, '7ff8000000000000'],
    ['Double(1)', new Double(1), 2, '3ff0000000000000'],
    ['Double(-0)', new Double(-0), 2, '8000000000000000'],
    ['Buffer', Buffer.from([1, 2]), 4, '0102'],
    ['GeoJson', new GeoJson('{}'), 23, '0000007b7d'],
    ['raw particle', particle(ParticleType.hll, bytesOf('00ff')), 18, '00ff'],
    ['array', [1, 1.5, 'a', null], 20, '94 01 cb3ff8000000000000 a20361 c0'],
    [
      'object: string keys, sorted, unordered',
      { b: 1, a: true, 1: 2 },
      19,
      '83 a20331 02 a20361 c3 a20362 01',
    ],
    [
      'Map: integers by value, before strings',
      new Map<Value, Value>([
        ['a', 1],
        [10, 2],
        [9n, 3],
        [-1, 4],
      ]),
      19,
      '84 ff 04 09 03 0a 02 a20361 01',
    ],
    [
      'Map: blobs last, strings bytewise',
      new Map<Value, Value>([
        [Buffer.of(0), 1],
        ['ab', 2],
        ['b', 3],
        ['a', 4],
      ]),
      19,
      '84 a20361 04 a3036162 02 a20362 03 a20400 01',
    ],
    [
      'CdtMap',
      new CdtMap(
        [
          ['b', 1],
          ['a', 2],
        ],
        MapOrder.key,
      ),
      19,
      '83 c70001c0 a20361 02 a20362 01',
    ],
    ['CdtList', new CdtList([1, 2]), 20, '93 c70001 01 02'],
    ['CdtList without order', new CdtList([1], ListOrder.unordered), 20, '91 01'],
    [
      'GeoJSON element drops its cells',
      [new GeoJson('{}', bytesOf('000001 0000000000000000'))],
      20,
      '91 a3177b7d',
    ],
  ];
  for (const [name, value, type, bytes] of forms) {
    test(`${name}`, () => sameParticle(toParticle(value), { type, bytes: bytesOf(bytes) }));
  }

  test('what comes out keeps the kind', () => {
    const read = (type: number, bytes: string) => fromParticle({ type, bytes: bytesOf(bytes) });
    assert.equal(read(1, '001fffffffffffff'), Number.MAX_SAFE_INTEGER);
    assert.equal(read(1, '0020000000000000'), 2n ** 53n);
    assert.deepEqual(read(2, '3ff0000000000000'), new Double(1));
    assert.notDeepEqual(read(2, '8000000000000000'), new Double(0));
    assert.deepEqual(read(20, '92 c70001 01'), new CdtList([1], ListOrder.ordered));
    assert.deepEqual(read(19, '82 c70003c0 01 02'), new CdtMap([[1, 2]], MapOrder.keyValue));
    assert.deepEqual(
      read(19, '82 a20362 01 a20361 02'),
      new CdtMap([
        ['b', 1],
        ['a', 2],
      ]),
    );
    assert.deepEqual(read(20, '91 ca3fc00000'), [new Float32(0x3fc00000)]);
    assert.equal(new Float32(0x3fc00000).value, 1.5);
    assert.deepEqual(read(3, 'ff'), new Opaque(3, bytesOf('ff')));
    assert.deepEqual(read(1, '01'), new Opaque(1, bytesOf('01')));
  });

  test('what is read is a copy', () => {
    const bytes = Uint8Array.of(0x91, 0xa2, 4, 1);
    const list = fromParticle({ type: ParticleType.list, bytes });
    const blob = fromParticle({ type: ParticleType.blob, bytes });
    bytes.fill(0);
    assert.deepEqual(list, [Uint8Array.of(1)]);
    assert.deepEqual(blob, Uint8Array.of(0x91, 0xa2, 4, 1));
  });

  const cycle: Value[] = [];
  cycle.push(cycle, cycle);
  const refusals: [string, unknown][] = [
    ['null as a bin', null],
    ['undefined', undefined],
    ['undefined in a list', [undefined]],
    ['a hole in a list', new Array(1)],
    ['a date', new Date(0)],
    ['a function', () => 1],
    ['a float64 array', new Float64Array(1)],
    ['2^53 as a number', 2 ** 53],
    ['2^63', 2n ** 63n],
    ['2^64 in a list', [2n ** 64n]],
    ['-2^63-1 in a list', [-(2n ** 63n) - 1n]],
    ['an unpaired surrogate', '\ud800'],
    ['an unpaired surrogate in a list', ['\udc00']],
    ['float32 as a bin', new Float32(0)],
    ['a raw integer in a list', [particle(ParticleType.integer, new Uint8Array(8))]],
    [
      'a map with 1 and 1n',
      new Map<Value, Value>([
        [1, 1],
        [1n, 2],
      ]),
    ],
    [
      'a map with equal blobs',
      new Map<Value, Value>([
        [Buffer.of(1), 1],
        [Buffer.of(1), 2],
      ]),
    ],
    ['a double as a map key', new Map<Value, Value>([[1.5, 1]])],
    ['a list as a map key', new Map<Value, Value>([[[], 1]])],
    ['null as a map key', new Map<Value, Value>([[null, 1]])],
    ['a GeoJSON header that is cut off', new GeoJson('{}', bytesOf('000001'))],
    ['a cycle', cycle],
  ];
  for (const [name, value] of refusals)
    test(`${name} is refused`, () => refused(() => toParticle(value as Value)));

  test(`${MAX_DEPTH} levels are written, one more is refused`, () => {
    const nested = (levels: number): Value => (levels === 1 ? [] : [nested(levels - 1)]);
    toParticle(nested(MAX_DEPTH));
    refused(() => toParticle(nested(MAX_DEPTH + 1)));
  });

  test('index hints are read over and never written', () => {
    const p = { type: ParticleType.list, bytes: bytesOf('94 c70010 01 02 03') };
    assert.deepEqual(fromParticle(p), [1, 2, 3]);
    assert.equal(hex(toParticle(fromParticle(p)).bytes), '93010203');
    sameParticle(fromJson(toJson(p)), p);
  });
});

describe('JSON', () => {
  const forms: [number, string, JsonValue][] = [
    [1, '000000000000002a', 42],
    [1, '7fffffffffffffff', { $int: '9223372036854775807' }],
    [2, '3ff8000000000000', 1.5],
    [2, '3ff0000000000000', { $double: '1' }],
    [2, '8000000000000000', { $double: '-0' }],
    [2, '7ff0000000000000', { $double: 'Infinity' }],
    [2, '7ff8000000000000', { $double: 'NaN' }],
    [2, '7ff8000000000001', { $float64: '7ff8000000000001' }],
    [3, '6869', 'hi'],
    [3, 'ff', { $particle: 3, $bytes: '/w==' }],
    [4, '00ff', { $blob: 'AP8=' }],
    [17, '01', true],
    [18, '00ff', { $particle: 18, $bytes: 'AP8=' }],
    [23, '0000007b7d', { $geojson: '{}' }],
    [23, '0100007b7d', { $geojson: '{}', $cells: 'AQAA' }],
    [20, '93 01 c0 a1 03', [1, null, '']],
    [20, '92 c70001 01', { $list: [1], $order: 'ordered' }],
    [20, '91 ca3fc00000', [{ $float32: '3fc00000' }]],
    [19, '81 a20361 90', { a: [] }],
    [19, '80', {}],
    [19, '81 01 a20361', { $map: [[1, 'a']] }],
    [19, '81 a20324 01', { $map: [['$', 1]] }],
    [19, '82 c70001c0 a20361 01', { $map: [['a', 1]], $order: 'key' }],
    [19, '81 cc01 01', { $particle: 19, $bytes: 'gcwBAQ==' }],
  ];
  for (const [type, bytes, json] of forms) {
    test(`${JSON.stringify(json)}`, () => {
      assert.deepEqual(toJson({ type, bytes: bytesOf(bytes) }), json);
      sameParticle(fromJson(json), { type, bytes: bytesOf(bytes) });
    });
  }

  const nested = JSON.parse(`${'['.repeat(20_000)}${']'.repeat(20_000)}`) as JsonValue;
  const refusals: JsonValue[] = [
    null,
    2 ** 53,
    { $int: 1 },
    { $int: '1.5' },
    { $int: '99999999999999999999' },
    { $double: '' },
    { $double: '0x10' },
    { $float64: '7ff8' },
    { $blob: 'not base64!' },
    { $blob: 'AP8' },
    { $geojson: '{}', $cells: 'AQ==' },
    { $geojson: '{}', $cells: 'AQAAAA==' },
    { $particle: 256, $bytes: '' },
    { $particle: 18 },
    { $list: {} },
    { $list: [], $order: 'toString' },
    { $map: [[1]] },
    { $map: [[1, 2]], $order: 'ordered' },
    { $unknown: 1 },
    { $int: '1', a: 1 },
    { a: { $x: 1 } },
  ];
  for (const json of refusals)
    test(`${JSON.stringify(json)} is refused`, () => refused(() => fromJson(json)));
  test('20000 levels are refused', () => refused(() => fromJson(nested)));
});

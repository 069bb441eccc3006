import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeCdt, encodeCdt } from '../../engine/cdt.ts';
import { PitrError } from '../../engine/errors.ts';
import { assertParticle, type Particle, ParticleType } from '../../engine/particle.ts';
import {
  CdtList,
  CdtMap,
  Double,
  fromJson,
  fromParticle,
  GeoJson,
  type JsonValue,
  MapOrder,
  Opaque,
  toJson,
  toParticle,
  type Value,
} from '../../engine/value.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const sameParticle = (actual: Particle, expected: Particle) => {
  assert.equal(actual.type, expected.type);
  assert.equal(hex(actual.bytes), hex(expected.bytes));
};
const refused = (body: () => unknown) =>
  assert.throws(body, (error) => error instanceof PitrError && error.id === 'bad-record');
const throughText = (json: JsonValue): JsonValue => JSON.parse(JSON.stringify(json)) as JsonValue;

describe('properties (fast-check prints the seed and the counterexample)', () => {
  const bytes = fc.uint8Array({ maxLength: 300 });
  const garbage: fc.Arbitrary<Particle> = fc.record({ type: fc.nat(255), bytes });
  // Bytes that are mostly msgpack tags reach deeper into the decoder than uniform noise.
  const tags = [
    0x80, 0x81, 0x82, 0x90, 0x91, 0x92, 0x93, 0xa0, 0xa1, 0xa2, 0xc0, 0xc3, 0xc4, 0xc7, 0xca, 0xcb, 0xcc,
    0xcf, 0xd0, 0xd3, 0xd4, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff, 0, 1, 2, 3, 4, 8, 16, 23,
  ];
  const cdtGarbage: fc.Arbitrary<Particle> = fc.record({
    type: fc.constantFrom(ParticleType.list, ParticleType.map),
    bytes: fc
      .array(fc.oneof(fc.constantFrom(...tags), fc.nat(255)), { maxLength: 40 })
      .map((a) => Uint8Array.from(a)),
  });
  const unicode = fc.string({ unit: 'binary', maxLength: 40 });
  const blob = bytes.map((b) => new Uint8Array(b));
  const integer = fc.oneof(
    fc.maxSafeInteger(),
    fc.integer({ min: -300, max: 300 }),
    fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  );
  const double = fc.bigInt(0n, 2n ** 64n - 1n).map((bits) => Double.fromBits(bits));
  const scalar: fc.Arbitrary<Value> = fc.oneof(
    fc.boolean(),
    integer,
    unicode,
    blob,
    double,
    fc.double({ noInteger: true }),
    fc.string().map((text) => new GeoJson(text)),
    fc.constantFrom(7, 8, 9, 10, 11, 12, 18).chain((type) => blob.map((b) => new Opaque(type, b))),
  );
  const key = fc.oneof(integer, unicode, blob);
  const keyText = (k: unknown) =>
    k instanceof Uint8Array ? `b${hex(k)}` : typeof k === 'string' ? `s${k}` : `i${k}`;
  const collections = fc.letrec<{ any: Value; list: Value; map: Value }>((tie) => {
    const pairs = fc.uniqueArray(fc.tuple(key, tie('any')), { selector: ([k]) => keyText(k), maxLength: 20 });
    return {
      any: fc.oneof({ maxDepth: 6 }, scalar, fc.constant(null), tie('list'), tie('map')),
      list: fc.oneof(
        fc.array(tie('any'), { maxLength: 20 }),
        fc.array(tie('any'), { maxLength: 20 }).map((items) => new CdtList(items)),
      ),
      map: fc.oneof(
        fc
          .tuple(pairs, fc.constantFrom(...Object.values(MapOrder)))
          .map(([p, order]) => new CdtMap(p, order)),
        pairs.map((p) => new Map<Value, Value>(p)),
        fc.dictionary(unicode, tie('any')),
      ),
    };
  });
  const value = fc.oneof(scalar, collections.list, collections.map);

  test('V2: any bytes under any type come back from JSON text', () => {
    fc.assert(
      fc.property(garbage, (p) => sameParticle(fromJson(throughText(toJson(p))), p)),
      { numRuns: 2000 },
    );
    fc.assert(
      fc.property(cdtGarbage, (p) => sameParticle(fromJson(throughText(toJson(p))), p)),
      { numRuns: 5000 },
    );
  });

  test('V1, C2: what is written is canonical, so writing what was read changes nothing', () => {
    fc.assert(
      fc.property(value, (v) => {
        const written = toParticle(v);
        assertParticle(written, 'b');
        const read = fromParticle(written);
        sameParticle(toParticle(read), written);
        assert.deepEqual(fromParticle(toParticle(read)), read);
      }),
      { numRuns: 2000 },
    );
  });

  test('V2: written values have a readable JSON form, never the fallback', () => {
    fc.assert(
      fc.property(fc.oneof(collections.list, collections.map), (v) => {
        const p = toParticle(v);
        const json = throughText(toJson(p));
        assert.ok(!Object.hasOwn(json as object, '$particle'));
        sameParticle(fromJson(json), p);
      }),
      { numRuns: 2000 },
    );
  });

  test('C3: the decoder refuses or reads, and reading twice through the encoder is stable', () => {
    fc.assert(
      fc.property(cdtGarbage, (p) => {
        try {
          const once = encodeCdt(decodeCdt(p.bytes));
          assert.equal(hex(encodeCdt(decodeCdt(once))), hex(once));
        } catch (error) {
          assert.ok(error instanceof PitrError && error.id === 'bad-record', String(error));
        }
      }),
      { numRuns: 5000 },
    );
  });

  test('C3: canonical bytes cut anywhere are refused', () => {
    fc.assert(
      fc.property(
        collections.any,
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (v, cut) => {
          const whole = encodeCdt(v);
          refused(() => decodeCdt(whole.subarray(0, Math.floor(cut * whole.length))));
          refused(() => decodeCdt(Buffer.concat([whole, Buffer.of(0)])));
        },
      ),
    );
  });
});

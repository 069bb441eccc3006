/** Lists and maps against plain models: an array, an array of pairs. fast-check prints the seed and the smallest counterexample. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { normalizeParticle } from '../../engine/aerospike/cdt/normalize.ts';
import { cdtModify, cdtRead } from '../../engine/aerospike/cdt/operations.ts';
import { Refusal } from '../../engine/aerospike/refusal.ts';
import type { Particle } from '../../engine/particle.ts';
import { contextTrial, guidedTrial, plainTrial, type Trial } from './cdt-arbitrary.ts';
import { rawParticle } from './loose.ts';
import { isSame, key, operation, order, type Packable, pack, scalar, value } from './packed.ts';

type Pair = readonly [Packable, Packable];

const listParticle = (list: readonly Packable[], ordered: boolean): Particle => ({
  type: 20,
  bytes: pack({ list, flags: ordered ? 1 : 0 }),
});
const mapParticle = (map: readonly Pair[], flags: number): Particle => ({
  type: 19,
  bytes: pack({ map, flags }),
});

const hexOf = (p: Particle | undefined): string | undefined =>
  p && `${p.type}:${Buffer.from(p.bytes).toString('hex')}`;

const modified = (particle: Particle, op: Buffer): readonly [string | undefined, string | undefined] => {
  const outcome = cdtModify(particle, op);
  assert.ok(!(outcome instanceof Refusal), `${outcome}`);
  return [hexOf(outcome.result), hexOf(outcome.particle)];
};

const answer = (particle: Particle, op: Buffer): string | undefined => {
  const result = cdtRead(particle, op);
  assert.ok(!(result instanceof Refusal), `${result}`);
  return hexOf(result);
};

const int = (n: number): string => {
  const b = Buffer.alloc(8);
  b.writeBigInt64BE(BigInt(n));
  return `1:${b.toString('hex')}`;
};
const listHex = (list: readonly Packable[]): string | undefined => hexOf(listParticle(list, false));

const ordered = fc.boolean();
const items = fc.array(value, { maxLength: 12 });
const index = fc.integer({ min: -15, max: 15 });
const count = fc.integer({ min: 0, max: 15 });

/** Half-open bounds of `n` elements from `at`, as the documentation has them. */
const bounds = (at: number, n: number, length: number): [number, number] => {
  const start = at < 0 ? length + at : at;
  return [Math.max(0, Math.min(start, length)), Math.max(0, Math.min(start + n, length))];
};

const inOrder = (list: readonly Packable[], isOrdered: boolean): Packable[] =>
  isOrdered ? list.toSorted(order) : [...list];

describe('lists are arrays', () => {
  test('append, append-items, size', () =>
    fc.assert(
      fc.property(items, value, items, ordered, (base, one, more, isOrdered) => {
        const list = inOrder(base, isOrdered);
        const all = (added: readonly Packable[]) => inOrder([...list, ...added], isOrdered);
        const particle = listParticle(list, isOrdered);
        const expected = (added: readonly Packable[]) => [
          int(list.length + added.length),
          hexOf(listParticle(all(added), isOrdered)),
        ];
        assert.deepEqual(modified(particle, operation(1, one)), expected([one]));
        assert.deepEqual(modified(particle, operation(2, { list: more })), expected(more));
        assert.equal(answer(particle, operation(16)), int(list.length));
      }),
    ));

  test('ranges by index: got, removed, popped, trimmed', () =>
    fc.assert(
      fc.property(items, index, count, ordered, (base, at, n, isOrdered) => {
        const list = inOrder(base, isOrdered);
        const particle = listParticle(list, isOrdered);
        const [from, to] = bounds(at, n, list.length);
        const chosen = list.slice(from, Math.max(from, to));
        const others = list.toSpliced(from, chosen.length);
        const left = hexOf(listParticle(others, isOrdered));
        assert.equal(answer(particle, operation(18, at, n)), listHex(chosen));
        assert.equal(answer(particle, operation(24, 7, at, n)), listHex(chosen));
        assert.equal(answer(particle, operation(24, 5, at, n)), int(chosen.length));
        assert.equal(answer(particle, operation(24, 0x10007, at, n)), listHex(others));
        assert.deepEqual(modified(particle, operation(6, at, n)), [listHex(chosen), left]);
        assert.deepEqual(modified(particle, operation(8, at, n)), [int(chosen.length), left]);
        const kept = chosen.length === 0 ? [] : chosen;
        assert.deepEqual(modified(particle, operation(10, at, n)), [
          int(list.length - kept.length),
          hexOf(listParticle(kept, isOrdered)),
        ]);
      }),
    ));

  test('by value and interval', () =>
    fc.assert(
      fc.property(
        fc.array(scalar, { maxLength: 12 }),
        scalar,
        scalar,
        ordered,
        (base, low, high, isOrdered) => {
          const list = inOrder(base, isOrdered);
          const particle = listParticle(list, isOrdered);
          const equal = list.filter((v) => isSame(v, low));
          const between = list.filter((v) => order(v, low) >= 0 && order(v, high) < 0);
          const places = list.flatMap((v, i) => (isSame(v, low) ? [i] : []));
          assert.equal(answer(particle, operation(22, 7, low)), listHex(equal));
          assert.equal(answer(particle, operation(22, 1, low)), listHex(places));
          assert.equal(
            answer(particle, operation(20, 3, low)),
            int(equal.length === 0 ? -1 : list.filter((v) => order(v, low) < 0).length),
          );
          assert.equal(answer(particle, operation(25, 5, low, high)), int(between.length));
          const outside = list.filter((v) => order(v, low) < 0 || order(v, high) >= 0);
          // A server takes an interval that ends before it starts for empty.
          if (order(low, high) > 0) return;
          assert.deepEqual(modified(particle, operation(38, 7, low, high)), [
            listHex(between),
            hexOf(listParticle(outside, isOrdered)),
          ]);
        },
      ),
    ));

  test('by rank: what is removed and what is left are the sorted list', () =>
    fc.assert(
      fc.property(fc.array(scalar, { maxLength: 12 }), index, count, (list, at, n) => {
        const particle = listParticle(list, false);
        const [from, to] = bounds(at, n, list.length);
        const chosen = list.toSorted(order).slice(from, Math.max(from, to));
        const got = answer(particle, operation(26, 7, at, n))!;
        assert.ok([listHex(chosen), listHex(chosen.toReversed())].includes(got));
        const [, left] = modified(particle, operation(39, 0, at, n));
        const expected = list.toSorted(order).toSpliced(from, chosen.length);
        assert.equal(modified(particleOf(left!), operation(13, 0))[1], listHex(expected));
      }),
    ));

  test('set, insert, sort, set-type', () =>
    fc.assert(
      fc.property(items, fc.nat(14), value, (list, at, v) => {
        const particle = listParticle(list, false);
        const padded = [...list, ...new Array<Packable>(Math.max(0, at - list.length)).fill(null)];
        const inserted = padded.toSpliced(at, 0, v);
        assert.deepEqual(modified(particle, operation(3, at, v)), [int(inserted.length), listHex(inserted)]);
        assert.equal(modified(particle, operation(9, at, v))[1], listHex(padded.toSpliced(at, 1, v)));
        assert.equal(modified(particle, operation(13, 0))[1], listHex(list.toSorted(order)));
        assert.equal(modified(particle, operation(0, 1))[1], hexOf(listParticle(list.toSorted(order), true)));
      }),
    ));
});

const particleOf = (text: string): Particle => ({
  type: Number(text.split(':')[0]),
  bytes: Buffer.from(text.split(':')[1]!, 'hex'),
});

const pairs = fc
  .array(fc.tuple(key, scalar), { maxLength: 10 })
  .map((all) =>
    all
      .filter(([k], i) => !all.slice(0, i).some(([other]) => isSame(k, other)))
      .toSorted(([a], [b]) => order(a, b)),
  );
const flags = fc.constantFrom(0, 1, 3);

const put = (map: readonly Pair[], added: readonly Pair[]): Pair[] =>
  [...map.filter(([k]) => !added.some(([other]) => isSame(k, other))), ...added].toSorted(([a], [b]) =>
    order(a, b),
  );

describe('maps are sorted pairs', () => {
  test('put, put-items, remove by key', () =>
    fc.assert(
      fc.property(pairs, key, scalar, pairs, flags, (map, k, v, more, f) => {
        const particle = mapParticle(map, f);
        const one = put(map, [[k, v]]);
        const all = put(map, more);
        assert.deepEqual(modified(particle, operation(67, k, v, 0)), [
          int(one.length),
          hexOf(mapParticle(one, f)),
        ]);
        assert.deepEqual(modified(particle, operation(68, { map: more }, 0)), [
          int(all.length),
          hexOf(mapParticle(all, f)),
        ]);
        const found = map.filter(([other]) => isSame(k, other));
        assert.deepEqual(modified(particle, operation(76, 5, k)), [
          int(found.length),
          hexOf(
            mapParticle(
              map.filter(([other]) => !isSame(k, other)),
              f,
            ),
          ),
        ]);
      }),
    ));

  test('ranges by index and key', () =>
    fc.assert(
      fc.property(pairs, index, count, key, key, flags, (map, at, n, low, high, f) => {
        const particle = mapParticle(map, f);
        const [from, to] = bounds(at, n, map.length);
        const chosen = map.slice(from, Math.max(from, to));
        assert.equal(answer(particle, operation(104, 6, at, n)), listHex(chosen.map(([k]) => k)));
        assert.equal(answer(particle, operation(104, 7, at, n)), listHex(chosen.map(([, v]) => v)));
        assert.equal(answer(particle, operation(104, 17, at, n)), hexOf(mapParticle(chosen, 1)));
        const between = map.filter(([k]) => order(k, low) >= 0 && order(k, high) < 0);
        assert.deepEqual(modified(particle, operation(84, 16, low, high)), [
          hexOf(mapParticle(between, 0)),
          hexOf(
            mapParticle(
              map.filter((pair) => !between.includes(pair)),
              f,
            ),
          ),
        ]);
        const origin = map.filter(([k]) => order(k, low) < 0).length;
        const [start, end] =
          at + origin < 0 ? [0, Math.max(0, at + origin + n)] : [at + origin, at + origin + n];
        const relative = map.slice(start, Math.max(start, end)).map(([k]) => k);
        assert.equal(answer(particle, operation(109, 6, low, at, n)), listHex(relative));
      }),
    ));

  test('by rank: values in order, keys deciding', () =>
    fc.assert(
      fc.property(pairs, index, count, flags, (map, at, n, f) => {
        const particle = mapParticle(map, f);
        const ranked = map.toSorted(([k, v], [l, w]) => order(v, w) || order(k, l));
        const [from, to] = bounds(at, n, map.length);
        const chosen = ranked.slice(from, Math.max(from, to));
        assert.equal(answer(particle, operation(106, 6, at, n)), listHex(chosen.map(([k]) => k)));
        assert.equal(
          answer(particle, operation(106, 1, at, n)),
          listHex(chosen.map((pair) => map.indexOf(pair))),
        );
        for (const [i, [k]] of map.entries())
          assert.equal(answer(particle, operation(97, 3, k)), int(ranked.indexOf(map[i]!)));
      }),
    ));
});

describe('invariants', () => {
  const isCanonical = ({ type, bytes }: Particle): void => {
    const again = normalizeParticle(type, bytes);
    assert.ok(!(again instanceof Refusal));
    assert.deepEqual(Buffer.from(again), Buffer.from(bytes));
  };

  for (const mutated of [false, true])
    test(`L1: the canonical form is its own${mutated ? ', mutated' : ''}`, () =>
      fc.assert(
        fc.property(rawParticle(mutated), ({ type, bytes }) => {
          const stored = normalizeParticle(type, bytes);
          if (!(stored instanceof Refusal)) isCanonical({ type, bytes: stored });
        }),
        { numRuns: 2000 },
      ));

  for (const [name, trial] of [
    ['of a bin', plainTrial],
    ['inside of a bin', guidedTrial],
    ['with any context', contextTrial],
  ] as const)
    test(`L1, L3: operations ${name}`, () =>
      fc.assert(
        fc.property(trial, (t: Trial) => {
          const bytes = t.bin === undefined ? undefined : pack(t.bin);
          const particle = bytes && { type: bytes[0]! < 0x90 || bytes[0]! >= 0xde ? 19 : 20, bytes };
          const before = bytes && Buffer.from(bytes);
          const outcome = t.op === 3 ? cdtRead(particle, t.value) : cdtModify(particle, t.value);
          assert.deepEqual(bytes, before, 'what came in is not written to');
          if (outcome instanceof Refusal || t.op === 3) return;
          const { particle: after } = outcome as { particle: Particle | undefined };
          if (after === undefined) return;
          isCanonical(after);
          if (particle && Buffer.compare(after.bytes, particle.bytes) === 0) assert.equal(after, particle);
        }),
        { numRuns: 2000 },
      ));
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeImage, encodeImage, hasSameBins } from '../../engine/image.ts';
import { type Particle, ParticleType } from '../../engine/particle.ts';

const particle = fc.record({
  type: fc.constantFrom<number>(ParticleType.blob, ParticleType.string),
  bytes: fc.uint8Array({ maxLength: 400 }),
}) satisfies fc.Arbitrary<Particle>;
const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'ab', 'é', 'name', 'a-long-bin-name'), {
  maxLength: 4,
});
const binsOf = (list: readonly string[]) =>
  fc.tuple(...list.map(() => particle)).map((all) => new Map(list.map((name, i) => [name, all[i]])));

test('hasSameBins tells exactly when an image has these names in this order, wherever the image starts', () => {
  fc.assert(
    fc.property(
      names.chain(binsOf),
      fc.option(particle, { nil: undefined }),
      names,
      fc.nat(30),
      (bins, key, others, before) => {
        const bytes = encodeImage({ key, bins }, before);
        assert.deepEqual(
          [...decodeImage(bytes.subarray(before)).bins].map(([name]) => name),
          [...bins.keys()],
        );
        for (const wanted of [[...bins.keys()], others, [...bins.keys()].reverse()]) {
          const same = JSON.stringify(wanted) === JSON.stringify([...bins.keys()]);
          assert.equal(hasSameBins(bytes, before, new Map(wanted.map((n) => [n, null]))), same);
        }
        // whatever the bytes: an answer, and in time
        for (let cut = before; cut < bytes.length; cut++)
          assert.equal(hasSameBins(bytes.subarray(0, cut), before, bins), false);
      },
    ),
    { numRuns: 200 },
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { InOrder } from '../../restore/in-order.ts';

test('chunks come out in the order of their ranges, whoever is fast and however slow the reader is', async () => {
  const range = fc.array(fc.nat(3), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 8 }), fc.nat(2), async (ranges, writeMs) => {
      const out: string[] = [];
      const lines = new InOrder(async (chunk) => {
        out.push(`${chunk}`);
        await sleep(writeMs);
      });
      // as in a pool: each range is made by somebody, all at the same time, with pauses of its own
      await Promise.all(
        ranges.map(async (pauses, index) => {
          for (const [n, ms] of pauses.entries()) {
            await sleep(ms);
            await lines.chunk(Buffer.from(`${index}.${n}`), index);
          }
          await lines.end(index);
        }),
      );
      assert.deepEqual(
        out,
        ranges.flatMap((pauses, index) => pauses.map((_, n) => `${index}.${n}`)),
      );
    }),
    { numRuns: 25 },
  );
});

test('a range whose turn has not come holds its maker back', async () => {
  const lines = new InOrder(async () => undefined);
  let isTaken = false;
  const later = lines.chunk(Buffer.from('b'), 1).then(() => {
    isTaken = true;
  });
  await lines.chunk(Buffer.from('a'), 0);
  await sleep(5);
  assert.equal(isTaken, false);
  await lines.end(0);
  await later;
});

/** Shipments with any bytes, creations that end in any order, and failures anywhere: what is published, what is deleted, what is at most on its way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as breathe } from 'node:timers/promises';
import fc from 'fast-check';
import { runOf } from '../../wal/catalog.ts';
import type { Shipment } from '../../wal/shipment.ts';
import { ShipmentQueue } from '../../wal/shipment-queue.ts';

const CREATE_BYTES = 100;

const shipmentOf = (n: number): Shipment => ({
  end: { frontier: { ts: n, lsn: n }, sequence: n, chain: 0 },
  clock: undefined,
  gap: undefined,
  marks: [],
  versions: 1,
  run: runOf(0, n, n + 1, [
    {
      name: `${n}`,
      bytes: 1,
      crc: '',
      rows: 1,
      tsMin: n,
      tsMax: n,
      partitions: { start: 0, end: 1 },
      events: 0,
    },
  ]),
});

const wait = async (turns: number): Promise<void> => {
  for (let i = 0; i < turns; i++) await breathe();
};

const shipments = fc.array(
  fc.record({
    bytes: fc.integer({ min: 1, max: 150 }),
    turns: fc.integer({ min: 0, max: 6 }),
    fails: fc.constantFrom(false, false, false, false, false, true),
  }),
  { minLength: 1, maxLength: 24 },
);
const publications = fc.array(
  fc.record({
    turns: fc.integer({ min: 0, max: 8 }),
    fails: fc.constantFrom(false, false, false, false, false, false, false, true),
  }),
  { minLength: 24, maxLength: 24 },
);

test('A4: published in order and without holes, the rest deleted once, never more on its way than allowed (fast-check prints its seed)', async () => {
  let grouped = 0;
  let beside = 0;
  await fc.assert(
    fc.asyncProperty(
      shipments,
      publications,
      fc.integer({ min: 1, max: 5 }),
      async (given, swaps, creates) => {
        const there = new Set<string>();
        const published: number[] = [];
        let sent: number[] = [];
        let failedSwap = false;
        let onWay: number[] = [];
        let swapsDone = 0;
        let isPublishing = false;
        const discarded: string[] = [];
        const queue = new ShipmentQueue(
          {
            create: async (name, bytes) => {
              assert.ok(!failedSwap, 'nothing begins after a failure of the catalog');
              onWay = [...onWay, bytes.length];
              beside = Math.max(beside, onWay.length);
              assert.ok(onWay.length <= creates, `${onWay.length} at once`);
              const sum = onWay.reduce((a, b) => a + b, 0);
              assert.ok(onWay.length === 1 || sum <= CREATE_BYTES, `${sum} bytes at once`);
              await wait(given[Number(name) - 1].turns);
              onWay = onWay.filter((_, i) => i !== onWay.indexOf(bytes.length));
              if (given[Number(name) - 1].fails) throw new Error(`create ${name}`);
              there.add(name);
            },
            publish: async (list) => {
              assert.ok(!isPublishing, 'one publication at a time');
              isPublishing = true;
              const ns = list.map((s) => s.end.sequence);
              assert.deepEqual(
                ns,
                ns.map((_, i) => published.length + 1 + i),
                'in order, without holes',
              );
              assert.ok(
                ns.every((n) => there.has(`${n}`)),
                'only what is there',
              );
              const swap = swaps[swapsDone++];
              await wait(swap.turns);
              isPublishing = false;
              sent = [...sent, ...ns];
              if (ns.length > 1) grouped++;
              if (swap.fails) {
                failedSwap = true;
                throw new Error('publish');
              }
              published.push(...ns);
            },
            discard: async (names) => {
              assert.deepEqual([onWay, isPublishing], [[], false], 'when nothing is on its way any more');
              discarded.push(...names);
            },
          },
          { creates, createBytes: CREATE_BYTES },
        );
        let n = 0;
        for (const { bytes } of given) if (!(await queue.add(shipmentOf(++n), Buffer.alloc(bytes)))) break;
        const outcome = await queue.end().catch((error: Error) => error);
        const firstBad = given.findIndex((g) => g.fails);
        if (outcome instanceof Error) {
          assert.equal(
            outcome.message === 'publish',
            failedSwap,
            'the catalog’s failure is the one that counts',
          );
          const left = [...there].filter((name) => !sent.includes(Number(name)));
          assert.deepEqual(discarded.sort(), left.sort());
          if (!failedSwap) assert.equal(published.length, firstBad, 'all that has no hole before it');
        } else {
          assert.equal(firstBad, -1);
          assert.deepEqual([outcome, published.length, discarded], [given.length, given.length, []]);
        }
      },
    ),
    { numRuns: Number(process.env.PITR_RUNS ?? 300) },
  );
  assert.ok(grouped > 0 && beside > 1, `${grouped} publications of several, ${beside} side by side`);
});

import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { PartitionSet } from '../../engine/partition.ts';
import { handover } from '../../restore/handover.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { Bench, T0 } from '../promises-support.ts';

test('A digest that a stream states between a release to it and its own acquisition is not taken for one with the records', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  const from = await bench.engine('a', '0-2047');
  const to = await bench.engine('b', '2048-4095');
  const [shipFrom, shipTo] = [await bench.archiver('a'), await bench.archiver('b')];
  const record = (first: number) => ({ namespace: 'test', digest: Buffer.alloc(20, first) });
  await from.put(record(0), { n: 1 });
  // the clock of b is ahead, so it states its digest at an instant after the release, and acquires after that
  clock.step(60_000);
  await to.put(record(0x0f), { n: 2 });
  const stated = await to.seal();
  await shipTo.archivePending();
  clock.step(-60_000);
  const partitions = PartitionSet.parse('0-1023');
  const moved = await handover({
    from,
    to,
    partitions,
    archive: await bench.archive(),
    fromArchiver: shipFrom,
  });
  assert(moved.released.ts < stated.ts && stated.ts < moved.acquired.ts);
  clock.step(120_000);
  for (const engine of [from, to]) await engine.seal();
  for (const archiver of [shipFrom, shipTo]) await archiver.archivePending();

  const restoreTo = async (ts: number) => {
    const options = { archive: bench.url, target: String(ts), workers: 0, clock };
    const { verification, records } = await restoreEngine(bench.path(`r${ts}`), `r${ts}`, options);
    assert.equal(records, ts < stated.ts ? 1 : 2);
    return verification.source;
  };
  // the hand-over has the old owner state its digest before it closes the partitions
  assert.equal(await restoreTo(moved.released.ts - 1), 'equal');
  assert.equal(await restoreTo(stated.ts), 'not checked');
  assert.equal(await restoreTo(T0 + 120_000), 'equal');
});

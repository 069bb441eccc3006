/** What the model of captures has found, each as the few steps that are left of its seed: the seed's meaning changes with the model. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { PARTITIONS, PartitionSet, partitionOf } from '../../engine/partition.ts';
import { encodeState, stateKeyOf } from '../../engine/state-record.ts';
import type { StoreChange } from '../../engine/store.ts';
import { textOf } from './log-state.ts';
import { intBin, World } from './world.ts';

test('P5: what has come from another capture and is gone was there at its release, not at a poll of who has it now (seed 21)', async (t) => {
  const world = await World.open({ partitions: 'none' });
  t.after(() => world.close());
  await world.begin();
  const { digest } = world.key(1);
  const released = world.clock.nowMs() + 100;
  // it was removed between the release and the newest poll of the new owner
  world.clock.step(5000);
  await world.poller.poll();
  world.clock.step(5000);
  await world.poller.poll();
  const image = Buffer.from('0001016101080000000000000001', 'hex');
  const header = { generation: 3, voidTime: 0, ts: released - 50, lsn: 1, lut: released - 50 };
  async function* load(): AsyncGenerator<StoreChange[]> {
    yield [{ key: stateKeyOf('test', digest), value: encodeState(header, 's', image) }];
  }
  const start = partitionOf(digest);
  const partitions = PartitionSet.of([{ start, end: Math.min(start + 1, PARTITIONS) }]);
  const acquired = world.journal.acquire({
    partitions,
    peer: 'a',
    epoch: 2,
    afterTs: released,
    load: load(),
  });
  world.clock.step(5000);
  await world.poller.poll();
  assert.equal((await acquired).records, 1);
  await world.reopen();
  world.clock.step(5000);
  const { deleted } = await world.poller.poll();
  assert.equal(deleted, 1);
  const [gone] = (await world.log()).versions.filter((v) => !v.image);
  assert.equal(gone.seen?.windowStartMs, released);
});

test('S9: a bin without a name that holds an integer is part of what a poll reads', async (t) => {
  const world = await World.open();
  t.after(() => world.close());
  await world.begin();
  await world.client.put(world.key(1), [intBin('', 7)], { ttl: 'never' });
  world.clock.step(1000);
  assert.equal((await world.poller.poll()).versions, 1);
  const [version] = (await world.log()).versions;
  assert.equal(textOf(version.image as Uint8Array), ' :1:0000000000000007');
});

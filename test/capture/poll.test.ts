/** One poll after another of a cluster in this process, whose clock the test moves. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { byDigest } from './log-state.ts';
import { World } from './world.ts';

describe('a poll', () => {
  let world: World;
  before(async () => {
    world = await World.open();
    await world.begin();
  });
  after(() => world.close());

  test('finds what was written, with its LUT, and states S - 1', async () => {
    for (let n = 0; n < 50; n++) await world.put(n, n);
    world.clock.step(5);
    const report = await world.poller.poll();
    console.log(report);
    assert.equal(report.versions, 50);
    const report2 = await world.poller.poll();
    console.log(report2);
    const { versions } = await world.log();
    assert.equal(byDigest(versions).size, 50);
  });
});

/** When what is sealed is shipped: files wait for each other as long as the pace says, and not when it matters. */
import assert from 'node:assert/strict';
import { mkdir, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { usualLagMs } from '../../cli/status.ts';
import { ManualClock } from '../../engine/clock.ts';
import { nodeFiles } from '../../engine/files.ts';
import { Archiver } from '../../wal/archiver.ts';
import { ShipPace } from '../../wal/ship-pace.ts';
import { requestShipping, SHIP_REQUEST_FILE, takeShipRequest } from '../../wal/ship-request.ts';
import { writeSpoolSettings } from '../../wal/spool-settings.ts';
import { dense, headOf, initEngine, inScratch, lsnsOf, openEngine, putSealed } from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

const MIB = 1024 * 1024;

/** An engine directory with the names and sizes of sealed files. */
const place = async (dir: string, sealMs: number) => {
  await mkdir(join(dir, 'log'));
  const clock = new ManualClock(1_800_000_000_000);
  let sequence = 0;
  const seal = async (bytes: number): Promise<void> => {
    const path = join(dir, 'log', `${String(++sequence).padStart(12, '0')}.wal`);
    await writeFile(path, '');
    await truncate(path, bytes);
  };
  return { clock, seal, pace: new ShipPace(dir, nodeFiles, clock, sealMs) };
};

describe('pace', () => {
  inScratch('a file a second for a minute: shipped sixty times at 1 s, six times at 10 s', async (dir) => {
    for (const [sealMs, due] of [
      [1000, 60],
      [10_000, 6],
      [0, 60],
    ]) {
      const at = join(dir, `${sealMs}`);
      await mkdir(at);
      const { clock, seal, pace } = await place(at, sealMs);
      let shipped = 0;
      for (let second = 0; second < 60; second++) {
        await seal(1000);
        const waitMs = await pace.waitMs(0);
        assert.ok(waitMs >= 0 && waitMs <= sealMs);
        if (waitMs === 0) {
          shipped++;
          pace.shipped(clock.nowMs());
        }
        clock.step(1000);
      }
      assert.equal(shipped, due, `${sealMs} ms`);
    }
  });

  inScratch(
    'the first file after an idle time does not wait; a clock set back makes nothing wait',
    async (dir) => {
      const { clock, pace } = await place(dir, 10_000);
      assert.equal(await pace.waitMs(0), 0, 'an agent that starts');
      pace.shipped(clock.nowMs());
      clock.step(4000);
      assert.equal(await pace.waitMs(0), 6000);
      clock.step(6000);
      assert.equal(await pace.waitMs(0), 0);
      pace.shipped(clock.nowMs());
      clock.step(-3_600_000);
      assert.equal(await pace.waitMs(0), 0);
    },
  );

  inScratch('much log does not wait: 16 MiB, or a quarter of the quota', async (dir) => {
    const { clock, seal, pace } = await place(dir, 10_000);
    pace.shipped(clock.nowMs());
    await seal(10 * MIB);
    assert.equal(await pace.waitMs(0), 10_000);
    assert.equal(await pace.waitMs(0), 10_000, 'nothing is counted twice');
    await seal(6 * MIB);
    assert.equal(await pace.waitMs(0), 0);
    pace.shipped(clock.nowMs());
    assert.equal(await pace.waitMs(2), 10_000, 'what is archived does not count');
    await seal(MIB);
    assert.equal(await pace.waitMs(2), 10_000);
    await writeSpoolSettings(dir, { quotaBytes: 4 * MIB });
    assert.equal(await pace.waitMs(2), 0);
  });

  inScratch('somebody who asks is not kept waiting, once', async (dir) => {
    const { clock, pace } = await place(dir, 10_000);
    pace.shipped(clock.nowMs());
    await requestShipping(dir);
    assert.equal(await pace.waitMs(0), 0);
    await takeShipRequest(dir, nodeFiles);
    await takeShipRequest(dir, nodeFiles);
    assert.equal(await pace.waitMs(0), 10_000);
  });
});

describe('an archiver with a pace', () => {
  inScratch(
    'groups what is sealed; a request, finish and close bring it at once; the head says the pace',
    async (dir) => {
      const store = new MemoryStore();
      await initEngine(dir, store);
      const engine = await openEngine(dir);
      const clock = new ManualClock(Date.now());
      let looks = 0;
      const borders = async () => {
        looks++;
        return [];
      };
      const archiver = await Archiver.open(dir, { store, clock, sealMs: 60_000, borders });
      const until = async (lsn: number): Promise<void> => {
        for (const end = Date.now() + 20_000; archiver.head.frontier.lsn < lsn; await sleep(20))
          assert.ok(Date.now() < end, `LSN ${lsn}`);
      };
      await putSealed(engine, 1, 1);
      archiver.start();
      await until(1);
      await putSealed(engine, 2, 6);
      await sleep(300);
      assert.equal(archiver.head.frontier.lsn, 1, 'the clock stands still: nothing is due');
      await requestShipping(dir);
      await until(6);
      assert.equal((await readdir(join(dir, 'log'))).includes(SHIP_REQUEST_FILE), false);
      await archiver.finish();
      await archiver.compact();
      const asked = { looks, calls: store.calls.length };
      await putSealed(engine, 7, 9);
      await sleep(300);
      assert.equal(archiver.head.frontier.lsn, 6);
      assert.deepEqual({ looks, calls: store.calls.length }, asked, 'who waits asks the archive for nothing');
      clock.step(60_000);
      await until(9);
      await putSealed(engine, 10, 11);
      await archiver.finish();
      await engine.close();
      await archiver.close();
      const head = await headOf(store, dir);
      assert.deepEqual(
        head.runs.map((r) => [r.lsnStart, r.lsnEnd]),
        [
          [1, 2],
          [2, 7],
          [7, 10],
          [10, 12],
        ],
      );
      assert.deepEqual(await lsnsOf(store, head), dense(11));
      assert.deepEqual([head.sealMs, usualLagMs([head]), usualLagMs([])], [60_000, 180_000, 10_000]);
      // who only lends a hand does not change what was set
      await (await Archiver.open(dir, { store })).close();
      assert.equal((await headOf(store, dir)).sealMs, 60_000);
      await (await Archiver.open(dir, { store, sealMs: 1000 })).close();
      assert.equal(usualLagMs([await headOf(store, dir)]), 10_000);
    },
  );
});

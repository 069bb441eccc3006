/** What a poll finds, states and reports: a cluster in this process, whose clock the test moves. Ids are those of wal/capture/aerospike/README.md. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeOp } from '../../engine/aerospike/client/record.ts';
import type { Scan } from '../../engine/aerospike/client/scan.ts';
import type { LogTruncate, LogVersion } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { PARTITIONS, partitionOf } from '../../engine/partition.ts';
import type { PollReport } from '../../wal/capture/aerospike/poll-report.ts';
import { byDigest, textOf } from './log-state.ts';
import { intBin, NAMESPACE, World } from './world.ts';

/** Polls until a frontier is stated: the first has to be past the copy, and partitions may have moved a moment ago. */
const pollUntilStated = async (world: World): Promise<PollReport> => {
  for (let i = 0; ; i++) {
    const report = await world.poller.poll();
    if (report.isStated || report.copyAgain !== undefined) return report;
    assert(i < 10, report.waitsFor.join());
    world.clock.step(1000);
    await world.client.tend();
  }
};

const lutOf = (v: LogVersion): number => v.seen?.lutMs ?? v.ts;

describe('polls of one node', () => {
  let world: World;
  /** Everything that the log has gained since the last call. */
  let read = 0;
  const news = async (): Promise<LogVersion[]> => {
    const { versions } = await world.log();
    const fresh = versions.slice(read);
    read = versions.length;
    return fresh;
  };
  const poll = async (): Promise<PollReport> => {
    world.clock.step(5);
    return world.poller.poll();
  };
  before(async () => {
    world = await World.open({ sets: ['s', 't'], poller: { groups: 2, sweepMs: 1e12 } });
    await world.begin();
    // by it the clock is read
    await world.put(1_000_000, 0);
    world.clock.step(1000);
    await pollUntilStated(world);
  });
  after(() => world.close());
  beforeEach(async () => {
    await news();
  });

  test('what was written is logged with its LUT, once; S is in ms and the frontier S - 1 (P1, C3)', async () => {
    const writtenMs = world.clock.nowMs();
    for (let n = 0; n < 40; n++) await world.put(n, n);
    const report = await poll();
    const now = world.clock.nowMs();
    assert.deepEqual([report.versions, report.changed, report.isClockExact], [40, 40, true]);
    assert.deepEqual([report.serverMs, report.frontierMs, report.waitsFor], [now, now - 1, []]);
    const versions = await news();
    assert.deepEqual(
      versions.map((v) => [lutOf(v) - writtenMs, v.seen]).sort((a, b) => Number(a[0]) - Number(b[0])),
      Array.from({ length: 40 }, (_, n) => [n, undefined]),
    );
    const again = await poll();
    assert.deepEqual([again.cost.returned >= 40, again.versions, again.cost.reads], [true, 0, 0]);
    assert.deepEqual(await news(), []);
  });

  test('a generation that rose by three was missed twice, one that fell at least once (P4)', async () => {
    for (let i = 0; i < 3; i++) await world.put(0, 100 + i);
    await world.client.delete(world.key(1));
    await world.put(1, 200);
    const report = await poll();
    assert.deepEqual([report.versions, report.missed], [2, 2]);
    const missed = (await news()).map((v) => v.seen?.missed).sort();
    assert.deepEqual(missed, [1, 2]);
  });

  test('a change between the look at a record and the read of its image is no other version with the wrong bins (P4)', async (t) => {
    await world.put(2, 300);
    const { batch } = world.client;
    t.after(() => {
      world.client.batch = batch;
    });
    let n = 0;
    world.client.batch = async (...args) => {
      if (n++ === 0) await world.put(2, 301);
      return batch.apply(world.client, args);
    };
    const report = await poll();
    assert.deepEqual([report.changedMeanwhile, report.versions, report.missed], [1, 1, 1]);
    const [version] = await news();
    assert.equal(textOf(version.image!), ` a:1:${(301).toString(16).padStart(16, '0')}`);
    assert.equal(lutOf(version), version.ts);
  });

  test('a record that changes faster than it can be read has a window for its LUT, and its bins', async (t) => {
    await world.put(2, 400);
    const { batch } = world.client;
    t.after(() => {
      world.client.batch = batch;
    });
    let value = 400;
    world.client.batch = async (...args) => {
      await world.put(2, ++value);
      return batch.apply(world.client, args);
    };
    const before = world.clock.nowMs();
    const report = await poll();
    assert.deepEqual([report.changedMeanwhile, report.versions], [4, 1]);
    const [{ image, seen, generation }] = await news();
    assert.equal(textOf(image!), ` a:1:${value.toString(16).padStart(16, '0')}`);
    assert(
      seen && seen.windowStartMs >= before && seen.windowStartMs < seen.windowEndMs,
      `${JSON.stringify(seen)}`,
    );
    world.client.batch = batch;
    // in the ms in which the window ends: deleted, and written again as often as before
    await world.client.delete(world.key(2));
    for (let n = 0; n < generation; n++) await world.client.put(world.key(2), [intBin('a', 500 + n)]);
    assert.deepEqual(await poll().then(({ versions, missed }) => [versions, missed]), [1, 1]);
    const [again] = await news();
    assert.deepEqual([again.generation, again.seen?.missed], [generation, generation]);
    assert.equal((await poll()).versions, 0, 'seen again it is no version');
  });

  test('a record that is gone when its image is read is a delete that says what was missed (P4)', async (t) => {
    await world.put(3, 500);
    await world.put(900, 1);
    const { batch } = world.client;
    t.after(() => {
      world.client.batch = batch;
    });
    world.client.batch = async (...args) => {
      await world.client.delete(world.key(3));
      await world.client.delete(world.key(900));
      return batch.apply(world.client, args);
    };
    const report = await poll();
    assert.deepEqual([report.deleted, report.missed], [2, 2]);
    const deletes = (await news()).filter((v) => !v.image);
    assert.deepEqual(
      deletes.map((v) => v.seen?.missed),
      [1, 1],
    );
    world.client.batch = batch;
    assert.equal((await poll()).versions, 0);
  });

  test('a delete is found by the count, in a window from the last poll that agreed (P5, P6)', async () => {
    const verified = (await poll()).serverMs;
    world.clock.step(100);
    await world.client.delete(world.key(7));
    const report = await poll();
    assert.deepEqual([report.countsOff, report.deleted, report.versions], [1, 1, 1]);
    assert(report.sweptPartitions > 0);
    const [{ image, seen, digest }] = await news();
    assert.equal(image, undefined);
    assert.deepEqual(Buffer.from(digest), Buffer.from(world.key(7).digest));
    assert.equal(seen?.windowStartMs, verified - 1);
    assert(seen.windowEndMs >= verified + 100 && seen.windowEndMs <= world.clock.nowMs() + 2);
    assert.equal((await poll()).countsOff, 0);
  });

  test('what expires is expected, and let go of later by a delete that changes nothing (C6)', async () => {
    await world.put(20, 1, 's', 2);
    await world.put(21, 1, 's', 2);
    await poll();
    world.clock.step(3100);
    const expired = await poll();
    assert.deepEqual([expired.countsOff, expired.deleted], [0, 0]);
    await news();
    world.clock.step(3_600_000);
    const report = await poll();
    assert.deepEqual([report.forgotten, report.deleted, report.countsOff], [2, 0, 0]);
    assert.deepEqual(
      (await news()).map((v) => [v.image, v.seen]),
      [
        [undefined, undefined],
        [undefined, undefined],
      ],
    );
    assert.equal((await poll()).countsOff, 0);
  });

  test('what expired while the capture was away was there until it expired (C6)', async () => {
    await world.put(22, 1, 's', 60);
    await poll();
    await news();
    const { voidTimeS } = (await world.client.exists(world.key(22)))!;
    world.clock.step(2 * 3_600_000);
    assert.equal((await poll()).forgotten, 1);
    const [{ ts, seen }] = await news();
    assert.deepEqual([ts, seen], [(voidTimeS + 1) * 1000, undefined]);
  });

  test('records of other sets are counted and not logged', async () => {
    for (let n = 0; n < 5; n++) await world.put(n, n, 'other');
    const found = await poll();
    assert.deepEqual([found.changed, found.versions, found.cost.reads], [5, 0, 0]);
    await world.client.delete(world.key(2, 'other'));
    const report = await poll();
    assert.deepEqual([report.countsOff, report.versions], [1, 0]);
    assert.equal((await poll()).countsOff, 0);
  });

  test('a set whose name is not UTF-8 is said in every report, and does not spoil the counts (P10)', async (t) => {
    const key = world.key(1, 'xbad');
    await world.client.put(key, [intBin('a', 1)]);
    const { scan } = world.client;
    t.after(() => {
      world.client.scan = scan;
    });
    // the server in this process has names of UTF-8 only
    world.client.scan = (options) => {
      const real = scan.call(world.client, options);
      const spoiled = async function* () {
        for await (const block of real) {
          for (let i = 0; i < block.length; i++)
            if (block.bytes.toString('latin1', block.setStart(i), block.setEnd(i)) === 'xbad')
              block.bytes[block.setStart(i)] = 0xff;
          yield block;
        }
      };
      return {
        [Symbol.asyncIterator]: spoiled,
        get totals() {
          return real.totals;
        },
      } as unknown as Scan;
    };
    for (let i = 0; i < 2; i++) {
      const report = await poll();
      assert.deepEqual([report.unrepresentable, report.countsOff, report.versions], [1, 0, 0]);
      world.clock.step(4000);
    }
    await world.client.delete(key);
    await poll();
    assert.equal((await poll()).unrepresentable, 0);
  });

  test('a truncation is one event with its cutoff, and not a delete for each record (P7)', async () => {
    for (let n = 0; n < 20; n++) await world.put(n, n, 't');
    await poll();
    await news();
    const events = (await world.log()).events.length;
    const before = world.clock.nowMs();
    await world.info(`truncate:namespace=${NAMESPACE};set=t`);
    // the server's time of it is the clock's, or the next ms when that one is used up
    const [cutoffText] = await world.info('smd-show:module=truncate');
    const cutoff = Number(cutoffText.split('test|t=')[1].split(';')[0]) + 1_262_304_000_000;
    assert(cutoff === before || cutoff === before + 1);
    world.clock.step(2);
    await world.put(5, 55, 't');
    const report = await poll();
    assert.deepEqual([report.truncations, report.deleted, report.versions, report.countsOff], [1, 0, 1, 0]);
    const found = (await world.log()).events.slice(events) as LogTruncate[];
    assert.deepEqual(
      found.map((e) => [e.kind, e.set, e.cutoffLut]),
      [['truncate', 't', cutoff]],
    );
    const { windowStartMs = 0, windowEndMs = 0 } = found[0];
    assert(windowStartMs < before && windowEndMs >= before, `${windowStartMs} ${windowEndMs}`);
    // the same again, as after a restart of the capture
    await world.reopen();
    assert.equal((await poll()).truncations, 0);
    await world.info(`truncate-undo:namespace=${NAMESPACE};set=t`);
    assert.deepEqual((({ truncations, versions }) => [truncations, versions])(await poll()), [0, 0]);
  });

  test('of two truncations only the last is known: the window reaches back to the last look', async () => {
    await poll();
    const before = world.clock.nowMs();
    world.clock.step(10);
    await world.info(`truncate:namespace=${NAMESPACE};set=t`);
    world.clock.step(300);
    await world.info(`truncate:namespace=${NAMESPACE};set=t`);
    assert.equal((await poll()).truncations, 1);
    const event = (await world.log()).events.findLast((e) => e.kind === 'truncate');
    assert(
      event?.windowStartMs !== undefined && event.windowStartMs < before + 10,
      `${event?.windowStartMs}`,
    );
  });

  test('what is found beside a truncation does not hide a delete from the count', async () => {
    await world.put(32, 1);
    await poll();
    await world.info(`truncate:namespace=${NAMESPACE};set=t`);
    world.clock.step(2);
    await world.put(33, 1, 't');
    await world.client.delete(world.key(32));
    const report = await poll();
    assert.deepEqual([report.truncations, report.deleted, report.countsOff], [1, 1, 1]);
  });

  test('a truncation below what records have takes only the older ones', async () => {
    await world.put(30, 1, 't');
    const cutoff = BigInt(world.clock.nowMs());
    await world.put(31, 1, 't');
    await poll();
    await world.info(`truncate:namespace=${NAMESPACE};set=t;lut=${cutoff * 1_000_000n}`);
    const report = await poll();
    assert.deepEqual([report.truncations, report.versions, report.deleted], [1, 0, 0]);
    assert(world.journal.row(NAMESPACE, world.key(31, 't').digest));
    assert.equal(world.journal.row(NAMESPACE, world.key(30, 't').digest), undefined);
  });

  test('definitions are logged when they come, change and go, and not when they are built', async () => {
    const events = async () => (await world.log()).events.filter((e) => e.kind === 'definition');
    await world.info(`sindex-create:namespace=${NAMESPACE};set=s;indexname=i1;bin=a;type=numeric`);
    const lua = Buffer.from('function f(r) return 1 end');
    const put = (content: Buffer) =>
      world.info(
        `udf-put:filename=m.lua;content=${content.toString('base64')};content-len=${content.length};udf-type=LUA;`,
      );
    await put(lua);
    assert.equal((await poll()).definitions, 2);
    assert.equal((await poll()).definitions, 0);
    const [index, module] = await events();
    assert.deepEqual([index.what, index.namespace, index.name], ['sindex', NAMESPACE, 'i1']);
    assert.match(Buffer.from(index.body!).toString(), /^ns=test:indexname=i1:set=s:bin=a:type=numeric:/);
    assert.deepEqual([module.what, module.namespace, module.name], ['udf', null, 'm.lua']);
    assert.deepEqual(Buffer.from(module.body!), lua);
    await put(Buffer.from('function f(r) return 2 end'));
    await world.info(`sindex-delete:namespace=${NAMESPACE};indexname=i1`);
    await world.reopen();
    assert.equal((await poll()).definitions, 2);
    assert.deepEqual(
      (await events()).slice(2).map((e) => [e.name, e.body === null]),
      [
        ['m.lua', false],
        ['i1', true],
      ],
    );
  });

  test('marks are stated at the next frontier', async () => {
    world.poller.mark(['before-upgrade']);
    const { frontierMs } = await poll();
    const marks = (await world.log()).events.filter((e) => e.kind === 'mark');
    assert.deepEqual(
      marks.map((e) => [e.name, e.ts]),
      [['before-upgrade', frontierMs]],
    );
  });

  test('a record that the server leaves out of a scan fails the poll, and the frontier stays (P2)', async () => {
    await world.put(40, 1);
    const frontier = world.journal.frontierTs;
    world.faults.failedRecords = 1_000_000;
    await assert.rejects(poll(), (error) => isPitrError(error, 'aerospike-scan-incomplete'));
    assert.equal(world.journal.frontierTs, frontier);
    world.faults.failedRecords = 0;
    const report = await poll();
    assert.equal(report.versions, 1);
    assert(report.isStated && report.frontierMs > frontier);
  });

  test('what a poll told that failed counts for the poller of another client, too (P6)', async (t) => {
    const inFirst = (from: number): number => {
      let n = from;
      while (partitionOf(world.key(n).digest as Buffer) >= PARTITIONS / 2) n++;
      return n;
    };
    const first = inFirst(2000);
    const second = inFirst(first + 1);
    await world.put(first, 1, 's', 2);
    await world.put(second, 1);
    await poll();
    // it does not expire any more; the poll that hears of it fails in the second group
    await world.put(first, 2);
    const { scan } = world.client;
    t.after(() => {
      world.client.scan = scan;
    });
    let scans = 0;
    world.client.scan = (options) => {
      if (++scans === 2) throw new PitrError('aerospike-timeout', { seconds: 1 });
      return scan.call(world.client, options);
    };
    const options = { groups: 2, concurrency: 1, sweepMs: 1e12 };
    world.renew(options);
    await assert.rejects(world.poller.poll());
    world.client.scan = scan;
    await news();
    world.renew(options);
    await poll();
    world.clock.step(8000);
    assert.equal((await poll()).countsOff, 0);
    await world.client.delete(world.key(second));
    assert.equal((await poll()).deleted, 1);
  });

  test('partitions that nobody has fail the poll', async () => {
    world.faults.unavailable.add(17);
    await assert.rejects(poll(), (error) => isPitrError(error, 'aerospike-scan-incomplete'));
    world.faults.unavailable.clear();
    assert((await poll()).isStated);
  });

  test('while partitions move the frontier waits; then everything is compared (P8)', async () => {
    world.faults.migrating = 3;
    await world.put(41, 1);
    const waiting = await poll();
    assert.deepEqual([waiting.isStated, waiting.versions, waiting.sweptPartitions], [false, 1, 0]);
    assert.match(waiting.waitsFor.join(), /3 partitions to send of test/);
    world.faults.migrating = 0;
    const after = await poll();
    assert.deepEqual(
      [after.isStated, after.sweptPartitions, after.doubts],
      [true, 4096, ['the last poll waited']],
    );
    assert.equal((await poll()).sweptPartitions, 0);
  });

  test('what a cold restart brings back is found by comparing everything, and is late (P8, F2)', async () => {
    await world.put(50, 1);
    await world.put(51, 1);
    await poll();
    world.faults.resurrects = true;
    await world.client.delete(world.key(50));
    await poll();
    await news();
    world.clock.step(10_000);
    const { frontierMs } = await poll();
    assert.deepEqual(await world.info('pitr-restart'), ['1']);
    await sleep(80);
    await world.client.tend();
    const report = await poll();
    assert.match(report.doubts.join(), /restarted|another key/);
    assert.deepEqual([report.late, report.versions, report.sweptPartitions], [1, 1, 4096]);
    const [{ seen, ts }] = await news();
    assert(seen?.late && ts > frontierMs && seen.windowStartMs === seen.lutMs && seen.lutMs < frontierMs);
    world.faults.resurrects = false;
  });

  test('an older version that a restart brings back is told from one with a bound for its LUT (P8)', async (t) => {
    world.faults.resurrects = true;
    const { batch } = world.client;
    t.after(() => {
      world.client.batch = batch;
      world.faults.resurrects = false;
    });
    await world.put(52, 1);
    let value = 100;
    world.client.batch = async (...args) => {
      await world.client.delete(world.key(52));
      await world.put(52, ++value);
      await world.client.delete(world.key(52));
      await world.put(52, 0, 's', 2);
      return batch.apply(world.client, args);
    };
    await poll();
    world.client.batch = batch;
    const [{ seen, generation }] = await news();
    assert(generation === 1 && seen && seen.windowStartMs < seen.windowEndMs);
    world.clock.step(10_000);
    await poll();
    assert.deepEqual(await world.info('pitr-restart'), ['1']);
    await sleep(80);
    await world.client.tend();
    await news();
    await pollUntilStated(world);
    const back = (await news()).find(({ digest }) => Buffer.from(digest).equals(world.key(52).digest));
    assert.equal(back?.image && textOf(back.image), ` a:1:${value.toString(16).padStart(16, '0')}`);
    assert(back && lutOf(back) <= seen.windowEndMs);
  });

  test('a clock that is set back: nothing is lost, and the frontier waits until it is past (P8)', async () => {
    const { frontierMs } = await poll();
    world.faults.clockStepMs = -20_000;
    await world.put(60, 1);
    await world.put(51, 2);
    const report = await poll();
    assert.match(report.doubts.join(), /was set/);
    assert.match(report.waitsFor.join(), /behind the frontier/);
    assert.deepEqual([report.versions, report.late, report.isStated], [2, 2, false]);
    await world.put(61, 1);
    const next = await poll();
    assert.deepEqual([next.versions, next.isStated], [1, false]);
    for (const v of await news()) assert(v.ts > frontierMs);
    world.clock.step(25_000);
    assert.deepEqual((({ isStated, versions }) => [isStated, versions])(await poll()), [true, 0]);
    world.faults.clockStepMs = 0;
    await poll();
  });

  test('a clock that is set back by less than the filter looks back is no doubt, and nothing is lost', async () => {
    await world.put(62, 1);
    const { frontierMs } = await poll();
    world.faults.clockStepMs = -2000;
    // one keeps its LUT, which is ahead of the clock now; the other has one that was passed already
    await world.put(62, 2);
    await world.put(63, 1);
    const report = await poll();
    assert.deepEqual([report.doubts, report.versions, report.late, report.isStated], [[], 2, 2, false]);
    for (const v of (await news()).slice(-2)) assert(lutOf(v) <= frontierMs && v.ts > frontierMs);
    world.clock.step(5000);
    world.faults.clockStepMs = 0;
    world.clock.step(-2000);
    assert((await poll()).isStated);
  });

  test('a version with a bound for its LUT is told from one that was written below it, the clock being back', async (t) => {
    await world.put(65, 1);
    const { batch } = world.client;
    t.after(() => {
      world.client.batch = batch;
      world.faults.clockStepMs = 0;
    });
    world.client.batch = async (...args) => {
      await world.put(65, 2);
      return batch.apply(world.client, args);
    };
    await poll();
    world.client.batch = batch;
    const [{ seen, generation }] = await news();
    assert(seen && seen.windowStartMs < seen.windowEndMs);
    await poll();
    world.faults.clockStepMs = -40;
    await world.client.delete(world.key(65));
    for (let n = 0; n < generation; n++) await world.put(65, 3 + n);
    world.clock.step(100);
    const report = await poll();
    assert.deepEqual([report.doubts, report.versions, report.late], [[], 1, 1]);
    const [found] = await news();
    assert.deepEqual([found.generation, found.seen?.missed], [generation, generation]);
    assert(lutOf(found) <= seen.windowEndMs);
  });

  test('no read of a poll counts as a use of the record (P9)', async (t) => {
    await world.put(64, 1);
    const { batch, runAll } = world.client;
    t.after(() => {
      world.client.batch = batch;
      world.client.runAll = runAll;
    });
    const ttls: number[] = [];
    world.client.batch = (commands, ...rest) => {
      ttls.push(...commands.map(({ recordTtl }) => recordTtl));
      return batch.call(world.client, commands, ...rest);
    };
    world.client.runAll = (commands, ...rest) => {
      ttls.push(...commands.map(({ recordTtl }) => recordTtl));
      return runAll.call(world.client, commands, ...rest);
    };
    await poll();
    assert(ttls.length >= 2);
    assert.deepEqual(new Set(ttls), new Set([0xffffffff]));
  });

  test('each partition has its turn within the time of a sweep', async () => {
    await world.reopen({ groups: 2, sweepMs: 4000 });
    await poll();
    let swept = 0;
    for (let i = 0; i < 4; i++) {
      world.clock.step(1000);
      swept += (await poll()).sweptPartitions;
    }
    assert(swept >= 4096, `${swept}`);
  });

  test('many changes are read in one pass: windows, and a census after', async () => {
    await world.reopen({ groups: 2, sweepMs: 1e12, changesMax: 10 });
    await poll();
    await news();
    for (let n = 100; n < 140; n++) await world.put(n, n);
    await world.client.delete(world.key(0));
    const report = await poll();
    assert.deepEqual([report.versions, report.deleted, report.cost.reads], [41, 1, 0]);
    for (const { seen, ts } of await news()) {
      assert(seen && seen.windowStartMs < seen.windowEndMs && ts === seen.windowEndMs);
      assert(seen.windowEndMs <= world.clock.nowMs() + 2);
    }
    await world.reopen();
    assert.equal((await poll()).versions, 0);
  });

  test('builds whose scans have no LUTs are asked for them record by record', async () => {
    for (const node of world.client.nodes) Object.defineProperty(node, 'build', { value: '7.2.0.4' });
    const before = world.clock.nowMs();
    await world.put(70, 1);
    await world.put(71, 1);
    await world.client.delete(world.key(70));
    await world.put(70, 2);
    const report = await poll();
    assert.match(report.limits.join(), /do not say last updates/);
    assert.equal(report.versions, 2);
    for (const v of await news()) assert(lutOf(v) >= before && v.seen === undefined);
    await world.client.delete(world.key(71));
    assert.equal((await poll()).deleted, 1);
    for (const node of world.client.nodes) Object.defineProperty(node, 'build', { value: '8.1.2.0' });
  });
});

test('a namespace of the cluster that is not captured is said', async (t) => {
  const world = await World.open({ server: { namespaces: [NAMESPACE, 'later'] } });
  t.after(() => world.close());
  await world.begin();
  const { limits } = await world.poller.poll();
  assert.deepEqual(limits, ['namespaces that are not captured: later']);
});

describe('a base copy', () => {
  test('a truncation or a restart between looking and the first poll: copy again', async (t) => {
    const world = await World.open({ poller: { groups: 1 } });
    t.after(() => world.close());
    const copied = async (): Promise<void> => {
      const { clockMs } = await world.poller.prepare();
      assert(clockMs < world.clock.nowMs());
      await world.journal.loaded(new ContentDigest(world.journal.identity.shards), clockMs);
      world.poller.copied();
      world.clock.step(1500);
    };
    assert(world.poller.needsCopy);
    await copied();
    await world.info(`truncate:namespace=${NAMESPACE};set=s`);
    world.clock.step(5);
    // also when the capture was restarted in between
    await world.reopen();
    const truncated = await world.poller.poll();
    assert.match(`${truncated.copyAgain}`, /test\|s was truncated/);
    assert.deepEqual([truncated.isStated, truncated.versions], [false, 0]);
    await copied();
    await world.info('pitr-restart');
    await sleep(80);
    await world.client.tend();
    world.clock.step(5000);
    assert.match(`${(await world.poller.poll()).copyAgain}`, /restarted|another key/);
    await copied();
    const report = await pollUntilStated(world);
    assert.deepEqual([report.copyAgain, report.isStated], [undefined, true]);
    assert(!world.poller.needsCopy);
  });
});

describe('several nodes and namespaces', () => {
  test('one frontier for two namespaces and three nodes; partitions of others are left alone', async (t) => {
    const namespaces = [NAMESPACE, 'bar'];
    const world = await World.open({
      namespaces,
      partitions: '0-2047',
      server: { nodes: 3 },
      poller: { groups: 2 },
    });
    t.after(() => world.close());
    await world.begin();
    for (let n = 0; n < 60; n++)
      await world.client.put(world.key(n, 's', namespaces[n % 2]), [intBin('a', n)], { mode: 'replace' });
    world.clock.step(1500);
    await pollUntilStated(world);
    const { versions } = await world.log();
    assert(versions.length > 10 && versions.length < 50, `${versions.length}`);
    assert.deepEqual(new Set(versions.map((v) => v.namespace)), new Set(namespaces));
    for (const { digest } of versions) assert((digest[0] | (digest[1] << 8)) % 4096 < 2048);
    assert.equal(byDigest(versions).size, versions.length);
    await world.client.operate(world.key(0, 's', NAMESPACE), [writeOp('a', intBin('a', 7))]);
    world.clock.step(5);
    const next = await world.poller.poll();
    assert.deepEqual([next.isClockExact, next.countsOff], [true, 0]);
    // partitions go to another node
    const [to] = world.server.cluster.nodes;
    await world.info(`pitr-move:node=${to.id};partitions=1500-3000`);
    await world.client.tend();
    world.clock.step(5);
    const moved = await world.poller.poll();
    assert.match(moved.doubts.join(), /another key/);
    assert.deepEqual([moved.sweptPartitions, moved.versions, moved.isStated], [2 * 2048, 0, true]);
  });
});

/** The promises of docs/design.md, one test each, small enough to be read as their definition. */
import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import { particle } from '../engine/value.ts';
import { handover } from '../restore/handover.ts';
import { runRange } from '../restore/range-job.ts';
import { planRestore, restoreEngine, restoreJsonLines } from '../restore/restore.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { particleCorpus } from './engine/particle-corpus.ts';
import { Bench, FailingDisk, key, refused, T0 } from './promises-support.ts';
import { T0 as FOUND_FROM, FoundHistory } from './restore/found-history.ts';

test('S1: The state at T is the newest version at or before T, unless deleted, truncated or expired by then', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  const first = await engine.put(key('a'), { n: 1 });
  await engine.put(key('old', 'gone'), { n: 1 });
  clock.step(10);
  const second = await engine.put(key('a'), { n: 2 });
  await engine.put(key('new', 'gone'), { n: 2 });
  const expiring = await engine.put(key('e'), { n: 3 }, { ttl: 2 });
  clock.step(10);
  const truncated = await engine.truncate({ namespace: 'test', set: 'gone', beforeMs: second.ts });
  clock.step(10);
  const deleted = await engine.delete(key('a'));
  clock.step(10_000);
  await engine.seal();
  await archiver.archivePending();

  assert.deepEqual(await bench.valuesAt(first.ts), { a: 1, old: 1 });
  assert.deepEqual(await bench.valuesAt(second.ts - 1), { a: 1, old: 1 });
  assert.deepEqual(await bench.valuesAt(second.ts), { a: 2, old: 1, new: 2, e: 3 });
  assert.deepEqual(await bench.valuesAt(truncated.ts - 1), { a: 2, old: 1, new: 2, e: 3 });
  // what was updated at the cutoff or later stays
  assert.deepEqual(await bench.valuesAt(truncated.ts), { a: 2, new: 2, e: 3 });
  assert.deepEqual(await bench.valuesAt(deleted.ts - 1), { a: 2, new: 2, e: 3 });
  assert.deepEqual(await bench.valuesAt(deleted.ts), { new: 2, e: 3 });
  assert.deepEqual(await bench.valuesAt(`lsn:main/${second.lsn}`), await bench.valuesAt(second.ts));
  // alive throughout the second of its void time
  const voidTime = Math.floor(expiring.ts / 1000) + 2;
  assert.deepEqual(await bench.valuesAt(voidTime * 1000 + 999), { new: 2, e: 3 });
  assert.deepEqual(await bench.valuesAt((voidTime + 1) * 1000), { new: 2 });
  const line = (await bench.at(second.ts)).get('e');
  assert.equal(line?.generation, 1);
  assert.equal(line?.lastUpdate, new Date(expiring.ts).toISOString());
  assert.equal(line?.expires, new Date(voidTime * 1000).toISOString());
});

test('S2: Nothing is acknowledged when the sync fails, and what was acknowledged is there after reopening', async (t) => {
  const bench = await Bench.open(t);
  const disk = new FailingDisk();
  const { files } = disk;
  const engine = await bench.engine('main', undefined, { files });
  await engine.put(key('kept'), { n: 1 });
  disk.broken = true;
  await assert.rejects(engine.put(key('lost'), { n: 2 }), refused('log-full'));
  disk.broken = false;
  // nobody knows what the file holds now, so it takes nothing more
  await assert.rejects(engine.put(key('later'), { n: 3 }), refused('log-full'));
  await assert.rejects(engine.seal(), refused('log-full'));
  await engine.close();
  const again = await bench.reopen('main');
  assert.equal((await again.get(key('kept')))?.bins.n, 1);
  assert.equal(await again.get(key('later')), undefined);
});

test('S3: A batch is visible as a whole or not at all, and a target inside it rounds down and says so', async (t) => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  await engine.put(key('a'), { n: 0 });
  bench.clock.step(5);
  const put = (name: string) => ({ op: 'put' as const, key: key(name), bins: { n: 1 } });
  const batch = await engine.batch([put('a'), put('b'), put('c')]);
  bench.clock.step(5);
  const lastLsn = engine.lastLsn;
  const failing = [put('d'), { ...put('a'), mode: 'create' as const }];
  await assert.rejects(engine.batch(failing), refused('record-exists'));
  assert.equal(engine.lastLsn, lastLsn);
  assert.equal(await engine.get(key('d')), undefined);
  await engine.seal();
  await archiver.archivePending();

  const [{ ts }] = batch;
  assert.deepEqual(
    batch.map((o) => [o.lsn, o.ts]),
    [2, 3, 4].map((lsn) => [lsn, ts]),
  );
  for (let at = ts - 5; at < ts; at++) assert.deepEqual(await bench.valuesAt(at), { a: 0 });
  for (let at = ts; at < ts + 5; at++) assert.deepEqual(await bench.valuesAt(at), { a: 1, b: 1, c: 1 });
  const resolved = async (lsn: number) =>
    (await planRestore({ archive: bench.url, target: `lsn:main/${lsn}` })).plan.target;
  for (const lsn of [2, 3]) {
    const target = await resolved(lsn);
    assert.equal(target.ts, ts - 1);
    assert.match(target.rounded ?? '', /inside a batch/);
  }
  assert.equal((await resolved(4)).ts, ts);
  assert.equal((await resolved(4)).rounded, undefined);
});

test('S4: What is restorable ends at the slowest owner, an idle stream keeps up, a retired one no longer counts', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  const a = await bench.engine('a', '0-2047');
  clock.step(7);
  const b = await bench.engine('b', '2048-4095');
  const [shipA, shipB] = [await bench.archiver('a'), await bench.archiver('b')];
  const archive = await bench.archive();
  const seen = async () => (await ArchiveView.read(archive)).restorable;
  clock.step(100);
  const stated = { a: (await a.seal()).ts, b: 0 };
  await shipA.archivePending();
  const rangesOf = async () => (await seen()).ranges.map(({ fromTs, toTs }) => ({ fromTs, toTs }));
  // a was alone for seven ms; what came after b had joined is not known as long as b says nothing
  assert.deepEqual(await rangesOf(), [{ fromTs: T0, toTs: T0 + 6 }]);
  stated.b = (await b.seal()).ts;
  await shipB.archivePending();
  const range = (toTs: number) => [{ fromTs: T0, toTs }];
  assert.deepEqual(await rangesOf(), range(Math.min(stated.a, stated.b)));

  // a goes on and has much to say; b has nothing, but it says so
  clock.step(1000);
  await a.put({ namespace: 'test', digest: Buffer.alloc(20) }, { n: 1 });
  const ahead = (await a.seal()).ts;
  await shipA.archivePending();
  const limited = await seen();
  assert.deepEqual([limited.contiguousEnd, limited.maxEnd, limited.limitedBy], [stated.b, ahead, 'b']);
  await b.seal();
  await shipB.archivePending();
  assert.deepEqual(await rangesOf(), range(ahead));

  const partitions = PartitionSet.parse('2048-4095');
  await handover({ from: b, to: a, partitions, archive, fromArchiver: shipB });
  clock.step(1000);
  const alone = (await a.seal()).ts;
  await shipA.archivePending();
  assert.deepEqual(await rangesOf(), range(alone));
});

test('S5: A target outside the restorable range is refused with its neighbours and makes nothing; a mark is exact', async (t) => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  await engine.put(key('a'), { n: 1 });
  const mark = await engine.mark('before-release');
  await engine.put(key('a'), { n: 2 });
  const end = (await engine.seal()).ts;
  await archiver.archivePending();

  const restore = (target: string) =>
    restoreEngine(bench.path('restored'), 'r', {
      archive: bench.url,
      target,
      workers: 0,
      clock: bench.clock,
    });
  const iso = (ts: number) => new Date(ts).toISOString();
  await assert.rejects(restore(String(end + 1)), (error) => {
    assert(refused('target-future')(error));
    assert.equal((error as PitrError).facts.nearest, iso(end));
    return true;
  });
  await assert.rejects(restore(String(T0 - 1)), (error) => {
    assert(refused('target-nodata')(error));
    assert.equal((error as PitrError).facts.after, iso(T0));
    return true;
  });
  await assert.rejects(restore('mark:never-made'), refused('mark-unknown'));
  await assert.rejects(fs.stat(bench.path('restored')), { code: 'ENOENT' });
  assert.deepEqual(await bench.valuesAt('mark:before-release'), { a: 1 });
  assert.equal(
    (await planRestore({ archive: bench.url, target: 'mark:before-release' })).plan.target.ts,
    mark.ts,
  );
  assert.deepEqual(await bench.valuesAt('latest'), { a: 2 });
  assert.deepEqual(await bench.valuesAt(end), { a: 2 });
});

test('S6: The log replayed over a store that has part of it, and a run merged twice, give the same state', async (t) => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  for (let i = 0; i < 20; i++) {
    bench.clock.step(1);
    await engine.put(key(i % 7), { n: i });
    if (i % 5 === 4) await engine.delete(key((i + 1) % 3));
    // at the cutoff itself a record stays
    if (i === 15) await engine.truncate({ namespace: 'test', beforeMs: bench.clock.nowMs() });
    if (i === 10) {
      await engine.sealApplied();
      await fs.cp(join(engine.dir, 'store'), bench.path('store-of-then'), { recursive: true });
    }
  }
  await engine.seal();
  const { digests } = engine;
  const scanned = async () => {
    const records: string[] = [];
    for await (const r of again.scan())
      records.push(`${r.digest.toString('hex')} ${r.generation} ${r.bins.n}`);
    return records;
  };
  let again = engine;
  const expected = await scanned();
  await engine.close();
  await fs.rm(join(engine.dir, 'store'), { recursive: true });
  await fs.cp(bench.path('store-of-then'), join(engine.dir, 'store'), { recursive: true });
  again = await bench.reopen('main');
  assert(again.report.versions > 0, 'there was something to replay');
  assert.deepEqual(await scanned(), expected);
  assert.deepEqual(again.digests, digests);

  await archiver.archivePending();
  const archive = await bench.archive();
  const { plan } = await planRestore({ archive, target: 'latest' });
  const digestOf = async (runs: typeof plan.state.runs) => {
    const job = {
      selection: {},
      ttl: { mode: 'absolute', seconds: 0 },
      output: 'store',
      shards: 16,
    } as const;
    const range = { start: 0, end: 4096 };
    return (await runRange(archive, { ...job, plan: { ...plan.state, runs } }, range, async () => {})).digest;
  };
  assert.deepEqual(await digestOf([...plan.state.runs, ...plan.state.runs]), await digestOf(plan.state.runs));
  assert.deepEqual(await digestOf(plan.state.runs), digests);
});

test('S7: A record is not certain at T if versions before the next one were missed, or T is in a window, and that is said', async (t) => {
  const history = await FoundHistory.open();
  t.after(() => history.close());
  const exact = (lutMs: number) => ({
    lutMs,
    windowStartMs: lutMs,
    windowEndMs: lutMs,
    missed: 0,
    missedAfterMs: 0,
  });
  const at = (ms: number) => FOUND_FROM + ms;
  const put = (name: string, value: number | undefined, seen: ReturnType<typeof exact>) =>
    history.find({ key: name, set: 's', value, voidTime: 0, seen });
  put('a', 1, exact(at(1)));
  put('b', 1, exact(at(1)));
  // a came again at 5, after two versions that nobody saw; b went some time after 3, and was gone at 6
  put('a', 4, { ...exact(at(5)), missed: 2 });
  put('b', undefined, { ...exact(at(6)), windowStartMs: at(3) });
  await history.seal(at(7));
  // c was found after the frontier had passed it: it is there from 8 on, and was from 4 on
  put('c', 1, { ...exact(at(4)), windowEndMs: at(7) });
  await history.seal(at(9));
  await history.ship();
  const said: Record<number, object> = {};
  const { archive, clock } = history;
  for (let i = 1; i <= 9; i++) {
    const options = { archive, target: String(at(i)), workers: 0, clock };
    const { inexact } = await restoreJsonLines(async () => undefined, options);
    if (inexact.records > 0) said[i] = Object.values(inexact);
    const strict = restoreJsonLines(async () => undefined, { ...options, strict: true });
    await (inexact.records > 0 ? assert.rejects(strict, refused('inexact')) : strict);
  }
  // records, of which versions were missed, of which in a window
  assert.deepEqual(said, {
    1: [1, 1, 0],
    2: [1, 1, 0],
    3: [1, 1, 0],
    4: [3, 1, 2],
    5: [2, 0, 2],
    6: [2, 0, 2],
    7: [1, 0, 1],
  });
});

test('S8: A restore overwrites nothing, and writing to what it made leaves the old history as it was', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  const { ts: past } = await engine.put(key('a'), { n: 1 });
  clock.step(10);
  const { ts: chosen } = await engine.put(key('b'), { n: 2 });
  clock.step(10);
  await engine.put(key('a'), { n: 3 });
  await engine.delete(key('b'));
  const { ts: end } = await engine.seal();
  await archiver.archivePending();
  const old = { timeline: engine.identity.timeline };
  const options = { archive: bench.url, target: String(chosen), workers: 0, clock, ...old };

  await fs.mkdir(bench.path('precious'));
  await fs.writeFile(join(bench.path('precious'), 'file'), 'mine');
  await assert.rejects(restoreEngine(bench.path('precious'), 'r', options), refused('target-not-empty'));
  await assert.rejects(restoreEngine(engine.dir, 'r', options), refused('target-not-empty'));
  assert.deepEqual(await fs.readdir(bench.path('precious')), ['file']);
  assert.equal((await engine.get(key('a')))?.bins.n, 3);

  clock.step(1000);
  await restoreEngine(bench.path('fork'), 'r', options);
  const fork = await bench.reopen('fork');
  const shipFork = await bench.archiver('fork');
  const branch = { timeline: fork.identity.timeline };
  const { ts: written } = await fork.put(key('a'), { n: 100 });
  await fork.delete(key('b'));
  await fork.seal();
  await shipFork.archivePending();

  assert.deepEqual(await bench.valuesAt('latest', branch), { a: 100 });
  assert.deepEqual(await bench.valuesAt(written - 1, branch), { a: 1, b: 2 });
  assert.deepEqual(await bench.valuesAt(chosen + 1, branch), { a: 1, b: 2 });
  assert.deepEqual(await bench.valuesAt(chosen, branch), { a: 1, b: 2 });
  assert.deepEqual(await bench.valuesAt(past, branch), { a: 1 });
  assert.deepEqual(await bench.valuesAt(end, old), { a: 3 });
  assert.deepEqual(await bench.valuesAt(chosen, old), { a: 1, b: 2 });
  await assert.rejects(bench.valuesAt(end + 1, old), refused('target-elsewhere'));
});

test('S9: Every particle comes back bit for bit from the log, from the archive and from a restore', async (t) => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  const ops = particleCorpus.map(({ type, bytes }, i) => ({
    op: 'put' as const,
    key: key(i),
    bins: { v: particle(type, bytes) },
  }));
  await engine.batch(ops);
  await engine.close();
  // without its store an engine has nothing but the log
  await fs.rm(join(engine.dir, 'store'), { recursive: true });
  const replayed = await bench.reopen('main');
  assert.equal(replayed.report.versions, particleCorpus.length);
  await archiver.archivePending();
  await restoreEngine(bench.path('restored'), 'r', { archive: bench.url, target: 'latest', workers: 0 });
  const restored = await bench.reopen('restored');
  for (const [where, from] of Object.entries({ log: replayed, restore: restored }))
    for (const [i, { name, type, bytes }] of particleCorpus.entries()) {
      const found = (await from.get(key(i)))?.particles.get('v');
      assert.equal(found?.type, type, `type of ${name} from the ${where}`);
      assert(Buffer.from(bytes).equals(found.bytes), `bytes of ${name} from the ${where}`);
    }
});

test('S10: A restore keeps the time that was left at T, or the void time, or lets nothing expire', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  const engine = await bench.engine();
  const archiver = await bench.archiver();
  await engine.put(key('short'), { n: 1 }, { ttl: 5 });
  const { ts } = await engine.put(key('long'), { n: 2 }, { ttl: 100 });
  await engine.put(key('always'), { n: 3 });
  clock.step(10_000);
  await engine.seal();
  await archiver.archivePending();
  clock.step(1_000_000);

  const seconds = Math.floor(ts / 1000);
  const voidTimes = async (name: string, target: number, ttl: 'remaining' | 'absolute' | 'never') => {
    const options = { archive: bench.url, target: String(target), workers: 0, clock, ttl };
    await restoreEngine(bench.path(name), name, options);
    // read at the target: what is past its void time by now does not show otherwise
    const store = await bench.reopen(name, { clock: { nowMs: () => target } });
    const found: Record<string, number> = {};
    for await (const r of store.scan()) found[Number(r.bins.n)] = r.voidTime - seconds;
    return found;
  };
  const never = -seconds;
  assert.deepEqual(await voidTimes('absolute', ts, 'absolute'), { 1: 5, 2: 100, 3: never });
  assert.deepEqual(await voidTimes('remaining', ts, 'remaining'), { 1: 5 + 1010, 2: 100 + 1010, 3: never });
  assert.deepEqual(await voidTimes('never', ts, 'never'), { 1: never, 2: never, 3: never });
  // what had expired by T stays away, and of the other 93 seconds are left
  const later = ts + 7000;
  assert.deepEqual(await voidTimes('later', later, 'remaining'), { 2: 1010 + 93, 3: never });
  assert.deepEqual(await voidTimes('later-never', later, 'never'), { 2: never, 3: never });
});

test('F1: No version gets a ts at or below a published frontier, whatever the clock does', async (t) => {
  const bench = await Bench.open(t);
  const { clock } = bench;
  let engine = await bench.engine();
  const archiver = await bench.archiver();
  await engine.put(key('a'), { n: 1 });
  const published = async () => {
    await engine.seal();
    await archiver.archivePending();
    return archiver.head.frontier.ts;
  };
  let frontier = await published();
  for (const step of [0, -60_000, 0, 5, -3_600_000]) {
    clock.step(step);
    assert((await engine.put(key('b'), { n: step })).ts > frontier);
    assert.deepEqual(await bench.valuesAt(T0), { a: 1 });
    frontier = await published();
    assert.deepEqual(await bench.valuesAt(T0), { a: 1 });
  }
  await engine.close();
  engine = await bench.reopen('main');
  assert((await engine.truncate({ namespace: 'test' })).ts > frontier);
  frontier = await published();
  assert((await engine.mark('m')).ts > frontier);
});

test('F2: ts never falls along a stream: not when the clock steps back, and not over a restart', async (t) => {
  const bench = await Bench.open(t);
  let engine = await bench.engine();
  let last = 0;
  for (let i = 0; i < 30; i++) {
    bench.clock.step([3, -1000, 0, 2000, -50][i % 5]);
    const { ts, lsn } = await engine.put(key(i), { n: i });
    assert.equal(lsn, i + 1);
    assert(ts >= last && ts >= bench.clock.nowMs());
    last = ts;
    if (i % 7 !== 6) continue;
    await engine.close();
    bench.clock.step(-5000);
    engine = await bench.reopen('main');
  }
});

test('F3: The frontier of a seal covers all that was given a ts so far, and that ts is not given out again', async (t) => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  const written: Promise<{ ts: number; lsn: number }>[] = [];
  const stated: Promise<{ ts: number; lsn: number }>[] = [];
  for (let i = 0; i < 200; i++) {
    written.push(engine.put(key(i), { n: i }));
    if (i % 5 === 0) stated.push(engine.seal());
    if (i % 3 === 0) await Promise.resolve();
    if (i % 20 === 0) await Promise.all([...written, ...stated]);
  }
  const versions = await Promise.all(written);
  for (const frontier of await Promise.all(stated))
    for (const v of versions)
      assert.equal(
        v.ts <= frontier.ts,
        v.lsn <= frontier.lsn,
        `frontier ${frontier.ts} at LSN ${frontier.lsn}, version ${v.ts} at LSN ${v.lsn}`,
      );
});

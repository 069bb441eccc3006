/** The promises of docs/design.md section 3, one test each, small enough to be read as their definition. */
import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ErrorId, PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { PartitionSet } from '../engine/partition.ts';
import { particle } from '../engine/value.ts';
import { handover } from '../restore/handover.ts';
import { runRange } from '../restore/range-job.ts';
import { planRestore, restoreEngine } from '../restore/restore.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { particleCorpus } from './engine/particle-corpus.ts';
import { Bench, key, T0 } from './promises-support.ts';

const refused = (id: ErrorId) => (error: unknown) => error instanceof PitrError && error.id === id;

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
  let broken = false;
  const files: Files = {
    ...nodeFiles,
    createNew: async (path) => {
      const file = await nodeFiles.createNew(path);
      return {
        append: (bytes) => file.append(bytes),
        close: () => file.close(),
        sync: async () => {
          if (broken) throw Object.assign(new Error('disk'), { code: 'EIO' });
          await file.sync();
        },
      };
    },
  };
  const engine = await bench.engine('main', undefined, { files });
  await engine.put(key('kept'), { n: 1 });
  broken = true;
  await assert.rejects(engine.put(key('lost'), { n: 2 }), refused('log-full'));
  broken = false;
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
  assert.deepEqual((await seen()).ranges, []);
  stated.b = (await b.seal()).ts;
  await shipB.archivePending();
  const range = (toTs: number) => [{ fromTs: T0 + 7, toTs }];
  const rangesOf = async () => (await seen()).ranges.map(({ fromTs, toTs }) => ({ fromTs, toTs }));
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
    if (i % 5 === 4) await engine.delete(key(i % 3));
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

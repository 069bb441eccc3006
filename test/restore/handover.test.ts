import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { callDoor } from '../../engine/door.ts';
import { newIdentity, writeIdentity } from '../../engine/identity.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { handover, handoverDirs } from '../../restore/handover.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { Archiver } from '../../wal/archiver.ts';
import type { Engine } from '../../wal/engine.ts';
import { Bench, key, refused } from '../promises-support.ts';

const all = PartitionSet.all;
const counted = (engine: Engine): number => engine.digests.reduce((sum, d) => sum + d.records, 0);
const live = async (engine: Engine): Promise<number> => {
  let records = 0;
  for await (const _ of engine.scan()) records++;
  return records;
};

/** Engine a with `records`, and engines that own nothing yet. */
const benchWith = async (t: TestContext, records: number, ...others: string[]) => {
  const bench = await Bench.open(t);
  const a = await bench.engine('a');
  for (let i = 0; i < records; i++) await a.put(key(i), { n: 'old' });
  const rest = [];
  for (const name of others) rest.push(await bench.engine(name, 'none'));
  return { bench, a, rest, shipA: await bench.archiver('a'), archive: await bench.archive() };
};

test('H1 H2: A hand-over that is repeated keeps what the new owner has acknowledged since, and the digest', async (t) => {
  const { bench, a, rest, shipA, archive } = await benchWith(t, 20, 'b');
  const shipB = await bench.archiver('b');
  let b = rest[0];
  const args = { from: a, partitions: all, archive, fromArchiver: shipA };
  const first = await handover({ ...args, to: b });
  assert.equal(first.records, 20);
  await b.put(key(1), { n: 'new' });
  await b.delete(key(2));
  assert.deepEqual(await handover({ ...args, to: b }), { ...first, records: 0 });
  await b.seal();
  await shipB.archivePending();
  assert.deepEqual(await handover({ ...args, to: b }), { ...first, records: 0 });
  await b.close();
  b = await bench.reopen('b');
  assert.deepEqual(await handover({ ...args, to: b }), { ...first, records: 0 });
  assert.equal((await b.get(key(1)))?.bins.n, 'new');
  assert.deepEqual([await live(b), counted(b)], [19, 19]);
  bench.clock.step(1000);
  for (const engine of [a, b]) await engine.seal();
  for (const archiver of [shipA, shipB]) await archiver.archivePending();
  const { records, verification } = await restoreEngine(bench.path('r'), 'r', {
    archive: bench.url,
    target: 'latest',
    workers: 0,
    clock: bench.clock,
  });
  assert.deepEqual([records, verification.source], [19, 'equal']);
});

test('H2: A hand-over that is repeated after the partitions were passed on is refused', async (t) => {
  const { bench, a, rest, shipA, archive } = await benchWith(t, 5, 'b', 'c');
  const [b, c] = rest;
  const shipB = await bench.archiver('b');
  const toB = { from: a, to: b, partitions: all, archive, fromArchiver: shipA };
  await handover(toB);
  await handover({ from: b, to: c, partitions: all, archive, fromArchiver: shipB });
  await c.put(key(1), { n: 'new' });
  await assert.rejects(handover(toB), refused('ownership-conflict'));
  assert.deepEqual([b.partitions.size, c.partitions.size, await live(c)], [0, 4096, 5]);
});

test('H1: A hand-over that was killed between release and archiving is finished without an agent', async (t) => {
  const { bench, a, rest, shipA, archive } = await benchWith(t, 5, 'b');
  const { ts } = await a.release(all, 'b');
  for (const it of [a, shipA, ...rest]) await it.close();
  const run = async () => {
    const archiver = await Archiver.open(bench.path('a'), { clock: bench.clock });
    const options = { partitions: all, archive, waitMs: 2000, ship: () => archiver.archivePending() };
    try {
      return await handoverDirs(bench.path('a'), bench.path('b'), options);
    } finally {
      await archiver.close();
    }
  };
  const done = await run();
  assert.deepEqual([done.records, done.released.ts], [5, ts]);
  assert.deepEqual(await run(), { ...done, records: 0 });
  assert.equal(await live(await bench.reopen('b')), 5);
});

test('H1: A release that was not followed up is found behind a later hand-over of other partitions', async (t) => {
  const { a, rest, shipA, archive } = await benchWith(t, 300, 'b', 'c');
  const [b, c] = rest;
  const low = PartitionSet.parse('0-999');
  const released = await a.release(low, 'b');
  await a.seal();
  await shipA.archivePending();
  const args = { from: a, archive, fromArchiver: shipA };
  await handover({ ...args, to: c, partitions: PartitionSet.parse('1000-1999') });
  const done = await handover({ ...args, to: b, partitions: low });
  assert.equal(done.released.lsn, released.lsn);
  assert(done.records > 0);
  const lives = await Promise.all([a, b, c].map(live));
  assert.deepEqual(lives, [a, b, c].map(counted));
  assert.equal(
    lives.reduce((sum, n) => sum + n),
    300,
  );
});

test('A hand-over is refused before the release when the archive lacks a part of the log', async (t) => {
  const { bench, a, rest, shipA, archive } = await benchWith(t, 10, 'b');
  await a.close();
  const next = await bench.reopen('a');
  await next.put(key(10), { n: 'old' });
  await next.close();
  const log = join(bench.path('a'), 'log');
  await fs.rm(join(log, (await fs.readdir(log)).sort()[0]));
  const again = await bench.reopen('a');
  // the agent has not even seen the gap
  const done = handover({ from: again, to: rest[0], partitions: all, archive, fromArchiver: shipA });
  await assert.rejects(done, refused('handover-incomplete'));
  assert.deepEqual([again.partitions.size, rest[0].partitions.size], [4096, 0]);
  assert.equal(await live(again), 11);
  await again.put(key(1), { n: 'new' });
});

test('A hand-over is refused before the release on a detached timeline without base copy', async (t) => {
  const { bench, a, shipA } = await benchWith(t, 10);
  await a.seal();
  await shipA.archivePending();
  const options = { archive: bench.url, workers: 0, clock: bench.clock, selection: { sets: ['s'] } };
  await restoreEngine(bench.path('copy'), 'copy', { ...options, target: 'latest' });
  const copy = await bench.reopen('copy');
  const shipCopy = await bench.archiver('copy');
  const { timeline, archive: archiveId } = copy.identity;
  assert(copy.identity.detached && archiveId);
  await fs.mkdir(bench.path('b'));
  const b = newIdentity(
    { stream: 'b', timeline, partitions: 'none', archive: archiveId },
    bench.clock.nowMs(),
  );
  await writeIdentity(bench.path('b'), b);
  const to = await bench.reopen('b');
  const archive = await bench.archive();
  const done = handover({ from: copy, to, partitions: all, archive, fromArchiver: shipCopy });
  await assert.rejects(done, refused('handover-incomplete'));
  assert.equal(copy.partitions.size, 4096);
  assert.equal(await live(copy), 10);
});

test('E9: The release in the archive has the digest of what was given up', async (t) => {
  const { a, rest, shipA, archive } = await benchWith(t, 20, 'b');
  const { digests } = a;
  await handover({ from: a, to: rest[0], partitions: all, archive, fromArchiver: shipA });
  const events = await archive.events(shipA.head.runs.flatMap((r) => r.segments));
  const release = events.find((e) => e.kind === 'ownership');
  assert.deepEqual(release?.digests, digests);
});

test('A hand-over to itself or of nothing is refused', async (t) => {
  const { a, rest, shipA, archive } = await benchWith(t, 1, 'b');
  const args = { from: a, archive, fromArchiver: shipA };
  await assert.rejects(handover({ ...args, to: a, partitions: all }), refused('usage'));
  await assert.rejects(handover({ ...args, to: rest[0], partitions: PartitionSet.none }), refused('usage'));
  assert.equal(a.partitions.size, 4096);
});

test('H1: A hand-over between engines that are open elsewhere goes on after a call of the door that timed out', async (t) => {
  const { bench, a, rest, shipA, archive } = await benchWith(t, 3000, 'b');
  const args = { partitions: '0-4095', peer: 'b' };
  // whether it was done is unknown to who asked
  await callDoor(a.dir, 'release', args, { timeoutMs: 1 }).catch(() => undefined);
  const options = { partitions: all, archive, ship: () => shipA.archivePending() };
  const done = await handoverDirs(a.dir, rest[0].dir, options);
  assert.equal(done.records, 3000);
  assert.deepEqual(await handoverDirs(a.dir, rest[0].dir, options), { ...done, records: 0 });
  assert.deepEqual([a.partitions.size, await live(rest[0]), counted(rest[0])], [0, 3000, 3000]);
  assert.deepEqual(
    await fs.readdir(bench.path('b')).then((names) => names.filter((n) => n.endsWith('.records'))),
    [],
  );
});

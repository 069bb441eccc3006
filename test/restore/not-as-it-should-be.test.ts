/** A restore that cannot be what was asked for says so: threads that end, names that collide or cannot be, a copy that differs. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { RangePool } from '../../restore/range-pool.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot, listSnapshots } from '../../snapshot/snapshots.ts';
import { withLease } from '../../wal/lease.ts';
import { Bench, key, refused } from '../promises-support.ts';

/** An archive with the same user keys in sets `a` and `b`. */
const archived = async (t: TestContext): Promise<Bench> => {
  const bench = await Bench.open(t);
  const engine = await bench.engine();
  bench.clock.step(10);
  for (let i = 0; i < 20; i++) for (const set of ['a', 'b']) await engine.put(key(i, set), { n: i });
  await engine.close();
  const archiver = await bench.archiver();
  await archiver.archivePending();
  await archiver.close();
  return bench;
};

const into = (bench: Bench, name: string, more: object = {}) =>
  restoreEngine(bench.path(name), undefined, {
    archive: bench.url,
    target: 'latest',
    workers: 0,
    clock: bench.clock,
    ...more,
  });

test('threads that have ended before there is work: the restore fails, it does not wait', {
  timeout: 20_000,
}, async (t) => {
  const bench = await archived(t);
  const kill = (thread: Worker): void => void thread.terminate();
  process.on('worker', kill);
  t.after(() => void process.off('worker', kill));
  const pool = new RangePool(await bench.archive(), 1);
  await sleep(200);
  await assert.rejects(pool.digest(bench.path('none'), undefined as never, 16), refused('internal'));
  await pool.close();
});

test('two records that get one name are refused, also when nothing is read back', async (t) => {
  const bench = await archived(t);
  for (const [i, verify] of [true, false].entries())
    await assert.rejects(
      into(bench, `r${i}`, { verify, selection: { renameSets: { a: 'b' } } }),
      /20 of 40 records have the new name of another one/,
    );
  const { records } = await into(bench, 'other', { selection: { renameSets: { a: 'c' } } });
  assert.equal(records, 40);
});

test('new names that no record can have are refused before a directory is made', async (t) => {
  const bench = await archived(t);
  for (const selection of [
    { renameNamespaces: { test: 'n'.repeat(32) } },
    { renameNamespaces: { test: '' } },
    { renameSets: { a: 's'.repeat(64) } },
    { renameSets: { a: 'x\0y' } },
  ])
    await assert.rejects(into(bench, 'r', { selection }), refused('bad-record'));
  await assert.rejects(fs.stat(bench.path('r')), { code: 'ENOENT' });
});

test('what failed its verification is not gone on with', async (t) => {
  const bench = await archived(t);
  const collide = { selection: { renameSets: { a: 'b' } } };
  await assert.rejects(into(bench, 'r', collide), refused('verification-failed'));
  await assert.rejects(fs.stat(join(bench.path('r'), 'restoring.progress')), { code: 'ENOENT' });
  // begun it still is: the same command makes it from the beginning
  assert.ok((await fs.readdir(bench.path('r'))).includes('restoring.json'));
});

test('a snapshot is not deleted from under who reads it', async (t) => {
  const bench = await archived(t);
  const archive = await bench.archive();
  await createSnapshot(archive, { kind: 'synthetic', label: 'one' });
  await withLease(archive, 'restore', async () => {
    const [{ name }] = await listSnapshots(archive);
    const { frees } = await deleteSnapshot(archive, 'one');
    assert.deepEqual([frees.readers, await listSnapshots(archive)], [['restore'], []]);
    bench.clock.step(3_600_000);
    await createSnapshot(archive, { kind: 'full' });
    assert.ok(await archive.store.size(name), 'it is still read');
  });
});

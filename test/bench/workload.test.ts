import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BATCH, engineDir } from '../../cli/bench/database.ts';
import { isolated } from '../../cli/bench/isolate.ts';
import { compareJob, restoreRuns } from '../../cli/bench/restore-rate.ts';
import { buildDatabase } from '../../cli/bench/steps.ts';
import { type Change, VALUE_BYTES, Workload } from '../../cli/bench/workload.ts';
import { Engine } from '../../index.ts';

const changesOf = (records: number, seed: number, batches: number): Change[][] => {
  const workload = new Workload(records, seed);
  return Array.from({ length: batches }, () => workload.nextBatch(BATCH));
};

/** A plain map of key → value that follows the changes. */
const follow = (workload: Workload, changes: readonly Change[]): Map<number, string> => {
  const map = new Map<number, string>();
  for (let key = 0; key < workload.records; key++) map.set(key, workload.value(key, 0).toString('hex'));
  for (const { kind, key, version } of changes) {
    assert.equal(map.has(key), kind !== 'insert', `${kind} of ${key}`);
    if (kind === 'delete') map.delete(key);
    else map.set(key, workload.value(key, version).toString('hex'));
  }
  return map;
};

describe('the workload of the benchmarks', () => {
  test('is the same for the same seed, and another for another', () => {
    assert.deepEqual(changesOf(1000, 7, 20), changesOf(1000, 7, 20));
    assert.notDeepEqual(changesOf(1000, 7, 20), changesOf(1000, 8, 20));
    assert.ok(new Workload(10, 7).value(3, 4).equals(new Workload(99, 7).value(3, 4)));
    assert.ok(!new Workload(10, 7).value(3, 4).equals(new Workload(10, 8).value(3, 4)));
  });

  test('has 80 % updates, 10 % inserts, 10 % deletes, and no record twice in a batch', () => {
    const batches = changesOf(20_000, 1, 1000);
    const count = (kind: Change['kind']): number => batches.flat().filter((c) => c.kind === kind).length;
    assert.ok(Math.abs(count('update') - 80_000) < 1000, `${count('update')} updates`);
    assert.ok(Math.abs(count('insert') - 10_000) < 500, `${count('insert')} inserts`);
    assert.ok(Math.abs(count('delete') - 10_000) < 500, `${count('delete')} deletes`);
    for (const batch of batches) assert.equal(new Set(batch.map((c) => c.key)).size, BATCH);
  });

  test('values have 200 bytes: 48 random ones repeated, or 32 and a constant', () => {
    const workload = new Workload(10);
    const inserted = workload.value(1, 0);
    const updated = [workload.value(1, 1), workload.value(2, 9)];
    for (const value of [inserted, ...updated]) assert.equal(value.length, VALUE_BYTES);
    assert.ok(inserted.subarray(0, 48).equals(inserted.subarray(48, 96)));
    assert.ok(updated[0].subarray(32).equals(updated[1].subarray(32)));
    assert.ok(!updated[0].subarray(0, 32).equals(updated[1].subarray(0, 32)));
  });

  for (const records of [0, 1, 50, 3000])
    test(`its truth is that of a plain map, from ${records} records`, () => {
      const workload = new Workload(records, 3);
      const changes = Array.from({ length: 60 }, () => workload.nextBatch(BATCH)).flat();
      const map = follow(workload, changes);
      assert.equal(workload.count, map.size);
      for (let key = 0; key < records + changes.length; key++)
        assert.equal(workload.expected(key)?.toString('hex'), map.get(key), `key ${key}`);
      // whoever skips the writing knows the same
      const skipped = new Workload(records, 3).skipTo(changes.length, BATCH);
      assert.equal(skipped.count, map.size);
      assert.deepEqual(skipped.nextBatch(BATCH), workload.nextBatch(BATCH));
    });
});

describe('a database of the benchmarks', () => {
  const database = { dir: '', records: 700, seed: 5 };
  let root = '';
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'pitr-bench-test-'));
    database.dir = join(root, 'database');
  });
  after(() => rm(root, { recursive: true, force: true }));

  test('is restored to the middle of its changes, where a plain map agrees with it, and so does the comparison', async () => {
    const { value: built } = await buildDatabase({ ...database, changes: 1100 });
    assert.equal(built.changesBefore, 550);
    const into = join(root, 'restored');
    const args = { dir: database.dir, into, target: String(built.targetTs), verify: true, workers: 0 };
    const figures = await restoreRuns(2, args, true);
    const workload = new Workload(database.records, database.seed);
    const changes = [100, 100, 100, 100, 100, 50].flatMap((size) => workload.nextBatch(size));
    const map = follow(workload, changes);
    assert.equal(figures.records, map.size);
    const engine = await Engine.open({ dir: into });
    for await (const record of engine.scan({ namespace: 'bench', set: 'core' })) {
      const key = Number(Buffer.from(record.key?.bytes ?? []).readBigInt64BE());
      const value = Buffer.from(record.particles.get('value')?.bytes ?? []);
      assert.equal(value.toString('hex'), map.get(key), `key ${key}`);
      map.delete(key);
    }
    await engine.close();
    assert.equal(map.size, 0);
    const at = (n: number) => ({ ...database, dir: into, steps: [{ changes: n, batchSize: BATCH }] });
    await isolated(compareJob, at(550));
    await assert.rejects(isolated(compareJob, at(551)), /not what the workload wrote|the workload has/);
    // the live engine has all changes
    const steps = [550, 1100].map((n) => ({ changes: n, batchSize: BATCH }));
    await isolated(compareJob, { ...database, dir: engineDir(database.dir), steps });
  });
});

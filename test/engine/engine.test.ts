/** The engine as a program uses it; histories and promises are tested in test/model and test/promises.test.ts. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Store } from '../../engine/store.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-engine-'));
after(() => rmSync(root, { recursive: true }));
const is = (id: ErrorId) => (e: unknown) => e instanceof PitrError && e.id === id;
const open = (name: string, clock?: ManualClock) =>
  Engine.open({ dir: join(root, name), sealMs: 0, shards: 32, ...(clock ? { clock } : {}) });
const keyOf = (key: number, set = 's') => ({ namespace: 'test', set, key });

test('put merges bins, null removes one, replace drops the others, create and update-only check', async () => {
  const engine = await open('modes');
  await engine.put(keyOf(1), { a: 1, b: 'x' });
  await engine.put(keyOf(1), { a: 2, c: true });
  assert.deepEqual((await engine.get(keyOf(1)))?.bins, { a: 2, b: 'x', c: true });
  await engine.put(keyOf(1), { b: null });
  await engine.put(keyOf(1), { d: [1, 'two'] }, { mode: 'replace' });
  const record = await engine.get(keyOf(1));
  assert.deepEqual([Object.keys(record?.bins ?? {}), record?.generation], [['d'], 4]);
  await assert.rejects(engine.put(keyOf(1), { a: 1 }, { mode: 'create' }), is('record-exists'));
  await assert.rejects(engine.put(keyOf(2), { a: 1 }, { mode: 'update-only' }), is('record-not-found'));
  await assert.rejects(engine.put(keyOf(2), { 'a name that is too long': 1 }), is('bad-record'));
  await engine.close();
});

test('a generation check sees a write that is still under way', async () => {
  const engine = await open('generation');
  await engine.put(keyOf(1), { n: 0 });
  const [first, second] = await Promise.allSettled([
    engine.put(keyOf(1), { n: 1 }, { generation: 1 }),
    engine.put(keyOf(1), { n: 2 }, { generation: 1 }),
  ]);
  assert.equal(first.status, 'fulfilled');
  assert.ok(second.status === 'rejected' && is('generation-mismatch')(second.reason));
  assert.equal((await engine.get(keyOf(1)))?.bins.n, 1);
  await engine.close();
});

test('a record with a TTL is there until the second after it has passed, and touch prolongs it', async () => {
  const clock = new ManualClock(1_900_000_000_000);
  const engine = await open('ttl', clock);
  await engine.put(keyOf(1), { n: 1 }, { ttl: 10 });
  clock.step(10_999);
  assert.ok(await engine.get(keyOf(1)));
  clock.step(1);
  assert.equal(await engine.get(keyOf(1)), undefined);
  await engine.put(keyOf(2), { n: 1 }, { ttl: 10 });
  await engine.touch(keyOf(2), { ttl: 100 });
  clock.step(60_000);
  assert.equal((await engine.get(keyOf(2)))?.generation, 2);
  await engine.close();
});

test('E5: a record that takes the place of an expired one of another set leaves the running digest that of what is there', async () => {
  const clock = new ManualClock(1_900_000_000_000);
  const engine = await open('other-set', clock);
  const digest = Buffer.alloc(20, 7);
  await engine.put({ namespace: 'test', set: 'old', digest }, { n: 1 }, { ttl: 10 });
  await assert.rejects(engine.put({ namespace: 'test', set: 'new', digest }, { n: 2 }), is('bad-record'));
  clock.step(11_000);
  await engine.put({ namespace: 'test', set: 'new', digest }, { n: 2 });
  await engine.sealApplied();
  const { digests } = engine;
  await engine.close();
  const store = Store.open(join(root, 'other-set'), { readOnly: true });
  assert.deepEqual(store.contentDigest(32).toShards(), digests);
  await store.close();
});

test('a scan reads one snapshot, in partition order, while writers go on', async () => {
  const engine = await open('scan');
  for (let from = 0; from < 2000; from += 500)
    await engine.batch(
      Array.from({ length: 500 }, (_, i) => ({ op: 'put' as const, key: keyOf(from + i), bins: { n: 1 } })),
    );
  let scanned = 0;
  let last = -1;
  let writing: Promise<unknown> = Promise.resolve();
  for await (const record of engine.scan({ namespace: 'test', set: 's' })) {
    if (scanned === 0)
      writing = Promise.all(Array.from({ length: 2000 }, (_, key) => engine.put(keyOf(key), { n: 2 })));
    if (scanned === 1000) await writing;
    assert.equal(record.bins.n, 1, 'nothing that was written after the scan began');
    assert.ok(record.partition >= last);
    last = record.partition;
    scanned++;
  }
  assert.equal(scanned, 2000);
  const some = PartitionSet.parse('0-999');
  for await (const record of engine.scan({ partitions: some }))
    assert.deepEqual([record.bins.n, some.has(record.partition)], [2, true]);
  await engine.close();
});

test('opening after a crash replays what the store lacks, and says what it did', async () => {
  const engine = await open('crash');
  await engine.put(keyOf(1), { n: 1 });
  await engine.seal();
  // acknowledged, but not in the store yet: this is what a kill would leave
  const acknowledged = Promise.all(
    Array.from({ length: 20 }, (_, i) => engine.put(keyOf(100 + i), { n: i })),
  );
  await acknowledged;
  cpSync(join(root, 'crash'), join(root, 'crashed'), {
    recursive: true,
    filter: (path) => !path.endsWith('.sock') && !path.includes('writer.lock'),
  });
  const again = await open('crashed');
  const { report } = again;
  assert.deepEqual([report.created, report.lastLsn, report.versions], [false, 21, 21 - report.storeLsn]);
  assert.ok(report.versions > 0, `the store was at LSN ${report.storeLsn}`);
  assert.equal((await again.get(keyOf(119)))?.bins.n, 19);
  assert.deepEqual(again.digests, engine.digests);
  assert.equal(again.digests.length, 32);
  await again.close();
  await engine.close();
});

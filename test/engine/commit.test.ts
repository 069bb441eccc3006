/** The way of a write from its decision to the store: order, bounds, and what readers and later writes see meanwhile. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { BatchOp } from '../../engine/engine-types.ts';
import { isPitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { Engine } from '../../wal/engine.ts';

const keyOf = (key: number) => ({ namespace: 'test', set: 's', key });

const inScratch = (name: string, body: (dir: string) => Promise<void>): void => {
  test(name, { timeout: 240_000 }, async () => {
    const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-commit-'));
    try {
      await body(dir);
    } finally {
      await fs.rm(dir, { recursive: true });
    }
  });
};

const open = (dir: string, files?: Files): Promise<Engine> =>
  Engine.open({ dir, door: false, sealMs: 0, ...(files ? { files } : {}) });

inScratch(
  'C3: of many changes of one record in one transaction of the store, the last one counts',
  async (dir) => {
    const engine = await open(dir);
    const model = new Map<number, number>();
    const ops: BatchOp[] = [];
    for (let n = 0; n < 600; n++) {
      const key = (n * 7) % 50;
      if (n % 11 === 3) {
        ops.push({ op: 'delete', key: keyOf(key) });
        model.delete(key);
      } else {
        ops.push({ op: 'put', key: keyOf(key), bins: { n } });
        model.set(key, n);
      }
    }
    await engine.batch(ops);
    await engine.sealApplied();
    const { digests } = engine;
    await engine.close();
    const again = await open(dir);
    assert.equal(again.report.versions, 0, 'all of it came from the store');
    for (let key = 0; key < 50; key++)
      assert.equal((await again.get(keyOf(key)))?.bins.n, model.get(key), `key ${key}`);
    assert.deepEqual(again.digests, digests);
    await again.close();
  },
);

inScratch(
  'E4 E5: a batch that is refused at its last operation leaves record, LSN and digest as they were',
  async (dir) => {
    const engine = await open(dir);
    await engine.batch([1, 2, 3].map((n): BatchOp => ({ op: 'put', key: keyOf(n), bins: { n } })));
    const { lastLsn, digests } = engine;
    await assert.rejects(
      engine.batch([
        { op: 'put', key: keyOf(1), bins: { n: 100 } },
        { op: 'delete', key: keyOf(2) },
        { op: 'put', key: keyOf(4), bins: { n: 4 } },
        { op: 'put', key: keyOf(3), bins: { n: 3 }, generation: 99 },
      ]),
      (e) => isPitrError(e, 'generation-mismatch'),
    );
    assert.equal(engine.lastLsn, lastLsn);
    assert.deepEqual(engine.digests, digests);
    // and the next write does not carry what was decided there
    await engine.put(keyOf(5), { n: 5 });
    await engine.delete(keyOf(5));
    assert.deepEqual(engine.digests, digests);
    assert.equal((await engine.get(keyOf(1)))?.bins.n, 1);
    await engine.close();
  },
);

inScratch('an update keeps the bins that it does not name, whatever was read in between', async (dir) => {
  const engine = await open(dir);
  const bins = { a: 'x'.repeat(300), b: 2, c: new Uint8Array(500).fill(7) };
  for (let n = 0; n < 20; n++) await engine.put(keyOf(n), { ...bins, n });
  await engine.sealApplied();
  // all decided before any is staged: what one operation saw must not be overwritten by what the next one reads
  await engine.batch(
    Array.from({ length: 20 }, (_, n): BatchOp => ({ op: 'put', key: keyOf(n), bins: { b: n + 100 } })),
  );
  await engine.batch(Array.from({ length: 20 }, (_, n): BatchOp => ({ op: 'touch', key: keyOf(n) })));
  for (let n = 0; n < 20; n++)
    assert.deepEqual((await engine.get(keyOf(n)))?.bins, { ...bins, b: n + 100, n });
  // LMDB gives small and large values in different buffers
  for (const size of [1000, 5000, 20_000, 70_000, 3_000_000]) {
    const large = new Uint8Array(size).fill(size);
    await engine.put(keyOf(size), { large, n: 1 });
    await engine.sealApplied();
    await engine.batch([
      { op: 'put', key: keyOf(size), bins: { n: 2 } },
      { op: 'touch', key: keyOf(size) },
    ]);
    const record = await engine.get(keyOf(size));
    assert.deepEqual([record?.generation, record?.bins.n], [3, 2]);
    assert.equal(Buffer.compare(record?.bins.large as Uint8Array, large), 0, `${size} bytes`);
  }
  await engine.put(keyOf(0), { c: null, b: null, n: null });
  assert.deepEqual((await engine.get(keyOf(0)))?.bins, { a: bins.a });
  await engine.close();
});

inScratch('writers who are ahead of the store wait for it, go on, and lose nothing', async (dir) => {
  const engine = await open(dir);
  const rounds = 3;
  const value = (n: number): Uint8Array => new Uint8Array(2 * 1024 * 1024).fill(n);
  // 40 × 2 MiB each round: more than may be pending, and more than may wait for the store
  for (let round = 1; round <= rounds; round++)
    await Promise.all(Array.from({ length: 40 }, (_, n) => engine.put(keyOf(n), { v: value(round), n })));
  await engine.close();
  const again = await open(dir);
  for (let n = 0; n < 40; n += 13) {
    const record = await again.get(keyOf(n));
    assert.equal(record?.generation, rounds);
    assert.equal(Buffer.compare(record?.particles.get('v')?.bytes ?? Buffer.alloc(0), value(rounds)), 0);
  }
  await again.close();
});

inScratch(
  'S2 E3: readers see a write when its sync is done, later writes at once; waiters of one sync wake together',
  async (dir) => {
    let hold: Promise<void> | undefined;
    const files: Files = {
      ...nodeFiles,
      openSynced: async (path, bytes) => {
        const file = await nodeFiles.openSynced(path, bytes);
        return {
          append: async (more) => {
            await hold;
            await file.append(more);
          },
          close: () => file.close(),
        };
      },
    };
    const engine = await open(dir, files);
    await engine.put(keyOf(1), { n: 1 });
    const gate = Promise.withResolvers<void>();
    hold = gate.promise;
    const done: number[] = [];
    const writes = [2, 3, 4].map((n) => engine.put(keyOf(1), { n }).then((o) => done.push(o.generation)));
    const deleted = engine.delete(keyOf(1), { generation: 4 });
    const reborn = engine.put(keyOf(1), { n: 5 }, { mode: 'create' });
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal((await engine.get(keyOf(1)))?.bins.n, 1, 'nothing of it is durable yet');
    assert.deepEqual(done, []);
    hold = undefined;
    gate.resolve();
    await Promise.all([...writes, deleted]);
    assert.deepEqual(done, [2, 3, 4]);
    assert.equal((await reborn).generation, 1);
    assert.equal((await engine.get(keyOf(1)))?.bins.n, 5);
    await engine.close();
  },
);

inScratch('seals that end together trim the log one after the other', async (dir) => {
  const engine = await open(dir);
  for (let round = 0; round < 10; round++) {
    for (let n = 0; n < 3; n++) {
      await engine.put(keyOf(n), { n });
      await engine.sealApplied();
    }
    await Promise.all([engine.seal(), engine.seal(), engine.sealApplied(), engine.seal()]);
  }
  const log = (await fs.readdir(join(dir, 'log'))).filter((name) => name.endsWith('.wal'));
  assert.equal(log.length, 1);
  await engine.close();
});

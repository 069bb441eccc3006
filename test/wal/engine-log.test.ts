import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles, type OpenFile } from '../../engine/files.ts';
import { Store } from '../../engine/store.ts';
import { Engine } from '../../wal/engine.ts';
import { errnoError } from './memory-files.ts';

const inScratch = (what: string, body: (dir: string) => Promise<void>) =>
  test(what, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pitr-engine-log-'));
    try {
      await body(dir);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

const keyOf = (n: number) => ({ namespace: 'test', set: 's', key: n });

/** Real files whose appends or syncs fail from the moment that `fail.on` is set. */
const failing = (fail: { on?: 'append' | 'sync'; code: string }): Files => {
  const wrap = (file: OpenFile): OpenFile => ({
    append: async (bytes) => {
      if (fail.on !== 'append') return file.append(bytes);
      // a full disk takes a part of it first
      await file.append(bytes.subarray(0, bytes.length >> 1));
      throw errnoError(fail.code);
    },
    sync: async () => {
      if (fail.on === 'sync') throw errnoError(fail.code);
      return file.sync();
    },
    close: () => file.close(),
  });
  return {
    ...nodeFiles,
    createNew: async (path) => wrap(await nodeFiles.createNew(path)),
    openAppend: async (path) => wrap(await nodeFiles.openAppend(path)),
    openSynced: async (path, start) => {
      const file = await nodeFiles.openSynced(path, start);
      return {
        append: async (bytes) => {
          if (fail.on === 'append') await file.append(bytes.subarray(0, bytes.length >> 1));
          // a sync that fails leaves what was written
          if (fail.on === 'sync') await file.append(bytes);
          if (fail.on) throw errnoError(fail.code);
          await file.append(bytes);
        },
        close: () => file.close(),
      };
    },
  };
};

describe('engine on a log that fails', () => {
  for (const [on, code] of [
    ['append', 'ENOSPC'],
    ['sync', 'EIO'],
  ] as const)
    inScratch(
      `S2: ${code} on ${on} rejects every waiting writer, and what was acknowledged is there after reopening`,
      async (dir) => {
        const fail: { on?: 'append' | 'sync'; code: string } = { code };
        const engine = await Engine.open({ dir, sealMs: 0, files: failing(fail) });
        for (let n = 0; n < 20; n++) await engine.put(keyOf(n), { n });
        fail.on = on;
        const waiting = await Promise.allSettled([20, 21, 22].map((n) => engine.put(keyOf(n), { n })));
        for (const w of waiting)
          assert.ok(
            w.status === 'rejected' && isPitrError(w.reason, 'log-full') && w.reason.facts.why === code,
          );
        delete fail.on;
        const isFull = (e: unknown): boolean => isPitrError(e, 'log-full');
        await assert.rejects(engine.put(keyOf(99), { n: 99 }), isFull);
        await assert.rejects(engine.delete(keyOf(1)), isFull);
        await assert.rejects(engine.mark('m'), isFull);
        await assert.rejects(engine.seal(), isFull);
        await engine.close();
        const again = await Engine.open({ dir, sealMs: 0 });
        for (let n = 0; n < 20; n++) assert.equal((await again.get(keyOf(n)))?.bins.n, n);
        assert.equal(await again.get(keyOf(99)), undefined);
        await again.put(keyOf(100), { n: 100 });
        await again.close();
      },
    );

  inScratch('many large writes that wait together are written as several frames', async (dir) => {
    const engine = await Engine.open({ dir, sealMs: 0 });
    const image = Buffer.alloc(1024 * 1024);
    await Promise.all(Array.from({ length: 200 }, (_, n) => engine.put(keyOf(n), { image })));
    await engine.close();
    const again = await Engine.open({ dir, sealMs: 0 });
    assert.equal(again.report.lastLsn, 200);
    await again.close();
  });

  inScratch('a batch over the limit of a frame is refused, and the engine goes on', async (dir) => {
    const engine = await Engine.open({ dir, sealMs: 0 });
    const image = Buffer.alloc(1024 * 1024);
    await assert.rejects(
      engine.batch(Array.from({ length: 200 }, (_, n) => ({ op: 'put', key: keyOf(n), bins: { image } }))),
      (e) => isPitrError(e, 'bad-record'),
    );
    assert.equal((await engine.put(keyOf(1), { n: 1 })).lsn, 1);
    await engine.close();
  });

  inScratch(
    'S3: a batch of more versions and bytes than a frame usually takes is torn as a whole',
    async (dir) => {
      const alive = join(dir, 'alive');
      const engine = await Engine.open({ dir: alive, sealMs: 0 });
      const pad = Buffer.alloc(2000);
      await engine.batch(
        Array.from({ length: 5000 }, (_, n) => ({ op: 'put', key: keyOf(n), bins: { n, pad } })),
      );
      const log = await readFile(join(alive, 'log', '000000000001.open'));
      await engine.close();
      for (const part of [0.1, 0.5, 0.9, 0.9999, 1]) {
        const torn = join(dir, `torn-${part}`);
        await mkdir(join(torn, 'log'), { recursive: true });
        await cp(join(alive, 'engine.json'), join(torn, 'engine.json'));
        await writeFile(
          join(torn, 'log', '000000000001.open'),
          log.subarray(0, Math.floor(log.length * part)),
        );
        const again = await Engine.open({ dir: torn, sealMs: 0 });
        assert.equal(again.lastLsn, part === 1 ? 5000 : 0, `${part} of the file`);
        await again.close();
      }
    },
  );

  inScratch('a store that is closed gives everything back: an agent opens one every second', async (dir) => {
    for (let i = 0; i < 150; i++) {
      const store = Store.open(dir);
      store.meta();
      await store.close();
    }
  });

  inScratch('two stores of one directory in one process do not close each other', async (dir) => {
    const writer = Store.open(dir);
    writer.applySync(
      [{ key: Buffer.concat([Buffer.from('test\0'), Buffer.alloc(20)]), value: Buffer.alloc(25) }],
      undefined,
    );
    const reader = Store.open(dir, { readOnly: true });
    assert.equal([...reader.scan()].length, 1);
    await reader.close();
    assert.equal([...writer.scan()].length, 1);
    await writer.close();
  });
});

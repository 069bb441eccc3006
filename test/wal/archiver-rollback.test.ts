import assert from 'node:assert/strict';
import { cp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { readArchived } from '../../wal/archived.ts';
import { Archiver } from '../../wal/archiver.ts';
import { logFileName, logFilesIn, scanLogFile } from '../../wal/log-file.ts';
import {
  copyDir,
  dense,
  headOf,
  initEngine,
  inScratch,
  keyOf,
  lsnsOf,
  openEngine,
  putSealed,
  refuses,
  segmentNames,
} from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

describe('archiver: a directory that was put back from a copy', () => {
  /** Archives LSN 1–3, copies the directory, and archives `more` further ones. */
  const withCopy = async (dir: string, store: MemoryStore, more: number): Promise<string> => {
    const [e, copy] = [join(dir, 'e'), join(dir, 'copy')];
    const write = async (from: number, to: number): Promise<void> => {
      const engine = await openEngine(e);
      await putSealed(engine, from, to);
      await engine.close();
      const archiver = await Archiver.open(e, { store });
      await archiver.archivePending();
      await archiver.close();
    };
    await initEngine(e, store);
    await write(1, 3);
    await copyDir(e, copy);
    await write(4, 3 + more);
    await rm(e, { recursive: true });
    await cp(copy, e, { recursive: true });
    return e;
  };

  for (const [what, more, later] of [
    ['with fewer files than are archived', 6, 2],
    ['with as many', 2, 2],
    ['with one more', 2, 3],
    ['with many more', 2, 9],
  ] as const)
    inScratch(`${what} is log-rolled-back; nothing is shipped or claimed`, async (dir) => {
      const store = new MemoryStore();
      const e = await withCopy(dir, store, more);
      const before = await headOf(store, e);
      const engine = await openEngine(e);
      await putSealed(engine, 4, 3 + later);
      await engine.close();
      // the second try finds the agent's lock free again
      for (let i = 0; i < 2; i++) {
        const error = await refuses('log-rolled-back', Archiver.open(e, { store }));
        assert.equal(error.exitCode, 46);
      }
      const head = await headOf(store, e);
      assert.deepEqual(head, before, 'whoever has the stream goes on');
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed);
    });

  inScratch(
    'with as many files and LSNs is known by the chain, even when the archived files are gone',
    async (dir) => {
      const store = new MemoryStore();
      const e = await withCopy(dir, store, 2);
      const { sequence, frontier } = await headOf(store, e);
      const engine = await openEngine(e);
      await putSealed(engine, 4, frontier.lsn);
      // the original was closed here, which sealed once more
      await engine.seal();
      await putSealed(engine, 6, 6);
      await engine.close();
      const files = logFilesIn(await readdir(join(e, 'log')));
      for (const f of files.filter((x) => x.sequence <= sequence)) await rm(join(e, 'log', f.name));
      const error = await refuses('log-rolled-back', Archiver.open(e, { store }));
      assert.match(String(error.facts.why), /does not follow/);
    },
  );

  inScratch(
    'copied while its newest file was written, it takes no stream from the one that sealed that file',
    async (dir) => {
      const store = new MemoryStore();
      const [e, copy] = [join(dir, 'e'), join(dir, 'copy')];
      await initEngine(e, store);
      const engine = await openEngine(e);
      await engine.put(keyOf(1), { n: 1 });
      await copyDir(e, copy);
      await engine.put(keyOf(2), { n: 2 });
      await engine.seal();
      const archiver = await Archiver.open(e, { store });
      await archiver.archivePending();
      const before = await headOf(store, e);
      const error = await refuses('log-rolled-back', Archiver.open(copy, { store }));
      assert.match(String(error.facts.why), /still being written/);
      assert.deepEqual(await headOf(store, e), before);
      await engine.put(keyOf(3), { n: 3 });
      await engine.seal();
      assert.equal(await archiver.archivePending(), 1);
      await engine.close();
      await archiver.close();
    },
  );

  inScratch('whose newest file lost its name in a power cut is the one that was archived', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const engine = await openEngine(e);
    await engine.put(keyOf(1), { n: 1 });
    await engine.close();
    const archiver = await Archiver.open(e, { store });
    await archiver.archivePending();
    await archiver.close();
    const { sequence } = await headOf(store, e);
    const log = join(e, 'log');
    await rename(join(log, logFileName(sequence, true)), join(log, logFileName(sequence, false)));
    const again = await Archiver.open(e, { store });
    await again.round();
    assert.equal(again.head.gaps.length, 0);
    await again.close();
  });

  inScratch('put back under an agent that runs, it is found out before anything is shipped', async (dir) => {
    const store = new MemoryStore();
    const [e, copy] = [join(dir, 'e'), join(dir, 'copy')];
    await initEngine(e, store);
    const write = async (from: number, to: number): Promise<void> => {
      const engine = await openEngine(e);
      await putSealed(engine, from, to);
      await engine.close();
    };
    await write(1, 3);
    await copyDir(e, copy);
    const archiver = await Archiver.open(e, { store });
    await write(4, 6);
    await archiver.archivePending();
    const before = await headOf(store, e);
    await rm(join(e, 'log'), { recursive: true });
    await cp(join(copy, 'log'), join(e, 'log'), { recursive: true });
    for (let i = 0; i < 2; i++) await refuses('log-rolled-back', archiver.archivePending());
    await archiver.close();
    assert.deepEqual(await headOf(store, e), before);
  });

  inScratch(
    'a log that was put back alone keeps what is written to it: it is not what was archived',
    async (dir) => {
      const store = new MemoryStore();
      const [e, copy] = [join(dir, 'e'), join(dir, 'copy')];
      await initEngine(e, store);
      const write = async (from: number, to: number): Promise<void> => {
        const engine = await openEngine(e);
        await putSealed(engine, from, to);
        await engine.sealApplied();
        await engine.close();
      };
      await write(1, 3);
      await copyDir(e, copy);
      await write(4, 6);
      const archiver = await Archiver.open(e, { store });
      await archiver.archivePending();
      await archiver.close();
      for (const part of ['log', 'store']) {
        await rm(join(e, part), { recursive: true, force: true });
        await cp(join(copy, part), join(e, part), { recursive: true, force: true }).catch(() => undefined);
      }
      assert.equal((await readArchived(e)).lsn, 6);
      await write(4, 9);
      await write(10, 11);
      const engine = await openEngine(e);
      assert.equal(engine.lastLsn, 11);
      await engine.close();
      const first = logFilesIn(await readdir(join(e, 'log')))[0].name;
      const { header } = scanLogFile(await readFile(join(e, 'log', first)), first, false, () => undefined);
      assert.ok(header.lsnFirst <= 4, `the log begins at LSN ${header.lsnFirst}`);
      await refuses('log-rolled-back', Archiver.open(e, { store }));
    },
  );

  inScratch('the directory itself, with its archived files trimmed or not, goes on', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    for (let n = 1; n <= 4; n++) {
      const engine = await openEngine(e);
      await putSealed(engine, n, n);
      await engine.close();
      const archiver = await Archiver.open(e, { store });
      await archiver.round();
      await archiver.close();
    }
    const head = await headOf(store, e);
    assert.deepEqual(head.gaps, []);
    assert.deepEqual(await lsnsOf(store, head), dense(4));
  });
});

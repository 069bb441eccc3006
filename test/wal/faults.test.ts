/** Each fault of disk and archive has a defined end: a typed error, nothing acknowledged lost, and a way on. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ManualClock } from '../../engine/clock.ts';
import { isPitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles, type OpenFile } from '../../engine/files.ts';
import { Store } from '../../engine/store.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Outage, readOutage } from '../../wal/outage.ts';
import { inScratch, keyOf, refuses } from './archiver-support.ts';
import { errnoError } from './memory-files.ts';

type Faulty =
  | 'createNew'
  | 'append'
  | 'sync'
  | 'rename'
  | 'syncDir'
  | 'read'
  | 'list'
  | 'makeDir'
  | 'openSynced';

/** Real files, one operation of which fails on the log while `fault.on` is set. */
const faultyFiles = (fault: { on?: Faulty; code: string }): Files => {
  const check = (operation: Faulty, path: string): void => {
    if (fault.on === operation && path.includes('/log')) throw errnoError(fault.code);
  };
  const wrap = (file: OpenFile, path: string): OpenFile => ({
    append: async (bytes) => {
      // a full disk takes a part of it first
      if (fault.on === 'append') await file.append(bytes.subarray(0, bytes.length >> 1));
      check('append', path);
      await file.append(bytes);
    },
    sync: async () => {
      check('sync', path);
      await file.sync();
    },
    close: () => file.close(),
  });
  const guarded =
    <A extends unknown[], R>(operation: Faulty, run: (path: string, ...rest: A) => Promise<R>) =>
    async (path: string, ...rest: A): Promise<R> => {
      check(operation, path);
      return run(path, ...rest);
    };
  return {
    ...nodeFiles,
    createNew: guarded('createNew', async (path) => wrap(await nodeFiles.createNew(path), path)),
    openSynced: guarded('openSynced', async (path, bytes: number) => {
      const file = await nodeFiles.openSynced(path, bytes);
      return {
        append: async (data) => {
          if (fault.on === 'append') await file.append(data.subarray(0, data.length >> 1));
          check('append', path);
          await file.append(data);
          check('sync', path);
        },
        close: () => file.close(),
      };
    }),
    rename: guarded('rename', nodeFiles.rename),
    syncDir: guarded('syncDir', nodeFiles.syncDir),
    read: guarded('read', nodeFiles.read),
    list: guarded('list', nodeFiles.list),
    makeDir: guarded('makeDir', nodeFiles.makeDir),
  };
};

const put = (engine: Engine, n: number) => engine.put(keyOf(n), { n });
const valuesOf = async (engine: Engine): Promise<number[]> => {
  const found: number[] = [];
  for await (const { bins } of engine.scan()) found.push(bins.n as number);
  return found.sort((a, b) => a - b);
};
const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

describe('disk faults of a live engine', () => {
  for (const [on, code] of [
    ['append', 'ENOSPC'],
    ['createNew', 'ENOSPC'],
    ['createNew', 'EROFS'],
    ['sync', 'ENOSPC'],
    ['sync', 'EIO'],
    ['rename', 'ENOSPC'],
    ['syncDir', 'EIO'],
  ] as const)
    inScratch(
      `S2: ${code} on ${on} of the log is log-full; reads go on, close works, and reopening loses nothing`,
      async (root) => {
        const dir = join(root, 'e');
        const fault: { on?: Faulty; code: string } = { code };
        const engine = await Engine.open({ dir, sealMs: 0, files: faultyFiles(fault) });
        for (const n of upTo(20)) await put(engine, n);
        await engine.seal();
        fault.on = on;
        // the fault shows at a commit, or at the seal after it: what is acknowledged before it shows, counts
        let acknowledged = 20;
        let error: unknown;
        for (let n = 21; error === undefined && n < 24; n++) {
          await put(engine, n).then(
            () => {
              acknowledged = n;
            },
            (e) => {
              error = e;
            },
          );
          if (error === undefined)
            await engine.seal().catch((e) => {
              error = e;
            });
        }
        assert.ok(isPitrError(error, 'log-full'), `${error}`);
        assert.equal(error.facts.why, code);
        assert.match(error.hint, /open the engine again; what was acknowledged is safe/);
        for (const work of [() => put(engine, 99), () => engine.mark('m'), () => engine.seal()])
          await refuses('log-full', work());
        assert.deepEqual(await valuesOf(engine), upTo(acknowledged), 'a scan sees what is durable');
        assert.equal((await engine.get(keyOf(acknowledged)))?.bins.n, acknowledged);
        assert.equal(await engine.get(keyOf(99)), undefined);
        assert.equal(engine.failure?.id, 'log-full');
        await engine.close();
        delete fault.on;
        const again = await Engine.open({ dir, sealMs: 0, files: faultyFiles(fault) });
        const found = await valuesOf(again);
        assert.deepEqual(found.slice(0, acknowledged), upTo(acknowledged));
        // what was refused may have reached the disk before the failure, never in part
        assert.ok(found.length <= acknowledged + 1);
        await put(again, 200);
        await again.close();
      },
    );

  inScratch(
    'an engine directory that is deleted under a live engine is seen at the next commit',
    async (root) => {
      const dir = join(root, 'e');
      const engine = await Engine.open({ dir, sealMs: 0 });
      await put(engine, 1);
      await rm(dir, { recursive: true });
      const error = await refuses('log-full', put(engine, 2));
      assert.equal(error.facts.why, 'ENOENT');
      await engine.close();
      assert.deepEqual(await readdir(root), [], 'closing makes nothing anew');
    },
  );

  inScratch(
    'a store for which the disk has no room is store-full before it is written; the log has everything',
    async (root) => {
      const dir = join(root, 'e');
      let free = 10_000_000;
      const openStore = (engineDir: string) => Store.open(engineDir, { freeBytes: () => free });
      const engine = await Engine.open({ dir, sealMs: 0, openStore });
      for (const n of upTo(5)) await put(engine, n);
      await engine.sealApplied();
      for (const n of upTo(5)) await put(engine, n + 5);
      free = 100_000;
      const error = await refuses('store-full', engine.sealApplied());
      assert.match(String(error.facts.why), /100000 bytes are free/);
      await refuses('store-full', put(engine, 11));
      assert.equal((await engine.get(keyOf(10)))?.bins.n, 10, 'reads go on');
      await engine.close();
      const again = await Engine.open({ dir, sealMs: 0 });
      assert.deepEqual(await valuesOf(again), upTo(10));
      await again.close();
    },
  );

  inScratch('a store that cannot be written is store-full; the log has everything', async (root) => {
    let dir = '';
    // the kernel refuses files over 1 MiB; log files stay far below it
    const script = fileURLToPath(new URL('fill-store.ts', import.meta.url));
    // taking the limit away again needs a tool that not every system has
    const lift = existsSync('/usr/bin/prlimit') ? 'lift' : '';
    const run = (): string =>
      execFileSync(
        'bash',
        ['-c', `trap '' XFSZ; ulimit -S -f 1024; exec "${process.execPath}" "${script}" "${dir}" ${lift}`],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], timeout: 60_000 },
      );
    let out = '';
    // known: LMDB's binding damages its heap after a failed commit, and every second process or so is aborted
    for (let tries = 0; out === ''; tries++) {
      dir = join(root, `e${tries}`);
      try {
        out = run();
      } catch (error) {
        if ((error as { signal?: string }).signal !== 'SIGABRT' || tries === 20) throw error;
        // nothing is lost by it: what the log has is whole
        const after = await Engine.open({ dir, sealMs: 0 });
        const found = (await valuesOf(after)).filter((n) => n <= 2000);
        assert.deepEqual(found, upTo(found.length));
        assert.ok(found.length > 20);
        await after.close();
      }
    }
    const said = JSON.parse(out);
    assert.deepEqual([said.error, said.read], ['store-full', 1], out);
    assert.ok(said.acknowledged > 20);
    if (lift) assert.equal(said.again, said.acknowledged + 1, 'the same process opens it again');
    const again = await Engine.open({ dir, sealMs: 0 });
    assert.deepEqual((await valuesOf(again)).slice(0, said.acknowledged), upTo(said.acknowledged));
    await put(again, 9999);
    await again.close();
  });
});

describe('disk faults at start-up', () => {
  for (const [on, code] of [
    ['read', 'EIO'],
    ['list', 'EIO'],
    ['makeDir', 'EROFS'],
    ['openSynced', 'EROFS'],
  ] as const)
    inScratch(`${code} on ${on} at recovery is a typed error, and changes nothing`, async (root) => {
      const dir = join(root, 'e');
      const engine = await Engine.open({ dir, sealMs: 0 });
      for (const n of upTo(5)) await put(engine, n);
      await engine.close();
      const killed = await Engine.open({ dir, sealMs: 0 });
      await put(killed, 6);
      await cp(join(dir, 'log'), join(root, 'log'), { recursive: true });
      await killed.close();
      await rm(join(dir, 'log'), { recursive: true });
      await cp(join(root, 'log'), join(dir, 'log'), { recursive: true });
      const before = await readdir(join(dir, 'log'));
      const error = await refuses('io', Engine.open({ dir, sealMs: 0, files: faultyFiles({ on, code }) }));
      assert.equal(error.facts.why, code);
      assert.deepEqual(await readdir(join(dir, 'log')), before);
      const again = await Engine.open({ dir, sealMs: 0 });
      assert.deepEqual(await valuesOf(again), upTo(6));
      await again.close();
    });

  inScratch('a directory that may only be read is refused with a typed error and a hint', async (root) => {
    const dir = join(root, 'e');
    await (await Engine.open({ dir, sealMs: 0 })).close();
    await chmod(root, 0o755);
    await chmod(dir, 0o555);
    const script = fileURLToPath(new URL('fill-store.ts', import.meta.url));
    // root may write anywhere: then somebody else tries
    const user = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
    const said = JSON.parse(execFileSync(process.execPath, [script, dir], { encoding: 'utf8', ...user }));
    assert.equal(said.error, 'io', JSON.stringify(said));
    assert.match(said.hint, /writable/);
    await chmod(dir, 0o755);
  });
});

const place = async (root: string, clock = new ManualClock(1_700_000_000_000)) => {
  const dir = join(root, 'e');
  const path = join(root, 'archive');
  await Engine.init(dir, { archive: `file:${path}` });
  const engine = await Engine.open({ dir, sealMs: 0 });
  await put(engine, 1);
  await engine.seal();
  const events: ArchiverEvent[] = [];
  const archiver = await Archiver.open(dir, { clock, sealMs: 0, onEvent: (e) => events.push(e) });
  await archiver.archivePending();
  return { dir, path, engine, archiver, events, clock };
};

const seal = async (engine: Engine, n: number): Promise<void> => {
  await put(engine, n);
  await engine.seal();
};

describe('an archive that is away', () => {
  inScratch(
    'that vanished, was emptied, or was replaced is named as such, never taken for a new one',
    async (root) => {
      const { path, engine, archiver, dir } = await place(root);
      await seal(engine, 2);
      const away = join(root, 'unmounted');
      await rename(path, away);
      await refuses('archive-not-found', archiver.archivePending());
      assert.deepEqual((await readdir(root)).sort(), ['e', 'unmounted'], 'nothing is made in its place');
      // the mount point of a file system that is not mounted
      await mkdir(path);
      await refuses('archive-not-found', archiver.archivePending());
      await refuses('archive-not-found', Archive.open(`file:${path}`));
      assert.deepEqual(await readdir(path), []);
      await Archive.openOrCreate(`file:${path}`);
      await refuses('archive-mismatch', archiver.archivePending());
      await rm(path, { recursive: true });
      await rename(away, path);
      await archiver.archivePending();
      assert.equal(archiver.head.frontier.lsn, 2);
      assert.deepEqual(archiver.head.gaps, []);
      await archiver.close();
      await engine.close();
      assert.equal((await readdir(dir)).includes('outage.json'), false);
    },
  );

  inScratch(
    'rounds that fail are further and further apart, are said in the directory, and end with the outage',
    async (root) => {
      const { dir, path, engine, archiver, clock } = await place(root);
      await seal(engine, 2);
      await rename(path, `${path}-away`);
      const start = clock.nowMs();
      const pauses: number[] = [];
      for (let i = 0; i < 8; i++) {
        await refuses('archive-not-found', archiver.round());
        const said = await readOutage(dir);
        assert.deepEqual([said?.sinceMs, said?.tries, said?.error.id], [start, i + 1, 'archive-not-found']);
        assert.deepEqual(said, archiver.outage);
        pauses.push((said?.nextMs ?? 0) - clock.nowMs());
        clock.step(pauses[i]);
      }
      assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
      await rename(`${path}-away`, path);
      await archiver.round();
      assert.deepEqual([await readOutage(dir), archiver.outage], [undefined, undefined]);
      assert.equal(archiver.head.frontier.lsn, 2);
      await archiver.close();
      await engine.close();
    },
  );

  inScratch('a running archiver does not hammer what is away', async (root) => {
    const { path, engine, archiver, events, clock } = await place(root);
    await rename(path, `${path}-away`);
    await seal(engine, 2);
    archiver.start();
    // its clock stands still: after the first failure the pause never ends, whatever the watcher sees
    for (let n = 3; n < 12; n++) {
      await seal(engine, n);
      await sleep(150);
    }
    assert.equal(events.filter((e) => e.kind === 'error').length, 1);
    await rename(`${path}-away`, path);
    clock.step(1000);
    for (const until = Date.now() + 10_000; archiver.head.frontier.lsn < 11; await sleep(50))
      assert.ok(Date.now() < until, 'it catches up');
    await archiver.close();
    await engine.close();
  });

  inScratch('a clock that is set back does not lengthen the pause', async (root) => {
    const clock = new ManualClock(1_700_000_000_000);
    const outage = new Outage(root, clock, nodeFiles);
    await outage.failed(new Error('x'));
    assert.equal(outage.isDue, false);
    clock.step(-3_600_000);
    assert.equal(outage.isDue, true);
    // what comes after shipping does not hold it up
    for (let i = 0; i < 5; i++) await outage.failed(new Error('x'), true);
    assert.equal(outage.report?.nextMs, clock.nowMs() + 1000);
  });

  inScratch('a read-only archive is io; everything is shipped when it may be written again', async (root) => {
    const { path, engine, archiver } = await place(root);
    await seal(engine, 2);
    const store = archiver.archive.store;
    const create = store.create.bind(store);
    store.create = () => Promise.reject(Object.assign(new Error('EROFS'), { code: 'EROFS' }));
    await assert.rejects(archiver.round());
    assert.ok(archiver.outage);
    store.create = create;
    await archiver.round();
    assert.equal(archiver.head.frontier.lsn, 2);
    assert.ok((await readdir(path)).includes('archive'));
    await archiver.close();
    await engine.close();
  });

  inScratch('EIO while the archiver reads the log is io, ships nothing, and leaves no gap', async (root) => {
    const dir = join(root, 'e');
    await Engine.init(dir, { archive: `file:${join(root, 'archive')}` });
    const engine = await Engine.open({ dir, sealMs: 0 });
    for (const n of upTo(3)) await seal(engine, n);
    const fault: { on?: Faulty; code: string } = { on: 'read', code: 'EIO' };
    const archiver = await Archiver.open(dir, { files: faultyFiles(fault) });
    const error = await refuses('io', archiver.archivePending());
    assert.equal(error.facts.why, 'EIO');
    assert.equal(archiver.head.frontier.lsn, 0);
    delete fault.on;
    assert.equal(await archiver.archivePending(), 3);
    assert.deepEqual(archiver.head.gaps, []);
    await archiver.close();
    await engine.close();
  });

  inScratch(
    'an engine directory that vanished is engine-gone: none is made in its place, and it goes on when it is back',
    async (root) => {
      const { dir, engine, archiver } = await place(root);
      await seal(engine, 2);
      await engine.close();
      const away = join(root, 'away');
      await rename(dir, away);
      await refuses('engine-gone', archiver.round());
      assert.deepEqual((await readdir(root)).sort(), ['archive', 'away'], 'no new engine');
      await mkdir(dir);
      await refuses('engine-gone', archiver.round());
      await (await Engine.open({ dir, sealMs: 0 })).close();
      const error = await refuses('engine-gone', archiver.round());
      assert.match(String(error.facts.why), /is there instead/);
      await rm(dir, { recursive: true });
      await rename(away, dir);
      await archiver.round();
      assert.equal(archiver.head.frontier.lsn, 2);
      assert.equal(archiver.outage, undefined);
      await archiver.close();
    },
  );
});

/** The log while the archive is away: quota, policies, what is said of it, and that nothing acknowledged is lost. */
import assert from 'node:assert/strict';
import { access, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPitrError } from '../../engine/errors.ts';
import { nodeFiles } from '../../engine/files.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { DROPPED_FILE, readDropped } from '../../wal/dropped.ts';
import { Engine, type EngineOptions } from '../../wal/engine.ts';
import { type SpoolSettings, writeSpoolSettings } from '../../wal/spool-settings.ts';
import { copyDir, inScratch, keyOf, refuses } from './archiver-support.ts';

const KIB = 1024;
const IMAGE = Buffer.alloc(8 * KIB, 7);
const LONG_MS = 30_000;

const place = async (root: string) => {
  const dir = join(root, 'e');
  const url = `file:${join(root, 'archive')}`;
  await Engine.init(dir, { archive: url });
  return {
    dir,
    url,
    open: (spool: Partial<SpoolSettings>, options: Partial<EngineOptions> = {}) =>
      Engine.open({ dir, sealMs: 0, lockWaitMs: 0, spool, ...options }),
    archiver: (onEvent?: (e: ArchiverEvent) => void) => Archiver.open(dir, onEvent ? { onEvent } : {}),
    view: async () => ArchiveView.read(await Archive.open(url)),
    valuesAt: async (target: string): Promise<Map<number, number>> => {
      const found = new Map<number, number>();
      await restoreJsonLines(
        async (chunk) => {
          for (const text of chunk.toString('utf8').trimEnd().split('\n')) {
            const { key, bins } = JSON.parse(text);
            found.set(key, bins.n);
          }
        },
        { archive: url, target, workers: 0 },
      );
      return found;
    },
  };
};

/** Writes keys in sealed files of their own until `enough`, or until a write has to wait; the last one is pending then. */
const putUntilBlocked = async (engine: Engine): Promise<{ last: number; pending: Promise<unknown> }> => {
  for (let n = 1; n < 1000; n++) {
    const pending = engine.put(keyOf(n), { n, image: IMAGE });
    pending.catch(() => undefined);
    const first = await Promise.race([pending.then(() => 'done'), sleep(400, 'waits')]);
    if (first === 'waits') return { last: n - 1, pending };
    await engine.seal();
  }
  throw new Error('no write ever waited');
};

const putSealed = async (engine: Engine, from: number, to: number): Promise<void> => {
  for (let n = from; n <= to; n++) {
    await engine.put(keyOf(n), { n, image: IMAGE });
    await engine.sealApplied();
  }
};

const assertAll = async (engine: Engine, last: number): Promise<void> => {
  for (let n = 1; n <= last; n++) assert.equal((await engine.get(keyOf(n)))?.bins.n, n);
};

describe('spool: policy block', () => {
  inScratch(
    'Q1 Q3: at the quota writers wait, reads, marks and seals go on, and writers go on once the archive has caught up',
    async (root) => {
      const p = await place(root);
      const engine = await p.open({ policy: 'block', quotaBytes: 64 * KIB, blockTimeoutMs: LONG_MS });
      const { last, pending } = await putUntilBlocked(engine);
      assert.ok(last >= 6 && last <= 9, `${last} writes of 8 KiB into 64 KiB`);
      const blocked = engine.spool;
      assert.equal(blocked?.blockedWriters, 1);
      assert.ok((blocked.blockedSinceMs ?? 0) > 0 && (blocked.oldestTs ?? 0) > 0);
      assert.ok(blocked.waitingBytes >= 64 * KIB && blocked.waitingBytes < 96 * KIB);
      await assertAll(engine, last);
      await engine.mark('while-blocked');
      const { ts } = await engine.seal();
      const archiver = await p.archiver();
      await archiver.archivePending();
      await pending;
      assert.equal(engine.spool?.blockedWriters, 0);
      assert.equal(engine.spool?.blockedSinceMs, null);
      await assertAll(engine, last + 1);
      await archiver.close();
      await engine.close();
      assert.equal((await p.valuesAt(String(ts))).size, last, 'what waited is archived');
    },
  );

  inScratch('Q1: a write that waited too long is refused with log-quota and leaves nothing', async (root) => {
    const p = await place(root);
    const engine = await p.open({ policy: 'block', quotaBytes: 32 * KIB, blockTimeoutMs: 700 });
    const { last, pending } = await putUntilBlocked(engine);
    const started = performance.now();
    const error = await refuses('log-quota', pending);
    assert.ok(performance.now() - started < 5000);
    assert.deepEqual([error.exitCode, error.facts.quotaBytes], [15, 32 * KIB]);
    assert.equal(await engine.get(keyOf(last + 1)), undefined);
    assert.equal(engine.spool?.blockedWriters, 0);
    // many at once: each has its own end
    const many = await Promise.allSettled(
      Array.from({ length: 50 }, (_, n) => engine.put(keyOf(900 + n), { n })),
    );
    assert.ok(many.every((m) => m.status === 'rejected' && isPitrError(m.reason, 'log-quota')));
    const archiver = await p.archiver();
    await archiver.archivePending();
    await engine.put(keyOf(last + 1), { n: last + 1 });
    await archiver.close();
    await engine.close();
  });

  inScratch(
    'close() ends the wait of writers with engine-closed, and keeps what was acknowledged',
    async (root) => {
      const p = await place(root);
      const engine = await p.open({ policy: 'block', quotaBytes: 32 * KIB, blockTimeoutMs: LONG_MS });
      const { last, pending } = await putUntilBlocked(engine);
      const started = performance.now();
      let isOver = false;
      pending.catch(() => {
        isOver = true;
      });
      const closing = engine.close();
      await new Promise(setImmediate);
      assert.ok(isOver, 'Q1: at once');
      await closing;
      await refuses('engine-closed', pending);
      assert.ok(performance.now() - started < 5000);
      const again = await p.open({ quotaBytes: 1024 * KIB });
      await assertAll(again, last);
      assert.equal(again.lastLsn, last);
      await again.close();
    },
  );

  inScratch('one write over the whole quota goes through; the next one waits', async (root) => {
    const p = await place(root);
    const engine = await p.open({ policy: 'block', quotaBytes: 4 * KIB, blockTimeoutMs: 500 });
    await engine.put(keyOf(1), { n: 1, image: IMAGE });
    await refuses('log-quota', engine.put(keyOf(2), { n: 2 }));
    await engine.close();
  });

  inScratch(
    'a live writer follows what the operator sets for its directory, also a floor of free space',
    async (root) => {
      const p = await place(root);
      await writeSpoolSettings(p.dir, { policy: 'block', quotaBytes: 32 * KIB, blockTimeoutMs: LONG_MS });
      const engine = await p.open({});
      const first = await putUntilBlocked(engine);
      await writeSpoolSettings(p.dir, { quotaBytes: 1024 * KIB });
      await first.pending;
      await writeSpoolSettings(p.dir, { minFreeBytes: Number.MAX_SAFE_INTEGER });
      await engine.seal();
      const pending = engine.put(keyOf(500), { n: 500 });
      assert.equal(await Promise.race([pending.then(() => 'done'), sleep(400, 'waits')]), 'waits');
      assert.equal(engine.spool?.diskLow, true);
      await writeSpoolSettings(p.dir, { minFreeBytes: 0 });
      await pending;
      // what somebody broke by hand does not stop the writer: the last word counts
      await writeFile(join(p.dir, 'spool.json'), '{');
      await engine.seal();
      await engine.put(keyOf(501), { n: 501 });
      assert.match(engine.spool?.error ?? '', /spool.json/);
      await engine.close();
      await refuses('config-invalid', p.open({}));
    },
  );

  inScratch('an engine without archive has no quota: its store alone decides', async (root) => {
    const engine = await Engine.open({ dir: join(root, 'plain'), sealMs: 0, spool: { quotaBytes: 1 } });
    await putSealed(engine, 1, 5);
    assert.equal(engine.spool, undefined);
    await engine.close();
  });
});

describe('spool: policy drop-with-gap', () => {
  const DROP = { policy: 'drop-with-gap', quotaBytes: 64 * KIB } as const;

  inScratch(
    'S4 Q2: writers never wait; the gap is recorded, ends the range, and a base copy starts a new one',
    async (root) => {
      const p = await place(root);
      const engine = await p.open(DROP);
      await putSealed(engine, 1, 4);
      const archiver = await p.archiver();
      await archiver.archivePending();
      const before = (await p.view()).restorable.contiguousEnd as number;
      await sleep(5);
      await putSealed(engine, 5, 60);
      assert.ok((engine.spool?.waitingBytes ?? 0) <= 96 * KIB, `${engine.spool?.waitingBytes} bytes wait`);
      const [dropped, ...others] = engine.spool?.dropped ?? [];
      assert.equal(others.length, 0, 'one outage is one range');
      assert.ok(dropped.lsnStart === 5 && dropped.lsnEnd > 40 && dropped.files > 30);
      await archiver.archivePending();
      const head = archiver.head;
      assert.deepEqual(
        head.gaps.map((g) => [g.lsnStart, g.lsnEnd, g.cause, g.afterTs]),
        [[dropped.lsnStart, dropped.lsnEnd, 'dropped: quota', before]],
      );
      assert.ok(head.gaps[0].untilTs >= dropped.untilTs);
      const between = await p.view();
      assert.equal(
        between.restorable.contiguousEnd,
        before,
        'nothing after the gap is promised without a base',
      );
      const base = await anchorIfNeeded(archiver);
      assert.equal(base?.kind, 'base');
      await putSealed(engine, 61, 63);
      await archiver.archivePending();
      assert.deepEqual(engine.spool?.dropped, [], 'what the archive knows is forgotten here');
      const { ranges } = (await p.view()).restorable;
      assert.deepEqual(
        ranges.map((r) => [r.anchor, r.fromTs, r.toTs]),
        [
          ['start', ranges[0].fromTs, before],
          [base?.id, base?.endTs, archiver.head.frontier.ts],
        ],
      );
      assert.deepEqual(
        [...(await p.valuesAt(String(before))).keys()].sort((a, b) => a - b),
        [1, 2, 3, 4],
      );
      assert.equal((await p.valuesAt('latest')).size, 63);
      await refuses('target-nodata', p.valuesAt(String(before + 1)));
      assert.equal(await anchorIfNeeded(archiver), undefined);
      await archiver.close();
      await engine.close();
    },
  );

  inScratch(
    'the engine itself loses nothing: every acknowledged record is there after a kill',
    async (root) => {
      const p = await place(root);
      const engine = await p.open(DROP);
      await putSealed(engine, 1, 40);
      assert.ok((engine.spool?.dropped.length ?? 0) > 0);
      await copyDir(p.dir, join(root, 'killed'));
      await engine.close();
      const again = await Engine.open({ dir: join(root, 'killed'), sealMs: 0, spool: DROP });
      await assertAll(again, 40);
      assert.equal(again.lastLsn, 40);
      assert.ok((again.spool?.dropped.length ?? 0) > 0, 'a restart remembers what was dropped');
      await again.close();
    },
  );

  inScratch(
    'Q2: no file goes before the record of it is durable, and none goes when that fails',
    async (root) => {
      const p = await place(root);
      const calls: string[] = [];
      let full = true;
      const files = {
        ...nodeFiles,
        createNew: async (path: string) => {
          if (full && path.includes(DROPPED_FILE)) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
          const file = await nodeFiles.createNew(path);
          if (!path.includes(DROPPED_FILE)) return file;
          return {
            ...file,
            append: file.append.bind(file),
            close: file.close.bind(file),
            sync: async () => {
              await file.sync();
              calls.push('record synced');
            },
          };
        },
        remove: async (path: string) => {
          await nodeFiles.remove(path);
          if (path.endsWith('.wal')) calls.push('file removed');
        },
      };
      const engine = await p.open(DROP, { files });
      await putSealed(engine, 1, 20);
      assert.deepEqual(calls, []);
      assert.match(engine.spool?.error ?? '', /full/);
      assert.ok((await readdir(join(p.dir, 'log'))).filter((n) => n.endsWith('.wal')).length >= 20);
      full = false;
      await engine.put(keyOf(21), { n: 21 });
      await engine.sealApplied();
      assert.equal(engine.spool?.error, null);
      assert.deepEqual(calls.slice(0, 2), ['record synced', 'file removed']);
      const [range] = await readDropped(join(p.dir, 'log'), nodeFiles);
      assert.ok(range.lsnEnd > 10);
      assert.equal(JSON.parse(await readFile(join(p.dir, 'log', DROPPED_FILE), 'utf8')).version, 1);
      await engine.close();
    },
  );

  inScratch('what the archiver had in hand when it was dropped is no gap', async (root) => {
    const p = await place(root);
    const engine = await p.open(DROP);
    await putSealed(engine, 1, 5);
    const store = openObjectStore(p.url);
    const create = store.create.bind(store);
    store.create = async (name, bytes) => {
      // the writer drops what is on its way
      store.create = create;
      await putSealed(engine, 6, 40);
      await create(name, bytes);
    };
    const archiver = await Archiver.open(p.dir, { store });
    await archiver.archivePending();
    assert.equal(archiver.head.frontier.lsn, 40);
    assert.deepEqual(
      archiver.head.gaps.map((g) => [g.lsnStart, g.cause]),
      [[6, 'dropped: quota']],
    );
    await archiver.close();
    await engine.close();
  });
});

describe('spool: policy spill', () => {
  const spill = (root: string) =>
    ({
      policy: 'spill',
      quotaBytes: 64 * KIB,
      spillDir: join(root, 'spill'),
      spillBytes: 256 * KIB,
      blockTimeoutMs: LONG_MS,
    }) as const;
  const mount = async (root: string): Promise<void> => nodeFiles.makeDir(join(root, 'spill'));
  const spilledNames = async (root: string): Promise<string[]> => {
    const [engineId] = await readdir(join(root, 'spill'));
    return engineId === undefined ? [] : readdir(join(root, 'spill', engineId));
  };

  inScratch(
    'over the quota the oldest files move, then writers wait, and everything arrives in the archive',
    async (root) => {
      await mount(root);
      const p = await place(root);
      const engine = await p.open(spill(root));
      const { last, pending } = await putUntilBlocked(engine);
      const { spilledBytes = 0, waitingBytes = 0, spillBytes } = engine.spool ?? {};
      assert.ok(last > 30, `${last} writes of 8 KiB into 64 + 256 KiB`);
      assert.ok(spilledBytes > 200 * KIB && spilledBytes <= 256 * KIB);
      assert.ok(waitingBytes >= spilledBytes + 64 * KIB && spillBytes === 256 * KIB);
      assert.ok((await spilledNames(root)).length > 20);
      const archiver = await p.archiver();
      await archiver.archivePending();
      await pending;
      await engine.sealApplied();
      // a look for room that began before all was archived may still be moving a file
      for (let seals = 0; seals < 10 && (await spilledNames(root)).length > 0; seals++) await engine.seal();
      assert.deepEqual(await spilledNames(root), [], 'copies go after their links');
      assert.equal(engine.spool?.spilledBytes, 0);
      await archiver.archivePending();
      assert.equal(archiver.head.frontier.lsn, last + 1);
      assert.deepEqual(archiver.head.gaps, []);
      await archiver.close();
      await engine.close();
      assert.equal((await p.valuesAt('latest')).size, last + 1);
    },
  );

  inScratch(
    'a spill directory that vanished is said by name, is no gap, and goes on when it is back',
    async (root) => {
      await mount(root);
      const p = await place(root);
      const engine = await p.open(spill(root));
      await putSealed(engine, 1, 25);
      assert.ok((engine.spool?.spilledBytes ?? 0) > 0);
      const archiver = await p.archiver();
      await rename(join(root, 'spill'), join(root, 'unmounted'));
      const error = await refuses('spill-missing', archiver.archivePending());
      assert.match(String(error.facts.target), /spill/);
      assert.deepEqual(archiver.head.gaps, []);
      // nothing can be spilled, so the quota alone counts; no directory is made where a file system should be
      await engine.seal();
      await assert.rejects(access(join(root, 'spill')));
      await engine.close();
      await copyDir(p.dir, join(root, 'copy'));
      await refuses(
        'spill-missing',
        p.open(spill(root)).then((e) => e.close()),
      );
      await rename(join(root, 'unmounted'), join(root, 'spill'));
      const again = await p.open(spill(root));
      await assertAll(again, 25);
      await again.close();
      await archiver.archivePending();
      assert.equal(archiver.head.frontier.lsn, 25);
      await archiver.close();
      assert.equal((await p.valuesAt('latest')).size, 25);
    },
  );
});

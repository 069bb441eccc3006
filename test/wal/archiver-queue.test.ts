import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { Store } from '../../engine/store.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { listSnapshots } from '../../snapshot/snapshots.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { emptyHead, RETIRE_MS, replaceRuns, runOf } from '../../wal/catalog.ts';
import { readFenced } from '../../wal/fenced.ts';
import { HeldHead } from '../../wal/held-head.ts';
import { withLease } from '../../wal/lease.ts';
import {
  copyDir,
  dense,
  headOf,
  initEngine,
  inScratch,
  lsnsOf,
  openEngine,
  putSealed,
  refuses,
  segmentNames,
} from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

describe('archiver: one queue', () => {
  inScratch(
    'a slow archivePending and a round do not overlap: no older head is published over a newer one',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await initEngine(e, store);
      const engine = await openEngine(e);
      const archiver = await Archiver.open(e, { store, fanout: 2 });
      await putSealed(engine, 1, 1);
      let go = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        go = resolve;
      });
      let creates = 0;
      store.hook = async (call, name, when) => {
        if (call === 'create' && when === 'before' && name.startsWith('segments/') && creates++ === 0)
          await held;
      };
      const frontiers: number[] = [];
      const work = [
        archiver.archivePending(),
        archiver.round(),
        archiver.compact(),
        archiver.archivePending(),
      ];
      for (const w of work) w.then(() => frontiers.push(archiver.head.frontier.lsn));
      await sleep(100);
      await putSealed(engine, 2, 5);
      assert.equal(creates, 1, 'the round waits');
      go();
      await Promise.all(work);
      await engine.close();
      await archiver.round();
      assert.deepEqual(
        frontiers,
        [...frontiers].sort((a, b) => a - b),
      );
      const head = await headOf(store, e);
      assert.deepEqual([head.frontier.lsn, head.gaps], [5, []]);
      assert.deepEqual(await lsnsOf(store, head), dense(5));
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, [...listed, ...head.retired.flatMap((r) => r.names)].sort());
      await archiver.close();
    },
  );

  inScratch(
    'a job that runs alone may ship; close waits for it, and what comes later is refused',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await initEngine(e, store);
      const engine = await openEngine(e);
      await putSealed(engine, 1, 2);
      await engine.close();
      const archiver = await Archiver.open(e, { store });
      let ended = false;
      const job = archiver.exclusively(async (own) => {
        const shipped = await own.archivePending();
        await sleep(100);
        ended = true;
        return shipped;
      });
      const closed = archiver
        .close()
        .then(() => assert.ok(ended, 'the lock is kept until the job has ended'));
      await refuses('interrupted', archiver.round());
      assert.equal(await job, 2);
      await closed;
    },
  );

  inScratch('a head that was made from an older one, or lowers the frontier, is refused', async (dir) => {
    const store = new MemoryStore();
    await initEngine(dir, store);
    const archive = await Archive.open(store);
    const { identity } = await Archiver.open(dir, { store }).then(async (a) => {
      await a.close();
      return a;
    });
    const held = await HeldHead.claim(archive, identity, archive.clock);
    const first = held.current;
    await held.publish(first, { ...first, frontier: { ts: 5, lsn: 5 }, sequence: 2 });
    const second = held.current;
    await refuses('internal', held.publish(first, { ...first, frontier: { ts: 9, lsn: 9 }, sequence: 9 }));
    await refuses('internal', held.publish(second, { ...second, frontier: { ts: 4, lsn: 5 } }));
    await refuses('internal', held.publish(second, { ...second, frontier: { ts: 5, lsn: 4 } }));
    await refuses('internal', held.publish(second, { ...second, sequence: 1 }));
    assert.deepEqual((await headOf(store, dir)).frontier, { ts: 5, lsn: 5 });
  });

  inScratch('runs are replaced only where they are', async () => {
    const run = (lsn: number) => runOf(0, lsn, lsn + 1, []);
    const [a, b, c, d] = [run(1), run(2), run(3), run(4)];
    assert.deepEqual(replaceRuns([a, b, c], [a, b], d), [d, c]);
    assert.throws(() => replaceRuns([b, c], [a, b], d), { id: 'internal' });
    assert.throws(() => replaceRuns([a, c], [a, b], d), { id: 'internal' });
  });
});

describe('archiver: base copies', () => {
  inScratch('three that look at once whether a base copy is needed take one', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const engine = await openEngine(e);
    await putSealed(engine, 1, 3);
    await engine.close();
    const archiver = await Archiver.open(e, { store });
    await rm(join(e, 'log', '000000000001.wal'));
    await archiver.round();
    assert.equal(archiver.head.gaps.length, 1);
    const work = [
      anchorIfNeeded(archiver),
      archiver.round(),
      anchorIfNeeded(archiver),
      anchorIfNeeded(archiver),
    ];
    const made = (await Promise.all(work)).filter((x) => x !== undefined);
    assert.equal(made.length, 1);
    assert.equal((await listSnapshots(await Archive.open(store))).length, 1);
    await archiver.close();
  });

  inScratch(
    'an engine opened while this process reads its store is engine-busy; later it opens',
    async (dir) => {
      let engine = await openEngine(dir);
      await putSealed(engine, 1, 3);
      await engine.close();
      const store = Store.open(dir, { readOnly: true });
      const { records, done } = store.snapshot();
      const rows = records[Symbol.iterator]();
      rows.next();
      await refuses('engine-busy', openEngine(dir));
      let n = 1;
      while (!rows.next().done) n++;
      assert.equal(n, 3, 'the reader is not disturbed');
      done();
      await store.close();
      engine = await openEngine(dir);
      await putSealed(engine, 4, 4);
      await engine.close();
    },
  );
});

describe('archiver: fencing', () => {
  inScratch(
    'two that take a stream at once: one has it, the other is fenced and leaves no object',
    async (dir) => {
      const store = new MemoryStore();
      const [a, b] = [join(dir, 'a'), join(dir, 'b')];
      await initEngine(a, store);
      const engine = await openEngine(a);
      await putSealed(engine, 1, 2);
      await engine.close();
      await copyDir(a, b);
      // both have read the head before either writes its own
      let readers = 0;
      let go = (): void => undefined;
      const both = new Promise<void>((resolve) => {
        go = resolve;
      });
      store.hook = async (call, name, when) => {
        if (call !== 'readSwap' || !name.startsWith('heads/') || when !== 'after') return;
        if (++readers === 2) go();
        await both;
      };
      const archivers = await Promise.all([a, b].map((d) => Archiver.open(d, { store })));
      store.hook = () => undefined;
      assert.equal(new Set(archivers.map((x) => x.head.generation)).size, 2);
      const results = await Promise.allSettled(archivers.map((x) => x.archivePending()));
      assert.deepEqual(results.map((r) => r.status).sort(), ['fulfilled', 'rejected']);
      const loser = archivers[results.findIndex((r) => r.status === 'rejected')];
      await refuses('fenced', loser.archivePending());
      const head = await headOf(store, a);
      assert.deepEqual(await lsnsOf(store, head), [1, 2]);
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed);
      await Promise.all(archivers.map((x) => x.close()));
    },
  );

  inScratch('a head with another claim to the same generation fences', async (dir) => {
    const store = new MemoryStore();
    await initEngine(dir, store);
    const archive = await Archive.open(store);
    const fields = { archive: archive.id, timeline: 't', stream: 'main', engineId: 'e', generation: 3 };
    const tag = await archive.swapHead(undefined, { ...emptyHead(fields), claim: 'a' });
    await archive.swapHead(tag, { ...emptyHead(fields), claim: 'a', updatedMs: 1 });
    await refuses('fenced', archive.swapHead(tag, { ...emptyHead(fields), claim: 'b' }));
    await refuses('cas-conflict', archive.swapHead(tag, { ...emptyHead(fields), claim: 'a', updatedMs: 2 }));
  });

  inScratch(
    'a fenced agent says so once, does nothing any more, and leaves no object behind',
    async (dir) => {
      const store = new MemoryStore();
      const [a, b] = [join(dir, 'a'), join(dir, 'b')];
      await initEngine(a, store);
      await (await openEngine(a)).close();
      const seen: ArchiverEvent[] = [];
      const old = await Archiver.open(a, { store, onEvent: (event) => seen.push(event) });
      await old.round();
      await copyDir(a, b);
      const taker = await Archiver.open(b, { store });
      const engine = await openEngine(a);
      await putSealed(engine, 1, 1);
      old.start();
      for (let i = 0; i < 50 && !old.fenced; i++) await sleep(20);
      assert.equal(old.fenced?.id, 'fenced');
      const { calls } = store;
      const before = calls.length;
      await putSealed(engine, 2, 2);
      for (let i = 0; i < 3; i++) await refuses('fenced', old.round());
      await refuses('fenced', old.adopt());
      await sleep(1200);
      assert.equal(calls.length, before);
      assert.equal(seen.filter((s) => s.kind === 'error').length, 1);
      assert.deepEqual(segmentNames(store, await headOf(store, a)).stored, []);
      await engine.close();
      await Promise.all([old.close(), taker.close()]);
    },
  );

  inScratch('its word stays when a merge finds out while a round is under way', async (dir) => {
    const store = new MemoryStore();
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    await initEngine(a, store);
    const engine = await openEngine(a);
    const merging = { store, fanout: 2, smallBytes: 0, retireMs: 0 };
    let beforeList = async (): Promise<void> => undefined;
    const files: Files = {
      ...nodeFiles,
      list: async (path) => {
        await beforeList();
        return nodeFiles.list(path);
      },
    };
    const seen: ArchiverEvent[] = [];
    const old = await Archiver.open(a, { ...merging, files, onEvent: (event) => seen.push(event) });
    for (let n = 1; n <= 2; n++) {
      await putSealed(engine, n, n);
      await old.archivePending();
    }
    await copyDir(a, b);
    const taker = await Archiver.open(b, merging);
    assert.equal(await taker.compact(), 1);
    // with nothing to ship, it does not hear of the other one itself
    const listing = Promise.withResolvers<void>();
    const mayList = Promise.withResolvers<void>();
    beforeList = () => {
      listing.resolve();
      return mayList.promise;
    };
    const round = old.finish();
    await listing.promise;
    await refuses('fenced', old.compact());
    await sleep(50);
    mayList.resolve();
    await round;
    await old.close();
    const { mine, current, lsn } = (await readFenced(a)) ?? {};
    assert.deepEqual({ mine, current, lsn }, { mine: 1, current: 2, lsn: 2 });
    assert.equal(seen.filter((s) => s.kind === 'error').length, 1);
    await engine.close();
    await taker.close();
  });

  inScratch('a successor that took over a head whose answer was lost keeps its segment', async (dir) => {
    const store = new MemoryStore();
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    await initEngine(a, store);
    const engine = await openEngine(a);
    await putSealed(engine, 1, 1);
    await engine.close();
    await copyDir(a, b);
    const old = await Archiver.open(a, { store });
    let taker: Archiver | undefined;
    store.hook = async (call, name, when) => {
      if (call !== 'swap' || when !== 'after' || !name.startsWith('heads/')) return;
      store.hook = () => undefined;
      taker = await Archiver.open(b, { store });
      throw new PitrError('cas-conflict', { name });
    };
    await refuses('fenced', old.archivePending());
    const head = await headOf(store, a);
    assert.deepEqual(await lsnsOf(store, head), [1]);
    await Promise.all([old.close(), taker?.close()]);
  });
});

describe('archiver: what merges replaced', () => {
  inScratch(
    'stays listed until it is deleted: after a failed delete and after a lost answer',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await initEngine(e, store);
      const engine = await openEngine(e);
      const archiver = await Archiver.open(e, { store, fanout: 2, retireMs: 0 });
      for (let n = 1; n <= 2; n++) {
        await putSealed(engine, n, n);
        await archiver.archivePending();
      }
      const replaced = archiver.head.runs.flatMap((r) => r.segments.map((s) => s.name));
      const remove = store.delete.bind(store);
      store.delete = async (names) => {
        await remove(names.slice(1));
        return [{ name: names[0], cause: new Error('read-only') }];
      };
      await refuses('io', archiver.compact());
      let head = await headOf(store, e);
      assert.deepEqual(
        head.retired.flatMap((r) => r.names),
        replaced.slice(0, 1),
      );
      store.delete = async () => {
        throw new Error('lost');
      };
      await assert.rejects(archiver.compact(), /lost/);
      head = await headOf(store, e);
      assert.deepEqual(
        head.retired.flatMap((r) => r.names),
        replaced.slice(0, 1),
      );
      store.delete = remove;
      await archiver.compact();
      head = await headOf(store, e);
      assert.deepEqual(head.retired, []);
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed);
      await engine.close();
      await archiver.close();
    },
  );

  inScratch('is there for two minutes, and as long as a lease that was held then', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const engine = await openEngine(e);
    let nowMs = Date.now();
    const clock = { nowMs: () => nowMs };
    const archiver = await Archiver.open(e, { store, fanout: 2, clock });
    const left = (): number => segmentNames(store, archiver.head).stored.length;
    for (let n = 1; n <= 2; n++) {
      await putSealed(engine, n, n);
      await archiver.round();
    }
    nowMs += 110_000;
    await archiver.compact();
    assert.equal(left(), 3);
    await withLease(archiver.archive, 'restore', async () => {
      nowMs += 3_600_000;
      await archiver.compact();
      assert.equal(left(), 3, 'a lease was held');
    });
    await archiver.compact();
    assert.equal(left(), 1);
    await engine.close();
    await archiver.close();
  });

  inScratch('does not stay for a year because a clock was wrong by one', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const engine = await openEngine(e);
    let nowMs = Date.now() + 365 * 86_400_000;
    const archiver = await Archiver.open(e, { store, fanout: 2, clock: { nowMs: () => nowMs } });
    for (let n = 1; n <= 2; n++) {
      await putSealed(engine, n, n);
      await archiver.round();
    }
    nowMs = Date.now();
    await putSealed(engine, 3, 3);
    await archiver.archivePending();
    const left = (): number => segmentNames(store, archiver.head).stored.length;
    await archiver.compact({ fanout: 8 });
    assert.equal(left(), 4, 'the two minutes begin anew');
    nowMs += RETIRE_MS;
    await archiver.compact({ fanout: 8 });
    assert.equal(left(), 2);
    await engine.close();
    await archiver.close();
  });
});

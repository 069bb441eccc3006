/** Leases: what a restore still reads stays, what nobody reads goes, and who slept through its lease is told. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { LEASES_OBJECT, LeaseWatch, listLeases, withLease } from '../../wal/lease.ts';
import { initEngine, inScratch, openEngine, putSealed, refuses, segmentNames } from './archiver-support.ts';
import { lost, MemoryStore } from './memory-store.ts';

const opened = async (): Promise<{ store: MemoryStore; archive: Archive }> => {
  const store = new MemoryStore();
  return { store, archive: await Archive.openOrCreate(store) };
};

describe('leases: holding one', () => {
  test('is in the archive while the work runs, renewed, and gone afterwards, also after a failure', async () => {
    const { archive } = await opened();
    const beats: number[] = [];
    await withLease(
      archive,
      'restore',
      async () => {
        for (let i = 0; i < 3; i++) {
          const [lease] = await listLeases(archive);
          assert.equal(lease.purpose, 'restore');
          beats.push(lease.beats);
          await sleep(60);
        }
      },
      { ttlMs: 120 },
    );
    assert.deepEqual(await listLeases(archive), []);
    assert.ok(beats[0] === 1 && beats[2] > beats[0], `renewed: ${beats}`);
    await assert.rejects(
      withLease(archive, 'verify', async () => {
        throw new Error('the work');
      }),
      /the work/,
    );
    assert.deepEqual(await listLeases(archive), []);
  });

  test('many at once: each is there, each goes by itself', async () => {
    const { archive } = await opened();
    let most = 0;
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        withLease(archive, `work ${i}`, async () => {
          await sleep(10 + i);
          most = Math.max(most, (await listLeases(archive)).length);
        }),
      ),
    );
    assert.ok(most > 10, `${most}`);
    assert.deepEqual(await listLeases(archive), []);
  });

  test('an archive that cannot be written: the work runs, and says that nothing keeps what it reads', async () => {
    const { store, archive } = await opened();
    store.hook = (call) => {
      if (call === 'swap') throw lost();
    };
    const said: string[] = [];
    const onUnprotected = (why: string): void => void said.push(why);
    assert.equal(await withLease(archive, 'restore', async () => 7, { onUnprotected }), 7);
    assert.equal(said.length, 1);
    assert.match(said[0], /restore holds no lease/);
    const gone = new PitrError('object-not-found', { name: 'segments/x' });
    const error = await refuses(
      'lease-lost',
      withLease(archive, 'restore', () => Promise.reject(gone), { onUnprotected }),
    );
    assert.equal(error.cause, gone);
    assert.match(error.hint, /run the command again/);
  });

  test('an object that is missing under a lease that is held is missing', async () => {
    const { archive } = await opened();
    const gone = new PitrError('object-not-found', { name: 'segments/x' });
    await refuses(
      'object-not-found',
      withLease(archive, 'restore', () => Promise.reject(gone)),
    );
  });
});

describe('leases: judging them', () => {
  test('a lease is over when it has not moved for its time by the judge’s own clock, whatever the holder’s says', async () => {
    const { store, archive } = await opened();
    // the holder's clock is an hour ahead, and it is dead: nobody renews
    const ahead = await Archive.open(store, { clock: { nowMs: () => Date.now() + 3_600_000 } });
    let end = (): void => undefined;
    const held = withLease(ahead, 'restore', () => new Promise<void>((resolve) => (end = resolve)), {
      ttlMs: 1_000_000,
    });
    await sleep(20);
    let nowMs = Date.now();
    const watch = new LeaseWatch(archive, { nowMs: () => nowMs });
    assert.equal((await watch.held()).size, 1);
    for (let i = 0; i < 4; i++) {
      nowMs += 249_750;
      assert.equal((await watch.held()).size, 1);
    }
    const late = new LeaseWatch(archive, { nowMs: () => nowMs });
    assert.equal((await late.held()).size, 1);
    nowMs += 2000;
    assert.equal((await late.held()).size, 1, 'one that has just begun to look waits as long');
    assert.equal((await watch.held()).size, 0);
    assert.deepEqual(await listLeases(archive), [], 'it is removed');
    end();
    await held;
  });

  test('a clock that leaps ends no lease, nor does the sleep of a machine on which both work', async () => {
    const { archive } = await opened();
    let nowMs = Date.now();
    const watch = new LeaseWatch(archive, { nowMs: () => nowMs });
    const held = async (): Promise<number> => (await watch.held()).size;
    const work = async (): Promise<void> => {
      for (const leapMs of [0, 3_600_000, -7_200_000, 365 * 86_400_000]) {
        // the holder's next renewal is about to come
        for (const stepMs of [20_000, leapMs + 20_000]) {
          nowMs += stepMs;
          assert.equal(await held(), 1, `${leapMs}`);
        }
      }
      // only 160 s have passed by a clock without leaps; what is dead is over all the same
      for (let i = 0; i < 20 && (await held()) === 1; i++) nowMs += 30_000;
      assert.equal(await held(), 0);
    };
    await withLease(archive, 'restore', work, { ttlMs: 400_000 });
  });

  test('a renewed lease lives on', async () => {
    const { archive } = await opened();
    let nowMs = Date.now();
    const watch = new LeaseWatch(archive, { nowMs: () => nowMs });
    await withLease(
      archive,
      'restore',
      async () => {
        for (let i = 0; i < 5; i++) {
          assert.equal((await watch.held()).size, 1);
          nowMs += 70;
          await sleep(70);
        }
      },
      { ttlMs: 100 },
    );
  });
});

/** An archive of two runs that a merge replaces. */
const twoRuns = async (dir: string, store: MemoryStore): Promise<Archiver> => {
  await initEngine(dir, store);
  const engine = await openEngine(dir);
  const archiver = await Archiver.open(dir, { store, fanout: 2, retireMs: 0 });
  for (let n = 1; n <= 2; n++) {
    await putSealed(engine, n, n);
    await archiver.archivePending();
  }
  await engine.close();
  await archiver.archivePending();
  return archiver;
};

describe('leases: restore, snapshot and verify hold one', () => {
  inScratch('what a running restore has planned to read stays until it has ended', async (dir) => {
    const store = new MemoryStore();
    const archiver = await twoRuns(join(dir, 'e'), store);
    const archive = await Archive.open(store);
    const works: (() => Promise<unknown>)[] = [
      () => restoreEngine(join(dir, 'r'), undefined, { archive, target: 'latest', workers: 0 }),
      () => createSnapshot(archive, { kind: 'synthetic' }),
      async () => assert.deepEqual((await verifyArchive(archive, { workers: 0 })).anomalies, []),
    ];
    for (const work of works) {
      const before = segmentNames(store, archiver.head).listed;
      let reading = (): void => undefined;
      let go = (): void => undefined;
      const isReading = new Promise<void>((resolve) => (reading = resolve));
      const mayGo = new Promise<void>((resolve) => (go = resolve));
      // the plan is made when the first segment is opened
      store.hook = async (call, name) => {
        if (call !== 'read' || !before.includes(name)) return;
        reading();
        await mayGo;
      };
      const done = work();
      await isReading;
      store.hook = () => undefined;
      assert.equal(await archiver.compact({ full: true }), before.length > 1 ? 1 : 0);
      await archiver.compact();
      for (const name of before) assert.ok(store.objects.has(name), `${name} is still read`);
      go();
      await done;
      await archiver.compact();
      for (const name of before)
        assert.equal(
          store.objects.has(name),
          archiver.head.runs.some((r) => r.segments.some((s) => s.name === name)),
        );
      // two runs again, for the next
      const engine = await openEngine(join(dir, 'e'));
      await putSealed(engine, 10, 10);
      await engine.close();
      await archiver.archivePending();
    }
    await archiver.close();
  });

  inScratch('a restore that slept through its lease says so, and writes nothing wrong', async (dir) => {
    const store = new MemoryStore();
    const archiver = await twoRuns(join(dir, 'e'), store);
    const before = segmentNames(store, archiver.head).listed;
    let asleep = true;
    store.hook = async (call, name) => {
      if (call !== 'read' || !before.includes(name) || !asleep) return;
      asleep = false;
      // the whole process is stopped here; the archiver meanwhile finds that the lease does not move
      store.swaps.delete(LEASES_OBJECT);
      await archiver.compact();
      await archiver.compact();
    };
    const archive = await Archive.open(store);
    await refuses(
      'lease-lost',
      restoreEngine(join(dir, 'r'), undefined, { archive, target: 'latest', workers: 0 }),
    );
    assert.ok(before.some((name) => !store.objects.has(name)));
    store.hook = () => undefined;
    const again = await restoreEngine(join(dir, 'r'), undefined, { archive, target: 'latest', workers: 0 });
    assert.deepEqual([again.records, again.verification.source], [2, 'equal']);
    await archiver.close();
  });

  inScratch('leases that cannot be read delay a deletion', async (dir) => {
    const store = new MemoryStore();
    const archiver = await twoRuns(join(dir, 'e'), store);
    store.hook = (call, name) => {
      if (call === 'readSwap' && name === LEASES_OBJECT) throw lost();
    };
    await refuses('io', archiver.compact());
    assert.equal(segmentNames(store, archiver.head).stored.length, 3);
    store.hook = () => undefined;
    await archiver.compact();
    assert.equal(segmentNames(store, archiver.head).stored.length, 1);
    await archiver.close();
  });
});

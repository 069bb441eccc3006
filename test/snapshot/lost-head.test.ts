/** Somebody has deleted the catalog of a stream: nothing begins anew over what it named, and nobody calls the archive good. */
import assert from 'node:assert/strict';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Locks } from '../../engine/directory-lock.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { headOf, initEngine, inScratch, openEngine, putSealed, refuses } from '../wal/archiver-support.ts';
import { MemoryStore } from '../wal/memory-store.ts';

inScratch(
  'a head that was deleted is missing for the agent that runs, the next one and verify',
  async (dir) => {
    const store = new MemoryStore();
    await initEngine(dir, store);
    const engine = await openEngine(dir);
    await putSealed(engine, 1, 5);
    const archiver = await Archiver.open(dir, { store });
    await archiver.archivePending();
    const archive = await Archive.open(store);
    const { timeline, stream, frontier } = await headOf(store, dir);
    const name = archive.headName(timeline, stream);
    await createSnapshot(archive, { kind: 'synthetic', timeline });
    const before = await verifyArchive(archive, { workers: 0 });
    assert.deepEqual(before.anomalies, []);

    const objects = [...store.objects.keys()];
    store.swaps.delete(name);
    await putSealed(engine, 6, 6);
    await engine.close();
    assert.equal((await refuses('head-missing', archiver.archivePending())).facts.name, name);
    await archiver.close();
    const error = await refuses('head-missing', Archiver.open(dir, { store }));
    assert.deepEqual([error.exitCode, error.facts.lsn], [23, frontier.lsn]);
    assert.equal(store.swaps.has(name), false, 'none was begun');
    assert.deepEqual(
      objects.filter((o) => !store.objects.has(o)),
      [],
      'what it named is there',
    );
    const { anomalies } = await verifyArchive(archive, { workers: 0 });
    assert.deepEqual(
      anomalies.map((a) => [a.class, a.object, a.harmless]),
      [['missing', name, false]],
    );

    // the way out that the hint names
    await rm(join(dir, 'archived.json'));
    const anew = await Archiver.open(dir, { store });
    await anew.archivePending();
    await anew.close();
    assert.equal((await headOf(store, dir)).gaps.length, 1);
  },
);

inScratch('a head that another agent has made since the first look is not missing', async (dir) => {
  const store = new MemoryStore();
  await initEngine(dir, store);
  const engine = await openEngine(dir);
  await putSealed(engine, 1, 5);
  await engine.close();
  let looked = false;
  store.hook = async (call, name, when) => {
    if (looked || call !== 'readSwap' || !name.startsWith('heads/') || when !== 'after') return;
    looked = true;
    // as on another host, which does not see our lock
    const other = await Archiver.open(dir, { store, locks: elsewhere });
    await other.archivePending();
    await other.close();
  };
  const archiver = await Archiver.open(dir, { store });
  assert.deepEqual([archiver.head.generation, archiver.head.frontier.lsn], [2, 5]);
  await archiver.close();
});

/** Locks of another host. */
const elsewhere: Locks = {
  acquire: async (path) => ({ path, release: () => undefined }),
  isLocked: () => false,
};

inScratch(
  'an archive without its timelines, or without its first object, is damaged and not new',
  async (dir) => {
    const place = join(dir, 'archive');
    const url = `file:${place}`;
    await Engine.init(join(dir, 'e'), { archive: url });
    const engine = await openEngine(join(dir, 'e'));
    await putSealed(engine, 1, 2);
    await engine.close();
    const archiver = await Archiver.open(join(dir, 'e'));
    await archiver.archivePending();
    await archiver.close();
    const archive = await Archive.open(url);
    assert.deepEqual((await verifyArchive(archive, { workers: 0 })).anomalies, []);

    await rename(join(place, 'archive'), join(dir, 'kept'));
    await refuses('object-corrupt', Engine.init(join(dir, 'other'), { archive: url, stream: 'other' }));
    await rename(join(dir, 'kept'), join(place, 'archive'));

    await rm(join(place, 'timelines'), { recursive: true });
    const { anomalies } = await verifyArchive(archive, { workers: 0 });
    assert.deepEqual(
      anomalies.map((a) => [a.class, a.object, a.harmless]),
      [['missing', 'timelines', false]],
    );
  },
);

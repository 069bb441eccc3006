import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ErrorId, isPitrError, PitrError } from '../../engine/errors.ts';
import { newIdentity } from '../../engine/identity.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive, segmentName } from '../../wal/archive.ts';
import { emptyHead, type Head } from '../../wal/catalog.ts';
import { encodeDocument } from '../../wal/document.ts';
import { withEngine } from '../../wal/timeline.ts';
import { type Call, lost, MemoryStore } from './memory-store.ts';

const refuses = (id: ErrorId, promise: Promise<unknown>): Promise<void> =>
  assert.rejects(promise, (e) => {
    assert.ok(e instanceof PitrError, `${e}`);
    assert.equal(e.id, id, e.message);
    return true;
  });

const TIMELINE = '0'.repeat(16);
const headOf = (archive: Archive, generation: number, fields: Partial<Head> = {}): Head => ({
  ...emptyHead({ archive: archive.id, timeline: TIMELINE, stream: 'main', engineId: 'e', generation }),
  ...fields,
});

/** Fails the n-th call of a kind once, before or after its effect. */
const failOnce = (
  store: MemoryStore,
  call: Call,
  when: 'before' | 'after',
  error: () => Error = lost,
): void => {
  let done = false;
  store.hook = (c, _, at) => {
    if (c !== call || at !== when || done) return;
    done = true;
    throw error();
  };
};

describe('archive: identity', () => {
  test('an absent archive is archive-not-found; any other failure is not absence', async () => {
    await refuses('archive-not-found', Archive.open(new MemoryStore()));
    const store = new MemoryStore();
    failOnce(store, 'read', 'before');
    await refuses('io', Archive.open(store));
    failOnce(store, 'read', 'before');
    await refuses('io', Archive.openOrCreate(store));
    assert.equal(store.objects.size, 0, 'nothing was created over an archive that could not be read');
  });

  test('of two that create at the same moment, both open the same archive', async () => {
    const store = new MemoryStore();
    const archives = await Promise.all(Array.from({ length: 5 }, () => Archive.openOrCreate(store)));
    assert.equal(new Set(archives.map((a) => a.id)).size, 1);
    assert.ok(store.countOf('create') >= 2, 'they did race');
    assert.equal((await Archive.open(store)).id, archives[0].id);
  });

  test('an answer to the creation that was lost leaves one archive', async () => {
    const store = new MemoryStore();
    failOnce(store, 'create', 'after');
    await refuses('io', Archive.openOrCreate(store));
    const { id } = await Archive.openOrCreate(store);
    assert.equal((await Archive.open(store)).id, id);
  });

  test('a head or timelines of another archive are archive-mismatch', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    const other = await Archive.openOrCreate(new MemoryStore());
    await store.swap('heads/0/main', undefined, encodeDocument('head', headOf(other, 1)));
    await refuses('archive-mismatch', archive.head('0', 'main'));
    await store.swap(
      'timelines',
      undefined,
      encodeDocument('timelines', { archive: other.id, timelines: [] }),
    );
    await refuses('archive-mismatch', archive.timelines());
  });
});

describe('archive: compare and swap', () => {
  test('a swap whose answer is lost, but which had its effect, is success', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    const first = await archive.swapHead(undefined, headOf(archive, 1));
    failOnce(store, 'swap', 'after');
    const second = await archive.swapHead(first, headOf(archive, 1, { updatedMs: 2 }));
    store.hook = () => undefined;
    assert.deepEqual(await archive.head(TIMELINE, 'main'), {
      value: headOf(archive, 1, { updatedMs: 2 }),
      tag: second,
    });
    const third = await archive.swapHead(second, headOf(archive, 1, { updatedMs: 3 }));
    assert.notEqual(third, second);
  });

  test('a swap that is repeated below us, so that it meets its own effect, is success', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    failOnce(store, 'swap', 'after', () => new PitrError('cas-conflict', { name: 'repeated by a proxy' }));
    await archive.swapHead(undefined, headOf(archive, 1));
    assert.equal((await archive.head(TIMELINE, 'main'))?.value.generation, 1);
  });

  test('a swap without effect and without answer is an error, and changes nothing', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    const tag = await archive.swapHead(undefined, headOf(archive, 1));
    failOnce(store, 'swap', 'before');
    await refuses('io', archive.swapHead(tag, headOf(archive, 1, { updatedMs: 2 })));
    assert.equal((await archive.head(TIMELINE, 'main'))?.value.updatedMs, 0);
  });

  test('A3: an older writer generation is fenced, an equal or newer one meets a conflict', async () => {
    const archive = await Archive.openOrCreate(new MemoryStore());
    const old = await archive.swapHead(undefined, headOf(archive, 3));
    await archive.swapHead(old, headOf(archive, 4));
    await assert.rejects(
      archive.swapHead(old, headOf(archive, 3, { updatedMs: 9 })),
      (e) => isPitrError(e, 'fenced') && e.facts.mine === 3 && e.facts.current === 4,
    );
    await refuses('cas-conflict', archive.swapHead(old, headOf(archive, 4, { updatedMs: 9 })));
    await refuses('cas-conflict', archive.swapHead(old, headOf(archive, 5)));
    assert.equal((await archive.head(TIMELINE, 'main'))?.value.updatedMs, 0);
  });

  test('many who change a document at once lose no change, with answers lost on the way', async () => {
    const store = new MemoryStore();
    let n = 0;
    store.hook = (call, _, when) => {
      if (call === 'swap' && when === 'after' && ++n % 3 === 0) throw lost();
    };
    const archives = await Promise.all(Array.from({ length: 4 }, () => Archive.openOrCreate(store)));
    await Promise.all(
      archives.flatMap((archive, i) =>
        Array.from({ length: 5 }, (_, j) =>
          archive.updateDocument<string[]>('page', 'log', (old) => [...(old ?? []), `${i}.${j}`]),
        ),
      ),
    );
    const found = await archives[0].readDocument<string[]>('page', 'log');
    assert.equal(found?.value.length, 20);
    assert.equal(new Set(found?.value).size, 20);
  });

  test('a change that changes nothing writes nothing', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    await archive.updateTimelines((all) => all);
    await archive.updateDocument<number>('page', 'n', () => 1);
    await archive.updateDocument<number>('page', 'n', (n) => n as number);
    assert.equal(store.countOf('swap'), 1);
  });
});

describe('archive: cost', () => {
  test('opening and seeing all of an archive is four reads and no LIST', async () => {
    const store = new MemoryStore();
    const archive = await Archive.openOrCreate(store);
    const identity = newIdentity({ timeline: TIMELINE }, 1);
    await archive.updateTimelines((all) => withEngine(all, identity, 1));
    await archive.swapHead(undefined, headOf(archive, 1));
    store.calls.length = 0;
    const view = await ArchiveView.read(await Archive.open(store));
    assert.equal(view.heads.get(TIMELINE)?.size, 1);
    assert.deepEqual(store.calls.map((c) => `${c.call} ${c.name}`).sort(), [
      'read archive',
      `readSwap heads/${TIMELINE}/main`,
      'readSwap snapshots',
      'readSwap timelines',
    ]);
  });

  test('names of segments are never used twice, and an object is never overwritten', async () => {
    const names = new Set(Array.from({ length: 1000 }, () => segmentName(TIMELINE, 'main', 0, 1, 5, 1)));
    assert.equal(names.size, 1000);
    const store = new MemoryStore();
    await store.create('a', Buffer.from('1'));
    await refuses('object-exists', store.create('a', Buffer.from('2')));
    assert.equal((await store.read('a')).toString(), '1');
  });

  test('a second engine with the same stream, or with partitions that are owned, is refused', async () => {
    const archive = await Archive.openOrCreate(new MemoryStore());
    const mine = newIdentity({ timeline: TIMELINE, partitions: '0-99' }, 1);
    await archive.updateTimelines((all) => withEngine(all, mine, 1));
    await archive.updateTimelines((all) => withEngine(all, mine, 2));
    const other = (fields: Parameters<typeof newIdentity>[0]) =>
      archive.updateTimelines((all) => withEngine(all, newIdentity({ timeline: TIMELINE, ...fields }, 3), 3));
    await refuses('stream-taken', other({}));
    await refuses('ownership-conflict', other({ stream: 'b', partitions: '99-200' }));
    await other({ stream: 'b', partitions: '100-4095' });
    const { ownership } = await archive.timeline();
    const owned = ownership.reduce((n, o) => n + PartitionSet.parse(o.partitions).size, 0);
    assert.equal(owned, 4096);
  });
});

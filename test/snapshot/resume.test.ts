/** A synthetic snapshot that is killed anywhere is gone on with, and nothing of an abandoned one stays (N6–N8). */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ManualClock } from '../../engine/clock.ts';
import { isPitrError } from '../../engine/errors.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { listBegun } from '../../snapshot/begun.ts';
import { type CreateSnapshotOptions, createBase, createSnapshot } from '../../snapshot/create.ts';
import type { SnapshotEntry } from '../../snapshot/manifest.ts';
import { listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { initEngine, inScratch, refuses } from '../wal/archiver-support.ts';
import { lost, MemoryStore } from '../wal/memory-store.ts';
import { type Row, rowOf } from '../wal/segment-support.ts';

const NAMESPACES = ['alpha', 'beta'];
const RECORDS = 40;

interface Origin {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  /** The instant of the snapshot, and one after more changes. */
  readonly ts: number;
  readonly laterTs: number;
  /** `namespace/key` → n at `ts`: kept by the test alone. */
  readonly model: ReadonlyMap<string, number>;
  readonly options: CreateSnapshotOptions & { readonly ts: number };
}

/** An archive with three namespaces, several runs, deletes and a truncation. */
const prepare = async (dir: string): Promise<Origin> => {
  const store = new MemoryStore();
  const clock = new ManualClock(Date.now());
  await initEngine(dir, store);
  const engine = await Engine.open({ dir, sealMs: 0, clock });
  const archiver = await Archiver.open(dir, { store, clock });
  const model = new Map<string, number>();
  const put = async (namespace: string, key: number, n: number): Promise<void> => {
    clock.step(1);
    await engine.put({ namespace, set: 's', key }, { key, n });
  };
  for (let round = 0; round < 3; round++) {
    for (const namespace of NAMESPACES)
      for (let key = round * 10; key < RECORDS; key++) {
        const n = round * 1000 + key;
        await put(namespace, key, n);
        model.set(`${namespace}/${key}`, n);
        if ((key + round) % 7 !== 0) continue;
        await engine.delete({ namespace, set: 's', key });
        model.delete(`${namespace}/${key}`);
      }
    if (round === 1) {
      clock.step(1);
      await engine.truncate({ namespace: 'beta' });
      for (const name of model.keys()) if (name.startsWith('beta/')) model.delete(name);
    }
    await engine.seal();
    await archiver.archivePending();
  }
  const ts = archiver.head.frontier.ts;
  clock.step(10);
  for (let key = 0; key < 10; key++) await put('alpha', key, 9);
  await engine.seal();
  await archiver.archivePending();
  const laterTs = archiver.head.frontier.ts;
  await archiver.close();
  await engine.close();
  const options = { kind: 'synthetic', ts, workers: 0, rangeBytes: 1500 } as const;
  return { store, clock, ts, laterTs, model, options };
};

const openArchive = ({ clock }: Origin, store: MemoryStore): Promise<Archive> =>
  Archive.open(store, { clock });

/** Everything in a snapshot's segments, in their order. */
const rowsOf = async (archive: Archive, entry: SnapshotEntry): Promise<Row[]> => {
  const rows: Row[] = [];
  for (const ref of (await readSnapshot(archive, entry)).segments) {
    const reader = await archive.reader(ref);
    for (const handle of await reader.blocks()) {
      const block = reader.decode((await reader.readBlocks([handle]))[0]);
      for (let i = 0; i < block.rows; i++) rows.push(rowOf(reader, block, i));
    }
  }
  return rows;
};

const assertSameRows = (actual: readonly Row[], expected: readonly Row[], when: string): void => {
  // a difference of thousands of fields is no message
  assert.ok(
    isDeepStrictEqual(actual, expected),
    `${when}: ${actual.length} rows, expected ${expected.length}`,
  );
};

/** What the store has beyond what the index names: must be nothing once all is over. */
const litter = async (archive: Archive, store: MemoryStore): Promise<string[]> => {
  const named = new Set<string>();
  for (const entry of await listSnapshots(archive)) {
    named.add(entry.name);
    for (const ref of (await readSnapshot(archive, entry)).segments) named.add(ref.name);
  }
  return [...store.objects.keys()].filter(
    (name) => /^(begun|manifests)\/|\/snapshots-/.test(name) && !named.has(name),
  );
};

const stateAt = async (archive: Archive, ts: number): Promise<Map<string, number>> => {
  const state = new Map<string, number>();
  const report = await restoreJsonLines(
    async (text) => {
      for (const line of text.toString().trimEnd().split('\n')) {
        const { namespace, bins } = JSON.parse(line);
        state.set(`${namespace}/${bins.key}`, bins.n);
      }
    },
    { archive, target: String(ts), workers: 0 },
  );
  assert.equal(report.verification.source, 'equal');
  return state;
};

/** From its n-th call on, before or after the effect, the store does nothing more for whoever made the call. */
const dieAt = (store: MemoryStore, n: number, at: 'before' | 'after'): void => {
  // several are under way at once, so what has ended is counted apart from what has begun
  const calls = { before: 0, after: 0 };
  store.hook = (_call, _name, when) => {
    calls[when]++;
    if (calls[at] >= n) throw lost();
  };
};

const undisturbed = async (origin: Origin) => {
  const store = origin.store.copy();
  const archive = await openArchive(origin, store);
  store.calls.length = 0;
  // a read of what is not there ends without having had an effect
  const all = { before: 0, after: 0 };
  // the last calls let go of the lease: it is done then, whatever becomes of them
  const calls = { before: 0, after: 0 };
  store.hook = (_call, name, when) => {
    all[when]++;
    if (!name.startsWith('leases/')) calls[when] = all[when];
  };
  const entry = await createSnapshot(archive, origin.options);
  store.hook = () => undefined;
  const segments = store.calls.filter((c) => c.call === 'create' && c.name.startsWith('segments/')).length;
  return { store, archive, entry, calls, segments, rows: await rowsOf(archive, entry) };
};

inScratch(
  'N6: killed at any call of the object store, a snapshot is gone on with; the result is the same',
  async (dir) => {
    const origin = await prepare(dir);
    const whole = await undisturbed(origin);
    assert.ok(whole.segments >= 6, `${whole.segments} segments: several ranges and namespaces`);
    assert.deepEqual(await litter(whole.archive, whole.store), []);
    assert.deepEqual(await stateAt(whole.archive, origin.ts), origin.model);
    let resumed = 0;
    for (const when of ['before', 'after'] as const)
      for (let n = 1; n <= whole.calls[when]; n++) {
        const where = `${when} call ${n} of ${whole.calls[when]}`;
        const store = origin.store.copy();
        const archive = await openArchive(origin, store);
        dieAt(store, n, when);
        const failed = await createSnapshot(archive, origin.options).then(
          () => undefined,
          (error) => error,
        );
        assert.ok(isPitrError(failed, 'io'), `${where}: ${failed}`);
        store.hook = () => undefined;
        const notes = [...store.objects.keys()].filter((name) => name.startsWith('begun/'));
        const begun = (await listBegun(archive)).filter((b) => b.state === 'working');
        const published = await listSnapshots(archive);
        store.calls.length = 0;
        // another process: nothing is remembered but what the store has
        const next = await openArchive(origin, store);
        const entry = await createSnapshot(next, origin.options);
        if (begun.length > 0) {
          assert.equal(entry.id, begun[0].id, where);
          const merged = begun[0].ranges.length - notes.length;
          const noted = store.calls.filter((c) => c.call === 'create' && c.name.startsWith('begun/')).length;
          assert.equal(noted, merged, `${where}: only what is not noted is merged again`);
          if (notes.length > 0) resumed++;
        } else assert.ok(published.length === 1 || notes.length === 0, where);
        for (const snapshot of await listSnapshots(next))
          assertSameRows(await rowsOf(next, snapshot), whole.rows, where);
        assert.deepEqual(await litter(next, store), [], where);
        assert.deepEqual(await listBegun(next), [], where);
      }
    assert.ok(resumed > 10, `${resumed} were taken up`);
  },
);

inScratch(
  'N6: killed again and again it still comes to an end, and every attempt gets further',
  async (dir) => {
    const origin = await prepare(dir);
    const whole = await undisturbed(origin);
    const store = origin.store.copy();
    const archive = await openArchive(origin, store);
    let done = -1;
    let attempts = 0;
    for (let entry: SnapshotEntry | undefined; !entry; ) {
      assert.ok(++attempts < 100);
      dieAt(store, attempts % 2 === 0 ? 24 : 34, 'before');
      entry = await createSnapshot(await openArchive(origin, store), origin.options).catch(() => undefined);
      store.hook = () => undefined;
      const notes = [...store.objects.keys()].filter((name) => name.startsWith('begun/')).length;
      assert.ok(entry || notes >= done);
      done = notes;
      // what is begun keeps being read in full: more calls each time, so let it have them in the end
      if (attempts > 20) entry ??= await createSnapshot(archive, origin.options);
    }
    assert.ok(attempts > 2, `${attempts}`);
    const [entry] = await listSnapshots(archive);
    assertSameRows(await rowsOf(archive, entry), whole.rows, `${attempts} attempts`);
    assert.deepEqual(await litter(archive, store), []);
  },
);

/** Kills an attempt when `notes` ranges are noted. */
const leaveBegun = async (
  origin: Origin,
  store: MemoryStore,
  notes: number,
  label?: string,
): Promise<void> => {
  let noted = 0;
  store.hook = (call, name, when) => {
    if (when === 'before' && call === 'create' && name.startsWith('begun/')) noted++;
    if (noted > notes) throw lost();
  };
  await refuses(
    'io',
    createSnapshot(await openArchive(origin, store), { ...origin.options, ...(label ? { label } : {}) }),
  );
  store.hook = () => undefined;
};

inScratch(
  'N6: a target that is not the one begun is not taken over, and what was begun goes with the next',
  async (dir) => {
    const origin = await prepare(dir);
    const store = origin.store.copy();
    await leaveBegun(origin, store, 2);
    const archive = await openArchive(origin, store);
    const [begun] = await listBegun(archive);
    assert.ok((await litter(archive, store)).length > 0);
    // a snapshot that is being made is not litter for verify
    assert.deepEqual((await verifyArchive(archive, { orphans: true, workers: 0 })).anomalies, []);
    const other = await createSnapshot(archive, { ...origin.options, ts: origin.laterTs });
    assert.notEqual(other.id, begun.id);
    assert.equal(other.endTs, origin.laterTs);
    assert.deepEqual(await litter(archive, store), []);
    assert.deepEqual(await listBegun(archive), []);
    const later = new Map([...origin.model]);
    for (let key = 0; key < 10; key++) later.set(`alpha/${key}`, 9);
    assert.deepEqual(await stateAt(archive, origin.laterTs), later);
  },
);

inScratch(
  'N6: without an instant the one begun is meant: of the same label, and not older than an hour',
  async (dir) => {
    const origin = await prepare(dir);
    const endTs = async (label: string | undefined, waitMs: number): Promise<number> => {
      const store = origin.store.copy();
      const clock = new ManualClock(origin.clock.nowMs());
      await leaveBegun({ ...origin, clock }, store, 1, 'nightly');
      clock.step(waitMs);
      const { ts: _, ...newest } = origin.options;
      const archive = await Archive.open(store, { clock });
      return (await createSnapshot(archive, { ...newest, ...(label ? { label } : {}) })).endTs;
    };
    assert.equal(await endTs('nightly', 60_000), origin.ts);
    assert.equal(await endTs('weekly', 60_000), origin.laterTs);
    assert.equal(await endTs(undefined, 60_000), origin.laterTs);
    assert.equal(await endTs('nightly', 61 * 60_000), origin.laterTs);
  },
);

inScratch('N6: what is noted but not there as noted is merged again', async (dir) => {
  const origin = await prepare(dir);
  const whole = await undisturbed(origin);
  const damage: Record<string, (store: MemoryStore, segment: string, note: string) => void> = {
    'segment gone': (store, segment) => store.objects.delete(segment),
    'segment with a flipped bit in its data': (store, segment) => {
      const bytes = Buffer.from(store.objects.get(segment) as Buffer);
      bytes[Math.floor(bytes.length / 3)] ^= 4;
      store.objects.set(segment, bytes);
    },
    'segment cut short': (store, segment) => {
      store.objects.set(segment, (store.objects.get(segment) as Buffer).subarray(0, -1));
    },
    'note with a flipped bit': (store, _, note) => {
      const bytes = Buffer.from(store.objects.get(note) as Buffer);
      bytes[bytes.length >> 1] ^= 1;
      store.objects.set(note, bytes);
    },
  };
  for (const [what, harm] of Object.entries(damage)) {
    const store = origin.store.copy();
    await leaveBegun(origin, store, 3);
    const names = [...store.objects.keys()].sort();
    const note = names.find((name) => name.startsWith('begun/')) as string;
    const segment = /segments\/[^"]*/.exec((store.objects.get(note) as Buffer).toString())?.[0] as string;
    assert.ok(store.objects.has(segment));
    harm(store, segment, note);
    const archive = await openArchive(origin, store);
    const entry = await createSnapshot(archive, origin.options);
    assertSameRows(await rowsOf(archive, entry), whole.rows, what);
    assert.deepEqual(await litter(archive, store), [], what);
  }
});

inScratch('N7: two processes that make the same snapshot at once make one', async (dir) => {
  const origin = await prepare(dir);
  const whole = await undisturbed(origin);
  const store = origin.store.copy();
  // each call lets the other one go first now and then
  let turn = 0;
  store.hook = () => new Promise((resolve) => (turn++ % 3 === 0 ? setImmediate(resolve) : resolve()));
  const archives = [await openArchive(origin, store), await openArchive(origin, store)];
  const entries = await Promise.all(archives.map((a) => createSnapshot(a, origin.options)));
  assert.deepEqual(entries[0], entries[1]);
  assert.deepEqual(await listSnapshots(archives[0]), [entries[0]]);
  assertSameRows(await rowsOf(archives[1], entries[0]), whole.rows, 'one of two');
  assert.deepEqual(await litter(archives[0], store), []);
});

inScratch('N7: one that was given up while it was at work publishes nothing', async (dir) => {
  const origin = await prepare(dir);
  const store = origin.store.copy();
  const slow = store.copy();
  let other: SnapshotEntry | undefined;
  let isLate = false;
  slow.hook = async (call, name, when) => {
    if (when === 'before' && call === 'create' && name.startsWith('manifests/') && !isLate) {
      isLate = true;
      other = await createSnapshot(await openArchive(origin, slow), {
        ...origin.options,
        ts: origin.laterTs,
      });
    }
  };
  await refuses('cas-conflict', createSnapshot(await openArchive(origin, slow), origin.options));
  const archive = await openArchive(origin, slow);
  assert.deepEqual(await listSnapshots(archive), [other]);
  assert.deepEqual(await litter(archive, slow), []);
  assert.equal((await rowsOf(archive, other as SnapshotEntry)).length > 0, true);
});

inScratch(
  'N8: a base copy that was killed starts again, and the next one deletes what it left',
  async (dir) => {
    const origin = await prepare(dir);
    const store = origin.store;
    const engine = await Engine.open({ dir, sealMs: 0, clock: origin.clock });
    const sealed = await engine.sealApplied();
    await engine.close();
    const archiver = await Archiver.open(dir, { store, clock: origin.clock });
    await archiver.archivePending();
    await archiver.close();
    const archive = await openArchive(origin, store);
    store.hook = (call, name, when) => {
      if (when === 'before' && call === 'create' && name.startsWith('manifests/')) throw lost();
    };
    await refuses('io', createBase(archive, dir, sealed));
    store.hook = () => undefined;
    assert.equal((await litter(archive, store)).length, 1);
    const base = await createBase(archive, dir, sealed);
    assert.deepEqual(await litter(archive, store), []);
    const { rows } = { rows: await rowsOf(archive, base) };
    assert.equal(rows.length, base.records);
  },
);

inScratch(
  'worker threads make the same snapshot as one thread, a sorted run over all namespaces',
  async (dir) => {
    const archiveUrl = `file:${join(dir, 'archive')}`;
    const data = join(dir, 'data');
    await Engine.init(data, { archive: archiveUrl });
    const engine = await Engine.open({ dir: data, sealMs: 0 });
    for (const namespace of NAMESPACES)
      await engine.batch(
        Array.from({ length: 300 }, (_, key) => ({
          op: 'put' as const,
          key: { namespace, set: `s${key % 3}`, key },
          bins: { key, n: key },
        })),
      );
    await engine.close();
    const archiver = await Archiver.open(data);
    await archiver.archivePending();
    await archiver.close();
    const archive = await Archive.open(archiveUrl);
    const snapshot = async (workers: number, rangeBytes: number): Promise<Row[]> =>
      rowsOf(archive, await createSnapshot(archive, { kind: 'synthetic', workers, rangeBytes }));
    const one = await snapshot(0, 2 ** 30);
    assert.equal(one.length, NAMESPACES.length * 300);
    assertSameRows(await snapshot(0, 2000), one, 'many ranges, one thread');
    assertSameRows(await snapshot(2, 2000), one, 'many ranges, two threads');
    assert.deepEqual((await verifyArchive(archive, { orphans: true, workers: 0 })).anomalies, []);
  },
);

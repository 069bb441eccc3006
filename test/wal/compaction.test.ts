/** Compaction: beside shipping, resumed after a kill at any call, read back before it counts, nothing of the history lost. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { isPitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { type Head, writeAmplification } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import { type MergeNote, noteName } from '../../wal/merge-note.ts';
import type { SegmentRef } from '../../wal/segment.ts';
import { SegmentReader } from '../../wal/segment-reader.ts';
import { SegmentWriter, segmentRefOf } from '../../wal/segment-writer.ts';
import { VersionDigest } from '../../wal/version-digest.ts';
import {
  contentOf,
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
import { lost, MemoryStore } from './memory-store.ts';

/** Every merge is a large one, of parts of a few kB. */
const LARGE = { smallBytes: 0, partRawBytes: 6000, fanout: 2, retireMs: 0 };

const fillRuns = async (dir: string, store: MemoryStore, runs: number): Promise<number> => {
  await initEngine(dir, store);
  const engine = await openEngine(dir);
  const archiver = await Archiver.open(dir, { store });
  for (let r = 0; r < runs; r++) {
    for (const namespace of ['a', 'test'])
      await engine.batch(
        Array.from({ length: 25 }, (_, i) => ({
          op: 'put' as const,
          key: { namespace, set: `s${i % 3}`, key: i % 2 ? i : i + 100 * r },
          bins: { r, blob: 'x'.repeat(100 + i) },
        })),
      );
    await engine.mark(`m${r}`);
    if (r === 1) await engine.truncate({ namespace: 'test', set: 's1' });
    await engine.seal();
    await archiver.archivePending();
  }
  await archiver.close();
  const { lastLsn } = engine;
  await engine.close();
  // what closing sealed
  const last = await Archiver.open(dir, { store });
  await last.archivePending();
  await last.close();
  return lastLsn;
};

const noteIn = async (store: MemoryStore, head: Head): Promise<MergeNote['merge']> => {
  const archive = await Archive.open(store);
  const name = noteName(head.timeline, head.stream);
  return (await archive.readDocument<MergeNote>('merge', name))?.value.merge ?? null;
};

/** One life of an agent that compacts in full, which ends at the first error. */
const life = async (dir: string, store: MemoryStore): Promise<unknown> => {
  let archiver: Archiver | undefined;
  try {
    archiver = await Archiver.open(dir, { store, ...LARGE });
    await archiver.compact({ full: true });
    return undefined;
  } catch (error) {
    return error;
  } finally {
    await archiver?.close();
  }
};

describe('compaction: killed', () => {
  inScratch(
    'at any call of the object store, it goes on where it was, with the same result and nothing left over',
    async (dir) => {
      const origin = join(dir, 'origin');
      const store = new MemoryStore();
      const lastLsn = await fillRuns(origin, store, 3);
      const inputs = (await headOf(store, origin)).runs.length;
      assert.ok(inputs >= 3);
      const undisturbed = store.copy();
      await copyDir(origin, join(dir, 'whole'));
      undisturbed.calls.length = 0;
      assert.equal(await life(join(dir, 'whole'), undisturbed), undefined);
      const calls = undisturbed.calls.length;
      const whole = await headOf(undisturbed, origin);
      assert.equal(whole.runs.length, 1);
      const parts = whole.runs[0].segments.length;
      assert.ok(parts >= 4, `${parts} parts`);
      const expected = await contentOf(undisturbed, whole);
      let takenOver = 0;
      for (let stop = 0; stop < calls; stop++)
        for (const when of ['before', 'after'] as const) {
          const what = `stopped ${when} call ${stop} of ${calls}`;
          const at = join(dir, 'e');
          await copyDir(origin, at);
          const mine = store.copy();
          mine.hook = (_, __, w) => {
            const n = mine.calls.length - 1;
            if (n > stop || (n === stop && w === when)) throw lost();
          };
          const error = await life(at, mine);
          assert.ok(isPitrError(error, 'io'), `${what}: ${JSON.stringify(mine.calls[stop])} ${error}`);
          mine.hook = () => undefined;
          const left = await headOf(mine, at);
          assert.deepEqual(await lsnsOf(mine, left), dense(lastLsn), `${what}: what the head lists is there`);
          const note = await noteIn(mine, left);
          const done = note?.parts.length ?? 0;
          mine.calls.length = 0;
          assert.equal(await life(at, mine), undefined, what);
          const head = await headOf(mine, at);
          const content = await contentOf(mine, head);
          assert.deepEqual(content.rows, expected.rows, what);
          assert.deepEqual(content.events, expected.events, what);
          const { stored, listed } = segmentNames(mine, head);
          assert.deepEqual(stored, listed, `${what}: no orphan`);
          if (left.runs.length > 1) {
            assert.equal(mine.countOf('create'), parts - done, `${what}: ${done} parts were there`);
            if (done > 0) takenOver++;
          }
          await rm(at, { recursive: true });
        }
      assert.ok(takenOver > 2 * parts, `${takenOver} lives went on with what was there`);
    },
  );

  inScratch('parts that are damaged meanwhile are not taken over', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const lastLsn = await fillRuns(e, store, 3);
    let creates = 0;
    store.hook = (call, _, when) => {
      if (call === 'create' && when === 'before' && ++creates > 3) throw lost();
    };
    assert.ok(isPitrError(await life(e, store), 'io'));
    store.hook = () => undefined;
    const note = await noteIn(store, await headOf(store, e));
    assert.equal(note?.parts.length, 3);
    const victim = store.objects.get(note.parts[1].ref.name) as Buffer;
    victim[200] ^= 1;
    assert.equal(await life(e, store), undefined);
    const head = await headOf(store, e);
    assert.deepEqual(await lsnsOf(store, head), dense(lastLsn));
    const { stored, listed } = segmentNames(store, head);
    assert.deepEqual(stored, listed);
    assert.ok(!listed.includes(note.parts[0].ref.name), 'it began anew');
  });

  inScratch('a note whose inputs are gone is forgotten with what it names', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const lastLsn = await fillRuns(e, store, 3);
    let creates = 0;
    store.hook = (call, _, when) => {
      if (call === 'create' && when === 'before' && ++creates > 2) throw lost();
    };
    await life(e, store);
    store.hook = () => undefined;
    const note = await noteIn(store, await headOf(store, e));
    assert.equal(note?.parts.length, 2);
    // another merges two of its three runs, without a look at the note
    const archive = await Archive.open(store);
    const head = await headOf(store, e);
    const found = await archive.head(head.timeline, head.stream);
    await archive.swapHead(found?.tag, { ...head, runs: head.runs.slice(0, 2), frontier: head.frontier });
    const archiver = await Archiver.open(e, { store, ...LARGE });
    await archiver.compact();
    await archiver.close();
    for (const { ref } of note.parts) assert.ok(!store.objects.has(ref.name));
    assert.ok(lastLsn > 0);
  });
});

describe('compaction: beside shipping', () => {
  inScratch('the frontier moves on while a large merge runs, and small merges go first', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const before = await fillRuns(e, store, 3);
    const seen: ArchiverEvent[] = [];
    const archiver = await Archiver.open(e, {
      store,
      fanout: 3,
      retireMs: 0,
      partRawBytes: 6000,
      // a seal of one record is small, three of the filled runs are not
      smallBytes: 8000,
      onEvent: (event) => seen.push(event),
    });
    let go = (): void => undefined;
    const mayGo = new Promise<void>((resolve) => (go = resolve));
    let blocked = false;
    store.hook = async (call, name, when) => {
      if (call !== 'create' || when !== 'before' || !name.includes('/L1/') || blocked) return;
      blocked = true;
      await mayGo;
    };
    const merging = archiver.compact();
    const engine = await openEngine(e);
    for (let n = 1; n <= 7; n++) {
      await putSealed(engine, n, n);
      assert.equal(await archiver.archivePending(), 1);
    }
    assert.ok(blocked, 'the merge is at work');
    assert.ok(archiver.head.frontier.lsn >= before + 7);
    assert.equal(seen.filter((s) => s.kind === 'merged').length, 0);
    go();
    await merging;
    const merged = seen.filter((s) => s.kind === 'merged');
    assert.ok(merged.length >= 3, `${merged.length} merges`);
    assert.ok(merged[0].versions <= 3, 'a small one first');
    assert.ok(
      merged.some((m) => m.versions > 100),
      'and the large one',
    );
    await engine.close();
    await archiver.round();
    assert.deepEqual(await lsnsOf(store, archiver.head), dense(archiver.head.frontier.lsn));
    await archiver.close();
  });

  inScratch('a merge fails: the agent goes on shipping, says so, rests, and merges later', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await fillRuns(e, store, 3);
    const seen: ArchiverEvent[] = [];
    const archiver = await Archiver.open(e, { store, ...LARGE, onEvent: (event) => seen.push(event) });
    store.hook = (call, name) => {
      if (call === 'create' && name.includes('/L1/')) throw lost();
    };
    const before = archiver.head.frontier.ts;
    archiver.start();
    for (let i = 0; i < 100 && seen.every((s) => s.kind !== 'error'); i++)
      await new Promise((resolve) => setTimeout(resolve, 30));
    store.hook = () => undefined;
    for (let i = 0; i < 200 && seen.every((s) => s.kind !== 'merged'); i++)
      await new Promise((resolve) => setTimeout(resolve, 30));
    assert.ok(seen.some((s) => s.kind === 'merged'));
    assert.ok(seen.filter((s) => s.kind === 'error').length <= 2);
    assert.ok(archiver.head.frontier.ts > before);
    await archiver.close();
  });

  inScratch('an old holder whose merge was taken over deletes and publishes nothing', async (dir) => {
    const store = new MemoryStore();
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    const lastLsn = await fillRuns(a, store, 3);
    await copyDir(a, b);
    const old = await Archiver.open(a, { store, ...LARGE });
    let taker: Archiver | undefined;
    let creates = 0;
    store.hook = async (call, name, when) => {
      if (call !== 'create' || when !== 'before' || !name.includes('/L1/') || ++creates !== 3) return;
      // asleep for long: another goes on with the two parts
      store.hook = () => undefined;
      taker = await Archiver.open(b, { store, ...LARGE });
      await taker.compact({ full: true });
    };
    await refuses('fenced', old.compact({ full: true }));
    await refuses('fenced', old.archivePending());
    const head = await headOf(store, a);
    assert.equal(head.runs.length, 1);
    assert.deepEqual(await lsnsOf(store, head), dense(lastLsn));
    for (const name of segmentNames(store, head).listed) assert.ok(store.objects.has(name));
    await Promise.all([old.close(), taker?.close()]);
  });
});

describe('compaction: on a thread', () => {
  for (const namespaces of [['test'], ['a', 'test']])
    inScratch(
      `merges of many parts, one after the other, of ${namespaces.length} namespaces`,
      async (dir) => {
        const e = join(dir, 'e');
        await Engine.init(e, { archive: `file:${join(dir, 'archive')}` });
        const engine = await openEngine(e);
        const archiver = await Archiver.open(e, { ...LARGE, threadBytes: 0 });
        let parts = 0;
        for (let round = 0; round < 2; round++) {
          for (let r = 0; r < 3; r++) {
            for (const namespace of namespaces)
              await engine.batch(
                Array.from({ length: 80 }, (_, i) => ({
                  op: 'put' as const,
                  key: { namespace, set: 's', key: i % 2 ? i : i + 1000 * r },
                  bins: { r, blob: 'x'.repeat(100 + i) },
                })),
              );
            await engine.seal();
            await archiver.archivePending();
          }
          assert.equal(await archiver.compact({ full: true }), 1);
          parts += archiver.head.runs[0].segments.length;
        }
        assert.ok(parts > 8, `${parts} parts`);
        assert.equal(archiver.head.runs.length, 1);
        const { store } = archiver.archive;
        assert.deepEqual(await lsnsOf(store, archiver.head), dense(engine.lastLsn));
        const report = await verifyArchive(archiver.archive, { workers: 0, orphans: true });
        assert.deepEqual(report.anomalies, []);
        await engine.close();
        await archiver.close();
      },
    );

  inScratch('closing ends a merge that runs there, and the next agent goes on with it', async (dir) => {
    const e = join(dir, 'e');
    await Engine.init(e, { archive: `file:${join(dir, 'archive')}` });
    const engine = await openEngine(e);
    let archiver = await Archiver.open(e, { ...LARGE, threadBytes: 0 });
    for (let r = 0; r < 3; r++) {
      await engine.batch(
        Array.from({ length: 300 }, (_, key) => ({
          op: 'put' as const,
          key: { namespace: 'test', key },
          bins: { r, blob: 'x'.repeat(200) },
        })),
      );
      await engine.seal();
      await archiver.archivePending();
    }
    let parts = 0;
    const work = archiver.compact({ full: true, onProgress: () => parts++ });
    const refused = refuses('interrupted', work);
    while (parts < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await archiver.close();
    await refused;
    archiver = await Archiver.open(e, { ...LARGE, threadBytes: 0 });
    assert.equal(await archiver.compact({ full: true }), 1);
    assert.deepEqual(await lsnsOf(archiver.archive.store, archiver.head), dense(engine.lastLsn));
    await engine.close();
    await archiver.close();
  });
});

describe('compaction: taken over', () => {
  inScratch(
    'a holder that wakes while its successor looks at the note changes nothing in it',
    async (dir) => {
      const store = new MemoryStore();
      const [a, b] = [join(dir, 'a'), join(dir, 'b')];
      const lastLsn = await fillRuns(a, store, 3);
      await copyDir(a, b);
      const old = await Archiver.open(a, { store, ...LARGE });
      let creates = 0;
      let wake = (): void => undefined;
      const awake = new Promise<void>((resolve) => {
        wake = resolve;
      });
      let sleeps = (): void => undefined;
      const asleep = new Promise<void>((resolve) => {
        sleeps = resolve;
      });
      store.hook = async (call, name, when) => {
        if (call !== 'create' || when !== 'before' || !name.includes('/L1/') || ++creates !== 3) return;
        sleeps();
        await awake;
      };
      const work = old.compact({ full: true });
      await asleep;
      const taker = await Archiver.open(b, { store, ...LARGE });
      let isLooking = false;
      store.hook = async (call, name) => {
        // the taker reads the parts that were noted
        if (call !== 'read' || !name.includes('/L1/') || isLooking) return;
        isLooking = true;
        wake();
        await refuses('fenced', work);
      };
      await taker.compact({ full: true });
      assert.ok(isLooking);
      const head = await headOf(store, a);
      assert.equal(head.runs.length, 1);
      assert.deepEqual(await lsnsOf(store, head), dense(lastLsn));
      await Promise.all([old.close(), taker.close()]);
    },
  );
});

describe('compaction: read back', () => {
  inScratch('an output that is not readable as it was written replaces nothing', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const lastLsn = await fillRuns(e, store, 3);
    for (const options of [LARGE, { fanout: 2, retireMs: 0 }]) {
      const before = await headOf(store, e);
      let creates = 0;
      store.hook = (call, name, when) => {
        if (call !== 'create' || when !== 'after' || ++creates !== 1) return;
        (store.objects.get(name) as Buffer)[300] ^= 4;
      };
      const archiver = await Archiver.open(e, { store, ...options });
      await refuses('object-corrupt', archiver.compact({ full: true }));
      await archiver.close();
      store.hook = () => undefined;
      const head = await headOf(store, e);
      assert.deepEqual(head.runs, before.runs, 'the originals stay');
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed, 'the outputs are gone');
      assert.equal(await noteIn(store, head), null);
      assert.deepEqual(await lsnsOf(store, head), dense(lastLsn));
    }
  });

  inScratch(
    'a version that differs from what its input stated of itself is seen: verification-failed',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await fillRuns(e, store, 3);
      const archive = await Archive.open(store);
      const head = await headOf(store, e);
      // the second input is put in other words: valid in every checksum, but one generation is another
      const forged = await forge(store, archive, head.runs[1].segments[0]);
      const found = await archive.head(head.timeline, head.stream);
      const runs = head.runs.map((r, i) => (i === 1 ? { ...r, segments: [forged] } : r));
      await archive.swapHead(found?.tag, { ...head, runs });
      for (const options of [LARGE, { fanout: 2, retireMs: 0 }]) {
        const archiver = await Archiver.open(e, { store, ...options });
        const error = await refuses('verification-failed', archiver.compact({ full: true }));
        assert.match(error.hint, /nothing was replaced/);
        assert.deepEqual(archiver.head.runs, runs);
        await archiver.close();
        const now = await headOf(store, e);
        const { stored, listed } = segmentNames(store, now);
        assert.deepEqual(
          stored.filter((n) => !listed.includes(n)),
          [head.runs[1].segments[0].name],
          'nothing but what the forger left',
        );
      }
    },
  );
});

/** Writes a segment again with one generation changed, under its old digest. */
const forge = async (store: MemoryStore, archive: Archive, ref: SegmentRef): Promise<SegmentRef> => {
  const reader = await SegmentReader.open(store, ref, archive.id);
  const { properties } = reader;
  const writer = new SegmentWriter(properties.header, properties.namespaces);
  for (const handle of await reader.blocks()) {
    const block = reader.decode((await reader.readBlocks([handle]))[0]);
    block.generation[0] += 1;
    writer.startNamespace(block.namespace);
    for (let i = 0; i < block.rows; i++) {
      const set = writer.setIndex(block.namespace, properties.sets[block.set[i]]);
      writer.builder.copyRow(block, i, block.source[i], set, block.voidTime[i]);
      writer.rowAdded(set, block.flags[i], 0);
    }
  }
  const finished = writer.finish(await reader.events(), VersionDigest.parse(properties.digest as string));
  const name = ref.name.replace('.seg', `-${randomBytes(4).toString('hex')}.seg`);
  await store.create(name, finished.bytes);
  return segmentRefOf(name, finished);
};

describe('compaction: the history', () => {
  inScratch('compacted at random times and in full, every instant restores to the model', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const clock = new ManualClock(1_800_000_000_000);
    await initEngine(e, store);
    const engine = await Engine.open({ dir: e, sealMs: 0, lockWaitMs: 0, clock });
    const archiver = await Archiver.open(e, { store, clock, ...LARGE, fanout: 3 });
    /** The state after each batch, by its instant: a plain map. */
    const model = new Map<number, Map<number, number>>();
    const state = new Map<number, number>();
    // a fixed sequence: Park-Miller
    let seed = 4711;
    const random = (below: number): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    for (let step = 1; step <= 60; step++) {
      clock.step(1 + random(50));
      const ops = new Map(
        Array.from({ length: 1 + random(12) }, () => [random(80), random(4) === 0] as const),
      );
      const outcomes = await engine.batch(
        [...ops].map(([key, isDelete]) =>
          isDelete
            ? { op: 'delete' as const, key: keyOf(key) }
            : { op: 'put' as const, key: keyOf(key), bins: { k: key, step, pad: 'p'.repeat(random(300)) } },
        ),
      );
      for (const [key, isDelete] of ops)
        if (isDelete) state.delete(key);
        else state.set(key, step);
      assert.ok(outcomes.length > 0);
      model.set(clock.nowMs(), new Map(state));
      if (random(3) > 0) {
        await engine.seal();
        await archiver.archivePending();
      }
      if (random(4) === 0) await archiver.compact(random(5) === 0 ? { full: true } : {});
    }
    const { lastLsn } = engine;
    await engine.close();
    await archiver.archivePending();
    const before = await contentOf(store, archiver.head);
    await archiver.compact({ full: true });
    assert.equal(archiver.head.runs.length, 1);
    const after = await contentOf(store, archiver.head);
    assert.deepEqual(after.rows, before.rows, 'every version, as it was');
    assert.deepEqual(await lsnsOf(store, archiver.head), dense(lastLsn));
    const archive = await Archive.open(store, { clock });
    const report = await verifyArchive(archive, { workers: 0, orphans: true });
    assert.deepEqual(report.anomalies, []);
    const instants = [...model.keys()];
    for (let i = 0; i < 25; i++) {
      const ts = instants[0] + random(instants[instants.length - 1] - instants[0] + 1);
      const restored = join(dir, `r${i}`);
      await restoreEngine(restored, undefined, { archive, target: String(ts), workers: 0, clock });
      const copy = await Engine.open({ dir: restored, sealMs: 0, clock });
      const found = new Map<number, number>();
      for await (const record of copy.scan()) {
        found.set(Number(record.bins.k), Number(record.bins.step));
      }
      await copy.close();
      const expected = model.get(instants.filter((t) => t <= ts).at(-1) as number) as Map<number, number>;
      assert.deepEqual(new Map([...found].sort(byKey)), new Map([...expected].sort(byKey)), `at ${ts}`);
      await rm(restored, { recursive: true });
    }
    await archiver.close();
  });

  inScratch('what seals and merges wrote is counted, byte for byte', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    const counted = { seals: 0, merges: 0 };
    store.hook = (call, name, when) => {
      if (call !== 'create' || when !== 'after' || !name.startsWith('segments/')) return;
      counted[name.includes('/L0/') ? 'seals' : 'merges'] += store.objects.get(name)?.length ?? 0;
    };
    await initEngine(e, store);
    const engine = await openEngine(e);
    const archiver = await Archiver.open(e, { store, fanout: 3, retireMs: 0 });
    for (let n = 1; n <= 20; n++) {
      await putSealed(engine, n, n);
      await archiver.archivePending();
      await archiver.compact();
    }
    await archiver.compact({ full: true });
    const { written } = archiver.head;
    assert.deepEqual([written.seals.bytes, written.merges.bytes], [counted.seals, counted.merges]);
    assert.equal(written.seals.versions, 20);
    assert.ok(counted.merges > 0);
    assert.equal(writeAmplification(written), (counted.seals + counted.merges) / counted.seals);
    await engine.close();
    await archiver.close();
    assert.deepEqual((await headOf(store, e)).written.merges, written.merges);
  });
});

const byKey = (a: [number, number], b: [number, number]): number => a[0] - b[0];

/** Catching up: several objects on their way at once, over a store that is slow, that fails, and from which the agent is cut off. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setImmediate as breathe } from 'node:timers/promises';
import { isPitrError } from '../../engine/errors.ts';
import { readArchived } from '../../wal/archived.ts';
import { Archiver } from '../../wal/archiver.ts';
import type { Head } from '../../wal/catalog.ts';
import { decodeDocument } from '../../wal/document.ts';
import { Rng } from '../model/rng.ts';
import {
  contentOf,
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
import { lost, MemoryStore } from './memory-store.ts';

const FILES = 9;
/** One segment for each file. */
const ship = { segmentVersions: 1, creates: 4 };

/** An engine of which `FILES` sealed files wait, each with one write. */
const prepare = async (dir: string): Promise<MemoryStore> => {
  const store = new MemoryStore();
  await initEngine(dir, store);
  const engine = await openEngine(dir);
  await putSealed(engine, 1, FILES);
  await engine.close();
  return store;
};

const isSegment = (name: string): boolean => name.startsWith('segments/');
const isHead = (name: string): boolean => name.startsWith('heads/');

/** Every head that was ever published, oldest first. */
const headsOf = (store: MemoryStore): Head[] =>
  [...store.swaps]
    .filter(([name]) => isHead(name))
    .flatMap(([name, values]) => values.map((v) => decodeDocument<Head>('head', v.bytes, name)));

/** Watches a store: no head lists what is not there, none goes back, none has a hole. */
const watch = (store: MemoryStore) => {
  const seen = { creating: 0, creatingMax: 0, bytes: 0, bytesMax: 0 };
  const create = store.create.bind(store);
  store.create = async (name, bytes) => {
    seen.creating++;
    seen.bytes += bytes.length;
    seen.creatingMax = Math.max(seen.creatingMax, seen.creating);
    seen.bytesMax = Math.max(seen.bytesMax, seen.bytes);
    try {
      await create(name, bytes);
    } finally {
      seen.creating--;
      seen.bytes -= bytes.length;
    }
  };
  const swap = store.swap.bind(store);
  store.swap = async (name, expected, bytes) => {
    if (isHead(name)) {
      const { runs } = decodeDocument<Head>('head', Buffer.from(bytes), name);
      for (const { segments } of runs)
        for (const s of segments)
          assert.ok(store.objects.has(s.name), `A4: ${s.name} is listed before it is there`);
      for (const [i, run] of runs.entries())
        assert.equal(run.lsnStart, i === 0 ? 1 : runs[i - 1].lsnEnd, 'A1');
    }
    return swap(name, expected, bytes);
  };
  return seen;
};

const expectAscending = (store: MemoryStore): void => {
  const heads = headsOf(store);
  for (const [i, head] of heads.entries()) {
    const before = heads[i - 1] ?? head;
    assert.ok(head.frontier.lsn >= before.frontier.lsn && head.sequence >= before.sequence, 'A2');
  }
};

describe('catching up', () => {
  inScratch(
    'over a slow store four objects are on their way, and one swap is for all that has no hole before it',
    async (dir) => {
      const store = await prepare(dir);
      const seen = watch(store);
      const archiver = await Archiver.open(dir, { store, ship });
      store.calls.length = 0;
      let created = 0;
      store.hook = async (call, name, when) => {
        if (call === 'create' && when === 'after') created++;
        if (when === 'after') return;
        // none of the first four ends before the fourth has begun, and no swap before all objects are there
        if (isSegment(name) && created === 0) while (created === 0 && seen.creating < 4) await breathe();
        if (call === 'swap') while (created < FILES) await breathe();
      };
      assert.equal(await archiver.archivePending(), FILES);
      const head = await headOf(store, dir);
      assert.deepEqual([head.runs.length, head.gaps], [FILES, []]);
      assert.deepEqual(await lsnsOf(store, head), dense(FILES));
      assert.equal(seen.creatingMax, 4);
      assert.equal(store.countOf('create'), FILES);
      // for the first, for what became durable meanwhile, and for the last if it was a moment late
      assert.ok(store.countOf('swap') <= 3, `${store.countOf('swap')} swaps`);
      assert.deepEqual(await readArchived(dir), { lsn: FILES, sequence: head.sequence });
      expectAscending(store);
      await archiver.close();
    },
  );

  inScratch('never more bytes than allowed are on their way; a larger segment goes alone', async (dir) => {
    const store = await prepare(dir);
    const seen = watch(store);
    const first = await Archiver.open(dir, { store, ship: { ...ship, createBytes: 1 } });
    await first.archivePending();
    await first.close();
    assert.equal(seen.creatingMax, 1);
    const [{ bytes }] = (await headOf(store, dir)).runs[0].segments;
    const engine = await openEngine(dir);
    await putSealed(engine, 1, FILES);
    await engine.close();
    // three fit
    const createBytes = Math.floor(bytes * 3.5);
    const second = await Archiver.open(dir, { store, ship: { ...ship, createBytes } });
    let created = 0;
    store.hook = async (call, name, when) => {
      if (call === 'create' && when === 'after') created++;
      else if (isSegment(name)) while (created === 0 && seen.creating < 3) await breathe();
    };
    await second.archivePending();
    await second.close();
    assert.equal(seen.creatingMax, 3);
    assert.ok(seen.bytesMax <= createBytes, `${seen.bytesMax} of ${createBytes}`);
  });

  inScratch(
    'a quarter of all creations and swaps fails, before or after its effect: nothing is lost, nothing comes twice',
    async (dir) => {
      const origin = join(dir, 'origin');
      const whole = await prepare(origin);
      const seedFirst = Number(process.env.PITR_FAULT_SEED ?? 1);
      for (let seed = seedFirst; seed < seedFirst + 6; seed++) {
        const rng = new Rng(seed);
        const store = whole.copy();
        const e = join(dir, `e${seed}`);
        await copyDir(origin, e);
        watch(store);
        const archiver = await Archiver.open(e, { store, ship });
        store.hook = async (call, _, when) => {
          for (let i = rng.int(0, 6); i > 0; i--) await breathe();
          if ((call === 'create' || call === 'swap') && rng.chance(when === 'before' ? 0.15 : 0.1))
            throw lost();
        };
        let failures = 0;
        for (let round = 0; archiver.head.frontier.lsn < FILES; round++) {
          assert.ok(round < 200, `seed ${seed}: LSN ${archiver.head.frontier.lsn} after ${round} rounds`);
          await archiver.archivePending().catch((error) => {
            assert.ok(
              isPitrError(error, 'io') || isPitrError(error, 'cas-conflict'),
              `seed ${seed}: ${error}`,
            );
            failures++;
          });
        }
        assert.ok(failures > 0, `seed ${seed}`);
        store.hook = () => undefined;
        await archiver.close();
        const head = await headOf(store, e);
        assert.deepEqual([await lsnsOf(store, head), head.gaps], [dense(FILES), []], `seed ${seed}`);
        expectAscending(store);
      }
    },
  );

  inScratch(
    'A4: a creation that fails: what is before it is published, what was created behind it is deleted',
    async (dir) => {
      const store = await prepare(dir);
      const archiver = await Archiver.open(dir, { store, ship });
      let n = 0;
      store.hook = async (call, name, when) => {
        if (call !== 'create' || when !== 'before' || !isSegment(name)) return;
        const mine = ++n;
        if (mine === 1) for (let i = 0; i < 50; i++) await breathe();
        if (mine !== 3) return;
        // others are on their way
        while (n < 5) await breathe();
        throw lost();
      };
      await refuses('io', archiver.archivePending());
      let head = await headOf(store, dir);
      assert.deepEqual([head.frontier.lsn, head.runs.length], [2, 2]);
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed);
      assert.equal((await readArchived(dir)).sequence, head.sequence);
      store.hook = () => undefined;
      assert.equal(await archiver.archivePending(), FILES - 2);
      head = await headOf(store, dir);
      assert.deepEqual(await lsnsOf(store, head), dense(FILES));
      await archiver.close();
    },
  );

  inScratch(
    'A3: fenced with four objects on their way: none of them is listed, none is left',
    async (dir) => {
      const [a, b] = [join(dir, 'a'), join(dir, 'b')];
      const store = await prepare(a);
      await copyDir(a, b);
      const old = await Archiver.open(a, { store, ship });
      let creating = 0;
      let go = (): void => undefined;
      const held = new Promise<void>((resolve) => {
        go = resolve;
      });
      store.hook = async (call, name, when) => {
        if (call !== 'create' || when !== 'before' || !isSegment(name) || creating >= 4) return;
        creating++;
        await held;
      };
      const late = refuses('fenced', old.archivePending());
      while (creating < 4) await breathe();
      const taker = await Archiver.open(b, { store, ship });
      const taken = await headOf(store, a);
      go();
      await late;
      assert.deepEqual(await headOf(store, a), taken);
      assert.deepEqual(segmentNames(store, taken).stored, []);
      assert.deepEqual(await readArchived(a), { lsn: 0, sequence: 0 }, 'the engine keeps its log');
      assert.equal(await taker.archivePending(), FILES);
      const { stored, listed } = segmentNames(store, await headOf(store, b));
      assert.deepEqual(stored, listed);
      await Promise.all([old.close(), taker.close()]);
    },
  );

  inScratch('a gap stays a gap, wherever segments are cut', async (dir) => {
    const origin = join(dir, 'origin');
    const whole = await prepare(origin);
    for (const name of ['000000000004.wal', '000000000005.wal']) await rm(join(origin, 'log', name));
    for (const segmentVersions of [1, 2, 3, 5, 100]) {
      const e = join(dir, `e${segmentVersions}`);
      await copyDir(origin, e);
      const store = whole.copy();
      const archiver = await Archiver.open(e, { store, ship: { ...ship, segmentVersions } });
      await archiver.archivePending();
      await archiver.close();
      const { gaps, runs, frontier } = await headOf(store, e);
      assert.deepEqual(
        gaps.map((g) => [g.lsnStart, g.lsnEnd]),
        [[4, 6]],
        `${segmentVersions}`,
      );
      assert.deepEqual([runs[0].lsnStart, frontier.lsn], [1, FILES]);
      const { rows } = await contentOf(store, await headOf(store, e));
      assert.deepEqual(
        rows.map((r) => r.lsn),
        dense(FILES).filter((n) => n < 4 || n > 5),
      );
    }
  });

  inScratch(
    'while publications succeed a seal is two requests; after a failure the archive is looked at',
    async (dir) => {
      const store = new MemoryStore();
      await initEngine(dir, store);
      const engine = await openEngine(dir);
      const archiver = await Archiver.open(dir, { store });
      const askedFor = async (n: number): Promise<string[]> => {
        await putSealed(engine, n, n);
        store.calls.length = 0;
        await archiver.archivePending().catch((error) => assert.ok(isPitrError(error, 'io')));
        return store.calls.map((c) => c.call);
      };
      assert.deepEqual(await askedFor(1), ['create', 'swap']);
      assert.deepEqual(await askedFor(2), ['create', 'swap']);
      store.hook = (call) => {
        if (call === 'create') throw lost();
      };
      assert.deepEqual(await askedFor(3), ['create', 'read'], 'is it still there?');
      store.hook = () => undefined;
      assert.deepEqual(await askedFor(4), ['read', 'create', 'swap']);
      assert.deepEqual(await askedFor(5), ['create', 'swap']);
      await engine.close();
      await archiver.close();
    },
  );
});

describe('an agent that is killed with several objects on their way', () => {
  inScratch(
    'at any call: what a head lists is there, and the next agent completes without gap or duplicate',
    async (dir) => {
      const origin = join(dir, 'origin');
      const whole = await prepare(origin);
      let calls = 0;
      let orphans = 0;
      for (let stop = 0; stop === 0 || stop < calls; stop++)
        // whether those that were on their way then come through
        for (const fate of ['lost', 'done'] as const) {
          const what = `killed at call ${stop}, the others ${fate}`;
          const e = join(dir, 'e');
          await copyDir(origin, e);
          const store = whole.copy();
          watch(store);
          let isDead = false;
          let n = 0;
          store.hook = async (call, name, when) => {
            if (when === 'before') {
              if (isDead) throw lost();
              const mine = n++;
              // the first of four takes longest
              for (let i = call === 'create' && isSegment(name) ? 12 - (mine % 4) * 4 : 0; i > 0; i--)
                await breathe();
              if (mine === stop) isDead = true;
              if (isDead && (fate === 'lost' || mine === stop)) throw lost();
              return;
            }
            if (isDead) throw lost();
          };
          const dying = await Archiver.open(e, { store, ship }).catch(() => undefined);
          await dying?.archivePending().catch(() => undefined);
          await dying?.close();
          if (stop === 0) calls = 30;
          else if (!isDead) calls = Math.min(calls, n);
          store.hook = () => undefined;
          const left = await headOf(store, e).catch(() => undefined);
          if (left) {
            assert.deepEqual(await lsnsOf(store, left), dense(left.frontier.lsn), what);
            const { stored, listed } = segmentNames(store, left);
            assert.ok(
              listed.every((name) => stored.includes(name)),
              what,
            );
            orphans += stored.length > listed.length ? 1 : 0;
          }
          const next = await Archiver.open(e, { store, ship });
          await next.archivePending();
          await next.close();
          const head = await headOf(store, e);
          assert.deepEqual([await lsnsOf(store, head), head.gaps], [dense(FILES), []], what);
          expectAscending(store);
          await rm(e, { recursive: true });
        }
      assert.ok(calls > 14 && calls < 30, `${calls} calls`);
      assert.ok(orphans > 3, `${orphans} kills left objects that no head lists`);
      assert.deepEqual(await readdir(dir), ['origin']);
    },
  );
});

/** What crashes leave behind goes after a margin, and nothing else does (K1–K8). */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '../../engine/clock.ts';
import { DirectoryStore } from '../../engine/directory-store.ts';
import { isPitrError } from '../../engine/errors.ts';
import { readIdentity } from '../../engine/identity.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { listBegun } from '../../snapshot/begun.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import type { Begun } from '../../snapshot/manifest.ts';
import { reportOrphans } from '../../snapshot/orphan-report.ts';
import { afterLook, type OrphanTable, readOrphanTable, type SweepRule } from '../../snapshot/orphan-table.ts';
import { noteName } from '../../snapshot/progress-note.ts';
import { readIndex } from '../../snapshot/snapshot-index.ts';
import { deleteSnapshot, listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import { Sweeper, type SweepReport } from '../../snapshot/sweep.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { namesOf } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import { HeldHead } from '../../wal/held-head.ts';
import { LEASES_OBJECT, type LeaseEntry, withLease } from '../../wal/lease.ts';
import { initEngine, inScratch, keyOf, refuses } from '../wal/archiver-support.ts';
import { type Call, lost, MemoryStore } from '../wal/memory-store.ts';

const HOUR_MS = 3_600_000;
const RULE: SweepRule = { marginMs: 24 * HOUR_MS, everyMs: HOUR_MS };
/** Looks until something that is there at the first of them is gone. */
const LOOKS = 1 + 24 + 1;
const WRITER = { archive: 'a', generation: 1 };

describe('K3: what counts as waiting', () => {
  const look = fc.record({
    // what really passed since the last look, and what the clock did besides
    passedMs: fc.oneof(fc.integer({ min: 0, max: 3 * HOUR_MS }), fc.constant(HOUR_MS), fc.constant(60_000)),
    isThere: fc.constantFrom(...Array<boolean>(20).fill(true), false),
    mark: fc.constantFrom('x', 'x', 'x', 'x', 'x', 'y'),
  });

  test('whatever one leap of the clock and missed looks do, nothing goes before the margin has really passed', () => {
    fc.assert(
      fc.property(
        fc.array(look, { minLength: 1, maxLength: 60 }),
        fc.nat(59),
        fc.integer({ min: -400 * HOUR_MS, max: 400 * HOUR_MS }),
        fc.integer({ min: 1, max: 3 }),
        (looks, leapAt, leapMs, hours) => {
          const rule = { marginMs: hours * HOUR_MS, everyMs: HOUR_MS };
          let table: OrphanTable | undefined;
          let realMs = 0;
          let clockMs = 1_000_000 * HOUR_MS;
          let since: { realMs: number; mark: string } | undefined;
          for (const [i, { passedMs, mark, isThere }] of looks.entries()) {
            realMs += passedMs;
            clockMs += passedMs + (i === leapAt ? leapMs : 0);
            if (!isThere || since?.mark !== mark) since = isThere ? { realMs, mark } : undefined;
            const found = isThere ? [{ name: 'o', bytes: 1, mark }] : [];
            const { due, table: next } = afterLook(table, found, clockMs, rule, WRITER);
            table = next;
            if (due.length > 0) assert.ok(since && realMs - since.realMs >= rule.marginMs, `look ${i}`);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('an agent that is started every hour sweeps like one that runs, and a day without one adds an hour', () => {
    let table: OrphanTable | undefined;
    let nowMs = 1_000_000;
    const looks = (steps: readonly number[]): number => {
      for (const [i, step] of steps.entries()) {
        nowMs += step;
        const { due, table: next } = afterLook(table, [{ name: 'o', bytes: 1 }], nowMs, RULE, WRITER);
        table = JSON.parse(JSON.stringify(next));
        if (due.length > 0) return i + 1;
      }
      return -1;
    };
    assert.equal(looks(Array(100).fill(HOUR_MS)), LOOKS);
    table = undefined;
    assert.equal(looks(Array(100).fill(24 * HOUR_MS)), LOOKS);
    table = undefined;
    // a clock that is set back once adds nothing with that look
    assert.equal(looks([HOUR_MS, HOUR_MS, -500 * HOUR_MS, ...Array(100).fill(HOUR_MS)]), LOOKS + 1);
  });
});

interface Place {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  readonly dir: string;
  readonly timeline: string;
}

/** An archive with three runs, of which nothing is left over. */
const prepare = async (dir: string, store = new MemoryStore()): Promise<Place> => {
  const clock = new ManualClock(1_700_000_000_000);
  await initEngine(dir, store);
  const engine = await Engine.open({ dir, sealMs: 0, clock });
  const archiver = await Archiver.open(dir, { store, clock });
  for (let n = 0; n < 30; n++) {
    clock.step(5);
    await engine.put(keyOf(n % 12), { n });
    if (n % 10 === 9) {
      await engine.seal();
      await archiver.archivePending();
    }
  }
  await archiver.close();
  await engine.close();
  return { store, clock, dir, timeline: (await readIdentity(dir)).timeline };
};

/** Resolves when the first such call is about to have its effect; it waits until it is let go, others do not. */
const stopAt = (
  store: MemoryStore,
  isMeant: (call: Call, name: string) => boolean,
): [reached: Promise<void>, go: () => void] => {
  let reach = (): void => undefined;
  let go = (): void => undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const mayGo = new Promise<void>((resolve) => (go = resolve));
  store.hook = async (call, name, when) => {
    if (when !== 'before' || !isMeant(call, name)) return;
    store.hook = () => undefined;
    reach();
    await mayGo;
  };
  return [reached, () => go()];
};

interface Opened {
  readonly archiver: Archiver;
  readonly sweeper: Sweeper;
  readonly archive: Archive;
  readonly events: { objects: number; waiting: number; failed: number }[];
}

const openAgent = async ({ dir, clock }: Place, store: ObjectStore, rule = RULE): Promise<Opened> => {
  const events: Opened['events'] = [];
  const archiver = await Archiver.open(dir, {
    store,
    clock,
    retireMs: 0,
    onEvent: (event) => {
      if (event.kind === 'swept') events.push(event);
    },
  });
  return { archiver, sweeper: new Sweeper(archiver, rule), archive: archiver.archive, events };
};

const looksAt = async (place: Place, { sweeper }: Opened, times: number): Promise<SweepReport[]> => {
  const reports: SweepReport[] = [];
  for (let i = 0; i < times; i++) {
    place.clock.step(HOUR_MS);
    const report = await sweeper.sweep();
    if (report) reports.push(report);
  }
  return reports;
};

const ATTEMPT = '0123456789ab';
const segmentOf = (timeline: string, folder: string, generation = 1): string =>
  `segments/${timeline}/${folder}/L0/000000000000001-000000000000005-g${generation}-${ATTEMPT}.seg`;

/** One of everything that a crash can leave of what the agent of `main` looks after. */
const litterOf = (timeline: string): string[] => [
  segmentOf(timeline, 'main'),
  segmentOf(timeline, 'snapshots-20200101-000000-abcd', 0),
  `manifests/${timeline}/20200101-000000-abcd`,
  `manifests/${timeline}/20200101-000000-abcd/${ATTEMPT}`,
  `begun/${timeline}/20200101-000000-abcd/0000-4095`,
  'doctor/0123',
];

/** What somebody else looks after, or nobody. */
const othersOf = (timeline: string): string[] => [
  segmentOf(timeline, 'other'),
  segmentOf('1234', 'main'),
  segmentOf(timeline, 'main', 999),
  'manifests/1234/20200101-000000-abcd',
  `segments/${timeline}/main/notes.txt`,
  `segments/${timeline}/main/L0/000000000000001-000000000000005-g1.seg`,
  'README',
];

const objectsOf = (store: MemoryStore): string[] => [...store.objects.keys()].sort();

describe('sweep', () => {
  inScratch('K1, K2: what nothing names goes after the margin, and nothing else ever', async (dir) => {
    const place = await prepare(dir);
    const { store, timeline } = place;
    const kept = [...objectsOf(store), ...othersOf(timeline)].sort();
    for (const name of [...litterOf(timeline), ...othersOf(timeline)])
      store.objects.set(name, Buffer.from('xx'));
    const all = objectsOf(store);
    const agent = await openAgent(place, store);
    const before = await looksAt(place, agent, LOOKS - 1);
    assert.deepEqual(
      before.map((r) => r.deleted.length),
      Array(LOOKS - 1).fill(0),
    );
    assert.deepEqual(objectsOf(store), all);
    const [last] = await looksAt(place, agent, 1);
    assert.deepEqual([...last!.deleted].sort(), litterOf(timeline).sort());
    assert.equal(last!.bytes, 2 * last!.deleted.length);
    assert.deepEqual(objectsOf(store), kept);
    assert.deepEqual(agent.events.at(-1), {
      kind: 'swept',
      stream: 'main',
      objects: 6,
      bytes: 12,
      failed: 0,
      // of a writer that this agent does not know
      waiting: 1,
    });
    // it is over: looks go on, and find nothing
    await looksAt(place, agent, 2);
    const table = await readOrphanTable(agent.archive, timeline, 'main');
    assert.deepEqual(
      table?.value.seen.map((s) => s.name),
      [segmentOf(timeline, 'main', 999)],
    );
    await agent.archiver.close();
  });

  inScratch(
    'K3: a new agent goes on where the last one was; looks that come too early are none',
    async (dir) => {
      const place = await prepare(dir);
      const { store, timeline } = place;
      store.objects.set(segmentOf(timeline, 'main'), Buffer.from('x'));
      let looks = 0;
      for (let run = 0; store.objects.has(segmentOf(timeline, 'main')); run++) {
        place.clock.step(HOUR_MS / 3);
        const agent = await openAgent(place, store);
        if (await agent.sweeper.sweep()) looks++;
        await agent.archiver.close();
        assert.ok(run < 200);
      }
      assert.equal(looks, LOOKS);
    },
  );

  inScratch(
    'K4: killed at any call of the store, it is gone on with; in the end exactly what is named is left',
    async (dir) => {
      const place = await prepare(dir);
      const { store, timeline, clock } = place;
      const named = objectsOf(store);
      for (const name of litterOf(timeline)) store.objects.set(name, Buffer.from('xx'));
      // somebody began a snapshot and died
      const archive = await Archive.open(store, { clock });
      store.hook = (call, name) => {
        if (call === 'create' && name.startsWith('begun/')) throw lost();
      };
      await refuses('io', createSnapshot(archive, { kind: 'synthetic', workers: 0 }));
      store.hook = () => undefined;
      const agent = await openAgent(place, store);
      await looksAt(place, agent, LOOKS - 1);
      await agent.archiver.close();
      assert.ok(litterOf(timeline).every((name) => store.objects.has(name)));
      // how many calls there are when nothing happens
      const calls = { before: 0, after: 0 };
      const dueAtMs = clock.nowMs();
      const quiet = store.copy();
      const undisturbed = await openAgent(place, quiet);
      quiet.hook = (_call, _name, when) => {
        calls[when]++;
      };
      await looksAt(place, undisturbed, 1);
      quiet.hook = () => undefined;
      await undisturbed.archiver.close();
      assert.deepEqual(objectsOf(quiet), named);
      assert.ok(calls.after > 20, `${calls.after}`);
      for (const when of ['before', 'after'] as const)
        for (let n = 1; n <= calls[when]; n++) {
          clock.step(dueAtMs - clock.nowMs());
          const copy = store.copy();
          const dying = await openAgent(place, copy);
          const made = { before: 0, after: 0 };
          copy.hook = (_call, _name, at) => {
            made[at]++;
            if (made[when] >= n) throw lost();
          };
          const failure = await looksAt(place, dying, 1).then(
            () => undefined,
            (error) => error,
          );
          assert.ok(isPitrError(failure, 'io'), `${when} call ${n}: ${failure}`);
          copy.hook = () => undefined;
          await dying.archiver.close();
          for (const name of named) assert.ok(copy.objects.has(name), `${when} call ${n}: ${name} is gone`);
          const next = await openAgent(place, copy);
          await looksAt(place, next, 3);
          assert.deepEqual(objectsOf(copy), named, `${when} call ${n}`);
          assert.deepEqual(await listBegun(next.archive), []);
          await next.archiver.close();
        }
    },
  );

  inScratch(
    'K5: a listing that fails ends the sweep; one that lacks something only delays it',
    async (dir) => {
      const place = await prepare(dir);
      const { store, timeline } = place;
      const orphan = segmentOf(timeline, 'main');
      store.objects.set(orphan, Buffer.from('x'));
      const agent = await openAgent(place, store);
      await looksAt(place, agent, LOOKS - 2);
      const seen = async () => (await readOrphanTable(agent.archive, timeline, 'main'))?.value;
      const before = await seen();
      for (const prefix of [`segments/${timeline}/`, `begun/${timeline}/`, 'doctor/']) {
        store.hook = (call, name) => {
          if (call === 'list' && name === prefix) throw lost();
        };
        await assert.rejects(looksAt(place, agent, 1));
      }
      store.hook = () => undefined;
      assert.deepEqual(await seen(), before);
      // what is not listed for once begins to wait anew
      const bytes = store.objects.get(orphan) as Buffer;
      store.objects.delete(orphan);
      await looksAt(place, agent, 1);
      store.objects.set(orphan, bytes);
      await looksAt(place, agent, LOOKS - 1);
      assert.ok(store.objects.has(orphan));
      await looksAt(place, agent, 1);
      assert.ok(!store.objects.has(orphan));
      await agent.archiver.close();
    },
  );

  inScratch('K2: who has lost the stream deletes nothing, of its stream or of the snapshots', async (dir) => {
    const place = await prepare(dir);
    const { store, timeline, clock } = place;
    for (const name of litterOf(timeline)) store.objects.set(name, Buffer.from('x'));
    const agent = await openAgent(place, store);
    await looksAt(place, agent, LOOKS - 1);
    const all = objectsOf(store);
    await HeldHead.claim(agent.archive, await readIdentity(dir), clock);
    await refuses('fenced', looksAt(place, agent, 1));
    assert.deepEqual(objectsOf(store), all);
    await agent.archiver.close();
  });

  inScratch('K2: an object that was swept is never listed, however late its writer comes', async (dir) => {
    const place = await prepare(dir);
    const { store, clock, timeline } = place;
    const archive = await Archive.open(store, { clock });
    const held = await HeldHead.claim(archive, await readIdentity(dir), clock);
    const late = segmentOf(timeline, 'main', held.current.generation);
    store.objects.set(late, Buffer.from('x'));
    const known = async () => namesOf(held.current);
    const [listed] = namesOf(held.current);
    assert.deepEqual(await held.sweep([late, listed!], known), { deleted: [late], failed: [] });
    const { runs } = held.current;
    const segments = runs[0]!.segments.map((s) => ({ ...s, name: late }));
    const next = { ...held.current, runs: [{ ...runs[0]!, segments }, ...runs.slice(1)] };
    await refuses('object-not-found', held.publish(held.current, next));
    await held.publish(held.current, held.current);
  });

  inScratch('K1: a merge that takes longer than the margin comes to its end', async (dir) => {
    const place = await prepare(dir);
    const { store } = place;
    const agent = await openAgent(place, store);
    const [written, go] = stopAt(store, (call, name) => call === 'read' && name.includes('/L1/'));
    const merging = agent.archiver.compact({ full: true });
    await written;
    const reports = await looksAt(place, agent, LOOKS + 3);
    assert.ok(reports.at(-1)!.waiting > 0, 'it was seen, and left alone');
    go();
    assert.equal(await merging, 1);
    for (const name of namesOf(agent.archiver.head)) assert.ok(store.objects.has(name));
    await agent.archiver.close();
  });

  inScratch(
    'K2: a snapshot by reference whose manifest was swept is published with another one',
    async (dir) => {
      const place = await prepare(dir);
      const { store, clock } = place;
      const agent = await openAgent(place, store);
      const archive = await Archive.open(store, { clock });
      const [written, go] = stopAt(store, (call, name) => call === 'swap' && name === 'snapshots');
      const making = createSnapshot(archive, { kind: 'full' });
      await written;
      const reports = await looksAt(place, agent, LOOKS);
      assert.equal(reports.at(-1)!.deleted.length, 1);
      go();
      const { id, name } = await making;
      assert.ok(store.objects.has(name));
      assert.deepEqual(
        (await listSnapshots(archive)).map((s) => [s.id, s.name]),
        [[id, name]],
      );
      assert.deepEqual((await verifyArchive(archive, { orphans: true, workers: 0 })).anomalies, []);
      await agent.archiver.close();
    },
  );

  inScratch('more than fit into the table go in several turns', async (dir) => {
    const place = await prepare(dir);
    const { store, timeline } = place;
    const named = objectsOf(store);
    for (let n = 0; n < 10_050; n++)
      store.objects.set(
        segmentOf(timeline, 'main').replace(ATTEMPT, n.toString(16).padStart(12, '0')),
        Buffer.alloc(0),
      );
    const rule = { marginMs: HOUR_MS, everyMs: HOUR_MS };
    const agent = await openAgent(place, store, rule);
    const reports = await looksAt(place, agent, 7);
    assert.deepEqual(
      reports.map((r) => r.deleted.length),
      [0, 0, 10_000, 0, 0, 0, 50],
    );
    assert.deepEqual(objectsOf(store), named);
    await agent.archiver.close();
  });
});

describe('K6: snapshots that were begun', () => {
  inScratch(
    'one that is worked on stays, however slowly that goes; one that nobody takes up is given up',
    async (dir) => {
      const place = await prepare(dir);
      const { store, clock } = place;
      const agent = await openAgent(place, store);
      const isManifest = (call: Call, name: string): boolean =>
        call === 'create' && name.startsWith('manifests/');
      const [isAsleep, wake] = stopAt(store, isManifest);
      const archive = await Archive.open(store, { clock });
      const making = createSnapshot(archive, { kind: 'synthetic', workers: 0 });
      await isAsleep;
      // its lease is renewed by a timer of the real world; here it is by hand
      for (let i = 0; i < LOOKS + 10; i++) {
        await agent.archive.updateDocument<{ leases: LeaseEntry[] }>('leases', LEASES_OBJECT, (table) => ({
          ...table,
          leases: (table?.leases ?? []).map((l) => ({ ...l, beats: l.beats + 1, renewedMs: clock.nowMs() })),
        }));
        await looksAt(place, agent, 1);
      }
      wake();
      const made = await making;
      assert.equal((await listSnapshots(archive))[0]?.id, made.id);
      assert.deepEqual(await listBegun(archive), []);

      store.hook = (call, name) => {
        if (call === 'create' && name.startsWith('manifests/')) throw lost();
      };
      await refuses('io', createSnapshot(archive, { kind: 'synthetic', workers: 0, label: 'dead' }));
      store.hook = () => undefined;
      const [dead] = await listBegun(archive);
      assert.ok(objectsOf(store).some((name) => name.includes(dead!.id)));
      await looksAt(place, agent, LOOKS + 1);
      assert.deepEqual(await listBegun(archive), []);
      assert.ok(!objectsOf(store).some((name) => name.includes(dead!.id)));
      await agent.archiver.close();
    },
  );
});

describe('K7: deleted snapshots', () => {
  const RETIRE_MS = 120_000;
  const restoreOf = async (store: ObjectStore, clock: ManualClock): Promise<number> => {
    const archive = await Archive.open(store, { clock });
    const options = { archive, target: 'latest', workers: 0 };
    const { records, verification } = await restoreJsonLines(async () => undefined, options);
    assert.equal(verification.source, 'equal');
    return records;
  };

  inScratch(
    'a restore that begins at any call of a deletion comes to its end; then the objects go',
    async (dir) => {
      const place = await prepare(dir);
      const { clock } = place;
      const archive = await Archive.open(place.store, { clock });
      const { id } = await createSnapshot(archive, { kind: 'synthetic', workers: 0 });
      const [entry] = await listSnapshots(archive);
      const own = [entry!.name, ...(await readSnapshot(archive, entry!)).segments.map((s) => s.name)];
      const calls = { before: 0, after: 0 };
      const quiet = place.store.copy();
      quiet.hook = (_call, _name, when) => {
        calls[when]++;
      };
      await deleteSnapshot(await Archive.open(quiet, { clock }), id);
      let paused = 0;
      for (const when of ['before', 'after'] as const)
        for (let n = 1; n <= calls[when]; n++) {
          const store = place.store.copy();
          // the restore stops when it is about to read what the snapshot has of its own
          let wake = (): void => undefined;
          const mayGo = new Promise<void>((resolve) => (wake = resolve));
          let restoring: Promise<number> | undefined;
          const begins = async (): Promise<void> => {
            const reader = copyOf(store, async (name) => {
              if (!own.includes(name) || name === entry!.name) return;
              paused++;
              isPaused();
              await mayGo;
            });
            let isPaused = (): void => undefined;
            const pause = new Promise<void>((resolve) => (isPaused = resolve));
            restoring = restoreOf(reader, clock);
            await Promise.race([pause, restoring]);
          };
          const seen = { before: 0, after: 0 };
          store.hook = async (_call, _name, at) => {
            if (++seen[at] !== n || at !== when) return;
            store.hook = () => undefined;
            await begins();
          };
          const deleted = await deleteSnapshot(await Archive.open(store, { clock }), id);
          assert.equal(deleted.frees.objects, own.length);
          assert.ok(restoring, `${when} call ${n}`);
          store.hook = () => undefined;
          const agent = await openAgent(place, store);
          for (let i = 0; i < 3; i++) {
            clock.step(RETIRE_MS + 1);
            await createSnapshot(agent.archive, { kind: 'full' });
          }
          wake();
          assert.equal(await restoring, 12, `${when} call ${n}`);
          await looksAt(place, agent, 2);
          assert.deepEqual(
            own.filter((name) => store.objects.has(name)),
            [],
            `${when} call ${n}`,
          );
          assert.deepEqual((await readIndex(agent.archive))?.retired, []);
          await agent.archiver.close();
        }
      assert.ok(paused > 3, `${paused} restores had planned to read it`);
    },
  );

  inScratch(
    'a maker that died behind its publication does not have the readers lose what they read',
    async (dir) => {
      const place = await prepare(dir);
      const { store, clock } = place;
      const archive = await Archive.open(store, { clock });
      const named = objectsOf(store);
      // killed between the swap that published it and the deletion of its notes
      store.hook = (call) => {
        if (call === 'list') throw lost();
      };
      await refuses('io', createSnapshot(archive, { kind: 'synthetic', label: 'one', workers: 0 }));
      store.hook = () => undefined;
      const [begun] = (await listBegun(archive)) as [Begun];
      assert.equal(begun.state, 'published');
      const notes = begun.ranges.map((range) => noteName(begun, range));
      const own = objectsOf(store).filter((name) => !named.includes(name));
      await withLease(archive, 'restore', async () => {
        await deleteSnapshot(archive, 'one');
        await createSnapshot(archive, { kind: 'synthetic', label: 'two', workers: 0 });
        assert.deepEqual(
          own.filter((name) => !store.objects.has(name)),
          notes,
        );
        assert.deepEqual(await listBegun(archive), []);
      });
      clock.step(RETIRE_MS);
      await deleteSnapshot(archive, 'two');
      assert.deepEqual(
        own.filter((name) => store.objects.has(name)),
        [],
      );
    },
  );

  inScratch('who comes next deletes what is free, and says before what will be', async (dir) => {
    const place = await prepare(dir);
    const { store, clock } = place;
    const archive = await Archive.open(store, { clock });
    const named = objectsOf(store);
    for (const label of ['one', 'two'])
      await createSnapshot(archive, { kind: 'synthetic', label, workers: 0 });
    const bytes = [...store.objects].filter(([name]) => /snapshots-|^manifests/.test(name));
    const { frees } = await deleteSnapshot(archive, 'one');
    await withLease(archive, 'restore', async () => {
      const second = await deleteSnapshot(archive, 'two');
      assert.deepEqual(second.frees.readers, ['restore']);
      assert.equal(second.frees.afterMs, clock.nowMs() + RETIRE_MS);
      assert.equal(
        frees.bytes + second.frees.bytes,
        bytes.reduce((n, [, { length }]) => n + length, 0),
      );
    });
    assert.deepEqual(await listSnapshots(archive), []);
    clock.step(RETIRE_MS - 1);
    await createSnapshot(archive, { kind: 'full', label: 'three' });
    assert.equal((await readIndex(archive))?.retired?.length, 2);
    clock.step(1);
    await deleteSnapshot(archive, 'three');
    clock.step(RETIRE_MS);
    await refuses('snapshot-unknown', deleteSnapshot(archive, 'three'));
    assert.deepEqual(objectsOf(store), named);
    assert.deepEqual((await readIndex(archive))?.retired, []);
  });

  inScratch('what cannot be deleted stays in the list', async (dir) => {
    const place = await prepare(dir);
    const { store, clock } = place;
    const archive = await Archive.open(store, { clock });
    const named = objectsOf(store);
    await createSnapshot(archive, { kind: 'synthetic', label: 'one', workers: 0 });
    await deleteSnapshot(archive, 'one');
    clock.step(RETIRE_MS);
    const remove = store.delete.bind(store);
    store.delete = async (names) => {
      await remove(names.slice(1));
      return [{ name: names[0]!, cause: new Error('held') }];
    };
    await createSnapshot(archive, { kind: 'full' });
    assert.equal((await readIndex(archive))?.retired?.[0]?.names.length, 1);
    store.delete = remove;
    await deleteSnapshot(archive, (await listSnapshots(archive))[0]!.id);
    clock.step(RETIRE_MS);
    await refuses('snapshot-unknown', deleteSnapshot(archive, 'one'));
    assert.deepEqual(objectsOf(store), named);
  });
});

/** The same store for another process, with something that happens before it reads an object. */
const copyOf = (store: MemoryStore, beforeRead: (name: string) => Promise<void>): ObjectStore => ({
  url: store.url,
  create: (name, bytes) => store.create(name, bytes),
  read: async (name, range) => {
    await beforeRead(name);
    return store.read(name, range);
  },
  size: (name) => store.size(name),
  list: (prefix) => store.list(prefix),
  delete: (names) => store.delete(names),
  readSwap: (name) => store.readSwap(name),
  swap: (name, tag, bytes) => store.swap(name, tag, bytes),
});

describe('K8: what a directory is left with', () => {
  inScratch(
    'temporary files, old values, and empty folders on which no writer relies go',
    async (scratch) => {
      const root = join(scratch, 'archive');
      const store = new DirectoryStore({ dir: root });
      const dir = join(scratch, 'e');
      await initEngine(dir, store);
      const clock = new ManualClock(1_700_000_000_000);
      const { timeline } = await readIdentity(dir);
      const agent = await openAgent({ store: new MemoryStore(), clock, dir, timeline }, store);
      const look = async (): Promise<SweepReport | undefined> => {
        clock.step(HOUR_MS);
        return agent.sweeper.sweep();
      };
      const at = (...parts: string[]): string => join(root, ...parts);
      await fs.writeFile(at('.tmp', 'half'), 'half of an object');
      await fs.mkdir(at('doctor', '0123'), { recursive: true });
      const gone = 'snapshots-20200101-000000-abcd';
      await fs.mkdir(at('segments', timeline, gone, 'L0'), { recursive: true });
      // not pitr's, not this agent's, or of a writer that has been there
      const kept = [
        at('lost+found'),
        at('mounted'),
        at('segments', '1234', gone),
        at('segments', timeline, 'main', 'L0'),
      ];
      for (const folder of kept) await fs.mkdir(folder, { recursive: true });
      const values = at('heads', timeline, 'main');
      for (let n = 0; n < 70; n++) await agent.archiver.sweep([]);
      await fs.writeFile(join(values, '000000000002'), 'an old value');
      const report = await reportOrphans(agent.archive);
      assert.deepEqual(
        report.lines.map((l) => [l.class, l.name, l.bytes]).sort(),
        [
          ['folder', 'doctor', 0],
          ['folder', 'doctor/0123', 0],
          ['folder', `segments/${timeline}/${gone}`, 0],
          ['folder', `segments/${timeline}/${gone}/L0`, 0],
          ['folder', `segments/1234/${gone}`, 0],
          ['temporary', '.tmp/half', 17],
          ['value', `heads/${timeline}/main/000000000002`, 12],
        ].sort(),
      );
      for (let i = 1; i < LOOKS; i++) assert.deepEqual((await look())?.deleted, []);
      assert.equal((await look())?.deleted.length, 6);
      for (const folder of ['.tmp/half', 'doctor', `segments/${timeline}/${gone}`])
        await assert.rejects(fs.stat(at(folder)), { code: 'ENOENT' });
      for (const folder of kept) await fs.stat(folder);
      await agent.archiver.close();
    },
  );
});

describe('pitr verify --orphans', () => {
  inScratch('names class, bytes, when it was first seen, and who will sweep it when', async (dir) => {
    const place = await prepare(dir);
    const { store, clock, timeline } = place;
    const archive = await Archive.open(store, { clock });
    const mine = segmentOf(timeline, 'main');
    const others = segmentOf(timeline, 'other');
    for (const name of [mine, others, 'README']) store.objects.set(name, Buffer.from('xyz'));
    const agent = await openAgent(place, store);
    await looksAt(place, agent, 3);
    const seenMs = clock.nowMs() - 2 * HOUR_MS;
    const { anomalies, orphans } = await verifyArchive(archive, { orphans: true, workers: 0 });
    const unseen = { firstSeenMs: null, sweptAfterMs: null, sweptBy: null };
    assert.deepEqual(orphans, {
      lines: [
        { class: 'foreign', name: 'README', bytes: 3, ...unseen },
        {
          class: 'segment',
          name: mine,
          bytes: 3,
          firstSeenMs: seenMs,
          sweptAfterMs: seenMs + 25 * HOUR_MS,
          sweptBy: 'main',
        },
        { class: 'segment', name: others, bytes: 3, ...unseen },
      ],
      more: 0,
      sums: [
        { class: 'foreign', objects: 1, bytes: 3 },
        { class: 'segment', objects: 2, bytes: 6 },
      ],
      objects: 3,
      bytes: 9,
      denied: null,
    });
    assert.deepEqual(
      anomalies.map((a) => [a.class, a.object, a.harmless]),
      [
        ['foreign', 'README', true],
        ['orphan', mine, true],
        ['orphan', others, true],
      ],
    );
    await looksAt(place, agent, LOOKS - 3);
    assert.equal(clock.nowMs(), seenMs + 25 * HOUR_MS);
    assert.ok(!store.objects.has(mine));
    await agent.archiver.close();
  });
});

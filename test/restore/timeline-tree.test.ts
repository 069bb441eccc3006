/**
 * A tree of timelines that are all written to, archived, compacted and snapshotted, against plain maps: what each branch was at
 * any instant. PITR_TREES=n runs that many seeds, PITR_TREE_SEED=n one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { resolveTarget } from '../../restore/target.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import type { Archiver } from '../../wal/archiver.ts';
import type { Engine } from '../../wal/engine.ts';
import { Rng } from '../model/rng.ts';
import { Bench, key, T0 } from '../promises-support.ts';

const TREES = Number(process.env.PITR_TREES ?? 8);
const SEEDS = process.env.PITR_TREE_SEED
  ? [Number(process.env.PITR_TREE_SEED)]
  : Array.from({ length: TREES }, (_, i) => i + 1);
const TIMELINES = 5;
const ROUNDS = 30;

/** A branch as its writer knows it: what was acknowledged, and where it left its parent. */
class Branch {
  readonly name: string;
  readonly engine: Engine;
  readonly archiver: Archiver;
  readonly parent: Branch | undefined;
  readonly forkTs: number;
  readonly #writes: { ts: number; key: string; n: number | undefined }[] = [];

  constructor(name: string, engine: Engine, archiver: Archiver, parent?: Branch, forkTs = T0 - 1) {
    this.name = name;
    this.engine = engine;
    this.archiver = archiver;
    this.parent = parent;
    this.forkTs = forkTs;
  }

  get id(): string {
    return this.engine.identity.timeline;
  }

  async write(name: string, n: number | undefined): Promise<void> {
    const done =
      n === undefined ? await this.engine.delete(key(name)) : await this.engine.put(key(name), { n });
    this.#writes.push({ ts: done.ts, key: name, n });
  }

  at(ts: number): Map<string, number> {
    const state = this.parent ? this.parent.at(Math.min(ts, this.forkTs)) : new Map<string, number>();
    for (const w of this.#writes) {
      if (w.ts > ts) break;
      if (w.n === undefined) state.delete(w.key);
      else state.set(w.key, w.n);
    }
    return state;
  }
}

const sorted = (state: Iterable<readonly [string, unknown]>): unknown[] =>
  [...state].sort(([a], [b]) => (a < b ? -1 : 1));

for (const seed of SEEDS)
  test(`S1 S8 T3: every instant of every branch of a tree is that of the branch's map, seed ${seed}`, async (t) => {
    const rng = new Rng(seed);
    const bench = await Bench.open(t);
    const { clock } = bench;
    const branches: Branch[] = [];
    const root = await bench.engine('t0');
    branches.push(new Branch('t0', root, await bench.archiver('t0')));

    const ship = async (b: Branch): Promise<number> => {
      await b.engine.seal();
      await b.archiver.archivePending();
      return b.archiver.head.frontier.ts;
    };
    const fork = async (from: Branch): Promise<void> => {
      const end = await ship(from);
      // now and then before the fork of the parent itself: then it is a fork of the grandparent
      const target = rng.chance(0.3) ? rng.int(T0, end) : rng.int(Math.max(T0, from.forkTs + 1), end);
      const name = `t${branches.length}`;
      const report = await restoreEngine(bench.path(name), rng.pick(['main', name]), {
        archive: bench.url,
        timeline: from.id,
        target: String(target),
        workers: 0,
        ttl: 'absolute',
        clock,
      });
      const parent = branches.find((b) => b.id === report.timeline);
      const engine = await bench.reopen(name);
      branches.push(new Branch(name, engine, await bench.archiver(name), parent, target));
    };
    const snapshot = async (b: Branch): Promise<void> => {
      const kind = rng.pick(['full', 'incremental', 'synthetic'] as const);
      const end = await ship(b);
      const ts = rng.chance(0.5) ? end : rng.int(T0, end);
      await createSnapshot(await bench.archive(), { kind, timeline: b.id, ts });
    };

    let n = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const b = rng.pick(branches);
      for (let i = rng.int(1, 8); i > 0; i--) {
        clock.step(rng.int(0, 5));
        await b.write(`k${rng.int(0, 15)}`, rng.chance(0.25) ? undefined : ++n);
      }
      if (rng.chance(0.6)) await ship(b);
      if (rng.chance(0.4)) await b.archiver.compact({ fanout: 2 });
      if (rng.chance(0.2)) await snapshot(b);
      // a fork of the root, a fork of the fork, another of the root, then anywhere
      const due = Math.floor(((round + 1) * TIMELINES) / (ROUNDS - 5));
      if (branches.length < Math.min(due + 1, TIMELINES))
        await fork([branches[0], branches[1], branches[0]][branches.length - 1] ?? rng.pick(branches));
    }
    assert.equal(branches.length, TIMELINES);
    const ends = new Map<Branch, number>();
    for (const b of branches) {
      clock.step(1);
      ends.set(b, await ship(b));
      await b.archiver.compact({ fanout: 2 });
    }

    const archive = await bench.archive();
    for (const b of branches) {
      const end = ends.get(b) as number;
      const view = await ArchiveView.read(archive, b.id);
      assert.deepEqual(
        [view.restorable.ranges[0].fromTs, view.restorable.contiguousEnd],
        [T0, end],
        'all of it is restorable',
      );
      const forks = branches.map((o) => o.forkTs).filter((ts) => ts >= T0 && ts < end);
      const instants = [...Array.from({ length: 12 }, () => rng.int(T0, end)), ...forks, T0, end];
      for (const ts of instants.flatMap((ts) => (forks.includes(ts) ? [ts, ts + 1] : [ts]))) {
        const found = await bench.at(ts, { timeline: b.id });
        assert.deepEqual(
          sorted([...found].map(([k, line]) => [String(k), line.bins.n])),
          sorted(b.at(ts)),
          `${b.name} at ${ts}`,
        );
        // on every branch that has this instant in its own log, and is not the one that was read
        const owns = (o: Branch): boolean => ts > o.forkTs && ts <= (ends.get(o) as number);
        let here = b;
        while (ts <= here.forkTs) here = here.parent as Branch;
        const { timeline, alsoOn } = await resolveTarget(view, String(ts), clock.nowMs());
        assert.equal(timeline, here.id);
        assert.deepEqual(
          [...alsoOn].sort(),
          branches
            .filter((o) => o !== here && owns(o))
            .map((o) => o.id)
            .sort(),
          `also at ${ts}`,
        );
      }
      const longer = branches.filter((o) => (ends.get(o) as number) > end);
      await assert.rejects(
        resolveTarget(view, String(end + 1), clock.nowMs()),
        (e) => isPitrError(e, longer.length > 0 ? 'target-elsewhere' : 'target-future'),
        `${b.name} after its end`,
      );
    }
  });

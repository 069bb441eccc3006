/**
 * A process that merges, killed with SIGKILL at random moments while the database grows. `PITR_COMPACT_KILLS` sets the number of kills
 * (default 25), `PITR_KILL_SEED` repeats the choices of a run (not the scheduler's).
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { restoreEngine } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { type MergeNote, noteName } from '../../wal/merge-note.ts';
import { dense, lsnsOf } from '../wal/archiver-support.ts';
import { Child } from './child.ts';

const KILLS = Number(process.env.PITR_COMPACT_KILLS ?? 25);
const SEED = Number(process.env.PITR_KILL_SEED ?? Date.now() % 2 ** 31);
const KEYS = 400;

/** Park-Miller: choices that a seed repeats. */
let state = (SEED % 2147483646) + 1;
const random = (below: number): number => {
  state = (state * 48271) % 2147483647;
  return state % below;
};

test(`${KILLS} kills of a process that merges (seed ${SEED}): every version is there, every instant is the model's`, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-kill-compact-'));
  const engineDir = join(dir, 'engine');
  const url = `file:${join(dir, 'archive')}`;
  try {
    const { timeline, stream } = await Engine.init(engineDir, { archive: url });
    const archive = await Archive.open(url);
    const engine = await Engine.open({ dir: engineDir, sealMs: 0 });
    /** The state after each batch, by its instant. */
    const model = new Map<number, ReadonlyMap<number, number>>();
    let now: ReadonlyMap<number, number> = new Map();
    let step = 0;
    const write = async (): Promise<void> => {
      const n = ++step;
      const keys = new Set(Array.from({ length: 60 }, () => random(KEYS)));
      const next = new Map(now);
      const [{ ts }] = await engine.batch(
        [...keys].map((k) => {
          const key = { namespace: k % 2 ? 'odd' : 'test', set: 's', key: k };
          if (n > 1 && k % 7 === n % 7) {
            next.delete(k);
            return { op: 'delete' as const, key };
          }
          next.set(k, n);
          return { op: 'put' as const, key, bins: { k, n, pad: 'p'.repeat(100 + random(300)) } };
        }),
      );
      now = next;
      model.set(ts, next);
    };
    let unfinished = 0;
    let merges = 0;
    const errors: string[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const child = new Child(
        'merger.ts',
        [engineDir, kill % 2 ? '0' : String(Number.MAX_SAFE_INTEGER)],
        (line) => {
          if (line.startsWith('merged')) merges++;
          if (line.startsWith('error')) errors.push(line);
        },
      );
      await child.line((l) => l === 'open');
      const until = Date.now() + random(400);
      do {
        await write();
        await engine.seal();
        await sleep(20);
      } while (Date.now() < until);
      assert.ok(await child.kill(), child.report());
      const note = await archive.readDocument<MergeNote>('merge', noteName(timeline, stream));
      if (note?.value.merge && note.value.merge.parts.length > 0) unfinished++;
    }
    await engine.close();
    assert.deepEqual(errors, []);
    const last = await Archiver.open(engineDir, { retireMs: 0 });
    await last.archivePending();
    await last.compact({ full: true });
    const { head } = last;
    await last.close();
    assert.equal(head.runs.length, 1);
    assert.deepEqual(await lsnsOf(archive.store, head), dense(engine.lastLsn));
    const report = await verifyArchive(archive, { workers: 0, orphans: true });
    assert.deepEqual(
      // a kill between a level-0 object and the head leaves one that nothing names; merges leave none
      report.anomalies.filter((a) => !(a.class === 'orphan' && a.object.includes('/L0/'))),
      [],
    );
    const instants = [...model.keys()].sort((a, b) => a - b);
    for (let i = 0; i < 12; i++) {
      const ts = instants[0] + random(instants[instants.length - 1] - instants[0] + 1);
      const restored = join(dir, 'restored');
      await restoreEngine(restored, undefined, { archive, target: String(ts), workers: 0 });
      const copy = await Engine.open({ dir: restored, sealMs: 0 });
      const found = new Map<number, number>();
      for await (const { bins } of copy.scan()) found.set(Number(bins.k), Number(bins.n));
      await copy.close();
      await rm(restored, { recursive: true });
      const expected = model.get(instants.filter((t) => t <= ts).at(-1) as number);
      assert.deepEqual(sorted(found), sorted(expected as ReadonlyMap<number, number>), `at ${ts}`);
    }
    console.log(
      `${KILLS} kills, ${merges} merges, ${unfinished} killed with parts to go on with, ${step} batches, seed ${SEED}`,
    );
    assert.ok(KILLS < 10 || unfinished > 0, 'some kill left a merge to go on with');
  } finally {
    await Child.killAll();
    await rm(dir, { recursive: true, force: true });
  }
});

const sorted = (map: ReadonlyMap<number, number>): [number, number][] => [...map].sort((a, b) => a[0] - b[0]);

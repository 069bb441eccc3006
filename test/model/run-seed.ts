/** One seed: random steps on three engines and one archive, then the model and the archive compared at every position. */
import { strict as assert } from 'node:assert';
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { restoreEngine } from '../../restore/restore.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Comparison } from './compare.ts';
import { Model } from './model.ts';
import { Rng } from './rng.ts';
import type { ModelKey, TtlRule } from './rules.ts';
import { makeKeys, Steps, type StepWeights } from './steps.ts';
import { type Node, World } from './world.ts';

const STEPS_MAX = 60;
/** A file system in memory when there is one: what a sync promises is tested elsewhere, here it would only take time. */
const ROOT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
const HOUR_MS = 3_600_000;
/** A fork is one engine: nobody to hand over to, and no other owner. */
const FORK_STEPS: StepWeights = {
  put: 16,
  delete: 2,
  touch: 2,
  batch: 3,
  truncate: 2,
  mark: 1,
  archive: 2,
  compact: 1,
  snapshot: 1,
  clock: 3,
  restart: 0.7,
  crash: 0.7,
};

export interface SeedResult {
  readonly steps: number;
  readonly positions: number;
}

/** Runs a seed; a failure says what was done before it and how to do it again. */
export const runSeed = async (seed: number): Promise<SeedResult> => {
  const dir = await fs.mkdtemp(join(ROOT, 'pitr-model-'));
  const log: string[] = [];
  try {
    return await run(seed, dir, log);
  } catch (error) {
    const { message, stack } = error as Error;
    throw new Error(
      `seed ${seed}: ${message}\nlast steps:\n  ${log.slice(-60).join('\n  ')}\nrepeat: PITR_SEED=${seed} node --test test/model/model.test.ts\n${stack}`,
      { cause: error },
    );
  } finally {
    await fs.rm(dir, { recursive: true, force: true });
  }
};

const run = async (seed: number, dir: string, log: string[]): Promise<SeedResult> => {
  const rng = new Rng(seed);
  const world = await World.open({
    dir,
    startMs: 1_750_000_000_000 + rng.int(0, 100_000_000),
    shards: rng.pick([1, 4, 16]),
    fanout: rng.int(2, 4),
    retireMs: rng.pick([0, 0, 600_000]),
  });
  try {
    const keys = makeKeys(rng, rng.int(8, 30));
    const steps = new Steps(world, rng, keys, log);
    const count = rng.chance(0.8) ? STEPS_MAX : rng.int(5, STEPS_MAX);
    const streams = world.nodes.map((n) => n.stream);
    for (let i = 0; i < count; i++) {
      await steps.step();
      if (rng.chance(0.04)) await checkNow(world, rng);
    }
    log.push('end: everything sealed and archived');
    // late enough that every clock step and most lives lie within the range
    world.clock.step(2 * HOUR_MS + Math.max(0, world.startTs - world.clock.nowMs()));
    for (const node of world.nodes) {
      await world.seal(node);
      await world.archiveRound(node);
      await world.checkScan(node);
    }
    const comparison = await Comparison.open(world.archiveUrl, world.model, world.startTs);
    await comparison.ranges();
    await comparison.everywhere(rng);
    await comparison.replayed(rng);
    await comparison.targets(rng, streams);
    await comparison.restored(world.newDir('restored'), rng.int(comparison.startTs, comparison.endTs));
    if (rng.chance(0.5)) await comparison.restored(world.newDir('restored'), comparison.endTs);
    const forked = await fork(world, rng, keys, comparison);
    return { steps: count, positions: comparison.positions + forked };
  } finally {
    await world.close();
  }
};

/** In the middle of everything: what is restorable now, and one state of it. */
const checkNow = async (world: World, rng: Rng): Promise<void> => {
  const comparison = await Comparison.open(world.archiveUrl, world.model, world.startTs);
  await comparison.ranges();
  if (comparison.endTs < comparison.startTs) return;
  await comparison.at(comparison.endTs);
  await comparison.at(rng.int(comparison.startTs, comparison.endTs));
  await comparison.targets(
    rng,
    world.nodes.map((n) => n.stream),
  );
};

/** S8 and S10: a restored engine is written to and archived; both histories must be right afterwards. Returns positions. */
const fork = async (world: World, rng: Rng, keys: readonly ModelKey[], old: Comparison): Promise<number> => {
  const dir = world.newDir('fork');
  const ts = rng.int(old.startTs, old.endTs);
  const ttl: TtlRule = {
    mode: rng.pick(['absolute', 'remaining', 'never']),
    restoredAtMs: world.clock.nowMs(),
  };
  const timeline = old.view.timeline.id;
  const { clock } = world;
  await restoreEngine(dir, 'r', {
    archive: old.archive,
    timeline,
    target: String(ts),
    workers: 0,
    ttl: ttl.mode,
    clock,
  });
  const model = new Model({ model: world.model, ts, ttl });
  model.addStream('r', [[0, 4095]], ts + 1);
  const node: Node = {
    stream: 'r',
    dir,
    engine: await Engine.open({ dir, sealMs: 0, clock }),
    archiver: await Archiver.open(dir, { clock, fanout: 2, retireMs: 0 }),
  };
  const forked = world.forked(model, node);
  const log: string[] = [];
  try {
    await forked.checkScan(node);
    const steps = new Steps(forked, rng, keys, log);
    for (let i = 0; i < 8; i++) await steps.step(FORK_STEPS);
    await forked.seal(node);
    await forked.archiveRound(node);
    const fresh = await Comparison.open(world.archiveUrl, model, old.startTs, forked.timeline);
    fresh.otherEndTs = old.endTs;
    await fresh.ranges();
    for (const at of [old.startTs, ts - 1, ts, ts + 1, fresh.endTs, ...model.instants()])
      if (at >= fresh.startTs && at <= fresh.endTs) await fresh.at(at);
    // the history that was left is as it was
    const left = await Comparison.open(world.archiveUrl, world.model, old.startTs, timeline);
    left.otherEndTs = fresh.endTs;
    await left.ranges();
    await left.at(left.endTs);
    await left.at(ts);
    return fresh.positions + left.positions;
  } catch (error) {
    const { message } = error as Error;
    assert.fail(
      `on the fork at ${ts}, ttl ${ttl.mode} at ${ttl.restoredAtMs}: ${message}\nsteps there:\n  ${log.join('\n  ')}`,
    );
  } finally {
    await forked.close();
  }
};

/** One seed: a world, what happens to it, and what is restored of it, at many instants. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ArchiveView } from '../../../snapshot/view.ts';
import { connectOfficialClient, type Package } from '../../aerospike/official-client.ts';
import { Rng } from '../../model/rng.ts';
import { judge, judgeDefinitions } from './judge.ts';
import { heal, mishap } from './mishaps.ts';
import { officialStep } from './official-writer.ts';
import { definitionsAt, restoreAt } from './restored.ts';
import { type Shape, World } from './world.ts';

export interface SeedOptions {
  /** How long things happen, ms. */
  readonly workMs: number;
  /** Instants that are looked at when all is over. */
  readonly lastChecks: number;
  /** The official client's package: one more writes with it. */
  readonly aerospike?: Package | undefined;
}

export type Tally = Record<string, number>;

const shapeOf = (rng: Rng): Shape => ({
  agents: rng.chance(0.5) ? 2 : 1,
  isFiltered: rng.chance(0.25),
  pollMs: rng.int(60, 250),
  groups: rng.pick([1, 4, 16]),
  fanout: rng.int(2, 4),
});

/** @throws when a restore says what is not so */
export const runSeed = async (seed: number, options: SeedOptions): Promise<Tally> => {
  const rng = new Rng(seed);
  const world = await World.open(rng, shapeOf(rng));
  const tally: Tally = {};
  const add = (counts: Readonly<Record<string, number>>): void => {
    for (const [name, n] of Object.entries(counts)) tally[name] = (tally[name] ?? 0) + n;
  };
  try {
    if (world.source.endpoint) await world.source.fault(world.wire, 'resurrect=1');
    await world.fill();
    for (const capture of world.captures) capture.start();
    world.work(options.aerospike ? [await officialWork(world, options.aerospike)] : []);
    await begin(world);
    const endMs = Date.now() + options.workMs;
    let turn = 0;
    while (Date.now() < endMs) {
      await sleep(rng.int(20, 250));
      await mishap(world);
      if (turn++ % 3 === 2) add(await check(world, await instant(world)));
    }
    await heal(world);
    await world.rest();
    for (const capture of world.captures) capture.start();
    await settle(world);
    for (let i = 0; i < options.lastChecks; i++) add(await check(world, await instant(world, i === 0)));
    const errors = world.captures.flatMap((c) => c.errors);
    if (errors.length > 0) throw new Error(errors.join('\n'));
  } catch (error) {
    const { shape } = world;
    throw new Error(`seed ${seed}, ${JSON.stringify(shape)}: ${(error as Error).message}\n${world.trace}`, {
      cause: error,
    });
  } finally {
    await world.close();
  }
  add(world.counts);
  for (const { counts } of world.captures) add(counts);
  add(Object.fromEntries([...world.faults].map(([name, n]) => [`fault.${name}`, n])));
  return tally;
};

const officialWork = async (world: World, aerospike: Package): Promise<() => Promise<void>> => {
  const { source } = world;
  const client = await connectOfficialClient(aerospike, source);
  world.onClose(() => client.close());
  const writer = await world.addWriter();
  const rng = new Rng(world.rng.int(0, 2 ** 31));
  const onDone = (): void => {
    world.counts.official++;
  };
  return () => officialStep(aerospike, client, writer, rng, onDone);
};

/** Until there is something to restore; now and then the agent is killed before. */
const begin = async (world: World): Promise<void> => {
  const { rng, captures } = world;
  while (rng.chance(0.3)) {
    const victim = rng.pick(captures);
    await victim.copying();
    await sleep(rng.int(0, 150));
    world.tell('killWhileCopying');
    await victim.kill();
    victim.start();
  }
  await settle(world);
};

/** Until the archive has everything that was written, and the clock shows what it has not shown before. */
const settle = async (world: World): Promise<void> => {
  const wantedMs = Math.max(await world.source.nowMs(), ...world.folds.map(({ toMs }) => toMs + 1));
  const endMs = Date.now() + 40_000;
  for (;;) {
    const { contiguousEnd, limitedBy } = (await ArchiveView.read(world.archive)).restorable;
    if (contiguousEnd !== undefined && contiguousEnd >= wantedMs) return;
    if (Date.now() > endMs)
      throw new Error(
        `the frontier stays at ${contiguousEnd}, ${wantedMs - (contiguousEnd ?? 0)} ms behind, by ${limitedBy}\n` +
          world.captures.flatMap((c) => c.errors).join('\n'),
      );
    await sleep(30);
  }
};

/** An instant that can be restored: the newest, a mark, a frontier, one around which something was written, or any. Undefined: none yet. */
const instant = async (world: World, isNewest = false): Promise<number | undefined> => {
  const { rng, truth } = world;
  const { ranges } = (await ArchiveView.read(world.archive)).restorable;
  if (ranges.length === 0) return undefined;
  const last = ranges[ranges.length - 1];
  if (isNewest) return last.toTs;
  const frontiers = world.captures.flatMap((c) => c.statedMs.map((s) => s - 1));
  const anyChange = (): number => {
    const { changes } = rng.pick([...truth.records.values()]);
    return changes.length === 0 ? last.toTs : rng.pick(changes).fromMs + rng.int(-1, 1);
  };
  const draw = (): number => {
    switch (rng.weighted({ newest: 2, mark: 2, frontier: 3, change: 4, truncation: 1, any: 3 })) {
      case 'newest':
        return last.toTs;
      case 'mark':
        return world.marks.size > 0 ? rng.pick([...world.marks.values()]) : last.toTs;
      case 'frontier':
        return frontiers.length > 0 ? rng.pick(frontiers) + rng.int(0, 1) : last.toTs;
      case 'change':
        return anyChange();
      case 'truncation':
        return truth.truncations.length > 0
          ? rng.pick(truth.truncations).toMs + rng.int(-1, 200)
          : anyChange();
      case 'any':
        return rng.int(ranges[0].fromTs, last.toTs);
    }
  };
  for (let tries = 0; tries < 100; tries++) {
    const ts = draw();
    const isFolded = world.folds.some((f) => f.fromMs <= ts && ts <= f.toMs);
    if (!isFolded && ranges.some((r) => r.fromTs <= ts && ts <= r.toTs)) return ts;
  }
  return undefined;
};

/** Restores and compares. @throws with what is wrong */
const check = async (world: World, ts: number | undefined): Promise<Tally> => {
  if (ts === undefined) return { noInstant: 1 };
  const { truth, sets, gapsAt, folds } = world;
  const copiedMs = new Set(world.captures.flatMap((c) => c.copiedMs));
  const restored = await restoreAt(world.archive, `${ts}`);
  // nobody is in the middle of something: what was done by now is known
  const verdict = await world.gate.alone(async () =>
    judge(restored, ts, { truth, sets, gapsAt, copiedMs, folds }),
  );
  const { wrong } = verdict;
  const before = world.captures.map(({ statedMs }) => statedMs.filter((s) => s <= ts).at(-2) ?? 0);
  const after = world.captures.map(
    ({ statedMs }) => statedMs.filter((s) => s > ts).at(1) ?? Number.POSITIVE_INFINITY,
  );
  const around = { fromMs: Math.min(...before) - 1, toMs: Math.max(...after) };
  const definitions = judgeDefinitions(await definitionsAt(world.archive, ts), truth, around);
  const all = [...wrong, ...definitions];
  if (all.length > 0) throw new Error(`${all.length} at ${ts}\n${all.slice(0, 3).join('\n')}`);
  return {
    checks: 1,
    compared: restored.isSourceCompared ? 1 : 0,
    records: verdict.records,
    inexact: verdict.inexact,
    inexactAndWrong: verdict.inexactAndWrong,
    uncertain: verdict.uncertain,
    hidden: verdict.hidden,
  };
};

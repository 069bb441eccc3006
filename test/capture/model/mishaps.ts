/** What happens to a world while it is captured: faults, kills, events, hand-overs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { PartitionSet } from '../../../engine/partition.ts';
import { handoverDirs } from '../../../restore/handover.ts';
import { createSnapshot } from '../../../snapshot/create.ts';
import { NAMESPACES } from './source.ts';
import type { World } from './world.ts';

/** What a poll may take here, ms. */
const POLL_MS = 3000;

type Mishap = (world: World) => Promise<void>;

const now = (world: World): Promise<number> => world.source.nowMs();
const info = async (world: World, command: string): Promise<string> =>
  (await world.source.info(world.wire, command))[0];

const kill: Mishap = async (world) => {
  const capture = world.rng.pick(world.captures);
  await capture.kill();
  await sleep(world.rng.int(0, 200));
  capture.start();
};

/** A fault for a while, then none of it. */
const during =
  (on: (world: World) => string, off: string, ms = 400): Mishap =>
  async (world) => {
    await world.source.fault(world.wire, on(world));
    await sleep(ms);
    await world.source.fault(world.wire, off);
  };

const once =
  (text: (world: World) => string): Mishap =>
  (world) =>
    world.source.fault(world.wire, text(world));

const truncate =
  (isWhole: boolean): Mishap =>
  (world) =>
    world.gate.alone(async () => {
      const { rng, truth, setNames } = world;
      const namespace = rng.pick(NAMESPACES);
      const set = isWhole ? null : setNames[rng.int(0, 1)];
      const fromMs = await now(world);
      // now, or what has not been changed for a while
      const lut = rng.chance(0.3) ? `;lut=${BigInt(fromMs - rng.int(50, 1000)) * 1_000_000n}` : '';
      const what = set === null ? `namespace=${namespace}` : `namespace=${namespace};set=${set}`;
      const said = await info(world, `${set === null ? 'truncate-namespace' : 'truncate'}:${what}${lut}`);
      if (said !== 'ok') throw new Error(`${what}${lut}: ${said}`);
      const key = set === null ? namespace : `${namespace}|${set}`;
      const cutoffMs = await cutoffOf(world, key);
      truth.truncations.push({ at: truth.next(), namespace, set, cutoffMs, fromMs, toMs: await now(world) });
    });

/** As the server says it. */
const cutoffOf = async (world: World, key: string): Promise<number> => {
  const found = (await info(world, 'smd-show:module=truncate'))
    .split(';')
    .find((e) => e.startsWith(`${key}=`));
  if (!found) throw new Error(`no truncation of ${key}`);
  // since 2010
  return Number(found.slice(key.length + 1)) + 1_262_304_000_000;
};

/** What it gives back is looked for by everybody. */
const restart: Mishap = (world) =>
  world.gate.alone(async () => {
    const fromMs = await now(world);
    const [said] = await world.source.info(world.wire, 'pitr-restart');
    await world.source.fault(world.wire, 'resurrect=1');
    world.counts.risen += Number(said);
    for (const writer of [...world.writers, ...world.idle]) await writer.lookAtAll(fromMs);
  });

const stepClock =
  (ms: (world: World) => number): Mishap =>
  (world) =>
    world.gate.alone(async () => {
      const by = ms(world);
      const before = await now(world);
      await world.source.fault(world.wire, `clock-step-ms=${world.source.stepMs + by}`);
      world.source.stepMs += by;
      if (by < 0) world.folds.push({ fromMs: before + by - 5, toMs: (await now(world)) - by + 5 });
      // what a poll finds that began before, it dates by the clock that it has read
      else world.folds.push({ fromMs: before - 5, toMs: (await now(world)) + POLL_MS });
    });

const movePartitions: Mishap = async (world) => {
  const ids = (await info(world, 'peers-clear-std')).matchAll(/\[([0-9A-F]{4,16}),/g);
  const id = world.rng.pick([...ids].map((m) => m[1]));
  const start = world.rng.int(0, 4000);
  const said = await info(world, `pitr-move:node=${id};partitions=${start}-${start + world.rng.int(1, 90)}`);
  if (said !== 'ok') throw new Error(said);
};

const indexes: Mishap = async (world) => {
  const { rng, truth, setNames } = world;
  const namespace = rng.pick(NAMESPACES);
  const name = `${setNames[0]}-i${rng.int(0, 2)}`;
  const key = `sindex ${namespace} ${name}`;
  const isThere = truth.definitions.get(key)?.at(-1)?.body != null;
  const fromMs = await now(world);
  const bin = rng.pick(['a', 'b']);
  const said = await info(
    world,
    isThere
      ? `sindex-delete:namespace=${namespace};indexname=${name}`
      : `sindex-create:namespace=${namespace};set=${setNames[0]};indexname=${name};bin=${bin};type=numeric`,
  );
  if (said.toLowerCase() !== 'ok') throw new Error(`${key}: ${said}`);
  truth.define(key, isThere ? null : `bin=${bin}`, fromMs, await now(world));
};

const modules: Mishap = async (world) => {
  const { rng, truth, setNames } = world;
  const name = `${setNames[0]}-${rng.int(0, 1)}.lua`;
  const key = `udf  ${name}`;
  const isThere = truth.definitions.get(key)?.at(-1)?.body != null;
  const fromMs = await now(world);
  const text = `function f(r) return ${rng.int(0, 1_000_000)} end\n`;
  const content = Buffer.from(text).toString('base64');
  const isRemoved = isThere && rng.chance(0.5);
  const said = await info(
    world,
    isRemoved
      ? `udf-remove:filename=${name};`
      : `udf-put:filename=${name};content=${content};content-len=${content.length};udf-type=LUA;`,
  );
  if (said !== 'ok') throw new Error(`${key}: ${said}`);
  truth.define(key, isRemoved ? null : text, fromMs, await now(world));
};

const mark: Mishap = async (world) => {
  const name = `mark-${world.counts.marks}`;
  const capture = world.rng.pick(world.captures);
  const done = await capture.mark(name).catch(() => undefined);
  if (!done) return;
  world.marks.set(name, done.ts);
  world.counts.marks++;
};

const snapshot: Mishap = async (world) => {
  const kind = world.rng.pick(['full', 'synthetic', 'incremental'] as const);
  const made = await createSnapshot(world.archive, { kind }).catch(() => undefined);
  if (made) world.counts.snapshots++;
};

/** Partitions go from one capture to the other, whoever is killed meanwhile: the same call is made until it is done. */
const handOver: Mishap = async (world) => {
  const { rng, captures } = world;
  if (captures.length < 2) return;
  const [from, to] = rng.chance(0.5) ? captures : [...captures].reverse();
  const start = from === captures[0] ? rng.int(0, 1800) : rng.int(2048, 3800);
  const partitions = PartitionSet.parse(`${start}-${start + rng.int(10, 200)}`);
  const move = { fromMs: await now(world), toMs: Number.POSITIVE_INFINITY };
  world.moves.push(move);
  const endMs = Date.now() + 25_000;
  for (let killsLeft = rng.int(0, 2); ; ) {
    const moving = handoverDirs(from.options.dir, to.options.dir, {
      partitions,
      archive: world.archive,
      waitMs: 8000,
    }).then(
      () => undefined,
      (error: unknown) => error ?? 'failed',
    );
    if (killsLeft > 0) {
      killsLeft--;
      const victim = rng.chance(0.5) ? from : to;
      await sleep(rng.int(5, 400));
      await victim.kill();
      victim.start();
    }
    const failure = await moving;
    if (failure === undefined) break;
    if ((failure as { id?: string }).id === 'partition-not-owned') {
      // given away before
      move.toMs = move.fromMs;
      return;
    }
    if (Date.now() > endMs) throw failure;
    await sleep(100);
  }
  move.toMs = await now(world);
  world.counts.handovers++;
};

/** By name, with weights; those of a real server, too, are the first. */
const REAL: Readonly<Record<string, readonly [number, Mishap]>> = {
  kill: [5, kill],
  truncateSet: [3, truncate(false)],
  index: [3, indexes],
  module: [3, modules],
  mark: [4, mark],
  snapshot: [3, snapshot],
};
const OURS: Readonly<Record<string, readonly [number, Mishap]>> = {
  ...REAL,
  truncateNamespace: [1, truncate(true)],
  unavailable: [
    2,
    during((w) => `unavailable=${w.rng.int(0, 2000)}-${w.rng.int(2000, 4095)}`, 'unavailable=none'),
  ],
  failedRecords: [2, once((w) => `failed-records=${w.rng.int(1, 40)}`)],
  burst: [3, once((w) => `burst=${w.rng.int(1, 60)};burst-code=${w.rng.pick([9, 14, 18])}`)],
  drop: [3, during((w) => `drop-after-bytes=${w.rng.int(300, 20_000)}`, 'drop-after-bytes=0', 600)],
  trickle: [2, during((w) => `trickle-bytes=${w.rng.int(500, 5000)};trickle-ms=1`, 'trickle-bytes=0')],
  chunks: [2, during((w) => `chunk-bytes=${w.rng.int(1, 400)}`, 'chunk-bytes=0')],
  generation: [2, once(() => 'generation=65535')],
  restart: [3, restart],
  clockAhead: [1, stepClock((w) => w.rng.int(100, 4000))],
  clockBack: [2, stepClock((w) => -w.rng.int(50, 1200))],
  move: [3, movePartitions],
  handOver: [9, handOver],
};

/** One thing that goes wrong, or is done. */
export const mishap = async (world: World): Promise<void> => {
  const table = world.source.endpoint ? OURS : REAL;
  const names = Object.keys(table).filter((name) => name !== 'handOver' || world.captures.length > 1);
  const name = world.rng.weighted(Object.fromEntries(names.map((n) => [n, table[n][0]])));
  world.tell(name);
  await table[name][1](world);
};

/** Everything is as it should be again. */
export const heal = async (world: World): Promise<void> => {
  if (!world.source.endpoint) return;
  await world.source.fault(
    world.wire,
    'unavailable=none;failed-records=0;burst=0;drop-after-bytes=0;trickle-bytes=0;chunk-bytes=0;generation=0',
  );
};

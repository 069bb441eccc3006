/** One seed. */
import { Rng } from '../model/rng.ts';
import { agentMain, standbyMain } from './agent.ts';
import { Look, Readings, readerMain, snapshotterMain } from './reader.ts';
import { ownRuntime, runIn } from './runtime.ts';
import { warmS3 } from './s3-network.ts';
import { CALM, type Fault, type Process, Violation, type Weather } from './scheduler.ts';
import { type Host, type Mutant, type Node, World } from './world.ts';
import { WriterProcess } from './writer.ts';

export interface SimulationOptions {
  /** Steps with faults. Default 700. */
  readonly steps?: number;
  readonly mutant?: Mutant;
  /** Looks at the world when everything is archived, in the real runtime. */
  readonly atEnd?: (world: World) => Promise<void>;
  /** Prints each step. */
  readonly echo?: boolean;
}

export interface SimulationResult {
  /** Hash of every decision. */
  readonly trace: string;
  readonly steps: number;
  readonly acknowledged: number;
  readonly restores: number;
  readonly heads: number;
  readonly kills: number;
  readonly powerCuts: number;
  readonly snapshots: number;
  readonly merges: number;
  readonly deletions: number;
  /** Orphans that agents have deleted. */
  readonly swept: number;
  readonly fenced: number;
  /** Objects that nothing names when all is quiet. */
  readonly orphans: number;
  /** 1: its archive was on S3. */
  readonly s3: number;
  /** Most requests of one process at once, and most tries of one write. */
  readonly inFlightMax: number;
  readonly triesMax: number;
  readonly faults: ReadonlyMap<Fault, number>;
  /** Most calls that waited at once: what is in flight is bounded. */
  readonly waitingMax: number;
}

/** Steps that a run may take to catch up once the faults have ended. */
const CATCH_UP_STEPS = 30_000;
const LINES_SHOWN = 60;
const HOUR_MS = 3_600_000;

/** What requests to the archive have to go through. The last are those of a bad day. */
const WEATHERS: readonly Omit<Weather, 'local'>[] = [
  { errors: 0, throttled: 0, damaged: 0, asleep: 0, crashed: 0 },
  { errors: 0.05, throttled: 0, damaged: 0.02, asleep: 0.002, crashed: 0.01 },
  { errors: 0.1, throttled: 0.05, damaged: 0.05, asleep: 0.005, crashed: 0 },
  { errors: 0.3, throttled: 0, damaged: 0.1, asleep: 0, crashed: 0.005 },
  { errors: 0.25, throttled: 0.3, damaged: 0.01, asleep: 0.002, crashed: 0.002 },
  { errors: 0.25, throttled: 0.3, damaged: 0.01, asleep: 0.01, crashed: 0.01 },
];

/** @throws Violation that says what is wrong, the last steps, and how to repeat it */
export const simulate = async (seed: number, options: SimulationOptions = {}): Promise<SimulationResult> => {
  ownRuntime();
  await warmS3(new Rng(0));
  const world = new World(seed, options.mutant ?? {}, options.echo ?? false);
  try {
    return await run(world, options);
  } catch (error) {
    const { stack } = error as Error;
    const lines = world.scheduler.lines.slice(-LINES_SHOWN).join('\n  ');
    throw new Violation(
      `seed ${seed}: ${stack}\nlast steps:\n  ${lines}\nrepeat: PITR_SIM_SEED=${seed} PITR_SIM_TRACE=1 node --test test/sim/sim.test.ts`,
      { cause: error },
    );
  }
};

const run = async (world: World, options: SimulationOptions): Promise<SimulationResult> => {
  const steps = options.steps ?? 700;
  const { scheduler, history, rng } = world;
  const setup = world.addHost('setup');
  const init = world.process(setup, 'init');
  let ready = false;
  init.start(async () => {
    await world.init(rng.int(1, 2));
    ready = true;
  });
  await scheduler.run(() => ready, 1_000);
  for (const host of world.hosts) for (const process of host.processes) world.kill(host, process);

  const cast = new Cast(world);
  const counts = { kills: 0, powerCuts: 0 };
  scheduler.weather = { ...rng.pick(WEATHERS), local: rng.pick([0, 0.003, 0.02, 0.1]) };
  scheduler.chaos = () => chaos(world, cast, counts);
  scheduler.crash = (process) => world.kill(world.hostOf(process), process);
  scheduler.idle = () => {
    cast.startAll();
    return true;
  };
  const last = scheduler.steps + steps;
  cast.startAll();
  await scheduler.run(() => scheduler.steps >= last, steps + 10);

  // the faults end: everything that was asked for comes to an end, and the archive has it all
  scheduler.note('the faults end');
  scheduler.weather = CALM;
  scheduler.chaos = () => undefined;
  scheduler.idle = () => false;
  wakeAll(world);
  cast.startAll();
  const settleMs = scheduler.nowMs + 400;
  await scheduler.run(() => scheduler.nowMs > settleMs, CATCH_UP_STEPS);
  world.stopping = true;
  await scheduler.run(
    () =>
      cast.isQuiet &&
      scheduler.isSettled &&
      world.nodes.every((n) => history.publishedOf(n.stream).lsn >= history.lsnMaxOf(n.stream)),
    CATCH_UP_STEPS,
  );
  world.watch.check();
  const orphans = world.watch.orphans();
  const judge = world.process(setup, 'judge');
  const look = new Look(world, new Rng(rng.int(0, 2 ** 31)), cast.readings, () => judge.nowMs());
  await runIn(judge, () => look.at(world.bucket.direct(), 12));
  await options.atEnd?.(world);
  scheduler.note(`rot of ${world.bucket.rot()}`);
  await runIn(judge, () => look.at(world.bucket.direct(), 6)).catch((error) => {
    judge.damaged++;
    world.tolerate(error, judge, [], 0);
  });
  scheduler.note('end');
  return {
    trace: scheduler.trace,
    steps: scheduler.steps,
    acknowledged: history.acknowledged,
    restores: history.seen,
    heads: world.watch.heads,
    snapshots: world.snapshots,
    merges: world.merges,
    deletions: world.deletions,
    swept: world.swept,
    fenced: world.fenced,
    orphans,
    s3: world.bucket.kind === 's3' ? 1 : 0,
    ...world.bucket.bounds,
    faults: scheduler.faults,
    waitingMax: scheduler.waitingMax,
    ...counts,
  };
};

interface Role {
  readonly host: Host;
  readonly name: string;
  readonly main: (process: Process) => Promise<void>;
  process: Process | undefined;
}

/** Who runs where, and starts again after a crash. */
class Cast {
  readonly readings = new Readings();
  readonly roles: Role[] = [];
  readonly #world: World;
  readonly #working = new Set<Process>();
  #lives = 0;

  constructor(world: World) {
    this.#world = world;
    for (const node of world.nodes) {
      const writer = new WriterProcess(world, node);
      this.#add(node.host, `writer-${node.stream}`, (p) => writer.main(p));
      this.#add(node.host, `agent-${node.stream}`, (p) => agentMain(world, node, p));
    }
    if (world.rng.chance(0.5)) {
      const elsewhere = world.addHost('elsewhere');
      for (const node of world.nodes)
        this.#add(elsewhere, `standby-${node.stream}`, (p) => standbyMain(world, node, p));
    }
    const desk = world.addHost('desk');
    this.#add(desk, 'reader', (p) => readerMain(world, p, this.readings));
    this.#add(desk, 'snapshotter', (p) => snapshotterMain(world, p));
  }

  /** Nobody but the agents is at work. */
  get isQuiet(): boolean {
    return [...this.#working].every((p) => !p.alive || p.name.startsWith('agent'));
  }

  startAll(): void {
    for (const role of this.roles) if (!role.process?.alive) this.start(role);
  }

  start(role: Role): void {
    if (role.process?.alive) return;
    const process = this.#world.process(role.host, `${role.name}.${this.#lives++}`);
    role.process = process;
    this.#world.scheduler.note(`start ${process.name}`);
    this.#begin(process, () => role.main(process));
  }

  /** An agent that does not see the other one. */
  startThief(node: Node): void {
    const process = this.#world.process(node.host, `thief-${node.stream}.${this.#lives++}`);
    this.#world.scheduler.note(`start ${process.name}`);
    this.#begin(process, () => agentMain(this.#world, node, process, { thief: true }));
  }

  #begin(process: Process, main: () => Promise<void>): void {
    this.#working.add(process);
    process.start(async () => {
      await main();
      this.#working.delete(process);
    });
  }

  #add(host: Host, name: string, main: Role['main']): void {
    this.roles.push({ host, name, main, process: undefined });
  }
}

/** Whoever sleeps has slept as long as it was to. */
const wakeAll = (world: World): void => {
  const { scheduler } = world;
  const untilMs = world.hosts.flatMap((h) => [...h.processes].map((p) => p.pausedUntilMs));
  const nowMs = Math.max(scheduler.nowMs, ...untilMs);
  // whoever waited for an answer has waited too long
  if (nowMs > scheduler.nowMs) for (const h of world.hosts) for (const p of h.processes) p.troubles++;
  scheduler.nowMs = nowMs;
};

const chaos = (world: World, cast: Cast, counts: { kills: number; powerCuts: number }): void => {
  const { rng, scheduler } = world;
  for (const role of cast.roles) if (!role.process?.alive && rng.chance(0.02)) cast.start(role);
  const isLong = (p: Process): boolean => p.pausedUntilMs > scheduler.nowMs + HOUR_MS / 2;
  // what the others do while one sleeps for hours takes steps, not hours
  if (world.hosts.some((h) => [...h.processes].some(isLong)) && rng.chance(0.02)) wakeAll(world);
  if (!rng.chance(0.012)) return;
  switch (rng.weighted({ kill: 4, power: 2, pause: 3, clock: 2, thief: 2 })) {
    case 'kill': {
      const { host, process } = rng.pick(cast.roles);
      if (!process?.alive) return;
      counts.kills++;
      world.kill(host, process);
      return;
    }
    case 'power':
      counts.powerCuts++;
      world.powerCut(rng.pick(world.nodes).host);
      return;
    case 'pause': {
      const host = rng.pick(world.hosts.filter((h) => h.processes.size > 0));
      const process = rng.pick([...host.processes]);
      scheduler.nap(process, rng.chance(0.2) ? rng.int(1, 4) * HOUR_MS : rng.int(10, 5_000));
      return;
    }
    case 'clock': {
      const { clock, name } = rng.pick(world.hosts);
      const ms = rng.int(-5_000, 5_000);
      clock.skewMs += ms;
      scheduler.note(`clock of ${name} steps by ${ms}`);
      return;
    }
    case 'thief':
      cast.startThief(rng.pick(world.nodes));
  }
};

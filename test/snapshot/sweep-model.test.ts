/**
 * Everything at once on one archive, killed anywhere: nothing that anything names is ever deleted, no job that runs fails, and when
 * it is quiet exactly what is named is left (K1–K6). `PITR_SEED` repeats a run, `PITR_SWEEP_SEEDS` sets how many there are.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PitrError } from '../../engine/errors.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { sealNow } from '../../snapshot/anchor.ts';
import { createBase, createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot } from '../../snapshot/snapshots.ts';
import { Sweeper } from '../../snapshot/sweep.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Rng } from '../model/rng.ts';
import { noLocks, Process, STREAMS, type StreamName, World } from './sweep-world.ts';

const SEEDS = process.env.PITR_SEED
  ? [Number(process.env.PITR_SEED)]
  : Array.from({ length: Number(process.env.PITR_SWEEP_SEEDS ?? 10) }, (_, i) => i + 1);
const ACTIONS = Number(process.env.PITR_SWEEP_ACTIONS ?? 90);
/** In the world's own time, in which a call of the store takes a millisecond. A lease lives for two minutes of it. */
const RULE = { marginMs: 100, everyMs: 50 };
const RETIRE_MS = 50;
const LEASE_MS = 120_000;

/** What may be said to whom, by what they do. Everything else is a failure. */
const REFUSALS: Readonly<Record<string, readonly string[]>> = {
  restore: ['nothing-restorable', 'target-nodata'],
  synthetic: ['nothing-restorable'],
  full: ['nothing-restorable', 'snapshot-unknown'],
  delete: ['snapshot-in-use', 'snapshot-unknown'],
};

interface Agent {
  readonly stream: StreamName;
  readonly process: Process;
  archiver: Archiver | undefined;
  sweeper: Sweeper | undefined;
  /** Another agent has the stream. */
  superseded: boolean;
}

const tally = { kills: 0, fenced: 0, segments: 0, snapshots: 0, retired: 0, restores: 0, merges: 0, made: 0 };

const count = (names: readonly string[]): void => {
  for (const name of names)
    if (/\/snapshots-|^manifests\/|^begun\//.test(name)) tally.snapshots++;
    else if (name.startsWith('segments/')) tally.segments++;
};

class Run {
  readonly world: World;
  readonly rng: Rng;
  readonly dirOf: (stream: StreamName) => string;
  readonly agents: Agent[] = [];
  #processes = 0;

  constructor(rng: Rng, dir: string) {
    this.rng = rng;
    this.world = new World(rng);
    this.dirOf = (stream) => join(dir, stream);
  }

  process(name: string): Process {
    const process = new Process(`${name}${++this.#processes}`, this.world.store);
    process.onDelete = (names) => {
      const named = this.world.named();
      const doing = this.world.jobs.filter((j) => j.process === process && !j.ended).map((j) => j.name);
      const sweepsOnly = doing.every((job) => job === 'sweep');
      for (const name of names) {
        assert.ok(!named.has(name), `${process.name} deletes ${name}, which is named`);
        assert.ok(!sweepsOnly || !this.world.isHeldBack(name), `${process.name} sweeps ${name}`);
      }
    };
    return process;
  }

  /** A new agent takes the stream; the one before may live on and not know. */
  openAgent(stream: StreamName): Agent {
    for (const agent of this.agents) if (agent.stream === stream) agent.superseded = true;
    const agent: Agent = {
      stream,
      process: this.process(`agent-${stream}-`),
      archiver: undefined,
      sweeper: undefined,
      superseded: false,
    };
    this.agents.push(agent);
    this.world.start('open', agent.process, async () => {
      agent.archiver = await Archiver.open(this.dirOf(stream), {
        store: agent.process.client(),
        locks: noLocks,
        clock: this.world.clock,
        fanout: 3,
        retireMs: RETIRE_MS,
        // half of them note their merges, part by part
        ...(this.rng.chance(0.5) ? { smallBytes: 0, partRawBytes: 500 } : {}),
      });
      agent.sweeper = new Sweeper(agent.archiver, RULE, RETIRE_MS);
    });
    return agent;
  }

  job(agent: Agent, name: string, run: (archiver: Archiver) => Promise<unknown>): void {
    const { archiver, process } = agent;
    if (archiver && process.alive) this.world.start(name, process, () => run(archiver));
  }

  sweep(agent: Agent): void {
    this.job(agent, 'sweep', async () => {
      const report = await agent.sweeper?.sweep();
      count(report?.deleted ?? []);
      assert.deepEqual(report?.failed ?? [], []);
    });
  }

  command(name: string, run: (archive: Archive) => Promise<unknown>): void {
    const process = this.process(`${name}-`);
    this.world.start(name, process, async () => {
      await run(await Archive.open(process.client(), { clock: this.world.clock }));
    });
  }

  isRunning(...names: string[]): boolean {
    return this.world.jobs.some((j) => !j.ended && j.process.alive && names.includes(j.name));
  }

  async act(): Promise<void> {
    const { world, rng } = this;
    const agent = rng.pick(this.agents);
    const busy = [...new Set(world.jobs.filter((j) => !j.ended && j.process.alive).map((j) => j.process))];
    const action = rng.weighted({
      write: 6,
      ship: 8,
      compact: 5,
      sweep: 8,
      base: 1,
      synthetic: 4,
      full: 2,
      delete: 4,
      restore: 5,
      kill: 5,
      supersede: 1,
      sleep: 3,
      slow: 6,
      wait: 8,
    });
    switch (action) {
      case 'write':
        return world.write(agent.stream, rng.int(1, 5));
      case 'ship':
        return this.job(agent, 'ship', (a) => a.archivePending());
      case 'compact': {
        const full = rng.chance(0.4);
        return this.job(agent, 'compact', async (a) => {
          tally.merges += await a.compact({ full });
        });
      }
      case 'sweep':
        return this.sweep(agent);
      case 'base':
        if (this.isRunning('base')) return;
        return this.job(agent, 'base', (a) =>
          a.exclusively(async (own) => {
            const sealed = await (world.engines.get(agent.stream)?.sealApplied() ?? sealNow(a.dir));
            await own.archivePending();
            await createBase(a.archive, a.dir, sealed);
            tally.made++;
          }),
        );
      case 'synthetic':
        if (this.isRunning('synthetic')) return;
        return this.command('synthetic', async (archive) => {
          await createSnapshot(archive, { kind: 'synthetic', workers: 0, rangeBytes: 700 });
          tally.made++;
        });
      case 'full':
        return this.command('full', (archive) => createSnapshot(archive, { kind: 'full', workers: 0 }));
      case 'delete': {
        const ids = (world.index?.snapshots ?? []).map((s) => s.id);
        if (ids.length === 0) return;
        const id = rng.pick(ids);
        return this.command('delete', async (archive) => {
          await deleteSnapshot(archive, id);
          tally.retired++;
        });
      }
      case 'restore':
        return this.command('restore', async (archive) => {
          const options = { archive, target: 'latest', workers: 0 };
          const { verification } = await restoreJsonLines(async () => undefined, options);
          assert.ok(
            verification.source === 'equal' || verification.source === 'not checked',
            verification.source,
          );
          tally.restores++;
        });
      case 'kill':
        if (busy.length > 0) this.kill(rng.pick(busy));
        return;
      case 'supersede':
        this.openAgent(agent.stream);
        return;
      case 'sleep':
        if (busy.length > 0) rng.pick(busy).asleep = true;
        return;
      case 'slow': {
        const calls = world.processes.flatMap((p) => p.waiting);
        if (calls.length > 0) rng.pick(calls).isSlow = true;
        return;
      }
      case 'wait':
        world.clock.step(rng.int(1, 2 * RULE.everyMs));
        return;
      default:
        action satisfies never;
    }
  }

  /** Somebody who is in the middle of something dies. An agent that dies has a successor. */
  kill(process: Process): void {
    process.kill(this.rng.pick(['before', 'after'] as const));
    tally.kills++;
    const agent = this.agents.find((a) => a.process === process);
    if (!agent) return;
    this.agents.splice(this.agents.indexOf(agent), 1);
    if (!agent.superseded) this.openAgent(agent.stream);
  }

  judge(): void {
    for (const { name, process, error, ended } of this.world.jobs) {
      if (!ended || error === undefined || !process.alive) continue;
      const id = error instanceof PitrError ? error.id : undefined;
      const agent = this.agents.find((a) => a.process === process);
      if (agent?.superseded && id === 'fenced') {
        tally.fenced++;
        continue;
      }
      if (id !== undefined && REFUSALS[name]?.includes(id)) continue;
      throw new Error(`${name} of ${process.name} failed`, { cause: error });
    }
    this.world.jobs.splice(0, this.world.jobs.length, ...this.world.jobs.filter((j) => !j.ended));
  }

  /** Nobody does anything any more but two agents: in the end exactly what is named is there. */
  async quiet(): Promise<void> {
    const { world } = this;
    for (const { process } of world.jobs)
      if (process.alive && !process.name.startsWith('agent')) process.kill('after');
    await world.drain();
    this.judge();
    for (const agent of this.agents.splice(0)) agent.process.kill('before');
    for (const stream of STREAMS) this.openAgent(stream);
    await world.drain();
    for (let round = 0; round < 10; round++) {
      for (const agent of this.agents) {
        this.job(agent, 'ship', (a) => a.archivePending());
        this.job(agent, 'compact', (a) => a.compact());
        this.sweep(agent);
        await world.drain();
        this.judge();
      }
      // leases of the dead are over for who has seen them once; for what waits it is one look like any other
      world.clock.step(LEASE_MS + 1000);
    }
    const left = [...world.store.objects.keys()].filter((name) => name !== 'archive').sort();
    const named = [...new Set([...world.named(), ...world.noted()])].sort();
    assert.deepEqual(left, named);
    const { begun = [], retired = [] } = world.index ?? {};
    assert.deepEqual([begun, retired], [[], []]);
  }
}

const runSeed = async (seed: number): Promise<void> => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-sweep-'));
  const run = new Run(new Rng(seed), dir);
  try {
    await run.world.begin(run.dirOf);
    for (const stream of STREAMS) {
      await run.world.write(stream, 10);
      run.openAgent(stream);
    }
    await run.world.drain();
    for (let i = 0; i < ACTIONS; i++) {
      const running = run.world.jobs.filter((j) => !j.ended);
      run.world.wake(0.03);
      if (running.length < 12) await run.act();
      for (let n = run.rng.int(0, 30); n > 0; n--) {
        if (!(await run.world.step())) break;
        // between an object and what names it is where most is left behind
        if (run.world.creator?.alive && run.rng.chance(0.2)) run.kill(run.world.creator);
      }
      run.judge();
    }
    await run.quiet();
  } finally {
    await run.world.end();
    await rm(dir, { recursive: true, force: true });
  }
};

for (const seed of SEEDS)
  test(`K1–K6: jobs at once, killed anywhere, two agents (PITR_SEED=${seed})`, () => runSeed(seed));

test('all of that did happen', { skip: process.env.PITR_SEED !== undefined }, () => {
  for (const [what, n] of Object.entries(tally)) assert.ok(n > 0, `${what}: ${n}`);
});

/**
 * Separate processes, SIGKILL at random moments, one growing database. `PITR_KILLS` sets the number of kills (default 100),
 * `PITR_KILL_SEED` repeats the choices of a run (not the scheduler's).
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { readIdentity } from '../../engine/identity.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import type { Head } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import { Child } from './child.ts';
import { fingerprintOf, Model } from './content.ts';
import { stateOf } from './state.ts';

const KILLS = Number(process.env.PITR_KILLS ?? 100);
const SEED = Number(process.env.PITR_KILL_SEED ?? Date.now() % 2 ** 31);

/** Park-Miller: choices that a seed repeats. */
const randomOf = (seed: number): ((below: number) => number) => {
  let state = (seed % 2147483646) + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
};

class World {
  readonly engineDir: string;
  readonly archiveUrl: string;
  readonly killed = { writer: 0, agent: 0, restore: 0 };
  readonly agentErrors: string[] = [];
  /** Newest acknowledged step, and when the test heard of each. */
  acknowledged = 0;
  readonly heardMs: number[] = [0];
  restores = 0;
  readonly #dir: string;
  readonly #model = new Model();
  readonly #random: (below: number) => number;
  #head: Head | undefined;
  #failed = false;

  constructor(dir: string, seed: number) {
    this.#dir = dir;
    this.engineDir = join(dir, 'engine');
    this.archiveUrl = `file:${join(dir, 'archive')}`;
    this.#random = randomOf(seed);
  }

  get kills(): number {
    return this.killed.writer + this.killed.agent + this.killed.restore;
  }

  /** Enough kills, or one of the loops has failed: the others have nothing left to show. */
  get done(): boolean {
    return this.kills >= KILLS || this.#failed;
  }

  async run(): Promise<void> {
    const loops = [this.writerLoop(), this.agentLoop(), this.restoreLoop()];
    try {
      await Promise.all(loops);
    } catch (error) {
      this.#failed = true;
      await Child.killAll();
      await Promise.allSettled(loops);
      throw error;
    }
  }

  /** S2 S3: whatever is killed, the engine that opens next has every acknowledged step, and steps as wholes only. */
  async writerLoop(): Promise<void> {
    while (!this.done) {
      // before the new writer says anything: its own acknowledgements may be read together with what it found
      const before = Math.max(this.acknowledged, this.#model.steps);
      const writer = new Child('writer.ts', [this.engineDir], (line) => {
        if (line.startsWith('{')) return;
        this.acknowledged = Number(line);
        this.heardMs[this.acknowledged] = Date.now();
      });
      if (this.#random(4) === 0) await sleep(this.#random(500));
      else {
        const { found } = JSON.parse(await writer.line((l) => l.startsWith('{')));
        this.#checkFound(found, before);
        await sleep(10 + this.#random(800));
      }
      if (await writer.kill()) this.killed.writer++;
      else assert.fail(`the writer ended by itself: ${writer.report()}`);
    }
  }

  #checkFound(found: { step: number; fingerprint: string; records: number }, before: number): void {
    assert.ok(found.step >= before, `S2: step ${before} was acknowledged, ${found.step} is the newest there`);
    this.#model.advanceTo(found.step);
    assert.equal(this.#model.steps, found.step, 'a step that was there once is gone');
    assert.equal(
      found.fingerprint,
      this.#model.fingerprint(),
      `S2 S3: the state is not that of step ${found.step}`,
    );
  }

  /** A1 A2: an agent that starts again goes on where the catalog says. */
  async agentLoop(): Promise<void> {
    while (!this.done) {
      let newest = 0;
      const agent = new Child('agent.ts', [this.engineDir], (line) => {
        if (line.startsWith('frontier')) newest = Number(line.split(' ')[1]);
        else this.agentErrors.push(line);
      });
      if (this.#random(4) === 0) await sleep(this.#random(500));
      else {
        const before = this.#head?.frontier.ts ?? 0;
        await agent.line((l) => Number(/^frontier (\d+)/.exec(l)?.[1]) > before);
        await sleep(this.#random(300));
      }
      if (await agent.kill()) this.killed.agent++;
      else assert.fail(`the agent ended by itself: ${agent.report()}`);
      const head = await this.head();
      if (head) this.#checkHead(head, newest);
    }
  }

  async head(): Promise<Head | undefined> {
    const { timeline, stream } = await readIdentity(this.engineDir);
    return (await (await Archive.open(this.archiveUrl)).head(timeline, stream))?.value;
  }

  #checkHead(head: Head, saidTs: number): void {
    assert.ok(head.frontier.ts >= saidTs, 'a frontier that was published is gone');
    assert.ok(head.frontier.ts >= (this.#head?.frontier.ts ?? 0), 'A2');
    assert.ok(head.frontier.lsn >= (this.#head?.frontier.lsn ?? 0), 'A2');
    assert.deepEqual(head.gaps, []);
    let next = 1;
    for (const run of head.runs) {
      assert.equal(run.lsnStart, next, 'A1');
      next = run.lsnEnd;
    }
    assert.equal(next, head.frontier.lsn + 1, 'A1');
    this.#head = head;
  }

  /** S8: a restore that was killed is made again into the same directory, and is the state at its target. */
  async restoreLoop(): Promise<void> {
    while (!this.done) {
      const target = await this.#pickTarget();
      if (target === undefined) {
        await sleep(50);
        continue;
      }
      const dir = join(this.#dir, `restored-${this.restores++}`);
      const args = [this.archiveUrl, dir, String(target)];
      do {
        const restore = new Child('restorer.ts', args);
        await sleep(this.#random(700));
        if (await restore.kill()) this.killed.restore++;
      } while (this.#random(3) === 0);
      await this.#finishRestore(dir, args, target);
      await rm(dir, { recursive: true });
    }
  }

  async #finishRestore(dir: string, args: string[], target: number): Promise<void> {
    const finished = await readIdentity(dir).then(
      () => true,
      () => false,
    );
    const [line] = await new Child('restorer.ts', args).success().catch((error: Error) => {
      // the kill may have come after the last step: then it is a whole engine already, and no restore writes over that
      if (finished && error.message.includes('target-not-empty'))
        return ['{"verification":{"source":"equal"}}'];
      throw error;
    });
    const { source, why } = JSON.parse(line).verification;
    // a merge keeps the last clock frame of each input, so the oldest instants have no statement before them
    assert.ok(source === 'equal' || /stated no digest before the target/.test(why), line);
    await this.#checkRestored(dir, target);
  }

  async #checkRestored(dir: string, target: number): Promise<number> {
    const engine = await Engine.open({ dir, sealMs: 0 });
    const records = await stateOf(engine);
    await engine.close();
    const step = Number(records.get('counter') ?? 0);
    const model = new Model();
    model.advanceTo(step);
    assert.equal(
      fingerprintOf(records),
      model.fingerprint(),
      `S1: restored to ${target}: not the state of step ${step}`,
    );
    // what was heard of by then has a ts at or before it
    const due = this.heardMs.findLastIndex((ms) => ms <= target);
    assert.ok(
      step >= due,
      `S1: step ${due} was acknowledged before ${target}, ${step} is the newest restored`,
    );
    return step;
  }

  /** The newest restorable instant, or one in the past. */
  async #pickTarget(): Promise<number | undefined> {
    const view = await ArchiveView.read(await Archive.open(this.archiveUrl));
    const range = view.restorable.ranges.at(-1);
    if (!range || !this.#head) return undefined;
    if (this.#random(2) === 0) return range.toTs;
    return range.toTs - this.#random(range.toTs - range.fromTs + 1);
  }

  /** Everything acknowledged arrives in the archive, and a restore to `latest` is the model. */
  async finish(): Promise<string> {
    const agent = new Child('agent.ts', [this.engineDir], (line) => {
      if (!line.startsWith('frontier')) this.agentErrors.push(line);
    });
    const started = Date.now();
    while (((await this.head())?.frontier.ts ?? 0) < started) await sleep(50);
    await agent.kill();
    this.#checkHead((await this.head()) as Head, 0);
    const dir = join(this.#dir, 'latest');
    const report = await restoreEngine(dir, undefined, { archive: this.archiveUrl, target: 'latest' });
    assert.deepEqual([report.verification.source, report.verification.target], ['equal', 'equal']);
    const step = await this.#checkRestored(dir, report.target.ts);
    assert.ok(step >= this.acknowledged, `step ${this.acknowledged} was acknowledged, ${step} is restored`);
    const engine = await Engine.open({ dir: this.engineDir, sealMs: 0 });
    const source = await stateOf(engine);
    const { lastLsn, digests } = engine;
    await engine.close();
    const restored = await Engine.open({ dir, sealMs: 0 });
    assert.deepEqual(restored.digests, digests, 'the source’s own digests');
    await restored.close();
    assert.equal(Number(source.get('counter')), step);
    return `${step} steps, ${lastLsn} LSNs, ${source.size} records, ${this.restores} restores`;
  }
}

test('S2 S3 S8 A1: nothing acknowledged is lost and everything goes on, whatever is killed', {
  timeout: 300_000,
}, async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-kill-'));
  const started = performance.now();
  try {
    // most of the time of a short life goes into compiling the same files again
    process.env.NODE_COMPILE_CACHE = join(dir, 'compile-cache');
    const world = new World(dir, SEED);
    await Engine.init(world.engineDir, { archive: world.archiveUrl });
    await world.run();
    const content = await world.finish();
    assert.deepEqual(world.agentErrors, []);
    const { writer, agent, restore } = world.killed;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    t.diagnostic(
      `${world.kills} kills (writer ${writer}, agent ${agent}, restore ${restore}) in ${seconds} s, seed ${SEED}: ${content}`,
    );
  } catch (error) {
    throw new Error(`PITR_KILL_SEED=${SEED}: ${(error as Error).message}`, { cause: error });
  } finally {
    await Child.killAll();
    await rm(dir, { recursive: true, force: true });
  }
});

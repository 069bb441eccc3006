/** One database, the processes that are killed at work on it, and what its own notes say that it must be. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readIdentity } from '../../engine/identity.ts';
import { restoreEngine, restoreJsonLines } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { listBegun } from '../../snapshot/begun.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { isSelfContained } from '../../snapshot/manifest.ts';
import { listSnapshots } from '../../snapshot/snapshots.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import type { Head } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import { Child } from './child.ts';
import { fingerprintOf, Model } from './content.ts';
import { stateOf } from './state.ts';
import type { Tally } from './tally.ts';

/** Snapshots that are restored and compared at the end: the newest. */
const SNAPSHOTS_CHECKED = 6;

/** Park-Miller: choices that a seed repeats. */
const randomOf = (seed: number): ((below: number) => number) => {
  let state = (seed % 2147483646) + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
};

export class World {
  readonly engineDir: string;
  readonly archiveUrl: string;
  readonly tally: Tally;
  readonly errors: string[] = [];
  /** Newest acknowledged step, and when the test heard of each. */
  acknowledged = 0;
  readonly heardMs: number[] = [0];
  readonly #dir: string;
  readonly #model = new Model();
  readonly #random: (below: number) => number;
  readonly #killsMax: number;
  #restores = 0;
  #head: Head | undefined;
  #failed = false;

  /** Runs until the tally has `killsMax` kills. */
  constructor(dir: string, seed: number, tally: Tally, killsMax: number) {
    this.#dir = dir;
    this.engineDir = join(dir, 'engine');
    this.archiveUrl = `file:${join(dir, 'archive')}`;
    this.#random = randomOf(seed);
    this.tally = tally;
    this.#killsMax = killsMax;
  }

  /** Enough kills, or one of the loops has failed: the others have nothing left to show. */
  get done(): boolean {
    return this.tally.kills >= this.#killsMax || this.#failed;
  }

  async run(): Promise<void> {
    const loops = [this.writerLoop(), this.archiverLoop(), this.snapshotLoop(), this.restoreLoop()];
    try {
      await Promise.all(loops);
    } catch (error) {
      this.#failed = true;
      await Child.killAll();
      await Promise.allSettled(loops);
      throw error;
    }
  }

  async #kill(child: Child, role: keyof Tally['killed']): Promise<void> {
    if (!(await child.kill())) assert.fail(`the ${role} ended by itself: ${child.report()}`);
    this.tally.killed[role]++;
  }

  /** A few milliseconds of work, or a little more. */
  #work(mostMs = 150): Promise<void> {
    return sleep(5 + this.#random(mostMs - 5));
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
      // one in four is killed while it opens
      if (this.#random(4) > 0) {
        const { found } = JSON.parse(await writer.line((l) => l.startsWith('{')));
        this.#checkFound(found, before);
      }
      // one in three lives long enough to seal: the others' work is what the archive gets
      await this.#work(this.#random(3) === 0 ? 600 : 150);
      await this.#kill(writer, 'writer');
    }
  }

  #checkFound(
    found: { step: number; fingerprint: string; tornBytes: number; versions: number },
    before: number,
  ): void {
    assert.ok(found.step >= before, `S2: step ${before} was acknowledged, ${found.step} is the newest there`);
    this.#model.advanceTo(found.step);
    assert.equal(this.#model.steps, found.step, 'a step that was there once is gone');
    assert.equal(
      found.fingerprint,
      this.#model.fingerprint(),
      `S2 S3: the state is not that of step ${found.step}`,
    );
    this.tally.tornBytes += found.tornBytes;
    this.tally.replayed += found.versions;
  }

  /** A1 A2: an agent that starts again goes on where the catalog says. Every third life is a compaction alone. */
  async archiverLoop(): Promise<void> {
    while (!this.done) {
      let newest = 0;
      const onLine = (line: string): void => {
        const [what, value] = line.split(' ');
        if (what === 'frontier') newest = Number(value);
        else if (what === 'merged') this.tally.merges++;
        else if (what === 'adopted') {
          this.tally.adopted++;
          this.tally.tornBytes += Number(value);
        } else if (what !== 'go') this.errors.push(line);
      };
      const role = this.#random(3) === 0 ? 'compact' : 'agent';
      const before = this.#head?.frontier.ts ?? 0;
      const child = new Child(role === 'agent' ? 'agent.ts' : 'compactor.ts', [this.engineDir], onLine);
      await child.line((l) => l === 'go');
      // three of four agents are given the time to get further, when there is anything sealed
      if (role === 'agent' && this.#random(4) > 0)
        await child.saysWithin(1000, (l) => Number(/^frontier (\d+)/.exec(l)?.[1]) > before);
      await this.#work();
      await this.#kill(child, role);
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

  /** N2 N6: what was published stays, and what was begun is gone on with. */
  async snapshotLoop(): Promise<void> {
    const published: string[] = [];
    while (!this.done) {
      const taker = new Child('snapshotter.ts', [this.archiveUrl], (line) => {
        const [what, value, id] = line.split(' ');
        if (what === 'snapshot') {
          published.push(id);
          this.tally.snapshots++;
        } else if (what === 'begun') {
          this.tally.snapshotsResumed++;
          this.tally.rangesTakenOver += Number(value);
        } else if (what === 'error') this.errors.push(line);
      });
      await taker.line((l) => l === 'go');
      await this.#work(this.#random(3) === 0 ? 600 : 150);
      await this.#kill(taker, 'snapshot');
      const there = new Set((await listSnapshots(await Archive.open(this.archiveUrl))).map((s) => s.id));
      for (const id of published) assert.ok(there.has(id), `N2: snapshot ${id} was published and is gone`);
    }
  }

  /** S8: a restore that was killed is made again into the same directory, and is the state at its target. */
  async restoreLoop(): Promise<void> {
    while (!this.done) {
      const target = await this.#pickTarget();
      if (target === undefined) {
        await sleep(50);
        continue;
      }
      const dir = join(this.#dir, `restored-${this.#restores++}`);
      const args = [this.archiveUrl, dir, String(target)];
      let killed = 0;
      do {
        const restore = new Child('restorer.ts', args);
        await restore.line((l) => l === 'go');
        await this.#work(80);
        if (await restore.kill()) {
          this.tally.killed.restore++;
          killed++;
        }
      } while (this.#random(3) > 0 && !this.done);
      // one in four is given up, and the directory begun anew
      if (this.#random(4) === 0) await rm(dir, { recursive: true, force: true });
      else if (killed > 0) this.tally.restoresResumed++;
      await this.#finishRestore(dir, args, target);
      await rm(dir, { recursive: true });
    }
  }

  async #finishRestore(dir: string, args: string[], target: number): Promise<void> {
    const finished = await readIdentity(dir).then(
      () => true,
      () => false,
    );
    const lines = await new Child('restorer.ts', args).success().catch((error: Error) => {
      // the kill may have come after the last step: then it is a whole engine already, and no restore writes over that
      if (finished && error.message.includes('target-not-empty'))
        return ['{"verification":{"source":"equal"}}'];
      throw error;
    });
    const line = lines.at(-1) as string;
    const { source, why } = JSON.parse(line).verification;
    // a merge keeps the last clock frame of each input, so the oldest instants have no statement before them
    assert.ok(
      source === 'equal' || /stated no digest before the target|could not be compared/.test(why),
      line,
    );
    await this.#checkRestored(dir, target);
  }

  async #checkRestored(dir: string, target: number): Promise<number> {
    const engine = await Engine.open({ dir, sealMs: 0 });
    const records = await stateOf(engine);
    await engine.close();
    return this.#checkState(records, target);
  }

  /** S1: the state is that of one step, and of none that is older than what was acknowledged before the target. */
  #checkState(records: ReadonlyMap<string, string>, target: number): number {
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
    this.tally.compared++;
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

  /** Everything acknowledged arrives in the archive, a restore to `latest` is the model, and so is every snapshot. */
  async finish(): Promise<void> {
    const agent = new Child('agent.ts', [this.engineDir]);
    const started = Date.now();
    while (((await this.head())?.frontier.ts ?? 0) < started) await sleep(50);
    await agent.kill();
    this.#checkHead((await this.head()) as Head, 0);
    const dir = join(this.#dir, 'latest');
    const report = await restoreEngine(dir, undefined, {
      archive: this.archiveUrl,
      target: 'latest',
      workers: 0,
    });
    assert.deepEqual([report.verification.source, report.verification.target], ['equal', 'equal']);
    const step = await this.#checkRestored(dir, report.target.ts);
    assert.ok(step >= this.acknowledged, `step ${this.acknowledged} was acknowledged, ${step} is restored`);
    await this.#checkSnapshots();
    const engine = await Engine.open({ dir: this.engineDir, sealMs: 0 });
    const source = await stateOf(engine);
    const { lastLsn, digests } = engine;
    await engine.close();
    const restored = await Engine.open({ dir, sealMs: 0 });
    assert.deepEqual(restored.digests, digests, 'the source’s own digests');
    await restored.close();
    assert.equal(Number(source.get('counter')), step);
    assert.deepEqual(this.errors, []);
    this.tally.steps += step;
    this.tally.positions += lastLsn;
  }

  /** N2 N9: each snapshot is the state at its end, and one more that is left in peace leaves no litter of all those killed. */
  async #checkSnapshots(): Promise<void> {
    const archive = await Archive.open(this.archiveUrl);
    await createSnapshot(archive, {
      kind: 'synthetic',
      workers: 0,
      ts: (await this.head())?.frontier.ts ?? 0,
    });
    assert.deepEqual(await listBegun(archive), []);
    const { anomalies } = await verifyArchive(archive, { orphans: true, workers: 0 });
    // nothing here may lose log: a gap that the catalog states is as bad as one that it does not
    const bad = anomalies.filter((a) => a.class !== 'orphan' || a.object.includes('/snapshots-'));
    assert.deepEqual(bad, [], 'verify');
    // of a maker that was killed when another one had published the same snapshot and swept: some hundred bytes, once in thousands of kills
    const manifests = anomalies.filter((a) => /^manifests\/.*\/.*\//.test(a.object));
    assert.ok(manifests.length <= 1, `manifests that nothing names: ${manifests.map((a) => a.object)}`);
    const entries = (await listSnapshots(archive)).filter(isSelfContained);
    for (const { id, endTs } of entries.slice(-SNAPSHOTS_CHECKED)) {
      const records = new Map<string, string>();
      const { verification } = await restoreJsonLines(
        async (text) => {
          for (const line of text.toString().trimEnd().split('\n')) {
            const { bins } = JSON.parse(line);
            records.set(bins.key, bins.text);
          }
        },
        { archive, target: String(endTs), workers: 0 },
      );
      assert.ok(verification.source === 'equal' || verification.why !== undefined, id);
      this.#checkState(records, endTs);
    }
  }
}

/** What an archive says, beside what the model says, at one instant or at all of them. */
import { strict as assert } from 'node:assert';
import { ManualClock } from '../../engine/clock.ts';
import { EngineRecord } from '../../engine/engine-record.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { entriesOfChunk } from '../../engine/record-file.ts';
import { runRange } from '../../restore/range-job.ts';
import { type RestoreReport, restoreEngine } from '../../restore/restore.ts';
import { resolveTarget } from '../../restore/target.ts';
import { planState, type StatePlan } from '../../snapshot/state-plan.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Engine } from '../../wal/engine.ts';
import type { Model, StateLines } from './model.ts';
import type { Rng } from './rng.ts';
import { idOf } from './rules.ts';
import { assertSameState, errorIdOf, lineOfRecord, scanLines } from './world.ts';

/** Objects are write-once, so what was read once need not be read again: the disk is not what this test is about. */
class CachedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #objects = new Map<string, Buffer>();

  constructor(url: string) {
    this.#inner = openObjectStore(url);
  }

  get url(): string {
    return this.#inner.url;
  }

  async read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    let bytes = this.#objects.get(name);
    if (!bytes) {
      bytes = await this.#inner.read(name);
      this.#objects.set(name, bytes);
    }
    return range ? bytes.subarray(range.start, range.end) : bytes;
  }

  create = (name: string, bytes: Uint8Array) => this.#inner.create(name, bytes);
  size = (name: string) => this.#inner.size(name);
  list = (prefix: string) => this.#inner.list(prefix);
  delete = (names: readonly string[]) => this.#inner.delete(names);
  readSwap = (name: string) => this.#inner.readSwap(name);
  swap = (name: string, expected: string | undefined, bytes: Uint8Array) =>
    this.#inner.swap(name, expected, bytes);
}

export const openCached = (url: string): Promise<Archive> => Archive.open(new CachedStore(url));

/** Reasons for which a stream's own digest cannot be compared; any other is a failure. */
const UNCHECKED =
  /has stated no digest before the target|changed its partitions since it last stated a digest|could not be compared with its source/;

/** The state of a plan, through the merge that restores use. */
export const mergedLines = async (archive: Archive, plan: StatePlan): Promise<StateLines> => {
  const lines: StateLines = new Map();
  const shards = 'missing' in plan.source ? 1 : plan.source.digests.length;
  const result = await runRange(
    archive,
    { plan, selection: {}, ttl: { mode: 'absolute', seconds: 0 }, output: 'store', shards },
    { start: 0, end: 4096 },
    async (chunk) => {
      for (const { key, value } of entriesOfChunk(chunk)) {
        const r = EngineRecord.ofStore(key, value);
        const id = idOf({ namespace: r.namespace, digest: r.digest.toString('hex') });
        assert(!lines.has(id), `${id} was written twice`);
        lines.set(id, lineOfRecord(r));
      }
    },
  );
  assert.equal(result.written, lines.size, 'the number of records in the report');
  if ('missing' in plan.source) assert.match(plan.source.missing, UNCHECKED);
  else
    assert.deepEqual(
      result.clockDigest,
      plan.source.digests,
      `the sources' digests at ${plan.source.snapshot ?? 'their clock frames'}, state at ${plan.ts}`,
    );
  return lines;
};

export class Comparison {
  readonly archive: Archive;
  readonly view: ArchiveView;
  readonly model: Model;
  readonly startTs: number;
  readonly endTs: number;
  positions = 0;
  /** Where another branch of the history ends: what it alone has is refused with its name. */
  otherEndTs = -1;

  private constructor(archive: Archive, view: ArchiveView, model: Model, startTs: number) {
    this.archive = archive;
    this.view = view;
    this.model = model;
    this.startTs = startTs;
    this.endTs = model.contiguousEnd();
  }

  static async open(url: string, model: Model, startTs: number, timeline?: string): Promise<Comparison> {
    const archive = await openCached(url);
    return new Comparison(archive, await ArchiveView.read(archive, timeline), model, startTs);
  }

  /** S4 and S5. */
  async ranges(): Promise<void> {
    const { view, startTs, endTs } = this;
    const { ranges, contiguousEnd } = view.restorable;
    if (endTs < startTs || ranges.length === 0) {
      assert.deepEqual(ranges, [], `nothing is restorable before ${startTs}; published is ${endTs}`);
      assert(endTs < startTs, `S4: ${startTs} to ${endTs} must be restorable`);
      return;
    }
    for (const [i, r] of ranges.entries())
      if (i > 0)
        assert.equal(r.fromTs, ranges[i - 1].toTs + 1, 'S4: a fork goes on where its parent was left');
    assert.deepEqual([ranges[0].fromTs, ranges.at(-1)?.toTs], [startTs, endTs], 'S4: the restorable range');
    assert.equal(contiguousEnd, endTs, 'S4: the contiguous end');
    const refusals = [
      [endTs + 1, this.otherEndTs > endTs ? 'target-elsewhere' : 'target-future'],
      [startTs - 1, 'target-nodata'],
    ] as const;
    for (const [ts, id] of refusals)
      assert.equal(await errorIdOf(resolveTarget(view, String(ts), 0)), id, `S5: target ${ts}`);
    assert.equal((await resolveTarget(view, 'latest', 0)).ts, endTs, 'S5: latest');
    for (const ts of [startTs, endTs])
      assert.equal((await resolveTarget(view, String(ts), 0)).ts, ts, 'S5: the ends are in the range');
  }

  /** S1 at one instant. */
  async at(ts: number): Promise<void> {
    this.positions++;
    const plan = await planState(this.view, ts);
    assertSameState(await mergedLines(this.archive, plan), this.model.linesAt(ts), `state at ${ts}`);
  }

  /** S1 at every instant at which the state can change, the one before it, and a few others. */
  async everywhere(rng: Rng): Promise<void> {
    const instants = this.model.instants();
    for (let i = 0; i < 4; i++) instants.push(rng.int(this.startTs, this.endTs));
    for (const ts of [...instants, this.startTs, this.endTs])
      if (ts >= this.startTs && ts <= this.endTs) await this.at(ts);
  }

  /** S6: the same run twice in the merge changes nothing, and neither does leaving the snapshots aside. */
  async replayed(rng: Rng): Promise<void> {
    const ts = rng.int(this.startTs, this.endTs);
    const plan = await planState(this.view, ts);
    const expected = this.model.linesAt(ts);
    const twice = plan.runs.filter(() => rng.chance(0.6));
    assertSameState(
      await mergedLines(this.archive, { ...plan, runs: [...plan.runs, ...twice] }),
      expected,
      `S6: state at ${ts} with ${twice.length} runs twice`,
    );
    const fromLog = await planState(this.view, ts, { useBase: false });
    assertSameState(
      await mergedLines(this.archive, fromLog),
      expected,
      `S6: state at ${ts} from the log alone`,
    );
  }

  /** S3 and S5: marks and LSNs resolve to their instants; an LSN inside a batch to the one before the batch. */
  async targets(rng: Rng, streams: readonly string[]): Promise<void> {
    const inside = (ts: number): boolean => ts >= this.startTs && ts <= this.endTs;
    for (const mark of this.model.marks)
      if (inside(mark.ts)) {
        const resolved = await resolveTarget(this.view, `mark:${mark.name}`, 0);
        assert.equal(resolved.ts, mark.ts, `S5: mark ${mark.name}`);
      }
    for (const stream of streams) {
      const { lastLsn, published } = this.model.stream(stream);
      const lsns = new Set(Array.from({ length: 4 }, () => rng.int(1, Math.max(1, lastLsn))));
      for (const lsn of lsns) {
        const at = this.model.position(stream, lsn);
        if (!at || lsn > published.lsn) continue;
        const ts = at.batchMore ? at.ts - 1 : at.ts;
        if (!inside(ts)) continue;
        const resolved = await resolveTarget(this.view, `lsn:${stream}/${lsn}`, 0);
        assert.equal(resolved.ts, ts, `S3: target lsn:${stream}/${lsn}`);
        assert.equal(
          resolved.rounded !== undefined,
          at.batchMore,
          'S3: a target inside a batch says that it was moved',
        );
      }
      if (published.lsn === 0) continue;
      const future = await errorIdOf(resolveTarget(this.view, `lsn:${stream}/${published.lsn + 1}`, 0));
      assert.equal(future, 'target-future', `S5: an LSN of ${stream} that is not archived`);
    }
  }

  /** A real restore, opened at its target and read in full. */
  async restored(dir: string, ts: number): Promise<RestoreReport> {
    const clock = new ManualClock(ts);
    const report = await restoreEngine(dir, 'r', {
      archive: this.archive,
      timeline: this.view.timeline.id,
      target: String(ts),
      workers: 0,
      ttl: 'absolute',
      clock,
    });
    const { source, why, target } = report.verification;
    assert.equal(target, 'equal');
    if (source !== 'equal') assert.match(why ?? '', UNCHECKED);
    const engine = await Engine.open({ dir, sealMs: 0, clock });
    try {
      assertSameState(await scanLines(engine), this.model.linesAt(ts), `restore to ${ts}`);
    } finally {
      await engine.close();
    }
    assert.equal(
      await errorIdOf(this.#restoreAgain(dir, ts)),
      'target-not-empty',
      'S8: an engine is not overwritten',
    );
    return report;
  }

  #restoreAgain(dir: string, ts: number): Promise<RestoreReport> {
    return restoreEngine(dir, 'r', {
      archive: this.archive,
      timeline: this.view.timeline.id,
      target: String(ts),
      workers: 0,
      clock: new ManualClock(ts),
    });
  }
}

/** Processes that only have the archive: one that restores to any instant and judges what it gets, one that takes snapshots. */
import { type ErrorId, isPitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot, listSnapshots } from '../../snapshot/snapshots.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import type { Rng } from '../model/rng.ts';
import type { Seen } from './history.ts';
import { type Process, Violation } from './scheduler.ts';
import type { World } from './world.ts';

/** Records of JSON lines, by key. */
const stateOf = (chunks: readonly Buffer[]): Map<string, Seen> => {
  const state = new Map<string, Seen>();
  for (const line of Buffer.concat(chunks).toString('utf8').split('\n')) {
    if (line === '') continue;
    const r = JSON.parse(line);
    const key = `${r.set}/${r.key}`;
    if (state.has(key)) throw new Violation(`a restore shows ${key} twice`);
    if (r.bins.pad !== 'x'.repeat((r.bins.v.length * 37) % 300))
      throw new Violation(`a restore shows ${key} with a part of its bins`);
    state.set(key, { value: r.bins.v, generation: r.generation, lut: Date.parse(r.lastUpdate) });
  }
  return state;
};

/** What was read at an instant, as text: read again, it must be the same (F1). */
export class Readings {
  readonly #at = new Map<number, string>();
  #fromTs = Number.POSITIVE_INFINITY;
  #toTs = 0;

  get instants(): number[] {
    return [...this.#at.keys()];
  }

  /** What an archive says can be restored stays so: nobody removes history here. */
  promised(fromTs: number, toTs: number): void {
    if (fromTs > this.#fromTs || toTs < this.#toTs)
      throw new Violation(
        `S4: restorable was ${this.#fromTs}..${this.#toTs}, and now only ${fromTs}..${toTs} is`,
      );
    this.#fromTs = fromTs;
    this.#toTs = toTs;
  }

  /** First and last instant that was ever said to be restorable. */
  get ends(): number[] {
    return this.#toTs === 0 ? [] : [this.#fromTs, this.#toTs];
  }

  compare(ts: number, state: ReadonlyMap<string, Seen>): void {
    const text = JSON.stringify([...state].sort(([a], [b]) => (a < b ? -1 : 1)));
    const before = this.#at.get(ts);
    if (before !== undefined && before !== text)
      throw new Violation(`F1: the state at ${ts} was ${before} and is ${text}`);
    this.#at.set(ts, text);
  }
}

/** Looks at the archive once: its ranges, and some restores. */
export class Look {
  readonly #world: World;
  readonly #rng: Rng;
  readonly #readings: Readings;
  readonly #nowMs: () => number;

  constructor(world: World, rng: Rng, readings: Readings, nowMs: () => number) {
    this.#world = world;
    this.#rng = rng;
    this.#readings = readings;
    this.#nowMs = nowMs;
  }

  async at(store: ObjectStore, restores: number): Promise<void> {
    const { history } = this.#world;
    const clock = { nowMs: this.#nowMs };
    const archive = await Archive.open(store, { clock });
    const view = await ArchiveView.read(archive);
    const { ranges, contiguousEnd } = view.restorable;
    if (ranges.length === 0 || contiguousEnd === undefined) {
      if (this.#readings.ends.length > 0) throw new Violation('S4: nothing is restorable any more');
      return;
    }
    // S4: stated is at most what is true
    if (contiguousEnd > history.contiguousEnd)
      throw new Violation(`S4: restorable to ${contiguousEnd}, published is ${history.contiguousEnd}`);
    if (ranges.length > 1) throw new Violation(`S4: a history without gaps in ${ranges.length} ranges`);
    const [{ fromTs, toTs }] = ranges;
    this.#readings.promised(fromTs, toTs);
    const rng = this.#rng;
    const inside = (ts: number): boolean => ts >= fromTs && ts <= toTs;
    for (let i = 0; i < restores; i++) {
      const known = [...history.instants(), ...this.#readings.instants, ...this.#readings.ends].filter(
        inside,
      );
      const ts =
        rng.chance(0.3) || known.length === 0
          ? rng.int(fromTs, toTs)
          : Math.max(fromTs, rng.pick(known) - rng.pick([0, 0, 1]));
      await this.#restore(archive, String(ts), ts);
    }
    const mark = history.marks.filter((m) => inside(m.ts)).at(rng.int(-3, -1));
    if (mark) await this.#restore(archive, `mark:${mark.name}`, mark.ts);
    await this.#refused(archive, String(fromTs - 1 - rng.int(0, 1000)), 'target-nodata');
    await this.#refused(
      archive,
      String(Math.max(history.contiguousEnd, this.#nowMs()) + FAR_MS),
      'target-future',
    );
  }

  async #restore(archive: Archive, target: string, ts: number): Promise<void> {
    const chunks: Buffer[] = [];
    const report = await restoreJsonLines(async (text) => void chunks.push(Buffer.from(text)), {
      archive,
      target,
      workers: 0,
      ttl: 'absolute',
      clock: { nowMs: this.#nowMs },
    });
    if (report.target.ts !== ts) throw new Violation(`S5: ${target} became ${report.target.ts}, not ${ts}`);
    const state = stateOf(chunks);
    if (report.records !== state.size)
      throw new Violation(`a restore reports ${report.records} records and wrote ${state.size}`);
    this.#world.history.observe(ts, state, `restore to ${target}`);
    this.#readings.compare(ts, state);
  }

  async #refused(archive: Archive, target: string, id: ErrorId): Promise<void> {
    try {
      await this.#restore(archive, target, -1);
    } catch (error) {
      if (isPitrError(error, id)) return;
      throw error;
    }
  }
}

/** Further away than anybody sleeps in one look. */
const FAR_MS = 100 * 24 * 3_600_000;

/** A lease lasts this long without being renewed. */
const LEASE_MS = 2 * 60 * 1000;

/** What a merge replaced goes when no lease keeps it: a lease that could not be written, or was not renewed in time. */
const mayLoseLease = (world: World, process: Process, startedMs: number, troubles: number): ErrorId[] =>
  process.troubles > troubles || world.scheduler.nowMs - startedMs > LEASE_MS ? ['lease-lost'] : [];

export const readerMain = async (world: World, process: Process, readings: Readings): Promise<void> => {
  const rng = world.fork();
  const look = new Look(world, rng, readings, () => process.nowMs());
  while (!world.stopping) {
    await process.sleep(rng.int(50, 2_000));
    const { troubles } = process;
    const started = world.scheduler.nowMs;
    try {
      await look.at(world.bucket.clientOf(process), rng.int(1, 3));
    } catch (error) {
      world.tolerate(error, process, mayLoseLease(world, process, started, troubles), troubles);
    }
  }
};

export const snapshotterMain = async (world: World, process: Process): Promise<void> => {
  const rng = world.fork();
  while (!world.stopping) {
    await process.sleep(rng.int(200, 4_000));
    const { troubles } = process;
    const started = world.scheduler.nowMs;
    try {
      const clock = world.clockOf(process);
      const archive = await Archive.open(world.bucket.clientOf(process), { clock });
      const old = rng.chance(0.35) ? (await listSnapshots(archive)).at(rng.int(-3, -1)) : undefined;
      if (old) {
        await deleteSnapshot(archive, old.id);
        world.deletions++;
      } else {
        await createSnapshot(archive, { kind: rng.pick(['full', 'incremental', 'synthetic'] as const) });
        world.snapshots++;
      }
    } catch (error) {
      const ids = mayLoseLease(world, process, started, troubles);
      world.tolerate(
        error,
        process,
        ['nothing-restorable', 'target-nodata', 'snapshot-in-use', ...ids],
        troubles,
      );
    }
  }
};

/**
 * A base copy by an agent that sleeps for an hour at any of its calls, while its writer goes on, and another agent takes the stream with
 * a copy of the directory and a writer of its own: no state gets into the archive that its history never had.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { PitrError } from '../../engine/errors.ts';
import { newIdentity, readIdentity, writeIdentity } from '../../engine/identity.ts';
import { restoreJsonLines } from '../../restore/restore.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { withEngine } from '../../wal/timeline.ts';
import { copyDir } from '../wal/archiver-support.ts';
import { MemoryStore } from '../wal/memory-store.ts';
import { type Moment, ScheduledStore } from '../wal/scheduled-store.ts';

const HOUR_MS = 3_600_000;
/** Moments that are tried, evenly chosen; all of them take a minute. */
const TRIALS = process.env.PITR_FENCING === 'all' ? Number.POSITIVE_INFINITY : 12;

/** What the archive has is the history of one of the two. */
class Side {
  readonly dir: string;
  readonly clock: ManualClock;
  readonly writes: { ts: number; key: number; value: string }[];
  engine!: Engine;

  constructor(dir: string, clock: ManualClock, writes: Side['writes'] = []) {
    this.dir = dir;
    this.clock = clock;
    this.writes = [...writes];
  }

  async open(): Promise<void> {
    this.engine = await Engine.open({ dir: this.dir, sealMs: 0, lockWaitMs: 0, clock: this.clock });
  }

  /** Writes that are in the store, and sealed or not. */
  async write(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      this.clock.step(10);
      const key = this.writes.length % 5;
      const value = `${this.writes.length} of ${this.dir.at(-1)}`;
      const { ts } = await this.engine.put(
        { namespace: 'test', set: 's', key },
        { value },
        { mode: 'replace' },
      );
      this.writes.push({ ts, key, value });
    }
    await this.engine.sealApplied();
  }

  stateAt(ts: number): string[] {
    const state = new Map(this.writes.filter((w) => w.ts <= ts).map((w) => [w.key, w.value]));
    return [...state.values()].sort();
  }
}

/** A history that begins with a base copy: two writes, not archived yet. */
const begin = async (dir: string): Promise<{ objects: MemoryStore; side: Side }> => {
  const objects = new MemoryStore();
  const archive = await Archive.openOrCreate(objects);
  const clock = new ManualClock(1_750_000_000_000);
  const side = new Side(join(dir, 'a'), clock);
  const fields = { shards: 1, detached: true, archive: { url: 'memory:', id: archive.id } };
  const identity = newIdentity(fields, clock.nowMs());
  await writeIdentity(side.dir, identity);
  await archive.updateTimelines((all) => withEngine(all, identity, identity.createdMs));
  await side.open();
  await side.write(2);
  return { objects, side };
};

/** One life: ships, and takes the base copy that is due. Returns the id of the error that ended it. */
const agent = async (
  side: Side,
  store: ScheduledStore,
  after: () => Promise<void> = async () => undefined,
) => {
  let archiver: Archiver | undefined;
  try {
    archiver = await Archiver.open(side.dir, { store, clock: side.clock });
    await archiver.round();
    await anchorIfNeeded(archiver);
    await after();
    await archiver.round();
    return undefined;
  } catch (error) {
    if (error instanceof PitrError) return error.id;
    throw error;
  } finally {
    await archiver?.close();
  }
};

const restored = async (archive: Archive, ts: number, clock: ManualClock): Promise<string[]> => {
  const lines: string[] = [];
  const write = async (text: string | Uint8Array): Promise<void> => {
    lines.push(...Buffer.from(text).toString('utf8').split('\n'));
  };
  await restoreJsonLines(write, { archive, target: String(ts), workers: 0, ttl: 'absolute', clock });
  return lines
    .filter((l) => l !== '')
    .map((l) => JSON.parse(l).bins.value)
    .sort();
};

const trial = async (dir: string, moment: Moment): Promise<string | undefined> => {
  const { objects, side: a } = await begin(dir);
  const b = new Side(join(dir, 'b'), a.clock);
  try {
    const store = new ScheduledStore(objects);
    const stopped = store.stopAt(moment);
    const first = agent(a, store);
    if (await Promise.race([stopped.then(() => false), first.then(() => true)])) return undefined;
    await a.write(2);
    await copyDir(a.dir, b.dir);
    b.writes.push(...a.writes);
    a.clock.step(HOUR_MS);
    // both go on
    await a.write(2);
    await b.open();
    await b.write(3);
    let ended: string | undefined;
    const second = await agent(b, new ScheduledStore(objects), async () => {
      store.go();
      ended = await first;
      await b.write(1);
    });
    store.go();
    ended = await first;
    const archive = await Archive.open(objects, { clock: a.clock });
    const { timeline } = await readIdentity(a.dir);
    const owner = second === undefined ? b : a;
    const bases = await listSnapshots(archive, timeline);
    assert.ok(bases.length > 0, `a base: ${ended} ${second}`);
    for (const base of bases) {
      const { segments } = await readSnapshot(archive, base);
      for (const { name } of segments) assert.ok(objects.objects.has(name), `${name} is named`);
      assert.deepEqual(
        await restored(archive, base.endTs, a.clock),
        owner.stateAt(base.endTs),
        'at the base',
      );
    }
    const frontier = (await archive.head(timeline, 'main'))?.value.frontier.ts ?? 0;
    assert.deepEqual(await restored(archive, frontier, a.clock), owner.stateAt(frontier), 'at the frontier');
    return `${ended} ${second}`;
  } finally {
    await a.engine.close();
    await b.engine?.close();
  }
};

test('the base copy of a fenced agent is of the history that the archive has, or is not published', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'pitr-base-'));
  try {
    const whole = await begin(join(root, 'whole'));
    const undisturbed = new ScheduledStore(whole.objects);
    assert.equal(await agent(whole.side, undisturbed), undefined);
    await whole.side.engine.close();
    const moments = Array.from({ length: undisturbed.calls }, (_, call) => call).flatMap((call) =>
      (['before', 'after'] as const).map((when) => ({ call, when })),
    );
    const count = Math.min(TRIALS, moments.length);
    const endings = new Map<string, number>();
    for (let i = 0; i < count; i++) {
      const moment = moments[Math.floor(((i + 0.5) * moments.length) / count)];
      const dir = join(root, String(i));
      const how = await trial(dir, moment).catch((error) => {
        throw new Error(`stopped ${moment.when} call ${moment.call}: ${error.stack}`, { cause: error });
      });
      endings.set(how ?? 'does not come to that', (endings.get(how ?? '') ?? 0) + 1);
      await rm(dir, { recursive: true });
    }
    t.diagnostic(`${moments.length} moments: ${JSON.stringify(Object.fromEntries(endings))}`);
    assert.ok(endings.size > 1);
  } finally {
    await rm(root, { recursive: true });
  }
});

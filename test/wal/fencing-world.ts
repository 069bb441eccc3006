/** One stream, two agents, everything in memory: directories that can be copied, writers, a clock, and one object store. */
import { ManualClock } from '../../engine/clock.ts';
import type { Locks } from '../../engine/directory-lock.ts';
import { type ErrorId, isPitrError } from '../../engine/errors.ts';
import { newIdentity, writeIdentity } from '../../engine/identity.ts';
import type { Machine } from '../../engine/machine.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverOptions } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { withEngine } from '../../wal/timeline.ts';
import { emptyStore, SimStore, type StoreImage } from '../sim/store.ts';
import { MemoryFiles } from './memory-files.ts';
import { MemoryStore } from './memory-store.ts';
import type { ScheduledStore } from './scheduled-store.ts';

/** What a writer was told that is durable. */
export interface Acknowledged {
  readonly lsn: number;
  readonly ts: number;
  readonly key: number;
  /** Unique; undefined: a delete. */
  readonly value: string | undefined;
}

const KEYS = 3;
/** What an agent may meet whose calls are lost or answered wrongly. */
const TROUBLES: readonly ErrorId[] = ['io', 'object-corrupt', 'cas-conflict', 'object-exists'];
export const HOUR_MS = 3_600_000;
/** A process without a scheduler. */
const process = { call: async <T>(_: string, effect: () => T): Promise<T> => effect() };

const copyOf = ({ now, durable, unflushed }: StoreImage): StoreImage => ({
  now: { records: new Map(now.records), meta: now.meta },
  durable: { records: new Map(durable.records), meta: durable.meta },
  unflushed: [...unflushed],
});

export class FencingWorld {
  readonly objects: MemoryStore;
  readonly files: MemoryFiles;
  readonly clock: ManualClock;
  /** Of each directory the history of its writers, in order. */
  readonly acknowledged: Map<string, Acknowledged[]>;
  readonly #stores: Map<string, StoreImage>;
  readonly #locks = new Set<string>();

  private constructor(
    objects: MemoryStore,
    files: MemoryFiles,
    nowMs: number,
    acknowledged: Map<string, Acknowledged[]>,
    stores: Map<string, StoreImage>,
  ) {
    this.objects = objects;
    this.files = files;
    this.clock = new ManualClock(nowMs);
    this.acknowledged = acknowledged;
    this.#stores = stores;
  }

  /** An archive and an engine directory. */
  static async make(dir: string): Promise<FencingWorld> {
    const world = new FencingWorld(
      new MemoryStore(),
      new MemoryFiles(),
      1_750_000_000_000,
      new Map(),
      new Map(),
    );
    const archive = await Archive.openOrCreate(world.objects);
    const fields = { shards: 1, archive: { url: 'memory:', id: archive.id } };
    const identity = newIdentity(fields, world.clock.nowMs());
    await writeIdentity(dir, identity, world.files);
    await archive.updateTimelines((all) => withEngine(all, identity, identity.createdMs));
    world.acknowledged.set(dir, []);
    return world;
  }

  /** The same once more, independent of this one; nobody has anything open. */
  copy(): FencingWorld {
    return new FencingWorld(
      this.objects.copy(),
      this.files.copy(),
      this.clock.nowMs(),
      new Map([...this.acknowledged].map(([dir, list]) => [dir, [...list]])),
      new Map([...this.#stores].map(([dir, image]) => [dir, copyOf(image)])),
    );
  }

  copyDir(from: string, to: string): void {
    for (const folder of ['', '/log'])
      for (const name of this.files.namesIn(from + folder))
        this.files.put(`${to}${folder}/${name}`, Buffer.from(this.files.bytesOf(`${from}${folder}/${name}`)));
    const image = this.#stores.get(from);
    if (image) this.#stores.set(to, copyOf(image));
    this.acknowledged.set(to, [...(this.acknowledged.get(from) as Acknowledged[])]);
  }

  /** A writer's life: `seals` sealed files with two versions each; what is archived and applied it trims. */
  async write(dir: string, seals: number): Promise<void> {
    const engine = await Engine.open({
      dir,
      sealMs: 0,
      door: false,
      clock: this.clock,
      ...this.machine('writer'),
    });
    const list = this.acknowledged.get(dir) as Acknowledged[];
    for (let s = 0; s < seals; s++) {
      for (let i = 0; i < 2; i++) {
        this.clock.step(10);
        const n = list.length;
        const key = n % KEYS;
        const record = { namespace: 'test', set: 's', key };
        if (n % 7 === 6) list.push({ ...(await engine.delete(record)), key, value: undefined });
        else {
          const value = `key ${key} version ${n} in ${dir}.`;
          list.push({ ...(await engine.put(record, { value }, { mode: 'replace' })), key, value });
        }
      }
      await engine.sealApplied();
    }
    await engine.close();
  }

  machine(scope: string): Required<Machine> {
    return {
      files: this.files,
      locks: this.#locksOf(scope),
      openStore: (dir) => {
        const image = this.#stores.get(dir) ?? emptyStore();
        this.#stores.set(dir, image);
        return new SimStore(dir, process, image, false);
      },
    };
  }

  /** The agent's lock is one that only those of the same scope see: others are on another host. */
  #locksOf(scope: string): Locks {
    const held = this.#locks;
    const idOf = (path: string): string => (path.endsWith('agent.lock') ? `${scope} ${path}` : path);
    return {
      acquire: async (path) => {
        const id = idOf(path);
        if (held.has(id)) return undefined;
        held.add(id);
        return { path, release: () => void held.delete(id) };
      },
      isLocked: (path) => held.has(idOf(path)),
    };
  }

  open(dir: string, scope: string, store: ScheduledStore, options: ArchiverOptions = {}): Promise<Archiver> {
    const { clock } = this;
    const merging = { fanout: 2, retireMs: 0, partRawBytes: 1, smallBytes: 0 };
    // a segment for each file, two of them on their way at a time
    const ship = { segmentVersions: 1, creates: 2 };
    return Archiver.open(dir, { store, clock, ship, ...merging, ...this.machine(scope), ...options });
  }

  /**
   * An agent's life: it ships, merges, deletes what it may, looks again three minutes later, and ends. Returns why it ended before
   * that.
   */
  async agent(
    dir: string,
    scope: string,
    store: ScheduledStore,
    options: ArchiverOptions = {},
    between: () => Promise<void> = async () => undefined,
  ): Promise<unknown> {
    let archiver: Archiver | undefined;
    try {
      archiver = await this.open(dir, scope, store, options);
      const rounds = store.isTroubled ? 5 : 2;
      for (let round = 0; round < rounds; round++) {
        // a merge is tried again beside shipping, without anything else that asks who has the stream
        const work = store.isTroubled && round % 2 === 1 ? archiver.compact() : archiver.round();
        await work.catch((error) => {
          // the next round tries again
          const isPassing = TROUBLES.some((id) => isPitrError(error, id));
          if (!isPassing || !store.isTroubled || archiver?.fenced) throw error;
        });
        if (round === 0) await between();
        this.clock.step(180_000);
      }
      return undefined;
    } catch (error) {
      return error;
    } finally {
      await archiver?.close();
    }
  }
}

/**
 * Two engines of one history, and everything that works on their archive at once: each job is stopped at each of its calls of the
 * object store, and a seed decides whose call comes next, and who is killed instead. The judge reads the store's own bytes.
 */
import assert from 'node:assert/strict';
import { setImmediate as breathe } from 'node:timers/promises';
import { ManualClock } from '../../engine/clock.ts';
import type { Locks } from '../../engine/directory-lock.ts';
import { readIdentity, writeIdentity } from '../../engine/identity.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Archive } from '../../wal/archive.ts';
import { Engine } from '../../wal/engine.ts';
import { withEngine } from '../../wal/timeline.ts';
import type { Rng } from '../model/rng.ts';
import { lost, MemoryStore } from '../wal/memory-store.ts';

/** Turns of the event loop for which a job may do something else than call the store. */
const TURNS_MAX = 2000;

/** Two hosts do not see each other's locks. */
export const noLocks: Locks = {
  acquire: async (path) => ({ path, release: () => undefined }),
  isLocked: () => true,
};

interface Waiting {
  readonly what: string;
  /** It takes long. */
  isSlow: boolean;
  go(end: 'done' | 'before' | 'after'): void;
}

/** One process: its calls of the store wait until they are let go. */
export class Process {
  readonly name: string;
  alive = true;
  /** None of its calls is let go. */
  asleep = false;
  readonly waiting: Waiting[] = [];
  readonly #store: MemoryStore;

  constructor(name: string, store: MemoryStore) {
    this.name = name;
    this.#store = store;
  }

  /** The store as this process reaches it. */
  client(): ObjectStore {
    const through =
      <A extends unknown[], T>(what: string, call: (...args: A) => Promise<T>) =>
      (...args: A): Promise<T> =>
        this.#call(`${what} ${String(args[0]).slice(0, 90)}`, () => call(...args));
    const store = this.#store;
    return {
      url: store.url,
      create: through('create', (name: string, bytes: Uint8Array) => store.create(name, bytes)),
      read: through('read', (name: string, range?: { start: number; end?: number }) =>
        store.read(name, range),
      ),
      size: through('size', (name: string) => store.size(name)),
      list: through('list', (prefix: string) => store.list(prefix)),
      delete: through('delete', (names: readonly string[]) => {
        this.onDelete(names);
        return store.delete(names);
      }),
      readSwap: through('readSwap', (name: string) => store.readSwap(name)),
      swap: through('swap', (name: string, tag: string | undefined, bytes: Uint8Array) =>
        store.swap(name, tag, bytes),
      ),
    };
  }

  /** From now on it does nothing more; what waits had its effect or not. */
  kill(end: 'before' | 'after'): void {
    this.alive = false;
    for (const call of this.waiting.splice(0)) call.go(end);
  }

  /** Told of what is about to be deleted. */
  onDelete: (names: readonly string[]) => void = () => undefined;

  async #call<T>(what: string, effect: () => Promise<T>): Promise<T> {
    if (!this.alive) throw lost();
    const end = await new Promise<'done' | 'before' | 'after'>((go) =>
      this.waiting.push({ what, isSlow: false, go }),
    );
    if (end === 'before') throw lost();
    const result = await effect();
    if (end === 'after') throw lost();
    return result;
  }
}

export interface Job {
  readonly name: string;
  readonly process: Process;
  readonly done: Promise<void>;
  ended: boolean;
  error: unknown;
}

const PARTITIONS = { a: '0-2047', b: '2048-4095' } as const;
export type StreamName = keyof typeof PARTITIONS;
export const STREAMS = Object.keys(PARTITIONS) as StreamName[];

/** The documents as a stranger reads them: JSON under one line. */
interface Named {
  readonly name: string;
}
interface Documents {
  readonly head: {
    readonly runs: readonly { readonly segments: readonly Named[] }[];
    readonly retired: readonly { readonly names: readonly string[] }[];
  };
  readonly note: {
    readonly merge: {
      readonly parts: readonly { readonly ref: Named }[];
      readonly writing: string | null;
    } | null;
  };
  readonly index: {
    readonly snapshots: readonly (Named & { readonly id: string })[];
    readonly begun: readonly { readonly id: string; readonly timeline: string; readonly state: string }[];
    readonly retired?: readonly { readonly names: readonly string[] }[];
  };
  readonly manifest: { readonly segments: readonly Named[] };
}

const bodyOf = <K extends keyof Documents>(_: K, bytes: Buffer | undefined): Documents[K] => {
  const text = `${bytes}`;
  return JSON.parse(text.slice(text.indexOf('\n') + 1)) as Documents[K];
};

export class World {
  readonly store = new MemoryStore();
  readonly clock = new ManualClock(1_700_000_000_000);
  readonly engines = new Map<StreamName, Engine>();
  readonly jobs: Job[] = [];
  readonly rng: Rng;
  timeline = '';
  /** Who has made an object with the call that was let go last. */
  creator: Process | undefined;

  constructor(rng: Rng) {
    this.rng = rng;
  }

  async begin(dirOf: (stream: StreamName) => string): Promise<void> {
    const archive = await Archive.openOrCreate(this.store, { clock: this.clock });
    for (const stream of STREAMS) {
      const dir = dirOf(stream);
      await Engine.init(dir, {
        stream,
        partitions: PartitionSet.parse(PARTITIONS[stream]),
        clock: this.clock,
      });
      const identity = {
        ...(await readIdentity(dir)),
        ...(this.timeline === '' ? {} : { timeline: this.timeline }),
        archive: { url: 'memory:', id: archive.id },
      };
      this.timeline = identity.timeline;
      await writeIdentity(dir, identity);
      await archive.updateTimelines((all) => withEngine(all, identity, identity.createdMs));
      this.engines.set(stream, await Engine.open({ dir, sealMs: 0, clock: this.clock, door: false }));
    }
  }

  async write(stream: StreamName, count: number): Promise<void> {
    const engine = this.engines.get(stream) as Engine;
    let written = 0;
    for (let tries = 0; written < count && tries < 1000; tries++) {
      this.clock.step(1);
      const n = this.rng.int(0, 40);
      try {
        await engine.put({ namespace: 'test', set: 's', key: n }, { n: this.clock.nowMs() });
        written++;
      } catch (error) {
        if ((error as { id?: string }).id !== 'partition-not-owned') throw error;
      }
    }
    await engine.sealApplied();
  }

  start(name: string, process: Process, run: () => Promise<unknown>): Job {
    const job: Job = { name, process, ended: false, error: undefined, done: Promise.resolve() };
    const done = run().then(
      () => undefined,
      (error) => {
        job.error = error;
      },
    );
    Object.assign(job, {
      done: done.then(() => {
        job.ended = true;
      }),
    });
    this.jobs.push(job);
    return job;
  }

  /** Lets one waiting call go, of whichever process; false: nothing waits. */
  async step(): Promise<boolean> {
    await this.settle();
    const processes = this.processes.filter((p) => !p.asleep && p.waiting.some((call) => !call.isSlow));
    if (processes.length === 0) return false;
    const process = this.rng.pick(processes);
    const call = this.rng.pick(process.waiting.filter((c) => !c.isSlow));
    process.waiting.splice(process.waiting.indexOf(call), 1);
    this.clock.step(this.rng.int(0, 2));
    call.go('done');
    await breathe();
    this.creator = call.what.startsWith('create ') ? process : undefined;
    this.assertWhole(call.what);
    return true;
  }

  /** Of jobs that have not ended. */
  get processes(): Process[] {
    return [...new Set(this.jobs.filter((j) => !j.ended).map((j) => j.process))];
  }

  /** Some of those who sleep wake up, some calls come through. */
  wake(chance: number): void {
    for (const process of this.processes) {
      if (process.asleep && this.rng.chance(chance)) process.asleep = false;
      for (const call of process.waiting) if (call.isSlow && this.rng.chance(chance)) call.isSlow = false;
    }
  }

  /** Until every job has ended or waits at a call, or does something else for long. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < TURNS_MAX; turn++) {
      const isBusy = this.jobs.some((j) => !j.ended && j.process.waiting.length === 0);
      if (!isBusy) return;
      await breathe();
    }
  }

  /** Runs until nothing waits and all jobs have ended. */
  async drain(): Promise<void> {
    for (let idle = 0; this.jobs.some((j) => !j.ended); ) {
      this.wake(1);
      if (await this.step()) idle = 0;
      else if (++idle > 50) throw new Error(`stuck: ${this.jobs.filter((j) => !j.ended).map((j) => j.name)}`);
    }
  }

  /** What is named is there: of every head, and of every snapshot. */
  assertWhole(after: string): void {
    for (const name of this.named())
      assert.ok(this.store.objects.has(name), `${name} is gone after: ${after}`);
  }

  /** Names in the heads' runs and in the index with its manifests; nothing of pitr's own code is asked. */
  named(): Set<string> {
    const names = new Set<string>();
    for (const head of this.#all('head', 'heads/'))
      for (const run of head.runs) for (const segment of run.segments) names.add(segment.name);
    for (const { name } of this.index?.snapshots ?? []) {
      names.add(name);
      const manifest = this.store.objects.get(name);
      if (manifest) for (const segment of bodyOf('manifest', manifest).segments) names.add(segment.name);
    }
    return names;
  }

  get index(): Documents['index'] | undefined {
    return this.#all('index', 'snapshots')[0];
  }

  /** Objects of unfinished merges. */
  noted(): Set<string> {
    const notes = this.#all('note', 'merges/').flatMap(({ merge }) => merge ?? []);
    return new Set(notes.flatMap((m) => [...m.parts.map((p) => p.ref.name), m.writing ?? []].flat()));
  }

  /** What else a sweep must not touch: what is noted, what a merge has replaced, what is begun. */
  isHeldBack(name: string): boolean {
    const retired = this.#all('head', 'heads/').flatMap((head) => head.retired.flatMap((r) => r.names));
    const isBegun = (this.index?.begun ?? []).some(
      ({ id, timeline, state }) =>
        state === 'working' &&
        (name.includes(`/${timeline}/snapshots-${id}/`) || name.includes(`/${timeline}/${id}/`)),
    );
    return isBegun || this.noted().has(name) || retired.includes(name);
  }

  #all<K extends keyof Documents>(kind: K, prefix: string): Documents[K][] {
    return [...this.store.swaps]
      .filter(([name]) => name.startsWith(prefix))
      .map(([, values]) => bodyOf(kind, values.at(-1)?.bytes));
  }

  async end(): Promise<void> {
    for (const engine of this.engines.values()) await engine.close();
  }
}

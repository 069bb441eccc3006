/** One or more engines on one archive, with a clock that the test sets. */
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { ManualClock } from '../engine/clock.ts';
import { type ErrorId, isPitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { RecordKey } from '../engine/record-key.ts';
import { type RestoreOptions, restoreJsonLines } from '../restore/restore.ts';
import { Archive } from '../wal/archive.ts';
import { Archiver } from '../wal/archiver.ts';
import { Engine, type EngineOptions } from '../wal/engine.ts';

/** A whole second, so that expiry is easy to count. */
export const T0 = 1_750_000_000_000;

export const key = (name: string | number, set = 's'): RecordKey => ({ namespace: 'test', set, key: name });

/** For assert.rejects: the error has this id. */
export const refused = (id: ErrorId) => (error: unknown) => isPitrError(error, id);

/** The real file system, until its syncs begin to fail. */
export class FailingDisk {
  broken = false;

  readonly files: Files = {
    ...nodeFiles,
    createNew: async (path) => {
      const file = await nodeFiles.createNew(path);
      return {
        append: (bytes) => file.append(bytes),
        close: () => file.close(),
        sync: async () => {
          this.#check();
          await file.sync();
        },
      };
    },
    openSynced: async (path, bytes) => {
      const file = await nodeFiles.openSynced(path, bytes);
      return {
        append: async (more) => {
          this.#check();
          await file.append(more);
        },
        close: () => file.close(),
      };
    },
  };

  #check(): void {
    if (this.broken) throw Object.assign(new Error('disk'), { code: 'EIO' });
  }
}

export interface Line {
  readonly key: string | number;
  readonly generation: number;
  readonly lastUpdate: string;
  readonly expires: string | null;
  readonly bins: Readonly<Record<string, unknown>>;
}

export class Bench {
  readonly dir: string;
  readonly clock = new ManualClock(T0);
  readonly url: string;
  readonly #open: { close(): Promise<void> }[] = [];

  private constructor(dir: string) {
    this.dir = dir;
    this.url = `file:${join(dir, 'archive')}`;
  }

  static async open(t: TestContext): Promise<Bench> {
    const root = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
    const bench = new Bench(await fs.mkdtemp(join(root, 'pitr-promise-')));
    t.after(async () => {
      const closed = await Promise.allSettled(bench.#open.map((it) => it.close()));
      await fs.rm(bench.dir, { recursive: true });
      for (const c of closed) if (c.status === 'rejected') throw c.reason;
    });
    return bench;
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  async engine(stream = 'main', partitions?: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
    await Engine.init(this.path(stream), {
      archive: this.url,
      stream,
      clock: this.clock,
      ...(partitions === undefined ? {} : { partitions: PartitionSet.parse(partitions) }),
    });
    return this.reopen(stream, options);
  }

  async reopen(stream: string, options: Partial<EngineOptions> = {}): Promise<Engine> {
    const engine = await Engine.open({ dir: this.path(stream), sealMs: 0, clock: this.clock, ...options });
    this.#open.push(engine);
    return engine;
  }

  async archiver(stream = 'main'): Promise<Archiver> {
    const archiver = await Archiver.open(this.path(stream), { clock: this.clock });
    this.#open.push(archiver);
    return archiver;
  }

  archive(): Promise<Archive> {
    return Archive.open(this.url, { clock: this.clock });
  }

  /** The records at a target, by user key, as a restore to JSON lines gives them. */
  async at(
    target: string | number,
    options: Partial<RestoreOptions> = {},
  ): Promise<Map<string | number, Line>> {
    const records = new Map<string | number, Line>();
    const take = async (chunk: Buffer): Promise<void> => {
      for (const text of chunk.toString('utf8').trimEnd().split('\n')) {
        const line: Line = JSON.parse(text);
        records.set(line.key, line);
      }
    };
    await restoreJsonLines(take, {
      archive: this.url,
      target: String(target),
      workers: 0,
      ttl: 'absolute',
      clock: this.clock,
      ...options,
    });
    return records;
  }

  /** The value of bin `n` of each record at a target. */
  async valuesAt(
    target: string | number,
    options: Partial<RestoreOptions> = {},
  ): Promise<Record<string, unknown>> {
    return Object.fromEntries([...(await this.at(target, options))].map(([k, line]) => [k, line.bins.n]));
  }
}

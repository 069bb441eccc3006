import * as fs from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Clock, systemClock } from '../engine/clock.ts';
import { EngineCore, type EngineCoreOptions, type EngineParts } from '../engine/engine-core.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import {
  type EngineIdentity,
  IDENTITY_FILE,
  newIdentity,
  readIdentity,
  writeIdentity,
} from '../engine/identity.ts';
import { PartitionSet } from '../engine/partition.ts';
import { Archive } from './archive.ts';
import { readArchived } from './archived.ts';
import { LocalLog } from './local-log.ts';
import { currentTimeline, ownedPartitions, ownerOfPartition, withEngine } from './timeline.ts';

export interface EngineOptions extends Omit<EngineCoreOptions, 'openLog' | 'archivedLsn' | 'ownerOf'> {
  /** Shards of the running digest when the directory is new. Default 16. */
  readonly shards?: number;
  readonly files?: Files;
}

export interface InitOptions {
  /** Archive URL, for example `file:/backup/db`. Without one nothing can be restored. */
  readonly archive?: string;
  /** Name of the stream in the archive. Default `main`. */
  readonly stream?: string;
  /** Default: every partition that has no owner yet. */
  readonly partitions?: PartitionSet;
  readonly shards?: number;
  readonly clock?: Clock;
}

/**
 * The embedded record engine with its log: the class that programs use.
 *
 * ```ts
 * const engine = await Engine.open({ dir: 'data' });
 * await engine.put({ namespace: 'test', set: 'cities', key: 1 }, { name: 'Oslo', population: 580000 });
 * await engine.close();
 * ```
 */
export class Engine extends EngineCore {
  /**
   * Makes an engine directory, and registers it in its archive: a new database, or one more engine of the one there.
   * @throws engine-exists, ownership-conflict, stream-taken, archive-url
   */
  static async init(dir: string, options: InitOptions = {}): Promise<EngineIdentity> {
    const clock = options.clock ?? systemClock;
    const existing = await readIdentity(dir).catch((error) => {
      if (isPitrError(error, 'not-an-engine')) return undefined;
      throw error;
    });
    if (existing) throw new PitrError('engine-exists', { dir, stream: existing.stream });
    const names = await fs.readdir(dir).catch(() => []);
    if (names.length > 0) throw new PitrError('target-not-empty', { dir });
    let identity = newIdentity(
      {
        ...(options.stream === undefined ? {} : { stream: options.stream }),
        ...(options.shards === undefined ? {} : { shards: options.shards }),
        ...(options.partitions === undefined ? {} : { partitions: options.partitions.toString() }),
      },
      clock.nowMs(),
    );
    if (options.archive !== undefined) {
      const url = absoluteUrl(options.archive);
      const archive = await Archive.openOrCreate(url, { clock });
      await archive.updateTimelines((all) => {
        const current = currentTimeline(all);
        const partitions =
          options.partitions ??
          (current ? PartitionSet.all.subtract(ownedPartitions(current)) : PartitionSet.all);
        identity = {
          ...identity,
          ...(current ? { timeline: current.id } : {}),
          partitions: partitions.toString(),
          archive: { url, id: archive.id },
        };
        return withEngine(all, identity, clock.nowMs());
      });
    }
    await fs.mkdir(dir, { recursive: true });
    await writeIdentity(dir, identity);
    return identity;
  }

  /**
   * Opens an engine directory, replays what the store lacks, and serves reads and writes until {@link close}. A directory
   * that does not exist, or is empty, becomes an engine without archive.
   * @throws not-an-engine, engine-busy, log-corrupt, log-gap, log-foreign, format-version, store-corrupt
   */
  static async open(options: EngineOptions): Promise<Engine> {
    const dir = resolve(options.dir);
    const names: string[] = await fs.readdir(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('not-an-engine', { dir, why: cause.code }, { cause });
    });
    if (names.length === 0)
      await Engine.init(dir, options.shards === undefined ? {} : { shards: options.shards });
    else if (!names.includes(IDENTITY_FILE))
      throw new PitrError('not-an-engine', { dir, why: `it has no ${IDENTITY_FILE}` });
    const identity = await readIdentity(dir);
    const parts: EngineParts = await EngineCore.openParts({
      ...options,
      dir,
      openLog: (o) => LocalLog.open({ ...o, ...(options.files ? { files: options.files } : {}) }),
      ...(identity.archive
        ? {
            archivedLsn: async () => (await readArchived(dir)).lsn,
            ownerOf: async (partition: number) => ownerIn(identity, partition),
          }
        : {}),
    });
    const engine = new Engine(parts);
    await engine.start();
    return engine;
  }
}

/** `file:` URLs are kept absolute: an agent may be started elsewhere. */
export const absoluteUrl = (url: string): string => {
  const m = /^file:(?!\/\/)(.*)$/.exec(url);
  return m ? `file:${resolve(m[1])}` : url;
};

const ownerIn = async (identity: EngineIdentity, partition: number): Promise<string | undefined> => {
  try {
    const archive = await Archive.open((identity.archive as { url: string }).url);
    return ownerOfPartition(await archive.timeline(identity.timeline), partition);
  } catch {
    // only the error message would gain by it
    return undefined;
  }
};

/** Where the log of a directory is, for those who only read it. */
export const logDirOf = (dir: string): string => join(dir, 'log');

import * as fs from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { type Clock, systemClock } from '../engine/clock.ts';
import { EngineCore } from '../engine/engine-core.ts';
import type { EngineCoreOptions, EngineParts } from '../engine/engine-types.ts';
import { type ErrorId, isPitrError, PitrError } from '../engine/errors.ts';
import { type Files, makeDirs, nodeFiles } from '../engine/files.ts';
import {
  type EngineIdentity,
  IDENTITY_FILE,
  newIdentity,
  readIdentity,
  writeIdentity,
} from '../engine/identity.ts';
import { openEngineParts } from '../engine/open-engine.ts';
import { keptUrl } from '../engine/open-object-store.ts';
import { PartitionSet } from '../engine/partition.ts';
import { Archive } from './archive.ts';
import { SOURCE_FILE } from './capture/capture-dir.ts';
import { LOG_DIR, LocalLog } from './local-log.ts';
import { LogSpool } from './log-spool.ts';
import type { SpoolSettings } from './spool-settings.ts';
import {
  currentTimeline,
  ownedPartitions,
  ownerOfPartition,
  type Timelines,
  withEngine,
} from './timeline.ts';

export interface EngineOptions extends Omit<EngineCoreOptions, 'openLog' | 'openSpool' | 'ownerOf'> {
  /** Shards of the running digest when the directory is new. Default 16. */
  readonly shards?: number;
  readonly files?: Files;
  /** Quota of the log that waits for the archive; wins over what is set for the directory. */
  readonly spool?: Partial<SpoolSettings>;
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
   * @throws engine-exists, target-not-empty, ownership-conflict, stream-taken, archive-url, io
   */
  static async init(dir: string, options: InitOptions = {}): Promise<EngineIdentity> {
    const clock = options.clock ?? systemClock;
    const existing = await readIdentity(dir).catch((error) => {
      if (isPitrError(error, 'not-an-engine')) return undefined;
      throw error;
    });
    if (existing) throw new PitrError('engine-exists', { dir, stream: existing.stream });
    const names: string[] = await fs.readdir(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: dir, why: cause.code }, { cause });
    });
    if (names.some((n) => !isLeftOfInit(n))) throw new PitrError('target-not-empty', { dir });
    const identity = newIdentity(
      {
        ...(options.stream === undefined ? {} : { stream: options.stream }),
        ...(options.shards === undefined ? {} : { shards: options.shards }),
        ...(options.partitions === undefined ? {} : { partitions: options.partitions.toString() }),
      },
      clock.nowMs(),
    );
    // durable, or a power cut takes the folder with everything that was acknowledged in it
    const made = await makeDirs(nodeFiles, dir).catch((cause) => {
      throw new PitrError('io', { op: 'mkdir', path: dir, why: cause.code }, { cause });
    });
    try {
      if (options.archive === undefined) {
        await writeIdentity(dir, identity);
        return identity;
      }
      return await register(dir, identity, options.archive, options.partitions, clock);
    } catch (error) {
      // after any other failure it may be registered: engine.json stays, and the agent completes what is missing
      if (error instanceof PitrError && REFUSALS.has(error.id)) {
        await fs.rm(join(dir, IDENTITY_FILE), { force: true });
        if (made !== undefined) await removeEmpty(resolve(dir), resolve(made));
      }
      throw error;
    }
  }

  /**
   * Opens an engine directory, replays what the store lacks, and serves reads and writes until {@link close}. A directory
   * that does not exist, or is empty, becomes an engine without archive.
   * @throws not-an-engine, engine-busy, log-corrupt, log-gap, log-foreign, format-version, store-corrupt
   */
  static async open(options: EngineOptions): Promise<Engine> {
    const dir = resolve(options.dir);
    const files = options.files ?? nodeFiles;
    const names: string[] = await files.list(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('not-an-engine', { dir, why: cause.code }, { cause });
    });
    if (names.length === 0)
      await Engine.init(dir, options.shards === undefined ? {} : { shards: options.shards });
    else if (!names.includes(IDENTITY_FILE))
      throw new PitrError('not-an-engine', { dir, why: `it has no ${IDENTITY_FILE}` });
    if (names.includes(SOURCE_FILE))
      throw new PitrError('not-an-engine', {
        dir,
        why: 'it captures a cluster, whose records are there',
        instead: `its agent is asked, which does not run: pitr agent ${dir}`,
      });
    const identity = await readIdentity(dir, files);
    const parts: EngineParts = await openEngineParts({
      ...options,
      dir,
      openLog: (o) => LocalLog.open({ ...o, files }),
      ...(identity.archive
        ? {
            openSpool: (parts) =>
              LogSpool.open(
                {
                  dir,
                  engineId: identity.engineId,
                  ...(options.spool ? { settings: options.spool } : {}),
                  ...(options.files ? { files: options.files } : {}),
                  ...(options.clock ? { clock: options.clock } : {}),
                },
                parts,
              ),
            ownerOf: async (partition: number) => ownerIn(identity, partition),
          }
        : {}),
    });
    const engine = new Engine(parts);
    try {
      await removeIncoming(dir, await files.list(dir));
      await engine.start();
      return engine;
    } catch (error) {
      // why it did not start is what counts
      await engine.close().catch(() => undefined);
      throw error;
    }
  }
}

/** What says for certain that the archive does not have the engine. */
const REFUSALS: ReadonlySet<string> = new Set([
  'archive-url',
  'archive-unsafe',
  'archive-denied',
  'bucket-unknown',
  'bucket-elsewhere',
  'ownership-conflict',
  'stream-taken',
] satisfies ErrorId[]);

/**
 * Writes the identity, then registers it. In this order, because an archive that knows an engine which is nowhere keeps its
 * name and partitions for ever; the other way round the agent registers what is missing.
 */
const register = async (
  dir: string,
  fresh: EngineIdentity,
  url: string,
  wanted: PartitionSet | undefined,
  clock: Clock,
): Promise<EngineIdentity> => {
  const archive = await Archive.openOrCreate(url, { clock });
  const joining = (all: Timelines): EngineIdentity => {
    const current = currentTimeline(all);
    const partitions =
      wanted ?? (current ? PartitionSet.all.subtract(ownedPartitions(current)) : PartitionSet.all);
    return {
      ...fresh,
      ...(current ? { timeline: current.id } : {}),
      partitions: partitions.toString(),
      archive: { url: keptUrl(url), id: archive.id },
    };
  };
  for (;;) {
    const identity = joining(await archive.timelines());
    await writeIdentity(dir, identity);
    let changed = false;
    await archive.updateTimelines((all) => {
      const isDone = all.timelines.some((t) => t.streams.some((s) => s.engineId === fresh.engineId));
      const now = joining(all);
      // another engine joined meanwhile: what this one would take is not what its file says
      changed = !isDone && (now.timeline !== identity.timeline || now.partitions !== identity.partitions);
      return changed || isDone ? all : withEngine(all, identity, clock.nowMs());
    });
    if (!changed) return identity;
  }
};

/** Temporary file of an init that was killed. */
const isLeftOfInit = (name: string): boolean => name.startsWith(`.${IDENTITY_FILE}.`);

/** Removes `dir` and its parents up to `top` as long as they are empty. */
const removeEmpty = async (dir: string, top: string): Promise<void> => {
  for (let at = dir; at.startsWith(top); at = dirname(at)) {
    try {
      await fs.rmdir(at);
    } catch {
      return;
    }
  }
};

/** A hand-over opens the engine right after it has written the file; a killed one never does. */
const INCOMING_MS = 60 * 60 * 1000;

/** Removes the record files that killed hand-overs left. */
const removeIncoming = async (dir: string, names: readonly string[]): Promise<void> => {
  for (const name of names) {
    if (!/^incoming-[0-9a-f]+\.records$/.test(name)) continue;
    const path = join(dir, name);
    // what cannot be removed only takes space
    await fs
      .stat(path)
      // the file system's time, so not the engine's clock
      .then(({ mtimeMs }) => (Date.now() - mtimeMs > INCOMING_MS ? fs.unlink(path) : undefined))
      .catch(() => undefined);
  }
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
export const logDirOf = (dir: string): string => join(dir, LOG_DIR);

import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { acquireDirectoryLock, type DirectoryLock, writerLockPath } from '../engine/directory-lock.ts';
import { PitrError } from '../engine/errors.ts';
import { nodeFiles } from '../engine/files.ts';
import {
  type EngineIdentity,
  IDENTITY_FILE,
  LOG_DIR,
  writeFileDurably,
  writeIdentity,
} from '../engine/identity.ts';
import { STORE_DIR } from '../engine/store.ts';
import type { StatePlan } from '../snapshot/state-plan.ts';
import type { RangeResult } from './range-job.ts';
import type { Selection } from './selection.ts';

/** Says what was begun in a target directory; there until the restore is complete. */
const BEGUN_FILE = 'restoring.json';
/** How far it is; without it the restore starts over. */
const PROGRESS_FILE = 'restoring.progress';
/** Of both files. */
const FORMAT_VERSION = 2;
/** Changes when the system starts: what a process has written is still there after it was killed, but not after a power cut. */
const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';
/** The lock file, and what SQLite keeps beside it. */
const LOCK_NAME = basename(writerLockPath('.'));

/** What a restore makes: two that agree in this make the same. */
export interface Wanted {
  readonly archive: string;
  readonly timeline: string;
  readonly ts: number;
  readonly selection: Selection;
  readonly ttl: string;
}

interface Begun {
  readonly version: number;
  readonly wanted: Wanted;
  /** What `--ttl remaining` counts from, ms. */
  readonly nowMs: number;
  /** Of the system that has the written pages; null: unknown, nothing is taken over. */
  readonly boot: string | null;
}

/** What a target's store has. Written after the store's transaction, so that it never says more than there is. */
export interface Progress {
  /** The snapshot that the plan starts from, and what the source stated: a later plan may find others. */
  readonly base: string | null;
  readonly source: StatePlan['source'];
  /** Name of the load that made the store. */
  readonly load: string;
  /** Partitions that are complete, as text, in how many ranges, and what they came to. */
  readonly partitions: string;
  readonly ranges: number;
  readonly totals: RangeResult;
}

/**
 * The directory that a restore makes, held under the lock that an engine would take. It is absent or empty at first, or holds what an
 * interrupted restore of the very same state left (R1).
 */
export class RestoreTarget {
  readonly dir: string;
  /** When the restore began, ms: also of the one that this one goes on with. */
  readonly nowMs: number;
  /** How far an interrupted restore came. */
  readonly progress: Progress | undefined;
  readonly #lock: DirectoryLock;

  private constructor(dir: string, lock: DirectoryLock, nowMs: number, progress: Progress | undefined) {
    this.dir = dir;
    this.#lock = lock;
    this.nowMs = nowMs;
    this.progress = progress;
  }

  /**
   * Looks before it makes anything, and again under the lock: somebody else may have finished the same restore meanwhile.
   * @throws target-not-empty, target-begun, engine-busy, io
   */
  static async take(engineDir: string, wanted: Wanted, nowMs: number): Promise<RestoreTarget> {
    const dir = resolve(engineDir);
    await lookInto(dir, wanted);
    await fs.mkdir(dir, { recursive: true });
    const lock = await acquireDirectoryLock(writerLockPath(dir), { waitMs: 200 });
    if (!lock) throw new PitrError('engine-busy', { dir });
    try {
      const { begun, temporary } = await lookInto(dir, wanted);
      // first what makes it an engine: a part of one must never look like the whole
      await fs.rm(join(dir, IDENTITY_FILE), { force: true });
      await nodeFiles.syncDir(dir);
      for (const name of temporary) await fs.rm(join(dir, name), { force: true });
      const boot = bootId();
      const progress = begun && boot !== null && begun.boot === boot ? readProgress(dir) : undefined;
      const target = new RestoreTarget(dir, lock, begun?.nowMs ?? nowMs, progress);
      if (!progress) await target.#startOver({ version: FORMAT_VERSION, wanted, nowMs: target.nowMs, boot });
      return target;
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** The same target, with nothing in it. */
  async emptied(): Promise<RestoreTarget> {
    const begun = readBegun(this.dir);
    if (begun) await this.#startOver(begun);
    return new RestoreTarget(this.dir, this.#lock, this.nowMs, undefined);
  }

  /**
   * Records how far the store is. Not synced: it is of use only as long as the store's unsynced pages are there, and a kill leaves both.
   */
  record(progress: Progress): void {
    const temporary = join(this.dir, `.${PROGRESS_FILE}.next`);
    writeFileSync(temporary, JSON.stringify({ version: FORMAT_VERSION, ...progress }));
    renameSync(temporary, join(this.dir, PROGRESS_FILE));
  }

  /** What is there is not what it should be: the next restore of the same target starts over. */
  async distrust(): Promise<void> {
    await fs.rm(join(this.dir, PROGRESS_FILE), { force: true });
  }

  /** Makes the directory an engine: the last step. */
  async finish(identity: EngineIdentity): Promise<void> {
    await writeIdentity(this.dir, identity);
    await fs.rm(join(this.dir, PROGRESS_FILE), { force: true });
    await fs.rm(join(this.dir, BEGUN_FILE), { force: true });
  }

  release(): void {
    this.#lock.release();
  }

  async #startOver(begun: Begun): Promise<void> {
    await fs.rm(join(this.dir, PROGRESS_FILE), { force: true });
    await fs.rm(join(this.dir, STORE_DIR), { recursive: true, force: true });
    await writeFileDurably(this.dir, BEGUN_FILE, JSON.stringify(begun));
  }
}

/** What is in a target directory. @throws target-not-empty, target-begun when it is not what an interrupted restore of `wanted` left */
const lookInto = async (
  dir: string,
  wanted: Wanted,
): Promise<{ begun: Begun | undefined; temporary: string[] }> => {
  const found: string[] = await fs.readdir(dir).catch((cause) => {
    if (cause.code === 'ENOENT') return [];
    throw new PitrError('io', { op: 'open', path: dir, why: cause.code }, { cause });
  });
  // what a kill left of writing one of our own files
  const temporary = found.filter((n) =>
    [BEGUN_FILE, PROGRESS_FILE, IDENTITY_FILE].some((own) => n.startsWith(`.${own}.`)),
  );
  const names = found.filter((n) => !temporary.includes(n) && !n.startsWith(LOCK_NAME));
  if (names.length === 0) return { begun: undefined, temporary };
  const begun = readBegun(dir);
  // with a log it is an engine that somebody has opened since, although its marker stayed
  if (!begun || names.includes(LOG_DIR)) throw new PitrError('target-not-empty', { dir });
  if (JSON.stringify(begun.wanted) !== JSON.stringify(wanted))
    throw new PitrError('target-begun', { dir, begun: inWords(begun.wanted) });
  return { begun, temporary };
};

const readBegun = (dir: string): Begun | undefined => {
  const begun = readJson<Begun>(join(dir, BEGUN_FILE));
  return begun?.version === FORMAT_VERSION && begun.wanted ? begun : undefined;
};

const readProgress = (dir: string): Progress | undefined => {
  const progress = readJson<Progress & { version: number }>(join(dir, PROGRESS_FILE));
  return progress?.version === FORMAT_VERSION ? progress : undefined;
};

/** A file of ours, or undefined when it is not there or not whole. */
const readJson = <T>(path: string): T | undefined => {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
};

const bootId = (): string | null => {
  try {
    return readFileSync(BOOT_ID_FILE, 'utf8').trim();
  } catch {
    // not Linux: nothing says whether the system has been restarted
    return null;
  }
};

const inWords = ({ archive, timeline, ts, selection, ttl }: Wanted): string => {
  const filters = JSON.stringify(selection);
  return (
    `${new Date(ts).toISOString()} of timeline ${timeline} in archive ${archive}, void times ${ttl}` +
    (filters === '{}' ? '' : `, selection ${filters}`)
  );
};

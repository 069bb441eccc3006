/**
 * One writer per directory: a lock that the kernel holds and lets go when the process ends, however it ends.
 *
 * It is an exclusive SQLite transaction on an empty file, because Node has no file locks of its own and its SQLite takes
 * real ones (fcntl), and keeps its own table of them, so that two holders in one process exclude each other too.
 * A file with a process id would survive a SIGKILL, and the id may be another process's by then.
 *
 * The file is never deleted. Whoever deleted it would leave the holder with a lock on a file without a name, and the next
 * process would create a new file and lock that: two holders.
 *
 * Do not open the file with `fs` in a process that holds the lock: closing *any* descriptor of a file drops the fcntl locks
 * that the process has on it. (Another process may read it.)
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from './errors.ts';

const POLL_MS = 20;
/**
 * How long SQLite itself waits, blocking. Not 0: of two that start together, each would see the other's first step and
 * neither would win, and {@link isLocked} would make an acquirer fail. With it, the first past that step stays there.
 */
const SETTLE_MS = 5;
const SQLITE_BUSY = 5;

/** Referenced here for as long as they are held: a collected DatabaseSync closes, and would unlock silently. */
const held = new Set<DirectoryLock>();

/** A lock that is held. */
export interface HeldLock {
  readonly path: string;
  /** Lets go; a second call does nothing. */
  release(): void;
}

/** Where locks of directories come from: the kernel, or a simulation. */
export interface Locks {
  acquire(path: string, options?: { waitMs?: number }): Promise<HeldLock | undefined>;
  isLocked(path: string): boolean;
}

export class DirectoryLock implements HeldLock {
  readonly path: string;
  readonly #db: DatabaseSync;

  /** Use {@link acquireDirectoryLock}. `db` holds an exclusive transaction. */
  constructor(path: string, db: DatabaseSync) {
    this.path = path;
    this.#db = db;
    held.add(this);
  }

  release(): void {
    if (held.delete(this)) this.#db.close();
  }
}

/**
 * Takes the lock, trying for at least `waitMs` (default: one try). Creates the file, not its folder. On a busy machine one
 * try can fail because of a process that only looks, so a command that gives up for good should wait some 100 ms.
 * @returns `undefined` when somebody else still holds it
 * @throws `io` when the file cannot be opened or is not a lock file
 */
export async function acquireDirectoryLock(
  path: string,
  options: { waitMs?: number } = {},
): Promise<DirectoryLock | undefined> {
  const endMs = performance.now() + (options.waitMs ?? 0);
  for (;;) {
    const db = lockNow(path);
    if (db !== undefined) return new DirectoryLock(path, db);
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) return undefined;
    await sleep(Math.min(POLL_MS, leftMs));
  }
}

/** True when some process, this one included, holds the lock. It may have changed by the time that you look at the answer. */
export function isLocked(path: string): boolean {
  // Looking must not create the file.
  if (!existsSync(path)) return false;
  // A read takes a shared lock for an instant: refused by a holder, and unnoticed by it.
  const db = open(path, { readOnly: true });
  try {
    return !succeeds(path, () => db.prepare('SELECT 1 FROM sqlite_schema').get());
  } finally {
    db.close();
  }
}

/** Locks that the kernel of this machine holds. */
export const kernelLocks: Locks = { acquire: acquireDirectoryLock, isLocked };

function lockNow(path: string): DatabaseSync | undefined {
  const db = open(path, { timeout: SETTLE_MS });
  let locked = false;
  try {
    // Without a journal the lock leaves no second file that a killed holder's successor would have to replay.
    locked = succeeds(path, () => db.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE'));
  } finally {
    if (!locked) db.close();
  }
  return locked ? db : undefined;
}

function open(path: string, options: { readOnly?: boolean; timeout?: number }): DatabaseSync {
  try {
    return new DatabaseSync(path, options);
  } catch (cause) {
    throw failure(path, cause);
  }
}

/** False when the file is locked; every other failure throws, because it says nothing about the lock. */
function succeeds(path: string, run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch (cause) {
    // The low byte is the primary code; the rest says why it is busy.
    if (((cause as { errcode?: number }).errcode ?? 0) % 256 === SQLITE_BUSY) return false;
    throw failure(path, cause);
  }
}

const failure = (path: string, cause: unknown): PitrError =>
  new PitrError('io', { op: 'lock', path, why: (cause as Error).message }, { cause });

/** Lock file of the one writer of an engine directory. */
export const writerLockPath = (dir: string): string => join(dir, 'writer.lock');

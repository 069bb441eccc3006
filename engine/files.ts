/**
 * The few file operations on which durability depends, behind one interface, so that a test can drop, tear and fail them.
 * Everything the local log and the directory archive write goes through here; plain reads of configuration need not.
 */
import {
  close,
  constants,
  fdatasync,
  fstatSync,
  ftruncate as ftruncateFd,
  open,
  type Stats,
  writeSync,
  writev,
} from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';

/** An open file. Offsets and lengths are bytes. */
export interface OpenFile {
  /** Appends all of `bytes` or throws; after a failure the file must not be trusted. */
  append(bytes: Uint8Array): Promise<void>;
  /** Returns when everything appended so far is durable (fdatasync). */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** What a name leads to. */
export interface FileStat {
  /** False for a folder and everything else that has no bytes of its own. */
  readonly isFile: boolean;
  readonly isDirectory: boolean;
  readonly bytes: number;
  /** Permission bits. */
  readonly mode: number;
  /** Two names with the same id are links to the same file. */
  readonly id: string;
}

/** A file opened for reading: it stays readable when its name is removed. */
export interface ReadableFile {
  stat(): Promise<FileStat>;
  /** Reads into all of `into` from byte `at`; returns how many bytes there were, 0 only at the end. */
  readAt(into: Uint8Array, at: number): Promise<number>;
  setMode(mode: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * A file of which every append is durable when it returns. Zeros may be written ahead of it, so that a small append changes
 * no metadata of the file; {@link close} cuts them off. After a crash they are there: the reader must know where its content ends.
 */
export interface SyncedFile {
  /** Appends all of `bytes` and syncs, or throws; after a failure the file must not be trusted. */
  append(bytes: Uint8Array): Promise<void>;
  /**
   * The same, blocking until it is done: faster where the disk is faster than a thread is woken. False: nothing was done, it is
   * an append that would write more than `bytes` or change the file's size. Absent: this file has no such way.
   */
  appendNow?(bytes: Uint8Array): boolean;
  /** The file ends where its content does, durably. */
  close(): Promise<void>;
}

export interface Files {
  /** Creates a file that must not exist. Its name is durable only after {@link syncDir}. */
  createNew(path: string): Promise<OpenFile>;
  /** Opens an existing file and appends at its end. */
  openAppend(path: string): Promise<OpenFile>;
  /** Opens an existing file of `bytes` bytes for appends at its end. */
  openSynced(path: string, bytes: number): Promise<SyncedFile>;
  read(path: string): Promise<Buffer>;
  openRead(path: string): Promise<ReadableFile>;
  /** @throws ENOENT and others as the system has it */
  stat(path: string): Promise<FileStat>;
  /** Where a symbolic link leads; undefined for everything else, and for nothing. */
  readLink(path: string): Promise<string | undefined>;
  /** Names in a directory, sorted. @throws ENOENT as the system has it */
  list(dir: string): Promise<string[]>;
  /**
   * Makes one folder, durably; no harm if it is there. The one above must be: what vanished is not to come back half.
   * {@link makeDirs} makes those above, too.
   */
  makeDir(dir: string): Promise<void>;
  /** Makes names created, renamed or removed in `dir` durable. */
  syncDir(dir: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Hard link: fails with EEXIST if `to` exists. The atomic create-if-absent of the directory archive. */
  link(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Removes a folder that is empty. @throws ENOTEMPTY and others as the system has it */
  removeDir(dir: string): Promise<void>;
  truncate(path: string, bytes: number): Promise<void>;
}

/** A file that was deleted takes writes and syncs as before, and none of it is ever found again; 2 µs. @throws ENOENT */
const assertNamed = (fd: number): void => {
  if (fstatSync(fd).nlink === 0)
    throw Object.assign(new Error('the file was deleted while it was open'), { code: 'ENOENT' });
};

class NodeFile implements OpenFile {
  readonly #handle: fs.FileHandle;

  constructor(handle: fs.FileHandle) {
    this.#handle = handle;
  }

  async append(bytes: Uint8Array): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done);
      done += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    await this.#handle.datasync();
    assertNamed(this.#handle.fd);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

const fileStat = (stat: Stats): FileStat => ({
  isFile: stat.isFile(),
  isDirectory: stat.isDirectory(),
  bytes: stat.size,
  mode: stat.mode & 0o777,
  id: `${stat.dev}:${stat.ino}`,
});

class NodeReadableFile implements ReadableFile {
  readonly #handle: fs.FileHandle;

  constructor(handle: fs.FileHandle) {
    this.#handle = handle;
  }

  async stat(): Promise<FileStat> {
    return fileStat(await this.#handle.stat());
  }

  async readAt(into: Uint8Array, at: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, at + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  setMode(mode: number): Promise<void> {
    return this.#handle.chmod(mode);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** Zeros that are written behind a small append when it reaches the end of the file. */
const AHEAD_BYTES = 256 * 1024;
/** Larger appends are worth their own metadata: zeros would double what is written. */
const SMALL_BYTES = 64 * 1024;
const zeros = Buffer.alloc(AHEAD_BYTES);

/**
 * Write and sync are one system call where the kernel has that (O_DSYNC; libuv's fdatasync is the stronger one on macOS): each
 * hop to the thread pool costs as much as the sync itself on a fast disk. Overwriting zeros leaves the file's size alone, so
 * the file system has no metadata to commit (docs/performance-commits.md).
 */
const O_DSYNC = process.platform === 'linux' ? constants.O_DSYNC : 0;

class SyncedNodeFile implements SyncedFile {
  readonly #fd: number;
  /** Bytes of content, and of the file: what is between them is zeros. */
  #bytes: number;
  #fileBytes: number;
  #failed = false;
  #closed = false;

  constructor(fd: number, bytes: number) {
    this.#fd = fd;
    this.#bytes = bytes;
    this.#fileBytes = bytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    const end = this.#bytes + bytes.length;
    this.#failed = true;
    let done =
      end > this.#fileBytes && bytes.length < SMALL_BYTES
        ? await writeAt(this.#fd, [bytes, zeros], this.#bytes)
        : await writeAt(this.#fd, [bytes], this.#bytes);
    // not all of it on a disk that is almost full: then the zeros are what is left out
    while (done < bytes.length) done += await writeAt(this.#fd, [bytes.subarray(done)], this.#bytes + done);
    this.#fileBytes = Math.max(this.#fileBytes, this.#bytes + done);
    if (O_DSYNC === 0) await datasync(this.#fd);
    assertNamed(this.#fd);
    this.#bytes = end;
    this.#failed = false;
  }

  appendNow(bytes: Uint8Array): boolean {
    const end = this.#bytes + bytes.length;
    if (O_DSYNC === 0 || end > this.#fileBytes || bytes.length >= SMALL_BYTES) return false;
    this.#failed = true;
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.#fd, bytes, done, bytes.length - done, this.#bytes + done);
    assertNamed(this.#fd);
    this.#bytes = end;
    this.#failed = false;
    return true;
  }

  async close(): Promise<void> {
    // also after a close that failed: its descriptor may be another file's by now
    if (this.#closed) return;
    this.#closed = true;
    try {
      // after a failure nobody knows where the content ends: it stays as it is, for the next start to judge
      if (this.#fileBytes > this.#bytes && !this.#failed) {
        await ftruncate(this.#fd, this.#bytes);
        await datasync(this.#fd);
      }
    } finally {
      await closeFd(this.#fd);
    }
  }
}

// callbacks: a promise of fs/promises costs a commit several turns of the event loop's microtasks
const writeAt = (fd: number, buffers: readonly Uint8Array[], at: number): Promise<number> =>
  new Promise((resolve, reject) => {
    writev(fd, buffers, at, (error, written) => (error ? reject(error) : resolve(written)));
  });
const datasync = promisify(fdatasync);
const ftruncate = promisify(ftruncateFd);
const closeFd = promisify(close);

export const nodeFiles: Files = {
  createNew: async (path) =>
    new NodeFile(
      await fs.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND),
    ),
  openAppend: async (path) => new NodeFile(await fs.open(path, constants.O_WRONLY | constants.O_APPEND)),
  openSynced: async (path, bytes) =>
    new SyncedNodeFile(await promisify(open)(path, constants.O_WRONLY | O_DSYNC), bytes),
  read: (path) => fs.readFile(path),
  openRead: async (path) => new NodeReadableFile(await fs.open(path, 'r')),
  stat: async (path) => fileStat(await fs.stat(path)),
  readLink: (path) =>
    fs.readlink(path).then(
      (target) => target,
      () => undefined,
    ),
  list: async (dir) => (await fs.readdir(dir)).sort(),
  makeDir: async (dir) => {
    await fs.mkdir(dir).catch((error) => {
      if (error.code !== 'EEXIST') throw error;
    });
    // also of one that was there: another process may have made it and not synced yet
    await nodeFiles.syncDir(dirname(dir));
  },
  syncDir: async (dir) => {
    const handle = await fs.open(dir, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
  rename: (from, to) => fs.rename(from, to),
  link: (from, to) => fs.link(from, to),
  remove: (path) => fs.unlink(path),
  removeDir: (dir) => fs.rmdir(dir),
  truncate: async (path, bytes) => {
    const handle = await fs.open(path, 'r+');
    try {
      await handle.truncate(bytes);
      await handle.datasync();
    } finally {
      await handle.close();
    }
  },
};

/** Makes a folder and the missing ones above it, with durable names. Returns the first that it made. */
export const makeDirs = async (files: Files, dir: string): Promise<string | undefined> => {
  const path = resolve(dir);
  if (await isThere(files, path)) return undefined;
  const above = dirname(path);
  const made = above === path ? undefined : await makeDirs(files, above);
  await files.makeDir(path);
  return made ?? path;
};

const isThere = (files: Files, path: string): Promise<boolean> =>
  files.stat(path).then(
    () => true,
    (error) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );

/** Removes a file; no harm if it is not there. */
export const removeIfThere = (files: Files, path: string): Promise<void> =>
  files.remove(path).catch((error) => {
    if (error.code !== 'ENOENT') throw error;
  });

/**
 * The few file operations on which durability depends, behind one interface, so that a test can drop, tear and fail them.
 * Everything the local log and the directory archive write goes through here; plain reads of configuration need not.
 */
import { constants, type Stats } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

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

export interface Files {
  /** Creates a file that must not exist. Its name is durable only after {@link syncDir}. */
  createNew(path: string): Promise<OpenFile>;
  /** Opens an existing file and appends at its end. */
  openAppend(path: string): Promise<OpenFile>;
  read(path: string): Promise<Buffer>;
  openRead(path: string): Promise<ReadableFile>;
  /** @throws ENOENT and others as the system has it */
  stat(path: string): Promise<FileStat>;
  /** Names in a directory, sorted. @throws ENOENT as the system has it */
  list(dir: string): Promise<string[]>;
  /** Makes a folder and the missing ones above it, with durable names. Returns the first that it made. */
  makeDir(dir: string): Promise<string | undefined>;
  /** Makes names created, renamed or removed in `dir` durable. */
  syncDir(dir: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Hard link: fails with EEXIST if `to` exists. The atomic create-if-absent of the directory archive. */
  link(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  truncate(path: string, bytes: number): Promise<void>;
}

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

  sync(): Promise<void> {
    return this.#handle.datasync();
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

export const nodeFiles: Files = {
  createNew: async (path) =>
    new NodeFile(
      await fs.open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND),
    ),
  openAppend: async (path) => new NodeFile(await fs.open(path, constants.O_WRONLY | constants.O_APPEND)),
  read: (path) => fs.readFile(path),
  openRead: async (path) => new NodeReadableFile(await fs.open(path, 'r')),
  stat: async (path) => fileStat(await fs.stat(path)),
  list: async (dir) => (await fs.readdir(dir)).sort(),
  makeDir: async (dir) => {
    const made = await fs.mkdir(dir, { recursive: true });
    // of what was there already too: another process may have made it and not synced yet
    const above = dirname(resolve(made ?? dir));
    for (let at = resolve(dir); at !== above; at = dirname(at)) await nodeFiles.syncDir(dirname(at));
    return made;
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

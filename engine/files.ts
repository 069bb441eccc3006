/**
 * The few file operations on which durability depends, behind one interface, so that a test can drop, tear and fail them.
 * Everything the local log and the directory archive write goes through here; plain reads of configuration need not.
 */
import { constants, fstatSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname } from 'node:path';

/** An open file. Offsets and lengths are bytes. */
export interface OpenFile {
  /** Appends all of `bytes` or throws; after a failure the file must not be trusted. */
  append(bytes: Uint8Array): Promise<void>;
  /** Returns when everything appended so far is durable (fdatasync). */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Files {
  /** Creates a file that must not exist. Its name is durable only after {@link syncDir}. */
  createNew(path: string): Promise<OpenFile>;
  /** Opens an existing file and appends at its end. */
  openAppend(path: string): Promise<OpenFile>;
  read(path: string): Promise<Buffer>;
  /** Names in a directory, sorted. @throws ENOENT as the system has it */
  list(dir: string): Promise<string[]>;
  /** Makes one folder, durably; no harm if it is there. The one above must be: what vanished is not to come back half. */
  makeDir(dir: string): Promise<void>;
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

  async sync(): Promise<void> {
    await this.#handle.datasync();
    // a file that was deleted takes writes and syncs as before, and none of it is ever found again; 2 µs
    if (fstatSync(this.#handle.fd).nlink === 0)
      throw Object.assign(new Error('the file was deleted while it was open'), { code: 'ENOENT' });
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
  list: async (dir) => (await fs.readdir(dir)).sort(),
  makeDir: async (dir) => {
    await fs.mkdir(dir).catch((error) => {
      if (error.code !== 'EEXIST') throw error;
    });
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

import * as fs from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { SealedFile } from '../engine/commit-log.ts';
import { PitrError } from '../engine/errors.ts';
import { type Files, removeIfThere } from '../engine/files.ts';
import { logFileName, logFilesIn } from './log-file.ts';

/**
 * Where sealed log files go that are over the quota: `DIR/ENGINE-ID/000000000012.wal`. In the log directory a symbolic link of
 * the same name takes their place, so order, chain, recovery and archiver are what they were.
 *
 * Order: copy, synced under its name → link, renamed over the file. Away: link first, by the log's trim, then the copy. A copy
 * without a link is what a crash left, and is removed.
 */
export class SpillDir {
  readonly #logDir: string;
  readonly #engineId: string;
  readonly #files: Files;
  /** By sequence: the copy and its bytes. */
  readonly #spilled = new Map<number, { readonly path: string; readonly bytes: number }>();
  #bytes = 0;
  #seen = false;
  #swept = '';
  #dir: string | null = null;

  constructor(logDir: string, engineId: string, files: Files) {
    this.#logDir = logDir;
    this.#engineId = engineId;
    this.#files = files;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(sequence: number): boolean {
    return this.#spilled.has(sequence);
  }

  /** Takes note of what is spilled, and removes copies of files that the log has let go of. */
  async look(dir: string | null, sealed: readonly SealedFile[]): Promise<void> {
    this.#dir = dir === null ? null : join(resolve(dir), this.#engineId);
    if (!this.#seen) await this.#findLinks(sealed);
    const oldest = sealed[0]?.sequence ?? Number.POSITIVE_INFINITY;
    for (const [sequence, { path, bytes }] of this.#spilled) {
      if (sequence >= oldest) break;
      // what cannot be removed now is swept by the next writer
      await this.#files.remove(path).catch(() => undefined);
      this.#spilled.delete(sequence);
      this.#bytes -= bytes;
    }
    if (this.#dir !== null && this.#swept !== this.#dir) await this.#sweep(this.#dir);
  }

  /** Moves a sealed file. @throws what the file system says; then the file is where it was */
  async take({ sequence, bytes }: SealedFile): Promise<void> {
    if (this.#dir === null) return;
    const name = logFileName(sequence, true);
    const [from, to] = [join(this.#logDir, name), join(this.#dir, name)];
    // not the directory itself: if it is gone, its file system is not mounted
    await fs.access(dirname(this.#dir));
    await this.#files.makeDir(this.#dir);
    const temporary = `${to}.new`;
    await removeIfThere(this.#files, temporary);
    const file = await this.#files.createNew(temporary);
    try {
      await file.append(await this.#files.read(from));
      await file.sync();
    } finally {
      await file.close();
    }
    await this.#files.rename(temporary, to);
    await this.#files.syncDir(this.#dir);
    const link = `${from}.link`;
    await removeIfThere(this.#files, link);
    await fs.symlink(to, link);
    await this.#files.rename(link, from);
    await this.#files.syncDir(this.#logDir);
    this.#spilled.set(sequence, { path: to, bytes });
    this.#bytes += bytes;
  }

  async #findLinks(sealed: readonly SealedFile[]): Promise<void> {
    for (const { sequence, bytes } of sealed) {
      const path = await this.#files.readLink(join(this.#logDir, logFileName(sequence, true)));
      if (path === undefined) continue;
      this.#spilled.set(sequence, { path, bytes });
      this.#bytes += bytes;
    }
    this.#seen = true;
  }

  /** Removes the copies that no link names. */
  async #sweep(dir: string): Promise<void> {
    this.#swept = dir;
    const names: string[] = await fs.readdir(dir).catch(() => []);
    // a copy with a link may be there under another path: its directory may have several names
    for (const { name, sealed, sequence } of logFilesIn(names))
      if (sealed && !this.#spilled.has(sequence))
        await this.#files.remove(join(dir, name)).catch(() => undefined);
  }
}

/** To be asked when a log file that was listed is not there. @throws spill-missing when it is one that was spilled */
export const assertNotSpilled = async (path: string, files: Files): Promise<void> => {
  const target = await files.readLink(path);
  if (target !== undefined) throw new PitrError('spill-missing', { path, target });
};

/** What killed writers leave in a directory archive: temporary files, folders without files, values of swapped objects. */
import { dirname, join } from 'node:path';
import { PitrError } from './errors.ts';
import type { FileStat, Files } from './files.ts';
import { isNamePart, RESERVED_FOLDER as TEMP } from './object-name.ts';
import type { Leftover, Leftovers } from './object-store.ts';
import { isSwapNumber, outdatedNumbers } from './swap-number.ts';

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** There no more, or not empty any more: somebody else's business. */
const PASSED: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTEMPTY', 'EEXIST', 'EBUSY']);

export class DirectoryLeftovers implements Leftovers {
  readonly #root: string;
  readonly #files: Files;

  constructor(root: string, files: Files) {
    this.#root = root;
    this.#files = files;
  }

  async *list(): AsyncGenerator<readonly Leftover[]> {
    yield await this.#temporary();
    for (const part of await this.#namesIn(this.#root)) {
      if (!isNamePart(part) || part === TEMP) continue;
      const path = join(this.#root, part);
      if ((await this.#stat(path))?.isDirectory) yield* this.#below(path, part);
    }
  }

  async remove(leftovers: readonly Leftover[]): Promise<{ name: string; cause: unknown }[]> {
    const failures: { name: string; cause: unknown }[] = [];
    // what is deeper goes first: a folder is empty only after the folders in it
    for (const { kind, id } of leftovers.toSorted((a, b) => b.id.length - a.id.length)) {
      const path = join(this.#root, id);
      try {
        if (kind === 'folder') await this.#files.removeDir(path);
        else await this.#files.remove(path);
        await this.#files.syncDir(dirname(path));
      } catch (cause) {
        if (PASSED.has(codeOf(cause))) continue;
        failures.push({ name: id, cause: ioError('remove', path, cause) });
      }
    }
    return failures;
  }

  async #temporary(): Promise<Leftover[]> {
    const found: Leftover[] = [];
    for (const part of await this.#namesIn(join(this.#root, TEMP))) {
      const stat = await this.#stat(join(this.#root, TEMP, part));
      if (stat?.isFile)
        found.push({ kind: 'temporary', id: `${TEMP}/${part}`, name: undefined, bytes: stat.bytes });
    }
    return found;
  }

  /** Returns whether there is any file in the folder or below it. */
  async *#below(dir: string, id: string): AsyncGenerator<readonly Leftover[], boolean> {
    const parts = await this.#namesIn(dir);
    let hasFiles = false;
    for (const part of parts) {
      const path = join(dir, part);
      const stat = await this.#stat(path);
      // also what no object can be called: it is somebody's
      if (!stat?.isDirectory) hasFiles ||= stat !== undefined;
      else if (yield* this.#below(path, `${id}/${part}`)) hasFiles = true;
    }
    const outdated: Leftover[] = [];
    for (const number of outdatedNumbers(parts.filter(isSwapNumber))) {
      const stat = await this.#stat(join(dir, number));
      if (stat?.isFile) outdated.push({ kind: 'value', id: `${id}/${number}`, name: id, bytes: stat.bytes });
    }
    if (outdated.length > 0) yield outdated;
    if (!hasFiles) yield [{ kind: 'folder', id, name: id, bytes: 0 }];
    return hasFiles;
  }

  async #namesIn(dir: string): Promise<string[]> {
    return (await this.#unlessAbsent('list', dir, () => this.#files.list(dir))) ?? [];
  }

  #stat(path: string): Promise<FileStat | undefined> {
    return this.#unlessAbsent('stat', path, () => this.#files.stat(path));
  }

  #unlessAbsent<T>(op: string, path: string, run: () => Promise<T>): Promise<T | undefined> {
    return run().catch((cause) => {
      if (codeOf(cause) === 'ENOENT') return undefined;
      throw ioError(op, path, cause);
    });
  }
}

const ioError = (op: string, path: string, cause: unknown): PitrError =>
  new PitrError('io', { op, path, why: codeOf(cause) ?? String(cause) }, { cause });

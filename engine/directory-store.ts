/**
 * An archive in a directory: a local disk, or a mounted file system that has hard links.
 *
 *     <dir>/.tmp/<random>              being written; invisible, may be left behind by a crash
 *     <dir>/stream/a/000.seg           an object
 *     <dir>/stream/a/head/000000000007 the 7th value of the swappable object `stream/a/head`
 *
 * D1: a name appears only when its bytes are complete and durable (write, fdatasync, then link).
 * D2: link(2) fails if the name exists, so of several creators exactly one wins and nothing is overwritten.
 * D3: create and swap return only when the name, and the names of the folders above it, are durable.
 * D4: the highest number of a swappable object never decreases; only numbers below highest - KEEP are removed.
 * D5: an instance makes a folder once. One that is gone later is an error and not made anew: what is there then is another place.
 */
import { randomUUID } from 'node:crypto';
import { dirname, join, resolve } from 'node:path';
import { DirectoryLeftovers } from './directory-leftovers.ts';
import { PitrError } from './errors.ts';
import { type Files, nodeFiles } from './files.ts';
import { checkFolder, checkName, checkRange, isNamePart, RESERVED_FOLDER as TEMP } from './object-name.ts';
import type { Leftovers, ObjectStore, StoredObject } from './object-store.ts';
import { isSwapNumber, SWAP_NUMBERS_KEPT as KEEP, outdatedNumbers } from './swap-number.ts';

const READ_SWAP_TRIES_MAX = 100; // each means that more than KEEP swaps overtook the reader
/** Mode of a swap file that a successor has seen as the highest: see {@link DirectoryStore.swap}. */
const CONFIRMED_MODE = 0o444;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

const ioError = (op: string, path: string, cause: unknown): PitrError =>
  new PitrError('io', { op, path, why: codeOf(cause) ?? String(cause) }, { cause });

/** Runs one system call and names it if it fails. */
const attempt = <T>(op: string, path: string, run: () => Promise<T>): Promise<T> =>
  run().catch((cause) => {
    throw ioError(op, path, cause);
  });

/** The same; `undefined` when there is nothing at `path`. */
const unlessAbsent = <T>(op: string, path: string, run: () => Promise<T>): Promise<T | undefined> =>
  attempt(op, path, () =>
    run().catch((cause) => (codeOf(cause) === 'ENOENT' ? undefined : Promise.reject(cause))),
  );

export class DirectoryStore implements ObjectStore {
  readonly url: string;
  readonly leftovers: Leftovers;
  readonly #root: string;
  readonly #files: Files;
  readonly #random: () => string;
  readonly #durable = new Set<string>(); // folders that were there, or whose names this instance has made durable

  constructor(options: { dir: string; url?: string; files?: Files; random?: () => string }) {
    // Resolved once: a later chdir must not move the archive.
    this.#root = resolve(options.dir);
    this.url = options.url ?? `file:${this.#root}`;
    this.#files = options.files ?? nodeFiles;
    this.#random = options.random ?? randomUUID;
    this.leftovers = new DirectoryLeftovers(this.#root, this.#files);
  }

  async create(name: string, bytes: Uint8Array): Promise<void> {
    const path = this.#pathOf(name);
    await this.#withTemp(bytes, async (temp) => {
      if (!(await this.#link(temp, path))) throw new PitrError('object-exists', { name });
    });
  }

  async read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    const path = this.#pathOf(name);
    checkRange(range);
    const bytes = await readRange(this.#files, path, range);
    if (bytes === undefined) throw new PitrError('object-not-found', { name });
    return bytes;
  }

  async size(name: string): Promise<number | undefined> {
    const path = this.#pathOf(name);
    const stat = await unlessAbsent('stat', path, () => this.#files.stat(path));
    // A folder (of objects, or of swap numbers) is no object, but its name is taken: "absent" would be a lie.
    if (stat && !stat.isFile) throw new PitrError('io', { op: 'stat', path, why: 'not a file' });
    return stat?.bytes;
  }

  async list(prefix: string): Promise<StoredObject[]> {
    const found: StoredObject[] = [];
    for await (const page of this.pages(prefix)) found.push(...page);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** A piece is what lies in one folder. */
  async *pages(prefix: string): AsyncGenerator<readonly StoredObject[]> {
    checkFolder(prefix);
    const top = prefix === '' ? this.#root : this.#pathOf(prefix.slice(0, -1));
    const names = await unlessAbsent('list', top, () => this.#files.list(top));
    if (names !== undefined) yield* this.#walk(top, prefix, names);
    else if ((await unlessAbsent('stat', this.#root, () => this.#files.stat(this.#root))) === undefined) {
      // An unmounted archive must not look like an empty one.
      throw new PitrError('archive-not-found', { url: this.url });
    }
  }

  async *#walk(
    dir: string,
    above: string,
    names: readonly string[],
  ): AsyncGenerator<readonly StoredObject[]> {
    const here: StoredObject[] = [];
    for (const part of names) {
      // What no object can be called is not ours (lost+found, an editor's backup) and may even be unreadable.
      if (!isNamePart(part) || (above === '' && part === TEMP)) continue;
      const path = join(dir, part);
      const stat = await unlessAbsent('stat', path, () => this.#files.stat(path));
      // Deleted since the folder was listed.
      if (stat === undefined) continue;
      if (stat.isFile) here.push({ name: above + part, bytes: stat.bytes });
      else if (stat.isDirectory) {
        const below = await unlessAbsent('list', path, () => this.#files.list(path));
        if (below !== undefined) yield* this.#walk(path, `${above}${part}/`, below);
      }
    }
    if (here.length > 0) yield here;
  }

  async delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    const failures: { name: string; cause: unknown }[] = [];
    const removed: string[] = [];
    for (const name of names) {
      try {
        const path = this.#pathOf(name);
        await unlessAbsent('remove', path, () => this.#files.remove(path));
        removed.push(name);
      } catch (cause) {
        failures.push({ name, cause });
      }
    }
    // Callers delete the manifest, then what it names. Without this a power cut could keep the first and lose the second.
    for (const [dir, siblings] of Map.groupBy(removed, (name) => dirname(this.#pathOf(name)))) {
      await unlessAbsent('sync', dir, () => this.#files.syncDir(dir)).catch((cause) => {
        failures.push(...siblings.map((name) => ({ name, cause })));
      });
    }
    return failures;
  }

  async readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    const dir = this.#pathOf(name);
    for (let tries = 0; tries < READ_SWAP_TRIES_MAX; tries++) {
      const tag = (await this.#swapNumbers(dir)).at(-1);
      if (tag === undefined) return undefined;
      const bytes = await readRange(this.#files, join(dir, tag));
      if (bytes !== undefined) return { bytes, tag };
      // Trimmed between list and open: more than KEEP swaps happened, so the value is in a newer file. Look again.
    }
    throw new PitrError('io', { op: 'read', path: dir, why: 'overtaken by swaps at every try' });
  }

  /**
   * Compare and swap without a lock: number n + 1 can be linked once, by whoever replaces number n.
   *
   * Once a number is trimmed, link no longer refuses it, and a writer that slept since before could re-create it. It then
   * sees a far higher number, but so does a writer that won and slept afterwards. The mode tells them apart: whoever
   * replaces n first marks the file that is n *while n is the highest*, which a re-created n never is again.
   */
  async swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    const dir = this.#pathOf(name);
    if (expected !== undefined && !isSwapNumber(expected)) {
      throw new PitrError('usage', { what: `${JSON.stringify(expected)} is not a tag of ${name}` });
    }
    const mine = String(Number(expected ?? 0) + 1).padStart(12, '0');
    const conflict = () => new PitrError('cas-conflict', { name });
    const numbers = await this.#withTemp(bytes, async (temp) => {
      // 1. Expected must be the highest: refuses a stale writer before it links anything, and never leaves a hole.
      if (expected === undefined) {
        if ((await this.#swapNumbers(dir)).length > 0) throw conflict();
      } else if (!(await this.#confirmHighest(dir, expected))) throw conflict();
      // 2. Decides between all writers that passed 1 with the same tag.
      if (!(await this.#link(temp, join(dir, mine)))) throw conflict();
      // 3. Were we asleep between 1 and 2 for so long that our number had been used and trimmed?
      const after = await this.#swapNumbers(dir);
      if (Number(after.at(-1)) >= Number(mine) + KEEP) {
        const { mode } = await attempt('stat', temp, () => this.#files.stat(temp));
        if (mode !== CONFIRMED_MODE) {
          // No reader looks this far down, so if this fails it can wait for the next trim.
          await this.#files.remove(join(dir, mine)).catch(() => {});
          throw conflict();
        }
      }
      return after;
    });
    // 4. Best effort: the swap is durable already. Who has opened one of these keeps it; who has only listed it looks again.
    for (const number of outdatedNumbers(numbers)) {
      await this.#files.remove(join(dir, number)).catch(() => {});
    }
    return mine;
  }

  /** True when `tag` is the highest number; its file is then marked as confirmed. */
  async #confirmHighest(dir: string, tag: string): Promise<boolean> {
    const path = join(dir, tag);
    // Opened before listing: if the list then says that this number is the highest, this file never was a re-created one.
    const handle = await unlessAbsent('open', path, () => this.#files.openRead(path));
    if (handle === undefined) return false;
    try {
      if ((await this.#swapNumbers(dir)).at(-1) !== tag) return false;
      // Refused when another user owns the file. Then a winner that sleeps through KEEP swaps is told of a conflict.
      await handle.setMode(CONFIRMED_MODE).catch(() => {});
      return true;
    } finally {
      await handle.close();
    }
  }

  /** The numbers of a swappable object, ascending. Not there yet: none. Not readable: throws, or it would be initialised again. */
  async #swapNumbers(dir: string): Promise<string[]> {
    return ((await unlessAbsent('list', dir, () => this.#files.list(dir))) ?? []).filter(isSwapNumber).sort();
  }

  #pathOf(name: string): string {
    checkName(name);
    return join(this.#root, name);
  }

  /** Writes a temporary file that is durable when `use` sees it, and removes it afterwards. */
  async #withTemp<T>(bytes: Uint8Array, use: (temp: string) => Promise<T>): Promise<T> {
    const temp = join(this.#root, TEMP, this.#random());
    await this.#ensureDir(dirname(temp));
    const file = await attempt('create', temp, () => this.#files.createNew(temp));
    try {
      try {
        await attempt('write', temp, () => file.append(bytes));
        // Before any name points here: after a power cut, a name must never lead to missing bytes.
        await attempt('sync', temp, () => file.sync());
      } finally {
        await attempt('close', temp, () => file.close());
      }
      return await use(temp);
    } finally {
      // Best effort: the outcome is decided already, and a leftover is invisible.
      await this.#files.remove(temp).catch(() => {});
    }
  }

  /**
   * Gives the temporary file its durable name; false when the name is taken. If the folder cannot be synced the name stays:
   * it may have been seen. The caller gets `io`, which means that the outcome is unknown.
   */
  async #link(temp: string, path: string): Promise<boolean> {
    await this.#ensureDir(dirname(path));
    try {
      await this.#files.link(temp, path);
    } catch (cause) {
      if (codeOf(cause) !== 'EEXIST') throw ioError('link', path, cause);
      // NFS repeats a call whose answer was lost, and the repeated one finds our own link.
      const [ours, theirs] = await Promise.all([this.#files.stat(temp), this.#files.stat(path)]).catch(
        () => [],
      );
      if (!ours || ours.id !== theirs?.id) {
        // Who finds the name taken builds on it, also on one whose creator was killed before its sync.
        await attempt('sync', dirname(path), () => this.#files.syncDir(dirname(path)));
        return false;
      }
    }
    await attempt('sync', dirname(path), () => this.#files.syncDir(dirname(path)));
    return true;
  }

  /** Makes a folder and the missing ones above it, with durable names. */
  async #ensureDir(dir: string): Promise<void> {
    if (this.#durable.has(dir)) return;
    const outside = !dir.startsWith(`${this.#root}/`);
    // At and above the root, what exists was made by an administrator, and may lie in a folder that we cannot open.
    const isThere = outside && (await unlessAbsent('stat', dir, () => this.#files.stat(dir))) !== undefined;
    if (!isThere) {
      await this.#ensureDir(dirname(dir));
      // Below it, a folder that exists may be another process's that has not synced it yet: makeDir syncs its parent anyway.
      await attempt('mkdir', dir, () => this.#files.makeDir(dir));
    } else if (dir === this.#root) {
      // Objects that a killed process left at the top are built upon by reading them: they must not go away under that.
      await attempt('sync', dir, () => this.#files.syncDir(dir));
    }
    // What was there once is never made again: a root that vanishes was unmounted, and what was made below it would be lost.
    this.#durable.add(dir);
  }
}

/** The bytes `[start, end)` of a file, cut at its end; `undefined` when there is no such file. */
async function readRange(
  files: Files,
  path: string,
  range?: { start: number; end?: number },
): Promise<Buffer | undefined> {
  const file = await unlessAbsent('open', path, () => files.openRead(path));
  if (file === undefined) return undefined;
  try {
    const stat = await attempt('stat', path, () => file.stat());
    if (!stat.isFile) throw new PitrError('io', { op: 'read', path, why: 'not a file' });
    const from = range?.start ?? 0;
    const start = Math.min(stat.bytes, from < 0 ? Math.max(0, stat.bytes + from) : from);
    const bytes = Buffer.allocUnsafe(Math.min(stat.bytes, range?.end ?? stat.bytes) - start);
    const done = await attempt('read', path, () => file.readAt(bytes, start));
    // Objects never shrink: handing out less than asked for would look like a short object.
    if (done < bytes.length) throw new PitrError('io', { op: 'read', path, why: 'shorter than its size' });
    return bytes;
  } finally {
    await file.close();
  }
}

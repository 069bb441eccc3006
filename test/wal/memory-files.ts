/**
 * Files in memory that know what is durable: what a power cut leaves is what was synced, of files and of names. Every call
 * can be made the last one, so that a test stops a writer between any two.
 */
import { dirname, join } from 'node:path';
import type { FileStat, Files, OpenFile, ReadableFile, SyncedFile } from '../../engine/files.ts';

/** Bytes that were written at `at` and not synced yet. */
export interface UnsyncedWrite {
  readonly at: number;
  readonly bytes: Buffer;
}

interface Inode {
  bytes: Buffer;
  /** What a power cut cannot take: the content at the last sync. */
  durable: Buffer;
  /** In order, since then. */
  writes: UnsyncedWrite[];
  mode: number;
  /** Where the content of a file with zeros ahead ends. */
  content?: number;
}

/** A change of names that its folder has not synced yet. */
type NameChange =
  | { readonly kind: 'add'; readonly path: string; readonly inode: Inode }
  | { readonly kind: 'remove'; readonly path: string }
  | { readonly kind: 'rename'; readonly path: string; readonly to: string; readonly inode: Inode };

/** One file of a {@link PowerCut}. */
export interface CutFile {
  readonly durable: Buffer;
  readonly writes: readonly UnsyncedWrite[];
}

/**
 * A moment at which the power may go: what is durable, and what was done since and may be lost in any part. Files are named
 * by their index. power-cut.ts makes of it what a machine may find when it starts again.
 */
export interface PowerCut {
  readonly files: readonly CutFile[];
  readonly names: ReadonlyMap<string, number>;
  readonly changes: readonly (
    | { readonly kind: 'add'; readonly path: string; readonly file: number }
    | { readonly kind: 'remove'; readonly path: string }
    | { readonly kind: 'rename'; readonly path: string; readonly to: string; readonly file: number }
  )[];
  readonly dirs: ReadonlySet<string>;
}

/** Zeros that are written ahead, as the real file layer does it, only fewer. */
const AHEAD_BYTES = 100;

const failure = (code: string): Error => Object.assign(new Error(code), { code });

/** Operations that change something: those after which a crash is worth trying. */
export type Operation =
  | 'createNew'
  | 'append'
  | 'sync'
  | 'close'
  | 'openAppend'
  | 'openSynced'
  | 'rename'
  | 'link'
  | 'remove'
  | 'truncate'
  | 'syncDir'
  | 'makeDir';

const inodeOf = (bytes: Buffer): Inode => ({ bytes, durable: bytes, writes: [], mode: 0o644 });

export class MemoryFiles implements Files {
  readonly #names: Map<string, Inode>;
  readonly #durable: Map<string, Inode>;
  #changes: NameChange[] = [];
  readonly #dirs: Set<string>;
  operations = 0;
  /** Called before each operation; throws what the caller shall see. */
  before: (operation: Operation, path: string) => void = () => undefined;

  /** Files with this content, all of it durable. */
  constructor(
    content: ReadonlyMap<string, Buffer> = new Map(),
    dirs: ReadonlySet<string> = new Set<string>(),
  ) {
    this.#names = new Map([...content].map(([path, bytes]) => [path, inodeOf(bytes)]));
    this.#durable = new Map(this.#names);
    this.#dirs = new Set(dirs);
  }

  /** What a process that starts after a SIGKILL of this one finds: everything written, synced or not. */
  afterKill(): MemoryFiles {
    const copies = new Map<Inode, Inode>();
    const copy = (inode: Inode): Inode => {
      let it = copies.get(inode);
      if (!it) {
        it = { ...inode, writes: [...inode.writes] };
        copies.set(inode, it);
      }
      return it;
    };
    const next = new MemoryFiles(new Map(), this.#dirs);
    for (const [path, inode] of this.#names) next.#names.set(path, copy(inode));
    for (const [path, inode] of this.#durable) next.#durable.set(path, copy(inode));
    next.#changes = this.#changes.map((c) => (c.kind === 'remove' ? c : { ...c, inode: copy(c.inode) }));
    return next;
  }

  /** The power goes now. */
  cut(): PowerCut {
    const files: CutFile[] = [];
    const indices = new Map<Inode, number>();
    const indexOf = (inode: Inode): number => {
      let index = indices.get(inode);
      if (index === undefined) {
        index = files.push({ durable: inode.durable, writes: [...inode.writes] }) - 1;
        indices.set(inode, index);
      }
      return index;
    };
    return {
      files,
      names: new Map([...this.#durable].map(([path, inode]) => [path, indexOf(inode)])),
      changes: this.#changes.map((c) => {
        if (c.kind === 'remove') return c;
        const { inode, ...rest } = c;
        return { ...rest, file: indexOf(inode) };
      }),
      dirs: new Set(this.#dirs),
    };
  }

  /** The plain power cut: durable names, and of each file its synced bytes; `keep` chooses how many of those appended since. */
  afterPowerCut(keep: (unsynced: number) => number): MemoryFiles {
    const content = new Map<string, Buffer>();
    for (const [path, { bytes, durable, writes }] of this.#durable) {
      const start = Math.min(durable.length, ...writes.map((w) => w.at));
      const kept = bytes.subarray(0, start + keep(bytes.length - start));
      content.set(path, Buffer.concat([kept, durable.subarray(kept.length)]));
    }
    return new MemoryFiles(content, this.#dirs);
  }

  /** An independent copy of everything, all of it durable. */
  copy(): MemoryFiles {
    return new MemoryFiles(new Map([...this.#names].map(([path, { bytes }]) => [path, bytes])), this.#dirs);
  }

  bytesOf(path: string): Buffer {
    return this.#inode(path).bytes;
  }

  /** Bytes of a file without the zeros that were written ahead of it. */
  contentOf(path: string): Buffer {
    const { bytes, content } = this.#inode(path);
    return bytes.subarray(0, content);
  }

  put(path: string, bytes: Buffer): void {
    const inode = inodeOf(Buffer.from(bytes));
    this.#names.set(path, inode);
    this.#durable.set(path, inode);
  }

  delete(path: string): void {
    this.#names.delete(path);
    this.#durable.delete(path);
  }

  namesIn(dir: string): string[] {
    return [...this.#names.keys()]
      .filter((p) => dirname(p) === dir)
      .map((p) => p.slice(dir.length + 1))
      .sort();
  }

  async createNew(path: string): Promise<OpenFile> {
    this.#step('createNew', path);
    if (this.#names.has(path)) throw failure('EEXIST');
    const inode = inodeOf(Buffer.alloc(0));
    this.#names.set(path, inode);
    this.#changes.push({ kind: 'add', path, inode });
    return this.#open(inode, path);
  }

  async openAppend(path: string): Promise<OpenFile> {
    this.#step('openAppend', path);
    return this.#open(this.#inode(path), path);
  }

  async openSynced(path: string, start: number): Promise<SyncedFile> {
    this.#step('openSynced', path);
    const inode = this.#inode(path);
    let end = start;
    return {
      append: async (bytes) => {
        this.#step('append', path);
        // a real write reads the buffer later
        await Promise.resolve();
        const before = inode.bytes;
        const ahead = end + bytes.length > before.length ? AHEAD_BYTES : 0;
        const written = Buffer.concat([bytes, Buffer.alloc(ahead)]);
        inode.writes.push({ at: end, bytes: written });
        const after = before.subarray(end + written.length);
        inode.bytes = Buffer.concat([before.subarray(0, end), written, after]);
        this.#step('sync', path);
        end += bytes.length;
        inode.content = end;
        this.#sync(inode);
      },
      close: async () => {
        this.#step('truncate', path);
        inode.bytes = inode.bytes.subarray(0, end);
        this.#sync(inode);
        this.#step('close', path);
      },
    };
  }

  async read(path: string): Promise<Buffer> {
    return Buffer.from(this.#inode(path).bytes);
  }

  async openRead(path: string): Promise<ReadableFile> {
    const inode = this.#inode(path);
    return {
      stat: async () => this.#statOf(inode),
      readAt: async (into, at) => {
        const bytes = inode.bytes.subarray(at, at + into.length);
        into.set(bytes);
        return bytes.length;
      },
      setMode: async (mode) => {
        inode.mode = mode;
      },
      close: async () => undefined,
    };
  }

  async stat(path: string): Promise<FileStat> {
    const inode = this.#names.get(path);
    if (inode) return this.#statOf(inode);
    if (!this.#isDir(path)) throw failure('ENOENT');
    return { isFile: false, isDirectory: true, bytes: 0, mode: 0o755, id: path };
  }

  async readLink(): Promise<undefined> {
    return undefined;
  }

  /** Names of files and folders. */
  async list(dir: string): Promise<string[]> {
    if (!this.#isDir(dir)) throw failure('ENOENT');
    const names = [...this.#names.keys(), ...this.#dirs]
      .filter((path) => path.startsWith(`${dir}/`))
      .map((path) => path.slice(dir.length + 1).split('/')[0]);
    return [...new Set(names)].sort();
  }

  /** Durable at once: what is made in a folder that a power cut takes is lost as if it had not been made. */
  async makeDir(dir: string): Promise<void> {
    this.#step('makeDir', dir);
    this.#dirs.add(dir);
  }

  async syncDir(dir: string): Promise<void> {
    this.#step('syncDir', dir);
    for (const path of this.#durable.keys()) if (dirname(path) === dir) this.#durable.delete(path);
    for (const [path, inode] of this.#names) if (dirname(path) === dir) this.#durable.set(path, inode);
    this.#changes = this.#changes.filter((c) => dirname(c.path) !== dir);
  }

  /** Within one folder, as pitr does it. */
  async rename(from: string, to: string): Promise<void> {
    this.#step('rename', from);
    const inode = this.#inode(from);
    this.#names.set(to, inode);
    this.#names.delete(from);
    this.#changes.push({ kind: 'rename', path: from, to, inode });
  }

  async link(from: string, to: string): Promise<void> {
    this.#step('link', from);
    if (this.#names.has(to)) throw failure('EEXIST');
    const inode = this.#inode(from);
    this.#names.set(to, inode);
    this.#changes.push({ kind: 'add', path: to, inode });
  }

  async remove(path: string): Promise<void> {
    this.#step('remove', path);
    this.#inode(path);
    this.#names.delete(path);
    this.#changes.push({ kind: 'remove', path });
  }

  async removeDir(dir: string): Promise<void> {
    this.#step('remove', dir);
    if (!this.#dirs.has(dir)) throw failure('ENOENT');
    const isIn = (path: string): boolean => path.startsWith(`${dir}/`);
    if ([...this.#names.keys(), ...this.#dirs].some(isIn)) throw failure('ENOTEMPTY');
    this.#dirs.delete(dir);
  }

  /** Durable at once, as the interface has it. */
  async truncate(path: string, bytes: number): Promise<void> {
    this.#step('truncate', path);
    const inode = this.#inode(path);
    inode.bytes = Buffer.from(inode.bytes.subarray(0, bytes));
    this.#sync(inode);
  }

  #sync(inode: Inode): void {
    inode.durable = inode.bytes;
    inode.writes = [];
  }

  #statOf(inode: Inode): FileStat {
    let id = this.#ids.get(inode);
    if (id === undefined) {
      id = `${this.#nextId++}`;
      this.#ids.set(inode, id);
    }
    return { isFile: true, isDirectory: false, bytes: inode.bytes.length, mode: inode.mode, id };
  }

  readonly #ids = new WeakMap<Inode, string>();
  #nextId = 1;

  #isDir(path: string): boolean {
    if (path === '/' || this.#dirs.has(path)) return true;
    for (const name of [...this.#names.keys(), ...this.#dirs]) if (name.startsWith(`${path}/`)) return true;
    return false;
  }

  #open(inode: Inode, path: string): OpenFile {
    return {
      append: async (bytes) => {
        this.#step('append', path);
        inode.writes.push({ at: inode.bytes.length, bytes: Buffer.from(bytes) });
        inode.bytes = Buffer.concat([inode.bytes, bytes]);
      },
      sync: async () => {
        this.#step('sync', path);
        this.#sync(inode);
      },
      close: async () => this.#step('close', path),
    };
  }

  #step(operation: Operation, path: string): void {
    this.before(operation, path);
    this.operations++;
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (!inode) throw failure('ENOENT');
    return inode;
  }
}

export const errnoError = failure;
export const logPath = (sequence: number, kind: 'wal' | 'open'): string =>
  join('/engine/log', `${String(sequence).padStart(12, '0')}.${kind}`);

/**
 * Files in memory that know what is durable: what a power cut leaves is what was synced, of files and of names. Every call
 * can be made the last one, so that a test stops a writer between any two.
 */
import { dirname, join } from 'node:path';
import type { Files, OpenFile, SyncedFile } from '../../engine/files.ts';

interface Inode {
  bytes: Buffer;
  /** Bytes that a power cut cannot take. */
  synced: number;
  /** Length that it cannot take: what is beyond the content are zeros that were written ahead. */
  grown?: number;
  /** Where the content of a file with zeros ahead ends. */
  content?: number;
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

export class MemoryFiles implements Files {
  readonly #names: Map<string, Inode>;
  readonly #durable: Map<string, Inode>;
  operations = 0;
  /** Called before each operation; throws what the caller shall see. */
  before: (operation: Operation, path: string) => void = () => undefined;

  constructor(names: ReadonlyMap<string, Inode> = new Map()) {
    this.#names = new Map(names);
    this.#durable = new Map(names);
  }

  /** What a process that starts after a SIGKILL of this one finds: everything written, synced or not. */
  afterKill(): MemoryFiles {
    const copies = new Map<Inode, Inode>();
    const copy = (inode: Inode): Inode => {
      let it = copies.get(inode);
      if (!it) {
        it = { ...inode, bytes: Buffer.from(inode.bytes) };
        copies.set(inode, it);
      }
      return it;
    };
    const next = new MemoryFiles();
    for (const [path, inode] of this.#names) next.#names.set(path, copy(inode));
    for (const [path, inode] of this.#durable) next.#durable.set(path, copy(inode));
    return next;
  }

  /** What a power cut leaves: durable names, and of each file at least its synced bytes; `keep` chooses how many of the rest. */
  afterPowerCut(keep: (unsynced: number) => number): MemoryFiles {
    const names = new Map<string, Inode>();
    for (const [path, { bytes, synced, grown = 0 }] of this.#durable) {
      const kept = bytes.subarray(0, synced + keep(bytes.length - synced));
      const left = Buffer.concat([kept, Buffer.alloc(Math.max(0, grown - kept.length))]);
      names.set(path, { bytes: left, synced: left.length });
    }
    return new MemoryFiles(names);
  }

  /** An independent copy of everything, all of it durable. */
  copy(): MemoryFiles {
    const names = new Map<string, Inode>();
    for (const [path, { bytes }] of this.#names)
      names.set(path, { bytes: Buffer.from(bytes), synced: bytes.length });
    return new MemoryFiles(names);
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
    const inode = { bytes: Buffer.from(bytes), synced: bytes.length };
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
    const inode: Inode = { bytes: Buffer.alloc(0), synced: 0 };
    this.#names.set(path, inode);
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
        const ahead =
          end + bytes.length > before.length
            ? Buffer.alloc(AHEAD_BYTES)
            : before.subarray(end + bytes.length);
        inode.bytes = Buffer.concat([before.subarray(0, end), bytes, ahead]);
        inode.synced = end;
        inode.grown = before.length;
        this.#step('sync', path);
        end += bytes.length;
        inode.content = end;
        inode.synced = inode.bytes.length;
      },
      close: async () => {
        this.#step('truncate', path);
        inode.bytes = inode.bytes.subarray(0, end);
        inode.synced = end;
        inode.grown = 0;
        this.#step('close', path);
      },
    };
  }

  async read(path: string): Promise<Buffer> {
    return Buffer.from(this.#inode(path).bytes);
  }

  async list(dir: string): Promise<string[]> {
    return this.namesIn(dir);
  }

  async makeDir(dir: string): Promise<void> {
    this.#step('makeDir', dir);
  }

  async syncDir(dir: string): Promise<void> {
    this.#step('syncDir', dir);
    for (const path of this.#durable.keys()) if (dirname(path) === dir) this.#durable.delete(path);
    for (const [path, inode] of this.#names) if (dirname(path) === dir) this.#durable.set(path, inode);
  }

  async rename(from: string, to: string): Promise<void> {
    this.#step('rename', from);
    this.#names.set(to, this.#inode(from));
    this.#names.delete(from);
  }

  async link(from: string, to: string): Promise<void> {
    this.#step('link', from);
    if (this.#names.has(to)) throw failure('EEXIST');
    this.#names.set(to, this.#inode(from));
  }

  async remove(path: string): Promise<void> {
    this.#step('remove', path);
    this.#inode(path);
    this.#names.delete(path);
  }

  async truncate(path: string, bytes: number): Promise<void> {
    this.#step('truncate', path);
    const inode = this.#inode(path);
    inode.bytes = Buffer.from(inode.bytes.subarray(0, bytes));
    inode.synced = bytes;
  }

  #open(inode: Inode, path: string): OpenFile {
    return {
      append: async (bytes) => {
        this.#step('append', path);
        inode.bytes = Buffer.concat([inode.bytes, bytes]);
      },
      sync: async () => {
        this.#step('sync', path);
        inode.synced = inode.bytes.length;
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

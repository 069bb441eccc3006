/**
 * The disk of a simulated machine: a page cache over what is durable. A kill leaves the cache; a power cut leaves synced bytes and
 * synced names, of later names those of the first few operations, and of later bytes any part, with holes.
 */
import { dirname } from 'node:path';
import type { HeldLock, Locks } from '../../engine/directory-lock.ts';
import type { FileStat, Files, OpenFile, ReadableFile, SyncedFile } from '../../engine/files.ts';
import { encodeArchived } from '../../wal/archived.ts';
import type { Rng } from '../model/rng.ts';
import { damaged } from './damage.ts';
import type { CallOptions, Fault, Process } from './scheduler.ts';
import { type StoreImage, storeAfterPowerCut } from './store.ts';

interface Inode {
  readonly id: number;
  bytes: Buffer;
  /** Bytes from the start that are durable, or that the system takes for durable. */
  synced: number;
  /** Ranges of them whose sync has failed: the system does not try again, and a power cut takes them. */
  dropped?: { readonly start: number; readonly end: number }[];
}

type Names = Map<string, Inode>;

interface NameChange {
  readonly dir: string;
  readonly apply: (names: Names) => void;
}

const SECTOR_BYTES = 512;
/** Zeros that are written ahead, as the real file layer does it, only fewer. */
const AHEAD_BYTES = 700;
const WRITE_FAULTS: readonly Fault[] = ['before', 'after', 'torn'];
const SYNC_FAULTS: readonly Fault[] = ['before', 'after'];
const READ_FAULTS: readonly Fault[] = ['before'];

const errno = (code: string, path: string): Error => Object.assign(new Error(`${code}: ${path}`), { code });

const isOfLog = (path: string): boolean => path.includes('/log/');

/** Ways in which the disk itself can be broken, to see whether the simulation finds out. */
export interface DiskMutant {
  /** Of log files and of the log's folder. */
  readonly syncLies?: boolean;
  readonly syncDirLies?: boolean;
  /** Content of `archived.json` whatever was written: the engine trims what is not archived. */
  readonly archivedLies?: boolean;
  /** Locks keep nobody out. */
  readonly locksLie?: boolean;
  /** A flush of the store that does nothing. */
  readonly flushLies?: boolean;
}

export class Disk {
  readonly stores = new Map<string, StoreImage>();
  readonly mutant: DiskMutant;
  readonly #rng: Rng;
  readonly #locks = new Map<string, Process>();
  #names: Names = new Map();
  #durable: Names = new Map();
  #changes: NameChange[] = [];
  #inodes = 0;

  constructor(rng: Rng, mutant: DiskMutant = {}) {
    this.#rng = rng;
    this.mutant = mutant;
  }

  /** The machine has lost power and is on again; its processes are dead already. */
  powerCut(): void {
    const rng = this.#rng;
    for (const change of this.#changes.slice(0, rng.int(0, this.#changes.length)))
      change.apply(this.#durable);
    this.#changes = [];
    const torn = new Map<Inode, Inode>();
    for (const inode of this.#durable.values()) if (!torn.has(inode)) torn.set(inode, tornInode(inode, rng));
    this.#durable = new Map([...this.#durable].map(([path, inode]) => [path, torn.get(inode) as Inode]));
    this.#names = new Map(this.#durable);
    for (const [dir, image] of this.stores) this.stores.set(dir, storeAfterPowerCut(image, rng));
    this.#locks.clear();
  }

  bytesOf(path: string): Buffer | undefined {
    return this.#names.get(path)?.bytes;
  }

  filesOf(process: Process): Files {
    const call = <T>(
      op: string,
      path: string,
      effect: () => T,
      faults: readonly Fault[],
      options: Pick<CallOptions<T>, 'tear' | 'drop' | 'damage'> = {},
    ): Promise<T> =>
      process.call(`${op} ${path}`, effect, { faults, error: () => errno('EIO', path), ...options });
    const change = (path: string, apply: (names: Names) => void): void => {
      apply(this.#names);
      this.#changes.push({ dir: dirname(path), apply });
    };
    const open = (inode: Inode, path: string): OpenFile => ({
      append: (bytes) => {
        const data = Buffer.from(bytes);
        const write = (n: number): void => {
          inode.bytes = Buffer.concat([inode.bytes, data.subarray(0, n)]);
        };
        return call(`append ${data.length} to`, path, () => write(data.length), WRITE_FAULTS, {
          tear: () => write(data.length >>> 1),
        });
      },
      sync: () =>
        call(
          'sync',
          path,
          () => {
            if (!(this.mutant.syncLies && isOfLog(path))) inode.synced = inode.bytes.length;
          },
          ['before', 'after', 'dropped'],
          {
            drop: () => {
              inode.dropped = [...(inode.dropped ?? []), { start: inode.synced, end: inode.bytes.length }];
              inode.synced = inode.bytes.length;
            },
          },
        ),
      close: () => call('close', path, () => undefined, []),
    });
    const synced = (inode: Inode, path: string, start: number): SyncedFile => {
      let end = start;
      return {
        append: (bytes) => {
          const data = Buffer.from(bytes);
          const at = end;
          const write = (n: number): void => {
            const before = inode.bytes;
            const ahead = Buffer.alloc(at + n > before.length ? AHEAD_BYTES : 0);
            const after = before.subarray(at + n + ahead.length);
            inode.bytes = Buffer.concat([before.subarray(0, at), data.subarray(0, n), ahead, after]);
          };
          const writeUnsynced = (n: number): void => {
            write(n);
            inode.dropped = [...(inode.dropped ?? []), { start: at, end: at + n }];
          };
          const effect = (): void => {
            end = at + data.length;
            if (this.mutant.syncLies && isOfLog(path)) writeUnsynced(data.length);
            else {
              write(data.length);
              inode.synced = inode.bytes.length;
            }
          };
          return call(
            `append and sync ${data.length} to`,
            path,
            effect,
            ['before', 'after', 'torn', 'dropped'],
            {
              tear: () => writeUnsynced(data.length >>> 1),
              drop: () => writeUnsynced(data.length),
            },
          );
        },
        close: () =>
          call(
            'close',
            path,
            () => {
              inode.bytes = inode.bytes.subarray(0, end);
              inode.synced = Math.min(inode.synced, end);
            },
            SYNC_FAULTS,
          ),
      };
    };
    const readable = (inode: Inode, path: string): ReadableFile => ({
      stat: async () => fileStat(inode),
      readAt: (into, at) =>
        call('read', path, () => inode.bytes.copy(into, 0, at, at + into.length), READ_FAULTS),
      setMode: async () => undefined,
      close: async () => undefined,
    });
    return {
      createNew: (path) =>
        call(
          'create',
          path,
          () => {
            if (this.#names.has(path)) throw errno('EEXIST', path);
            const inode: Inode = { id: ++this.#inodes, bytes: Buffer.alloc(0), synced: 0 };
            change(path, (names) => names.set(path, inode));
            return open(inode, path);
          },
          SYNC_FAULTS,
        ),
      openAppend: (path) => call('open', path, () => open(this.#inode(path), path), READ_FAULTS),
      openSynced: (path, start) =>
        call('open', path, () => synced(this.#inode(path), path, start), READ_FAULTS),
      read: (path) =>
        call(
          'read',
          path,
          () =>
            this.mutant.archivedLies && path.endsWith('archived.json')
              ? Buffer.from(encodeArchived({ lsn: 1e9, sequence: 1e9 }))
              : Buffer.from(this.#inode(path).bytes),
          // an unsealed file's last frame cannot be told from an unfinished one
          /\.wal$|archived\.json$/.test(path) ? ['before', 'damaged'] : READ_FAULTS,
          { damage: (bytes) => damaged(bytes, this.#rng) },
        ),
      openRead: (path) => call('open', path, () => readable(this.#inode(path), path), READ_FAULTS),
      readLink: (path) => call('readlink', path, () => undefined, []),
      stat: (path) => call('stat', path, () => this.#stat(path), READ_FAULTS),
      list: (dir) =>
        call(
          'list',
          dir,
          () =>
            [...this.#names.keys()]
              .filter((p) => dirname(p) === dir)
              .map((p) => p.slice(dir.length + 1))
              .sort(),
          READ_FAULTS,
        ),
      makeDir: (dir) => call('mkdir', dir, () => undefined, SYNC_FAULTS),
      syncDir: (dir) =>
        call(
          'sync folder',
          dir,
          () => {
            if (this.mutant.syncDirLies && isOfLog(`${dir}/`)) return;
            for (const c of this.#changes) if (c.dir === dir) c.apply(this.#durable);
            this.#changes = this.#changes.filter((c) => c.dir !== dir);
          },
          SYNC_FAULTS,
        ),
      rename: (from, to) =>
        call(
          'rename',
          from,
          () => {
            const inode = this.#inode(from);
            change(from, (names) => {
              names.delete(from);
              names.set(to, inode);
            });
          },
          SYNC_FAULTS,
        ),
      link: (from, to) =>
        call(
          'link',
          from,
          () => {
            const inode = this.#inode(from);
            if (this.#names.has(to)) throw errno('EEXIST', to);
            change(to, (names) => names.set(to, inode));
          },
          SYNC_FAULTS,
        ),
      remove: (path) =>
        call(
          'remove',
          path,
          () => {
            this.#inode(path);
            change(path, (names) => names.delete(path));
          },
          SYNC_FAULTS,
        ),
      removeDir: (dir) => call('rmdir', dir, () => undefined, SYNC_FAULTS),
      truncate: (path, bytes) =>
        call(
          'truncate',
          path,
          () => {
            const inode = this.#inode(path);
            inode.bytes = Buffer.from(inode.bytes.subarray(0, bytes));
            inode.synced = inode.bytes.length;
          },
          SYNC_FAULTS,
        ),
    };
  }

  /** `scope` keeps locks of one kind apart: another host, which does not see this one's. */
  locksOf(process: Process, scope: (path: string) => string = (path) => path): Locks {
    const holder = (path: string): Process | undefined => {
      const held = this.#locks.get(scope(path));
      return held?.alive && !this.mutant.locksLie ? held : undefined;
    };
    return {
      isLocked: (path) => holder(path) !== undefined,
      acquire: (path) =>
        process.call(`lock ${path}`, (): HeldLock | undefined => {
          if (holder(path)) return undefined;
          this.#locks.set(scope(path), process);
          return {
            path,
            release: () => {
              if (this.#locks.get(scope(path)) === process) this.#locks.delete(scope(path));
            },
          };
        }),
    };
  }

  #stat(path: string): FileStat {
    const inode = this.#names.get(path);
    if (inode) return fileStat(inode);
    if (![...this.#names.keys()].some((p) => p.startsWith(`${path}/`))) throw errno('ENOENT', path);
    return { isFile: false, isDirectory: true, bytes: 0, mode: 0o755, id: path };
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (!inode) throw errno('ENOENT', path);
    return inode;
  }
}

const fileStat = (inode: Inode): FileStat => ({
  isFile: true,
  isDirectory: false,
  bytes: inode.bytes.length,
  mode: 0o644,
  id: String(inode.id),
});

const tornInode = ({ id, bytes, synced, dropped }: Inode, rng: Rng): Inode => {
  const left = Buffer.from(bytes.subarray(0, rng.int(synced, bytes.length)));
  for (const { start, end } of dropped ?? [])
    left.fill(0, Math.min(start, left.length), Math.min(end, left.length));
  for (let at = synced; at < left.length; ) {
    const end = Math.min(left.length, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (rng.chance(0.1)) left.fill(0, at, end);
    at = end;
  }
  return { id, bytes: left, synced: left.length };
};

import { mkdirSync, statfsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { ContentDigest, type ShardDigest } from './content-digest.ts';
import { PitrError } from './errors.ts';
import { giveBack } from './give-back.ts';
import { findInPage, PAGES_VERSION, pageOfWord, WORDS_PER_PARTITION } from './page.ts';
import { PARTITIONS, type PartitionRange } from './partition.ts';
import { entriesOfChunk } from './record-file.ts';
import { PageWalk, type Row, rowsAndPages } from './row-order.ts';
import { hashInto, ScopeSeeds } from './state-digest.ts';
import { sortKeyStart, state, stateKey } from './state-record.ts';
import { StoreThread } from './store-thread.ts';
import type { Transfer } from './transfer.ts';

/** What the store says of itself, written in the same transaction as the records it is about. */
export interface StoreMeta {
  /** Every log entry up to this LSN is in the store, none after it. */
  readonly appliedLsn: number;
  /** Newest commit time that the stream has given out by then, ms. */
  readonly lastTs: number;
  readonly epoch: number;
  /** Owned partitions, inclusive ranges as text. */
  readonly partitions: string;
  readonly digests: readonly ShardDigest[];
  /** Releases and acquisitions that nothing has superseded; absent in a store of an older release. */
  readonly transfers?: readonly Transfer[];
}

/** A change to one record: its store key and new value, or undefined for a delete. */
export interface StoreChange {
  readonly key: Buffer;
  readonly value: Buffer | undefined;
}

/**
 * Takes a record where it lies: its sort key at `keyAt` of `key`, its value `bytes[start, end)`. Nothing of it holds after the call.
 * False: no more.
 */
export type TakeRow = (key: Buffer, keyAt: number, bytes: Buffer, start: number, end: number) => boolean;

export { addToDigest, partitionOfKey } from './state-digest.ts';

export const STORE_DIR = 'store';
const META_KEY = 'meta';
const LAYOUT_KEY = 'layout';
/** What stands beside a page for a record of it that has been deleted since. */
const TOMBSTONE = Buffer.alloc(0);
/** LMDB's page in a store that a bulk load makes. */
const BULK_PAGE_BYTES = 4096;
/** Bytes of a bulk load after which the disk begins to write: at the end little is left to wait for. */
const SYNC_BYTES = 32 * 1024 * 1024;

/** What a bulk load says of the store that it makes. */
interface Layout {
  /** Of the pages. */
  readonly version: number;
  /** Pages in each partition; 0: none. */
  readonly perPartition: number;
  /** Which load it was, so that what is recorded of it elsewhere is not taken for another one's. */
  readonly load: string;
}
/**
 * Page of a new store. Each transaction copies every page that it changes and keeps them in a list whose cost grows with its
 * square: with fewer, larger pages a large transaction of random keys costs half (docs/performance-commits.md).
 */
const PAGE_BYTES = 16 * 1024;
/** Pages that a transaction may have changed, about: 256 MiB of memory. */
const DIRTY_PAGES_MAX = 16 * 1024;

/**
 * Stores that are open in this process. LMDB gives everybody who opens a path the environment of the first: a writer that gets
 * a read-only one fails halfway, and what it leaves open makes every later open fail, too.
 */
const environments = new Map<string, { users: number; readonly readOnly: boolean }>();

/** Values of this size come from a walk in a buffer of their own; LMDB reads smaller ones by way of one that it keeps. */
const LARGE_BYTES = 64 * 1024;

type Binary = RootDatabase<Buffer, Buffer>;

/**
 * The current state of the records, in LMDB. The log is the truth and this may lag behind it; it is never ahead, because a
 * change comes here only after the log has synced it. Readers in other processes see whole transactions.
 *
 * A restored store has **pages** (page.ts), which never change. Every later change is a row of its own beside them, which hides what a
 * page says of that record.
 */
export class Store {
  readonly dir: string;
  /** Only closing this one gives map, descriptors and reader slots back. */
  readonly #root: Binary;
  readonly #records: Binary;
  /** The same rows, for who looks at each and keeps none: values are where LMDB has copied them. */
  readonly #passing: Binary;
  readonly #pages: Binary;
  readonly #meta: Database<unknown, string>;
  #perPartition: number;

  readonly #bulk: boolean;
  readonly #freeBytes: () => number;
  #unsyncedBytes = 0;
  #syncing: Promise<void> | undefined;
  /** Rejected by the first transaction that fails. */
  readonly #failed = Promise.withResolvers<never>();
  #closed = false;
  #thread: StoreThread | undefined;

  private constructor(
    dir: string,
    root: Binary,
    records: Binary,
    passing: Binary,
    pages: Binary,
    meta: Database<unknown, string>,
    bulk: boolean,
    freeBytes: () => number,
  ) {
    this.dir = dir;
    this.#freeBytes = freeBytes;
    this.#bulk = bulk;
    this.#root = root;
    this.#records = records;
    this.#passing = passing;
    this.#pages = pages;
    this.#meta = meta;
    const { version, perPartition } = this.#layout ?? { version: PAGES_VERSION, perPartition: 0 };
    if (version !== PAGES_VERSION)
      throw new PitrError('format-version', { what: dir, version, supported: PAGES_VERSION });
    this.#perPartition = perPartition;
    this.#failed.promise.catch(() => undefined);
  }

  /**
   * Opens or creates the store below an engine directory. `bulk`: nothing is synced before {@link flushed}. `freeBytes`: how much room its
   * disk has for it.
   * @throws store-corrupt, format-version; engine-busy when this process reads it and the caller wants to write
   */
  static open(
    engineDir: string,
    options: { readOnly?: boolean; bulk?: boolean; freeBytes?: () => number } = {},
  ): Store {
    const dir = resolve(engineDir, STORE_DIR);
    const freeBytes = options.freeBytes ?? (() => freeBytesOf(dir));
    const environment = environments.get(dir) ?? { users: 0, readOnly: options.readOnly ?? false };
    if (environment.readOnly && !options.readOnly) throw new PitrError('engine-busy', { dir: engineDir });
    let root: Binary | undefined;
    try {
      if (!options.readOnly) mkdirSync(dir, { recursive: true });
      const env = open<Buffer, Buffer>({
        path: dir,
        keyEncoding: 'binary',
        encoding: 'binary',
        readOnly: options.readOnly ?? false,
        maxDbs: 4,
        // pages of a restore (page.ts) are cut for small ones: LMDB keeps them in whole pages of its own
        pageSize: options.bulk ? BULK_PAGE_BYTES : PAGE_BYTES,
        // with it LMDB holds a promise of its own for each turn, and when a commit fails that unheard one ends the process
        eventTurnBatching: false,
        // a bulk load is worth nothing before its end, so only the end is synced: see flushed
        noSync: options.bulk ?? false,
      });
      root = env;
      const meta = env.openDB<unknown, string>('meta', {
        encoding: 'msgpack',
        keyEncoding: 'ordered-binary',
      });
      const binary = (name: string) =>
        env.openDB(name, { keyEncoding: 'binary', encoding: 'binary' }) as Binary;
      const passing = env.openDB('records', PASSING) as Binary;
      const store = new Store(
        dir,
        env,
        binary('records'),
        passing,
        binary('pages'),
        meta,
        options.bulk ?? false,
        freeBytes,
      );
      environment.users++;
      environments.set(dir, environment);
      return store;
    } catch (cause) {
      void root?.close();
      if (cause instanceof PitrError) throw cause;
      const why = String((cause as Error).message);
      if (isRefusedBySystem(why)) throw new PitrError('io', { op: 'open', path: dir, why }, { cause });
      throw new PitrError('store-corrupt', { dir, why }, { cause });
    }
  }

  meta(): StoreMeta | undefined {
    return this.#meta.get(META_KEY) as StoreMeta | undefined;
  }

  /** The value under a store key, a copy. */
  get(key: Buffer): Buffer | undefined {
    const value = this.peek(key);
    return value && Buffer.from(value);
  }

  /** The same without a copy: the next read of this store overwrites it. */
  peek(key: Buffer): Buffer | undefined {
    const shared = this.#records.getBinaryFast(key) as Uint8Array | undefined;
    // its length is a property that says how much of it counts, methods go by the real one; large values are no Buffer
    if (shared && shared.length > 0) return Buffer.from(shared.buffer, shared.byteOffset, shared.length);
    if (this.#perPartition === 0 || shared) return undefined;
    const page = this.#pageOf(key);
    const at = page ? findInPage(page, page.length, key) : -1;
    return page && at >= 0 ? page.subarray(at, at + page.readUInt32LE(at - 4)) : undefined;
  }

  /**
   * Changes that one transaction should have at most: it keeps a copy of every page that it changes in memory until its end,
   * and in the worst case each change is in another page. A store with few pages has no such limit.
   */
  get changesMax(): number {
    return this.#treePages <= DIRTY_PAGES_MAX ? Number.POSITIVE_INFINITY : DIRTY_PAGES_MAX;
  }

  /**
   * Applies changes and meta as one transaction; resolves when readers see it. Durable only after {@link flushed}.
   * @throws store-full; then nothing of it is there
   */
  async apply(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    try {
      if (changes.length >= THREAD_CHANGES || this.#thread) await this.#applyOnThread(changes, meta);
      else {
        this.#assertRoom(changes);
        await this.#applyHere(changes, meta);
      }
    } catch (cause) {
      const error =
        cause instanceof PitrError
          ? cause
          : new PitrError('store-full', { dir: this.dir, why: await reasonOf(cause) }, { cause });
      this.#failed.reject(error);
      throw error;
    }
    this.#records.resetReadTxn();
  }

  /**
   * A disk that fills up during a transaction ends the process: LMDB's binding frees the pages of a failed commit twice. So none is
   * begun for which there might not be room: each page that it changes is copied, and what is new is added. The thread's transactions are
   * synchronous ones, which fail as they should; what might be needed of a truncation is far more than what is.
   */
  #assertRoom(changes: readonly StoreChange[]): void {
    let bytes = 0;
    for (const { key, value } of changes) bytes += key.length + (value?.length ?? 0);
    const pages = Math.min(changes.length, this.#treePages) + PAGES_BESIDE;
    const needed = pages * PAGE_BYTES + 2 * bytes;
    const free = this.#freeBytes();
    if (free >= needed) return;
    const why = `${free} bytes are free, and ${changes.length} changes may take ${needed}`;
    throw new PitrError('store-full', { dir: this.dir, why });
  }

  /** Of the rows. */
  get #treePages(): number {
    const stats = this.#records.getStats() as { treeLeafPageCount: number; treeBranchPageCount: number };
    return stats.treeLeafPageCount + stats.treeBranchPageCount;
  }

  #applyOnThread(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    this.#thread ??= new StoreThread(dirname(this.dir));
    return this.#thread.apply(changes, meta);
  }

  async #applyHere(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    const ordered = inKeyOrder(changes);
    await this.#records.batch(() => {
      for (const { key, value } of ordered) {
        if (value) this.#records.put(key, value);
        else if (this.#isPaged(key)) this.#records.put(key, TOMBSTONE);
        else this.#records.remove(key);
      }
      this.#meta.put(META_KEY, meta);
    });
  }

  /** The same on this thread, in key order; durable when it returns. */
  applyNow(changes: readonly StoreChange[], meta: StoreMeta): void {
    this.applySync(inKeyOrder(changes), meta);
  }

  /** The same, at once: for start-up and bulk loads. */
  applySync(changes: readonly StoreChange[], meta: StoreMeta | undefined): void {
    this.#records.transactionSync(() => {
      for (const { key, value } of changes) {
        if (value) this.#records.putSync(key, value);
        else if (this.#isPaged(key)) this.#records.putSync(key, TOMBSTONE);
        else this.#records.removeSync(key);
      }
      if (meta) this.#meta.putSync(META_KEY, meta);
    });
  }

  /** Begins a bulk load into an empty store; `load` names it. The rest comes with {@link load}. */
  beginLoad(load: string, perPartition: number): void {
    this.#meta.putSync(LAYOUT_KEY, { version: PAGES_VERSION, perPartition, load } satisfies Layout);
    this.#perPartition = perPartition;
  }

  get #layout(): Layout | undefined {
    return this.#meta.get(LAYOUT_KEY) as Layout | undefined;
  }

  /** Pages in each partition; 0: this store has none. */
  get perPartition(): number {
    return this.#perPartition;
  }

  /** Rows beside the pages: records and tombstones. */
  get rowsBesidePages(): number {
    return this.#records.getKeysCount();
  }

  /** Name of the bulk load that made it. */
  get loadName(): string | undefined {
    return this.#layout?.load;
  }

  /** Takes a chunk of pages and records (record-file.ts) in one transaction. Only for a bulk load. */
  load(chunk: Buffer): void {
    this.#records.transactionSync(() => {
      for (const { key, value, isPage } of entriesOfChunk(chunk))
        (isPage ? this.#pages : this.#records).putSync(key, value);
    });
    this.#unsyncedBytes += chunk.length;
    if (this.#unsyncedBytes < SYNC_BYTES || this.#syncing) return;
    this.#unsyncedBytes = 0;
    this.#syncing = this.#sync().finally(() => {
      this.#syncing = undefined;
    });
    // it fails again, or is found out, in flushed
    this.#syncing.catch(() => undefined);
  }

  /** Resolves when everything applied before the call is on disk. @throws store-full when a transaction has failed */
  async flushed(): Promise<void> {
    // LMDB never settles its own after a failed commit
    await Promise.race([this.#records.flushed, this.#failed.promise]);
    if (!this.#bulk) return;
    await this.#syncing;
    await this.#sync();
  }

  async #sync(): Promise<void> {
    const file = await fs.open(join(this.dir, 'data.mdb'), 'r');
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  }

  /**
   * Records in key order from one snapshot of the store, taken at the first step: of all namespaces, or of one and a range
   * of its partitions. Keys and values are copies.
   */
  *scan(namespace?: string, range: PartitionRange = { start: 0, end: PARTITIONS }): Generator<Row> {
    for (const item of this.#walk(namespace, range)) {
      if (item instanceof PageWalk) {
        yield item.row();
        continue;
      }
      state.check(item.value, this.dir);
      yield { key: Buffer.from(item.key), value: item.value };
    }
  }

  /**
   * Records whose sort keys begin with a word of `[from, to)`, from one snapshot, without a copy of any. A partition has 2^20 words:
   * so large partitions are read in parts.
   */
  slice(namespace: string, from: number, to: number, take: TakeRow): void {
    const range = { start: from / WORDS_PER_PARTITION, end: to / WORDS_PER_PARTITION };
    for (const item of this.#walk(namespace, range, this.#passing)) {
      if (item instanceof PageWalk) {
        const word = item.page.readUInt32BE(item.at);
        // the first page and the last one reach beyond
        if (word < from || word >= to) continue;
        if (!take(item.page, item.at, item.page, item.valueStart, item.end)) return;
        continue;
      }
      const goesOn = take(item.key, sortKeyStart(item.key), item.value, 0, item.value.length);
      if (item.value.length >= LARGE_BYTES) giveBack([item.value]);
      if (!goesOn) return;
    }
  }

  /** Namespaces that have records, in key order. */
  namespaces(): string[] {
    const names: string[] = [];
    for (let start: Buffer | undefined; ; ) {
      const found = [this.#records, this.#pages].flatMap((db) => [
        ...db.getKeys({ ...(start ? { start } : {}), limit: 1 }),
      ]);
      const [first] = found.map(namespaceOfKey).sort(Buffer.compare);
      if (!first) return names;
      const name = first.toString('utf8');
      // what is left of a namespace may be tombstones only
      const rows = this.scan(name);
      if (!rows.next().done) names.push(name);
      rows.return(undefined);
      start = Buffer.concat([first, Buffer.of(1)]);
    }
  }

  /** State and LSN from one read transaction: the base copy. `done` ends the transaction. */
  snapshot(): { meta: StoreMeta | undefined; records: Iterable<Row>; done: () => void } {
    this.#records.resetReadTxn();
    const transaction = this.#records.useReadTransaction();
    const meta = this.#meta.get(META_KEY, { transaction }) as StoreMeta | undefined;
    return { meta, records: this.#rows(transaction), done: () => transaction.done() };
  }

  *#rows(transaction: Transaction): Generator<Row> {
    for (const item of this.#items({ transaction }, { transaction }))
      yield item instanceof PageWalk ? item.row() : item;
  }

  /**
   * The digest computed from the records themselves, by reading them all or a range of partitions: what a target is verified
   * with.
   */
  contentDigest(shards: number, range: PartitionRange = { start: 0, end: PARTITIONS }): ContentDigest {
    const digest = new ContentDigest(shards);
    for (const namespace of this.namespaces()) {
      const scope = new ScopeSeeds(namespace);
      for (const item of this.#walk(namespace, range)) {
        if (item instanceof PageWalk)
          hashInto(digest, scope, item.page, item.at, item.page, item.valueStart, item.end, 1);
        else {
          state.check(item.value, this.dir);
          hashInto(digest, scope, item.key, item.key.length - 20, item.value, 0, item.value.length, 1);
          if (item.value.length >= LARGE_BYTES) giveBack([item.value]);
        }
      }
    }
    return digest;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#syncing?.catch(() => undefined);
    await this.#thread?.close();
    // after a failed commit LMDB waits for ever; the process keeps the map then, and opening it again uses it
    await Promise.race([this.#root.close(), this.#failed.promise.catch(() => undefined)]);
    const environment = environments.get(this.dir);
    if (environment && --environment.users === 0) environments.delete(this.dir);
  }

  *#walk(
    namespace: string | undefined,
    range: PartitionRange,
    rows: Binary = this.#records,
  ): Generator<Row | PageWalk> {
    if (this.#perPartition === 0) {
      yield* rows.getRange({ snapshot: true, ...rowBounds(namespace, range) }) as Iterable<Row>;
      return;
    }
    // both in one transaction, or a record that is written meanwhile could be missed in both
    const transaction = this.#records.useReadTransaction();
    try {
      yield* this.#items(
        { transaction, ...rowBounds(namespace, range) },
        { transaction, ...pageBounds(namespace, range, this.#perPartition) },
      );
    } finally {
      transaction.done();
    }
  }

  #items(rows: object, pages: object): Iterable<Row | PageWalk> {
    const records = this.#records.getRange(rows) as Iterable<Row>;
    if (this.#perPartition === 0) return records;
    const walk = new PageWalk((this.#pages.getRange(pages) as Iterable<Row>)[Symbol.iterator](), this.dir);
    return rowsAndPages(records[Symbol.iterator](), walk);
  }

  #isPaged(key: Buffer): boolean {
    if (this.#perPartition === 0) return false;
    const page = this.#pageOf(key);
    return page !== undefined && findInPage(page, page.length, key) >= 0;
  }

  /** The page in which a record would be; valid until the next read. */
  #pageOf(key: Buffer): Buffer | undefined {
    return this.#pages.getBinaryFast(pageKey(key, this.#perPartition));
  }
}

const freeBytesOf = (dir: string): number => {
  const { blocks, bavail, bsize } = statfsSync(dir);
  // some network file systems do not say
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
};

/** A value for {@link Store.slice}: what LMDB copied it into is used again for the next one. A buffer of its own for each costs more than all the rest. */
const PASSING = {
  keyEncoding: 'binary' as const,
  encoder: {
    encode: (value: Buffer): Buffer => value,
    decode: (bytes: Uint8Array, size: number): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, size),
  },
};

/** LMDB says only that a commit failed; the system's reason is in a promise, which may never be settled. */
const reasonOf = async (cause: unknown): Promise<string> => {
  const { commitError, message } = cause as Error & { commitError?: Promise<never> };
  const known = commitError?.catch((error: Error) => error.message);
  return (await Promise.race([known, new Promise<undefined>(setImmediate)])) ?? String(message ?? cause);
};

/** The system's reasons not to let a store be opened that say nothing about what is in it. */
const isRefusedBySystem = (why: string): boolean =>
  /permission denied|read-only|no space|not permitted|quota/i.test(why);

/** Pages of a transaction that are not of the rows' tree: its path, meta, the list of free pages. */
const PAGES_BESIDE = 32;

/** Changes from which a transaction is worth a thread of its own; once there is one, it does them all. */
const THREAD_CHANGES = 4096;

/** Below this many the order costs more than it gives. */
const ORDER_MIN = 64;

/**
 * Changes in the order of their sort keys' first words: neighbours share a page, and what finds the page is in the processor's
 * cache. Of the changes of one record only the last is left.
 */
const inKeyOrder = (changes: readonly StoreChange[]): readonly StoreChange[] => {
  // word and index share the 53 bits of a number
  if (changes.length < ORDER_MIN || changes.length >= 2 ** 21) return changes;
  const order = Float64Array.from(
    changes,
    ({ key }, i) => key.readUInt32BE(sortKeyStart(key)) * 2 ** 21 + i,
  ).sort();
  const ordered: StoreChange[] = [];
  for (const n of order) {
    const change = changes[n % 2 ** 21];
    // records whose first words are equal may take turns: then earlier ones stay, and the last still comes last
    if (ordered.length > 0 && ordered[ordered.length - 1].key.equals(change.key)) ordered.pop();
    ordered.push(change);
  }
  return ordered;
};

type Transaction = ReturnType<Binary['useReadTransaction']>;

/** Key of the page for a store key: namespace, 0, u32 number of the page (big-endian). */
const pageKey = (key: Buffer, perPartition: number): Buffer => {
  const split = key.length - 20;
  const page = Buffer.allocUnsafe(split + 4);
  key.copy(page, 0, 0, split);
  page.writeUInt32BE(pageOfWord(key.readUInt32BE(split), perPartition), split);
  return page;
};

/** The namespace at the front of the key of a row or a page. */
const namespaceOfKey = (key: Buffer): Buffer => Buffer.from(key.subarray(0, key.indexOf(0)));

type Bounds = { readonly start?: Buffer; readonly end?: Buffer };

const rowBounds = (namespace: string | undefined, range: PartitionRange): Bounds =>
  boundsOf(namespace, range, (partition) => {
    const sortKey = Buffer.alloc(20);
    sortKey.writeUInt32BE(Math.round(partition * WORDS_PER_PARTITION), 0);
    return sortKey;
  });

const pageBounds = (namespace: string | undefined, range: PartitionRange, perPartition: number): Bounds =>
  boundsOf(namespace, range, (partition, isEnd) => {
    const number = Buffer.alloc(4);
    // of a part of a partition: every page that has something of it
    const page = partition * perPartition;
    number.writeUInt32BE(isEnd ? Math.ceil(page) : Math.floor(page), 0);
    return number;
  });

const boundsOf = (
  namespace: string | undefined,
  range: PartitionRange,
  startOf: (partition: number, isEnd: boolean) => Buffer,
): Bounds => {
  if (namespace === undefined) return {};
  return {
    start: stateKey(namespace, startOf(range.start, false)),
    end:
      range.end === PARTITIONS
        ? Buffer.concat([Buffer.from(namespace), Buffer.of(1)])
        : stateKey(namespace, startOf(range.end, true)),
  };
};

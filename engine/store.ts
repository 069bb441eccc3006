import { mkdirSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { ContentDigest, contentHash, type ShardDigest, scopeSeed } from './content-digest.ts';
import { PitrError } from './errors.ts';
import { PARTITIONS, type PartitionRange, partitionOfWord } from './partition.ts';
import { sortKeyStart, splitStateKey, state, stateKey } from './state-record.ts';
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

export const STORE_DIR = 'store';
const META_KEY = 'meta';
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

/**
 * The current state of the records, in LMDB. The log is the truth and this may lag behind it; it is never ahead, because a
 * change comes here only after the log has synced it. Readers in other processes see whole transactions.
 */
export class Store {
  readonly dir: string;
  /** Only closing this one gives map, descriptors and reader slots back. */
  readonly #root: RootDatabase<Buffer, Buffer>;
  readonly #env: RootDatabase<Buffer, Buffer>;
  readonly #meta: Database<StoreMeta, string>;

  readonly #bulk: boolean;
  #closed = false;

  private constructor(
    dir: string,
    root: RootDatabase<Buffer, Buffer>,
    env: RootDatabase<Buffer, Buffer>,
    meta: Database<StoreMeta, string>,
    bulk: boolean,
  ) {
    this.dir = dir;
    this.#bulk = bulk;
    this.#root = root;
    this.#env = env;
    this.#meta = meta;
  }

  /**
   * Opens or creates the store below an engine directory.
   * @throws store-corrupt; engine-busy when this process reads it and the caller wants to write
   */
  static open(engineDir: string, options: { readOnly?: boolean; bulk?: boolean } = {}): Store {
    const dir = resolve(engineDir, STORE_DIR);
    const environment = environments.get(dir) ?? { users: 0, readOnly: options.readOnly ?? false };
    if (environment.readOnly && !options.readOnly) throw new PitrError('engine-busy', { dir: engineDir });
    let root: RootDatabase<Buffer, Buffer> | undefined;
    try {
      if (!options.readOnly) mkdirSync(dir, { recursive: true });
      const env = open<Buffer, Buffer>({
        path: dir,
        keyEncoding: 'binary',
        encoding: 'binary',
        readOnly: options.readOnly ?? false,
        maxDbs: 4,
        pageSize: PAGE_BYTES,
        // a bulk load is worth nothing before its end, so only the end is synced: see flushed
        noSync: options.bulk ?? false,
      });
      root = env;
      const meta = env.openDB<StoreMeta, string>('meta', {
        encoding: 'msgpack',
        keyEncoding: 'ordered-binary',
      });
      const records = env.openDB('records', { keyEncoding: 'binary', encoding: 'binary' }) as typeof env;
      const store = new Store(dir, env, records, meta, options.bulk ?? false);
      environment.users++;
      environments.set(dir, environment);
      return store;
    } catch (cause) {
      void root?.close();
      throw new PitrError('store-corrupt', { dir, why: String((cause as Error).message) }, { cause });
    }
  }

  meta(): StoreMeta | undefined {
    return this.#meta.get(META_KEY);
  }

  /** The value under a store key, a copy. */
  get(key: Buffer): Buffer | undefined {
    return this.#env.getBinary(key);
  }

  /** The same without a copy: the next read of this store overwrites it. */
  peek(key: Buffer): Buffer | undefined {
    const shared = this.#env.getBinaryFast(key) as Uint8Array | undefined;
    // its length is a property that says how much of it counts, methods go by the real one; large values are no Buffer
    return shared && Buffer.from(shared.buffer, shared.byteOffset, shared.length);
  }

  /**
   * Changes that one transaction should have at most: it keeps a copy of every page that it changes in memory until its end,
   * and in the worst case each change is in another page. A store with few pages has no such limit.
   */
  get changesMax(): number {
    const { treeLeafPageCount, treeBranchPageCount } = this.#env.getStats() as {
      treeLeafPageCount: number;
      treeBranchPageCount: number;
    };
    return treeLeafPageCount + treeBranchPageCount <= DIRTY_PAGES_MAX
      ? Number.POSITIVE_INFINITY
      : DIRTY_PAGES_MAX;
  }

  /** Applies changes and meta as one transaction; resolves when readers see it. Durable only after {@link flushed}. */
  async apply(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    const ordered = inKeyOrder(changes);
    await this.#env.batch(() => {
      for (const { key, value } of ordered) {
        if (value) this.#env.put(key, value);
        else this.#env.remove(key);
      }
      this.#meta.put(META_KEY, meta);
    });
    this.#env.resetReadTxn();
  }

  /** The same, at once: for start-up and bulk loads. */
  applySync(changes: readonly StoreChange[], meta: StoreMeta | undefined): void {
    this.#env.transactionSync(() => {
      for (const { key, value } of changes) {
        if (value) this.#env.putSync(key, value);
        else this.#env.removeSync(key);
      }
      if (meta) this.#meta.putSync(META_KEY, meta);
    });
  }

  /** Resolves when everything applied before the call is on disk. */
  async flushed(): Promise<void> {
    await this.#env.flushed;
    if (!this.#bulk) return;
    const file = await fs.open(join(this.dir, 'data.mdb'), 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /**
   * Records in key order from one snapshot of the store, taken at the first step: of all namespaces, or of one and a range
   * of its partitions. Keys and values are copies.
   */
  *scan(
    namespace?: string,
    range: PartitionRange = { start: 0, end: PARTITIONS },
  ): Generator<{ key: Buffer; value: Buffer }> {
    const bound = (partition: number): Buffer => {
      const sortKey = Buffer.alloc(20);
      sortKey.writeUInt32BE((partition << 20) >>> 0, 0);
      return stateKey(namespace as string, sortKey);
    };
    const options =
      namespace === undefined
        ? { snapshot: true }
        : {
            snapshot: true,
            start: bound(range.start),
            end:
              range.end === PARTITIONS
                ? Buffer.concat([Buffer.from(namespace), Buffer.of(1)])
                : bound(range.end),
          };
    for (const { key, value } of this.#env.getRange(options)) {
      state.check(value, this.dir);
      yield { key: Buffer.from(key), value };
    }
  }

  /** Namespaces that have records, in key order. */
  namespaces(): string[] {
    const names: string[] = [];
    let start: Buffer | undefined;
    for (;;) {
      const [key] = [...this.#env.getKeys({ ...(start ? { start } : {}), limit: 1 })];
      if (!key) return names;
      const { namespace } = splitStateKey(key);
      names.push(namespace);
      start = Buffer.concat([Buffer.from(namespace), Buffer.of(1)]);
    }
  }

  /** State and LSN from one read transaction: the base copy (DESIGN 5). Ends the transaction when the scan ends. */
  snapshot(): {
    meta: StoreMeta | undefined;
    records: Iterable<{ key: Buffer; value: Buffer }>;
    done: () => void;
  } {
    this.#env.resetReadTxn();
    const transaction = this.#env.useReadTransaction();
    const meta = this.#meta.get(META_KEY, { transaction });
    return {
      meta,
      records: this.#env.getRange({ transaction } as never) as Iterable<{ key: Buffer; value: Buffer }>,
      done: () => transaction.done(),
    };
  }

  /** The digest computed from the records themselves, by reading them all: what a target is verified with. */
  contentDigest(shards: number): ContentDigest {
    const digest = new ContentDigest(shards);
    for (const { key, value } of this.scan()) addToDigest(digest, key, value, 1);
    return digest;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#root.close();
    const environment = environments.get(this.dir);
    if (environment && --environment.users === 0) environments.delete(this.dir);
  }
}

/** Below this many the order costs more than it gives. */
const ORDER_MIN = 64;

/**
 * Changes in the order of their sort keys' first words, those of one record in the order that they had: neighbours share a
 * page, and what finds the page is in the processor's cache.
 */
const inKeyOrder = (changes: readonly StoreChange[]): readonly StoreChange[] => {
  // word and index share the 53 bits of a number
  if (changes.length < ORDER_MIN || changes.length >= 2 ** 21) return changes;
  const order = Float64Array.from(
    changes,
    ({ key }, i) => wordAt(key, sortKeyStart(key)) * 2 ** 21 + i,
  ).sort();
  return Array.from(order, (n) => changes[n % 2 ** 21]);
};

const seeds = new Map<string, Map<string, number>>();
const SEEDS_MAX = 65536;
let seedCount = 0;

/** Seed of a namespace and set, cached. */
export const seedOf = (namespace: string, set: string): number => {
  const known = seeds.get(namespace)?.get(set);
  if (known !== undefined) return known;
  const seed = scopeSeed(namespace, set);
  if (seedCount++ < SEEDS_MAX) {
    if (!seeds.has(namespace)) seeds.set(namespace, new Map());
    seeds.get(namespace)?.set(set, seed);
  }
  return seed;
};

/** Partition in a store key. */
export const partitionOfKey = (key: Buffer): number =>
  (key[key.length - 20] << 4) | (key[key.length - 19] >> 4);

/** Adds or subtracts a stored record. */
export const addToDigest = (digest: ContentDigest, key: Buffer, value: Buffer, sign: 1 | -1): void =>
  addSeeded(digest, seedOf(splitStateKey(key).namespace, state.set(value)), key, value, sign);

/** The same when the {@link seedOf} its namespace and set is at hand. */
export const addSeeded = (
  digest: ContentDigest,
  seed: number,
  key: Buffer,
  value: Buffer,
  sign: 1 | -1,
): void => {
  const at = sortKeyStart(key);
  const w0 = wordAt(key, at);
  const hash = contentHash(
    seed,
    w0,
    wordAt(key, at + 4),
    wordAt(key, at + 8),
    wordAt(key, at + 12),
    wordAt(key, at + 16),
    value,
    state.imageStart(value),
    value.length,
  );
  digest.apply(partitionOfWord(w0), hash, sign);
};

const wordAt = (b: Buffer, at: number): number =>
  ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0;

import { mkdirSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { ContentDigest, contentHash, type ShardDigest, scopeSeed } from './content-digest.ts';
import { PitrError } from './errors.ts';
import { PARTITIONS, type PartitionRange, partitionOfWord } from './partition.ts';
import { splitStateKey, state, stateKey } from './state-record.ts';
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
  /** Rejected by the first transaction that fails. */
  readonly #failed = Promise.withResolvers<never>();
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
    this.#failed.promise.catch(() => undefined);
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
        // with it LMDB holds a promise of its own for each turn, and when a commit fails that unheard one ends the process
        eventTurnBatching: false,
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
      const why = String((cause as Error).message);
      if (isRefusedBySystem(why)) throw new PitrError('io', { op: 'open', path: dir, why }, { cause });
      throw new PitrError('store-corrupt', { dir, why }, { cause });
    }
  }

  meta(): StoreMeta | undefined {
    return this.#meta.get(META_KEY);
  }

  /** The value under a store key, a copy. */
  get(key: Buffer): Buffer | undefined {
    return this.#env.getBinary(key);
  }

  /**
   * Applies changes and meta as one transaction; resolves when readers see it. Durable only after {@link flushed}.
   * @throws store-full; then nothing of it is there
   */
  async apply(changes: readonly StoreChange[], meta: StoreMeta): Promise<void> {
    try {
      await this.#env.batch(() => {
        for (const { key, value } of changes) {
          if (value) this.#env.put(key, value);
          else this.#env.remove(key);
        }
        this.#meta.put(META_KEY, meta);
      });
    } catch (cause) {
      const error = new PitrError('store-full', { dir: this.dir, why: await reasonOf(cause) }, { cause });
      this.#failed.reject(error);
      throw error;
    }
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

  /** Resolves when everything applied before the call is on disk. @throws store-full when a transaction has failed */
  async flushed(): Promise<void> {
    // LMDB never settles its own after a failed commit
    await Promise.race([this.#env.flushed, this.#failed.promise]);
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
    // after a failed commit LMDB waits for ever; the process keeps the map then, and opening it again uses it
    await Promise.race([this.#root.close(), this.#failed.promise.catch(() => undefined)]);
    const environment = environments.get(this.dir);
    if (environment && --environment.users === 0) environments.delete(this.dir);
  }
}

/** LMDB says only that a commit failed; the system's reason is in a promise, which may never be settled. */
const reasonOf = async (cause: unknown): Promise<string> => {
  const { commitError, message } = cause as Error & { commitError?: Promise<never> };
  const known = commitError?.catch((error: Error) => error.message);
  return (await Promise.race([known, new Promise<undefined>(setImmediate)])) ?? String(message ?? cause);
};

/** The system's reasons not to let a store be opened that say nothing about what is in it. */
const isRefusedBySystem = (why: string): boolean =>
  /permission denied|read-only|no space|not permitted|quota/i.test(why);

const seeds = new Map<string, number>();

/** Seed of a namespace and set, cached. */
export const seedOf = (namespace: string, set: string): number => {
  const id = `${namespace}\0${set}`;
  let seed = seeds.get(id);
  if (seed === undefined) {
    seed = scopeSeed(namespace, set);
    if (seeds.size < 65536) seeds.set(id, seed);
  }
  return seed;
};

/** Partition in a store key. */
export const partitionOfKey = (key: Buffer): number =>
  (key[key.length - 20] << 4) | (key[key.length - 19] >> 4);

/** Adds or subtracts a stored record. */
export const addToDigest = (digest: ContentDigest, key: Buffer, value: Buffer, sign: 1 | -1): void => {
  const { namespace, sortKey } = splitStateKey(key);
  const w0 = sortKey.readUInt32BE(0);
  const hash = contentHash(
    seedOf(namespace, state.set(value)),
    w0,
    sortKey.readUInt32BE(4),
    sortKey.readUInt32BE(8),
    sortKey.readUInt32BE(12),
    sortKey.readUInt32BE(16),
    value,
    state.imageStart(value),
    value.length,
  );
  digest.apply(partitionOfWord(w0), hash, sign);
};

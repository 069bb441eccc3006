/**
 * Requests as storage providers bill them, counted where they are sent: tries that failed cost as much as others.
 *
 * | class | of S3 |
 * |---|---|
 * | puts | PUT, POST, COPY, LIST: whatever writes, begins, adds to and ends an upload in parts, and each page of a listing |
 * | gets | GET, HEAD and everything else |
 * | deletes | DELETE, and giving up an upload: free |
 */
import { type Leftovers, type ObjectStore, pagesOf, type StoredObject } from './object-store.ts';

export interface RequestCounts {
  readonly puts: number;
  readonly gets: number;
  readonly deletes: number;
  /** Bytes of objects that went out, and came in. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export const NO_REQUESTS: RequestCounts = { puts: 0, gets: 0, deletes: 0, sentBytes: 0, receivedBytes: 0 };

export const plusCounts = (a: RequestCounts, b: RequestCounts): RequestCounts => ({
  puts: a.puts + b.puts,
  gets: a.gets + b.gets,
  deletes: a.deletes + b.deletes,
  sentBytes: a.sentBytes + b.sentBytes,
  receivedBytes: a.receivedBytes + b.receivedBytes,
});

export const minusCounts = (a: RequestCounts, b: RequestCounts): RequestCounts => ({
  puts: a.puts - b.puts,
  gets: a.gets - b.gets,
  deletes: a.deletes - b.deletes,
  sentBytes: a.sentBytes - b.sentBytes,
  receivedBytes: a.receivedBytes - b.receivedBytes,
});

export class RequestTally {
  #counts = NO_REQUESTS;

  get counts(): RequestCounts {
    return this.#counts;
  }

  add(counts: Partial<RequestCounts>): void {
    this.#counts = plusCounts(this.#counts, { ...NO_REQUESTS, ...counts });
  }
}

/**
 * The store, with its requests counted. One that sends several for a call counts them itself; of others each
 * call counts as one, as it would be in a bucket.
 */
export const countedStore = (store: ObjectStore): ObjectStore & { readonly tally: RequestTally } =>
  hasTally(store) ? store : new CountedStore(store);

const hasTally = (store: ObjectStore): store is ObjectStore & { readonly tally: RequestTally } =>
  store.tally !== undefined;

class CountedStore implements ObjectStore {
  readonly url: string;
  readonly tally = new RequestTally();
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
    this.url = store.url;
  }

  create(name: string, bytes: Uint8Array): Promise<void> {
    this.tally.add({ puts: 1, sentBytes: bytes.length });
    return this.#store.create(name, bytes);
  }

  async read(name: string, range?: { start: number; end?: number }): Promise<Buffer> {
    this.tally.add({ gets: 1 });
    const bytes = await this.#store.read(name, range);
    this.tally.add({ receivedBytes: bytes.length });
    return bytes;
  }

  size(name: string): Promise<number | undefined> {
    this.tally.add({ gets: 1 });
    return this.#store.size(name);
  }

  list(prefix: string): Promise<{ name: string; bytes: number }[]> {
    this.tally.add({ puts: 1 });
    return this.#store.list(prefix);
  }

  async *pages(prefix: string): AsyncGenerator<readonly StoredObject[]> {
    for await (const page of pagesOf(this.#store, prefix)) {
      this.tally.add({ puts: 1 });
      yield page;
    }
  }

  get leftovers(): Leftovers | undefined {
    return this.#store.leftovers;
  }

  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]> {
    this.tally.add({ deletes: 1 });
    return this.#store.delete(names);
  }

  async readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    this.tally.add({ gets: 1 });
    const found = await this.#store.readSwap(name);
    this.tally.add({ receivedBytes: found?.bytes.length ?? 0 });
    return found;
  }

  swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string> {
    this.tally.add({ puts: 1, sentBytes: bytes.length });
    return this.#store.swap(name, expected, bytes);
  }
}

import type { RequestTally } from './request-tally.ts';

/**
 * What an archive needs of a storage provider: write-once objects and one compare-and-swap.
 *
 * Names are `/`-separated, of `[a-z0-9._-]` and upper case, never starting with `/` or containing `..`.
 * "Not found" is a value or the error id `object-not-found`; any other failure is an error and is never read as absence.
 */
export interface StoredObject {
  readonly name: string;
  readonly bytes: number;
}

/**
 * What a writer that died left in a store beside its objects: no listing of objects shows it, and nothing reads it.
 *
 * - `upload` parts of an object that was never finished · `temporary` a file that never got its name
 * - `folder` a folder without any file · `value` a value of a swapped object that its successors should have removed
 */
export interface Leftover {
  readonly kind: 'upload' | 'temporary' | 'folder' | 'value';
  /** The same for every process that looks, as long as it is there. */
  readonly id: string;
  /** The object that it was to become or that it belongs to, or the folder; undefined: it does not say. */
  readonly name: string | undefined;
  /** Undefined: the store does not say. */
  readonly bytes: number | undefined;
}

/** A store that can tell of its leftovers. They may belong to a writer that is alive: who removes them must know. */
export interface Leftovers {
  /** In pieces of bounded size. */
  list(): AsyncIterable<readonly Leftover[]>;
  /** What is gone or in use by now is passed over. Returns what could not be removed, by id. */
  remove(leftovers: readonly Leftover[]): Promise<{ name: string; cause: unknown }[]>;
}

export interface ObjectStore {
  /** The URL that this store was opened with, for messages. */
  readonly url: string;

  /** Requests that it has sent, when it counts them itself. */
  readonly tally?: RequestTally;

  /**
   * Writes a new object and returns when it is durable.
   * @throws `object-exists` if an object of this name exists; it is left as it was.
   */
  create(name: string, bytes: Uint8Array): Promise<void>;

  /**
   * Reads a whole object, or the bytes `[start, end)` of it. A negative `start` without `end` counts from the end.
   * A range that reaches past the end gives what there is.
   * The buffer is the caller's own, or a part of a larger one: who has used it may give its memory back.
   * @throws `object-not-found`
   */
  read(name: string, range?: { start: number; end?: number }): Promise<Buffer>;

  /** Size in bytes, or `undefined` when there is no such object. */
  size(name: string): Promise<number | undefined>;

  /** Names and sizes below a prefix (a "folder", ending in `/`, or `''`), in name order. For verification, never to decide what exists. */
  list(prefix: string): Promise<{ name: string; bytes: number }[]>;

  /** What {@link list} gives, in pieces of bounded size: for archives with more names than memory has room for. */
  pages?(prefix: string): AsyncIterable<readonly StoredObject[]>;

  /** Absent: this store leaves nothing, or cannot tell. */
  readonly leftovers?: Leftovers;

  /** Deletes objects; those that are absent already count as deleted. Returns what could not be deleted, by name. */
  delete(names: readonly string[]): Promise<{ name: string; cause: unknown }[]>;

  /** The current value of a swappable object, with the tag that {@link swap} expects, or `undefined` if it was never written. */
  readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined>;

  /**
   * Replaces a swappable object if its tag is still `expected` (`undefined`: it must not exist). Returns the new tag, durable.
   * @throws `cas-conflict` when it changed meanwhile.
   */
  swap(name: string, expected: string | undefined, bytes: Uint8Array): Promise<string>;
}

/** A listing in pieces, of any store. */
export const pagesOf = (store: ObjectStore, prefix: string): AsyncIterable<readonly StoredObject[]> =>
  store.pages?.(prefix) ?? onePage(store, prefix);

async function* onePage(store: ObjectStore, prefix: string): AsyncGenerator<readonly StoredObject[]> {
  yield await store.list(prefix);
}

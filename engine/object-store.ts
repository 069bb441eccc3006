import type { RequestTally } from './request-tally.ts';

/**
 * What an archive needs of a storage provider: write-once objects and one compare-and-swap.
 *
 * Names are `/`-separated, of `[a-z0-9._-]` and upper case, never starting with `/` or containing `..`.
 * "Not found" is a value or the error id `object-not-found`; any other failure is an error and is never read as absence.
 */
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

import { type ContentDigest, contentHash, seedOf } from './content-digest.ts';
import { partitionOfWord } from './partition.ts';
import { HEADER_BYTES, sortKeyStart, splitStateKey, state } from './state-record.ts';

/** Seeds of the sets of one namespace, without making a string of a name that was the last record's, too. */
export class ScopeSeeds {
  readonly #namespace: string;
  #set = Buffer.alloc(0);
  #seed: number;

  constructor(namespace: string) {
    this.#namespace = namespace;
    this.#seed = seedOf(namespace, '');
  }

  /** Of the set whose name is `bytes[start, end)`. */
  of(bytes: Buffer, start: number, end: number): number {
    const last = this.#set;
    let same = last.length === end - start;
    for (let i = 0; same && i < last.length; i++) same = last[i] === bytes[start + i];
    if (!same) {
      this.#set = Buffer.from(bytes.subarray(start, end));
      this.#seed = seedOf(this.#namespace, this.#set.toString('utf8'));
    }
    return this.#seed;
  }
}

/** Adds or subtracts a stored record: its sort key at `keyAt` of `key`, its value `bytes[start, end)`. */
export const hashInto = (
  digest: ContentDigest,
  scope: ScopeSeeds,
  key: Buffer,
  keyAt: number,
  bytes: Buffer,
  start: number,
  end: number,
  sign: 1 | -1,
): void => {
  const setStart = start + HEADER_BYTES;
  const imageStart = setStart + bytes[setStart - 1];
  hashSeeded(digest, scope.of(bytes, setStart, imageStart), key, keyAt, bytes, imageStart, end, sign);
};

const hashSeeded = (
  digest: ContentDigest,
  seed: number,
  key: Buffer,
  keyAt: number,
  bytes: Buffer,
  imageStart: number,
  end: number,
  sign: 1 | -1,
): void => {
  const w0 = word(key, keyAt);
  const hash = contentHash(
    seed,
    w0,
    word(key, keyAt + 4),
    word(key, keyAt + 8),
    word(key, keyAt + 12),
    word(key, keyAt + 16),
    bytes,
    imageStart,
    end,
  );
  digest.apply(partitionOfWord(w0), hash, sign);
};

const word = (b: Buffer, at: number): number =>
  ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0;

/** Partition in a store key. */
export const partitionOfKey = (key: Buffer): number =>
  (key[key.length - 20] << 4) | (key[key.length - 19] >> 4);

const scopes = new Map<string, ScopeSeeds>();

/** Adds or subtracts a stored record. */
export const addToDigest = (digest: ContentDigest, key: Buffer, value: Buffer, sign: 1 | -1): void => {
  const namespace = key.toString('latin1', 0, key.length - 21);
  let scope = scopes.get(namespace);
  if (!scope) {
    scope = new ScopeSeeds(splitStateKey(key).namespace);
    if (scopes.size < 1024) scopes.set(namespace, scope);
  }
  hashInto(digest, scope, key, key.length - 20, value, 0, value.length, sign);
};

/** The same when the seed of its namespace and set ({@link seedOf}) is at hand. */
export const addSeeded = (
  digest: ContentDigest,
  seed: number,
  key: Buffer,
  value: Buffer,
  sign: 1 | -1,
): void =>
  hashSeeded(digest, seed, key, sortKeyStart(key), value, state.imageStart(value), value.length, sign);

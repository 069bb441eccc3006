import { randomFillSync } from 'node:crypto';
import { sortKeyStart } from './state-record.ts';

/** What a {@link KeyTable} finds by its store key; `hash` is {@link keyHash} of it. */
export interface Keyed {
  readonly key: Buffer;
  readonly hash: number;
}

/** Of this process: digests come from outside, and nobody there can choose many that collide. */
const [SECRET0, SECRET1] = randomFillSync(new Int32Array(2));

/** 32 bits of a store key for {@link KeyTable}: HalfSipHash-1-3, because what only multiplies keeps differences of high bits whatever its seed. */
export const keyHash = (key: Buffer): number => {
  let v0: number = SECRET0;
  let v1: number = SECRET1;
  let v2 = SECRET0 ^ 0x6c796765;
  let v3 = SECRET1 ^ 0x74656462;
  const start = sortKeyStart(key);
  // five words, the length, three rounds to finish
  for (let n = 0; n < 9; n++) {
    const at = start + 4 * n;
    let word = 0;
    if (n < 5) word = (key[at] << 24) | (key[at + 1] << 16) | (key[at + 2] << 8) | key[at + 3];
    else if (n === 5) word = 20 << 24;
    else if (n === 6) v2 ^= 0xff;
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return v1 ^ v3;
};

const SLOTS_MIN = 256;

/**
 * Entries by store key: what a Map with the keys as strings does, without making and hashing a string for each of them, which a
 * commit would pay for several times. Open addressing with linear probing, at most half full; an entry that goes closes its gap.
 */
export class KeyTable<T extends Keyed> {
  #entries: (T | undefined)[] = new Array(SLOTS_MIN);
  #hashes = new Int32Array(SLOTS_MIN);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: Buffer, hash: number): T | undefined {
    return this.#entries[this.#slotOf(key, hash)];
  }

  /** Puts an entry in the place of the one with its key, which it returns. */
  set(entry: T): T | undefined {
    const slot = this.#slotOf(entry.key, entry.hash);
    const before = this.#entries[slot];
    this.#entries[slot] = entry;
    this.#hashes[slot] = entry.hash;
    if (before === undefined && ++this.#size * 2 > this.#entries.length)
      this.#resize(this.#entries.length * 2);
    return before;
  }

  /** Takes out this very entry; false when its key has another one or none. */
  delete(entry: T): boolean {
    const entries = this.#entries;
    const hashes = this.#hashes;
    const mask = entries.length - 1;
    let gap = this.#slotOf(entry.key, entry.hash);
    if (entries[gap] !== entry) return false;
    // who was pushed past the gap moves into it, so that nobody stands behind an empty slot
    for (let at = (gap + 1) & mask; entries[at] !== undefined; at = (at + 1) & mask) {
      const home = hashes[at] & mask;
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      entries[gap] = entries[at];
      hashes[gap] = hashes[at];
      gap = at;
    }
    entries[gap] = undefined;
    this.#size--;
    // memory of a peak is given back once the table is empty
    if (this.#size === 0 && entries.length > SLOTS_KEPT) this.#resize(SLOTS_MIN);
    return true;
  }

  clear(): void {
    if (this.#size === 0) return;
    if (this.#entries.length > SLOTS_MIN) this.#resize(SLOTS_MIN, false);
    else this.#entries.fill(undefined);
    this.#size = 0;
  }

  /** Slot of the entry with this key, or the empty one where it would be. */
  #slotOf(key: Buffer, hash: number): number {
    const entries = this.#entries;
    const hashes = this.#hashes;
    const mask = entries.length - 1;
    let slot = hash & mask;
    for (let entry = entries[slot]; entry !== undefined; entry = entries[slot]) {
      if (hashes[slot] === hash && isSame(entry.key, key)) return slot;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #resize(slots: number, keep = true): void {
    const old = keep ? this.#entries : [];
    this.#entries = new Array(slots);
    this.#hashes = new Int32Array(slots);
    for (const entry of old) {
      if (entry === undefined) continue;
      const slot = this.#slotOf(entry.key, entry.hash);
      this.#entries[slot] = entry;
      this.#hashes[slot] = entry.hash;
    }
  }
}

/** Slots that an empty table keeps. */
const SLOTS_KEPT = 64 * 1024;

const isSame = (a: Buffer, b: Buffer): boolean => {
  if (a.length !== b.length) return false;
  for (let i = a.length - 1; i >= 0; i--) if (a[i] !== b[i]) return false;
  return true;
};

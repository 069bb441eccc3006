import { crc32 } from 'node:zlib';
import { PARTITIONS } from './partition.ts';

/**
 * The **running digest**: for each shard an order-independent sum over (namespace, set, digest, stored key, bins) of its
 * records: add the new, subtract the old. A restore is verified against the source's value, so it is kept by the
 * engine while it writes and never computed by restore code.
 *
 * A record contributes MurmurHash3 x86 128 of its image, started from its digest and from its namespace and set. It is a
 * checksum against error, not against an adversary.
 */

const scratch = new Uint32Array(4);

/** The bytes that were hashed last, as words: a merge or a scan hashes many records of one array. */
let viewed: Uint8Array = new Uint8Array(0);
let view = new DataView(viewed.buffer);

const seeds = new Map<string, Map<string, number>>();
const SEEDS_MAX = 65536;
let seedCount = 0;

/** 32 bits that stand for a namespace and a set; remembered, because a hot loop asks for each record. */
export const seedOf = (namespace: string, set: string): number => {
  const known = seeds.get(namespace)?.get(set);
  if (known !== undefined) return known;
  const seed = crc32(`${namespace}\0${set}`) >>> 0;
  if (seedCount++ < SEEDS_MAX) {
    if (!seeds.has(namespace)) seeds.set(namespace, new Map());
    seeds.get(namespace)?.set(set, seed);
  }
  return seed;
};

/**
 * Content hash of one record as four u32, in a shared array that the next call overwrites.
 * `w0`…`w4` are the sort key as big-endian words.
 */
export const contentHash = (
  seed: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  w4: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint32Array => murmur3x128(seed ^ w0, seed ^ w1, seed ^ w2, seed ^ w3 ^ w4, bytes, start, end);

/** MurmurHash3 x86 128 (Appleby) over `bytes[start, end)` with the state started at h1…h4; all four equal is the usual seed. */
export const murmur3x128 = (
  s1: number,
  s2: number,
  s3: number,
  s4: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint32Array => {
  const c1 = 0x239b961b;
  const c2 = 0xab0e9789;
  const c3 = 0x38b34ae5;
  const c4 = 0xa1e38b93;
  if (bytes !== viewed) {
    viewed = bytes;
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
  const words = view;
  let h1 = s1 | 0;
  let h2 = s2 | 0;
  let h3 = s3 | 0;
  let h4 = s4 | 0;
  let k = 0;
  let i = start;
  for (const last = end - 16; i <= last; i += 16) {
    k = words.getInt32(i, true);
    k = Math.imul(k, c1);
    k = (k << 15) | (k >>> 17);
    h1 ^= Math.imul(k, c2);
    h1 = (h1 << 19) | (h1 >>> 13);
    h1 = (Math.imul(h1 + h2, 5) + 0x561ccd1b) | 0;
    k = words.getInt32(i + 4, true);
    k = Math.imul(k, c2);
    k = (k << 16) | (k >>> 16);
    h2 ^= Math.imul(k, c3);
    h2 = (h2 << 17) | (h2 >>> 15);
    h2 = (Math.imul(h2 + h3, 5) + 0x0bcaa747) | 0;
    k = words.getInt32(i + 8, true);
    k = Math.imul(k, c3);
    k = (k << 17) | (k >>> 15);
    h3 ^= Math.imul(k, c4);
    h3 = (h3 << 15) | (h3 >>> 17);
    h3 = (Math.imul(h3 + h4, 5) + 0x96cd1c35) | 0;
    k = words.getInt32(i + 12, true);
    k = Math.imul(k, c4);
    k = (k << 18) | (k >>> 14);
    h4 ^= Math.imul(k, c1);
    h4 = (h4 << 13) | (h4 >>> 19);
    h4 = (Math.imul(h4 + h1, 5) + 0x32ac3b17) | 0;
  }
  // the tail: up to 15 bytes, little endian into k1…k4
  const rest = end - i;
  const word = (from: number): number => {
    let w = 0;
    for (let j = Math.min(rest, from + 4) - 1; j >= from; j--) w = (w << 8) | bytes[i + j];
    return w;
  };
  if (rest > 12) {
    k = Math.imul(word(12), c4);
    k = (k << 18) | (k >>> 14);
    h4 ^= Math.imul(k, c1);
  }
  if (rest > 8) {
    k = Math.imul(word(8), c3);
    k = (k << 17) | (k >>> 15);
    h3 ^= Math.imul(k, c4);
  }
  if (rest > 4) {
    k = Math.imul(word(4), c2);
    k = (k << 16) | (k >>> 16);
    h2 ^= Math.imul(k, c3);
  }
  if (rest > 0) {
    k = Math.imul(word(0), c1);
    k = (k << 15) | (k >>> 17);
    h1 ^= Math.imul(k, c2);
  }
  const bytesTotal = end - start;
  h1 ^= bytesTotal;
  h2 ^= bytesTotal;
  h3 ^= bytesTotal;
  h4 ^= bytesTotal;
  h1 = (h1 + h2 + h3 + h4) | 0;
  h2 = (h2 + h1) | 0;
  h3 = (h3 + h1) | 0;
  h4 = (h4 + h1) | 0;
  h1 = mix(h1);
  h2 = mix(h2);
  h3 = mix(h3);
  h4 = mix(h4);
  h1 = (h1 + h2 + h3 + h4) | 0;
  scratch[0] = h1;
  scratch[1] = h2 + h1;
  scratch[2] = h3 + h1;
  scratch[3] = h4 + h1;
  return scratch;
};

const mix = (x: number): number => {
  let h = x;
  h ^= h >>> 16;
  h = Math.imul(h, 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return h ^ (h >>> 16);
};

/** Digest of one shard as it is written to clock frames: 32 hex digits, and the number of records. */
export interface ShardDigest {
  readonly sum: string;
  readonly records: number;
}

/** Running digests of `shards` equal ranges of partitions. Shard count is a power of two, 1..256. */
export class ContentDigest {
  readonly shards: number;
  readonly #sums: Uint32Array;
  readonly #records: Float64Array;

  constructor(shards: number) {
    this.shards = shards;
    this.#sums = new Uint32Array(shards * 4);
    this.#records = new Float64Array(shards);
  }

  static from(digests: readonly ShardDigest[]): ContentDigest {
    const it = new ContentDigest(digests.length);
    digests.forEach((d, shard) => {
      for (let lane = 0; lane < 4; lane++)
        it.#sums[shard * 4 + lane] = Number.parseInt(d.sum.slice(lane * 8, lane * 8 + 8), 16);
      it.#records[shard] = d.records;
    });
    return it;
  }

  clone(): ContentDigest {
    const it = new ContentDigest(this.shards);
    it.copy(this);
    return it;
  }

  /** Becomes what `other` is, which has the same number of shards. */
  copy(other: ContentDigest): void {
    this.#sums.set(other.#sums);
    this.#records.set(other.#records);
  }

  clear(): void {
    this.#sums.fill(0);
    this.#records.fill(0);
  }

  shardOf(partition: number): number {
    return Math.floor((partition * this.shards) / PARTITIONS);
  }

  /** Adds (`sign` 1) or subtracts (-1) a record whose hash is `hash`. */
  apply(partition: number, hash: Uint32Array, sign: 1 | -1): void {
    const shard = this.shardOf(partition);
    const sums = this.#sums;
    const at = shard * 4;
    sums[at] += sign * hash[0];
    sums[at + 1] += sign * hash[1];
    sums[at + 2] += sign * hash[2];
    sums[at + 3] += sign * hash[3];
    this.#records[shard] += sign;
  }

  /** Adds sums and records to one shard. */
  shift(shard: number, sums: Uint32Array, records: number): void {
    for (let lane = 0; lane < 4; lane++) this.#sums[shard * 4 + lane] += sums[lane];
    this.#records[shard] += records;
  }

  /** Adds every shard of `other`, which has the same number of shards. */
  add(other: ContentDigest, sign: 1 | -1 = 1): void {
    for (let i = 0; i < this.#sums.length; i++) this.#sums[i] += sign * other.#sums[i];
    for (let i = 0; i < this.shards; i++) this.#records[i] += sign * other.#records[i];
  }

  get records(): number {
    return this.#records.reduce((a, b) => a + b, 0);
  }

  toShards(): ShardDigest[] {
    return Array.from({ length: this.shards }, (_, shard) => ({
      sum: Array.from(this.#sums.subarray(shard * 4, shard * 4 + 4), (w) =>
        w.toString(16).padStart(8, '0'),
      ).join(''),
      records: this.#records[shard],
    }));
  }

  /** One 32-digit sum over all shards: what people compare by eye. */
  total(): string {
    const lanes = new Uint32Array(4);
    for (let i = 0; i < this.#sums.length; i++) lanes[i & 3] += this.#sums[i];
    return Array.from(lanes, (w) => w.toString(16).padStart(8, '0')).join('');
  }

  /** Shards in which the two differ. */
  difference(other: ContentDigest): number[] {
    const mine = this.toShards();
    const theirs = other.toShards();
    return mine.flatMap((d, i) => (d.sum === theirs[i].sum && d.records === theirs[i].records ? [] : [i]));
  }
}

import { hash } from 'node:crypto';
import { PitrError } from './errors.ts';
import { hasOneBlock, messageBlock, ONE_BLOCK_BYTES_MAX, ripemd160 } from './ripemd160.ts';

/** Number of partitions of a namespace, fixed by Aerospike. */
export const PARTITIONS = 4096;
export const DIGEST_BYTES = 20;

/** A half-open range `[start, end)` of partitions. */
export interface PartitionRange {
  readonly start: number;
  readonly end: number;
}

export const ALL_PARTITIONS: PartitionRange = { start: 0, end: PARTITIONS };

/** Partition of a digest: 12 bits, little endian (reference: aerospike-wire.md 2). */
export const partitionOf = (digest: Uint8Array, at = 0): number =>
  (digest[at] | (digest[at + 1] << 8)) & 0x0fff;

/** RIPEMD-160 of set ‖ key type ‖ key bytes. The namespace is not part of it. */
export const digestOf = (set: string, keyType: number, key: Uint8Array): Buffer => {
  const length = Buffer.byteLength(set, 'utf8') + 1 + key.length;
  const fits = hasOneBlock && length <= ONE_BLOCK_BYTES_MAX;
  const message = fits ? messageBlock() : new Uint8Array(length);
  const at = textEncoder.encodeInto(set, message).written;
  message[at] = keyType;
  message.set(key, at + 1);
  if (!fits) return hash('ripemd160', message, 'buffer');
  const digest = Buffer.allocUnsafe(DIGEST_BYTES);
  ripemd160(length, digest);
  return digest;
};

const textEncoder = new TextEncoder();

/**
 * The **sort key** of a digest: the same 160 bits with the 12 partition bits moved to the front, so that plain byte
 * order is (partition, digest) order and no partition column is needed. A bijection; {@link digestOfSortKey} undoes it.
 *
 *     digest   b0=hl  b1=mn  b2 …      (nibbles; partition = n·256 + hl)
 *     sort key k0=nh  k1=lm  k2=b2 …
 */
export const sortKeyOf = (
  digest: Uint8Array,
  out: Buffer = Buffer.allocUnsafe(DIGEST_BYTES),
  at = 0,
): Buffer => {
  const b0 = digest[0];
  const b1 = digest[1];
  out[at] = ((b1 & 0x0f) << 4) | (b0 >> 4);
  out[at + 1] = ((b0 & 0x0f) << 4) | (b1 >> 4);
  for (let i = 2; i < DIGEST_BYTES; i++) out[at + i] = digest[i];
  return out;
};

/** Inverse of {@link sortKeyOf}; reads 20 bytes of `key` from `at`. */
export const digestOfSortKey = (key: Uint8Array, at = 0): Buffer => {
  const digest = Buffer.allocUnsafe(DIGEST_BYTES);
  const k0 = key[at];
  const k1 = key[at + 1];
  digest[0] = ((k0 & 0x0f) << 4) | (k1 >> 4);
  digest[1] = ((k1 & 0x0f) << 4) | (k0 >> 4);
  for (let i = 2; i < DIGEST_BYTES; i++) digest[i] = key[at + i];
  return digest;
};

/** Partition of a sort key's first word (big-endian u32): its top 12 bits. */
export const partitionOfWord = (word0: number): number => word0 >>> 20;

/** A set of partitions, kept as sorted disjoint half-open ranges. Immutable. Text form is inclusive: `0-1365,4000`. */
export class PartitionSet {
  readonly ranges: readonly PartitionRange[];

  private constructor(ranges: readonly PartitionRange[]) {
    this.ranges = ranges;
  }

  static readonly all = new PartitionSet([ALL_PARTITIONS]);
  static readonly none = new PartitionSet([]);

  static of(ranges: readonly PartitionRange[]): PartitionSet {
    const sorted = [...ranges].filter((r) => r.end > r.start).sort((a, b) => a.start - b.start);
    const merged: PartitionRange[] = [];
    for (const r of sorted) {
      const last = merged.at(-1);
      if (last && r.start <= last.end)
        merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, r.end) };
      else merged.push(r);
    }
    return new PartitionSet(merged);
  }

  /** Parses `0-1365,4000`; `all` is every partition. @throws usage */
  static parse(text: string): PartitionSet {
    if (text === 'all') return PartitionSet.all;
    if (text === 'none') return PartitionSet.none;
    return PartitionSet.of(
      text.split(',').map((part) => {
        const m = /^\s*(\d{1,4})(?:-(\d{1,4}))?\s*$/.exec(part);
        const start = Number(m?.[1]);
        const last = Number(m?.[2] ?? m?.[1]);
        if (!m || last < start || last >= PARTITIONS)
          throw new PitrError('usage', {
            what: `bad partition list "${text}"`,
            hint: 'write inclusive ranges within 0-4095, for example 0-1365,4000',
          });
        return { start, end: last + 1 };
      }),
    );
  }

  /** Whether {@link parse} takes it. */
  static isText(text: string): boolean {
    try {
      PartitionSet.parse(text);
      return true;
    } catch {
      return false;
    }
  }

  toString(): string {
    if (this.ranges.length === 0) return 'none';
    return this.ranges
      .map((r) => (r.end - r.start === 1 ? `${r.start}` : `${r.start}-${r.end - 1}`))
      .join(',');
  }

  get size(): number {
    return this.ranges.reduce((n, r) => n + r.end - r.start, 0);
  }

  has(partition: number): boolean {
    return this.ranges.some((r) => partition >= r.start && partition < r.end);
  }

  /** One byte for each partition, 1 where it is in the set: for checks in hot loops. */
  toMask(): Uint8Array {
    const mask = new Uint8Array(PARTITIONS);
    for (const r of this.ranges) mask.fill(1, r.start, r.end);
    return mask;
  }

  /** The inverse of {@link toMask}. */
  static ofMask(mask: Uint8Array): PartitionSet {
    return PartitionSet.#fromMask(mask, mask, (a) => a === 1);
  }

  union(other: PartitionSet): PartitionSet {
    return PartitionSet.of([...this.ranges, ...other.ranges]);
  }

  subtract(other: PartitionSet): PartitionSet {
    return PartitionSet.#fromMask(this.toMask(), other.toMask(), (a, b) => a === 1 && b === 0);
  }

  intersect(other: PartitionSet): PartitionSet {
    return PartitionSet.#fromMask(this.toMask(), other.toMask(), (a, b) => a === 1 && b === 1);
  }

  equals(other: PartitionSet): boolean {
    return this.toString() === other.toString();
  }

  static #fromMask(a: Uint8Array, b: Uint8Array, keep: (a: number, b: number) => boolean): PartitionSet {
    const ranges: PartitionRange[] = [];
    for (let p = 0; p < PARTITIONS; p++) if (keep(a[p], b[p])) ranges.push({ start: p, end: p + 1 });
    return PartitionSet.of(ranges);
  }
}

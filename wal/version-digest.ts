import { crc32 } from 'node:zlib';
import { murmur3x128 } from '../engine/content-digest.ts';
import type { Block } from './block.ts';
import type { SegmentHeader, SegmentProperties } from './segment.ts';

/** 32 bits that stand for namespace, set, ownership epoch and stream of a version; cache it. */
export const versionSeed = (namespace: string, set: string, epoch: number, stream: string): number =>
  crc32(`${namespace}\0${set}\0${epoch}\0${stream}`) >>> 0;

/**
 * The **version digest** of a segment: an order-independent sum over everything that its versions are (key, namespace, set,
 * stream, ts, LSN, void time, generation, flags, extension, image), and their number. Sums of segments add up, so that what a
 * merge wrote is compared with what its inputs stated, whatever was cut where. A checksum against error, not an adversary.
 */
export class VersionDigest {
  readonly #sums = new Uint32Array(4);
  #rows = 0;

  /** From its text form: 32 hex digits, `/`, the number of versions. */
  static parse(text: string): VersionDigest {
    const it = new VersionDigest();
    for (let lane = 0; lane < 4; lane++)
      it.#sums[lane] = Number.parseInt(text.slice(lane * 8, lane * 8 + 8), 16);
    it.#rows = Number(text.slice(33));
    return it;
  }

  get rows(): number {
    return this.#rows;
  }

  /** `key` are the sort key's words from `at`; `bytes[start, end)` is extension and image. */
  add(
    seed: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    ts: number,
    lsn: number,
    voidTime: number,
    generation: number,
    flags: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    // each field enters one lane under a factor of its own: murmur mixes the lanes
    const hash = murmur3x128(
      seed ^ w0 ^ Math.imul(lsn | 0, 0x9e3779b1),
      seed ^ w1 ^ Math.imul(ts | 0, 0x85ebca6b) ^ (w4 << 7) ^ (w4 >>> 25),
      seed ^ w2 ^ Math.imul(voidTime, 0xc2b2ae35) ^ Math.floor(lsn / TWO32),
      seed ^ w3 ^ Math.imul((generation << 16) | flags, 0x27d4eb2f) ^ Math.floor(ts / TWO32),
      bytes,
      start,
      end,
    );
    const sums = this.#sums;
    sums[0] += hash[0];
    sums[1] += hash[1];
    sums[2] += hash[2];
    sums[3] += hash[3];
    this.#rows++;
  }

  /** Row `i` of a block; `seed` is that of its names ({@link SeedTable}). */
  addRow(block: Block, i: number, seed: number): void {
    this.add(
      seed,
      block.w0[i],
      block.w1[i],
      block.w2[i],
      block.w3[i],
      block.w4[i],
      block.ts(i),
      block.lsn(i),
      block.voidTime[i],
      block.generation[i],
      block.flags[i],
      block.heap,
      block.heapStart(i),
      block.heapEnd[i],
    );
  }

  plus(other: VersionDigest): this {
    for (let lane = 0; lane < 4; lane++) this.#sums[lane] += other.#sums[lane];
    this.#rows += other.#rows;
    return this;
  }

  /** The text form; equal texts are equal digests. */
  toString(): string {
    return `${Array.from(this.#sums, (w) => w.toString(16).padStart(8, '0')).join('')}/${this.#rows}`;
  }
}

const TWO32 = 4294967296;

/** Seeds of a segment's versions by their numbers in its tables. */
export class SeedTable {
  readonly #namespaces: readonly string[];
  readonly #sets: readonly string[];
  readonly #streams: SegmentHeader['streams'];
  readonly #seeds = new Map<number, number>();

  constructor({ namespaces, sets, header }: Pick<SegmentProperties, 'namespaces' | 'sets' | 'header'>) {
    this.#namespaces = namespaces;
    this.#sets = sets;
    this.#streams = header.streams;
  }

  of(namespace: number, set: number, source: number): number {
    // an entry of the table of sets is of one namespace
    const id = set * 65536 + source;
    let seed = this.#seeds.get(id);
    if (seed === undefined) {
      const { epoch, stream } = this.#streams[source];
      seed = versionSeed(this.#namespaces[namespace], this.#sets[set], epoch, stream);
      this.#seeds.set(id, seed);
    }
    return seed;
  }
}

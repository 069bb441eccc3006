import { crc32 } from 'node:zlib';

/** Numbers of each half that is remembered, two for a version. */
const HALF_MAX = 200_000;

/**
 * Which changes were logged lately, by record, LUT and generation: of one that is older than what is known of its record this tells whether it
 * was sent again, or never seen. Numbers of 53 bits stand for them; two that are the same hide that one was not seen.
 */
export class Recent {
  readonly #halfMax: number;
  #now = new Set<number>();
  #before = new Set<number>();

  constructor(halfMax = HALF_MAX) {
    this.#halfMax = halfMax;
  }

  /** `content`: {@link contentOf} of a version's image. */
  add(digest: Uint8Array, lutMs: number, generation: number, content?: number): void {
    if (this.#now.size >= this.#halfMax) {
      this.#before = this.#now;
      this.#now = new Set();
    }
    this.#now.add(hashOf(digest, lutMs, generation));
    if (content !== undefined) this.#now.add(hashOf(digest, lutMs, generation ^ content));
  }

  /** `content`: of a version with that content only. */
  has(digest: Uint8Array, lutMs: number, generation: number, content = 0): boolean {
    const hash = hashOf(digest, lutMs, generation ^ content);
    return this.#now.has(hash) || this.#before.has(hash);
  }
}

/** Tells contents apart; not 0, so that it is no generation. */
export const contentOf = (image: Uint8Array): number => crc32(image) | 0x10000;

/** A digest is spread evenly already; time and generation are mixed in. */
const hashOf = (d: Uint8Array, lutMs: number, generation: number): number => {
  const low = Math.imul(lutMs | 0, 0x9e3779b1) ^ Math.imul(generation + 1, 0x85ebca6b);
  const high = (lutMs / 2 ** 32) | 0;
  const a = (d[2] | (d[3] << 8) | (d[4] << 16) | (d[5] << 24)) ^ low;
  const b = (d[6] | (d[7] << 8) | (d[8] << 16)) ^ Math.imul(high ^ low ^ (d[9] << 8), 0xc2b2ae35);
  return (a >>> 0) * 2 ** 21 + ((b >>> 0) & 0x1fffff);
};

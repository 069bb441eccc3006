/**
 * A Bloom filter over sort keys, ten bits and seven probes a key (1 % false positives). Digests are uniform already, so the
 * probes come from their words without another hash: h1 = w2, h2 = w3 | 1 mixed with the namespace's index.
 */
export const FILTER_BITS_PER_KEY = 10;
const PROBES = 7;

export class Filter {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** An empty filter for about `keys` keys. */
  static sized(keys: number): Filter {
    return new Filter(new Uint8Array(Math.max(8, Math.ceil((keys * FILTER_BITS_PER_KEY) / 8))));
  }

  get bytes(): Uint8Array {
    return this.#bytes;
  }

  add(namespace: number, w2: number, w3: number): void {
    const bits = this.#bytes.length * 8;
    const step = (w3 ^ Math.imul(namespace + 1, 0x9e3779b1)) | 1;
    let h = w2;
    for (let p = 0; p < PROBES; p++) {
      const bit = (h >>> 0) % bits;
      this.#bytes[bit >>> 3] |= 1 << (bit & 7);
      h = (h + step) | 0;
    }
  }

  mayHold(namespace: number, w2: number, w3: number): boolean {
    const bits = this.#bytes.length * 8;
    const step = (w3 ^ Math.imul(namespace + 1, 0x9e3779b1)) | 1;
    let h = w2;
    for (let p = 0; p < PROBES; p++) {
      const bit = (h >>> 0) % bits;
      if (!(this.#bytes[bit >>> 3] & (1 << (bit & 7)))) return false;
      h = (h + step) | 0;
    }
    return true;
  }
}

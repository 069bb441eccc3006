/** What became of a record so far. */
export const Fate = { sent: 0, written: 1, kept: 2, refused: 3 } as const;
export type Fate = (typeof Fate)[keyof typeof Fate];

const FATE_BITS = 2;
const SEEN = 1 << FATE_BITS;
const PLACE_SHIFT = FATE_BITS + 1;
const FIRST_RECORDS = 4096;
const NONE = 0;

/**
 * The records that a range of partitions has at the target, in columns: sort key, place (a number of the caller's), void time, two
 * words of the content hash, fate. Found by namespace and sort key.
 */
export class RangeTable {
  length = 0;
  #capacity = FIRST_RECORDS;
  #columns: Uint32Array[] = Array.from({ length: 9 }, () => new Uint32Array(FIRST_RECORDS));
  /** Entry + 1 by hash; a power of two, at most half full. */
  #index = new Uint32Array(4 * FIRST_RECORDS);
  /** Of each place the number of its namespace. */
  readonly #namespaces: number[] = [];

  /** Says which namespace a place is in. */
  place(place: number, namespace: number): void {
    this.#namespaces[place] = namespace;
  }

  /** Adds a record; returns its number. */
  add(
    place: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    voidTimeS: number,
    h0: number,
    h1: number,
  ): number {
    if (this.length === this.#capacity) this.#grow();
    const entry = this.length++;
    const c = this.#columns;
    c[0][entry] = w0;
    c[1][entry] = w1;
    c[2][entry] = w2;
    c[3][entry] = w3;
    c[4][entry] = w4;
    c[5][entry] = voidTimeS;
    c[6][entry] = h0;
    c[7][entry] = h1;
    c[8][entry] = place << PLACE_SHIFT;
    this.#enter(entry);
    return entry;
  }

  /** The entry with this key; -1: none. */
  find(namespace: number, w0: number, w1: number, w2: number, w3: number, w4: number): number {
    const c = this.#columns;
    const mask = this.#index.length - 1;
    for (let slot = (w4 ^ w2) & mask; ; slot = (slot + 1) & mask) {
      const found = this.#index[slot];
      if (found === NONE) return -1;
      const entry = found - 1;
      if (
        c[4][entry] === w4 >>> 0 &&
        c[0][entry] === w0 >>> 0 &&
        c[1][entry] === w1 >>> 0 &&
        c[2][entry] === w2 >>> 0 &&
        c[3][entry] === w3 >>> 0 &&
        this.#namespaces[c[8][entry] >>> PLACE_SHIFT] === namespace
      )
        return entry;
    }
  }

  /** The sort key. */
  words(entry: number): readonly [number, number, number, number, number] {
    const c = this.#columns;
    return [c[0][entry], c[1][entry], c[2][entry], c[3][entry], c[4][entry]];
  }

  /** Word `n` of the sort key. */
  word(entry: number, n: number): number {
    return this.#columns[n][entry];
  }

  voidTimeS(entry: number): number {
    return this.#columns[5][entry];
  }

  isHash(entry: number, h0: number, h1: number): boolean {
    return this.#columns[6][entry] === h0 >>> 0 && this.#columns[7][entry] === h1 >>> 0;
  }

  setHash(entry: number, h0: number, h1: number): void {
    this.#columns[6][entry] = h0;
    this.#columns[7][entry] = h1;
  }

  placeOf(entry: number): number {
    return this.#columns[8][entry] >>> PLACE_SHIFT;
  }

  fate(entry: number): Fate {
    return (this.#columns[8][entry] & (SEEN - 1)) as Fate;
  }

  setFate(entry: number, fate: Fate): void {
    const c = this.#columns[8];
    c[entry] = (c[entry] & ~(SEEN - 1)) | fate;
  }

  isSeen(entry: number): boolean {
    return (this.#columns[8][entry] & SEEN) !== 0;
  }

  see(entry: number): void {
    this.#columns[8][entry] |= SEEN;
  }

  /** The sort key as bytes. */
  sortKey(entry: number): Buffer {
    const key = Buffer.allocUnsafe(20);
    for (let w = 0; w < 5; w++) key.writeUInt32BE(this.#columns[w][entry], w * 4);
    return key;
  }

  #enter(entry: number): void {
    const c = this.#columns;
    const mask = this.#index.length - 1;
    let slot = (c[4][entry] ^ c[2][entry]) & mask;
    while (this.#index[slot] !== NONE) slot = (slot + 1) & mask;
    this.#index[slot] = entry + 1;
  }

  #grow(): void {
    this.#capacity *= 2;
    this.#columns = this.#columns.map((column) => {
      const grown = new Uint32Array(this.#capacity);
      grown.set(column);
      return grown;
    });
    this.#index = new Uint32Array(4 * this.#capacity);
    for (let entry = 0; entry < this.length; entry++) this.#enter(entry);
  }
}

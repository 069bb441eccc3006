/** What a benchmark writes: a record's value of 200 bytes is its key and its version, and can be told from them at any time. */
export const VALUE_BYTES = 200;
const RANDOM_BYTES = { inserted: 48, updated: 32 } as const;
const FILLER = Buffer.alloc(VALUE_BYTES, 'The rest of an updated value is constant. ');
/** Tries for a record that the batch does not have yet; a tiny database may have no other. */
const DRAWS_MAX = 16;
const ABSENT = -1;

/** One change of a record. `version` 0: as it was inserted; n: as the n-th change of the workload left it. */
export interface Change {
  readonly kind: 'insert' | 'update' | 'delete';
  readonly key: number;
  readonly version: number;
}

/** Changes up to the `changes`-th, in batches of `batchSize`, the last one maybe smaller. */
export interface WorkloadStep {
  readonly changes: number;
  readonly batchSize: number;
}

/**
 * The workload `core`: records 0 … n-1, then changes in batches: 80 % updates, 10 % inserts, 10 % deletes of records drawn
 * uniformly from those that are there; no record twice in a batch. The same seed gives the same changes.
 *
 * It is its own truth: having produced some number of changes it knows every record, without any engine.
 */
export class Workload {
  readonly seed: number;
  /** Records that the load writes: keys 0 … records - 1. */
  readonly records: number;
  #random: number;
  #changes = 0;
  #batches = 0;
  #keys: number;
  #live: Int32Array<ArrayBuffer>;
  #liveCount: number;
  /** Of each key: place in `#live`, version or ABSENT, number of the last batch that had it. */
  #place: Int32Array<ArrayBuffer>;
  #version: Int32Array<ArrayBuffer>;
  #batch: Int32Array<ArrayBuffer>;

  constructor(records: number, seed = 1) {
    this.seed = seed;
    this.records = records;
    this.#random = Math.imul(seed, 0x9e3779b1) | 0;
    this.#keys = records;
    this.#liveCount = records;
    this.#live = Int32Array.from({ length: records }, (_, i) => i);
    this.#place = this.#live.slice();
    this.#version = new Int32Array(records);
    this.#batch = new Int32Array(records);
  }

  /** Records that are there now. */
  get count(): number {
    return this.#liveCount;
  }

  /** Changes produced so far. */
  get changes(): number {
    return this.#changes;
  }

  /** The next `size` changes. */
  nextBatch(size: number): Change[] {
    this.#batches++;
    return Array.from({ length: size }, () => this.#next());
  }

  /** Produces changes until there were `changes`: the truth of that instant. */
  skipTo(changes: number, batchSize: number): this {
    while (this.#changes < changes) this.nextBatch(Math.min(batchSize, changes - this.#changes));
    return this;
  }

  /** What the record of this key holds now, or undefined. */
  expected(key: number): Buffer | undefined {
    const version = key < this.#keys ? this.#version[key] : ABSENT;
    return version === ABSENT ? undefined : this.value(key, version);
  }

  /** The value of a record in a version: a new buffer. */
  value(key: number, version: number): Buffer {
    const bytes = Buffer.allocUnsafe(VALUE_BYTES);
    const random = version === 0 ? RANDOM_BYTES.inserted : RANDOM_BYTES.updated;
    let state = this.seed ^ Math.imul(key + 1, 0x85ebca77) ^ Math.imul(version + 1, 0xc2b2ae3d);
    for (let at = 0; at < random; at += 4) {
      state = (state + 0x9e3779b9) | 0;
      bytes.writeInt32LE(mixed(state), at);
    }
    if (version > 0) FILLER.copy(bytes, random, random);
    else for (let at = random; at < VALUE_BYTES; at += random) bytes.copy(bytes, at, 0, random);
    return bytes;
  }

  #next(): Change {
    this.#changes++;
    const draw = this.#below(10);
    const key = draw === 8 ? undefined : this.#drawLive();
    if (key === undefined) return { kind: 'insert', key: this.#insert(), version: 0 };
    this.#batch[key] = this.#batches;
    if (draw === 9) {
      this.#delete(key);
      return { kind: 'delete', key, version: ABSENT };
    }
    this.#version[key] = this.#changes;
    return { kind: 'update', key, version: this.#changes };
  }

  #drawLive(): number | undefined {
    for (let draws = 0; draws < DRAWS_MAX && this.#liveCount > 0; draws++) {
      const key = this.#live[this.#below(this.#liveCount)];
      if (this.#batch[key] !== this.#batches) return key;
    }
    return undefined;
  }

  #insert(): number {
    const key = this.#keys++;
    if (key >= this.#version.length) {
      const length = Math.ceil(key * 1.5) + 1024;
      const longer = (array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
        const copy = new Int32Array(length);
        copy.set(array);
        return copy;
      };
      this.#live = longer(this.#live);
      this.#place = longer(this.#place);
      this.#version = longer(this.#version);
      this.#batch = longer(this.#batch);
    }
    this.#place[key] = this.#liveCount;
    this.#live[this.#liveCount++] = key;
    this.#version[key] = 0;
    this.#batch[key] = this.#batches;
    return key;
  }

  /** The last of the live takes its place. */
  #delete(key: number): void {
    const last = this.#live[--this.#liveCount];
    this.#live[this.#place[key]] = last;
    this.#place[last] = this.#place[key];
    this.#version[key] = ABSENT;
  }

  #below(limit: number): number {
    this.#random = (this.#random + 0x9e3779b9) | 0;
    return Math.floor(((mixed(this.#random) >>> 0) / 2 ** 32) * limit);
  }
}

/** The finalizer of splitmix32: a counter's bits well spread. */
const mixed = (counter: number): number => {
  let z = counter;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
};

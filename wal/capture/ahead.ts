import type { ContentDigest } from '../../engine/content-digest.ts';

/** Bytes of an entry when it is stored: u48 ts, u16 shard, i32 records, four u32 of the sum. */
const ENTRY_BYTES = 28;
const FLOOR_BYTES = 6;
/** Instants that are kept apart; beyond that the older ones are put together. */
const INSTANTS_MAX = 16_384;

/** What one instant changes: for each shard four lanes and a count. */
interface Change {
  readonly sums: Uint32Array;
  readonly records: Int32Array;
}

/**
 * What versions with a ts above the stated frontier will change in the digests, by instant (C4). Bounded: when there are too many instants,
 * half of them, the oldest, become one, and a frontier below that cannot be stated any more ({@link floorTs}).
 */
export class Ahead {
  readonly #shards: number;
  #changes = new Map<number, Change>();
  /** A frontier that is stated must be at least this, ms. */
  floorTs = 0;

  constructor(shards: number) {
    this.#shards = shards;
  }

  /** A record of `shard` with this content hash comes (1) or goes (-1) at `ts`. */
  add(ts: number, shard: number, hash: Uint32Array, sign: 1 | -1): void {
    const { sums, records } = this.#at(ts);
    for (let lane = 0; lane < 4; lane++) sums[shard * 4 + lane] += sign * hash[lane];
    records[shard] += sign;
    if (this.#changes.size > INSTANTS_MAX) this.#putTogether();
  }

  /** Something happens at `ts` that changes no digest. */
  note(ts: number): void {
    this.#at(ts);
  }

  /** The last instant at which something happens; 0: none. */
  get lastTs(): number {
    let last = 0;
    for (const ts of this.#changes.keys()) last = Math.max(last, ts);
    return last;
  }

  /** Moves everything at or before `ts` into `digest`. */
  settle(ts: number, digest: ContentDigest): void {
    for (const [at, { sums, records }] of this.#changes) {
      if (at > ts) continue;
      for (let shard = 0; shard < this.#shards; shard++)
        digest.shift(shard, sums.subarray(shard * 4, shard * 4 + 4), records[shard]);
      this.#changes.delete(at);
    }
  }

  clear(): void {
    this.#changes = new Map();
    this.floorTs = 0;
  }

  /** u48 {@link floorTs}, then the entries. */
  encode(): Buffer {
    const floor = Buffer.alloc(FLOOR_BYTES);
    floor.writeUIntLE(this.floorTs, 0, FLOOR_BYTES);
    const out: Buffer[] = [floor];
    for (const [ts, { sums, records }] of this.#changes)
      for (let shard = 0; shard < this.#shards; shard++) {
        // the first is written in any case: that there is an instant is known again
        if (
          shard > 0 &&
          records[shard] === 0 &&
          sums.subarray(shard * 4, shard * 4 + 4).every((lane) => lane === 0)
        )
          continue;
        const entry = Buffer.alloc(ENTRY_BYTES);
        entry.writeUIntLE(ts, 0, 6);
        entry.writeUInt16LE(shard, 6);
        entry.writeInt32LE(records[shard], 8);
        for (let lane = 0; lane < 4; lane++) entry.writeUInt32LE(sums[shard * 4 + lane], 12 + lane * 4);
        out.push(entry);
      }
    return Buffer.concat(out);
  }

  static decode(shards: number, bytes: Uint8Array): Ahead {
    const ahead = new Ahead(shards);
    const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (b.length >= FLOOR_BYTES) ahead.floorTs = b.readUIntLE(0, FLOOR_BYTES);
    for (let at = FLOOR_BYTES; at + ENTRY_BYTES <= b.length; at += ENTRY_BYTES) {
      const { sums, records } = ahead.#at(b.readUIntLE(at, 6));
      const shard = b.readUInt16LE(at + 6);
      records[shard] += b.readInt32LE(at + 8);
      for (let lane = 0; lane < 4; lane++) sums[shard * 4 + lane] += b.readUInt32LE(at + 12 + lane * 4);
    }
    return ahead;
  }

  #at(ts: number): Change {
    let change = this.#changes.get(ts);
    if (!change) {
      change = { sums: new Uint32Array(this.#shards * 4), records: new Int32Array(this.#shards) };
      this.#changes.set(ts, change);
    }
    return change;
  }

  #putTogether(): void {
    const instants = [...this.#changes.keys()].sort((a, b) => a - b);
    const older = instants.slice(0, instants.length / 2);
    this.floorTs = older[older.length - 1];
    const into = this.#at(this.floorTs);
    for (const ts of older.slice(0, -1)) {
      const { sums, records } = this.#at(ts);
      for (let i = 0; i < sums.length; i++) into.sums[i] += sums[i];
      for (let i = 0; i < records.length; i++) into.records[i] += records[i];
      this.#changes.delete(ts);
    }
  }
}

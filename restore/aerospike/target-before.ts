import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { fromWireVoidTime } from '../../engine/aerospike/epoch.ts';
import { type PartitionRange, PartitionSet } from '../../engine/partition.ts';
import { type ClusterJob, VOID_TIME_OFF_S_MAX } from './cluster-job.ts';
import { RangeTable } from './range-table.ts';
import { digestWordAt, FoundPlaces, scanScope, sortWord } from './scope-scan.ts';
import { Seeds, WireHash } from './wire-hash.ts';

/** What a range of the target is before anything is written to it: what is equal already needs no write. */
export class TargetBefore {
  readonly #job: ClusterJob;
  readonly #table = new RangeTable();

  private constructor(job: ClusterJob) {
    this.#job = job;
  }

  /** @throws aerospike-… */
  static async read(client: AerospikeClient, job: ClusterJob, range: PartitionRange): Promise<TargetBefore> {
    const before = new TargetBefore(job);
    const hash = new WireHash(true);
    const places = new FoundPlaces();
    const table = before.#table;
    for (const [scope, where] of job.scopes.entries()) {
      const seeds = new Seeds(where.namespace);
      for await (const block of scanScope(client, where, PartitionSet.of([range]), 'all'))
        for (let i = 0; i < block.length; i++) {
          const place = places.of(where.namespace, block, i);
          if (place.isMonitor) continue;
          table.place(place.number, scope);
          const w0 = sortWord(block, i);
          const w1 = digestWordAt(block, i, 1);
          const w2 = digestWordAt(block, i, 2);
          const w3 = digestWordAt(block, i, 3);
          const w4 = digestWordAt(block, i, 4);
          const m = block.message(i);
          const h = hash.ofMessage(seeds.of(block, i), w0, w1, w2, w3, w4, m);
          const known = table.find(scope, w0, w1, w2, w3, w4);
          // a scan may give a record twice, the later one is the newer
          if (known >= 0) table.setHash(known, h[0], h[1]);
          else table.add(place.number, w0, w1, w2, w3, w4, fromWireVoidTime(m.recordTtl), h[0], h[1]);
        }
    }
    return before;
  }

  /** Whether the record is there just so. What was asked for is not among what the state has not. */
  isEqual(
    namespace: string,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    hash: Uint32Array,
    voidTimeS: number,
  ): boolean {
    const scope = this.#job.scopes.findIndex((s) => s.namespace === namespace);
    const entry = scope < 0 ? -1 : this.#table.find(scope, w0, w1, w2, w3, w4);
    if (entry < 0) return false;
    this.#table.see(entry);
    if (!this.#table.isHash(entry, hash[0], hash[1])) return false;
    const found = this.#table.voidTimeS(entry);
    if (voidTimeS === 0 || found === 0) return voidTimeS === found;
    return Math.abs(voidTimeS - found) <= VOID_TIME_OFF_S_MAX;
  }

  /** Marks the partitions of records that nobody has asked for. */
  markOthers(partitions: Uint8Array): void {
    for (let entry = 0; entry < this.#table.length; entry++)
      if (!this.#table.isSeen(entry)) partitions[this.#table.word(entry, 0) >>> 20] = 1;
  }
}

import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { RecordBlock } from '../../engine/aerospike/client/record-block.ts';
import { type RowPlace, rowPlace } from '../../engine/aerospike/client/row-batch.ts';
import type { Scan } from '../../engine/aerospike/client/scan.ts';
import type { PartitionSet } from '../../engine/partition.ts';
import type { Scope } from './cluster-job.ts';
import { MONITOR_SET } from './range-load.ts';
import { setsFilter } from './sets-filter.ts';

/** A page of a scan: several threads have one each in memory. */
const PAGE_BYTES = 2 * 1024 * 1024;

/** What is in question of some partitions. `none`: digests only. */
export const scanScope = (
  client: AerospikeClient,
  { namespace, sets }: Scope,
  partitions: PartitionSet,
  bins: 'all' | 'none',
): Scan => {
  // the name '' would mean every set
  const only = sets?.length === 1 ? sets[0] : undefined;
  return client.scan({
    namespace,
    ...(only ? { set: only } : {}),
    ...(sets && !only ? { filter: setsFilter(sets) } : {}),
    partitions,
    bins,
    pageBytes: PAGE_BYTES,
  });
};

/** The first word of the sort key of record `i`: engine/partition.ts says how it differs from the digest's. The others are the same. */
export const sortWord = (block: RecordBlock, i: number): number => {
  const b = block.bytes;
  const at = block.digestStart(i);
  const b0 = b[at];
  const b1 = b[at + 1];
  const high = ((b1 & 0x0f) << 28) | ((b0 >> 4) << 24) | ((b0 & 0x0f) << 20) | ((b1 >> 4) << 16);
  return (high >>> 0) + ((b[at + 2] << 8) | b[at + 3]);
};

/** Word `n` of the digest of record `i`, from 1 on. */
export const digestWordAt = (block: RecordBlock, i: number, n: number): number =>
  block.bytes.readUInt32BE(block.digestStart(i) + 4 * n);

/** A place of the target that is found by the bytes of its set, which need not be text. */
export interface FoundPlace extends RowPlace {
  readonly number: number;
  readonly set: string;
  readonly isMonitor: boolean;
}

/** Places of records that are found in the target. */
export class FoundPlaces {
  readonly all: FoundPlace[] = [];
  readonly #known = new Map<string, FoundPlace>();

  of(namespace: string, block: RecordBlock, i: number): FoundPlace {
    const set = block.bytes.subarray(block.setStart(i), block.setEnd(i));
    const name = set.toString('latin1');
    const id = `${namespace}\0${name}`;
    let place = this.#known.get(id);
    if (!place) {
      const number = this.all.length;
      place = {
        ...rowPlace(namespace, Buffer.from(set)),
        number,
        set: set.toString('utf8'),
        isMonitor: name === MONITOR_SET,
      };
      this.#known.set(id, place);
      this.all.push(place);
    }
    return place;
  }
}

import { AerospikeClient } from '../engine/aerospike/client/client.ts';
import { PARTITIONS, type PartitionSet } from '../engine/partition.ts';
import type { CopyClientOptions, Stretch } from './copy-job.ts';

/** Of a stretch: the next one is a part of what is left, so that all threads end together, and within these bounds. */
const STRETCH_BYTES_MAX = 32 * 1024 * 1024;
const STRETCH_BYTES_MIN = 4 * 1024 * 1024;
/** What a record has on the wire beside its data; and in all, where the server does not say. */
const HEAD_BYTES = 100;
const RECORD_BYTES = 512;

/** What the nodes say of a namespace, roughly. */
export interface NamespaceSize {
  readonly namespace: string;
  readonly records: number;
  /** On the wire. */
  readonly bytes: number;
}

/** @throws aerospike-unreachable, aerospike-login, … */
export const measureSource = async (
  options: CopyClientOptions,
  namespaces: readonly string[],
): Promise<NamespaceSize[]> => {
  const client = await AerospikeClient.connect(options);
  try {
    const said = await client.infoAll(namespaces.map((namespace) => `namespace/${namespace}`));
    return namespaces.map((namespace) => {
      const texts = [...said.values()].map((values) => values.get(`namespace/${namespace}`) ?? '');
      const sum = (stat: string): number => texts.reduce((n, text) => n + statOf(text, stat), 0);
      const records = sum('master_objects');
      const perRecord = sum('data_used_bytes') / Math.max(1, sum('objects'));
      return { namespace, records, bytes: records * (perRecord > 0 ? perRecord + HEAD_BYTES : RECORD_BYTES) };
    });
  } finally {
    await client.close();
  }
};

const statOf = (text: string, stat: string): number =>
  Number(new RegExp(`(?:^|;)${stat}=(\\d+)`).exec(text)?.[1] ?? 0);

/** All partitions of all namespaces, in stretches. */
export function* stretchesOf(
  sizes: readonly NamespaceSize[],
  partitions: PartitionSet,
  workers: number,
): Generator<Stretch, void, undefined> {
  let left = sizes.reduce((n, s) => n + (s.bytes * partitions.size) / PARTITIONS, 0);
  for (const { namespace, bytes } of sizes) {
    const bytesPerPartition = bytes / PARTITIONS;
    for (const range of partitions.ranges)
      for (let start = range.start; start < range.end; ) {
        const share = left / (2 * Math.max(1, workers));
        const wanted = Math.min(STRETCH_BYTES_MAX, Math.max(STRETCH_BYTES_MIN, share));
        const count = Math.max(1, Math.floor(wanted / Math.max(1, bytesPerPartition)));
        const end = Math.min(range.end, start + count);
        yield { namespace, start, end, bytesPerPartition };
        left -= (end - start) * bytesPerPartition;
        start = end;
      }
  }
}

import { ContentDigest } from '../../engine/content-digest.ts';
import type { AcquireOptions, Release } from '../../engine/engine-types.ts';
import { PitrError } from '../../engine/errors.ts';
import { type PartitionSet, partitionOfWord } from '../../engine/partition.ts';
import { splitStateKey, state } from '../../engine/state-record.ts';
import { inOneShard, type Transfer } from '../../engine/transfer.ts';
import { KEY_BYTES, ROW_BYTES, ROW_FLAG, writeRow } from './index-row.ts';
import type { Ledger } from './ledger.ts';
import { imageHash } from './replay.ts';

/** Rows of partitions that are taken over, by namespace; every one of the partitions is there. */
export interface Incoming {
  readonly parts: ReadonlyMap<number, readonly { readonly partition: number; readonly rows: Buffer }[]>;
  readonly records: number;
}

/**
 * Rows for what `load` has: records as an archive has them (engine/record-file.ts). Their LUTs are taken for bounds, as some are.
 * @throws verification-failed when they are not those that `digests` is of
 */
export const incomingRows = async (
  { partitions, peer, load, digests }: AcquireOptions,
  { names }: Ledger,
): Promise<Incoming> => {
  const digest = new ContentDigest(1);
  const mask = partitions.toMask();
  const rows = new Map<number, Map<number, Buffer[]>>();
  for (let namespace = 0; namespace < names.namespaces; namespace++) rows.set(namespace, new Map());
  for await (const changes of load)
    for (const { key: stateKey, value } of changes) {
      const { namespace: name } = splitStateKey(stateKey);
      const key = Buffer.from(stateKey.subarray(stateKey.length - KEY_BYTES));
      const partition = partitionOfWord(key.readUInt32BE(0));
      if (value === undefined || mask[partition] === 0)
        throw refused(`a record that is not of partitions ${partitions} came with them`);
      const namespace = names.namespace(name);
      const set = state.set(value);
      const hash = imageHash(name, set, key, value.subarray(state.imageStart(value)));
      digest.apply(0, hash, 1);
      const row = Buffer.allocUnsafe(ROW_BYTES);
      writeRow(row, 0, key, {
        generation: state.generation(value),
        flags: ROW_FLAG.base,
        set: names.set(namespace, set),
        voidTimeS: state.voidTime(value),
        lutMs: state.lut(value),
        ts: state.ts(value),
        hash,
      });
      const ofNamespace = rows.get(namespace) ?? new Map<number, Buffer[]>();
      rows.set(namespace, ofNamespace);
      const list = ofNamespace.get(partition);
      if (list) list.push(row);
      else ofNamespace.set(partition, [row]);
    }
  const wanted = digests && inOneShard(digests);
  if (wanted && (wanted.records !== digest.records || wanted.sum !== digest.total()))
    throw refused(
      `partitions ${partitions} had ${wanted.records} records when ${peer} gave them up, with digest ` +
        `${wanted.sum}; the archive gives ${digest.records} with ${digest.total()}`,
    );
  const all = partitions.ranges.flatMap(({ start, end }) =>
    Array.from({ length: end - start }, (_, i) => start + i),
  );
  const sorted = (list: Buffer[] = []): Buffer =>
    Buffer.concat(list.sort((a, b) => a.compare(b, 0, KEY_BYTES, 0, KEY_BYTES)));
  return {
    parts: new Map(
      [...rows].map(([namespace, byPartition]) => [
        namespace,
        all.map((partition) => ({ partition, rows: sorted(byPartition.get(partition)) })),
      ]),
    ),
    records: digest.records,
  };
};

const refused = (what: string): PitrError => new PitrError('verification-failed', { what });

/** The last word about these partitions, if it is this. */
export const transferOf = (
  transfers: readonly Transfer[],
  change: Transfer['change'],
  partitions: PartitionSet,
  peer: string,
): Transfer | undefined =>
  transfers.find((t) => t.change === change && t.partitions === partitions.toString() && t.peer === peer);

export const positionOf = ({ lsn, ts, digests }: Transfer): Release => ({
  lsn,
  ts,
  ...(digests ? { digests } : {}),
});

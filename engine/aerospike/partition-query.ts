import { DIGEST_BYTES, PARTITIONS, partitionOf } from '../partition.ts';
import { FieldId } from './field.ts';
import { malformed } from './malformed.ts';
import type { MessageView } from './message.ts';
import type { MessageWriter } from './message-writer.ts';

/** A partition of a scan: from its start, or below the digest that was read last. */
export interface QueryPartition {
  readonly partition: number;
  /** 20 bytes; undefined: from the start. */
  readonly after: Buffer | undefined;
}

/** The partitions that a scan names, in its order. Digests are views. @throws wire-malformed: none, or one twice, or not one */
export const queryPartitions = (m: MessageView): QueryPartition[] => {
  const ids = m.field(FieldId.partitions);
  const digests = m.field(FieldId.digests);
  if (!ids && !digests) throw malformed('a scan that names no partitions', 16);
  if (ids && (ids.length === 0 || ids.length % 2 !== 0)) throw malformed(`partitions in ${ids.length} bytes`);
  if (digests && (digests.length === 0 || digests.length % DIGEST_BYTES !== 0))
    throw malformed(`digests in ${digests.length} bytes`);
  const seen = new Uint8Array(PARTITIONS);
  const found: QueryPartition[] = [];
  const add = (partition: number, after: Buffer | undefined): void => {
    if (partition >= PARTITIONS) throw malformed(`partition ${partition}`);
    if (seen[partition] === 1) throw malformed(`partition ${partition} twice`);
    seen[partition] = 1;
    found.push({ partition, after });
  };
  for (let at = 0; ids && at < ids.length; at += 2) add(ids.readUInt16LE(at), undefined);
  for (let at = 0; digests && at < digests.length; at += DIGEST_BYTES)
    add(partitionOf(digests, at), digests.subarray(at, at + DIGEST_BYTES));
  return found;
};

/** The fields that {@link queryPartitions} reads. */
export const writeQueryPartitions = (w: MessageWriter, partitions: readonly QueryPartition[]): void => {
  const fresh = partitions.filter((p) => p.after === undefined);
  const resumed = partitions.flatMap((p) => p.after ?? []);
  if (fresh.length > 0) {
    const ids = Buffer.allocUnsafe(2 * fresh.length);
    for (const [i, { partition }] of fresh.entries()) ids.writeUInt16LE(partition, 2 * i);
    w.field(FieldId.partitions, ids);
  }
  if (resumed.length > 0) w.field(FieldId.digests, Buffer.concat(resumed));
};

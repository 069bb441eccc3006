/** Scans of partitions, as requests, and partitions to scan; and what the server counted of each, as it tells when asked. */
import { randomBytes } from 'node:crypto';
import { NAMESPACE, putOf, type Subject } from './subject.ts';
import {
  field,
  int,
  LAST,
  message,
  NEVER_EXPIRE,
  PARTITION_DONE,
  READ,
  type Reply,
  u32,
  u64,
  utf8,
} from './wire-bytes.ts';
import type { WireConnection } from './wire-connection.ts';

export interface ScanParts {
  readonly namespace?: string;
  readonly set?: string;
  /** Partitions from their beginning. */
  readonly partitions?: readonly number[];
  /** Partitions behind a digest. */
  readonly after?: readonly Uint8Array[];
  readonly maxRecords?: number;
  readonly filter?: Uint8Array;
  readonly ops?: readonly Uint8Array[];
  readonly info1?: number;
  readonly info2?: number;
  readonly info3?: number;
  readonly trid?: bigint;
  readonly fields?: readonly Uint8Array[];
}

export const newTrid = (): bigint => randomBytes(8).readBigUInt64BE() >> 1n;

/** Partition numbers are the one thing that a request has little-endian. */
export const partitionArray = (partitions: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(2 * partitions.length);
  for (const [i, partition] of partitions.entries()) bytes.writeUInt16LE(partition, 2 * i);
  return field(11, bytes);
};

export function scanOf(parts: ScanParts): Buffer {
  const fields = [field(0, utf8(parts.namespace ?? NAMESPACE))];
  if (parts.set !== undefined) fields.push(field(1, utf8(parts.set)));
  fields.push(field(9, u32(30_000)), field(7, u64(parts.trid ?? newTrid())));
  if (parts.filter) fields.push(field(43, parts.filter));
  if (parts.partitions) fields.push(partitionArray(parts.partitions));
  if (parts.after) fields.push(field(12, Buffer.concat(parts.after)));
  if (parts.maxRecords !== undefined) fields.push(field(13, u64(parts.maxRecords)));
  return message({
    info1: parts.info1 ?? READ,
    info2: parts.info2 ?? 0,
    info3: parts.info3 ?? PARTITION_DONE,
    ttl: NEVER_EXPIRE,
    fields: [...fields, ...((parts.fields ?? []) as Buffer[])],
    ...(parts.ops && { ops: parts.ops }),
  });
}

export interface ScanResult {
  readonly code: number;
  /** The answer was one message like that to a request for one record: the scan did not begin. */
  readonly refused: boolean;
  readonly records: readonly Reply[];
  /** Partitions that the server could not read. */
  readonly undone: readonly Reply[];
  readonly frames: readonly (readonly Reply[])[];
}

export async function scan(wire: WireConnection, parts: ScanParts): Promise<ScanResult> {
  const isRefusal = ({ code, info }: Reply) => code !== 0 && info[2] === 0;
  const frames = await wire.frames(scanOf(parts), (r) => (r.info[2] & LAST) !== 0 || isRefusal(r));
  const replies = frames.flat();
  const last = replies.pop()!;
  if ((last.info[2] & LAST) === 0 && !isRefusal(last)) throw new Error('a message behind the last one');
  return {
    code: last.code,
    refused: isRefusal(last),
    records: replies.filter((r) => (r.info[2] & PARTITION_DONE) === 0),
    undone: replies.filter((r) => (r.info[2] & PARTITION_DONE) !== 0),
    frames,
  };
}

export const digestOf = (reply: Reply): Buffer => reply.fields.get(4)!;

export const digestsOf = ({ records }: { readonly records: readonly Reply[] }): Buffer[] =>
  records.map(digestOf);

/** A partition with `count` records of this run, highest digest first. */
export async function filledPartition(
  subject: Subject,
  wire: WireConnection,
  count: number,
  ops = (i: number): Buffer[] => [int('a', i)],
) {
  const { partition, records } = subject.freshPartition(count);
  for (const [i, record] of records.entries()) await wire.call(putOf(record, ops(i)));
  return { partition, records, digests: records.map((r) => r.digest) };
}

export interface ScanCounts {
  readonly 'recs-succeeded': number;
  readonly 'recs-failed': number;
  readonly 'recs-filtered-meta': number;
  readonly 'recs-filtered-bins': number;
}

export async function scanCounts(wire: WireConnection, trid: bigint): Promise<ScanCounts> {
  const [text] = await wire.info(`query-show:trid=${trid}`);
  const count = (name: string): number => {
    const found = new RegExp(`:${name}=(\\d+)`).exec(text!);
    if (!found) throw new Error(`no ${name} in "${text}"`);
    return Number(found[1]);
  };
  return {
    'recs-succeeded': count('recs-succeeded'),
    'recs-failed': count('recs-failed'),
    'recs-filtered-meta': count('recs-filtered-meta'),
    'recs-filtered-bins': count('recs-filtered-bins'),
  };
}

import { BatchFlag, beginBatch, endBatch, writeBatchRepeat, writeBatchRow } from '../batch.ts';
import { Info1, Info3 } from '../bits.ts';
import { FieldId } from '../field.ts';
import type { MessageWriter } from '../message-writer.ts';
import { type QueryPartition, writeQueryPartitions } from '../partition-query.ts';
import type { RecordCommand } from './command.ts';
import { bytesOfName, type Name } from './name.ts';
import type { WireOp } from './record.ts';

const writeOps = (w: MessageWriter, ops: readonly WireOp[]): void => {
  for (const { op, name, type, bytes } of ops) {
    const nameBytes = bytesOfName(name);
    w.op(op, type, nameBytes, 0, nameBytes.length, bytes, 0, bytes.length);
  }
};

const writePlace = (w: MessageWriter, namespace: string, set: Name): void => {
  w.field(FieldId.namespace, bytesOfName(namespace));
  if (set.length > 0) w.field(FieldId.set, bytesOfName(set));
};

/** A frame with this command alone. `timeoutMs`: after that the server gives it up, 0 its default. */
export const writeCommand = (w: MessageWriter, c: RecordCommand, timeoutMs: number): void => {
  w.beginFrame();
  w.beginMessageOf(c.info1, c.info2, c.info3, 0, 0, c.generation, c.recordTtl, timeoutMs);
  writePlace(w, c.namespace, c.set);
  w.field(FieldId.digest, c.digest);
  if (c.key) w.fieldKey(FieldId.key, c.key.type, c.key.bytes);
  if (c.filter) w.field(FieldId.filter, c.filter);
  writeOps(w, c.ops);
  w.endMessage();
  w.endFrame();
};

/** Whether `c` is the row before it for another record, which then needs not be said again. A row with a key is never repeated. */
const repeats = (c: RecordCommand, before: RecordCommand | undefined): boolean =>
  before !== undefined &&
  (c.ops === before.ops || (c.ops.length === 0 && before.ops.length === 0)) &&
  c.filter === before.filter &&
  c.info1 === before.info1 &&
  c.info2 === before.info2 &&
  c.info3 === before.info3 &&
  c.generation === before.generation &&
  c.recordTtl === before.recordTtl &&
  c.namespace === before.namespace &&
  c.set === before.set &&
  c.key === undefined &&
  before.key === undefined;

/**
 * A frame with rows `indexes[from]…` of `commands`, up to `rowsMax` rows and about `bytesMax`; the row's number is its place in
 * `commands`. Returns where the next frame goes on in `indexes`.
 */
export const writeBatch = (
  w: MessageWriter,
  commands: readonly RecordCommand[],
  indexes: ArrayLike<number>,
  from: number,
  bounds: { readonly rowsMax: number; readonly bytesMax: number },
  timeoutMs: number,
): number => {
  w.beginFrame();
  w.beginMessageOf(Info1.batch, 0, 0, 0, 0, 0, 0, timeoutMs);
  const begun = beginBatch(w, BatchFlag.inline | BatchFlag.respondAll | BatchFlag.reportErrors);
  let before: RecordCommand | undefined;
  let c: RecordCommand;
  const body = (): void => {
    writePlace(w, c.namespace, c.set);
    if (c.filter) w.field(FieldId.filter, c.filter);
    if (c.key) w.fieldKey(FieldId.key, c.key.type, c.key.bytes);
    writeOps(w, c.ops);
  };
  let at = from;
  while (
    at < indexes.length &&
    at - from < bounds.rowsMax &&
    (at === from || w.frameBytes < bounds.bytesMax)
  ) {
    const index = indexes[at++];
    c = commands[index];
    if (repeats(c, before)) writeBatchRepeat(w, index, c.digest);
    else writeBatchRow(w, index, c.digest, c, body);
    before = c;
  }
  endBatch(w, begun, at - from);
  w.endMessage();
  w.endFrame();
  return at;
};

/** What one query asks. */
export interface PageRequest {
  readonly namespace: string;
  readonly set: Name;
  readonly info1: number;
  readonly info2: number;
  readonly ops: readonly WireOp[];
  readonly filter: Uint8Array | undefined;
  readonly queryId: bigint;
  readonly partitions: readonly QueryPartition[];
  /** 0: no bound. */
  readonly recordsMax: number;
  /** 0: no bound. */
  readonly recordsPerSecond: number;
  readonly socketTimeoutMs: number;
}

/** A query must not count as a read that extends the lives of records. */
const NEVER_TOUCH = 0xffffffff;

export const writePage = (w: MessageWriter, q: PageRequest): void => {
  w.beginFrame();
  w.beginMessageOf(q.info1, q.info2, Info3.partitionDone, 0, 0, 0, NEVER_TOUCH, 0);
  writePlace(w, q.namespace, q.set);
  if (q.recordsPerSecond > 0) w.fieldU32(FieldId.recordsPerSecond, q.recordsPerSecond);
  w.fieldU32(FieldId.socketTimeout, q.socketTimeoutMs);
  w.fieldU64(FieldId.queryId, q.queryId);
  if (q.filter) w.field(FieldId.filter, q.filter);
  writeQueryPartitions(w, q.partitions);
  if (q.recordsMax > 0) w.fieldU64(FieldId.recordsMax, BigInt(q.recordsMax));
  writeOps(w, q.ops);
  w.endMessage();
  w.endFrame();
};

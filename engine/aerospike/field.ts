/** Ids of a message's fields. Those that are not here are read over. */
export const FieldId = {
  namespace: 0,
  set: 1,
  /** u8 particle type, key bytes. */
  key: 2,
  recordVersion: 3,
  digest: 4,
  /** u64 LE. */
  transactionId: 5,
  /** u32 LE. */
  transactionDeadline: 6,
  /** u64 that names a scan. */
  queryId: 7,
  /** u32 ms. */
  socketTimeout: 9,
  /** u32. */
  recordsPerSecond: 10,
  /** u16 LE each. */
  partitions: 11,
  /** 20 bytes each. */
  digests: 12,
  /** u64. */
  recordsMax: 13,
  /** u64, of XDR. */
  lut: 14,
  /** u64 LE each. */
  binValues: 15,
  indexName: 21,
  indexRange: 22,
  indexContext: 23,
  indexExpression: 24,
  indexType: 26,
  udfFile: 30,
  udfFunction: 31,
  udfArguments: 32,
  udfOp: 33,
  queryBins: 40,
  batch: 41,
  batchWithSet: 42,
  /** An expression. */
  filter: 43,
} as const;
export type FieldId = (typeof FieldId)[keyof typeof FieldId];

/** Ids below this are remembered by a view. */
export const FIELD_IDS = 64;

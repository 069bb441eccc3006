/** The four bytes of flags of a message, and special values of its header. */

export const Info1 = {
  read: 0x01,
  /** All bins. */
  getAll: 0x02,
  /** A scan that is expected to be short: the server keeps no account of it. */
  shortQuery: 0x04,
  batch: 0x08,
  xdr: 0x10,
  /** Metadata only. */
  noBins: 0x20,
  consistencyLevelAll: 0x40,
  compressResponse: 0x80,
} as const;

export const Info2 = {
  write: 0x01,
  delete: 0x02,
  /** The record must be at the header's generation. */
  generation: 0x04,
  /** The header's generation must be greater than the record's. */
  generationGreater: 0x08,
  durableDelete: 0x10,
  createOnly: 0x20,
  relaxLongQuery: 0x40,
  /** One answer for each op, in order. */
  respondAllOps: 0x80,
} as const;

export const Info3 = {
  /** The last message of an answer of several. */
  last: 0x01,
  commitMasterOnly: 0x02,
  /** In a scan: the client understands such messages. In an answer: this partition is not to be had here. */
  partitionDone: 0x04,
  updateOnly: 0x08,
  createOrReplace: 0x10,
  replaceOnly: 0x20,
  scReadType: 0x40,
  scReadRelax: 0x80,
} as const;

/** Transactions, which need strong consistency. */
export const Info4 = {
  verifyRead: 0x01,
  rollForward: 0x02,
  rollBack: 0x04,
  monitorDriven: 0x08,
  onLockingOnly: 0x10,
} as const;

/** Special values of a request's record ttl. */
export const WireTtl = { namespaceDefault: 0, keep: 0xfffffffe, never: 0xffffffff } as const;

/** Ten years in seconds, the longest time to live. */
export const TTL_SECONDS_MAX = 10 * 365 * 24 * 3600;

/** Ids of a message's ops. */
export const OpId = {
  read: 1,
  write: 2,
  cdtRead: 3,
  cdtModify: 4,
  incr: 5,
  expRead: 7,
  expModify: 8,
  append: 9,
  prepend: 10,
  touch: 11,
  bitsRead: 12,
  bitsModify: 13,
  deleteAll: 14,
  hllRead: 15,
  hllModify: 16,
} as const;
export type OpId = (typeof OpId)[keyof typeof OpId];

/** Ops that one command may have. */
export const OPS_MAX = 32_768;

/** Bytes of an op between its length and its name. */
export const OP_HEAD_BYTES = 4;

/** flags bit 0: u64 LUT between name and value. */
export const OP_HAS_LUT = 1;

/** Whether an op only reads. Unknown ids do not. */
export const isReadOp = (op: number): boolean =>
  op === OpId.read ||
  op === OpId.cdtRead ||
  op === OpId.expRead ||
  op === OpId.bitsRead ||
  op === OpId.hllRead;

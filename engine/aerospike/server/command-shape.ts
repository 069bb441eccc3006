import { MAX_BIN_NAME_BYTES } from '../../particle.ts';
import { Info1, Info2, Info3 } from '../bits.ts';
import type { MessageView } from '../message.ts';
import { isReadOp, OpId } from '../operation.ts';
import { ResultCode } from '../result-code.ts';

const REPLACES = Info3.createOrReplace | Info3.replaceOnly;

/** A write that keeps nothing of what is there. */
export const isReplacement = (m: MessageView): boolean => (m.info3 & REPLACES) !== 0;

/** Why a write is refused for its ops, whatever the record is; 0: it is not. */
export const writeShapeRefusal = (m: MessageView): number => {
  if (m.ops === 0) return ResultCode.parameter;
  const readsAll = (m.info1 & Info1.getAll) !== 0;
  // all bins are answered once, and nothing else is
  if (readsAll && m.info2 & Info2.respondAllOps) return ResultCode.parameter;
  let reads = 0;
  m.rewindOps();
  while (m.nextOp()) {
    const refusal = opRefusal(m);
    if (refusal !== 0) return refusal;
    if (!isReadOp(m.op)) continue;
    reads++;
    if (readsAll && (m.op !== OpId.read || m.opNameEnd > m.opNameStart)) return ResultCode.parameter;
  }
  if (reads > 0 && (m.info1 & Info1.read) === 0) return ResultCode.parameter;
  return readsAll && reads !== 1 ? ResultCode.parameter : 0;
};

/** Whether the current op's name may be a bin's. */
export const isBinName = (m: MessageView): boolean => {
  if (m.opNameEnd - m.opNameStart > MAX_BIN_NAME_BYTES) return false;
  for (let i = m.opNameStart; i < m.opNameEnd; i++) if (m.bytes[i] === 0) return false;
  return true;
};

const opRefusal = (m: MessageView): number => {
  // the name of a touch is nobody's
  if (m.op !== OpId.touch && !isBinName(m)) return ResultCode.badBinName;
  if (!isReplacement(m)) return 0;
  // a replacement writes bins, computes them, and reads them
  const fits = m.op === OpId.write ? m.opType !== 0 : m.op === OpId.expModify || isReadOp(m.op);
  return fits ? 0 : ResultCode.parameter;
};

/** A TOUCH, in whatever place: such a write makes no record. */
export const hasTouch = (m: MessageView): boolean => {
  m.rewindOps();
  while (m.nextOp()) if (m.op === OpId.touch) return true;
  return false;
};

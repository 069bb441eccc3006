import { varintBytes, writeVarint } from '../../image.ts';
import { ParticleType } from '../../particle.ts';
import type { MessageView } from '../message.ts';

/**
 * Stored key and bins of a record's message as pitr keeps them (engine/image.ts), straight from the wire: names and particles stay bytes.
 * The message has all bins. `[keyStart, keyEnd)` of `keyBytes` is the key as a field has it, type and key; empty: none is stored.
 */
export const imageOf = (m: MessageView, keyBytes: Uint8Array, keyStart: number, keyEnd: number): Buffer => {
  let bins = 0;
  let binBytes = 0;
  m.rewindOps();
  while (m.nextOp()) {
    if (!isBin(m)) continue;
    bins++;
    const valueBytes = m.opValueEnd - m.opValueStart;
    binBytes += 2 + (m.opNameEnd - m.opNameStart) + varintBytes(valueBytes) + valueBytes;
  }
  const key = keyEnd > keyStart ? keyEnd - keyStart + 1 : 0;
  const out = Buffer.allocUnsafe(varintBytes(key) + Math.max(0, key - 1) + varintBytes(bins) + binBytes);
  let at = writeVarint(out, 0, key);
  for (let i = keyStart; i < keyEnd; i++) out[at++] = keyBytes[i];
  at = writeVarint(out, at, bins);
  m.rewindOps();
  while (m.nextOp()) {
    if (!isBin(m)) continue;
    out[at++] = m.opNameEnd - m.opNameStart;
    at += m.bytes.copy(out, at, m.opNameStart, m.opNameEnd);
    out[at++] = m.opType;
    at = writeVarint(out, at, m.opValueEnd - m.opValueStart);
    at += m.bytes.copy(out, at, m.opValueStart, m.opValueEnd);
  }
  return out;
};

/** A server answers all bins or last update, not both: a bin without name is one. */
const isBin = (m: MessageView): boolean => m.opType !== ParticleType.null;

import { type Particle, ParticleType } from '../../particle.ts';
import { fromWireVoidTime } from '../epoch.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import { OpId } from '../operation.ts';
import { type Name, nameAt } from './name.ts';

/** A bin as it came: bytes are what the server stores. */
export interface Bin extends Particle {
  readonly name: Name;
}

/** A record as a cluster has it, nothing interpreted. Its buffers are its own. */
export interface AerospikeRecord {
  readonly namespace: string;
  /** '' for none. */
  readonly set: Name;
  /** 20 bytes. */
  readonly digest: Buffer;
  /** The user key, when it is stored with the record. */
  readonly key: Particle | undefined;
  readonly generation: number;
  /** Seconds since 1970, 0 never. */
  readonly voidTimeS: number;
  /** Last update, ms since 1970; undefined unless it was asked for ({@link LUT_OP}). */
  readonly lutMs: number | undefined;
  readonly bins: readonly Bin[];
}

/** One op of a command: its number, the bin and the value as the wire has them. */
export interface WireOp {
  readonly op: OpId;
  readonly name: Name;
  readonly type: number;
  readonly bytes: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** The op that asks for last update: an expression read, of a bin without name. Its answer is a record's `lutMs`. */
export const LUT_OP: WireOp = {
  op: OpId.expRead,
  name: '',
  type: ParticleType.blob,
  bytes: Uint8Array.of(0x92, 0x91, 0x42, 0x00),
};

export const readOp = (name: Name): WireOp => ({ op: OpId.read, name, type: 0, bytes: NOTHING });
export const writeOp = (name: Name, particle: Particle): WireOp => ({
  op: OpId.write,
  name,
  type: particle.type,
  bytes: particle.bytes,
});
/** Removes the bin. */
export const removeBinOp = (name: Name): WireOp => ({ op: OpId.write, name, type: 0, bytes: NOTHING });
export const TOUCH_OP: WireOp = { op: OpId.touch, name: '', type: 0, bytes: NOTHING };

/** Whether the op that the view is at answers {@link LUT_OP}. In batches its number is that of a plain read; but no bin is without a name. */
export const isLutAnswer = (m: MessageView): boolean =>
  m.opNameStart === m.opNameEnd && m.opType === ParticleType.integer && m.opValueEnd - m.opValueStart === 8;

/** u64 nanoseconds since 1970 at `at` → ms. */
export const lutMsAt = (bytes: Buffer, at: number): number => Number(bytes.readBigUInt64BE(at) / 1_000_000n);

/** Bins of the message, in order, copied; `lutMs` where one of the answers is that. Null answers count as no bin. */
export const binsOf = (m: MessageView): { bins: Bin[]; lutMs: number | undefined } => {
  const bins: Bin[] = [];
  let lutMs: number | undefined;
  m.rewindOps();
  while (m.nextOp()) {
    if (isLutAnswer(m)) lutMs = lutMsAt(m.bytes, m.opValueStart);
    else if (m.opType !== ParticleType.null)
      bins.push({
        name: nameAt(m.bytes, m.opNameStart, m.opNameEnd),
        type: m.opType,
        bytes: Buffer.from(m.opValue),
      });
  }
  return { bins, lutMs };
};

/** A message of a scan as a record of its own. */
export const recordOf = (m: MessageView): AerospikeRecord => {
  const key = m.field(FieldId.key);
  const setStart = m.fieldStart(FieldId.set);
  return {
    namespace: m.fieldText(FieldId.namespace),
    set: setStart === 0 ? '' : nameAt(m.bytes, setStart, m.fieldEnd(FieldId.set)),
    digest: Buffer.from(m.field(FieldId.digest) ?? NOTHING),
    key: key && key.length > 0 ? { type: key[0], bytes: Buffer.from(key.subarray(1)) } : undefined,
    generation: m.generation,
    voidTimeS: fromWireVoidTime(m.recordTtl),
    ...binsOf(m),
  };
};

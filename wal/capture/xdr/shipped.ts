import { isUtf8 } from 'node:buffer';
import { Info1, Info2, Info3, WireTtl } from '../../../engine/aerospike/bits.ts';
import { SERVER_EPOCH_MS } from '../../../engine/aerospike/epoch.ts';
import { FieldId } from '../../../engine/aerospike/field.ts';
import type { MessageView } from '../../../engine/aerospike/message.ts';
import { OpId } from '../../../engine/aerospike/operation.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { varintBytes, writeVarint } from '../../../engine/image.ts';
import { DIGEST_BYTES } from '../../../engine/partition.ts';

const GENERATION_MAX = 65_535;
const VOID_TIME_MAX = 0xffffffff;
const NAMESPACE_BYTES_MAX = 31;
const SET_BYTES_MAX = 63;
/** What a write may ask for: conditions and answers of single ops are no part of shipping. */
const WRITE_BITS = Info2.write | Info2.durableDelete;
/** An update says nothing here; what replaces says so. */
const UPDATE_BITS = Info3.updateOnly;

/** Why a message is no change that can be kept. */
export interface Unfit {
  readonly code: number;
  readonly why: string;
}

const malformed = (why: string): Unfit => ({ code: ResultCode.parameter, why });
const unsupported = (why: string): Unfit => ({ code: ResultCode.unsupportedFeature, why });

/**
 * A change as a source ships it, read out of one message after the other (README.md, section "Protocol"). {@link read} first; what it found
 * holds until the next.
 */
export class Shipped {
  namespace = '';
  /** '' for none. */
  set = '';
  isDelete = false;
  /** An update: whether it has all bins is the source's configuration. */
  isUpdate = false;
  generation = 0;
  /** Ms since 1970; undefined: a delete that does not say when. */
  lutMs: number | undefined;
  /** Seconds that remain; undefined: never expires. */
  ttlS: number | undefined;
  /** Digest and LUT were read, whatever else is wrong: then it is known what was not kept. */
  isNamed = false;
  #message: MessageView | undefined;

  /** Undefined: it is a change that can be kept. */
  read(m: MessageView): Unfit | undefined {
    this.#message = m;
    this.isNamed = false;
    if ((m.info1 & Info1.xdr) === 0) return { code: ResultCode.forbidden, why: 'not a message of XDR' };
    return this.#readWhich(m) ?? this.#readKind(m);
  }

  get digest(): Buffer {
    return Buffer.from(this.#field(FieldId.digest));
  }

  #field(id: FieldId): Buffer {
    return this.#message?.field(id) ?? EMPTY;
  }

  /** Which record, and when. */
  #readWhich(m: MessageView): Unfit | undefined {
    const namespace = textOf(m, FieldId.namespace, NAMESPACE_BYTES_MAX);
    if (!namespace) return malformed('no namespace, or one that is no name');
    const set = textOf(m, FieldId.set, SET_BYTES_MAX);
    if (set === undefined) return malformed('a set whose name is too long or not UTF-8');
    if (m.fieldEnd(FieldId.digest) - m.fieldStart(FieldId.digest) !== DIGEST_BYTES)
      return malformed('no digest of 20 bytes');
    this.namespace = namespace;
    this.set = set;
    this.isDelete = (m.info2 & Info2.delete) !== 0;
    const lut = m.fieldStart(FieldId.lut);
    if (lut === 0) {
      this.lutMs = undefined;
      return this.isDelete ? undefined : malformed('a write without LUT');
    }
    if (m.fieldEnd(FieldId.lut) - lut !== 8) return malformed('a LUT that has not 8 bytes');
    // above 40 bits is the id of the source
    this.lutMs = SERVER_EPOCH_MS + m.bytes[lut + 3] * 2 ** 32 + m.bytes.readUInt32BE(lut + 4);
    this.isNamed = true;
    return undefined;
  }

  #readKind(m: MessageView): Unfit | undefined {
    if ((m.info1 & ~Info1.xdr) !== 0) return unsupported('it reads');
    if ((m.info2 & Info2.write) === 0) return unsupported('it does not write');
    if ((m.info2 & ~(WRITE_BITS | Info2.delete)) !== 0) return unsupported('it has conditions');
    if (m.has(FieldId.udfFile) || m.has(FieldId.udfOp)) return unsupported('it calls a UDF');
    if (this.isDelete) return m.ops > 0 ? malformed('a delete with ops') : undefined;
    if ((m.info3 & UPDATE_BITS) !== 0) return unsupported('it only updates: some bins are not in it');
    if (m.ops === 0) return unsupported('it has no bins');
    if (m.generation < 1 || m.generation > GENERATION_MAX) return malformed(`generation ${m.generation}`);
    this.isUpdate = (m.info3 & (Info3.createOrReplace | Info3.replaceOnly)) === 0;
    this.generation = m.generation;
    if (m.recordTtl === WireTtl.keep) return unsupported('it keeps a time to live that it does not say');
    this.ttlS = m.recordTtl === WireTtl.never ? undefined : m.recordTtl;
    if (m.has(FieldId.key) && m.fieldEnd(FieldId.key) - m.fieldStart(FieldId.key) < 2)
      return malformed('a stored key without a value');
    for (m.rewindOps(); m.nextOp(); ) {
      if (m.op !== OpId.write) return unsupported(`it has an op ${m.op}, not only writes of bins`);
      if (m.opType === 0) return unsupported('it removes a bin: the others are not in it');
      if (m.opNameStart === m.opNameEnd) return malformed('a bin without a name');
    }
    return undefined;
  }

  /** Void time, s since 1970, of a record that is read at `nowMs`; 0: never; undefined: too far away. */
  voidTimeS(nowMs: number): number | undefined {
    if (this.ttlS === undefined) return 0;
    const voidTimeS = Math.floor(nowMs / 1000) + this.ttlS;
    return voidTimeS > VOID_TIME_MAX ? undefined : voidTimeS;
  }

  /** The record's image (engine/image.ts), a copy: key and bins as they came. */
  image(): Buffer {
    const m = this.#message as MessageView;
    const keyStart = m.fieldStart(FieldId.key);
    const keyBytes = m.fieldEnd(FieldId.key) - keyStart;
    const keySize = keyStart === 0 ? 0 : keyBytes + 1;
    let size = varintBytes(keySize) + (keyStart === 0 ? 0 : keyBytes) + varintBytes(m.ops);
    for (m.rewindOps(); m.nextOp(); ) {
      const bytes = m.opValueEnd - m.opValueStart;
      size += 2 + m.opNameEnd - m.opNameStart + varintBytes(bytes) + bytes;
    }
    const out = Buffer.allocUnsafe(size);
    let at = writeVarint(out, 0, keySize);
    if (keyStart !== 0) at += m.bytes.copy(out, at, keyStart, keyStart + keyBytes);
    at = writeVarint(out, at, m.ops);
    for (m.rewindOps(); m.nextOp(); ) {
      out[at++] = m.opNameEnd - m.opNameStart;
      at += m.bytes.copy(out, at, m.opNameStart, m.opNameEnd);
      out[at++] = m.opType;
      at = writeVarint(out, at, m.opValueEnd - m.opValueStart);
      at += m.bytes.copy(out, at, m.opValueStart, m.opValueEnd);
    }
    return out;
  }
}

const EMPTY = Buffer.alloc(0);

/** '' when there is no such field; undefined: it is too long, or not text. */
const textOf = (m: MessageView, id: FieldId, bytesMax: number): string | undefined => {
  const start = m.fieldStart(id);
  if (start === 0) return '';
  const end = m.fieldEnd(id);
  if (end - start > bytesMax) return undefined;
  let isAscii = true;
  for (let i = start; i < end && isAscii; i++) isAscii = m.bytes[i] < 0x80;
  if (isAscii) return m.bytes.toString('latin1', start, end);
  return isUtf8(m.bytes.subarray(start, end)) ? m.bytes.toString('utf8', start, end) : undefined;
};

import { DIGEST_BYTES, PARTITIONS, partitionOf } from '../../partition.ts';
import { Info3 } from '../bits.ts';
import { FieldId } from '../field.ts';
import { malformed } from '../malformed.ts';
import { MessageView } from '../message.ts';
import type { QueryPartition } from '../partition-query.ts';
import { ProtoType } from '../proto.ts';
import { BlockBuilder, type RecordBlock } from './record-block.ts';

const NOT_ASKED = 0;
const ASKED = 1;
const UNAVAILABLE = 2;

/** The answer to one query, while it arrives: checks that it is one, and remembers how far each partition has come. */
export class ScanPage {
  readonly partitions: readonly QueryPartition[];
  records = 0;
  bytes = 0;
  /** Code of the last message; undefined: it has not come. */
  code: number | undefined;
  readonly #states = new Uint8Array(PARTITIONS);
  /** The last digest of each partition, of those that have one. */
  readonly #last: Buffer;
  readonly #hasLast = new Uint8Array(PARTITIONS);
  readonly #moved = new Uint8Array(PARTITIONS);
  readonly #view = new MessageView();
  readonly #builder = new BlockBuilder();

  constructor(partitions: readonly QueryPartition[]) {
    this.partitions = partitions;
    this.#last = Buffer.allocUnsafe(PARTITIONS * DIGEST_BYTES);
    for (const { partition, after } of partitions) {
      this.#states[partition] = ASKED;
      if (!after) continue;
      after.copy(this.#last, partition * DIGEST_BYTES);
      this.#hasLast[partition] = 1;
    }
  }

  /** Partitions that the node does not have. */
  isUnavailable(partition: number): boolean {
    return this.#states[partition] === UNAVAILABLE;
  }

  /** The digest that the partition was read to; undefined: nothing of it came. */
  lastOf(partition: number): Buffer | undefined {
    if (this.#moved[partition] === 0) return undefined;
    const at = partition * DIGEST_BYTES;
    return Buffer.from(this.#last.subarray(at, at + DIGEST_BYTES));
  }

  /** Takes a frame; returns its records, undefined when it has none. @throws wire-malformed */
  frame(type: ProtoType, body: Buffer): RecordBlock | undefined {
    if (type !== ProtoType.message) throw malformed(`a frame of type ${type} answers a scan`);
    const m = this.#view;
    for (let at = 0; at < body.length; ) {
      if (this.code !== undefined) throw malformed('messages follow the last one of a scan');
      const start = at;
      at = m.parse(body, at);
      if (m.info3 & Info3.last) this.code = m.result;
      else if (m.info3 & Info3.partitionDone) this.#partitionDone(m.generation, m.result);
      else this.#record(start);
    }
    const { length } = this.#builder;
    if (length === 0) return undefined;
    this.records += length;
    this.bytes += body.length;
    return this.#builder.take(body);
  }

  #partitionDone(partition: number, code: number): void {
    if (partition >= PARTITIONS || this.#states[partition] === NOT_ASKED)
      throw malformed(`partition ${partition}, which the scan did not ask for`);
    if (code !== 0) this.#states[partition] = UNAVAILABLE;
  }

  #record(start: number): void {
    const m = this.#view;
    const at = m.fieldStart(FieldId.digest);
    if (at === 0 || m.fieldEnd(FieldId.digest) - at !== DIGEST_BYTES)
      throw malformed('a record of a scan without digest');
    if (m.result !== 0) throw malformed(`a record of a scan with code ${m.result}`);
    const { bytes } = m;
    const partition = partitionOf(bytes, at);
    if (this.#states[partition] === NOT_ASKED)
      throw malformed(`a record of partition ${partition}, which the scan did not ask for`);
    const last = partition * DIGEST_BYTES;
    // N2: else going on from the last digest would leave records out
    if (this.#hasLast[partition] === 1 && !isBelow(bytes, at, this.#last, last))
      throw malformed(`records of partition ${partition} that do not come in descending order`);
    for (let i = 0; i < DIGEST_BYTES; i++) this.#last[last + i] = bytes[at + i];
    this.#hasLast[partition] = 1;
    this.#moved[partition] = 1;
    this.#builder.add(m, start);
  }
}

const isBelow = (a: Buffer, aStart: number, b: Buffer, bStart: number): boolean => {
  for (let i = 0; i < DIGEST_BYTES; i++) {
    const d = a[aStart + i] - b[bStart + i];
    if (d !== 0) return d < 0;
  }
  return false;
};

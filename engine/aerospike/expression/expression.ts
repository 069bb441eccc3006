/**
 * Expressions: what filters (field 43) and expression reads (op 7) compute from one record.
 */
import type { Particle } from '../../particle.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';

/** What an expression may ask of a record. One object can be reused for record after record. */
export interface ExpressionRecord {
  /** 20 bytes. */
  readonly digest: Uint8Array;
  /** Last update, ms since 1970. */
  readonly lut: number;
  /** Seconds since 2010 (server epoch), 0: never expires. */
  readonly voidTime: number;
  /** Bytes of the set's name; empty: no set. */
  readonly set: string;
  /** The stored user key. */
  readonly key: Particle | undefined;
  /** Bytes stored, for device_size, memory_size and record_size. */
  readonly storedBytes: number;
  /** Ms since 1970 on the server's clock, for ttl and since_update. */
  readonly now: number;
  /** The bin of this name. Asked only for bins that the expression reads. */
  bin(name: string): Particle | undefined;
}

export type Verdict = true | false | 'unknown';

export interface Expression {
  /** True when a bin or the stored key's value may be needed; false: metadata alone decides (recs-filtered-meta). */
  readonly usesBins: boolean;
  /** True when the expression's value is a boolean, as a filter's must be. */
  readonly isFilter: boolean;
  /** Filter. `unknown`, e.g. for a missing bin, filters the record out. */
  decide(record: ExpressionRecord): Verdict;
  /** Filter, before bins are read: `unknown` when they are needed. `record.bin` is not called. */
  decideByMetadata(record: ExpressionRecord): Verdict;
  /** Expression read. `undefined`: unknown. */
  value(record: ExpressionRecord): Particle | undefined;
}

/** Parses and type-checks. @throws Refusal with code 4 for bytes that are no expression, 16 for opcodes not supported here */
export const parseExpression = (_bytes: Uint8Array): Expression => {
  throw new Refusal(ResultCode.unsupportedFeature, 'not there yet');
};

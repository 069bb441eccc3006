/** One node of a parsed expression: what it is of, whether it reads bins, and how its value is found. */
import type { Particle } from '../../particle.ts';

/** Types of values, as expressions name them (aerospike-wire.md 5.1). */
export const ValueType = {
  nil: 0,
  bool: 1,
  int: 2,
  string: 3,
  list: 4,
  map: 5,
  blob: 6,
  float: 7,
  geojson: 8,
  hll: 9,
  /** The opcode result-remove. No bin has it. */
  remove: 100,
} as const;
export type ValueType = (typeof ValueType)[keyof typeof ValueType];

/**
 * A value at run time; its type is the node's. `undefined`: unknown. Integers are numbers as long as they are safe, else bigints,
 * always of 64 signed bits; floats are numbers; strings, blobs and the rest are bytes: of lists and maps msgpack, of GeoJSON the text.
 */
export type Value = undefined | null | boolean | number | bigint | Uint8Array;

/** What an expression may ask of a record. One object can be reused for record after record. */
export interface ExpressionRecord {
  /** 20 bytes. */
  readonly digest: Uint8Array;
  /** Last update, ms since 1970. */
  readonly lut: number;
  /** Seconds since 2010 (server epoch), 0: never expires. */
  readonly voidTime: number;
  /** Empty: no set. */
  readonly set: string;
  /** The stored user key. */
  readonly key: Particle | undefined;
  /** Bytes stored, for memory_size and record_size. */
  readonly storedBytes: number;
  /** Ms since 1970 on the server's clock, for ttl and since_update. */
  readonly now: number;
  /** The bin of this name. Asked only for bins that the expression reads. */
  bin(name: string): Particle | undefined;
}

/** What nodes see while an expression is evaluated. One per expression, used again for every record. */
export interface Run {
  record: ExpressionRecord;
  /** True before bins are read: what needs them is unknown. */
  metadataOnly: boolean;
  readonly variables: Value[];
}

export interface Node {
  readonly type: ValueType;
  readonly usesBins: boolean;
  readonly evaluate: (run: Run) => Value;
  /** Set for literals, which comparisons make use of. */
  readonly literal?: Value;
  /** The opcode `unknown`, which may stand for a value of any type. */
  readonly isUnknown?: boolean;
  /** Set for the opcode last_update: comparisons with a literal are made in ms. */
  readonly isLastUpdate?: boolean;
  /** Set for bins: their particle, which may say more than their value (NaN payloads, cells of GeoJSON). */
  readonly particle?: (run: Run) => Particle | undefined;
}

/** An integer of 64 signed bits from any arithmetic: wraps, as a processor does. */
export const int64 = (n: bigint): number | bigint => {
  const wrapped = BigInt.asIntN(64, n);
  const number = Number(wrapped);
  return Number.isSafeInteger(number) ? number : wrapped;
};

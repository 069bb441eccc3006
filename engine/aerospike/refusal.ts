/**
 * What a peer is told instead of a result: a code of Aerospike's protocol (aerospike-wire.md 1.7) and, for logs, why.
 *
 * It is an answer, not a failure of pitr: functions that refuse often return it, parsers throw it.
 */

/** Result codes that lists, maps and expressions refuse with. */
export const ResultCode = {
  unknown: 1,
  parameter: 4,
  incompatibleType: 12,
  unsupported: 16,
  binNotFound: 17,
  elementNotFound: 23,
  elementExists: 24,
  notApplicable: 26,
} as const;
export type ResultCode = (typeof ResultCode)[keyof typeof ResultCode];

export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: ResultCode;

  constructor(code: ResultCode, why: string) {
    super(why);
    this.code = code;
  }
}

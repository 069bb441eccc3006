import { type ResultCode, resultCodeName } from './result-code.ts';

/**
 * What a peer is told instead of a result: a code of the protocol and, for logs, why.
 *
 * It is an answer, not a failure of pitr: functions that refuse often return it, parsers throw it.
 */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: ResultCode;

  constructor(code: ResultCode, why: string) {
    super(`${resultCodeName(code)}: ${why}`);
    this.code = code;
  }
}

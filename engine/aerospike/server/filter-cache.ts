import { type Expression, parseExpression } from '../expression/expression.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';

/** The filter that was parsed last: rows of a batch, and pipelined commands, come with the same again and again. */
export class FilterCache {
  #bytes: Buffer | undefined;
  #parsed: Expression | Refusal | undefined;

  /** The filter in `bytes`, or why it is none. */
  of(bytes: Buffer): Expression | Refusal {
    if (this.#parsed && this.#bytes?.equals(bytes)) return this.#parsed;
    this.#bytes = Buffer.from(bytes);
    this.#parsed = parseFilter(this.#bytes);
    return this.#parsed;
  }
}

/** An expression that says yes or no, or why there is none. */
const parseFilter = (bytes: Buffer): Expression | Refusal => {
  const parsed = parsedExpression(bytes);
  if (parsed instanceof Refusal || parsed.isFilter) return parsed;
  return new Refusal(ResultCode.parameter, 'the filter is no condition');
};

/** An expression, or why there is none. */
export const parsedExpression = (bytes: Uint8Array): Expression | Refusal => {
  try {
    return parseExpression(bytes);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
};

/** Flags of EXP_READ and EXP_MODIFY. */
export const ExpFlag = {
  createOnly: 1,
  updateOnly: 2,
  allowDelete: 4,
  policyNoFail: 8,
  evalNoFail: 16,
} as const;

/** The op's value `[expression, flags]` taken apart; undefined: it is none. Flags are the last byte. */
export const expressionOp = (value: Buffer): { expression: Buffer; flags: number } | undefined => {
  const flags = value.at(-1);
  if (value.length < 3 || value[0] !== 0x92 || flags === undefined || flags > 31) return undefined;
  return { expression: value.subarray(1, -1), flags };
};

import {
  type Expression,
  type ExpressionOp,
  parseExpressionOp,
  parseFilter,
  refusalOr,
} from '../expression/expression.ts';
import type { Refusal } from '../refusal.ts';

/** Expressions that are remembered: those of the ops of one command, for every record that it reads. */
const PARSED_MAX = 8;

/** What was parsed last from the same bytes: rows of a batch, records of a scan and pipelined commands come with the same again and again. */
class Parsed<T> {
  readonly #parse: (bytes: Buffer) => T;
  readonly #known: { readonly bytes: Buffer; readonly value: T | Refusal }[] = [];
  #next = 0;

  constructor(parse: (bytes: Buffer) => T) {
    this.#parse = parse;
  }

  /** What is in `bytes`, or why it is none. */
  of(bytes: Buffer): T | Refusal {
    for (const known of this.#known) if (known.bytes.equals(bytes)) return known.value;
    const copy = Buffer.from(bytes);
    const value = this.#parsed(copy);
    this.#known[this.#next] = { bytes: copy, value };
    this.#next = (this.#next + 1) % PARSED_MAX;
    return value;
  }

  #parsed(bytes: Buffer): T | Refusal {
    return refusalOr(() => this.#parse(bytes));
  }
}

/** Filters of field 43. */
export class FilterCache extends Parsed<Expression> {
  constructor() {
    super(parseFilter);
  }
}

/** Values of EXP_READ ops, and of EXP_MODIFY ops, which have more flags. */
export class ExpressionOpCache extends Parsed<ExpressionOp> {
  constructor(modifies: boolean) {
    super((bytes) => parseExpressionOp(bytes, modifies));
  }
}

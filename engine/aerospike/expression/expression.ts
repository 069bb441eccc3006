/**
 * Expressions: what filters (field 43) and expression ops (7 and 8) compute from one record. The specification is README.md.
 */
import type { Particle } from '../../particle.ts';
import { Head, Kind, skip } from '../cdt/element.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { particleOf } from './element-of.ts';
import { type ExpressionRecord, type Node, type Run, ValueType } from './node.ts';
import { ExpressionParser } from './parse.ts';

export { type ExpressionRecord, ValueType } from './node.ts';

export type Verdict = true | false | 'unknown';

/** A parsed expression. It is not re-entrant: evaluate it for one record after the other. */
export class Expression {
  readonly #node: Node;
  readonly #run: Run;

  /** Use {@link parseExpression}. */
  constructor(node: Node, variables: number) {
    this.#node = node;
    this.#run = {
      record: NO_RECORD,
      metadataOnly: false,
      variables: new Array(variables).fill(undefined),
    };
  }

  /** True when a bin or the stored key may be needed; false: metadata alone decides (recs-filtered-meta). */
  get usesBins(): boolean {
    return this.#node.usesBins;
  }

  /** True when its value is a boolean, as a filter's must be. */
  get isFilter(): boolean {
    return this.#node.type === ValueType.bool;
  }

  /** Filter. `unknown`, e.g. for a missing bin, filters the record out. */
  decide(record: ExpressionRecord): Verdict {
    return this.#decide(record, false);
  }

  /**
   * Filter, before bins are read: `unknown` when they are needed, and then {@link decide} decides. Otherwise it is final.
   * Neither `record.bin` nor the value of `record.key` is looked at.
   */
  decideByMetadata(record: ExpressionRecord): Verdict {
    return this.#decide(record, true);
  }

  #decide(record: ExpressionRecord, metadataOnly: boolean): Verdict {
    const value = this.#evaluate(record, metadataOnly);
    return value === true ? true : value === undefined ? 'unknown' : false;
  }

  #evaluate(record: ExpressionRecord, metadataOnly: boolean) {
    const run = this.#run;
    run.record = record;
    run.metadataOnly = metadataOnly;
    const value = this.#node.evaluate(run);
    run.record = NO_RECORD;
    return value;
  }

  /** Expression read. `undefined`: nil; 'unknown': the value is not known. */
  valueOrUnknown(record: ExpressionRecord): Particle | undefined | 'unknown' {
    const node = this.#node;
    const run = this.#run;
    run.record = record;
    run.metadataOnly = false;
    const particle = node.particle?.(run);
    const value = particle === undefined ? node.evaluate(run) : undefined;
    run.record = NO_RECORD;
    if (particle !== undefined) return particle;
    return value === undefined ? 'unknown' : particleOf(node.type, value);
  }

  /** Expression read. `undefined`: unknown, or nil. */
  value(record: ExpressionRecord): Particle | undefined {
    const value = this.valueOrUnknown(record);
    return value === 'unknown' ? undefined : value;
  }
}

/** Stands in between evaluations, so that no record is held. */
const NO_RECORD: ExpressionRecord = {
  digest: new Uint8Array(20),
  lut: 0,
  voidTime: 0,
  set: '',
  key: undefined,
  storedBytes: 0,
  now: 0,
  bin: () => undefined,
};

/** Parses and type-checks. @throws Refusal with code 4 for bytes that are no expression, 16 for what is not supported here */
export const parseExpression = (bytes: Uint8Array): Expression => {
  const parser = new ExpressionParser(bytes);
  const node = parser.parse();
  return new Expression(node, parser.variables);
};

/** An expression for field 43. @throws Refusal as {@link parseExpression}, and 4 when its value is no boolean */
export const parseFilter = (bytes: Uint8Array): Expression => {
  const expression = parseExpression(bytes);
  if (!expression.isFilter) throw new Refusal(ResultCode.parameter, 'a filter has a boolean value');
  return expression;
};

/** Flags of expression ops. */
export const ExpressionFlag = {
  createOnly: 1,
  updateOnly: 2,
  allowDelete: 4,
  policyNoFail: 8,
  /** An unknown value is no error: there is then no result. */
  evalNoFail: 16,
} as const;

const READ_FLAGS: number = ExpressionFlag.evalNoFail;
const MODIFY_FLAGS = 31;

export interface ExpressionOp {
  readonly expression: Expression;
  readonly flags: number;
}

/**
 * The value of an op 7 (EXP_READ) or 8 (EXP_MODIFY): `[expression, flags]`, flags optional.
 * @throws Refusal as {@link parseExpression}, and 4 for flags that there are not
 */
export const parseExpressionOp = (bytes: Uint8Array, modifies = false): ExpressionOp => {
  const bad = (): never => {
    throw new Refusal(ResultCode.parameter, 'an expression op is [expression, flags]');
  };
  const head = new Head();
  head.read(bytes, 0, bytes.length);
  if (head.kind !== Kind.list || head.length < 1 || head.length > 2) bad();
  const start = head.next;
  const end = skip(bytes, start, bytes.length);
  if (end < 0) bad();
  head.read(bytes, end, bytes.length);
  // What is no integer counts as no flags.
  const flags = head.isInteger ? head.unsigned : 0;
  const known = modifies ? MODIFY_FLAGS : READ_FLAGS;
  if (flags > known || (flags & ~known) !== 0) bad();
  return { expression: parseExpression(bytes.subarray(start, end)), flags };
};

/** What `evaluate` gives, or the refusal that it throws: of a regular expression that takes too long on this record. */
export const refusalOr = <T>(evaluate: () => T): T | Refusal => {
  try {
    return evaluate();
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
};

/** What op 7 answers: a particle, nothing, or a refusal with code 26 when the value is unknown and the flags do not allow it. */
export const expressionRead = (
  { expression, flags }: ExpressionOp,
  record: ExpressionRecord,
): Particle | undefined | Refusal => {
  const value = refusalOr(() => expression.valueOrUnknown(record));
  if (value instanceof Refusal) return value;
  if (value !== 'unknown') return value;
  if ((flags & ExpressionFlag.evalNoFail) !== 0) return undefined;
  return new Refusal(ResultCode.opNotApplicable, 'the value of the expression is unknown');
};

/** What an operation's bytes say: the number of the operation, its arguments, the context before them. */
import { ResultCode } from '../result-code.ts';
import { refuse } from './answer.ts';
import { Head, Kind, type Span, skip, skippedQueryArgument } from './element.ts';

/** A count that is not given: all. */
export const ALL = 0xffffffff;

const malformed = (why: string): never => refuse(ResultCode.parameter, why);

/** Goes over the bytes of an operation. Every malformed byte is refused with code 4. */
export class OperationReader {
  readonly bytes: Uint8Array;
  readonly #head = new Head();
  #at = 0;
  #sawQueryArgument = false;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get at(): number {
    return this.#at;
  }

  #read(): Head {
    this.#head.read(this.bytes, this.#at, this.bytes.length);
    return this.#head;
  }

  /** Elements of the list that starts here; its first element is next. */
  listCount(): number {
    const h = this.#read();
    if (h.kind !== Kind.list) malformed('an operation is a list');
    this.#at = h.next;
    return h.length;
  }

  #integer(): Head {
    const h = this.#read();
    if (!h.isInteger) malformed('an argument is not an integer');
    this.#at = h.next;
    return h;
  }

  /** A signed integer. Beyond 2^53 it is rounded, which no index reaches. */
  int(): number {
    return this.#integer().number;
  }

  uint(): number {
    return this.#integer().unsigned;
  }

  /** Wildcards and infinities of a context are forgotten when a key of a map follows them. */
  forgetQueryArguments(): void {
    this.#sawQueryArgument = false;
  }

  /** Any element. `stored` refuses wildcards and infinities, which only queries have: here, or in the context. */
  element(stored: boolean): Span {
    const at = this.#at;
    const end = skip(this.bytes, at, this.bytes.length);
    if (end < 0) malformed('an argument is malformed');
    if (skippedQueryArgument) this.#sawQueryArgument = true;
    if (stored && this.#sawQueryArgument) malformed('a wildcard or infinity cannot be stored');
    this.#at = end;
    return { bytes: this.bytes, at, end };
  }
}

/**
 * Kinds of parameters, one letter each: `f` flags and `c` counts (unsigned), `i` indexes (signed), `v` values to compare with,
 * `s` values to be stored.
 */
export interface Signature {
  readonly parameters: string;
  /** How many at the end may be left out. */
  readonly optional: number;
}

/** The arguments of one operation, by place. */
export class Arguments {
  readonly #values: readonly (number | Span)[];

  constructor(values: readonly (number | Span)[]) {
    this.#values = values;
  }

  number(place: number, missing = 0): number {
    const value = this.#values[place];
    return typeof value === 'number' ? value : missing;
  }

  span(place: number): Span {
    return this.#values[place] as Span;
  }

  optionalSpan(place: number): Span | undefined {
    return this.#values[place] as Span | undefined;
  }
}

/** @throws Refusal 4 when there are too few, too many, or some of another kind */
export const readArguments = (
  reader: OperationReader,
  count: number,
  { parameters, optional }: Signature,
): Arguments => {
  // Operations without parameters do not look at what follows.
  if (parameters.length === 0) return new Arguments([]);
  if (count < parameters.length - optional || count > parameters.length)
    malformed(`${count} arguments instead of ${parameters.length}`);
  const values: (number | Span)[] = [];
  for (let i = 0; i < count; i++) {
    const kind = parameters[i];
    if (kind === 'f' || kind === 'c') values.push(reader.uint());
    else if (kind === 'i') values.push(reader.int());
    else values.push(reader.element(kind === 's'));
  }
  return new Arguments(values);
};

/** POSIX regular expressions, basic and extended, as the C library reads them: their syntax. Bytes, not characters. */
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';

/** Options, as the C library has them. */
export const RegexOption = { extended: 1, ignoreCase: 2, newline: 4, noSubexpressions: 8 } as const;

/** The largest count of `{m,n}`, as in the C library. */
const REPEAT_MAX = 0x7fff;
const NESTING_MAX = 200;

/** Syntax, before it becomes states. */
export type Tree =
  | { readonly kind: 'set'; readonly bytes: Uint8Array }
  | { readonly kind: 'assert'; readonly what: Assertion }
  | { readonly kind: 'sequence'; readonly parts: readonly Tree[] }
  | { readonly kind: 'choice'; readonly parts: readonly Tree[] }
  | { readonly kind: 'repeat'; readonly part: Tree; readonly min: number; readonly max: number };

export type Assertion =
  | 'lineStart'
  | 'lineEnd'
  | 'textStart'
  | 'textEnd'
  | 'word'
  | 'notWord'
  | 'wordStart'
  | 'wordEnd';

export const bad = (why: string): never => {
  throw new Refusal(ResultCode.parameter, `regular expression: ${why}`);
};

const setOf = (includes: (byte: number) => boolean): Uint8Array => {
  const bytes = new Uint8Array(256);
  for (let b = 0; b < 256; b++) if (includes(b)) bytes[b] = 1;
  return bytes;
};

const isLower = (b: number): boolean => b >= 0x61 && b <= 0x7a;
const isUpper = (b: number): boolean => b >= 0x41 && b <= 0x5a;
const isDigit = (b: number): boolean => b >= 0x30 && b <= 0x39;
const isAlpha = (b: number): boolean => isLower(b) || isUpper(b);
export const isWord = (b: number): boolean => isAlpha(b) || isDigit(b) || b === 0x5f;
const isSpace = (b: number): boolean => b === 0x20 || (b >= 0x09 && b <= 0x0d);
const isGraph = (b: number): boolean => b > 0x20 && b < 0x7f;

const CLASSES: ReadonlyMap<string, (b: number) => boolean> = new Map([
  ['alpha', isAlpha],
  ['digit', isDigit],
  ['alnum', (b: number) => isAlpha(b) || isDigit(b)],
  ['upper', isUpper],
  ['lower', isLower],
  ['space', isSpace],
  ['blank', (b: number) => b === 0x20 || b === 0x09],
  ['punct', (b: number) => isGraph(b) && !isAlpha(b) && !isDigit(b)],
  ['print', (b: number) => b >= 0x20 && b < 0x7f],
  ['graph', isGraph],
  ['cntrl', (b: number) => b < 0x20 || b === 0x7f],
  ['xdigit', (b: number) => isDigit(b) || (b >= 0x41 && b <= 0x46) || (b >= 0x61 && b <= 0x66)],
]);

const code = (c: string): number => c.charCodeAt(0);

class Parser {
  readonly #p: Uint8Array;
  readonly #extended: boolean;
  readonly #ignoreCase: boolean;
  readonly #newline: boolean;
  #at = 0;
  #depth = 0;

  constructor(pattern: Uint8Array, options: number) {
    // A C string: it ends at the first NUL.
    const nul = pattern.indexOf(0);
    this.#p = nul < 0 ? pattern : pattern.subarray(0, nul);
    this.#extended = (options & RegexOption.extended) !== 0;
    this.#ignoreCase = (options & RegexOption.ignoreCase) !== 0;
    this.#newline = (options & RegexOption.newline) !== 0;
  }

  parse(): Tree {
    const tree = this.#choice();
    // Only a closing parenthesis stops a choice early. Without its opening one an extended expression takes it literally.
    return this.#at < this.#p.length ? bad('an unmatched )') : tree;
  }

  #peek(text: string): boolean {
    for (let i = 0; i < text.length; i++) if (this.#p[this.#at + i] !== code(text[i]!)) return false;
    return true;
  }

  #take(text: string): boolean {
    if (!this.#peek(text)) return false;
    this.#at += text.length;
    return true;
  }

  #choice(): Tree {
    if (++this.#depth > NESTING_MAX) bad('nested too deep');
    const parts = [this.#sequence()];
    while (this.#take(this.#extended ? '|' : '\\|')) parts.push(this.#sequence());
    this.#depth--;
    return parts.length === 1 ? parts[0]! : { kind: 'choice', parts };
  }

  #atEnd(): boolean {
    if (this.#at >= this.#p.length) return true;
    if (this.#extended) return this.#peek('|') || (this.#peek(')') && this.#depth > 1);
    return this.#peek('\\|') || (this.#peek('\\)') && this.#depth > 1);
  }

  #sequence(): Tree {
    const parts: Tree[] = [];
    while (!this.#atEnd()) parts.push(this.#repeated(this.#atom(parts.length === 0)));
    return parts.length === 1 ? parts[0]! : { kind: 'sequence', parts };
  }

  #repeated(atom: Tree): Tree {
    let part = atom;
    // Nothing repeats an anchor: what looks so is a literal in a basic expression, an error in an extended one.
    if (atom.kind === 'assert') return part;
    for (let count = 0; ; count++) {
      if (count > 0 && !this.#extended && (this.#peek('*') || this.#peek('\\{')))
        bad('a repetition of a repetition');
      if (this.#take('*')) part = { kind: 'repeat', part, min: 0, max: Number.POSITIVE_INFINITY };
      else if (this.#take(this.#extended ? '+' : '\\+'))
        part = { kind: 'repeat', part, min: 1, max: Number.POSITIVE_INFINITY };
      else if (this.#take(this.#extended ? '?' : '\\?')) part = { kind: 'repeat', part, min: 0, max: 1 };
      else {
        const bounds = this.#bounds();
        if (bounds === undefined) return part;
        part = { kind: 'repeat', part, ...bounds };
      }
    }
  }

  /** `{m}`, `{m,}`, `{,n}`, `{m,n}`. */
  #bounds(): { min: number; max: number } | undefined {
    if (!this.#take(this.#extended ? '{' : '\\{')) return undefined;
    const first = this.#number();
    const min = first ?? 0;
    let max: number | undefined = first;
    if (this.#take(',')) max = this.#number() ?? Number.POSITIVE_INFINITY;
    const closes = this.#take(this.#extended ? '}' : '\\}');
    if (!closes || max === undefined || max < min) return bad('malformed braces');
    if (min > REPEAT_MAX || (max > REPEAT_MAX && max !== Number.POSITIVE_INFINITY)) bad('a count too large');
    return { min, max };
  }

  #number(): number | undefined {
    const from = this.#at;
    let n = 0;
    while (isDigit(this.#p[this.#at] ?? 0)) n = Math.min(1e6, 10 * n + this.#p[this.#at++]! - 0x30);
    return this.#at === from ? undefined : n;
  }

  #atom(isFirst: boolean): Tree {
    const b = this.#p[this.#at]!;
    this.#at++;
    switch (String.fromCharCode(b)) {
      case '\\':
        return this.#escape();
      case '.':
        return this.#set(setOf((x) => x !== 0 && !(this.#newline && x === 0x0a)));
      case '[':
        return this.#brackets();
      case '^':
        if (this.#extended || isFirst) return { kind: 'assert', what: 'lineStart' };
        break;
      case '$':
        if (this.#extended || this.#atEnd()) return { kind: 'assert', what: 'lineEnd' };
        break;
      case '(':
        if (this.#extended) return this.#group(')');
        break;
      case '*':
      case '+':
      case '?':
      case '{':
        if (this.#extended) return bad('a repetition of nothing');
        break;
    }
    return this.#byte(b);
  }

  #group(closing: string): Tree {
    const tree = this.#choice();
    return this.#take(closing) ? tree : bad('an unmatched (');
  }

  #escape(): Tree {
    const b = this.#p[this.#at];
    if (b === undefined) return bad('a trailing backslash');
    this.#at++;
    switch (String.fromCharCode(b)) {
      case '(':
        if (!this.#extended) return this.#group('\\)');
        break;
      case ')':
        if (!this.#extended) return bad('an unmatched )');
        break;
      case '{':
        if (!this.#extended) return bad('a repetition of nothing');
        break;
      case 'w':
        return this.#set(setOf(isWord));
      case 'W':
        return this.#set(setOf((x) => x !== 0 && !isWord(x)));
      case 's':
        return this.#set(setOf(isSpace));
      case 'S':
        return this.#set(setOf((x) => x !== 0 && !isSpace(x)));
      case 'b':
        return { kind: 'assert', what: 'word' };
      case 'B':
        return { kind: 'assert', what: 'notWord' };
      case '<':
        return { kind: 'assert', what: 'wordStart' };
      case '>':
        return { kind: 'assert', what: 'wordEnd' };
      case '`':
        return { kind: 'assert', what: 'textStart' };
      case "'":
        return { kind: 'assert', what: 'textEnd' };
    }
    if (b >= 0x31 && b <= 0x39)
      throw new Refusal(ResultCode.unsupportedFeature, 'regular expression: a back reference');
    return this.#byte(b);
  }

  #byte(b: number): Tree {
    return this.#set(setOf((x) => x === b));
  }

  #set(bytes: Uint8Array): Tree {
    if (this.#ignoreCase)
      for (let b = 0x41; b <= 0x5a; b++) {
        const either = bytes[b]! | bytes[b + 0x20]!;
        bytes[b] = either;
        bytes[b + 0x20] = either;
      }
    return { kind: 'set', bytes };
  }

  #brackets(): Tree {
    const negated = this.#take('^');
    const bytes = new Uint8Array(256);
    let isFirst = true;
    for (;;) {
      const b = this.#p[this.#at];
      if (b === undefined) return bad('an unmatched [');
      if (b === code(']') && !isFirst) break;
      isFirst = false;
      if (this.#take('[:')) this.#class(bytes);
      else this.#range(bytes);
    }
    this.#at++;
    const { kind, bytes: set } = this.#set(bytes) as Tree & { kind: 'set' };
    if (!negated) return { kind, bytes: set };
    return { kind, bytes: setOf((x) => x !== 0 && set[x] === 0 && !(this.#newline && x === 0x0a)) };
  }

  #class(bytes: Uint8Array): void {
    const end = this.#p.indexOf(code(':'), this.#at);
    if (end < 0 || this.#p[end + 1] !== code(']')) bad('an unknown character class');
    const name = Buffer.from(this.#p.subarray(this.#at, end)).toString('latin1');
    const includes = CLASSES.get(name) ?? bad('an unknown character class');
    this.#at = end + 2;
    for (let b = 0; b < 256; b++) if (includes(b)) bytes[b] = 1;
  }

  #range(bytes: Uint8Array): void {
    const low = this.#collating();
    let high = low;
    if (this.#peek('-') && this.#p[this.#at + 1] !== undefined && this.#p[this.#at + 1] !== code(']')) {
      this.#at++;
      high = this.#collating();
    }
    if (high < low) bad('a range that is no range');
    bytes.fill(1, low, high + 1);
  }

  /** A byte of a bracket expression; `[.x.]` and `[=x=]` are single bytes here. */
  #collating(): number {
    for (const [open, close] of [
      ['[.', '.]'],
      ['[=', '=]'],
    ] as const) {
      if (!this.#take(open)) continue;
      const b = this.#p[this.#at++];
      return b !== undefined && this.#take(close) ? b : bad('an unknown collating element');
    }
    const b = this.#p[this.#at++];
    return b ?? bad('an unmatched [');
  }
}

/** @throws Refusal 4 for a malformed pattern, 16 for back references, which no automaton follows */
export const parseRegex = (pattern: Uint8Array, options: number): Tree =>
  new Parser(pattern, options).parse();

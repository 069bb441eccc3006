/**
 * Regular expressions in time linear in the text: a filter comes from a peer, and one with nested repetitions must not hold up
 * the server.
 *
 * A pattern becomes an automaton whose states are all followed at once. Only whether there is a match is asked, never where, so
 * a set of states is all there is to know. Sets that came up, and where each byte leads from them, are kept: a scan asks the same again.
 */
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { type Assertion, bad, isWord, parseRegex, RegexOption, type Tree } from './regex-syntax.ts';

/** States that one text may have visited: what remembered positions save is not counted. About a fifth of a second. */
export const VISITS_MAX = 1_000_000;

/** States of all patterns of one expression: counted repetitions multiply them. */
export const STATES_MAX = 50_000;

/** A state: consumes a byte of `set`, checks an assertion, or just goes on to one or two others. */
interface State {
  readonly set: Uint8Array | undefined;
  readonly assertion: Assertion | undefined;
  next: number;
  other: number;
}

const NONE = -1;

class Compiler {
  readonly states: State[] = [];
  readonly #statesMax: number;

  constructor(statesMax: number) {
    this.#statesMax = statesMax;
  }

  /** Adds the states of `tree` in front of state `next`, and returns the first. */
  add(tree: Tree, next: number): number {
    switch (tree.kind) {
      case 'set':
        return this.#state({ set: tree.bytes, assertion: undefined, next, other: NONE });
      case 'assert':
        return this.#state({ set: undefined, assertion: tree.what, next, other: NONE });
      case 'sequence':
        return tree.parts.reduceRight((after, part) => this.add(part, after), next);
      case 'choice':
        return tree.parts
          .map((part) => this.add(part, next))
          .reduceRight((b, a) => this.#state({ set: undefined, assertion: undefined, next: a, other: b }));
      case 'repeat':
        return this.#repeat(tree.part, tree.min, tree.max, next);
    }
  }

  #repeat(part: Tree, min: number, max: number, next: number): number {
    let first = next;
    if (max === Number.POSITIVE_INFINITY) {
      const loop: State = { set: undefined, assertion: undefined, next: NONE, other: next };
      first = this.#state(loop);
      loop.next = this.add(part, first);
    } else {
      for (let i = min; i < max; i++)
        first = this.#state({
          set: undefined,
          assertion: undefined,
          next: this.add(part, first),
          other: next,
        });
    }
    for (let i = 0; i < min; i++) first = this.add(part, first);
    return first;
  }

  #state(state: State): number {
    if (this.states.length >= this.#statesMax) bad('too large');
    this.states.push(state);
    return this.states.length - 1;
  }
}

/** What lies beside a place in the text, as far as assertions ask. */
const Side = { edge: 0, newline: 1, word: 2, other: 3 } as const;
type Side = (typeof Side)[keyof typeof Side];

const sideOf = (byte: number): Side => (byte === 0x0a ? Side.newline : isWord(byte) ? Side.word : Side.other);

/** The states that matches which have begun are in, before a byte, and what was before it. A match may begin everywhere besides. */
interface Position {
  readonly states: readonly number[];
  readonly before: Side;
}

/**
 * What anchors hold at besides the edges of the text. Without option 4 newlines are nothing to a match that begins or ends at one, but
 * inside a match the C library lets `^` hold after a newline and `$` before one all the same.
 */
interface Anchors {
  readonly afterNewline: boolean;
  readonly beforeNewline: boolean;
}

/** Symbols: the bytes, and the end of the text. */
const SYMBOLS = 257;
const END = 256;

/** Sets that are kept. More come up only in patterns made for it, and are found again each time. */
const POSITIONS_MAX = 256;

const NOT_YET = -1;
const MATCH = -2;
const NO_MATCH = -3;

export class Regex {
  readonly #states: readonly State[];
  readonly #start: number;
  readonly #accept: number;
  readonly #newline: boolean;
  #positions: Position[] = [];
  #numbers = new Map<string, number>();
  /** Where each symbol leads from each position: the number of another, MATCH, NO_MATCH at the end, or NOT_YET. */
  #next = new Int16Array(0);
  #visits = 0;

  /** @throws Refusal 4 for a malformed pattern, 16 for back references */
  constructor(pattern: Uint8Array, options: number, statesMax: number = STATES_MAX) {
    const compiler = new Compiler(statesMax);
    this.#accept =
      compiler.states.push({ set: undefined, assertion: undefined, next: NONE, other: NONE }) - 1;
    this.#start = compiler.add(parseRegex(pattern, options), this.#accept);
    this.#states = compiler.states;
    this.#newline = (options & RegexOption.newline) !== 0;
    this.#forget();
  }

  /** States, to be counted against {@link STATES_MAX}. */
  get size(): number {
    return this.#states.length;
  }

  /**
   * True when the pattern matches anywhere in the text, which ends at its first NUL.
   * @throws Refusal 16 when that takes more than {@link VISITS_MAX}: every byte may visit every state
   */
  test(text: Uint8Array): boolean {
    this.#visits = 0;
    let position = 0;
    for (let at = 0; ; at++) {
      const byte = at < text.length ? text[at]! : 0;
      const symbol = byte === 0 ? END : byte;
      let next = this.#next[position * SYMBOLS + symbol]!;
      if (next === NOT_YET) next = this.#advance(position, symbol);
      if (next === MATCH) return true;
      if (next === NO_MATCH) return false;
      position = next;
    }
  }

  #forget(): void {
    this.#positions = [];
    this.#numbers = new Map();
    this.#next.fill(NOT_YET);
    this.#number({ states: [], before: Side.edge });
  }

  #number(position: Position): number {
    const name = `${position.before} ${position.states}`;
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    const number = this.#positions.push(position) - 1;
    this.#numbers.set(name, number);
    this.#grow(SYMBOLS * this.#positions.length);
    return number;
  }

  #grow(length: number): void {
    if (length <= this.#next.length) return;
    const grown = new Int16Array(Math.max(length, 2 * this.#next.length)).fill(NOT_YET);
    grown.set(this.#next);
    this.#next = grown;
  }

  #advance(from: number, symbol: number): number {
    const position = this.#positions[from]!;
    const after = symbol === END ? Side.edge : sideOf(symbol);
    if (this.#accepts(position, after)) return this.#remember(from, symbol, MATCH);
    if (symbol === END) return this.#remember(from, symbol, NO_MATCH);
    const following = new Set<number>();
    for (const i of this.#consuming(position, after))
      if (this.#states[i]!.set![symbol] !== 0) following.add(this.#states[i]!.next);
    const next: Position = { states: [...following].sort((a, b) => a - b), before: after };
    if (this.#positions.length < POSITIONS_MAX) return this.#remember(from, symbol, this.#number(next));
    this.#forget();
    return this.#number(next);
  }

  #remember(from: number, symbol: number, result: number): number {
    this.#next[from * SYMBOLS + symbol] = result;
    return result;
  }

  #accepts({ states, before }: Position, after: Side): boolean {
    const newline = this.#newline;
    const inside = { afterNewline: true, beforeNewline: newline };
    const fresh = { afterNewline: newline, beforeNewline: newline };
    return (
      this.#reach(states, before, after, inside).has(this.#accept) ||
      this.#reach([this.#start], before, after, fresh).has(this.#accept)
    );
  }

  #consuming({ states, before }: Position, after: Side): number[] {
    const inside = { afterNewline: true, beforeNewline: true };
    const fresh = { afterNewline: this.#newline, beforeNewline: true };
    const reached = this.#reach(states, before, after, inside);
    for (const i of this.#reach([this.#start], before, after, fresh)) reached.add(i);
    return [...reached].filter((i) => this.#states[i]!.set !== undefined);
  }

  /** Every state that can be reached without a byte. */
  #reach(from: readonly number[], before: Side, after: Side, anchors: Anchors): Set<number> {
    const reached = new Set<number>();
    const stack = [...from];
    while (stack.length > 0) {
      const i = stack.pop()!;
      if (i === NONE || reached.has(i)) continue;
      reached.add(i);
      if (++this.#visits > VISITS_MAX)
        throw new Refusal(ResultCode.unsupportedFeature, 'a regular expression takes too long');
      const { set, assertion, next, other } = this.#states[i]!;
      if (set !== undefined) continue;
      if (assertion === undefined || holds(assertion, before, after, anchors)) stack.push(other, next);
    }
    return reached;
  }
}

const holds = (what: Assertion, before: Side, after: Side, anchors: Anchors): boolean => {
  switch (what) {
    case 'lineStart':
      return before === Side.edge || (anchors.afterNewline && before === Side.newline);
    case 'lineEnd':
      return after === Side.edge || (anchors.beforeNewline && after === Side.newline);
    case 'textStart':
      return before === Side.edge;
    case 'textEnd':
      return after === Side.edge;
    case 'word':
      return (before === Side.word) !== (after === Side.word);
    case 'notWord':
      return (before === Side.word) === (after === Side.word);
    case 'wordStart':
      return before !== Side.word && after === Side.word;
    case 'wordEnd':
      return before === Side.word && after !== Side.word;
  }
};

/**
 * What records were, as the one who wrote them knows it: a plain map of changes, and the state at an instant by the definitions of S1
 * alone. Instants are ms of the server's clock, void times s, both since 1970.
 */

/** A record as a read showed it. */
export interface Content {
  readonly generation: number;
  readonly lutMs: number;
  /** 0: never. */
  readonly voidTimeS: number;
  /** Stored user key. */
  readonly key: number | undefined;
  /** Each as `name type:hex`, sorted. */
  readonly bins: readonly string[];
}

/** Something happened within [fromMs, toMs]. */
export interface Span {
  readonly fromMs: number;
  readonly toMs: number;
}

/** It became so; of a write the instant is its LUT. No content: it was removed. */
export interface Change extends Span {
  /** Of what happened: {@link Truth.next}. Clocks may be set back. */
  readonly at: number;
  readonly content?: Content;
}

export interface Truncation extends Span {
  readonly at: number;
  readonly namespace: string;
  /** Null: all sets. */
  readonly set: string | null;
  readonly cutoffMs: number;
}

export class RecordTruth {
  readonly namespace: string;
  readonly set: string;
  readonly digest: Buffer;
  /** In the order in which they happened. */
  readonly changes: Change[] = [];

  constructor(namespace: string, set: string, digest: Buffer) {
    this.namespace = namespace;
    this.set = set;
    this.digest = digest;
  }

  get last(): Content | undefined {
    return this.changes.at(-1)?.content;
  }
}

/** What could be the state of a record; undefined: absent. */
export type Possible = readonly (Content | undefined)[];

export const idOf = (namespace: string, digest: string): string => `${namespace} ${digest}`;

export class Truth {
  readonly records = new Map<string, RecordTruth>();
  readonly truncations: Truncation[] = [];
  /** By what and name: bodies, null for none. */
  readonly definitions = new Map<string, { fromMs: number; toMs: number; body: string | null }[]>();

  #happened = 0;

  /** Number of the next thing that happened. */
  next(): number {
    return ++this.#happened;
  }

  record(namespace: string, set: string, digest: Buffer): RecordTruth {
    const id = idOf(namespace, digest.toString('hex'));
    let record = this.records.get(id);
    if (!record) {
      record = new RecordTruth(namespace, set, digest);
      this.records.set(id, record);
    }
    return record;
  }

  define(key: string, body: string | null, fromMs: number, toMs: number): void {
    const changes = this.definitions.get(key) ?? [];
    changes.push({ fromMs, toMs, body });
    this.definitions.set(key, changes);
  }

  /** S1, as far as the writer knows when things happened. */
  possibleAt(record: RecordTruth, ts: number): Possible {
    let states: Set<Change | undefined> = new Set([undefined]);
    for (const change of record.changes) {
      if (change.fromMs > ts) continue;
      if (change.toMs <= ts) states = new Set();
      states.add(change);
    }
    const possible = new Set<Content | undefined>();
    for (const change of states) for (const state of this.#kept(record, change, ts)) possible.add(state);
    return [...possible];
  }

  /** Whether a truncation has taken what was there last. */
  isTruncated(record: RecordTruth): boolean {
    const last = record.changes.at(-1);
    return last?.content !== undefined && this.#over(record, last).length > 0;
  }

  /** The content itself, nothing, or either: what expired, and what a truncation hides. */
  #kept(record: RecordTruth, change: Change | undefined, ts: number): Possible {
    const content = change?.content;
    if (!content || isExpiredAt(content, ts)) return [undefined];
    let isCertain = true;
    for (const t of this.#over(record, change)) {
      if (t.toMs <= ts) return [undefined];
      if (t.fromMs <= ts) isCertain = false;
    }
    return isCertain ? [content] : [content, undefined];
  }

  /** Truncations that hide it: not one after which it came back. */
  #over(record: RecordTruth, { at, content }: Change): Truncation[] {
    return this.truncations.filter(
      (t) =>
        t.namespace === record.namespace &&
        (t.set === null || t.set === record.set) &&
        content !== undefined &&
        content.lutMs < t.cutoffMs &&
        at < t.at,
    );
  }

  /** When it can have been that a record was no more: removed, truncated, or expired, unless it was written before that. */
  ends(record: RecordTruth): Span[] {
    const ends: Span[] = [];
    for (const change of record.changes) {
      const { content } = change;
      if (!content) {
        ends.push(change);
        continue;
      }
      ends.push(...this.#over(record, change));
      if (content.voidTimeS === 0) continue;
      const expiredMs = (content.voidTimeS + 1) * 1000;
      ends.push({ fromMs: expiredMs, toMs: expiredMs });
    }
    return ends;
  }

  /** When things happened to a record. */
  instants(record: RecordTruth): Span[] {
    return [...record.changes, ...this.ends(record)];
  }
}

export const isExpiredAt = ({ voidTimeS }: Content, ts: number): boolean =>
  voidTimeS !== 0 && voidTimeS < Math.floor(ts / 1000);

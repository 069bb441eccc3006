/**
 * The judge: for each record the list of everything that was ever asked of it, in order. A version's ts is exact when it was
 * acknowledged or seen; before that it is a range of instants, which every look at the archive narrows. It shares no code with
 * what it judges.
 *
 * Each record is written by one writer, which issues its operations in order; a batch and a truncation are one operation.
 */
import { Violation } from './scheduler.ts';

/** `asked`: no answer yet, or none any more. `done`: acknowledged, or found after a crash. `lost`: was never durable. */
type Fate = 'asked' | 'done' | 'lost';

/** What a record is seen as. */
export interface Seen {
  readonly value: string;
  readonly generation: number;
  readonly lut: number;
}

export interface Operation {
  readonly what: string;
  readonly stream: string;
  readonly writer: string;
  fate: Fate;
  /** Least and greatest possible ts, ms, inclusive. */
  tsMin: number;
  tsMax: number;
  lsn: number | undefined;
  readonly changes: readonly Change[];
}

interface Change {
  readonly key: string;
  /** Undefined: it is gone. */
  readonly value: string | undefined;
  readonly generation: number;
}

interface Version extends Change {
  readonly operation: Operation;
}

interface Stream {
  /** It owns its partitions from this instant on. */
  readonly fromTs: number;
  /** Frontier that the archive states. */
  published: { ts: number; lsn: number };
  /** Newest LSN acknowledged. */
  lsnMax: number;
  readonly lsns: Set<number>;
  operations: Operation[];
}

const NEVER = Number.POSITIVE_INFINITY;
const at = (ts: number): string => (Number.isFinite(ts) ? String(ts % 10_000_000) : '∞');
const shown = (v: Version): string =>
  `${v.value ?? 'nothing'} (${v.operation.fate}, ts ${at(v.operation.tsMin)}..${at(v.operation.tsMax)}, lsn ${v.operation.lsn ?? '?'})`;

export class History {
  readonly #versions = new Map<string, Version[]>();
  readonly #streams = new Map<string, Stream>();
  readonly marks: { name: string; stream: string; lsn: number; ts: number }[] = [];
  acknowledged = 0;
  seen = 0;

  addStream(name: string, fromTs: number): void {
    this.#streams.set(name, {
      fromTs,
      published: { ts: 0, lsn: 0 },
      lsnMax: 0,
      lsns: new Set(),
      operations: [],
    });
  }

  /** What a writer finds under one of its keys if everything that it asked for happens. */
  newest(key: string): { value: string; generation: number } | undefined {
    const version = this.#list(key).findLast((v) => v.operation.fate !== 'lost');
    return version?.value === undefined
      ? undefined
      : { value: version.value, generation: version.generation };
  }

  /** Values that a read of the engine may show: the newest acknowledged one, or one that is durable and not yet acknowledged. */
  readable(key: string): (string | undefined)[] {
    const values: (string | undefined)[] = [];
    for (const { operation, value } of this.#list(key).toReversed()) {
      if (operation.fate === 'lost') continue;
      values.push(value);
      if (operation.fate === 'done') return values;
    }
    return [...values, undefined];
  }

  keysOf(writer: string): string[] {
    return [...this.#versions.keys()].filter((k) => k.startsWith(`${writer}/`));
  }

  /** Somebody is about to ask for it. */
  asked(
    stream: string,
    writer: string,
    what: string,
    changes: readonly { key: string; value: string | undefined }[],
  ): Operation {
    const operation: Operation = {
      what,
      stream,
      writer,
      fate: 'asked',
      // F1: nothing new goes into the published past
      tsMin: this.#stream(stream).published.ts + 1,
      tsMax: NEVER,
      lsn: undefined,
      changes: changes.map((c) => ({ ...c, generation: (this.newest(c.key)?.generation ?? 0) + 1 })),
    };
    for (const change of operation.changes)
      this.#versions.set(change.key, [...this.#list(change.key), { ...change, operation }]);
    this.#stream(stream).operations.push(operation);
    return operation;
  }

  /** It was refused before anything happened. */
  refused(operation: Operation): void {
    if (operation.fate === 'done') throw new Violation(`${operation.what} was refused and happened`);
    operation.fate = 'lost';
  }

  /** `lsns`: one for each change that was logged. */
  acknowledge(operation: Operation, lsns: readonly number[], ts: number): void {
    this.acknowledged++;
    for (const lsn of lsns) this.#position(operation.stream, operation.what, lsn, ts);
    operation.lsn = lsns[lsns.length - 1];
    operation.fate = 'done';
    this.#exact(operation, ts);
  }

  marked(stream: string, mark: { name: string; lsn: number; ts: number }): void {
    this.#position(stream, `mark ${mark.name}`, mark.lsn, mark.ts);
    this.marks.push({ stream, ...mark });
  }

  /** F1, and that no position is given out twice. */
  #position(name: string, what: string, lsn: number, ts: number): void {
    const stream = this.#stream(name);
    if (stream.lsns.has(lsn))
      throw new Violation(`LSN ${lsn} of ${name} was given out twice, now to ${what}`);
    stream.lsns.add(lsn);
    stream.lsnMax = Math.max(stream.lsnMax, lsn);
    const { published } = stream;
    if (lsn > published.lsn && ts <= published.ts)
      throw new Violation(`F1: ${what} got ts ${at(ts)}, published is everything up to ${at(published.ts)}`);
  }

  /** The archive states a frontier. */
  published(name: string, frontier: { ts: number; lsn: number }): void {
    const stream = this.#stream(name);
    if (frontier.ts < stream.published.ts || frontier.lsn < stream.published.lsn)
      throw new Violation(
        `A2: the frontier of ${name} fell from ${at(stream.published.ts)} to ${at(frontier.ts)}`,
      );
    for (const o of stream.operations)
      if (o.lsn !== undefined && o.lsn > frontier.lsn && o.tsMax <= frontier.ts)
        throw new Violation(
          `F3: the frontier of ${name} covers ${at(frontier.ts)} but not ${o.what}, lsn ${o.lsn}`,
        );
    stream.published = { ...frontier };
  }

  fromTsOf(stream: string): number {
    return this.#stream(stream).fromTs;
  }

  publishedOf(stream: string): { ts: number; lsn: number } {
    return this.#stream(stream).published;
  }

  /** The newest instant to which everything is published. */
  get contiguousEnd(): number {
    return Math.min(...[...this.#streams.values()].map((s) => Math.max(s.published.ts, s.fromTs - 1)));
  }

  lsnMaxOf(stream: string): number {
    return this.#stream(stream).lsnMax;
  }

  /** Every ts that is known exactly. */
  instants(): number[] {
    const all = new Set<number>();
    for (const { operations } of this.#streams.values())
      for (const o of operations) if (o.fate === 'done' && o.tsMin === o.tsMax) all.add(o.tsMin);
    for (const m of this.marks) all.add(m.ts);
    return [...all].sort((a, b) => a - b);
  }

  /**
   * What an engine has after it was opened again: of the operations of each writer that had no answer, the first few happened
   * and the others did not. `now` has the records of `stream`.
   */
  reopened(stream: string, now: ReadonlyMap<string, Seen>, lastTs: number): void {
    const open = this.#stream(stream).operations.filter((o) => o.fate === 'asked');
    for (const [writer, operations] of Map.groupBy(open, (o) => o.writer)) {
      const keys = this.keysOf(writer);
      // the least number that explains it: an operation without effect is as good as lost
      let count = 0;
      while (count <= operations.length && !this.#isStateAfter(keys, operations, count, now)) count++;
      if (count > operations.length) throw this.#lostAfterCrash(stream, keys, now);
      for (const [i, operation] of operations.entries()) {
        if (i < count) {
          operation.fate = 'done';
          for (const { key, value } of operation.changes) {
            const seen = now.get(key);
            if (seen && seen.value === value) this.#exact(operation, seen.lut);
          }
          operation.tsMax = Math.min(operation.tsMax, lastTs);
        } else if (operation.tsMax !== NEVER)
          throw new Violation(`${operation.what} was in the archive and is not in its engine`);
        else operation.fate = 'lost';
      }
    }
    for (const key of this.#versions.keys()) {
      if (!this.#isOf(key, stream)) continue;
      if (this.newest(key)?.value !== now.get(key)?.value) throw this.#lostAfterCrash(stream, [key], now);
    }
  }

  #isOf(key: string, stream: string): boolean {
    return this.#list(key)[0].operation.stream === stream;
  }

  #isStateAfter(
    keys: readonly string[],
    operations: readonly Operation[],
    count: number,
    now: ReadonlyMap<string, Seen>,
  ): boolean {
    const gone = new Set(operations.slice(count));
    return keys.every((key) => {
      const version = this.#list(key).findLast((v) => v.operation.fate !== 'lost' && !gone.has(v.operation));
      return version?.value === now.get(key)?.value;
    });
  }

  #lostAfterCrash(stream: string, keys: readonly string[], now: ReadonlyMap<string, Seen>): Violation {
    const lines = keys.map(
      (key) =>
        `  ${key}: found ${now.get(key)?.value ?? 'nothing'} of ${this.#list(key).map(shown).slice(-6).join(', ')}`,
    );
    return new Violation(`S2 S3: after a crash ${stream} has what cannot be\n${lines.join('\n')}`);
  }

  /** S1 S3 F1: the state at `ts`, as something read it. Narrows what is not known exactly. */
  observe(ts: number, state: ReadonlyMap<string, Seen>, how: string): void {
    this.seen++;
    for (const key of state.keys())
      if (!this.#versions.has(key))
        throw new Violation(`${how} at ${at(ts)} shows ${key}, which nobody wrote`);
    // twice: what the first look has made exact is a fact for the second, so half a batch is seen
    for (let look = 0; look < 2; look++)
      for (const key of this.#versions.keys()) this.#observeKey(key, ts, state.get(key), how);
  }

  #observeKey(key: string, ts: number, seen: Seen | undefined, how: string): void {
    const versions = this.#list(key);
    const possible: number[] = [];
    let hasFirst = true;
    for (let i = versions.length - 1; i >= 0; i--) {
      const { operation } = versions[i];
      if (operation.fate === 'lost' || operation.tsMin > ts) continue;
      possible.push(i);
      // `asked` and yet seen in the archive: it has happened
      if (operation.tsMax <= ts) {
        hasFirst = false;
        break;
      }
    }
    const fitting = possible.filter((i) => versions[i].value === seen?.value);
    if (fitting.length === 0 && !(hasFirst && seen === undefined))
      throw new Violation(
        `${how} at ${at(ts)}: ${key} is ${seen?.value ?? 'absent'}; possible: ` +
          `${possible.map((i) => shown(versions[i])).join(', ')}${hasFirst ? ', absent' : ''}; ` +
          `of ${versions.slice(-8).map(shown).join(', ')}`,
      );
    const isFirst = hasFirst && seen === undefined;
    if (fitting.length + (isFirst ? 1 : 0) > 1) return;
    const found = isFirst ? -1 : fitting[0];
    if (found >= 0) {
      const version = versions[found];
      if (seen && seen.generation !== version.generation)
        throw new Violation(`${how}: ${key} has generation ${seen.generation}, not ${version.generation}`);
      if (seen) this.#exact(version.operation, seen.lut);
      version.operation.tsMax = Math.min(version.operation.tsMax, ts);
      this.#check(version.operation, how);
    }
    for (const { operation } of versions.slice(found + 1))
      if (operation.fate !== 'lost') {
        operation.tsMin = Math.max(operation.tsMin, ts + 1);
        this.#check(operation, how);
      }
  }

  #exact(operation: Operation, ts: number): void {
    if (ts < operation.tsMin || ts > operation.tsMax)
      throw new Violation(
        `${operation.what} has ts ${at(ts)}, which must be in ${at(operation.tsMin)}..${at(operation.tsMax)}`,
      );
    operation.tsMin = ts;
    operation.tsMax = ts;
  }

  #check(operation: Operation, how: string): void {
    if (operation.tsMin > operation.tsMax)
      throw new Violation(
        `F1: ${how} contradicts what was seen before of ${operation.what}: ts ${at(operation.tsMin)}..${at(operation.tsMax)}`,
      );
  }

  #list(key: string): Version[] {
    return this.#versions.get(key) ?? [];
  }

  #stream(name: string): Stream {
    return this.#streams.get(name) as Stream;
  }
}

/**
 * The judge: what the promises S1, S3 and F1–F3 say, over plain maps. It shares no code with what it judges: digests come
 * from node:crypto, and the rules for modes, generations, time to live, expiry and truncation are written here once more.
 *
 * It predicts every answer of the engines, records what they acknowledge, and says what the state is at any instant.
 */
import { strict as assert } from 'node:assert';
import {
  type Change,
  decide,
  expired,
  idOf,
  lineOf,
  type ModelKey,
  type ModelOp,
  type ModelRecord,
  type TtlRule,
  voidTimeAfterRestore,
} from './rules.ts';

/** What an engine answered for one operation. */
export interface Outcome {
  readonly lsn: number;
  readonly ts: number;
  readonly generation: number;
  readonly found: boolean;
}

interface Version {
  readonly stream: string;
  readonly epoch: number;
  readonly lsn: number;
  readonly ts: number;
  /** Undefined: a delete. */
  readonly record: ModelRecord | undefined;
  /** The next LSN belongs to the same batch. */
  readonly batchMore: boolean;
}

interface Truncation {
  readonly stream: string;
  readonly lsn: number;
  readonly ts: number;
  readonly namespace: string;
  readonly set: string | null;
  readonly cutoffLut: number;
  readonly partitions: ReadonlySet<number>;
}

interface Stream {
  lastLsn: number;
  /** Newest ts that it gave out. */
  lastTs: number;
  /** The clock at its newest write since it was opened, which counts even if that write changed nothing. */
  seenMs: number;
  /** Frontier that it stated by sealing: nothing at or below it may come again. */
  statedTs: number;
  published: { ts: number; lsn: number };
  epoch: number;
  /** Instants at which it owned any partition, both inclusive. */
  owning: { readonly from: number; to: number }[];
}

/** Where an LSN of a stream stands: for checking `lsn:` targets. */
export interface Position {
  readonly ts: number;
  readonly batchMore: boolean;
}

/** Records by namespace and digest, each as its line. */
export type StateLines = Map<string, string>;

export class Model {
  readonly #versions = new Map<string, Version[]>();
  readonly #truncations: Truncation[] = [];
  readonly #streams = new Map<string, Stream>();
  readonly #owners: (string | undefined)[] = new Array(4096).fill(undefined);
  readonly #positions = new Map<string, Position>();
  /** What is stored now, expired or not: kept apart from the history, so that the two check each other. */
  readonly #current = new Map<string, ModelRecord>();
  readonly #parent: { readonly model: Model; readonly ts: number } | undefined;
  readonly marks: { name: string; stream: string; lsn: number; ts: number }[] = [];
  #epochs = 1;

  constructor(parent?: { readonly model: Model; readonly ts: number; readonly ttl: TtlRule }) {
    this.#parent = parent;
    if (!parent) return;
    for (const record of parent.model.recordsAt(parent.ts).values()) {
      const carried = { ...record, voidTime: voidTimeAfterRestore(record.voidTime, parent.ts, parent.ttl) };
      this.#current.set(idOf(carried), carried);
      this.#versions.set(idOf(carried), [
        { stream: '', epoch: 0, lsn: 0, ts: record.lut, record: carried, batchMore: false },
      ]);
    }
  }

  /** A stream that owns these partitions, first and last inclusive, from an instant on. */
  addStream(name: string, ranges: readonly (readonly [number, number])[], fromTs: number): void {
    const lastTs = this.#parent?.ts ?? 0;
    this.#streams.set(name, {
      lastLsn: 0,
      lastTs,
      seenMs: 0,
      statedTs: lastTs,
      published: { ts: 0, lsn: 0 },
      epoch: 1,
      owning: [{ from: fromTs, to: Number.POSITIVE_INFINITY }],
    });
    for (const [first, last] of ranges) this.#owners.fill(name, first, last + 1);
  }

  ownerOf(partition: number): string | undefined {
    return this.#owners[partition];
  }

  partitionsOf(stream: string): number[] {
    return this.#owners.flatMap((owner, partition) => (owner === stream ? [partition] : []));
  }

  stream(name: string): Readonly<Stream> {
    const stream = this.#streams.get(name);
    assert(stream, `the test uses a stream ${name} that it did not make`);
    return stream;
  }

  /** The ts at which a write is decided, and the least that F2 and F3 allow it. */
  nextTs(name: string, nowMs: number): number {
    const { lastTs, seenMs, statedTs } = this.stream(name);
    return Math.max(nowMs, seenMs, lastTs, statedTs + 1);
  }

  /** A write came to its owner, whatever becomes of it. */
  attempted(name: string, nowMs: number): void {
    const at = this.#streamOf(name);
    at.seenMs = Math.max(at.seenMs, nowMs);
  }

  /** The writer was lost, and with it what it had not logged. It starts again above all that it finds. */
  crashed(name: string): void {
    const at = this.#streamOf(name);
    at.seenMs = Math.max(at.lastTs, at.published.ts) + 1;
  }

  /** What is stored under a key now, or undefined when it is absent or expired. */
  get(key: ModelKey, nowMs: number): ModelRecord | undefined {
    const record = this.#current.get(idOf(key));
    return record && !expired(record.voidTime, nowMs) ? record : undefined;
  }

  /** Why the operations, as one batch at `ts`, must be refused; undefined when they must succeed. */
  refusal(ops: readonly ModelOp[], ts: number): string | undefined {
    const result = this.#decide(ops, ts);
    return typeof result === 'string' ? result : undefined;
  }

  /** Takes the acknowledgement of a batch: checks every field of it, then counts it as history. */
  acknowledge(stream: string, ops: readonly ModelOp[], outcomes: readonly Outcome[], nowMs: number): void {
    const at = this.#streamOf(stream);
    const { ts } = outcomes[0];
    this.#checkTs(stream, ts, nowMs);
    for (const o of outcomes) assert.equal(o.ts, ts, `S3: a batch has one ts (stream ${stream})`);
    const changes = this.#decide(ops, ts);
    assert(typeof changes !== 'string', `the engine took what it must refuse: ${changes}`);
    const changing = changes.filter((c) => !c.nothing).length;
    let logged = 0;
    changes.forEach((change, i) => {
      const { key } = ops[i];
      if (!change.nothing) logged++;
      const expected = {
        lsn: at.lastLsn + logged,
        ts,
        generation: change.record?.generation ?? 0,
        found: change.found,
      };
      assert.deepEqual({ ...outcomes[i] }, expected, `acknowledgement of operation ${i} on ${stream}`);
      if (change.nothing) return;
      const batchMore = logged < changing;
      this.#addVersion(idOf(key), {
        stream,
        epoch: at.epoch,
        lsn: expected.lsn,
        ts,
        record: change.record,
        batchMore,
      });
      this.#positions.set(`${stream}/${expected.lsn}`, { ts, batchMore });
    });
    at.lastLsn += logged;
    if (logged > 0) at.lastTs = ts;
  }

  truncated(
    stream: string,
    event: { namespace: string; set: string | null; beforeMs: number | undefined },
    answer: { lsn: number; ts: number; records: number },
    nowMs: number,
  ): void {
    const { lsn, ts } = answer;
    this.#addEvent(stream, lsn, ts, nowMs);
    const cutoffLut = Math.min(event.beforeMs ?? ts, ts);
    const partitions = new Set(this.partitionsOf(stream));
    this.#truncations.push({
      stream,
      lsn,
      ts,
      namespace: event.namespace,
      set: event.set,
      cutoffLut,
      partitions,
    });
    let records = 0;
    for (const [id, r] of this.#current) {
      if (r.namespace !== event.namespace || (event.set !== null && r.set !== event.set)) continue;
      if (!partitions.has(r.partition) || r.lut >= cutoffLut) continue;
      this.#current.delete(id);
      records++;
    }
    assert.equal(answer.records, records, 'records that the truncation removed');
  }

  marked(stream: string, mark: { name: string; lsn: number; ts: number }, nowMs: number): void {
    this.#addEvent(stream, mark.lsn, mark.ts, nowMs);
    this.marks.push({ ...mark, stream });
  }

  /** Partitions went from one stream to another: the release is an event of the one, the acquisition of the other. */
  handedOver(
    partitions: readonly number[],
    from: { stream: string; lsn: number; ts: number },
    to: { stream: string; lsn: number; ts: number },
    nowMs: number,
  ): void {
    this.#addEvent(from.stream, from.lsn, from.ts, nowMs);
    assert(to.ts > from.ts, `F2: ${to.stream} took over at ${to.ts}, not after the release at ${from.ts}`);
    this.#addEvent(to.stream, to.lsn, to.ts, nowMs);
    this.#streamOf(to.stream).epoch = ++this.#epochs;
    for (const p of partitions) {
      assert.equal(this.#owners[p], from.stream, `partition ${p} was handed over by its owner`);
      this.#owners[p] = to.stream;
    }
    if (!this.#owners.includes(from.stream))
      (this.#streamOf(from.stream).owning.at(-1) as { to: number }).to = from.ts;
    const { owning } = this.#streamOf(to.stream);
    if (owning.at(-1)?.to !== Number.POSITIVE_INFINITY)
      owning.push({ from: from.ts + 1, to: Number.POSITIVE_INFINITY });
  }

  /** The stream stated a frontier; undefined: it was closed, and what it stated is not known exactly. */
  sealed(stream: string, nowMs: number, frontier?: { ts: number; lsn: number }): void {
    const at = this.#streamOf(stream);
    if (frontier) {
      assert(frontier.ts >= at.lastTs, `F3: the frontier ${frontier.ts} is before a commit at ${at.lastTs}`);
      assert(frontier.ts > at.statedTs, `F3: the frontier ${frontier.ts} was stated before`);
      assert.equal(frontier.lsn, at.lastLsn, 'F3: LSN of a frontier');
    }
    at.statedTs = frontier?.ts ?? this.nextTs(stream, nowMs);
    at.lastTs = Math.max(at.lastTs, at.statedTs);
  }

  /** The archive published a frontier: F3, and never a step back. */
  published(stream: string, frontier: { ts: number; lsn: number }): void {
    const at = this.#streamOf(stream);
    assert(frontier.ts >= at.published.ts && frontier.lsn >= at.published.lsn, 'A2: a frontier never falls');
    for (let lsn = frontier.lsn + 1; lsn <= at.lastLsn; lsn++) {
      const { ts } = this.position(stream, lsn) as Position;
      assert(
        ts > frontier.ts,
        `F3: LSN ${lsn} of ${stream} has ts ${ts}, frontier ${frontier.ts} is without it`,
      );
    }
    at.published = { ...frontier };
    at.statedTs = Math.max(at.statedTs, frontier.ts);
  }

  position(stream: string, lsn: number): Position | undefined {
    return this.#positions.get(`${stream}/${lsn}`);
  }

  /** S4: the newest instant up to which every stream has published all the time in which it owned anything. */
  contiguousEnd(): number {
    let end = Number.POSITIVE_INFINITY;
    for (const { published, owning } of this.#streams.values())
      for (const { from, to } of owning)
        if (published.ts < to) end = Math.min(end, Math.max(published.ts, from - 1));
    return end;
  }

  /** Every ts that was given out, and every instant at which a version stops being visible by its age. */
  instants(): number[] {
    const all = new Set<number>();
    for (const { ts } of this.#positions.values()) all.add(ts).add(ts - 1);
    for (const versions of this.#versions.values())
      for (const { record } of versions)
        if (record && record.voidTime > 0)
          all.add(record.voidTime * 1000 + 999).add((record.voidTime + 1) * 1000);
    return [...all].sort((a, b) => a - b);
  }

  /** Last-update times of what is stored: the cutoffs at which a truncation is most likely to be wrong. */
  luts(): number[] {
    return [...this.#current.values()].map((r) => r.lut);
  }

  /** S1. */
  recordsAt(ts: number): Map<string, ModelRecord> {
    if (this.#parent && ts <= this.#parent.ts) return this.#parent.model.recordsAt(ts);
    const state = new Map<string, ModelRecord>();
    for (const [id, versions] of this.#versions) {
      let newest: Version | undefined;
      for (const v of versions) if (v.ts <= ts && (!newest || isAfter(v, newest))) newest = v;
      const record = newest?.record;
      if (!newest || !record || expired(record.voidTime, ts)) continue;
      if (!this.#truncations.some((e) => e.ts <= ts && hides(e, newest, record))) state.set(id, record);
    }
    return state;
  }

  linesAt(ts: number): StateLines {
    return new Map([...this.recordsAt(ts)].map(([id, r]) => [id, lineOf(r)]));
  }

  /** What a scan of the stream's engine shows at `nowMs`. */
  currentLines(stream: string, nowMs: number): StateLines {
    const lines: StateLines = new Map();
    for (const [id, r] of this.#current)
      if (this.#owners[r.partition] === stream && !expired(r.voidTime, nowMs)) lines.set(id, lineOf(r));
    return lines;
  }

  #streamOf(name: string): Stream {
    return this.stream(name) as Stream;
  }

  #addVersion(id: string, version: Version): void {
    const versions = this.#versions.get(id) ?? [];
    versions.push(version);
    this.#versions.set(id, versions);
    if (version.record) this.#current.set(id, version.record);
    else this.#current.delete(id);
  }

  /** F1 and F2 at the moment of the acknowledgement. */
  #checkTs(stream: string, ts: number, nowMs: number): void {
    const at = this.stream(stream);
    assert(ts >= at.lastTs, `F2: ts fell from ${at.lastTs} to ${ts} on ${stream}`);
    assert(ts >= nowMs, `F2: ts ${ts} is below the clock, ${nowMs}`);
    assert(ts > at.statedTs, `F1: ts ${ts} is not above the frontier ${at.statedTs} that ${stream} stated`);
    assert(ts > at.published.ts, `F1: ts ${ts} is in the published past of ${stream}`);
  }

  /** Marks, truncations and hand-overs have an instant of their own, so that they cut exactly. */
  #addEvent(stream: string, lsn: number, ts: number, nowMs: number): void {
    const at = this.#streamOf(stream);
    this.#checkTs(stream, ts, nowMs);
    assert(
      ts > at.lastTs || at.lastLsn === 0,
      `an event shares ts ${ts} with what came before it on ${stream}`,
    );
    assert.equal(lsn, at.lastLsn + 1, `LSNs of ${stream} are dense`);
    at.lastLsn = lsn;
    at.lastTs = ts;
    at.statedTs = ts;
    this.#positions.set(`${stream}/${lsn}`, { ts, batchMore: false });
  }

  #decide(ops: readonly ModelOp[], ts: number): string | Change[] {
    const staged = new Map<string, ModelRecord | undefined>();
    const changes: Change[] = [];
    for (const op of ops) {
      const id = idOf(op.key);
      const stored = staged.has(id) ? staged.get(id) : this.#current.get(id);
      const change = decide(op, stored, ts);
      if (typeof change === 'string') return change;
      if (!change.nothing) staged.set(id, change.record);
      changes.push(change);
    }
    return changes;
  }
}

const isAfter = (a: Version, b: Version): boolean =>
  a.ts !== b.ts ? a.ts > b.ts : a.epoch !== b.epoch ? a.epoch > b.epoch : a.lsn > b.lsn;

const hides = (e: Truncation, v: Version, r: ModelRecord): boolean =>
  r.namespace === e.namespace &&
  (e.set === null || e.set === r.set) &&
  e.partitions.has(r.partition) &&
  v.ts < e.ts &&
  r.lut < e.cutoffLut;

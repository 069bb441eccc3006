import { setTimeout as sleep } from 'node:timers/promises';
import { isPitrError } from '../../errors.ts';
import { WORDS_PER_PARTITION } from '../../page.ts';
import { DIGEST_BYTES, sortKeyOf } from '../../partition.ts';
import { Info1, Info2, Info3 } from '../bits.ts';
import type { Expression } from '../expression/expression.ts';
import { FieldId } from '../field.ts';
import type { MessageView } from '../message.ts';
import { MessageWriter } from '../message-writer.ts';
import { isReadOp } from '../operation.ts';
import { type QueryPartition, queryPartitions } from '../partition-query.ts';
import { Refusal } from '../refusal.ts';
import { ResultCode } from '../result-code.ts';
import { BinOps } from './bin-ops.ts';
import { BinTable } from './bin-table.ts';
import { isBinName } from './command-shape.ts';
import type { Database } from './database.ts';
import { FilterCache } from './filter-cache.ts';
import { isSame } from './image-cursor.ts';
import type { Namespace } from './namespace.ts';
import type { QueryJob } from './query-jobs.ts';
import { isGone, RecordView } from './record-view.ts';

const SET_BYTES_MAX = 63;
/** Scans at once. */
const SCANS_MAX = 64;
/** Encoded bytes after which a slice of the store is too long, and read again in halves. */
const SLICE_BYTES_MAX = 256 * 1024; /** How long a filter may keep others from their turn, ms. */
const SLICE_MS = 100;

/** Records of one slice: bounds how long other connections wait. */
const SLICE_RECORDS_MAX = 4096;
/** Words of a first slice: 16 partitions. */
const FIRST_WIDTH = 16 * WORDS_PER_PARTITION;
/** Bytes of one frame of an answer. */
const FRAME_BYTES = 128 * 1024;

/** Where answers go. */
export interface Sink {
  readonly from: string;
  readonly isClosed: boolean;
  /** Resolves when more may be sent. */
  send(bytes: Buffer): Promise<void>;
}

/** Words `[from, to)` that are read from the end; records at `after` and above it are left out. */
interface Stretch {
  readonly from: number;
  readonly to: number;
  readonly after: Buffer | undefined;
  readonly partitions: number;
}

/**
 * A primary-index query: records of partitions, each partition from the highest digest to the lowest, sent as they are read. The store is
 * read in slices, each of one snapshot; nothing is held open while a slow reader is waited for. A slice is encoded where it lies and sent
 * from its end, so that a limit cuts the lowest digests.
 */
export class Scan {
  readonly #database: Database;
  readonly #m: MessageView;
  readonly #sink: Sink;
  readonly #out = new MessageWriter();
  readonly #view = new RecordView();
  readonly #ops = new BinOps(new BinTable(), this.#view);
  readonly #digest = Buffer.alloc(DIGEST_BYTES);
  readonly #masters: (partition: number) => boolean;
  #namespace!: Namespace;
  #job!: QueryJob;
  #filter: Expression | undefined;
  #left = Number.POSITIVE_INFINITY;
  #width = FIRST_WIDTH;
  /**
   * Where messages of the slice begin in the scratch: one entry for each record that counts, of no bytes for one of which nothing
   * was found, and -1 - begin for one that failed.
   */
  readonly #starts: number[] = [];
  #startedMs = 0;

  /** `masters`: whether the node that was asked has a partition. */
  constructor(database: Database, m: MessageView, sink: Sink, masters: (partition: number) => boolean) {
    this.#database = database;
    this.#m = m;
    this.#sink = sink;
    this.#masters = masters;
  }

  /** Answers the query to its end. */
  async run(): Promise<void> {
    let prepared: QueryPartition[] | number;
    try {
      prepared = this.#prepare();
    } catch (error) {
      if (!isPitrError(error, 'wire-malformed')) throw error;
      prepared = Number(error.facts.result);
    }
    if (typeof prepared === 'number') return this.#refuse(prepared);
    const { jobs } = this.#database;
    const job = this.#job;
    // short ones leave no account
    const isKept = (this.#m.info1 & Info1.shortQuery) === 0;
    if (isKept && !jobs.begin(job)) return this.#refuse(ResultCode.parameter);
    let result: number = ResultCode.unknown;
    try {
      await this.#database.engine.settled();
      // a filter may take too long on one record: then the scan ends, and nothing is left out silently
      result = await this.#readAll(prepared).catch((error: unknown) => {
        if (error instanceof Refusal) return error.code;
        throw error;
      });
    } finally {
      const ok = result === ResultCode.ok;
      if (isKept) jobs.end(job, ok ? 'done' : 'abort', result, this.#database.nowMs());
      this.#namespace.count(ok ? 'pi_query_long_basic_complete' : 'pi_query_long_basic_abort');
    }
    if (this.#sink.isClosed) return;
    this.#out.status(result, 0, 0, Info3.last);
    await this.#sink.send(this.#out.take());
  }

  /** As one request for one record is refused. */
  async #refuse(code: number): Promise<void> {
    this.#out.status(code, 0, 0);
    await this.#sink.send(this.#out.take());
  }

  /** The partitions to read, or the code that the query is refused with. */
  #prepare(): QueryPartition[] | number {
    const m = this.#m;
    const namespace = this.#database.namespaceIn(m);
    if (!namespace) return ResultCode.badNamespace;
    this.#namespace = namespace;
    const unsupported =
      (m.info3 & Info3.partitionDone) === 0 ||
      (m.info2 & Info2.write) !== 0 ||
      [FieldId.indexRange, FieldId.indexName, FieldId.udfFile, FieldId.udfOp].some((id) => m.has(id));
    if (unsupported) return ResultCode.unsupportedFeature;
    if (m.has(FieldId.transactionId)) return ResultCode.enterpriseOnly;
    const partitions = queryPartitions(m);
    m.rewindOps();
    while (m.nextOp()) if (!isReadOp(m.op) || !isBinName(m)) return ResultCode.parameter;
    if (m.fieldEnd(FieldId.set) - m.fieldStart(FieldId.set) > SET_BYTES_MAX) return ResultCode.parameter;
    const filter = m.field(FieldId.filter);
    if (filter) {
      const parsed = new FilterCache().of(filter);
      if (parsed instanceof Refusal) return parsed.code;
      this.#filter = parsed;
    }
    const max = m.fieldU64(FieldId.recordsMax) ?? 0n;
    if (max > 0n) this.#left = Number(max);
    if (this.#database.jobs.active >= SCANS_MAX) return ResultCode.forbidden;
    this.#startedMs = this.#database.nowMs();
    this.#job = this.#newJob(partitions);
    return partitions;
  }

  #newJob(partitions: readonly QueryPartition[]): QueryJob {
    const m = this.#m;
    const digests = partitions.filter((p) => p.after !== undefined).length;
    return {
      trid: m.fieldU64(FieldId.queryId) ?? nextTrid(),
      namespace: this.#namespace.name,
      set: m.fieldText(FieldId.set),
      from: this.#sink.from,
      startedMs: this.#startedMs,
      partitions: partitions.length,
      digests,
      recordsPerSecond: m.fieldU32(FieldId.recordsPerSecond) ?? 0,
      socketTimeoutMs: m.fieldU32(FieldId.socketTimeout) ?? 0,
      endedMs: 0,
      status: 'active',
      result: 0,
      partitionsDone: 0,
      throttled: 0,
      filteredMeta: 0,
      filteredBins: 0,
      succeeded: 0,
      failed: 0,
      sentBytes: 0,
    };
  }

  async #readAll(partitions: readonly QueryPartition[]): Promise<number> {
    const here = partitions.filter(
      (p) => this.#masters(p.partition) && this.#database.hasPartition(p.partition),
    );
    const elsewhere = partitions.filter((p) => !here.includes(p));
    if (elsewhere.length > 0) await this.#sayElsewhere(elsewhere);
    for (const stretch of stretchesOf(here)) {
      for (let to = stretch.to; to > stretch.from; ) {
        if (this.#sink.isClosed || this.#job.status === 'abort') return ResultCode.queryAborted;
        if (this.#left === 0) return ResultCode.ok;
        const from = Math.max(stretch.from, to - this.#width);
        if (!this.#encode(from, to, stretch.after)) {
          this.#width = Math.max(1, Math.ceil((to - from) / 2));
          continue;
        }
        await this.#emit();
        to = from;
        if (this.#starts.length < SLICE_RECORDS_MAX / 4) this.#width = Math.min(this.#width * 2, 2 ** 32);
      }
      this.#job.partitionsDone += stretch.partitions;
    }
    return ResultCode.ok;
  }

  async #sayElsewhere(partitions: readonly QueryPartition[]): Promise<void> {
    this.#out.beginFrame();
    for (const { partition } of partitions) {
      this.#out.beginMessageOf(
        0,
        0,
        Info3.partitionDone,
        0,
        ResultCode.partitionUnavailable,
        partition,
        0,
        0,
      );
      this.#out.endMessage();
    }
    this.#out.endFrame();
    await this.#send();
  }

  /** Encodes the records of a slice into the scratch, in key order; false: they are too many, try again with fewer. */
  #encode(from: number, to: number, after: Buffer | undefined): boolean {
    const { engine, scratch } = this.#database;
    const job = this.#job;
    const m = this.#m;
    const before = { ...job };
    const nowMs = this.#database.nowMs();
    const setStart = m.fieldStart(FieldId.set);
    const setEnd = m.fieldEnd(FieldId.set);
    const recordsMax =
      job.recordsPerSecond > 0 ? Math.max(1, Math.ceil(job.recordsPerSecond / 10)) : SLICE_RECORDS_MAX;
    const afterKey = after && sortKeyOf(after);
    const mayHalve = to - from > 1;
    let fits = true;
    const untilMs = this.#filter && performance.now() + SLICE_MS;
    scratch.clear();
    this.#starts.length = 0;
    engine.slice(this.#namespace.name, from, to, (key, keyAt, bytes, start, end) => {
      if (isGone(bytes, start, nowMs)) return true;
      if (setEnd > setStart) {
        const set = start + 25;
        if (!isSame(bytes, set, set + bytes[set - 1], m.bytes, setStart, setEnd)) return true;
      }
      // in key order the rest of the partition follows, and nothing else is in this stretch
      if (afterKey && key.compare(afterKey, 0, DIGEST_BYTES, keyAt, keyAt + DIGEST_BYTES) >= 0) return false;
      const isFull = this.#starts.length >= recordsMax || scratch.length > SLICE_BYTES_MAX;
      if (mayHalve && (isFull || (untilMs !== undefined && performance.now() > untilMs))) {
        fits = false;
        return false;
      }
      this.#encodeRecord(key, keyAt, bytes, start, end, nowMs);
      return true;
    });
    // counted again when it is read again
    if (!fits) Object.assign(job, { ...before, status: job.status });
    return fits;
  }

  #encodeRecord(key: Buffer, keyAt: number, bytes: Buffer, start: number, end: number, nowMs: number): void {
    const view = this.#view;
    const out = this.#database.scratch;
    copyDigest(key, keyAt, this.#digest);
    view.open(bytes, start, end, this.#digest, nowMs);
    if (this.#filter && !this.#passes(this.#filter)) return;
    const m = this.#m;
    const noBins = (m.info1 & Info1.noBins) !== 0;
    const begun = out.length;
    if (this.#database.faults?.takeFailedRecord()) {
      this.#starts.push(-1 - begun);
      return;
    }
    out.beginMessageOf(noBins ? Info1.noBins : 0, 0, 0, 0, 0, view.generation, view.voidTime, 0);
    out.field(FieldId.namespace, this.#namespace.nameBytes);
    out.field(FieldId.digest, this.#digest);
    if (view.setEnd > view.setStart) out.field(FieldId.set, bytes, view.setStart, view.setEnd);
    const { cursor } = view;
    if (cursor.keyType >= 0)
      out.fieldKey(FieldId.key, cursor.keyType, cursor.bytes, cursor.keyStart, cursor.keyEnd);
    if (!noBins && m.ops === 0) this.#ops.answerAll(out);
    else if (!noBins) {
      const respondAll = (m.info2 & Info2.respondAllOps) !== 0;
      const failed = this.#ops.answerReads(m, out, respondAll, false);
      if (failed !== 0) {
        out.dropMessage();
        this.#starts.push(-1 - begun);
        return;
      }
      // a record of which nothing was found counts, and is no message
      if (out.ops === 0) {
        out.dropMessage();
        this.#starts.push(begun);
        return;
      }
    }
    out.endMessage();
    this.#starts.push(begun);
  }

  #passes(filter: Expression): boolean {
    const verdict = filter.usesBins ? filter.decideByMetadata(this.#view) : filter.decide(this.#view);
    if (verdict === true) return true;
    if (verdict === false || !filter.usesBins) {
      this.#job.filteredMeta++;
      return false;
    }
    if (filter.decide(this.#view) === true) return true;
    this.#job.filteredBins++;
    return false;
  }

  /** Sends what was encoded, from its end. */
  async #emit(): Promise<void> {
    const starts = this.#starts;
    const out = this.#out;
    const bytes = this.#database.scratch.view();
    const frameBytes = this.#database.faults?.chunkBytes || FRAME_BYTES;
    const sent = Math.min(starts.length, this.#left);
    out.reserve(bytes.length + 1024);
    let isOpen = false;
    let failed = 0;
    for (let n = 0, end = bytes.length; n < sent; n++) {
      const entry = starts[starts.length - 1 - n];
      const start = entry < 0 ? -1 - entry : entry;
      if (entry < 0) failed++;
      if (start === end) continue;
      if (!isOpen) out.beginFrame();
      isOpen = true;
      out.bytes(bytes, start, end);
      end = start;
      if (out.frameBytes < frameBytes) continue;
      out.endFrame();
      isOpen = false;
    }
    if (isOpen) out.endFrame();
    this.#left -= sent;
    this.#job.succeeded += sent - failed;
    this.#job.failed += failed;
    if (out.length > 0) await this.#send();
    if (sent > 0) await this.#throttle();
    await new Promise(setImmediate);
  }

  async #send(): Promise<void> {
    const bytes = this.#out.take();
    this.#job.sentBytes += bytes.length;
    await this.#sink.send(bytes);
  }

  async #throttle(): Promise<void> {
    const { recordsPerSecond, succeeded } = this.#job;
    if (recordsPerSecond === 0) return;
    const aheadMs = (1000 * succeeded) / recordsPerSecond - (this.#database.nowMs() - this.#startedMs);
    if (aheadMs < 1) return;
    this.#job.throttled++;
    await sleep(Math.min(aheadMs, 1000));
  }
}

/** Partitions that follow each other and are read from their start as one stretch. */
const stretchesOf = (partitions: readonly QueryPartition[]): Stretch[] => {
  const sorted = [...partitions].sort((a, b) => a.partition - b.partition);
  const stretches: Stretch[] = [];
  for (const { partition, after } of sorted) {
    const from = partition * WORDS_PER_PARTITION;
    // from a digest: no slice above it is looked at
    const to = after ? sortKeyOf(after).readUInt32BE(0) + 1 : from + WORDS_PER_PARTITION;
    const last = stretches.at(-1);
    if (last && !last.after && !after && last.to === from)
      stretches[stretches.length - 1] = { ...last, to, partitions: last.partitions + 1 };
    else stretches.push({ from, to, after, partitions: 1 });
  }
  return stretches;
};

/** The digest of a sort key, into a buffer that is there already. */
const copyDigest = (key: Buffer, at: number, out: Buffer): void => {
  const k0 = key[at];
  const k1 = key[at + 1];
  out[0] = ((k0 & 0x0f) << 4) | (k1 >> 4);
  out[1] = ((k1 & 0x0f) << 4) | (k0 >> 4);
  for (let i = 2; i < DIGEST_BYTES; i++) out[i] = key[at + i];
};

let trids = 0n;
/** For a query that names none. */
const nextTrid = (): bigint => 2n ** 63n + trids++;

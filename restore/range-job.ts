import { ContentDigest, contentHash, type ShardDigest, seedOf } from '../engine/content-digest.ts';
import type { TtlShift } from '../engine/identity.ts';
import { decodeImage } from '../engine/image.ts';
import {
  digestOf,
  digestOfSortKey,
  type PartitionRange,
  PartitionSet,
  partitionOfWord,
  sortKeyOf,
} from '../engine/partition.ts';
import { encodeState, type StateHeader, stateKey } from '../engine/state-record.ts';
import type { StatePlan } from '../snapshot/state-plan.ts';
import type { Archive } from '../wal/archive.ts';
import type { InexactRecord } from '../wal/exactness.ts';
import { Merge } from '../wal/merge.ts';
import type { RunCursor } from '../wal/run-cursor.ts';
import { StateAt } from '../wal/state-at.ts';
import type { ClusterJob, ClusterTally } from './aerospike/cluster-job.ts';
import { Chunks } from './chunks.ts';
import { inexactLine } from './inexact-line.ts';
import { jsonLine } from './json-line.ts';
import { isRenaming, renamed, type Selection, selectBins } from './selection.ts';
import { StoreChunks } from './store-chunks.ts';

/** What a restore writes: plain data, the same for every range. */
export interface RestoreJob {
  readonly plan: StatePlan;
  readonly selection: Selection;
  readonly ttl: TtlShift;
  /** `inexact`: lines about the records that are inexact, and no records. */
  readonly output: 'store' | 'json' | 'cluster' | 'inexact';
  readonly shards: number;
  /** Pages in each partition of the store (engine/page.ts). Default 0: records only. */
  readonly perPartition?: number;
  /** Also records that are expired at T: an engine that takes partitions over gets all that its predecessor counted. */
  readonly keepExpired?: boolean;
  /** Of output `cluster`. */
  readonly cluster?: ClusterJob;
}

/** Takes records instead of chunks. Both return true when they want to be drained. */
export interface RowSink {
  /** A record with its own names and bytes: the cursor's row. */
  row(cursor: RunCursor, voidTimeS: number, hash: Uint32Array): boolean;
  /** A record with other names or bins; `words`: its sort key. */
  record(
    namespace: string,
    set: string,
    words: readonly number[],
    header: StateHeader,
    image: Uint8Array,
    hash: Uint32Array,
  ): boolean;
  drain(): Promise<void>;
}

/** What ranges came to. Digests are of their records only; everything adds up over ranges. */
export interface RangeResult {
  /** Of what was written. */
  readonly digest: readonly ShardDigest[];
  /** Of the whole state at T, before selection. */
  readonly stateDigest: readonly ShardDigest[];
  /** Of the state at the source's clock frames. */
  readonly clockDigest: readonly ShardDigest[];
  readonly versions: number;
  readonly records: number;
  readonly written: number;
  readonly expired: number;
  readonly deleted: number;
  readonly truncated: number;
  readonly withoutKey: number;
  /** Of what was selected. */
  readonly inexact: InexactTotals;
  /** Of output `cluster`. */
  readonly cluster?: ClusterTally;
}

/** Records that are inexact at the target (S7), and why: some for both reasons. */
export interface InexactTotals {
  readonly records: number;
  /** The first version after the target says that versions were missed before it. */
  readonly missed: number;
  /** The target is in a window: of that version, of the chosen one, or of a truncation. */
  readonly windows: number;
}

/**
 * Produces the records of a range of partitions at the target, as chunks: for a store as engine/record-file.ts says, for JSON
 * lines of text; or gives them to `sink`.
 */
export const runRange = async (
  archive: Archive,
  job: RestoreJob,
  range: PartitionRange,
  emit: (chunk: Buffer) => Promise<void>,
  sink?: RowSink,
): Promise<RangeResult> => {
  const { plan } = job;
  const runs = await Promise.all(
    plan.runs.map((run) =>
      Promise.all(
        run.segments
          .filter((s) => s.partitions.start < range.end && s.partitions.end > range.start)
          .map((s) => archive.reader(s)),
      ),
    ),
  );
  const merge = new Merge(runs, range);
  const writer = new RangeWriter(job, sink);
  const state = new StateAt({
    merge,
    limits: plan.runs.map((r) => r.limits),
    ts: plan.ts,
    truncations: plan.truncations,
    shards: job.shards,
    keepExpired: job.keepExpired ?? false,
    ...('missing' in plan.source ? {} : { clockTs: Float64Array.from(plan.source.clockTs) }),
    ...(plan.exactness ? { exactness: { ...plan.exactness, ...writer.exactness } } : {}),
    sink: (cursor, voidTime, hash) => writer.record(cursor, voidTime, hash),
    drain: async () => {
      for (const chunk of writer.take(false)) await emit(chunk);
      await sink?.drain();
    },
  });
  await state.run();
  for (const chunk of writer.take(true)) await emit(chunk);
  return {
    digest: writer.digest.toShards(),
    stateDigest: state.digest.toShards(),
    clockDigest: state.clockDigest.toShards(),
    versions: state.versions,
    records: state.records,
    written: writer.records,
    expired: state.expired,
    deleted: state.deleted,
    truncated: state.truncated,
    withoutKey: writer.withoutKey,
    inexact: writer.inexact,
  };
};

/** Void times are u32 seconds: 2106. */
const VOID_TIME_MAX = 0xffffffff;

/** Takes what is selected, under its new names, into chunks. */
class RangeWriter {
  readonly digest: ContentDigest;
  records = 0;
  /** Records of a renamed set that have no stored key and so keep their digest. */
  withoutKey = 0;
  readonly inexact = { records: 0, missed: 0, windows: 0 };
  readonly #job: RestoreJob;
  readonly #store: StoreChunks;
  readonly #text = new Chunks();
  readonly #partitions: Uint8Array | undefined;
  readonly #digests: ReadonlySet<string> | undefined;
  readonly #bins: ReadonlySet<string> | undefined;
  /** Every record goes out with its own name, key and bytes. */
  readonly #isCopy: boolean;
  readonly #sink: RowSink | undefined;

  constructor(job: RestoreJob, sink: RowSink | undefined) {
    this.#job = job;
    this.#sink = sink;
    this.digest = new ContentDigest(job.shards);
    const { partitions, digests, bins } = job.selection;
    this.#partitions = partitions === undefined ? undefined : PartitionSet.parse(partitions).toMask();
    this.#digests = digests && new Set(digests);
    this.#bins = bins && new Set(bins);
    this.#isCopy = job.output !== 'json' && !bins && !isRenaming(job.selection);
    this.#store = new StoreChunks(job.perPartition ?? 0);
  }

  /** Counts what is inexact among the selected, and writes it down when that is what is wanted. */
  readonly exactness = {
    isWanted: (cursor: RunCursor): boolean => this.#isSelected(cursor),
    found: (record: InexactRecord): boolean => {
      this.inexact.records++;
      if (record.doubts.some((d) => d.missed > 0)) this.inexact.missed++;
      if (record.doubts.some((d) => d.window)) this.inexact.windows++;
      if (this.#job.output !== 'inexact') return false;
      this.#text.append(Buffer.from(`${inexactLine(record)}\n`));
      return this.#text.isDue;
    },
  };

  record(cursor: RunCursor, voidTime: number, hash: Uint32Array): boolean {
    if (this.#job.output === 'inexact') return false;
    if (!this.#isSelected(cursor)) return false;
    if (!this.#isCopy) return this.#changed(cursor, this.#shifted(voidTime));
    this.records++;
    this.digest.apply(partitionOfWord(cursor.block.w0[cursor.row]), hash, 1);
    return (this.#sink ?? this.#store).row(cursor, this.#shifted(voidTime), hash);
  }

  take(rest: boolean): Buffer[] {
    return this.#job.output === 'store' ? this.#store.take(rest) : this.#text.take(rest);
  }

  #isSelected({ block, row, reader }: RunCursor): boolean {
    const { namespaces, sets } = this.#job.selection;
    if (namespaces && !namespaces.includes(reader.properties.namespaces[block.namespace])) return false;
    if (sets && !sets.includes(reader.properties.sets[block.set[row]])) return false;
    if (this.#partitions && !this.#partitions[block.w0[row] >>> 20]) return false;
    return !this.#digests || this.#digests.has(digestOfSortKey(block.sortKey(row)).toString('hex'));
  }

  #shifted(voidTime: number): number {
    const { mode, seconds } = this.#job.ttl;
    if (voidTime === 0 || mode === 'never') return 0;
    return Math.min(VOID_TIME_MAX, mode === 'absolute' ? voidTime : voidTime + seconds);
  }

  /** A record with other bins, other names or as text. */
  #changed(cursor: RunCursor, voidTime: number): boolean {
    const { block, row, reader } = cursor;
    const { renameNamespaces, renameSets } = this.#job.selection;
    let image: Uint8Array | undefined = block.heap.subarray(block.imageStart(row), block.heapEnd[row]);
    if (this.#bins) image = selectBins(image, this.#bins);
    if (!image) return false;
    const namespace = renamed(renameNamespaces, reader.properties.namespaces[block.namespace]);
    const inSet = reader.properties.sets[block.set[row]];
    const set = renamed(renameSets, inSet);
    const sortKey = set === inSet ? block.sortKey(row) : this.#rekey(set, image, block.sortKey(row));
    const header: StateHeader = {
      generation: block.generation[row],
      voidTime,
      ts: block.ts(row),
      lsn: block.lsn(row),
      lut: block.lut(row),
    };
    this.records++;
    if (this.#job.output === 'json') {
      this.#text.append(Buffer.from(`${jsonLine(namespace, set, sortKey, header, image)}\n`));
      return this.#text.isDue;
    }
    const words = [0, 4, 8, 12, 16].map((at) => sortKey.readUInt32BE(at));
    const [w0, w1, w2, w3, w4] = words;
    const hash = contentHash(seedOf(namespace, set), w0, w1, w2, w3, w4, image, 0, image.length);
    this.digest.apply(partitionOfWord(w0), hash, 1);
    if (this.#sink) return this.#sink.record(namespace, set, words, header, image, hash);
    return this.#store.record(stateKey(namespace, sortKey), encodeState(header, set, image));
  }

  /** The digest depends on the set: with a stored key it is made anew, so that the record is found under its new name. */
  #rekey(set: string, image: Uint8Array, sortKey: Buffer): Buffer {
    const { key } = decodeImage(image);
    if (key) return sortKeyOf(digestOf(set, key.type, key.bytes));
    this.withoutKey++;
    return sortKey;
  }
}

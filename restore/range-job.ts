import { ContentDigest, type ShardDigest } from '../engine/content-digest.ts';
import type { TtlShift } from '../engine/identity.ts';
import { decodeImage } from '../engine/image.ts';
import {
  digestOf,
  digestOfSortKey,
  type PartitionRange,
  PartitionSet,
  sortKeyOf,
} from '../engine/partition.ts';
import { encodeState, stateKey } from '../engine/state-record.ts';
import { addToDigest } from '../engine/store.ts';
import { toJson } from '../engine/value.ts';
import type { StatePlan } from '../snapshot/state-plan.ts';
import type { Archive } from '../wal/archive.ts';
import { Merge } from '../wal/merge.ts';
import type { RunCursor } from '../wal/run-cursor.ts';
import { StateAt } from '../wal/state-at.ts';
import { type Selection, selectBins } from './selection.ts';

/** Bytes of output handed over at once. */
const CHUNK_BYTES = 1024 * 1024;

/** What a restore writes: plain data, the same for every range. */
export interface RestoreJob {
  readonly plan: StatePlan;
  readonly selection: Selection;
  readonly ttl: TtlShift;
  readonly output: 'store' | 'json';
  readonly shards: number;
  /** Also records that are expired at T: an engine that takes partitions over gets all that its predecessor counted. */
  readonly keepExpired?: boolean;
}

/** What one range came to. Digests are of its records only and add up over ranges. */
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
}

/**
 * Produces the records of a range of partitions at the target, as chunks: for a store `u32 key bytes, u32 value bytes, key,
 * value` after one another (little endian), for JSON lines of text.
 */
export const runRange = async (
  archive: Archive,
  job: RestoreJob,
  range: PartitionRange,
  emit: (chunk: Buffer) => Promise<void>,
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
  const writer = new ChunkWriter(job);
  const state = new StateAt({
    merge,
    limits: plan.runs.map((r) => r.limits),
    ts: plan.ts,
    truncations: plan.truncations,
    shards: job.shards,
    keepExpired: job.keepExpired ?? false,
    ...('missing' in plan.source ? {} : { clockTs: Float64Array.from(plan.source.clockTs) }),
    sink: (cursor, voidTime) => writer.record(cursor, voidTime),
    drain: async () => {
      for (const chunk of writer.take(false)) await emit(chunk);
    },
  });
  await merge.run(state);
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
  };
};

class ChunkWriter {
  readonly digest: ContentDigest;
  records = 0;
  /** Records of a renamed set that have no stored key and so keep their digest. */
  withoutKey = 0;
  readonly #job: RestoreJob;
  readonly #partitions: Uint8Array | undefined;
  readonly #digests: ReadonlySet<string> | undefined;
  readonly #bins: ReadonlySet<string> | undefined;
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES + 64 * 1024);
  #used = 0;
  #full: Buffer[] = [];

  constructor(job: RestoreJob) {
    this.#job = job;
    this.digest = new ContentDigest(job.shards);
    const { partitions, digests, bins } = job.selection;
    this.#partitions = partitions === undefined ? undefined : PartitionSet.parse(partitions).toMask();
    this.#digests = digests && new Set(digests);
    this.#bins = bins && new Set(bins);
  }

  record(cursor: RunCursor, voidTime: number): boolean {
    const { block, row, reader } = cursor;
    const { selection, ttl } = this.#job;
    const namespace = reader.properties.namespaces[block.namespace];
    const set = reader.properties.sets[block.set[row]];
    if (selection.namespaces && !selection.namespaces.includes(namespace)) return false;
    if (selection.sets && !selection.sets.includes(set)) return false;
    if (this.#partitions && !this.#partitions[block.w0[row] >>> 20]) return false;
    const sortKey = block.sortKey(row);
    if (this.#digests && !this.#digests.has(digestOfSortKey(sortKey).toString('hex'))) return false;
    let image: Uint8Array | undefined = block.heap.subarray(block.imageStart(row), block.heapEnd[row]);
    if (this.#bins) image = selectBins(image, this.#bins);
    if (!image) return false;
    const outNamespace = renamed(selection.renameNamespaces, namespace);
    const outSet = renamed(selection.renameSets, set);
    const outVoid =
      voidTime === 0 || ttl.mode === 'absolute'
        ? voidTime
        : ttl.mode === 'never'
          ? 0
          : voidTime + ttl.seconds;
    const header = {
      generation: block.generation[row],
      voidTime: outVoid,
      ts: block.ts(row),
      lsn: block.lsn(row),
      lut: block.lut(row),
    };
    const outKey = outSet === set ? sortKey : this.#rekey(outSet, image, sortKey);
    this.records++;
    if (this.#job.output === 'json') {
      this.#append(Buffer.from(`${jsonLine(outNamespace, outSet, outKey, header, image)}\n`));
      return this.#full.length > 0;
    }
    const key = stateKey(outNamespace, outKey);
    const value = encodeState(header, outSet, image);
    addToDigest(this.digest, key, value, 1);
    const lengths = Buffer.allocUnsafe(8);
    lengths.writeUInt32LE(key.length, 0);
    lengths.writeUInt32LE(value.length, 4);
    this.#append(lengths, key, value);
    return this.#full.length > 0;
  }

  /** The digest depends on the set: with a stored key it is made anew, so that the record is found under its new name. */
  #rekey(set: string, image: Uint8Array, sortKey: Buffer): Buffer {
    const { key } = decodeImage(image);
    if (key) return sortKeyOf(digestOf(set, key.type, key.bytes));
    this.withoutKey++;
    return sortKey;
  }

  take(rest: boolean): Buffer[] {
    if (rest) this.#close();
    return this.#full.splice(0);
  }

  #append(...parts: Buffer[]): void {
    const bytes = parts.reduce((n, p) => n + p.length, 0);
    if (this.#used + bytes > this.#chunk.length) {
      this.#close();
      if (bytes > this.#chunk.length) this.#chunk = Buffer.allocUnsafeSlow(bytes);
    }
    for (const part of parts) {
      part.copy(this.#chunk, this.#used);
      this.#used += part.length;
    }
    if (this.#used >= CHUNK_BYTES) this.#close();
  }

  #close(): void {
    if (this.#used === 0) return;
    this.#full.push(this.#chunk.subarray(0, this.#used));
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES + 64 * 1024);
    this.#used = 0;
  }
}

const renamed = (names: Readonly<Record<string, string>> | undefined, name: string): string =>
  names && Object.hasOwn(names, name) ? names[name] : name;

/** One record as a line of JSON: nothing is lost, `bins` as engine/value.ts writes particles. */
const jsonLine = (
  namespace: string,
  set: string,
  sortKey: Buffer,
  header: { generation: number; voidTime: number; lut: number },
  image: Uint8Array,
): string => {
  const { key, bins } = decodeImage(image);
  return JSON.stringify({
    namespace,
    set,
    digest: digestOfSortKey(sortKey).toString('hex'),
    ...(key ? { key: toJson(key) } : {}),
    generation: header.generation,
    lastUpdate: new Date(header.lut).toISOString(),
    expires: header.voidTime === 0 ? null : new Date(header.voidTime * 1000).toISOString(),
    bins: Object.fromEntries([...bins].map(([name, p]) => [name, toJson(p)])),
  });
};

import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { systemClock } from '../../engine/clock.ts';
import { digestOfSortKey, type PartitionRange, PartitionSet } from '../../engine/partition.ts';
import type { Archive } from '../../wal/archive.ts';
import { type RangeResult, type RestoreJob, type RowSink, runRange } from '../range-job.ts';
import { isRenaming } from '../selection.ts';
import { addTallies, type ClusterJob } from './cluster-job.ts';
import { RangeLoad } from './range-load.ts';
import { type Canonical, ReadBack } from './read-back.ts';
import { TargetBefore } from './target-before.ts';
import { WireHash } from './wire-hash.ts';

/** Of more differing records than this nobody asks what they would be in another form. */
const CANONICAL_MAX = 10_000;
const ALL_FLAGS = 0xff;

/** True when the target is scanned; else records are read by their digests. */
export const isScanned = (job: RestoreJob, { mode }: ClusterJob): boolean =>
  mode === 'exact' || (mode === undefined && Object.keys(job.selection.renameSets ?? {}).length === 0);

/** Writes a range of partitions into the cluster, and reads it back. @throws aerospike-…, what a merge throws */
export const runClusterRange = async (
  client: AerospikeClient,
  archive: Archive,
  job: RestoreJob,
  range: PartitionRange,
  emit: (chunk: Buffer) => Promise<void>,
): Promise<RangeResult> => {
  const cluster = job.cluster as ClusterJob;
  const isKeyed = isScanned(job, cluster);
  const before = cluster.comparesFirst ? await TargetBefore.read(client, cluster, range) : undefined;
  const context = { client, job: cluster, clock: systemClock, isKeyed, mayMeet: isRenaming(job.selection) };
  const load = new RangeLoad(before ? { ...context, before } : context);
  const result = await runRange(archive, job, range, emit, load);
  await load.finish();
  for (const chunk of load.lines.take(true)) await emit(chunk);
  const canonical: Canonical = (entries) => canonicalHashes(archive, job, range, load, entries, isKeyed);
  before?.markOthers(load.touched);
  // where nothing was written and nothing has to go it was read already
  const touched = PartitionSet.ofMask(load.touched);
  const partitions = before ? touched : PartitionSet.of([range]);
  const readBack = new ReadBack(client, cluster, load, partitions, canonical);
  // before the fates are counted: what a rule kept may be found equal
  const found = cluster.recheckOnly
    ? await readBack.deleteOthers()
    : cluster.verify
      ? await (isKeyed ? readBack.scan() : readBack.byDigest())
      : cluster.mode === 'exact'
        ? await readBack.deleteOthers()
        : undefined;
  const tally = load.tally();
  return { ...result, cluster: found ? addTallies(tally, found) : tally };
};

/** Merges some records once more, for their hashes with lists and maps as a server writes them. */
const canonicalHashes = async (
  archive: Archive,
  job: RestoreJob,
  range: PartitionRange,
  { table, places, namespaces }: RangeLoad,
  entries: readonly number[],
  isKeyed: boolean,
): Promise<Map<number, readonly [number, number]>> => {
  const hashes = new Map<number, readonly [number, number]>();
  if (entries.length > CANONICAL_MAX) return hashes;
  const wanted = new Set(entries);
  const hash = new WireHash(isKeyed);
  const take = (
    namespace: string,
    words: readonly number[],
    image: Uint8Array,
    start: number,
    end: number,
    plain: Uint32Array,
  ): boolean => {
    const [w0, w1, w2, w3, w4] = words;
    const entry = table.find(namespaces.indexOf(namespace), w0, w1, w2, w3, w4);
    if (!wanted.has(entry)) return false;
    const { seed } = places[table.placeOf(entry)];
    const h = hash.ofImage(seed, w0, w1, w2, w3, w4, image, start, end, ALL_FLAGS, plain, true);
    hashes.set(entry, [h[0], h[1]]);
    return false;
  };
  const sink: RowSink = {
    row: ({ block, row, reader }, _voidTime, plain) =>
      take(
        reader.properties.namespaces[block.namespace],
        [block.w0[row], block.w1[row], block.w2[row], block.w3[row], block.w4[row]],
        block.heap,
        block.imageStart(row),
        block.heapEnd[row],
        plain,
      ),
    record: (namespace, _set, words, _header, image, plain) =>
      take(namespace, words, image, 0, image.length, plain),
    drain: () => Promise.resolve(),
  };
  // under new names the digests of the archive are others: then everything is merged
  const digests =
    Object.keys(job.selection.renameSets ?? {}).length > 0
      ? undefined
      : entries.map((entry) => digestOfSortKey(table.sortKey(entry)).toString('hex'));
  const selection = digests ? { ...job.selection, digests } : job.selection;
  await runRange(archive, { ...job, selection }, range, () => Promise.resolve(), sink);
  return hashes;
};

import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { ContentDigest } from '../engine/content-digest.ts';
import { PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { Archive } from '../wal/archive.ts';
import type { Journal } from '../wal/capture/journal.ts';
import { withLease } from '../wal/lease.ts';
import type { SegmentRef } from '../wal/segment.ts';
import { ownedPartitions, timelineOf, withEngine } from '../wal/timeline.ts';
import { abandonSnapshot, beginSnapshot, snapshotFolder } from './begun.ts';
import type { CopiedSegment, CopyClientOptions, CopyTotals } from './copy-job.ts';
import { CopyPool } from './copy-pool.ts';
import type { LeftOut } from './copy-rows.ts';
import { publishOwn } from './create.ts';
import { IndexLoad } from './index-load.ts';
import type { Begun, Snapshot, SnapshotEntry } from './manifest.ts';
import { listSnapshots } from './snapshots.ts';
import { measureSource, stretchesOf } from './source-size.ts';

/** Below this many records a thread takes longer to start than the work. */
const WORKERS_FROM_RECORDS = 50_000;
const RANGE_BYTES = 4 * 1024 * 1024;

export interface CopySourceOptions {
  /** How the source is reached; its `rate` is that of the whole copy. */
  readonly client: CopyClientOptions;
  /** C0: the source's clock before this call, ms. Not before the journal's frontier. */
  readonly clockMs: number;
  /** Default those of the journal's source. */
  readonly namespaces?: readonly string[];
  /** Threads, each with a client of its own; 0: none, which an archive needs that cannot be opened by its URL. Default one a processor, none for a few records. */
  readonly workers?: number;
  /** What a thread holds of the records that it reads is some times this; default 4 MiB. */
  readonly rangeBytes?: number;
  readonly onProgress?: (records: number, expected: number) => void;
  readonly signal?: AbortSignal;
}

/** A copy whose segments are in the archive and whose rows are in the index; what {@link publishCopy} needs. */
export interface SourceCopy {
  readonly begun: Begun;
  readonly snapshot: Omit<Snapshot, 'endTs' | 'createdMs'>;
  /** In the segments. */
  readonly records: number;
  /** Records as they came, and bytes as they were on the wire. */
  readonly read: { readonly records: number; readonly bytes: number };
  /** Records that came again, of which the later was kept. */
  readonly repeated: number;
  /** Records that cannot be kept: their set's name is not UTF-8. They are in nothing that this copy makes. */
  readonly leftOut: LeftOut;
}

/** What a journal's note says of its base copy. */
interface BaseNote {
  readonly state: 'copying' | 'loaded' | 'published';
  /** Id of the snapshot. */
  readonly snapshot: string;
}

const noteOf = (journal: Journal): BaseNote | undefined => journal.note.base as BaseNote | undefined;

/** Whether the journal has no base copy that counts: none was made, or one was killed before it was published (N13). Until one is, its index is nothing to go by. */
export const needsCopy = async (archive: Archive, journal: Journal): Promise<boolean> => {
  const note = noteOf(journal);
  if (note === undefined) return true;
  if (note.state === 'published') return false;
  // it may have been killed between the publication and the note
  const all = await listSnapshots(archive, journal.identity.timeline);
  return !all.some((s) => s.id === note.snapshot);
};

/**
 * First half of a base copy of a live cluster: reads every record of the journal's partitions once, writes it into the archive as segments
 * that nothing names yet, and loads the journal's index. The source goes on changing; what changes after C0 is the next poll's.
 * The caller holds the journal and uses it for nothing else meanwhile. After an error it can be called again, with a new C0.
 * @throws aerospike-scan-incomplete, aerospike-…, interrupted, io, …
 */
export const copySource = (
  archive: Archive,
  journal: Journal,
  options: CopySourceOptions,
): Promise<SourceCopy> => withLease(archive, 'base copy', () => copyHeld(archive, journal, options));

/**
 * A copy without records, at the instant from which on everything is logged: what a source that ships every change begins with.
 * {@link publishCopy} makes it the beginning of the history.
 */
export const emptyCopy = (archive: Archive, journal: Journal, ts: number): Promise<SourceCopy> =>
  withLease(archive, 'base copy', async () => {
    const begin = await beginCopy(archive, journal, ts);
    return copyOf(begin, [], []);
  });

/** A copy that is entered as begun, and what its manifest will say whatever is in it. */
interface CopyBeginning {
  readonly begun: Begun;
  readonly manifest: Omit<SourceCopy['snapshot'], 'segments' | 'records'>;
}

const beginCopy = async (archive: Archive, journal: Journal, ts: number): Promise<CopyBeginning> => {
  const { timeline, stream } = journal.identity;
  const all = await archive.updateTimelines((t) => withEngine(t, journal.identity, archive.clock.nowMs()));
  const isWhole = ownedPartitions(timelineOf(all, timeline)).subtract(journal.partitions).size === 0;
  // nothing is taken over from a copy that was killed: the source has changed since
  const plan = randomBytes(16).toString('hex');
  const wanted = { kind: 'base', timeline, label: null, endTs: ts, plan, ranges: [], stream } as const;
  const begun = await beginSnapshot(archive, wanted);
  return {
    begun,
    manifest: {
      archive: archive.id,
      id: begun.id,
      label: null,
      timeline,
      kind: 'base',
      coordinated: false,
      ...(isWhole ? {} : { partitions: journal.partitions.toString() }),
      startTs: ts,
      logAfterTs: ts,
      digests: null,
      positions: { [stream]: 0 },
      parent: null,
      log: [],
      events: [],
    },
  };
};

const copyOf = (
  { begun, manifest }: CopyBeginning,
  segments: readonly SegmentRef[],
  totals: readonly CopyTotals[],
): SourceCopy => {
  const sum = (of: (t: CopyTotals) => number): number => totals.reduce((n, t) => n + of(t), 0);
  const records = segments.reduce((n, s) => n + s.rows, 0);
  return {
    begun,
    snapshot: { ...manifest, segments, records },
    records,
    read: { records: sum((t) => t.records), bytes: sum((t) => t.bytes) },
    repeated: sum((t) => t.repeated),
    leftOut: {
      records: sum((t) => t.leftOut.records),
      samples: totals.flatMap((t) => t.leftOut.samples),
    },
  };
};

const copyHeld = async (
  archive: Archive,
  journal: Journal,
  options: CopySourceOptions,
): Promise<SourceCopy> => {
  const { clockMs, namespaces = journal.source.namespaces } = options;
  // what a frontier has stated stays (F1); when the source's clock was set back it gets there again
  const { newestTs } = journal;
  if (clockMs < newestTs)
    throw new PitrError('usage', {
      what: `a base copy at ${new Date(clockMs).toISOString()}, before ${new Date(newestTs).toISOString()}, up to where the history is known`,
    });
  const begin = await beginCopy(archive, journal, clockMs);
  const { begun } = begin;
  try {
    journal.keep({ base: { state: 'copying', snapshot: begun.id } satisfies BaseNote });
    await journal.flush();
    const { totals, segments } = await read(archive, journal, begun.id, namespaces, options);
    const digest = new ContentDigest(journal.identity.shards);
    for (const { digest: part } of totals) digest.add(ContentDigest.from(part));
    const records = segments.reduce((n, s) => n + s.rows, 0);
    if (records !== digest.records)
      throw new PitrError('internal', { what: `${digest.records} records in segments of ${records}` });
    journal.keep({ base: { state: 'loaded', snapshot: begun.id } satisfies BaseNote });
    await journal.loaded(digest, clockMs);
    return copyOf(begin, segments, totals);
  } catch (error) {
    // what cannot be deleted now goes with the next copy (N9)
    await abandonSnapshot(archive, begun.id).catch(() => undefined);
    throw error;
  }
};

/** Every record, into segments and index. */
const read = async (
  archive: Archive,
  journal: Journal,
  snapshot: string,
  namespaces: readonly string[],
  { client, clockMs, workers: asked, rangeBytes = RANGE_BYTES, onProgress, signal }: CopySourceOptions,
): Promise<{ totals: CopyTotals[]; segments: SegmentRef[] }> => {
  const sizes = await measureSource(client, namespaces);
  const expected = Math.round(
    sizes.reduce((n, s) => n + s.records, 0) * (journal.partitions.size / PartitionSet.all.size),
  );
  const workers = asked ?? (expected < WORKERS_FROM_RECORDS ? 0 : availableParallelism());
  const pool = new CopyPool(archive, workers);
  const segments: CopiedSegment[] = [];
  const load = new IndexLoad(journal, namespaces);
  let records = 0;
  try {
    const totals = await pool.run(
      {
        archive: archive.id,
        timeline: journal.identity.timeline,
        folder: snapshotFolder(snapshot),
        stream: journal.identity.stream,
        sets: journal.source.sets,
        ts: clockMs,
        shards: journal.identity.shards,
        rangeBytes,
        client: sharedRate(client, workers),
      },
      stretchesOf(sizes, journal.partitions, workers),
      {
        rows: (rows) => {
          records += load.add(rows);
          onProgress?.(records, expected);
        },
        segment: (segment) => segments.push(segment),
      },
      signal,
    );
    load.finish();
    return { totals, segments: inOneRun(segments) };
  } finally {
    await pool.close();
  }
};

/** Each thread's part of what may pass in a second. */
const sharedRate = (client: CopyClientOptions, workers: number): CopyClientOptions => {
  const { rate } = client;
  if (!rate || workers < 2) return client;
  const part = (n: number | undefined): number | undefined => n && n / workers;
  const recordsPerSecond = part(rate.recordsPerSecond);
  const bytesPerSecond = part(rate.bytesPerSecond);
  return {
    ...client,
    rate: {
      ...(recordsPerSecond ? { recordsPerSecond } : {}),
      ...(bytesPerSecond ? { bytesPerSecond } : {}),
    },
  };
};

/** By namespace, partition and, within one that is large, sort key: the order of a run. */
const inOneRun = (segments: readonly CopiedSegment[]): SegmentRef[] =>
  [...segments]
    .sort(
      (a, b) =>
        Buffer.compare(Buffer.from(a.namespace), Buffer.from(b.namespace)) ||
        a.ref.partitions.start - b.ref.partitions.start ||
        a.piece - b.piece,
    )
    .map(({ ref }) => ref);

/**
 * Second half: publishes the copy as a snapshot that ends at `endTs`, the frontier that the poll after it stated. `confirm` is called before, and throws
 * if the archive does not have this stream's frontier up to there: one that has lost its stream meanwhile must not publish (W8).
 * @throws cas-conflict when another copy of this stream was begun since, or it was given up
 */
export const publishCopy = (
  archive: Archive,
  journal: Journal,
  copy: SourceCopy,
  endTs: number,
  confirm: (ts: number) => Promise<void>,
): Promise<SnapshotEntry> =>
  withLease(archive, 'base copy', async () => {
    const { begun, snapshot } = copy;
    if (endTs < snapshot.startTs || endTs > journal.frontierTs)
      throw new PitrError('usage', {
        what: `a base copy that ends at ${new Date(endTs).toISOString()}, which is no frontier after it`,
      });
    await confirm(endTs);
    const entry = await publishOwn(archive, begun, { ...snapshot, endTs, createdMs: archive.clock.nowMs() });
    journal.keep({ base: { state: 'published', snapshot: begun.id } satisfies BaseNote });
    await journal.flush();
    return entry;
  });

import { randomBytes } from 'node:crypto';
import { PitrError } from '../engine/errors.ts';
import { type EngineIdentity, readIdentity } from '../engine/identity.ts';
import { DIGEST_BYTES, PartitionSet } from '../engine/partition.ts';
import { splitStateKey, state } from '../engine/state-record.ts';
import { Store } from '../engine/store.ts';
import type { Archive } from '../wal/archive.ts';
import { segmentName } from '../wal/archive.ts';
import { EXTENSION_BYTES, FLAG } from '../wal/block.ts';
import { LeaseWatch, withLease } from '../wal/lease.ts';
import { SEGMENT_RAW_BYTES, type SegmentRef } from '../wal/segment.ts';
import { SegmentWriter, segmentRefOf } from '../wal/segment-writer.ts';
import { ownedPartitions, timelineOf, withEngine } from '../wal/timeline.ts';
import {
  beginSnapshot,
  listBegun,
  newSnapshotId,
  planHash,
  rangesOf,
  snapshotFolder,
  sweepBegun,
} from './begun.ts';
import type { Begun, LogRange, Snapshot, SnapshotEntry, SnapshotKind } from './manifest.ts';
import { type MergeStateOptions, mergeState } from './merge-state.ts';
import { deleteRetired } from './retired.ts';
import { publishSnapshot, readSnapshot } from './snapshots.ts';
import { planState, type StatePlan } from './state-plan.ts';
import { ArchiveView } from './view.ts';

export interface CreateSnapshotOptions extends MergeStateOptions {
  readonly kind: Exclude<SnapshotKind, 'base'>;
  readonly label?: string;
  readonly timeline?: string;
  /**
   * The instant; default the newest that is restorable. A synthetic one without, that was begun within the last hour with the same
   * label and not finished, is gone on with: then the instant is that one's.
   */
  readonly ts?: number;
  /** Stored bytes for each range of a synthetic one; default 8 MiB. */
  readonly rangeBytes?: number;
}

/**
 * Takes a snapshot at an instant that the archive already covers. Copies nothing unless it is synthetic; blocks no writer;
 * becomes visible in one step. A synthetic one that is killed is gone on with by the next call for the same instant.
 * @throws nothing-restorable, target-future, target-nodata, snapshot-exists, verification-failed, cas-conflict, lease-lost
 */
export const createSnapshot = async (
  archive: Archive,
  options: CreateSnapshotOptions,
): Promise<SnapshotEntry> => {
  // before there is a lease of our own, for which it would wait
  await deleteRetired(archive, new LeaseWatch(archive, archive.clock));
  return withLease(archive, 'snapshot', () => createHeld(archive, options));
};

const createHeld = async (archive: Archive, options: CreateSnapshotOptions): Promise<SnapshotEntry> => {
  const view = await ArchiveView.read(archive, options.timeline);
  const { ranges, contiguousEnd, limitedBy } = view.restorable;
  const endTs = options.ts ?? (await begunInstant(view, options)) ?? contiguousEnd;
  if (endTs === undefined || contiguousEnd === undefined)
    throw new PitrError('nothing-restorable', { limitedBy });
  if (endTs > contiguousEnd)
    throw new PitrError('target-future', {
      target: new Date(endTs).toISOString(),
      nearest: new Date(contiguousEnd).toISOString(),
    });
  const range = ranges.find((r) => r.fromTs <= endTs && endTs <= r.toTs);
  if (!range)
    throw new PitrError('target-nodata', { target: new Date(endTs).toISOString(), before: '-', after: '-' });
  const plan = await planState(view, endTs);
  const positions = positionsAt(view, plan.timeline, endTs);
  const parent = parentOf(view, plan, options.kind, endTs);
  const label = options.label ?? null;
  const { kind } = options;
  const begun =
    kind === 'synthetic'
      ? await beginSnapshot(archive, {
          kind,
          timeline: plan.timeline,
          label,
          endTs,
          plan: planHash(plan),
          ranges: rangesOf(plan.bytes, options.rangeBytes),
        })
      : undefined;
  const common = {
    archive: archive.id,
    id: begun?.id ?? newSnapshotId(endTs),
    label,
    timeline: plan.timeline,
    kind: options.kind,
    createdMs: archive.clock.nowMs(),
    coordinated: true,
    endTs,
    logAfterTs: endTs,
    positions,
    parent: parent?.id ?? null,
    startTs: parent?.endTs ?? range.fromTs,
    events: [...plan.truncations, ...plan.definitions],
  };
  if (begun) {
    const { segments, digests, records } = await mergeState(archive, plan, begun, options);
    return publishOwn(archive, begun, {
      ...common,
      // what hides rows that are kept because it is open since when they are hidden
      events: [...plan.truncations.filter((e) => (e.windowEndMs ?? 0) >= endTs), ...plan.definitions],
      segments,
      log: [],
      digests: 'missing' in plan.source ? null : digests,
      records,
    });
  }
  const records =
    'missing' in plan.source
      ? (plan.base?.records ?? 0)
      : plan.source.digests.reduce((n, d) => n + d.records, 0);
  return publishSnapshot(archive, {
    ...common,
    segments: [],
    log: await logRanges(view, plan.timeline, parent, positions),
    digests: null,
    records,
  });
};

/** Publishes what was begun, and deletes what its attempts left beside it; also after somebody else has ended it. */
export const publishOwn = async (
  archive: Archive,
  begun: Begun,
  snapshot: Snapshot,
): Promise<SnapshotEntry> => {
  try {
    return await publishSnapshot(archive, snapshot);
  } finally {
    await sweepBegun(archive, begun);
  }
};

/** An attempt that is older is not what somebody means who names no instant. */
const RESUME_MS = 60 * 60 * 1000;

/** The instant of a snapshot that was begun in the same words and can be gone on with. */
const begunInstant = async (
  view: ArchiveView,
  { kind, label }: CreateSnapshotOptions,
): Promise<number | undefined> => {
  const { archive } = view;
  for (const b of (await listBegun(archive)).toReversed()) {
    const isSame =
      b.kind === kind &&
      b.label === (label ?? null) &&
      b.timeline === view.timeline.id &&
      b.state === 'working';
    if (!isSame || archive.clock.nowMs() - b.createdMs > RESUME_MS) continue;
    const isThere = view.restorable.ranges.some((r) => r.fromTs <= b.endTs && b.endTs <= r.toTs);
    if (isThere && planHash(await planState(view, b.endTs)) === b.plan) return b.endTs;
  }
  return undefined;
};

/** Incremental: the newest snapshot before. Full by reference: the newest self-contained one, if any. Synthetic: nothing. */
const parentOf = (
  view: ArchiveView,
  plan: StatePlan,
  kind: SnapshotKind,
  endTs: number,
): SnapshotEntry | undefined => {
  if (kind === 'synthetic') return undefined;
  if (kind === 'full') return plan.base;
  return view.snapshots.filter((s) => s.timeline === plan.timeline && s.endTs <= endTs).at(-1);
};

const positionsAt = (view: ArchiveView, timeline: string, ts: number): Record<string, number> => {
  const positions: Record<string, number> = {};
  for (const head of view.heads.get(timeline)?.values() ?? [])
    positions[head.stream] = head.runs.reduce(
      (lsn, run) => (run.tsMin <= ts ? Math.max(lsn, run.lsnEnd - 1) : lsn),
      0,
    );
  return positions;
};

const logRanges = async (
  view: ArchiveView,
  timeline: string,
  parent: SnapshotEntry | undefined,
  positions: Record<string, number>,
): Promise<LogRange[]> => {
  // a parent on another timeline has positions of other streams, even where the names are the same
  const before =
    parent && parent.timeline === timeline ? (await readSnapshot(view.archive, parent)).positions : {};
  return Object.entries(positions)
    .map(([stream, lsn]) => ({ stream, lsnStart: (before[stream] ?? 0) + 1, lsnEnd: lsn + 1 }))
    .filter((r) => r.lsnEnd > r.lsnStart);
};

/**
 * Base copy: reads an engine's store in one read transaction and makes it the start of a history, for a stream whose log the
 * archive does not have from the beginning (after a gap, or after a restore with filters). The engine goes on writing.
 * The engine's log must have been sealed just before: `sealed` is the clock frame of that seal.
 *
 * `confirm` is called with the copy's LSN before the copy is published, and throws if the archive does not have this directory's
 * log up to there. Without that, an agent that slept and has lost its stream could publish a state that the history never had.
 */
export const createBase = (
  archive: Archive,
  dir: string,
  sealed: { readonly lsn: number; readonly ts: number },
  confirm: (lsn: number) => Promise<void> = async () => undefined,
): Promise<SnapshotEntry> =>
  withLease(archive, 'base copy', () => createBaseHeld(archive, dir, sealed, confirm));

const createBaseHeld = async (
  archive: Archive,
  dir: string,
  sealed: { readonly lsn: number; readonly ts: number },
  confirm: (lsn: number) => Promise<void>,
): Promise<SnapshotEntry> => {
  const identity = await readIdentity(dir);
  const all = await archive.updateTimelines((t) => withEngine(t, identity, archive.clock.nowMs()));
  const owned = ownedPartitions(timelineOf(all, identity.timeline));
  const { begun, snapshot } = await copyStore(archive, dir, identity, owned, sealed);
  await confirm(snapshot.positions[identity.stream]);
  return publishOwn(archive, begun, snapshot);
};

/** The copy itself: its segments are written, its manifest is not. */
const copyStore = async (
  archive: Archive,
  dir: string,
  { timeline, stream }: EngineIdentity,
  owned: PartitionSet,
  sealed: { readonly lsn: number; readonly ts: number },
): Promise<{ begun: Begun; snapshot: Snapshot }> => {
  const store = Store.open(dir, { readOnly: true });
  try {
    const { meta, records, done } = store.snapshot();
    try {
      if (!meta || meta.appliedLsn < sealed.lsn)
        throw new PitrError('internal', {
          what: `the store is at LSN ${meta?.appliedLsn ?? 0}, before the seal at ${sealed.lsn}`,
        });
      const endTs = Math.max(meta.lastTs, sealed.ts);
      // of one of several engines: the other partitions go on from what the archive has of them
      const isWhole = owned.subtract(PartitionSet.parse(meta.partitions)).size === 0;
      // one read transaction: what a killed copy left is not taken up, only deleted after the next one
      const plan = randomBytes(16).toString('hex');
      const wanted = { kind: 'base', timeline, label: null, endTs, plan, ranges: [] } as const;
      const begun = await beginSnapshot(archive, wanted);
      const { id } = begun;
      const span = { epoch: meta.epoch, stream, lsnStart: 0, lsnEnd: meta.appliedLsn + 1 };
      const segments = await writeStore(archive, timeline, id, span, store.namespaces(), records);
      const snapshot: Snapshot = {
        archive: archive.id,
        id,
        label: null,
        timeline,
        kind: 'base',
        createdMs: archive.clock.nowMs(),
        coordinated: false,
        ...(isWhole ? {} : { partitions: meta.partitions }),
        startTs: meta.lastTs,
        endTs,
        logAfterTs: sealed.ts,
        digests: null,
        positions: { [stream]: meta.appliedLsn },
        parent: null,
        segments,
        log: [],
        events: [],
        records: segments.reduce((n, s) => n + s.rows, 0),
      };
      return { begun, snapshot };
    } finally {
      done();
    }
  } finally {
    await store.close();
  }
};

const writeStore = async (
  archive: Archive,
  timeline: string,
  id: string,
  stream: { epoch: number; stream: string; lsnStart: number; lsnEnd: number },
  namespaces: readonly string[],
  records: Iterable<{ key: Buffer; value: Buffer }>,
): Promise<SegmentRef[]> => {
  const segments: SegmentRef[] = [];
  let writer: SegmentWriter | undefined;
  const close = async (): Promise<void> => {
    if (!writer) return;
    const finished = writer.finish([]);
    const name = segmentName(timeline, snapshotFolder(id), 0, segments.length, segments.length, 0);
    await archive.store.create(name, finished.bytes);
    segments.push(segmentRefOf(name, finished));
    writer = undefined;
  };
  let lastPartition = -1;
  for (const { key, value } of records) {
    const { namespace, sortKey } = splitStateKey(Buffer.from(key));
    const partition = (sortKey[0] << 4) | (sortKey[1] >> 4);
    if (writer && partition !== lastPartition && writer.rawBytes >= SEGMENT_RAW_BYTES) await close();
    lastPartition = partition;
    writer ??= new SegmentWriter(
      {
        archive: archive.id,
        timeline,
        level: -1,
        streams: [stream],
        generation: 0,
        salt: randomBytes(32),
        keyId: null,
      },
      namespaces,
    );
    const index = namespaces.indexOf(namespace);
    writer.startNamespace(index);
    const set = writer.setIndex(index, state.set(value));
    const { ts, lut, lsn, voidTime, generation } = state.header(value);
    const image = state.image(value);
    const flags = lut === ts ? 0 : FLAG.extension;
    const heap = flags ? Buffer.concat([extension(lut), image]) : image;
    const view = new DataView(sortKey.buffer, sortKey.byteOffset, DIGEST_BYTES);
    writer.builder.addRow(view, 0, ts, lsn, voidTime, 0, set, generation, flags, heap, 0, heap.length);
    writer.rowAdded(set, flags, heap.length);
  }
  await close();
  return segments;
};

const extension = (lut: number): Buffer => {
  const bytes = Buffer.alloc(EXTENSION_BYTES);
  bytes.writeUInt32LE(lut % 2 ** 32, 0);
  bytes.writeUInt32LE(Math.floor(lut / 2 ** 32), 4);
  return bytes;
};

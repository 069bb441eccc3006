import { randomBytes } from 'node:crypto';
import { ContentDigest } from '../engine/content-digest.ts';
import { PitrError } from '../engine/errors.ts';
import { readIdentity } from '../engine/identity.ts';
import { DIGEST_BYTES, PartitionSet } from '../engine/partition.ts';
import { splitStateKey, state } from '../engine/state-record.ts';
import { Store } from '../engine/store.ts';
import type { Archive } from '../wal/archive.ts';
import { segmentName } from '../wal/archive.ts';
import { EXTENSION_BYTES, FLAG } from '../wal/block.ts';
import { joinSpans } from '../wal/compaction.ts';
import { Merge } from '../wal/merge.ts';
import { RunWriter } from '../wal/run-writer.ts';
import { SEGMENT_RAW_BYTES, type SegmentRef } from '../wal/segment.ts';
import { SegmentWriter, segmentRefOf } from '../wal/segment-writer.ts';
import { StateAt } from '../wal/state-at.ts';
import { ownedPartitions, timelineOf, withEngine } from '../wal/timeline.ts';
import type { LogRange, Snapshot, SnapshotEntry, SnapshotKind } from './manifest.ts';
import { publishSnapshot, readSnapshot } from './snapshots.ts';
import { planState, type StatePlan } from './state-plan.ts';
import { ArchiveView } from './view.ts';

export interface CreateSnapshotOptions {
  readonly kind: Exclude<SnapshotKind, 'base'>;
  readonly label?: string;
  readonly timeline?: string;
  /** The instant; default the newest that is restorable. */
  readonly ts?: number;
  readonly onProgress?: (versions: number, total: number) => void;
}

/** `20261121-100000-3fa9`: when it ends (UTC), and something random. */
const newSnapshotId = (endTs: number): string => {
  const at = new Date(endTs).toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  return `${at}-${randomBytes(2).toString('hex')}`;
};

/**
 * Takes a snapshot at an instant that the archive already covers. Copies nothing unless it is synthetic; blocks no writer;
 * becomes visible in one step.
 * @throws target-future, target-nodata, snapshot-exists
 */
export const createSnapshot = async (
  archive: Archive,
  options: CreateSnapshotOptions,
): Promise<SnapshotEntry> => {
  const view = await ArchiveView.read(archive, options.timeline);
  const { ranges, contiguousEnd } = view.restorable;
  const endTs = options.ts ?? contiguousEnd;
  if (endTs === undefined || contiguousEnd === undefined)
    throw new PitrError('target-nodata', { target: 'a snapshot', before: 'none', after: 'none' });
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
  const common = {
    archive: archive.id,
    id: newSnapshotId(endTs),
    label: options.label ?? null,
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
  if (options.kind === 'synthetic') {
    const { segments, state: merged } = await mergeState(view, plan, common.id, options.onProgress);
    return publishSnapshot(archive, {
      ...common,
      events: plan.definitions,
      segments,
      log: [],
      digests: 'missing' in plan.source ? null : merged.digest.toShards(),
      records: merged.records,
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

/** Merges the planned state into segments of its own: the latest version of each record, no deletes (the bottom is included). */
const mergeState = async (
  view: ArchiveView,
  plan: StatePlan,
  id: string,
  onProgress: ((versions: number, total: number) => void) | undefined,
): Promise<{ segments: SegmentRef[]; state: StateAt }> => {
  const { archive } = view;
  const readers = await Promise.all(
    plan.runs.map((run) => Promise.all(run.segments.map((s) => archive.reader(s)))),
  );
  const merge = new Merge(readers);
  const streams = joinSpans(readers.flat().flatMap((r) => r.properties.header.streams));
  const writer = new RunWriter(
    {
      store: archive.store,
      archive: archive.id,
      timeline: plan.timeline,
      level: -1,
      generation: 0,
      streams,
      namespaces: merge.namespaces,
      nameOf: (i) => segmentName(plan.timeline, `snapshots-${id}`, 0, i, i, 0),
    },
    merge.sources,
    [],
  );
  const shards = 'missing' in plan.source ? 16 : plan.source.digests.length;
  const state: StateAt = new StateAt({
    merge,
    limits: plan.runs.map((r) => r.limits),
    ts: plan.ts,
    truncations: plan.truncations,
    shards,
    keepExpired: true,
    sink: (cursor, voidTime) => writer.append(cursor, voidTime),
    drain: async () => {
      await writer.flush();
      onProgress?.(state.versions, plan.versions);
    },
    ...('missing' in plan.source ? {} : { clockTs: Float64Array.from(plan.source.clockTs) }),
  });
  await merge.run(state);
  const segments = await writer.finish();
  if (!('missing' in plan.source)) {
    const wrong = state.clockDigest.difference(ContentDigest.from(plan.source.digests));
    if (wrong.length > 0) {
      await archive.store.delete(segments.map((s) => s.name));
      throw new PitrError('verification-failed', {
        what: `the archive's state differs from the source's digest in shards ${wrong.join(', ')}`,
      });
    }
  }
  return { segments, state };
};

/**
 * Base copy: reads an engine's store in one read transaction and makes it the start of a history, for a stream whose log the
 * archive does not have from the beginning (after a gap, or after a restore with filters). The engine goes on writing.
 * The engine's log must have been sealed just before: `sealed` is the clock frame of that seal.
 */
export const createBase = async (
  archive: Archive,
  dir: string,
  sealed: { readonly lsn: number; readonly ts: number },
  label?: string,
): Promise<SnapshotEntry> => {
  const identity = await readIdentity(dir);
  const all = await archive.updateTimelines((t) => withEngine(t, identity, archive.clock.nowMs()));
  const owned = ownedPartitions(timelineOf(all, identity.timeline));
  const store = Store.open(dir, { readOnly: true });
  try {
    const { meta, records, done } = store.snapshot();
    try {
      if (!meta || meta.appliedLsn < sealed.lsn)
        throw new PitrError('internal', {
          what: `the store is at LSN ${meta?.appliedLsn ?? 0}, before the seal at ${sealed.lsn}`,
        });
      const id = newSnapshotId(meta.lastTs);
      // of one of several engines: the other partitions go on from what the archive has of them
      const isWhole = owned.subtract(PartitionSet.parse(meta.partitions)).size === 0;
      const stream = { epoch: meta.epoch, stream: identity.stream, lsnStart: 0, lsnEnd: meta.appliedLsn + 1 };
      const segments = await writeStore(archive, identity.timeline, id, stream, store.namespaces(), records);
      const snapshot: Snapshot = {
        archive: archive.id,
        id,
        label: label ?? null,
        timeline: identity.timeline,
        kind: 'base',
        createdMs: archive.clock.nowMs(),
        coordinated: false,
        ...(isWhole ? {} : { partitions: meta.partitions }),
        startTs: meta.lastTs,
        endTs: Math.max(meta.lastTs, sealed.ts),
        logAfterTs: sealed.ts,
        digests: null,
        positions: { [identity.stream]: meta.appliedLsn },
        parent: null,
        segments,
        log: [],
        events: [],
        records: segments.reduce((n, s) => n + s.rows, 0),
      };
      return await publishSnapshot(archive, snapshot);
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
    const name = segmentName(timeline, `snapshots-${id}`, 0, segments.length, segments.length, 0);
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

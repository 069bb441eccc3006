import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { callDoor, isDoorClosed } from '../engine/door.ts';
import type { AcquireRequest, Release } from '../engine/engine-types.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { readIdentity } from '../engine/identity.ts';
import { PartitionSet } from '../engine/partition.ts';
import { entriesOfChunk, readRecordFile, writeRecordChunk } from '../engine/record-file.ts';
import { splitStateKey, state } from '../engine/state-record.ts';
import { hasOwnRows, type SnapshotEntry } from '../snapshot/manifest.ts';
import { listSnapshots } from '../snapshot/snapshots.ts';
import { planState } from '../snapshot/state-plan.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { Archive } from '../wal/archive.ts';
import type { Archiver } from '../wal/archiver.ts';
import { type CaptureSource, readSource } from '../wal/capture/capture-dir.ts';
import { Engine } from '../wal/engine.ts';
import { HeldHead } from '../wal/held-head.ts';
import { withLease } from '../wal/lease.ts';
import { requestShipping } from '../wal/ship-request.ts';
import { ownedPartitions, type Timelines, timelineOf, withHandover } from '../wal/timeline.ts';
import { runRange } from './range-job.ts';

/** What a hand-over did. Positions are of the two streams' logs. */
export interface Handover {
  readonly partitions: string;
  readonly from: string;
  readonly to: string;
  readonly epoch: number;
  readonly released: { readonly lsn: number; readonly ts: number };
  readonly acquired: { readonly lsn: number; readonly ts: number };
  readonly records: number;
}

/** One side of a hand-over: an engine in this process, or the directory of one that is open elsewhere or closed. */
interface Side {
  readonly stream: string;
  readonly timeline: string;
  readonly dir: string;
  /** What it owns now. */
  partitions(): Promise<PartitionSet>;
  release(partitions: PartitionSet, peer: string): Promise<Release>;
  seal(): Promise<{ lsn: number; ts: number }>;
  acquire(request: AcquireRequest): Promise<{ lsn: number; ts: number; records: number }>;
}

export interface HandoverOptions {
  readonly partitions: PartitionSet;
  readonly archive: Archive;
  /** Ships the old owner's log when no agent does. */
  readonly ship?: () => Promise<unknown>;
  /** How long to wait for an agent to archive the release. Default 60 s. */
  readonly waitMs?: number;
}

const POLL_MS = 100;

/**
 * Moves partitions from one engine to another of the same database. The old owner closes them at a position; when that is
 * archived, ownership changes in the timeline; the new owner loads their records from the archive and goes on. In between
 * nobody takes writes for them. Interrupted anywhere, the same call finishes it; finished, it changes nothing and reports 0 records.
 * @throws partition-not-owned, wait-timeout, ownership-conflict, handover-incomplete, verification-failed
 */
export const handover = async (
  options: Omit<HandoverOptions, 'ship'> & {
    readonly from: Engine;
    readonly to: Engine;
    readonly fromArchiver?: Archiver;
  },
): Promise<Handover> => {
  const { fromArchiver } = options;
  return move(sideOf(options.from), sideOf(options.to), {
    ...options,
    ...(fromArchiver ? { ship: () => fromArchiver.archivePending() } : {}),
  });
};

/** The same between directories; engines that are open elsewhere are asked through their door. */
export const handoverDirs = async (
  fromDir: string,
  toDir: string,
  options: HandoverOptions,
): Promise<Handover> => move(await sideOfDir(fromDir), await sideOfDir(toDir), options);

const move = async (from: Side, to: Side, options: HandoverOptions): Promise<Handover> => {
  const { archive, partitions } = options;
  if (from.timeline !== to.timeline)
    throw new PitrError('usage', {
      what: `${from.stream} and ${to.stream} are on different timelines`,
      hint: 'hand over between engines of one database',
    });
  if (from.stream === to.stream)
    throw new PitrError('usage', { what: `${from.stream} is to hand over to itself` });
  await assertSameScope(from, to);
  if (partitions.subtract(await from.partitions()).size === 0) {
    // what is archived before the partitions close keeps the pause short, and shows what the archive does not have
    await shipped(archive, from, await from.seal(), options);
    await assertKnown(archive, from);
  }
  const { digests, ...released } = await from.release(partitions, to.stream);
  await from.seal();
  await shipped(archive, from, released, options);
  let epoch = 0;
  await archive.updateTimelines((all) => {
    const moved = withHandover(all, from.timeline, {
      partitions,
      from: from.stream,
      to: to.stream,
      releaseTs: released.ts,
    });
    epoch = moved.epoch;
    return moved.timelines;
  });
  return acquired(archive, from.stream, to, { partitions, epoch, released, digests });
};

/** The last step: the new owner loads what the archive has of the partitions at the release. */
const acquired = async (
  archive: Archive,
  peer: string,
  to: Side,
  change: {
    readonly partitions: PartitionSet;
    readonly epoch: number;
    readonly released: { readonly lsn: number; readonly ts: number };
    readonly digests: Release['digests'];
  },
): Promise<Handover> => {
  const { partitions, epoch, released, digests } = change;
  const file = join(to.dir, `incoming-${randomBytes(4).toString('hex')}.records`);
  try {
    await withLease(archive, 'handover', () =>
      writeState(archive, to.timeline, released.ts, partitions, file),
    );
    const { lsn, ts, records } = await to.acquire({
      partitions: partitions.toString(),
      peer,
      epoch,
      afterTs: released.ts,
      file,
      ...(digests ? { digests } : {}),
    });
    return {
      partitions: partitions.toString(),
      from: peer,
      to: to.stream,
      epoch,
      released,
      acquired: { lsn, ts },
      records,
    };
  } finally {
    await fs.rm(file, { force: true });
  }
};

/**
 * All partitions of a stream whose capture directory is lost go to another one, as of the last frontier that the archive has of it: what happened
 * since is in the cluster, where the new owner looks for it. Whoever archived the lost stream can publish nothing from here on. The same call
 * finishes what was interrupted.
 * @throws usage for an engine, whose records were nowhere else; stream-unknown, handover-incomplete, ownership-conflict
 */
export const takeOverLost = async (archive: Archive, stream: string, toDir: string): Promise<Handover> => {
  const to = await sideOfDir(toDir);
  const source = await readSource(toDir);
  if (!source)
    throw new PitrError('usage', {
      what: `${toDir} is an engine directory`,
      hint: 'what a lost engine had is in the archive only: restore it',
    });
  const { timeline } = to;
  const head = (await archive.head(timeline, stream))?.value;
  if (!head)
    throw new PitrError('stream-unknown', {
      stream,
      known: (await archive.timeline(timeline)).streams.map((s) => s.name).join(', '),
    });
  const { engineId } = head;
  const held = await HeldHead.claim(archive, { engineId, stream, timeline }, archive.clock);
  const { lsn, ts } = held.current.frontier;
  if (ts === 0) throw new PitrError('handover-incomplete', { stream, why: 'nothing of it is archived' });
  const lost = (all: Timelines): PartitionSet => {
    const mine = timelineOf(all, timeline).ownership.filter(
      (o) => o.stream === stream && (o.toTs === null || o.toTs === ts),
    );
    return ownedPartitions({
      ...timelineOf(all, timeline),
      ownership: mine.map((o) => ({ ...o, toTs: null })),
    });
  };
  await assertCaptures(archive, to, source, ts, lost(await archive.timelines()));
  let epoch = 0;
  let partitions = PartitionSet.none;
  await archive.updateTimelines((all) => {
    partitions = lost(all);
    if (partitions.size === 0)
      throw new PitrError('handover-incomplete', { stream, why: 'it has no partitions' });
    const moved = withHandover(all, timeline, { partitions, from: stream, to: to.stream, releaseTs: ts });
    epoch = moved.epoch;
    return moved.timelines;
  });
  return acquired(archive, stream, to, { partitions, epoch, released: { lsn, ts }, digests: undefined });
};

const sideOf = (engine: Engine): Side => ({
  stream: engine.identity.stream,
  timeline: engine.identity.timeline,
  dir: engine.dir,
  partitions: async () => engine.partitions,
  release: (partitions, peer) => engine.release(partitions, peer),
  seal: () => engine.seal(),
  acquire: ({ partitions, file, ...request }) =>
    engine.acquire({
      ...request,
      partitions: PartitionSet.parse(partitions),
      load: readRecordFile(file),
    }),
});

const sideOfDir = async (dir: string): Promise<Side> => {
  const identity = await readIdentity(dir);
  // through the door of whoever has it open, else by opening it for this one step
  const ask = async <T>(verb: string, args: unknown, own: (engine: Engine) => Promise<T>): Promise<T> => {
    try {
      return (await callDoor(dir, verb, args, { timeoutMs: 60_000 })) as T;
    } catch (error) {
      // one that is closing lets go of the lock soon, for which opening waits
      if (!isDoorClosed(error) && !isPitrError(error, 'engine-closed')) throw error;
    }
    const engine = await Engine.open({ dir, sealMs: 0, door: false });
    try {
      return await own(engine);
    } finally {
      await engine.close();
    }
  };
  return {
    stream: identity.stream,
    timeline: identity.timeline,
    dir,
    partitions: async () => {
      const own = async (e: Engine) => ({ partitions: e.partitions.toString() });
      return PartitionSet.parse((await ask('status', {}, own)).partitions);
    },
    release: (partitions, peer) =>
      ask('release', { partitions: partitions.toString(), peer }, (e) => e.release(partitions, peer)),
    seal: () => ask('seal', {}, (e) => e.seal()),
    acquire: (request) => ask('acquire', request, (e) => sideOf(e).acquire(request)),
  };
};

/** Refuses a new owner that would not look at all that the old one captured: its records would stay in the history as they were. @throws usage */
const assertSameScope = async (from: Side, to: Side): Promise<void> => {
  const [had, has] = [await readSource(from.dir), await readSource(to.dir)];
  if (!had && !has) return;
  if (!had || !has)
    throw new PitrError('usage', {
      what: `one of ${from.stream} and ${to.stream} captures a cluster, the other is an engine`,
      hint: 'hand over between two captures of one cluster, or between two engines',
    });
  const namespaces = had.namespaces.filter((n) => !has.namespaces.includes(n));
  const { sets } = has;
  const isNarrower = sets !== null && (had.sets === null || had.sets.some((set) => !sets.includes(set)));
  if (namespaces.length === 0 && !isNarrower) return;
  const what = namespaces.length > 0 ? `namespace ${namespaces.join(', ')}` : 'all sets';
  throw new PitrError('usage', {
    what: `${to.stream} does not capture ${what} as ${from.stream} does`,
    hint: 'what it does not capture would stay in the history as it was: hand over to a directory with the same --namespace and --set',
  });
};

/**
 * Refuses when the archive has records of these partitions that `to` would not look at: the directory that could say what was captured is gone.
 * @throws usage
 */
const assertCaptures = async (
  archive: Archive,
  { stream, timeline }: Side,
  { namespaces, sets }: CaptureSource,
  ts: number,
  partitions: PartitionSet,
): Promise<void> => {
  await eachChunk(archive, timeline, ts, partitions, async (chunk) => {
    for (const { key, value } of entriesOfChunk(chunk)) {
      const { namespace } = splitStateKey(key);
      const set = state.set(value);
      if (namespaces.includes(namespace) && (sets === null || sets.includes(set))) continue;
      throw new PitrError('usage', {
        what: `${stream} does not capture ${namespaces.includes(namespace) ? `set "${set}" of namespace` : 'namespace'} ${namespace}, of which these partitions have records`,
        hint: 'what it does not capture would stay in the history as it was: take a directory that captures all of it',
      });
    }
  });
};

/**
 * Refuses to begin when the archive, from which the new owner loads, cannot have all records: the log has a gap that no copy of
 * the whole state has bridged since, or the history has no beginning but a base copy that is not there yet.
 */
const assertKnown = async (archive: Archive, from: Side): Promise<void> => {
  const [timeline, snapshots, head] = await Promise.all([
    archive.timeline(from.timeline),
    listSnapshots(archive, from.timeline),
    archive.head(from.timeline, from.stream),
  ]);
  const mine = ownedPartitions({
    ...timeline,
    ownership: timeline.ownership.filter((o) => o.stream === from.stream),
  });
  // of one of several it need only have what that one owns (snapshot/README.md, N10)
  const isCopyOf = (s: SnapshotEntry): boolean =>
    hasOwnRows(s) && mine.subtract(PartitionSet.parse(s.partitions ?? 'all')).size === 0;
  const newestCopy = snapshots.filter(isCopyOf).at(-1)?.endTs ?? -1;
  const gap = head?.value.gaps.find((g) => g.untilTs > newestCopy);
  const { stream } = from;
  if (gap)
    throw new PitrError('handover-incomplete', {
      stream,
      why: `LSN ${gap.lsnStart} to ${gap.lsnEnd - 1} are missing`,
    });
  if (timeline.detached && newestCopy < 0)
    throw new PitrError('handover-incomplete', { stream, why: 'its timeline has no base copy yet' });
};

/** Waits until the archive has the old owner's log up to a position of it. */
const shipped = async (
  archive: Archive,
  from: Side,
  reached: { lsn: number; ts: number },
  options: HandoverOptions,
): Promise<void> => {
  const waitMs = options.waitMs ?? 60_000;
  const until = performance.now() + waitMs;
  if (!options.ship) await requestShipping(from.dir);
  for (;;) {
    await options.ship?.();
    const head = (await archive.head(from.timeline, from.stream))?.value;
    if (head && head.frontier.lsn >= reached.lsn && head.frontier.ts >= reached.ts) return;
    if (performance.now() > until)
      throw new PitrError('wait-timeout', {
        seconds: waitMs / 1000,
        what: `the archive to reach LSN ${reached.lsn} of ${from.stream}`,
      });
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
};

/** Writes the partitions' records at `ts`, as the old owner left them, into a file. */
const writeState = async (
  archive: Archive,
  timeline: string,
  ts: number,
  partitions: PartitionSet,
  path: string,
): Promise<void> => {
  const file = await fs.open(path, 'wx');
  try {
    await eachChunk(archive, timeline, ts, partitions, (chunk) => writeRecordChunk(file, chunk));
    await writeRecordChunk(file, Buffer.alloc(0));
  } finally {
    await file.close();
  }
};

/** The partitions' records at `ts`, in chunks (engine/record-file.ts). */
const eachChunk = async (
  archive: Archive,
  timeline: string,
  ts: number,
  partitions: PartitionSet,
  onChunk: (chunk: Buffer) => Promise<void>,
): Promise<void> => {
  const plan = await planState(await ArchiveView.read(archive, timeline), ts);
  for (const range of partitions.ranges)
    await runRange(
      archive,
      {
        plan,
        selection: { partitions: partitions.toString() },
        ttl: { mode: 'absolute', seconds: 0 },
        output: 'store',
        shards: 1,
        keepExpired: true,
      },
      range,
      onChunk,
    );
};

/** Opens the archive that an engine directory belongs to. @throws usage when it has none */
export const archiveOfDir = async (dir: string): Promise<Archive> => {
  const { archive } = await readIdentity(dir);
  if (!archive)
    throw new PitrError('usage', {
      what: `the engine in ${dir} has no archive`,
      hint: 'name one with --archive',
    });
  return Archive.open(archive.url);
};

import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { callDoor, isDoorClosed } from '../engine/door.ts';
import type { AcquireRequest } from '../engine/engine-core.ts';
import { PitrError } from '../engine/errors.ts';
import { readIdentity } from '../engine/identity.ts';
import { PartitionSet } from '../engine/partition.ts';
import { readRecordFile, writeRecordChunk } from '../engine/record-file.ts';
import { planState } from '../snapshot/state-plan.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { Archive } from '../wal/archive.ts';
import type { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';
import { withHandover } from '../wal/timeline.ts';
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
  release(partitions: PartitionSet, peer: string): Promise<{ lsn: number; ts: number }>;
  seal(): Promise<unknown>;
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
 * nobody takes writes for them. Interrupted anywhere, the same call finishes it.
 * @throws partition-not-owned, wait-timeout, ownership-conflict
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
  const released =
    (await earlierRelease(archive, from, to, partitions)) ?? (await from.release(partitions, to.stream));
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
  const file = join(to.dir, `incoming-${randomBytes(4).toString('hex')}.records`);
  try {
    await writeState(archive, from.timeline, released.ts, partitions, file);
    const { lsn, ts, records } = await to.acquire({
      partitions: partitions.toString(),
      peer: from.stream,
      epoch,
      afterTs: released.ts,
      file,
    });
    return {
      partitions: partitions.toString(),
      from: from.stream,
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

const sideOf = (engine: Engine): Side => ({
  stream: engine.identity.stream,
  timeline: engine.identity.timeline,
  dir: engine.dir,
  release: (partitions, peer) => engine.release(partitions, peer),
  seal: () => engine.seal(),
  acquire: ({ partitions, peer, epoch, afterTs, file }) =>
    engine.acquire({
      partitions: PartitionSet.parse(partitions),
      peer,
      epoch,
      afterTs,
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
      if (!isDoorClosed(error)) throw error;
    }
    const engine = await Engine.open({ dir, sealMs: 0 });
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
    release: (partitions, peer) =>
      ask('release', { partitions: partitions.toString(), peer }, (e) => e.release(partitions, peer)),
    seal: async () => {
      await ask('seal', {}, (e) => e.seal());
    },
    acquire: (request) => ask('acquire', request, (e) => sideOf(e).acquire(request)),
  };
};

/** A release of exactly these partitions to this peer that the archive knows and nobody has followed up. */
const earlierRelease = async (
  archive: Archive,
  from: Side,
  to: Side,
  partitions: PartitionSet,
): Promise<{ lsn: number; ts: number } | undefined> => {
  const head = (await archive.head(from.timeline, from.stream))?.value;
  const events = await archive.events(head?.runs.flatMap((r) => r.segments) ?? []);
  const mine = events.filter((e) => e.kind === 'ownership').sort((a, b) => a.lsn - b.lsn);
  const last = mine.at(-1);
  if (last?.change !== 'release' || last.peer !== to.stream || last.partitions !== partitions.toString())
    return undefined;
  const taken = (await archive.head(to.timeline, to.stream))?.value;
  const theirs = await archive.events(taken?.runs.flatMap((r) => r.segments) ?? []);
  const done = theirs.some(
    (e) => e.kind === 'ownership' && e.change === 'acquire' && e.ts > last.ts && e.peer === from.stream,
  );
  return done ? undefined : { lsn: last.lsn, ts: last.ts };
};

/** Waits until the archive has the old owner's log up to the release. */
const shipped = async (
  archive: Archive,
  from: Side,
  released: { lsn: number; ts: number },
  options: HandoverOptions,
): Promise<void> => {
  const waitMs = options.waitMs ?? 60_000;
  const until = performance.now() + waitMs;
  for (;;) {
    await options.ship?.();
    const head = (await archive.head(from.timeline, from.stream))?.value;
    if (head && head.frontier.lsn >= released.lsn && head.frontier.ts >= released.ts) return;
    if (performance.now() > until)
      throw new PitrError('wait-timeout', {
        seconds: waitMs / 1000,
        what: `the archive to reach LSN ${released.lsn} of ${from.stream}`,
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
  const view = await ArchiveView.read(archive, timeline);
  const plan = await planState(view, ts);
  const file = await fs.open(path, 'wx');
  try {
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
        (chunk) => writeRecordChunk(file, chunk),
      );
    await writeRecordChunk(file, Buffer.alloc(0));
  } finally {
    await file.close();
  }
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

import { PitrError } from '../engine/errors.ts';
import type { EngineIdentity, ForkPoint } from '../engine/identity.ts';
import { PARTITIONS, PartitionSet } from '../engine/partition.ts';

/** Which stream owns which partitions, from and to which instants (ms, inclusive; `toTs` null: still). */
export interface Ownership {
  readonly epoch: number;
  readonly stream: string;
  /** '*': all namespaces. Room for ownership by namespace. */
  readonly namespace: '*';
  readonly partitions: string;
  readonly fromTs: number;
  readonly toTs: number | null;
}

/** One history. Immutable but for its ownership, which only grows by hand-overs and new engines. */
export interface Timeline {
  readonly id: string;
  readonly createdMs: number;
  readonly parent: ForkPoint | null;
  /** A history without known past: what a filtered restore became. It starts at its first base copy. */
  readonly detached: boolean;
  readonly streams: readonly { readonly name: string; readonly engineId: string }[];
  readonly ownership: readonly Ownership[];
}

/** The swappable object `timelines`. */
export interface Timelines {
  readonly archive: string;
  /** In the order in which they joined: parents before children. */
  readonly timelines: readonly Timeline[];
}

export const timelineOf = (all: Timelines, id: string): Timeline => {
  const found = all.timelines.find((t) => t.id === id);
  if (!found)
    throw new PitrError('timeline-unknown', {
      timeline: id,
      known: all.timelines.map((t) => t.id).join(', ') || 'none',
    });
  return found;
};

/**
 * What commands mean when no timeline is named: the one that joined the archive last, whatever clock its machine has. A filtered
 * copy that somebody archives is one of its own, so it counts only where there is no other.
 */
export const currentTimeline = (all: Timelines): Timeline | undefined =>
  all.timelines.findLast((t) => !rootOf(all, t.id).detached) ?? all.timelines.at(-1);

/** Where a history began. */
export const rootOf = (all: Timelines, id: string): Timeline => ancestry(all, id).at(-1) as Timeline;

/** Current owner of a partition. */
export const ownerOfPartition = (timeline: Timeline, partition: number): string | undefined =>
  timeline.ownership.find((o) => o.toTs === null && PartitionSet.parse(o.partitions).has(partition))?.stream;

/** Partitions that have an owner now. */
export const ownedPartitions = (timeline: Timeline): PartitionSet =>
  timeline.ownership
    .filter((o) => o.toTs === null)
    .reduce((set, o) => set.union(PartitionSet.parse(o.partitions)), PartitionSet.none);

/**
 * Adds an engine: its timeline if that is new, its stream and its partitions. Adding what is there already changes nothing.
 * @throws stream-taken, ownership-conflict
 */
export const withEngine = (all: Timelines, identity: EngineIdentity, nowMs: number): Timelines => {
  const existing = all.timelines.find((t) => t.id === identity.timeline);
  const base: Timeline = existing ?? {
    id: identity.timeline,
    createdMs: nowMs,
    parent: identity.fork ?? null,
    detached: identity.detached ?? false,
    streams: [],
    ownership: [],
  };
  const same = base.streams.find((s) => s.name === identity.stream);
  if (same && same.engineId !== identity.engineId)
    throw new PitrError('stream-taken', { stream: identity.stream });
  if (same) return all;
  const wanted = PartitionSet.parse(identity.partitions);
  for (const o of base.ownership) {
    const both = o.toTs === null ? PartitionSet.parse(o.partitions).intersect(wanted) : PartitionSet.none;
    if (both.size > 0)
      throw new PitrError('ownership-conflict', { partitions: both.toString(), owner: o.stream });
  }
  const added: Timeline = {
    ...base,
    streams: [...base.streams, { name: identity.stream, engineId: identity.engineId }],
    ownership:
      wanted.size === 0
        ? base.ownership
        : [
            ...base.ownership,
            {
              epoch: 1,
              stream: identity.stream,
              namespace: '*',
              partitions: wanted.toString(),
              // a fork goes on where its parent was left; nothing has an older ts, however late the agent starts
              fromTs: identity.fork ? identity.fork.ts + 1 : identity.createdMs,
              toTs: null,
            },
          ],
  };
  return {
    ...all,
    timelines: existing ? all.timelines.map((t) => (t === existing ? added : t)) : [...all.timelines, added],
  };
};

/**
 * Moves partitions from one stream to another as of `releaseTs`: the old owner counts up to it, the new one after it.
 * Returns the new epoch. Doing it again changes nothing; once the new owner has passed them on it is refused.
 * @throws ownership-conflict
 */
export const withHandover = (
  all: Timelines,
  timelineId: string,
  change: { partitions: PartitionSet; from: string; to: string; releaseTs: number },
): { timelines: Timelines; epoch: number } => {
  const timeline = timelineOf(all, timelineId);
  const done = timeline.ownership.find(
    (o) =>
      o.stream === change.to &&
      o.toTs === null &&
      o.fromTs === change.releaseTs + 1 &&
      o.partitions === change.partitions.toString(),
  );
  if (done) return { timelines: all, epoch: done.epoch };
  const epoch = Math.max(...timeline.ownership.map((o) => o.epoch)) + 1;
  let left = change.partitions;
  const ownership: Ownership[] = [];
  for (const o of timeline.ownership) {
    const has = PartitionSet.parse(o.partitions);
    const moved =
      o.toTs === null && o.stream === change.from ? has.intersect(change.partitions) : PartitionSet.none;
    if (moved.size === 0) {
      ownership.push(o);
      continue;
    }
    left = left.subtract(moved);
    const rest = has.subtract(moved);
    ownership.push({ ...o, partitions: moved.toString(), toTs: change.releaseTs });
    if (rest.size > 0) ownership.push({ ...o, partitions: rest.toString() });
  }
  if (left.size > 0)
    throw new PitrError('ownership-conflict', {
      partitions: left.toString(),
      owner: ownerOfPartition(timeline, left.ranges[0].start) ?? 'nobody',
    });
  ownership.push({
    epoch,
    stream: change.to,
    namespace: '*',
    partitions: change.partitions.toString(),
    fromTs: change.releaseTs + 1,
    toTs: null,
  });
  const changed = { ...timeline, ownership };
  return {
    timelines: { ...all, timelines: all.timelines.map((t) => (t === timeline ? changed : t)) },
    epoch,
  };
};

/** Owners at one instant: for every partition the stream, or undefined. */
export const ownersAt = (timeline: Timeline, ts: number): (string | undefined)[] => {
  const owners = new Array<string | undefined>(PARTITIONS).fill(undefined);
  for (const o of timeline.ownership)
    if (o.fromTs <= ts && (o.toTs === null || ts <= o.toTs))
      for (const r of PartitionSet.parse(o.partitions).ranges) owners.fill(o.stream, r.start, r.end);
  return owners;
};

/** The timeline and its ancestors, newest first. A cycle or a missing parent ends in an error. */
export const ancestry = (all: Timelines, id: string): Timeline[] => {
  const chain: Timeline[] = [];
  for (let at: string | undefined = id; at !== undefined; ) {
    const timeline: Timeline = timelineOf(all, at);
    if (chain.includes(timeline))
      throw new PitrError('object-corrupt', { name: 'timelines', why: `timeline ${at} is its own ancestor` });
    chain.push(timeline);
    at = timeline.parent?.timeline;
  }
  return chain;
};

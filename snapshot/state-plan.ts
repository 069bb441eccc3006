import type { ShardDigest } from '../engine/content-digest.ts';
import { PARTITIONS } from '../engine/partition.ts';
import type { Head } from '../wal/catalog.ts';
import {
  type ArchiveEvent,
  type ClockEvent,
  compareEvents,
  type DefinitionEvent,
  type TruncateEvent,
} from '../wal/event.ts';
import { isDoubtful } from '../wal/exactness.ts';
import type { Run, SegmentRef } from '../wal/segment.ts';
import type { RunLimits, TtlStep } from '../wal/state-at.ts';
import { ownersAt, type Timeline } from '../wal/timeline.ts';
import { Bases } from './bases.ts';
import { LaterRuns } from './later-runs.ts';
import type { Snapshot, SnapshotEntry } from './manifest.ts';
import { readSnapshot } from './snapshots.ts';
import type { ArchiveView } from './view.ts';

/** One input of the merge: a run and which of its versions count. Plain data: it goes to worker threads. */
export interface PlannedRun {
  readonly segments: readonly SegmentRef[];
  readonly limits: RunLimits;
}

/** What the source said about its own state, as near before the target as it said anything. */
export interface SourceDigest {
  readonly digests: readonly ShardDigest[];
  /** For each partition the instant that the digests are of. */
  readonly clockTs: readonly number[];
  /** The snapshot whose digests these are; undefined: clock frames of the streams. */
  readonly snapshot: string | undefined;
}

/** Plain data: it goes to worker threads. */
export interface PlannedExactness {
  /** What is not newer was inherited at the fork, and is as it was restored. -1: nothing was. */
  readonly sinceTs: number;
  /** Of the target's timeline; those that leave open whether they had taken effect by the target. */
  readonly truncations: readonly TruncateEvent[];
}

export interface PlanOptions {
  /** False: merges the log itself, whatever copies there are. Default true. */
  readonly useBase?: boolean;
  /** True: the runs have what is needed to say which records are inexact. Default false: the state only. */
  readonly exactness?: boolean;
}

/** Everything needed to produce the state at `ts`. */
export interface StatePlan {
  readonly timeline: string;
  readonly ts: number;
  readonly base: SnapshotEntry | undefined;
  readonly runs: readonly PlannedRun[];
  readonly truncations: readonly TruncateEvent[];
  /** Definitions in force at `ts`: of each the newest. */
  readonly definitions: readonly DefinitionEvent[];
  /** What is needed to say which records are inexact at `ts` (S7); null: the history says of itself that all of it is exact. */
  readonly exactness: PlannedExactness | null;
  readonly source: SourceDigest | { readonly missing: string };
  readonly bytes: number;
  readonly objects: number;
  readonly versions: number;
  /** Newest LSN of each stream at or below the target. */
  readonly positions: Readonly<Record<string, number>>;
}

/**
 * Plans the state at `ts` on the view's timeline: nearest self-contained snapshot that the history reaches, runs of the
 * timeline and its ancestors after it. `ts` must be restorable.
 */
export const planState = async (
  view: ArchiveView,
  ts: number,
  options: PlanOptions = {},
): Promise<StatePlan> => {
  const chain = historyOf(view, ts);
  const bases = Bases.choose(
    chain,
    options.useBase === false ? view.snapshots.filter(isPartial) : view.snapshots,
  );
  const copies = await Promise.all(bases.entries.map((entry) => readSnapshot(view.archive, entry)));
  const runs: PlannedRun[] = [];
  const positions: Record<string, number> = {};
  const timelines = chain.slice(0, bases.depthOf(chain));
  // read side by side: each run's may take long
  const lists: Promise<readonly ArchiveEvent[]>[] = [];
  const own: Promise<readonly ArchiveEvent[]>[] = [];
  let isExact = true;
  const later = options.exactness
    ? LaterRuns.of([...(view.heads.get(chain[0].timeline.id)?.values() ?? [])], ts)
    : undefined;
  for (const [depth, { timeline, tsMax, ttl }] of timelines.entries()) {
    const limits: RunLimits = { tsAfter: bases.tsAfterOf(depth, copies), tsMax, ttl, isOwn: depth === 0 };
    const tsAfter = typeof limits.tsAfter === 'number' ? limits.tsAfter : Math.min(...limits.tsAfter);
    for (const head of view.heads.get(timeline.id)?.values() ?? []) {
      for (const run of head.runs) {
        const counts = run.tsMin <= limits.tsMax && run.tsMax > tsAfter;
        const segments = run.segments.filter(
          (s) =>
            s.rows > 0 &&
            ((counts && s.tsMin <= limits.tsMax && s.tsMax > tsAfter) || (depth === 0 && later?.needs(s))),
        );
        if (segments.length > 0) runs.push({ segments, limits });
        const saysLater = depth === 0 && run.segments.some((s) => later?.says(s));
        if (!counts && !saysLater) continue;
        if (depth === 0) isExact &&= run.segments.every((s) => s.inexact === undefined);
        const events = view.archive.events(run.segments);
        if (depth === 0) own.push(events);
        if (!counts) continue;
        lists.push(events.then((list) => list.filter((e) => e.ts <= limits.tsMax && e.ts > tsAfter)));
        if (timeline === chain[0].timeline)
          positions[head.stream] = Math.max(positions[head.stream] ?? 0, run.lsnEnd - 1);
      }
    }
    for (const [i, copy] of copies.entries()) {
      if (bases.depthOfCopy(i) !== depth) continue;
      if (copy.segments.length > 0)
        runs.push({ segments: copy.segments, limits: { tsAfter: bases.rowsAfterOf(i), tsMax, ttl } });
      lists.push(Promise.resolve(copy.events));
      if (depth !== 0) continue;
      own.push(Promise.resolve(copy.events));
      isExact &&= copy.segments.every((s) => s.inexact === undefined) && copy.events.every(hasNoWindow);
    }
  }
  const events = (await Promise.all(lists)).flat();
  const segments = runs.flatMap((r) => r.segments);
  return {
    timeline: chain[0].timeline.id,
    ts,
    base: bases.whole,
    runs,
    truncations: events.filter((e): e is TruncateEvent => e.kind === 'truncate'),
    definitions: inForce(events),
    exactness:
      options.exactness && !isExact
        ? {
            sinceTs: chain[0].timeline.parent?.ts ?? -1,
            truncations: doubtful((await Promise.all(own)).flat(), ts),
          }
        : null,
    source: await sourceDigest(
      view,
      chain[0].timeline,
      ts,
      copies.find((c) => c.partitions === undefined),
      bases,
    ),
    bytes: segments.reduce((n, s) => n + s.bytes, 0),
    objects: segments.length,
    versions: segments.reduce((n, s) => n + s.rows, 0),
    positions,
  };
};

const doubtful = (events: readonly ArchiveEvent[], ts: number): TruncateEvent[] =>
  events.filter((e): e is TruncateEvent => e.kind === 'truncate' && isDoubtful(e, ts));

const hasNoWindow = (e: ArchiveEvent): boolean => e.kind !== 'truncate' || e.windowStartMs === undefined;

/** Of each definition the newest, unless that removes it; in a fixed order. */
const inForce = (events: readonly ArchiveEvent[]): DefinitionEvent[] => {
  const newest = new Map<string, DefinitionEvent>();
  const definitions = events.filter((e): e is DefinitionEvent => e.kind === 'definition');
  for (const e of definitions.sort(compareEvents))
    newest.set(JSON.stringify([e.what, e.namespace, e.name]), e);
  return [...newest.values()].filter((e) => e.body !== null);
};

const isPartial = (s: SnapshotEntry): boolean => s.partitions !== undefined;

interface History {
  readonly timeline: Timeline;
  /** Versions of this timeline count up to here. */
  readonly tsMax: number;
  /** Forks between this timeline and the reader, nearest to the reader first. */
  readonly ttl: readonly TtlStep[];
}

/** The timelines whose versions make the state at `ts`, newest first: a target before a fork lies on the ancestor alone. */
const historyOf = (view: ArchiveView, ts: number): History[] => {
  const chain: History[] = [];
  let tsMax = ts;
  let ttl: TtlStep[] = [];
  for (const timeline of view.ancestry) {
    const forkTs = timeline.parent?.ts;
    if (chain.length === 0 && forkTs !== undefined && ts <= forkTs) continue;
    chain.push({ timeline, tsMax, ttl });
    if (timeline.parent) {
      tsMax = Math.min(tsMax, timeline.parent.ts);
      ttl = [...ttl, { ...timeline.parent.ttl, forkTs: timeline.parent.ts }];
    }
  }
  return chain;
};

/** The newest statement of the streams about their own state at or before `ts`, for every partition, or why there is none. */
const sourceDigest = async (
  view: ArchiveView,
  timeline: Timeline,
  ts: number,
  base: Snapshot | undefined,
  bases: Bases,
): Promise<SourceDigest | { missing: string }> => {
  const owners = ownersAt(timeline, ts);
  const clocks: ClockEvent[] = [];
  const clockTs = new Array<number>(PARTITIONS).fill(-1);
  for (const stream of new Set(owners)) {
    if (stream === undefined) continue;
    const head = view.heads.get(timeline.id)?.get(stream);
    const clock = await newestClock(view, head, ts);
    if (!clock) {
      const fresh =
        !timeline.parent &&
        !timeline.detached &&
        !head?.runs.some((r) => r.tsMin <= ts) &&
        hasLoaded(timeline, stream, ts, 1);
      if (!fresh) return { missing: `stream ${stream} has stated no digest before the target` };
      // it has written nothing: its part of the state is empty at any instant so far
      for (let p = 0; p < PARTITIONS; p++) if (owners[p] === stream) clockTs[p] = ts;
      continue;
    }
    const then = ownersAt(timeline, clock.ts);
    if (!hasLoaded(timeline, stream, ts, clock.epoch))
      return { missing: `stream ${stream} changed its partitions since it last stated a digest` };
    for (let p = 0; p < PARTITIONS; p++) {
      if ((then[p] === stream) !== (owners[p] === stream))
        return { missing: `stream ${stream} changed its partitions since it last stated a digest` };
      if (owners[p] === stream) clockTs[p] = clock.ts;
    }
    clocks.push(clock);
  }
  // a copy holds only the latest versions at its end, so an older statement cannot be recomputed from it
  if (bases.isMixed && clockTs.some((clock, p) => owners[p] !== undefined && clock < bases.knownSince(p)))
    return { missing: 'a stream has stated no digest since the base copy of its partitions' };
  if (base && base.timeline === timeline.id && clocks.some((c) => c.ts < base.endTs)) {
    if (!base.digests) return { missing: `snapshot ${base.id} could not be compared with its source` };
    return {
      digests: base.digests,
      clockTs: new Array<number>(PARTITIONS).fill(base.endTs),
      snapshot: base.id,
    };
  }
  const shards = clocks[0]?.digests.length ?? 1;
  if (clocks.some((c) => c.digests.length !== shards))
    return { missing: 'streams have different numbers of shards' };
  return {
    digests: sumDigests(
      clocks.map((c) => c.digests),
      shards,
    ),
    clockTs,
    snapshot: undefined,
  };
};

/**
 * True when a stream whose epoch is `epoch` has the records of all that it owns at `ts`. Partitions that are handed over count
 * as its own from the release on, but it holds and counts them only after it has acquired them, in a newer epoch.
 */
const hasLoaded = (timeline: Timeline, stream: string, ts: number, epoch: number): boolean =>
  timeline.ownership.every(
    (o) => o.stream !== stream || o.fromTs > ts || (o.toTs !== null && o.toTs < ts) || o.epoch <= epoch,
  );

const sumDigests = (lists: readonly (readonly ShardDigest[])[], shards: number): ShardDigest[] =>
  Array.from({ length: shards }, (_, shard) => {
    const lanes = new Uint32Array(4);
    let records = 0;
    for (const list of lists) {
      for (let lane = 0; lane < 4; lane++)
        lanes[lane] += Number.parseInt(list[shard].sum.slice(lane * 8, lane * 8 + 8), 16);
      records += list[shard].records;
    }
    return { sum: Array.from(lanes, (w) => w.toString(16).padStart(8, '0')).join(''), records };
  });

const newestClock = async (
  view: ArchiveView,
  head: Head | undefined,
  ts: number,
): Promise<ClockEvent | undefined> => {
  const runs: readonly Run[] = head?.runs ?? [];
  if (head?.clock && head.clock.ts <= ts) return head.clock;
  // a stream without positions, such as a fork that nobody has written to, is what it is since its start
  if (head?.clock && runs.length === 0 && head.clock.lsn === 0) return { ...head.clock, ts };
  for (let i = runs.length - 1; i >= 0; i--) {
    if (runs[i].tsMin > ts) continue;
    const clocks = (await view.archive.events(runs[i].segments)).filter(
      (e): e is ClockEvent => e.kind === 'clock' && e.ts <= ts,
    );
    const newest = clocks.sort((a, b) => a.ts - b.ts || a.lsn - b.lsn).at(-1);
    if (newest) return newest;
  }
  return undefined;
};

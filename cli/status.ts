import { isPitrError, type PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import { type Hole, historyStart, holesOf, windowOf } from '../snapshot/holes.ts';
import type { RestorableRange } from '../snapshot/ranges.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { type Acknowledgement, readAcknowledged } from '../wal/acknowledgements.ts';
import type { Archive } from '../wal/archive.ts';
import { readArchived } from '../wal/archived.ts';
import { type Gap, type Head, writeAmplification } from '../wal/catalog.ts';
import { type LeaseEntry, listLeases } from '../wal/lease.ts';
import type { Timeline, Timelines } from '../wal/timeline.ts';
import { readVerifyResults, type VerifyResult, type VerifyResults } from '../wal/verify-results.ts';
import { type LocalStatus, localProblems, readLocalStatus } from './local-status.ts';
import type { EngineDir } from './places.ts';
import { snapshotData } from './render/snapshots.ts';
import { type ArchiveFacts, archiveProblems, type Problem, type WindowStatus } from './verdict.ts';

export type { Problem } from './verdict.ts';

export interface StreamStatus {
  readonly stream: string;
  /** Inclusive ranges that it owns now; `none`: it is retired, and its frontier need not move. */
  readonly partitions: string;
  readonly frontierTs: number | null;
  /** Clock minus frontier; negative: the frontier is ahead of this machine's clock. Null: nothing archived, or retired. */
  readonly lagMs: number | null;
  readonly lsn: number;
  readonly runs: number;
  readonly segments: number;
  readonly bytes: number;
  /** Bytes that seals and merges wrote since the stream's beginning, and how often that is what came in; null: nothing yet. */
  readonly written: Head['written'] | null;
  readonly writeAmplification: number | null;
  readonly gaps: readonly Gap[];
  readonly local?: LocalStatus;
}

export interface Status {
  /** Unreachable: nothing is known of it now but what the directories remember. */
  readonly archive: { readonly url: string; readonly id: string; readonly isReachable: boolean };
  readonly nowMs: number;
  readonly green: boolean;
  readonly problems: readonly Problem[];
  readonly timeline: string;
  readonly ranges: readonly RestorableRange[];
  readonly contiguousEnd: number | null;
  readonly maxEnd: number | null;
  readonly limitedBy: string | null;
  /** Clock minus `contiguousEnd`; negative: see the problem `clock-skew`. */
  readonly lagMs: number | null;
  /** Newest stretch without a hole; null: nothing is restorable. */
  readonly window: WindowStatus | null;
  /** Of this history and, up to the forks, of what it comes from. */
  readonly holes: readonly Hole[];
  readonly streams: readonly StreamStatus[];
  readonly snapshots: number;
  readonly lastSnapshot: ReturnType<typeof snapshotData> | null;
  /** Newest result of `pitr verify`, and the newest good one; null: never. */
  readonly lastVerify: VerifyResult | null;
  readonly lastGoodVerify: VerifyResult | null;
  /** Who works by a catalog that was read earlier; one that died is here until an agent has found out. */
  readonly leases: readonly LeaseEntry[];
  readonly timelines: readonly {
    readonly id: string;
    readonly parent: string | null;
    readonly forkTs: number | null;
    readonly createdMs: number;
    readonly detached: boolean;
    readonly streams: readonly string[];
  }[];
}

export interface StatusOptions {
  readonly timeline?: string;
  readonly dirs: readonly EngineDir[];
  /** How far behind is still well; left out: {@link usualLagMs}. */
  readonly maxLagMs?: number;
  /** How far back instants shall be restorable. */
  readonly windowMs?: number;
}

const LAG_MS = 10_000;
/** Times that an archiver may ship late before that is a sign. */
const LATE_MAX = 3;

/** How old the frontier may be when nobody has said it: what an archiver lets wait is no delay. */
export const usualLagMs = (heads: Iterable<Head>): number =>
  Math.max(LAG_MS, ...Iterator.from(heads).map((h) => LATE_MAX * (h.sealMs ?? 0)));

/** What of a status only the archive knows, read once. */
export interface StatusFacts {
  readonly view: ArchiveView;
  /** The timeline that was asked for is in the archive; else the view is of its parent. */
  readonly isRegistered: boolean;
  readonly leases: Said<readonly LeaseEntry[]>;
  readonly acknowledged: Said<readonly Acknowledgement[]>;
  readonly verified: Said<VerifyResults>;
  /** When the heads had been read, ms: what takes time after that makes no lag. */
  readonly readMs: number;
}

/** What somebody said of an archive, or why it cannot be read. */
interface Said<T> {
  readonly value?: T;
  readonly damage?: string;
}

/** Everything that `pitr status` tells, computed from one view of the archive. */
export const readStatus = async (archive: Archive, options: StatusOptions): Promise<Status> => {
  const facts = await readStatusFacts(archive, options);
  return statusOf(facts, await readLocals(facts.view, options.dirs), options, facts.readMs);
};

export const readStatusFacts = async (archive: Archive, options: StatusOptions): Promise<StatusFacts> => {
  const { dirs } = options;
  const wanted = options.timeline ?? dirs[0]?.identity.timeline;
  // a restored engine's history is in the archive only once something of it is archived: until then its parent's is shown
  const isKnown = ({ timelines }: Timelines): boolean =>
    wanted === undefined || timelines.some((t) => t.id === wanted);
  const [view, acknowledged, verified, leases] = await Promise.all([
    ArchiveView.read(archive, (all) => (isKnown(all) ? wanted : dirs[0]?.identity.fork?.timeline)),
    unlessDamaged(readAcknowledged(archive)),
    unlessDamaged(readVerifyResults(archive)),
    unlessDamaged(listLeases(archive)),
  ]);
  return {
    view,
    isRegistered: isKnown(view.timelines),
    leases,
    acknowledged,
    verified,
    readMs: view.readMs,
  };
};

/** What the directories of the view's timeline say, by their streams. */
export const readLocals = async (
  view: ArchiveView,
  dirs: readonly EngineDir[],
): Promise<Map<string, LocalStatus>> => {
  const heads = headsOf(view);
  const locals = new Map<string, LocalStatus>();
  for (const { dir, identity } of dirs)
    if (identity.timeline === view.timeline.id)
      locals.set(
        identity.stream,
        await readLocalStatus(dir, heads.get(identity.stream) ?? nothingOf(identity.stream)),
      );
  return locals;
};

const headsOf = ({ heads, timeline }: ArchiveView): ReadonlyMap<string, Head> =>
  heads.get(timeline.id) ?? new Map();

/** The status at `nowMs`; default now. */
export const statusOf = (
  facts: StatusFacts,
  locals: ReadonlyMap<string, LocalStatus>,
  options: StatusOptions,
  nowMs: number = facts.view.archive.clock.nowMs(),
): Status => {
  const { view, isRegistered, leases, acknowledged, verified } = facts;
  const { archive } = view;
  const { dirs, maxLagMs, windowMs } = options;
  const heads = headsOf(view);
  const streams = view.timeline.streams.map(({ name }) =>
    streamStatus(view.timeline, name, heads.get(name), locals.get(name), nowMs),
  );
  const { ranges, contiguousEnd = null, maxEnd = null, limitedBy = null } = view.restorable;
  const holes = holesOf(view, acknowledged.value ?? []);
  const window = windowStatus(view, nowMs, windowMs);
  const lastVerify = verified.value?.history.at(-1) ?? null;
  const problems: Problem[] = [
    ...dirs
      .filter(({ identity }) => !isRegistered || identity.timeline !== view.timeline.id)
      .map(({ dir, identity }) => ({ code: 'unregistered', dir, timeline: identity.timeline }) as const),
    ...archiveProblems({
      nowMs,
      contiguousEnd,
      limitedBy,
      owners: ownersOf(view.timeline, streams, (stream) =>
        // of a parent that is shown in place of what is not there yet, nobody asks that it goes on
        isRegistered
          ? (maxLagMs ?? usualLagMs(heads.values().filter((h) => h.stream === stream)))
          : Number.POSITIVE_INFINITY,
      ),
      holes,
      window,
      lastVerify,
    }),
    ...[acknowledged, verified, leases].flatMap(({ damage }) =>
      damage === undefined ? [] : [{ code: 'unreadable', message: damage } as const],
    ),
    ...[...locals].flatMap(([stream, local]) => localProblems(stream, local)),
  ];
  const last = view.snapshots.filter((s) => view.ancestry.some((t) => t.id === s.timeline)).at(-1);
  return {
    archive: { url: archive.url, id: archive.id, isReachable: true },
    nowMs,
    green: problems.length === 0,
    problems,
    timeline: view.timeline.id,
    ranges,
    contiguousEnd,
    maxEnd,
    limitedBy,
    lagMs: contiguousEnd === null ? null : nowMs - contiguousEnd,
    window,
    holes,
    streams,
    snapshots: view.snapshots.length,
    lastSnapshot: last ? snapshotData(last) : null,
    lastVerify,
    lastGoodVerify: verified.value?.newestGood ?? null,
    leases: leases.value ?? [],
    timelines: view.timelines.timelines.map((t) => ({
      id: t.id,
      parent: t.parent?.timeline ?? null,
      forkTs: t.parent?.ts ?? null,
      createdMs: t.createdMs,
      detached: t.detached,
      streams: t.streams.map((s) => s.name),
    })),
  };
};

/** An object that only says something of the archive: what can be restored is shown without it. */
const unlessDamaged = async <T>(reading: Promise<T>): Promise<Said<T>> => {
  try {
    return { value: await reading };
  } catch (error) {
    if (!isPitrError(error, 'object-corrupt')) throw error;
    return { damage: error.message };
  }
};

const windowStatus = (
  view: ArchiveView,
  nowMs: number,
  wantedMs: number | undefined,
): WindowStatus | null => {
  const window = windowOf(view.restorable.ranges);
  if (!window) return null;
  if (wantedMs === undefined) return { ...window, wantedMs: null, isShort: false };
  const wantedFromTs = nowMs - wantedMs;
  const isShort = window.fromTs > wantedFromTs && (historyStart(view) ?? window.fromTs) <= wantedFromTs;
  return { ...window, wantedMs, isShort };
};

const ownersOf = (
  { ownership }: Timeline,
  streams: readonly StreamStatus[],
  maxLagMsOf: (stream: string) => number,
): ArchiveFacts['owners'] =>
  streams.flatMap(({ stream, frontierTs }) => {
    const since = ownership.filter((o) => o.stream === stream && o.toTs === null).map((o) => o.fromTs);
    const ownsSinceTs = Math.min(...since);
    return since.length === 0 ? [] : [{ stream, frontierTs, ownsSinceTs, maxLagMs: maxLagMsOf(stream) }];
  });

/** What the directories themselves say while their archive cannot be read. */
export const readAwayStatus = async (
  dirs: readonly EngineDir[],
  error: PitrError,
  nowMs: number,
  url = '',
): Promise<Status> => {
  const streams = await Promise.all(
    dirs.map(async ({ dir, identity }): Promise<StreamStatus> => {
      const { lsn, sequence } = await readArchived(dir);
      return {
        stream: identity.stream,
        partitions: identity.partitions,
        frontierTs: null,
        lagMs: null,
        lsn,
        runs: 0,
        segments: 0,
        bytes: 0,
        written: null,
        writeAmplification: null,
        gaps: [],
        local: await readLocalStatus(dir, { ...nothingOf(identity.stream), sequence }),
      };
    }),
  );
  const identity = dirs[0]?.identity;
  return {
    archive: { url: identity?.archive?.url ?? url, id: identity?.archive?.id ?? '', isReachable: false },
    nowMs,
    green: false,
    problems: [
      { code: 'archive-away', id: error.id, message: error.message },
      ...streams.flatMap((s) => (s.local ? localProblems(s.stream, s.local) : [])),
    ],
    timeline: identity?.timeline ?? '',
    ranges: [],
    contiguousEnd: null,
    maxEnd: null,
    limitedBy: null,
    lagMs: null,
    window: null,
    holes: [],
    streams,
    snapshots: 0,
    lastSnapshot: null,
    lastVerify: null,
    lastGoodVerify: null,
    leases: [],
    timelines: [],
  };
};

/** Of a stream that the archive does not have, or not at present. */
const nothingOf = (stream: string): { stream: string; sequence: number; chain: null } => ({
  stream,
  sequence: 0,
  chain: null,
});

const streamStatus = (
  timeline: Timeline,
  stream: string,
  head: Head | undefined,
  local: LocalStatus | undefined,
  nowMs: number,
): StreamStatus => {
  const segments = head?.runs.flatMap((r) => r.segments) ?? [];
  const frontierTs = head?.frontier.ts || null;
  const owned = timeline.ownership
    .filter((o) => o.stream === stream && o.toTs === null)
    .reduce((set, o) => set.union(PartitionSet.parse(o.partitions)), PartitionSet.none);
  return {
    stream,
    partitions: owned.toString(),
    frontierTs,
    lagMs: frontierTs === null || owned.size === 0 ? null : nowMs - frontierTs,
    lsn: head?.frontier.lsn ?? 0,
    runs: head?.runs.length ?? 0,
    segments: segments.length,
    bytes: segments.reduce((n, s) => n + s.bytes, 0),
    written: head?.written ?? null,
    writeAmplification: head ? writeAmplification(head.written) : null,
    gaps: head?.gaps ?? [],
    ...(local ? { local } : {}),
  };
};

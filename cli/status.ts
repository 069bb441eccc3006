import type { PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import type { RestorableRange } from '../snapshot/ranges.ts';
import { ArchiveView } from '../snapshot/view.ts';
import type { Archive } from '../wal/archive.ts';
import { readArchived } from '../wal/archived.ts';
import { type Gap, type Head, writeAmplification } from '../wal/catalog.ts';
import { type LeaseEntry, listLeases } from '../wal/lease.ts';
import type { Timeline, Timelines } from '../wal/timeline.ts';
import { type LocalProblem, type LocalStatus, localProblems, readLocalStatus } from './local-status.ts';
import type { EngineDir } from './places.ts';
import { snapshotData } from './render/snapshots.ts';

/** Why a status is not green. */
export type Problem =
  | LocalProblem
  | { readonly code: 'archive-away'; readonly id: string; readonly message: string }
  | { readonly code: 'lag'; readonly lagMs: number; readonly maxLagMs: number; readonly stream?: string }
  | { readonly code: 'nothing-restorable'; readonly why?: string }
  | { readonly code: 'gap'; readonly stream: string; readonly gap: Gap }
  | { readonly code: 'hole'; readonly afterTs: number; readonly untilTs: number }
  | { readonly code: 'unregistered'; readonly dir: string; readonly timeline: string };

export interface StreamStatus {
  readonly stream: string;
  /** Inclusive ranges that it owns now. */
  readonly partitions: string;
  readonly frontierTs: number | null;
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
  readonly lagMs: number | null;
  readonly streams: readonly StreamStatus[];
  readonly snapshots: number;
  readonly lastSnapshot: ReturnType<typeof snapshotData> | null;
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
  readonly leases: readonly LeaseEntry[];
  /** When all of it had been read, ms. */
  readonly readMs: number;
}

/** Everything that `pitr status` tells, computed from one view of the archive. */
export const readStatus = async (archive: Archive, options: StatusOptions): Promise<Status> => {
  const facts = await readStatusFacts(archive, options);
  return statusOf(facts, await readLocals(facts.view, options.dirs), options);
};

export const readStatusFacts = async (archive: Archive, options: StatusOptions): Promise<StatusFacts> => {
  const { dirs } = options;
  const wanted = options.timeline ?? dirs[0]?.identity.timeline;
  // a restored engine's history is in the archive only once something of it is archived: until then its parent's is shown
  const isKnown = ({ timelines }: Timelines): boolean =>
    wanted === undefined || timelines.some((t) => t.id === wanted);
  const [view, leases] = await Promise.all([
    ArchiveView.read(archive, (all) => (isKnown(all) ? wanted : dirs[0]?.identity.fork?.timeline)),
    listLeases(archive),
  ]);
  return { view, isRegistered: isKnown(view.timelines), leases, readMs: archive.clock.nowMs() };
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
      locals.set(identity.stream, await readLocalStatus(dir, heads.get(identity.stream)?.sequence ?? 0));
  return locals;
};

const headsOf = ({ heads, timeline }: ArchiveView): ReadonlyMap<string, Head> =>
  heads.get(timeline.id) ?? new Map();

/** The status at `nowMs`; default now. */
export const statusOf = (
  { view, isRegistered, leases }: StatusFacts,
  locals: ReadonlyMap<string, LocalStatus>,
  options: StatusOptions,
  nowMs: number = view.archive.clock.nowMs(),
): Status => {
  const { archive } = view;
  const { dirs } = options;
  const heads = headsOf(view);
  const maxLagMs = options.maxLagMs ?? usualLagMs(heads.values());
  const streams = view.timeline.streams.map(({ name }) =>
    streamStatus(view.timeline, name, heads.get(name), locals.get(name)),
  );
  const { ranges, contiguousEnd, maxEnd, limitedBy } = view.restorable;
  const lagMs = contiguousEnd === undefined ? undefined : nowMs - contiguousEnd;
  const problems: Problem[] = [
    ...dirs
      .filter(({ identity }) => !isRegistered || identity.timeline !== view.timeline.id)
      .map(({ dir, identity }) => ({ code: 'unregistered', dir, timeline: identity.timeline }) as const),
    ...(lagMs === undefined
      ? [{ code: 'nothing-restorable', ...(limitedBy === undefined ? {} : { why: limitedBy }) } as const]
      : []),
    ...(isRegistered && lagMs !== undefined && lagMs > maxLagMs
      ? [{ code: 'lag', lagMs, maxLagMs, ...(limitedBy === undefined ? {} : { stream: limitedBy }) } as const]
      : []),
    ...streams.flatMap((s) => s.gaps.map((gap) => ({ code: 'gap', stream: s.stream, gap }) as const)),
    ...holesIn(ranges),
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
    contiguousEnd: contiguousEnd ?? null,
    maxEnd: maxEnd ?? null,
    limitedBy: limitedBy ?? null,
    lagMs: lagMs ?? null,
    streams,
    snapshots: view.snapshots.length,
    lastSnapshot: last ? snapshotData(last) : null,
    leases,
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

/** What the directories themselves say while their archive cannot be read. */
export const readAwayStatus = async (
  dirs: readonly EngineDir[],
  error: PitrError,
  nowMs: number,
): Promise<Status> => {
  const streams = await Promise.all(
    dirs.map(async ({ dir, identity }): Promise<StreamStatus> => {
      const { lsn, sequence } = await readArchived(dir);
      return {
        stream: identity.stream,
        partitions: identity.partitions,
        frontierTs: null,
        lsn,
        runs: 0,
        segments: 0,
        bytes: 0,
        written: null,
        writeAmplification: null,
        gaps: [],
        local: await readLocalStatus(dir, sequence),
      };
    }),
  );
  const [{ identity }] = dirs;
  return {
    archive: { url: identity.archive?.url ?? '', id: identity.archive?.id ?? '', isReachable: false },
    nowMs,
    green: false,
    problems: [
      { code: 'archive-away', id: error.id, message: error.message },
      ...streams.flatMap((s) => (s.local ? localProblems(s.stream, s.local) : [])),
    ],
    timeline: identity.timeline,
    ranges: [],
    contiguousEnd: null,
    maxEnd: null,
    limitedBy: null,
    lagMs: null,
    streams,
    snapshots: 0,
    lastSnapshot: null,
    leases: [],
    timelines: [],
  };
};

const streamStatus = (
  timeline: Timeline,
  stream: string,
  head: Head | undefined,
  local: LocalStatus | undefined,
): StreamStatus => {
  const segments = head?.runs.flatMap((r) => r.segments) ?? [];
  const owned = timeline.ownership
    .filter((o) => o.stream === stream && o.toTs === null)
    .reduce((set, o) => set.union(PartitionSet.parse(o.partitions)), PartitionSet.none);
  return {
    stream,
    partitions: owned.toString(),
    frontierTs: head?.frontier.ts || null,
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

/** Between two ranges of one timeline something is missing; between those of two timelines lies a fork. */
const holesIn = (ranges: readonly RestorableRange[]): Problem[] =>
  ranges.flatMap((range, i) => {
    const before = ranges[i - 1];
    if (before === undefined || before.timeline !== range.timeline) return [];
    return [{ code: 'hole', afterTs: before.toTs, untilTs: range.fromTs } as const];
  });

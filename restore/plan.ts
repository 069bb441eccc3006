import type { Clock } from '../engine/clock.ts';
import type { TtlShift } from '../engine/identity.ts';
import { planState, type StatePlan } from '../snapshot/state-plan.ts';
import { ArchiveView } from '../snapshot/view.ts';
import { Archive } from '../wal/archive.ts';
import { assertNewNames, isPartial, type Selection } from './selection.ts';
import { type ResolvedTarget, resolveTarget } from './target.ts';

/** What a restore does to void times (S10). */
export type TtlMode = 'remaining' | 'absolute' | 'never';

export interface RestoreOptions {
  /** Archive URL or an open archive. */
  readonly archive: string | Archive;
  /** `latest`, ISO time, epoch ms, `-10m`, `lsn:STREAM/N`, `mark:NAME`. */
  readonly target: string;
  readonly timeline?: string;
  readonly selection?: Selection;
  readonly ttl?: TtlMode;
  /** Refuse when a selected record is inexact at the target (S7). Default false: it is counted. */
  readonly strict?: boolean;
  /** Receives which records those are, as lines of JSON; may wait. They are read a second time for it. */
  readonly onInexact?: (lines: Buffer) => Promise<void>;
  /** Worker threads; 0 = none. Default 2. */
  readonly workers?: number;
  /** Read the target back and compare digests. Default true. */
  readonly verify?: boolean;
  readonly clock?: Clock;
  readonly onProgress?: (progress: RestoreProgress) => void;
}

export interface RestoreProgress {
  readonly phase: 'merge' | 'verify';
  readonly records: number;
  readonly doneRanges: number;
  readonly ranges: number;
}

/** What a restore would do: what `--dry-run` shows. */
export interface RestorePlan {
  readonly target: ResolvedTarget;
  readonly timeline: string;
  readonly state: StatePlan;
  readonly selection: Selection;
  readonly ttl: TtlMode;
  readonly partial: boolean;
  /** Seconds that this is expected to take, from the versions to merge; a rough figure. */
  readonly estimateSeconds: number;
}

/** Rough merge speed for estimates, versions per second and worker. */
const VERSIONS_PER_SECOND = 600_000;

/** Resolves the target and plans; reads, changes nothing. @throws target-*, mark-unknown, stream-unknown, timeline-unknown, bad-record */
export const planRestore = async (
  options: RestoreOptions,
): Promise<{ archive: Archive; view: ArchiveView; plan: RestorePlan }> => {
  const selection = options.selection ?? {};
  assertNewNames(selection);
  const archive = await openArchive(options);
  const view = await ArchiveView.read(archive, options.timeline);
  const target = await resolveTarget(view, options.target, clockOf(options, archive).nowMs());
  const state = await planState(view, target.ts, { exactness: true });
  const estimateSeconds = state.versions / (VERSIONS_PER_SECOND * Math.max(1, options.workers ?? 2));
  const plan: RestorePlan = {
    target,
    timeline: state.timeline,
    state,
    selection,
    ttl: options.ttl ?? 'remaining',
    partial: isPartial(selection),
    estimateSeconds,
  };
  return { archive, view, plan };
};

export const shardsOf = (state: StatePlan): number =>
  'missing' in state.source ? 16 : state.source.digests.length;

export const ttlShift = (plan: RestorePlan, nowMs: number): TtlShift => {
  if (plan.ttl !== 'remaining') return { mode: plan.ttl, seconds: 0 };
  return { mode: 'shift', seconds: Math.floor(nowMs / 1000) - Math.floor(plan.target.ts / 1000) };
};

/** The archive of the options, opened. */
export const openArchive = async ({ archive, clock }: RestoreOptions): Promise<Archive> =>
  typeof archive === 'string' ? Archive.open(archive, clock ? { clock } : {}) : archive;

export const clockOf = (options: RestoreOptions, archive: Archive): Clock => options.clock ?? archive.clock;

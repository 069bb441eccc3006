import type { Hole } from '../snapshot/holes.ts';
import type { Gap } from '../wal/catalog.ts';
import type { VerifyResult } from '../wal/verify-results.ts';
import type { LocalProblem } from './local-status.ts';

/** Why a status is not green. */
export type Problem =
  | LocalProblem
  | { readonly code: 'archive-away'; readonly id: string; readonly message: string }
  /** `stream`: whose frontier it is that stands still; absent: all of them move, and what is restorable does not. */
  | { readonly code: 'lag'; readonly lagMs: number; readonly maxLagMs: number; readonly stream?: string }
  /** Archived is what this machine's clock has yet to reach, so its lag cannot be told. */
  | { readonly code: 'clock-skew'; readonly stream: string; readonly aheadMs: number }
  | { readonly code: 'nothing-restorable'; readonly why?: string }
  | {
      readonly code: 'gap';
      readonly timeline: string;
      readonly stream: string;
      readonly gap: Gap;
      readonly isAcknowledged: boolean;
      /** Instants after it can be restored. */
      readonly isAnchored: boolean;
    }
  | { readonly code: 'hole'; readonly afterTs: number; readonly untilTs: number; readonly cause: string }
  | { readonly code: 'window'; readonly fromTs: number; readonly wantedMs: number }
  | { readonly code: 'verify-failed'; readonly result: VerifyResult }
  /** What people or checks said of the archive cannot be read: it counts as not said. */
  | { readonly code: 'unreadable'; readonly message: string }
  | { readonly code: 'unregistered'; readonly dir: string; readonly timeline: string };

/** A frontier this far ahead of our clock is no rounding any more: one of the two clocks is wrong. */
export const SKEW_MS_MAX = 1000;

/** What a verdict needs to know of an archive; instants in ms by this machine's clock. */
export interface ArchiveFacts {
  readonly nowMs: number;
  readonly contiguousEnd: number | null;
  readonly limitedBy: string | null;
  /** Streams that own partitions now. A retired one, which owns none, has nothing to move. */
  readonly owners: readonly {
    readonly stream: string;
    readonly frontierTs: number | null;
    readonly ownsSinceTs: number;
    readonly maxLagMs: number;
  }[];
  readonly holes: readonly Hole[];
  readonly window: WindowStatus | null;
  readonly lastVerify: VerifyResult | null;
}

/** The newest stretch without a hole, and what is wanted. */
export interface WindowStatus {
  readonly fromTs: number;
  readonly toTs: number;
  /** The setting `window`; null: none is wanted. */
  readonly wantedMs: number | null;
  /** The history is older than what is wanted, and what can be restored without a hole is not. */
  readonly isShort: boolean;
}

/**
 * What keeps an archive from being green. That every owner's frontier has moved within its bound is asked of each of them, beside
 * what is restorable: neither may hide that the other stands still.
 */
export const archiveProblems = (facts: ArchiveFacts): Problem[] => [
  ...restorableProblems(facts),
  ...facts.owners.flatMap(({ stream, frontierTs }): Problem[] => {
    const aheadMs = (frontierTs ?? 0) - facts.nowMs;
    return aheadMs > SKEW_MS_MAX ? [{ code: 'clock-skew', stream, aheadMs }] : [];
  }),
  ...facts.holes.flatMap(holeProblem),
  ...windowProblem(facts),
  ...(facts.lastVerify && !facts.lastVerify.ok
    ? [{ code: 'verify-failed', result: facts.lastVerify } as const]
    : []),
];

const restorableProblems = (facts: ArchiveFacts): Problem[] => {
  const { nowMs, contiguousEnd, limitedBy, owners } = facts;
  const late = owners.flatMap(({ stream, frontierTs, ownsSinceTs, maxLagMs }): Problem[] => {
    // one that never archived anything is already why nothing is restorable
    if (frontierTs === null && contiguousEnd === null) return [];
    const lagMs = nowMs - (frontierTs ?? ownsSinceTs);
    return lagMs > maxLagMs ? [{ code: 'lag', lagMs, maxLagMs, stream }] : [];
  });
  if (contiguousEnd === null)
    return [{ code: 'nothing-restorable', ...(limitedBy === null ? {} : { why: limitedBy }) }, ...late];
  const lagMs = nowMs - contiguousEnd;
  // as far as the slowest of them may be behind; nobody who owns anything will move it any further
  const maxLagMs = Math.max(0, ...owners.map((o) => o.maxLagMs));
  return late.length === 0 && lagMs > maxLagMs ? [{ code: 'lag', lagMs, maxLagMs }] : late;
};

/** One that is acknowledged and behind us is history. One that nothing restorable follows is not, whoever has seen it. */
const holeProblem = (hole: Hole): Problem[] => {
  const { timeline, stream, gap, afterTs, untilTs, cause, again, acknowledged } = hole;
  if (acknowledged && again) return [];
  if (stream === null || gap === null) return [{ code: 'hole', afterTs, untilTs, cause }];
  const facts = { isAcknowledged: acknowledged !== null, isAnchored: again !== null };
  return [{ code: 'gap', timeline, stream, gap, ...facts }];
};

/** What is acknowledged explains why the window is short: it starts after it. */
const windowProblem = ({ window, holes }: ArchiveFacts): Problem[] => {
  if (!window?.isShort || window.wantedMs === null) return [];
  const before = holes.filter((h) => h.again?.fromTs === window.fromTs);
  if (before.length > 0 && before.every((h) => h.acknowledged)) return [];
  return [{ code: 'window', fromTs: window.fromTs, wantedMs: window.wantedMs }];
};

import type { Owing } from './owed.ts';

/** What became of what was shipped. */
export interface XdrCounts {
  /** Logged. */
  versions: number;
  deletes: number;
  /** Known already: sent again. */
  duplicates: number;
  /** Older than what is known of the record. */
  older: number;
  /** Deletes of records that were not known. */
  unknownDeletes: number;
  /** Deletes that do not say when: logged with a window. */
  deletesWithoutLut: number;
  /** Older than a truncation that hides them. */
  truncated: number;
  /** Of namespaces, sets and partitions that are not captured. */
  leftOut: number;
  /** Monitors of transactions. */
  monitors: number;
  /** Answered with 4, 16 or 22. */
  refused: number;
  /** Answered with 11. */
  retried: number;
}

export interface RefusalCount {
  readonly why: string;
  /** Result code. */
  readonly code: number;
  readonly count: number;
}

export interface ListenerReport {
  readonly address: { readonly host: string; readonly port: number };
  readonly connections: number;
  readonly counts: Readonly<XdrCounts>;
  /** Of those that were older: changes that had not been seen before, since the start. */
  readonly unseen: number;
  readonly refusals: readonly RefusalCount[];
  /** Why changes are answered with 11 at the moment; undefined: they are taken. */
  readonly retryWhy: string | undefined;
  /** Changes that must come again before more is stated: how many records, and some of them. */
  readonly owed: { readonly records: number; readonly isOverfull: boolean; readonly first: readonly Owing[] };
}

/** A time in which versions may be missing that nothing in the log speaks of. */
export interface XdrGap {
  readonly namespace: string;
  /** After this, ms: the last proof before. */
  readonly sinceMs: number;
  /** Up to and including this, the proof that ended it; undefined: it goes on. */
  readonly untilMs: number | undefined;
  readonly why: string;
}

/** How far the log is complete, and how that is known. */
export type ProofState =
  /** Nothing was proven yet, or there is no access to the source's info. */
  | { readonly kind: 'unknown'; readonly why: string }
  /** The last proof stands; why there is no newer one. */
  | { readonly kind: 'held'; readonly why: string }
  | { readonly kind: 'proven' };

export interface XdrReport {
  readonly listener: ListenerReport;
  /** Last stated frontier, ms. Up to {@link history}'s `startMs` it is that of the empty base. */
  readonly frontierTs: number;
  readonly proof: ProofState;
  /** `c0Ts`: frontier of the empty base. `startMs`: the first proof after it, the first instant to which one can return; undefined: not yet. */
  readonly history: { readonly c0Ts: number; readonly startMs: number | undefined };
  /** Why history is not exact, in sentences; also what could not be checked. */
  readonly inexact: readonly string[];
  readonly gaps: readonly XdrGap[];
}

import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';

/** `undefined`: what is in question must be empty at first. */
export type ClusterMode = 'exact' | 'add';

export const CONFLICT_RULES = [
  'overwrite',
  'keep-changed',
  'keep-newer',
  'keep-generation',
  'keep-existing',
] as const;
/** What happens to a record that the target has (README.md). */
export type ConflictRule = (typeof CONFLICT_RULES)[number];

/** A part of the target that is in question, under the names that it has there. */
export interface Scope {
  readonly namespace: string;
  /** Undefined: every set, and records without one. */
  readonly sets: readonly string[] | undefined;
}

/** What threads need to know of the cluster. Plain data. */
export interface ClusterJob {
  readonly client: Omit<ClientOptions, 'timing' | 'random'>;
  readonly mode: ClusterMode | undefined;
  readonly conflict: ConflictRule;
  readonly scopes: readonly Scope[];
  /** The server's clock less this machine's, ms. */
  readonly clockAheadMs: number;
  /** When the restore began, by the server's clock, ms since 1970. */
  readonly startedMs: number;
  readonly verify: boolean;
  /** The target has records: those that are equal already are not written again. */
  readonly comparesFirst: boolean;
  /** Nothing is written: what should not be there is deleted. */
  readonly recheckOnly: boolean;
  /** Rows of a batch; a server may be configured to take fewer. */
  readonly batchRows: number;
  /** Of an exact restore: what the archive has ever had, as `namespace/set`. Others came since the plan, and stay (C11). */
  readonly knownSets: ReadonlySet<string> | undefined;
  /** Leaves tombstones: Enterprise. */
  readonly durableDeletes: boolean;
}

/** What ranges came to. Everything adds up. */
export interface ClusterTally {
  /** Rows answered with 0, or found equal afterwards. */
  readonly written: number;
  /** Were what they should be before anything was written. */
  readonly unchanged: number;
  /** Left as they were by the conflict rule. */
  readonly kept: number;
  /** No time to live was left. */
  readonly over: number;
  /** Of transactions: neither written nor deleted. */
  readonly monitors: number;
  /** By cause; each has a line in the file of refused records. */
  readonly refused: Readonly<Record<string, number>>;
  readonly deleted: number;
  /** Not deleted, because somebody wrote them since the restore began. */
  readonly notDeleted: number;
  /** The persist-index flag was cleared. */
  readonly masked: number;
  readonly readBack: number;
  /** Equal only in the canonical form of lists and maps. */
  readonly canonical: number;
  /** Their time to live was over when they were read back. */
  readonly expiredSince: number;
  readonly missing: number;
  readonly differing: number;
  /** There, and not in the state. */
  readonly foreign: number;
  /** Of what makes the verification fail, some. */
  readonly samples: readonly string[];
  /** Partitions in which something was wrong, as text. */
  readonly wrongPartitions: readonly number[];
}

/** By how much a void time may be off: the server counts it from when the row arrives, by its own clock. */
export const VOID_TIME_OFF_S_MAX = 60;

export const SAMPLES_MAX = 20;

export const NO_TALLY: ClusterTally = {
  written: 0,
  unchanged: 0,
  kept: 0,
  over: 0,
  monitors: 0,
  refused: {},
  deleted: 0,
  notDeleted: 0,
  masked: 0,
  readBack: 0,
  canonical: 0,
  expiredSince: 0,
  missing: 0,
  differing: 0,
  foreign: 0,
  samples: [],
  wrongPartitions: [],
};

export const addTallies = (a: ClusterTally, b: ClusterTally): ClusterTally => ({
  written: a.written + b.written,
  unchanged: a.unchanged + b.unchanged,
  kept: a.kept + b.kept,
  over: a.over + b.over,
  monitors: a.monitors + b.monitors,
  refused: sumCauses(a.refused, b.refused),
  deleted: a.deleted + b.deleted,
  notDeleted: a.notDeleted + b.notDeleted,
  masked: a.masked + b.masked,
  readBack: a.readBack + b.readBack,
  canonical: a.canonical + b.canonical,
  expiredSince: a.expiredSince + b.expiredSince,
  missing: a.missing + b.missing,
  differing: a.differing + b.differing,
  foreign: a.foreign + b.foreign,
  samples: [...a.samples, ...b.samples].slice(0, SAMPLES_MAX),
  wrongPartitions: [...new Set([...a.wrongPartitions, ...b.wrongPartitions])],
});

const sumCauses = (
  a: Readonly<Record<string, number>>,
  b: Readonly<Record<string, number>>,
): Record<string, number> => {
  const sum = { ...a };
  for (const [cause, count] of Object.entries(b)) sum[cause] = (sum[cause] ?? 0) + count;
  return sum;
};

export const refusedCount = ({ refused }: ClusterTally): number =>
  Object.values(refused).reduce((n, count) => n + count, 0);

/** Faults of the verification. */
export const faultCount = ({ missing, differing, foreign }: ClusterTally): number =>
  missing + differing + foreign;

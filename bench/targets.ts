import type { ArchiveFigures } from './archive.ts';
import type { CoreFigures } from './core.ts';

/** What a figure should be. `limit` is met at equality. */
export interface Target<Figures = CoreFigures> {
  readonly what: string;
  readonly limit: number;
  readonly better: 'lower' | 'higher';
  readonly unit: 'ms' | 's' | 'MB' | '/s' | '×';
  readonly figure: (f: Figures) => number | undefined;
}

/** The peer that a target is a multiple of. */
const SQLITE = 'better-sqlite3';

const timesSqlite = (f: CoreFigures): number | undefined => {
  const peer = f.peers.find((p) => p.name === SQLITE);
  return peer && 'commitsPerSecond' in peer ? f.commitsPerSecond[64] / peer.commitsPerSecond[64] : undefined;
};

const flatness = ({ rtoByLogLength: { h1, d1, d7 } }: CoreFigures): number =>
  Math.max(h1, d1, d7) / Math.min(h1, d1, d7);

/** Of a run with 1 M records and 1 M changes on two cores; smaller runs are not judged by them. */
export const TARGETS: readonly Target[] = [
  lower('restore to T, target read back and verified', 1.8, 's', (f) => f.restoreToT.verifiedSeconds),
  lower('restore to T, not read back', 1.3, 's', (f) => f.restoreToT.seconds),
  lower('RssAnon of that restore', 256, 'MB', (f) => f.restoreToT.rssAnonMB),
  lower('archive: log, catalog, snapshot by reference', 170, 'MB', (f) => f.archiveMB),
  higher('durable commits, 1 writer', 5000, '/s', (f) => f.commitsPerSecond[1]),
  higher('durable commits, 64 writers', 60_000, '/s', (f) => f.commitsPerSecond[64]),
  higher('durable commits, 1024 writers', 120_000, '/s', (f) => f.commitsPerSecond[1024]),
  higher(`64 writers against ${SQLITE}`, 2, '×', timesSqlite),
  higher('changes in batches of 100, 1 writer', 200_000, '/s', (f) => f.batchChangesPerSecond),
  higher('versions merged on one core', 1_000_000, '/s', (f) => f.mergeVersionsPerSecondPerCore),
  lower('snapshot by reference', 0.2, 's', (f) => f.snapshot.referenceSeconds),
  lower('synthetic full snapshot', 2, 's', (f) => f.snapshot.syntheticSeconds),
  lower('restore with 1 h, 1 d, 7 d of log: longest / shortest', 1.2, '×', flatness),
];

/** Of the archive on object storage, at {@link ARCHIVE_SIZE} on two cores. */
export const ARCHIVE_TARGETS: readonly Target<ArchiveFigures>[] = [
  lower('lag behind 20,000 changes/s at 50 ms, p99', 2000, 'ms', (f) => f.lag.ms50.p99Ms),
  lower('restore at 50 ms against the directory', 2, '×', (f) => f.restoreTimesDirectory),
  lower('RssAnon of restores from the bucket', 256, 'MB', (f) => f.rssAnonMB.restore),
];

export const ARCHIVE_SIZE = { records: 1_000_000, changes: 500_000, rate: 20_000, seconds: 30 } as const;

/** The size that {@link TARGETS} are for. */
export const TARGET_SIZE = { records: 1_000_000, changes: 1_000_000, dayChanges: 500_000 } as const;

function lower<F>(what: string, limit: number, unit: Target['unit'], figure: Target<F>['figure']): Target<F> {
  return { what, limit, better: 'lower', unit, figure };
}

function higher(what: string, limit: number, unit: Target['unit'], figure: Target['figure']): Target {
  return { what, limit, better: 'higher', unit, figure };
}

export const isMet = ({ better, limit }: Pick<Target, 'better' | 'limit'>, figure: number): boolean =>
  better === 'lower' ? figure <= limit : figure >= limit;

/**
 * The benchmark `core`: the workload of cli/bench/workload.ts on this machine, everything that docs/performance.md sets targets
 * for, and the other databases that are at hand.
 *
 *     npm run bench -- core [--records 1000000] [--changes 1000000] [--day-changes 500000] [--runs 3] [--restore-runs 3]
 *                           [--ms 500] [--peers libraries|all|none] [--dir DIR] [--json | --markdown]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { ArchiveRate } from '../cli/bench/archive-rate.ts';
import type { CommitRate } from '../cli/bench/commit-rate.ts';
import { archiveMB, BATCH, type DatabaseArgs, snapshotJob, tidyJob } from '../cli/bench/database.ts';
import { isolated } from '../cli/bench/isolate.ts';
import { type Machine, machineOf } from '../cli/bench/machine.ts';
import { median } from '../cli/bench/measure.ts';
import { compareJob, type RestoreFigures, restoreRuns } from '../cli/bench/restore-rate.ts';
import { agentCostOf, archiveRateOf, buildDatabase, commitRateOf } from '../cli/bench/steps.ts';
import { benchDirectory, oneOf, say, wholeNumber } from './arguments.ts';
import { type LogLengthFigures, logLengthOf } from './log-length.ts';
import { type MergeFigures, mergeJob } from './merge.ts';
import type { Peer } from './peers/peer.ts';
import { PEERS, type PeersWanted, peersOf } from './peers/peers.ts';
import { renderCore, renderMarkdown } from './report.ts';

export interface CoreOptions {
  readonly dir: string;
  readonly records: number;
  readonly changes: number;
  readonly dayChanges: number;
  readonly runs: number;
  readonly restoreRuns: number;
  /** How long each run of a rate lasts. */
  readonly ms: number;
  readonly peers: PeersWanted;
}

const WRITERS = [1, 64, 1024] as const;
type ByWriters<T> = Readonly<Record<(typeof WRITERS)[number], T>>;

/** What `--json` prints. Rates per second, MB = 10^6 bytes, durations in seconds; medians. */
export interface CoreFigures {
  readonly bench: 'core';
  readonly machine: Machine;
  readonly options: Omit<CoreOptions, 'dir'>;
  /** To the instant after the first half of the changes. Not read back (`seconds`), and read back and verified. */
  readonly restoreToT: {
    readonly seconds: number;
    readonly verifiedSeconds: number;
    readonly cpuSeconds: number;
    readonly verifiedCpuSeconds: number;
    /** Of the whole process of a verified restore. */
    readonly processSeconds: number;
    readonly rssAnonMB: number;
    readonly rssFileMB: number;
    readonly records: number;
    readonly versions: number;
  };
  /** Every object, without what compaction has replaced; and with it, as long as it is kept. */
  readonly archiveMB: number;
  readonly archiveWithReplacedMB: number;
  readonly commitsPerSecond: ByWriters<number>;
  readonly commits: ByWriters<CommitRate>;
  /** In batches of 100 by one writer. */
  readonly batchChangesPerSecond: number;
  readonly batches: { readonly 1: CommitRate; readonly 64: CommitRate };
  readonly mergeVersionsPerSecondPerCore: number;
  readonly merge: MergeFigures;
  readonly snapshot: { readonly referenceSeconds: number; readonly syntheticSeconds: number };
  readonly archiver: ArchiveRate;
  /** At 64 writers. */
  readonly agentCost: { readonly without: CommitRate; readonly withAgent: CommitRate };
  /** Beside an agent in another process: the load in batches of 1000, the changes in batches of 100. */
  readonly build: {
    readonly loadPerSecond: number;
    readonly changesPerSecond: number;
    readonly changeCpuSeconds: number;
    readonly agentSeconds: number;
  };
  readonly rtoByLogLength: Readonly<Record<'h1' | 'd1' | 'd7', number>>;
  readonly logLength: LogLengthFigures;
  readonly peers: readonly Peer[];
  /** Of the whole benchmark. */
  readonly seconds: number;
}

const SEED = 1;
const MERGE_RUNS = 4;

export const runCore = async (options: CoreOptions): Promise<CoreFigures> => {
  const { dir, records, changes, runs, ms } = options;
  const started = performance.now();
  const machine = machineOf(dir);
  say('durable commits');
  const rate = (writers: number, batchSize: number): Promise<CommitRate> =>
    commitRateOf(dir, runs, { writers, batchSize, ms });
  const commits = { 1: await rate(1, 1), 64: await rate(64, 1), 1024: await rate(1024, 1) };
  const batches = { 1: await rate(1, BATCH), 64: await rate(64, BATCH) };
  say('other databases');
  const conditionsOfPeers = { dir: join(dir, 'peer'), records, changes, seed: SEED, runs, ms, onStep: say };
  const peers = await peersOf(options.peers, conditionsOfPeers);
  say('merge');
  const merge = (
    await isolated<MergeFigures>(mergeJob, {
      dir,
      runs: MERGE_RUNS,
      rows: Math.ceil(records / MERGE_RUNS),
      image: 200,
      repeat: runs,
    })
  ).value;
  say('archiver');
  const tenth = { records: Math.ceil(records / 10), changes: Math.ceil(changes / 10) };
  const archiver = await archiveRateOf(dir, Math.min(runs, 2), tenth);
  const agentCost = await agentCostOf(dir, Math.min(runs, 2), { writers: 64, batchSize: 1, ms });
  say('database and archive');
  const database = { dir: join(dir, 'database'), records, seed: SEED };
  const { value: built, agentSeconds } = await buildDatabase({ ...database, changes });
  const withReplaced = archiveMB(database.dir);
  await isolated(tidyJob, database);
  const withoutReplaced = archiveMB(database.dir);
  say('restores');
  const { plain, verified } = await restoresOf(options, database, built);
  say('snapshots');
  const snapshot = {
    referenceSeconds: await snapshotSeconds(database.dir, 'full', runs),
    syntheticSeconds: await snapshotSeconds(database.dir, 'synthetic', runs),
  };
  const logLength = await logLengthOf({
    database,
    steps: stepsOf(built.changesBefore, changes),
    dayChanges: options.dayChanges,
    runs,
    into: join(dir, 'restored'),
    onStep: say,
  });
  const { h1, d1, d7 } = logLength;
  const { dir: _, ...conditions } = options;
  return {
    bench: 'core',
    machine,
    options: conditions,
    restoreToT: {
      seconds: plain.seconds,
      verifiedSeconds: verified.seconds,
      cpuSeconds: plain.cpuSeconds,
      verifiedCpuSeconds: verified.cpuSeconds,
      processSeconds: verified.processSeconds,
      rssAnonMB: verified.rssAnonMB,
      rssFileMB: verified.rssFileMB,
      records: verified.records,
      versions: verified.versions,
    },
    archiveMB: withoutReplaced,
    archiveWithReplacedMB: withReplaced,
    commitsPerSecond: {
      1: commits[1].commitsPerSecond,
      64: commits[64].commitsPerSecond,
      1024: commits[1024].commitsPerSecond,
    },
    commits,
    batchChangesPerSecond: batches[1].changesPerSecond,
    batches,
    mergeVersionsPerSecondPerCore: merge.figures[0].versionsPerCpuSecond,
    merge,
    snapshot,
    archiver,
    agentCost,
    build: {
      loadPerSecond: records / built.loadSeconds,
      changesPerSecond: changes / built.changeSeconds,
      changeCpuSeconds: built.changeCpuSeconds,
      agentSeconds,
    },
    rtoByLogLength: { h1: h1.seconds, d1: d1.seconds, d7: d7.seconds },
    logLength,
    peers,
    seconds: (performance.now() - started) / 1000,
  };
};

/** The changes as the database was built: the batch at the half may be a short one. */
const stepsOf = (half: number, changes: number) =>
  [half, changes].map((n) => ({ changes: n, batchSize: BATCH }));

const restoresOf = async (
  { dir, changes, restoreRuns: runs }: CoreOptions,
  database: DatabaseArgs,
  built: { readonly targetTs: number; readonly changesBefore: number },
): Promise<{ plain: RestoreFigures; verified: RestoreFigures }> => {
  const into = join(dir, 'restored');
  const args = { dir: database.dir, into, target: String(built.targetTs) };
  const plain = await restoreRuns(runs, { ...args, verify: false });
  const verified = await restoreRuns(runs, { ...args, verify: true }, true);
  const steps = stepsOf(built.changesBefore, changes).slice(0, 1);
  await isolated(compareJob, { ...database, dir: into, steps });
  return { plain, verified };
};

const snapshotSeconds = async (dir: string, kind: 'full' | 'synthetic', runs: number): Promise<number> => {
  const seconds: number[] = [];
  for (let run = 0; run < runs; run++)
    seconds.push((await isolated<{ seconds: number }>(snapshotJob, { dir, kind })).value.seconds);
  return median(seconds);
};

export const benchCore = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      changes: { type: 'string', default: '1000000' },
      'day-changes': { type: 'string', default: '500000' },
      runs: { type: 'string', default: '3' },
      'restore-runs': { type: 'string', default: '3' },
      ms: { type: 'string', default: '500' },
      peers: { type: 'string', default: 'libraries' },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
    },
  });
  const figures = await runCore({
    dir: benchDirectory(values.dir),
    records: wholeNumber('--records', values.records),
    changes: wholeNumber('--changes', values.changes, 2),
    dayChanges: wholeNumber('--day-changes', values['day-changes']),
    runs: wholeNumber('--runs', values.runs),
    restoreRuns: wholeNumber('--restore-runs', values['restore-runs']),
    ms: wholeNumber('--ms', values.ms),
    peers: oneOf('--peers', values.peers, PEERS),
  });
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  else process.stdout.write(`${values.markdown ? renderMarkdown(figures) : renderCore(figures)}\n`);
};

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ArchiveRate } from './archive-rate.ts';
import type { CommitRate } from './commit-rate.ts';
import { archiveMB, BATCH, tidyJob } from './database.ts';
import { isolated } from './isolate.ts';
import { type Machine, machineOf } from './machine.ts';
import { compareJob, type RestoreFigures, restoreRuns } from './restore-rate.ts';
import { agentCostOf, archiveRateOf, buildDatabase, commitRateOf } from './steps.ts';

export interface BenchOptions {
  /** An empty directory on the disk that is asked about. */
  readonly dir: string;
  readonly records: number;
  /** How often each step is repeated; figures are medians. */
  readonly runs: number;
  /** How long each run of the commit figures lasts, ms. */
  readonly commitMs: number;
  readonly onStep?: (what: string) => void;
}

/** What `pitr bench` finds out. Rates per second, MB = 10^6 bytes. */
export interface BenchFigures {
  readonly machine: Machine;
  readonly records: number;
  readonly changes: number;
  /** By concurrent writers. */
  readonly commits: { readonly 1: CommitRate; readonly 64: CommitRate };
  /** Batches of 100 changes, one writer. */
  readonly batches: CommitRate;
  readonly archiver: ArchiveRate;
  /** At 64 writers. */
  readonly agentCost: { readonly without: CommitRate; readonly withAgent: CommitRate };
  readonly archiveMB: number;
  /** To an instant in the middle of the changes, target read back and verified; and without that. */
  readonly restoreVerified: RestoreFigures;
  readonly restore: RestoreFigures;
}

const SEED = 1;

/** Writes, archives and restores `records` records and half as many changes in `dir`, and compares the result with the truth. */
export const runBench = async (options: BenchOptions): Promise<BenchFigures> => {
  const { dir, records, runs, commitMs, onStep = () => undefined } = options;
  const changes = Math.ceil(records / 2);
  await mkdir(dir, { recursive: true });
  const machine = machineOf(dir);
  onStep('durable commits');
  const commits = {
    1: await commitRateOf(dir, runs, { writers: 1, batchSize: 1, ms: commitMs }),
    64: await commitRateOf(dir, runs, { writers: 64, batchSize: 1, ms: commitMs }),
  };
  const batches = await commitRateOf(dir, runs, { writers: 1, batchSize: 100, ms: commitMs });
  onStep('what an agent ships, and what it costs the writer');
  const archiver = await archiveRateOf(dir, runs, { records, changes });
  const agentCost = await agentCostOf(dir, runs, { writers: 64, batchSize: 1, ms: commitMs });
  onStep(`a database of ${records} records and its archive`);
  const database = { dir: join(dir, 'database'), records, seed: SEED };
  const built = (await buildDatabase({ ...database, changes })).value;
  await isolated(tidyJob, database);
  onStep('restores');
  const into = join(dir, 'restored');
  const target = { dir: database.dir, into, target: String(built.targetTs) };
  const restore = await restoreRuns(runs, { ...target, verify: false });
  const restoreVerified = await restoreRuns(runs, { ...target, verify: true }, true);
  const steps = [{ changes: built.changesBefore, batchSize: BATCH }];
  await isolated(compareJob, { ...database, dir: into, steps });
  return {
    machine,
    records,
    changes,
    commits,
    batches,
    archiver,
    agentCost,
    archiveMB: archiveMB(database.dir),
    restoreVerified,
    restore,
  };
};

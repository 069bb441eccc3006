/**
 * Restores of databases of several sizes: the workload `core` with half as many changes as records, restored to the middle of
 * the changes with 1 and 2 workers, verified.
 *
 *     npm run bench -- scaling [--sizes 0.25,1,4] [--workers 1,2] [--runs 3] [--dir DIR] [--json]
 *
 * Sizes are in millions; 16 takes about 20 GB of disk.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { archiveMB, BATCH, tidyJob } from '../cli/bench/database.ts';
import { isolated } from '../cli/bench/isolate.ts';
import { type Machine, machineLines, machineOf } from '../cli/bench/machine.ts';
import { compareJob, type RestoreFigures, restoreRuns } from '../cli/bench/restore-rate.ts';
import { buildDatabase } from '../cli/bench/steps.ts';
import { renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import { benchDirectory, numbers, say, wholeNumber } from './arguments.ts';

export interface ScalingRow {
  readonly records: number;
  readonly changes: number;
  readonly archiveMB: number;
  readonly workers: number;
  readonly restore: RestoreFigures;
}

const SEED = 1;

/** One size: built once, restored `runs` times with each number of workers, the last result compared with the truth. */
const rowsOf = async (
  dir: string,
  records: number,
  workerCounts: readonly number[],
  runs: number,
): Promise<ScalingRow[]> => {
  const changes = Math.ceil(records / 2);
  const database = { dir: join(dir, 'database'), records, seed: SEED };
  const into = join(dir, 'restored');
  try {
    say(`${formatCount(records)} records, ${formatCount(changes)} changes`);
    const { value: built } = await buildDatabase({ ...database, changes });
    await isolated(tidyJob, database);
    const rows: ScalingRow[] = [];
    for (const workers of workerCounts) {
      say(`restores with ${workers}`);
      const args = { dir: database.dir, into, target: String(built.targetTs), verify: true, workers };
      const isLast = workers === workerCounts.at(-1);
      const restore = await restoreRuns(runs, args, isLast);
      rows.push({ records, changes, archiveMB: archiveMB(database.dir), workers, restore });
    }
    const steps = [{ changes: built.changesBefore, batchSize: BATCH }];
    await isolated(compareJob, { ...database, dir: into, steps });
    return rows;
  } finally {
    for (const path of [database.dir, into]) await rm(path, { recursive: true, force: true });
  }
};

export const benchScaling = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      sizes: { type: 'string', default: '0.25,1,4' },
      workers: { type: 'string', default: '1,2' },
      runs: { type: 'string', default: '3' },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const workers = numbers('--workers', values.workers);
  const runs = wholeNumber('--runs', values.runs);
  const dir = benchDirectory(values.dir);
  const machine: Machine = machineOf(dir);
  const rows: ScalingRow[] = [];
  for (const size of numbers('--sizes', values.sizes))
    rows.push(...(await rowsOf(dir, Math.round(size * 1e6), workers, runs)));
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ bench: 'scaling', machine, runs, rows })}\n`);
    return;
  }
  process.stdout.write(`${machineLines(machine).join('\n')}\n\n${renderScaling(rows)}\n`);
};

export const renderScaling = (rows: readonly ScalingRow[]): string =>
  renderTable(
    ['records', 'archive', 'workers', 'restore', 'process', 'CPU', 'RssAnon', 'RssFile'].map((title) => ({
      title,
      align: 'right' as const,
    })),
    rows.map(({ records, archiveMB: mb, workers, restore: r }) => [
      formatCount(records),
      `${mb.toFixed(0)} MB`,
      String(workers),
      `${r.seconds.toFixed(2)} s`,
      `${r.processSeconds.toFixed(2)} s`,
      `${r.cpuSeconds.toFixed(2)} s`,
      `${r.rssAnonMB.toFixed(0)} MB`,
      `${r.rssFileMB.toFixed(0)} MB`,
    ]),
  );

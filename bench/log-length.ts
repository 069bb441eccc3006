/**
 * Restore time against the length of the log: a day's changes with a full snapshot each day, by a simulated clock, restored
 * after 1 hour, 1 day and 7 days, each an hour after the newest full one; and at the end of a day.
 *
 *     npm run bench -- log-length [--records 1000000] [--day-changes 500000] [--runs 3] [--dir DIR] [--json]
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { archiveUrl, type DatabaseArgs, engineDir, makeChanges } from '../cli/bench/database.ts';
import { isolated, jobOf } from '../cli/bench/isolate.ts';
import { machineLines, machineOf } from '../cli/bench/machine.ts';
import { compareJob, type RestoreFigures, restoreRuns } from '../cli/bench/restore-rate.ts';
import { buildDatabase } from '../cli/bench/steps.ts';
import { Workload, type WorkloadStep } from '../cli/bench/workload.ts';
import { renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import { ManualClock } from '../engine/clock.ts';
import { fullCopyEnds } from '../snapshot/borders.ts';
import { createSnapshot } from '../snapshot/create.ts';
import { Archive } from '../wal/archive.ts';
import { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';
import { benchDirectory, say, wholeNumber } from './arguments.ts';

const HOUR_MS = 60 * 60 * 1000;
/** Simulated time between two seals. With one a second these would be runs of a higher level: compaction has made them so by then. */
const SLOT_MS = HOUR_MS / 2;
const SLOTS_PER_HOUR = HOUR_MS / SLOT_MS;
const SLOTS_PER_DAY = 24 * SLOTS_PER_HOUR;
/** Larger than the workload's 100: the log is the same, and made sooner. */
const BATCH = 2000;
const IN_FLIGHT = 4;
/**
 * Where the simulated time is measured, in slots: an hour after the newest full snapshot, when the log is an hour, a day and seven
 * days long; and at the end of a day, when that snapshot is oldest.
 */
const STAGES = {
  h1: SLOTS_PER_HOUR,
  dayEnd: SLOTS_PER_DAY,
  d1: SLOTS_PER_DAY + SLOTS_PER_HOUR,
  d7: 7 * SLOTS_PER_DAY + SLOTS_PER_HOUR,
} as const;
type Stage = keyof typeof STAGES;

export interface LogLengthOptions {
  /** A database with an archive, whose workload has made the changes of `steps`. */
  readonly database: DatabaseArgs;
  readonly steps: readonly WorkloadStep[];
  readonly dayChanges: number;
  readonly runs: number;
  readonly into: string;
  readonly onStep?: (what: string) => void;
}

export type LogLengthFigures = Record<Stage, RestoreFigures>;

interface Simulated extends DatabaseArgs {
  readonly steps: readonly WorkloadStep[];
  readonly dayChanges: number;
  /** Of slot 0, ms. */
  readonly startMs: number;
  readonly fromSlot: number;
  readonly toSlot: number;
}

const stepOfSlot = (a: Pick<Simulated, 'steps' | 'dayChanges'>, slot: number): WorkloadStep => ({
  changes: (a.steps.at(-1)?.changes ?? 0) + Math.floor(((slot + 1) * a.dayChanges) / SLOTS_PER_DAY),
  batchSize: BATCH,
});

/**
 * Lives through slots `[fromSlot, toSlot)`: changes spread over the time, a seal at the end of each slot, which is archived and
 * compacted at once; a full snapshot before the first slot of each day.
 */
export const simulate = async (args: Simulated): Promise<object> => {
  const { dir, records, seed, steps, startMs, fromSlot, toSlot } = args;
  const workload = new Workload(records, seed);
  for (const { changes, batchSize } of steps) workload.skipTo(changes, batchSize);
  const clock = new ManualClock(startMs + fromSlot * SLOT_MS);
  for (let slot = 0; slot < fromSlot; slot++) {
    const { changes, batchSize } = stepOfSlot(args, slot);
    workload.skipTo(changes, batchSize);
  }
  const archiver = await Archiver.open(engineDir(dir), {
    clock,
    // as the agent does it
    borders: () => fullCopyEnds(archiver.archive, archiver.identity.timeline),
  });
  try {
    await archiver.round();
    const engine = await Engine.open({ dir: engineDir(dir), clock, sealMs: 0, door: false });
    try {
      for (let slot = fromSlot; slot < toSlot; slot++) {
        if (slot % SLOTS_PER_DAY === 0) await createSnapshot(archiver.archive, { kind: 'synthetic' });
        const { changes } = stepOfSlot(args, slot);
        const batches = Math.max(1, Math.ceil((changes - workload.changes) / BATCH));
        const endMs = startMs + (slot + 1) * SLOT_MS;
        const onBatch = (): void => clock.step(Math.floor(SLOT_MS / (batches + 1)));
        await makeChanges(engine, workload, changes, { batchSize: BATCH, onBatch, inFlight: IN_FLIGHT });
        clock.step(endMs - clock.nowMs());
        await engine.seal();
        await archiver.archivePending();
        await archiver.compact();
      }
    } finally {
      await engine.close();
    }
    await archiver.archivePending();
  } finally {
    await archiver.close();
  }
  return {};
};

const simulateJob = jobOf(import.meta.url, 'simulate');

/** Restores the newest state after each stage, `runs` times, verified; the last result is compared with the truth. */
export const logLengthOf = async (options: LogLengthOptions): Promise<LogLengthFigures> => {
  const { database, steps, dayChanges, runs, into, onStep = () => undefined } = options;
  const archive = await Archive.open(archiveUrl(database.dir));
  // simulated time begins when what is there already is over
  const startMs = archive.clock.nowMs() + 1000;
  const figures: Partial<LogLengthFigures> = {};
  let fromSlot = 0;
  for (const [stage, toSlot] of Object.entries(STAGES) as [Stage, number][]) {
    onStep(`log of ${stage}`);
    await isolated(simulateJob, { ...database, steps, dayChanges, startMs, fromSlot, toSlot });
    fromSlot = toSlot;
    const nowMs = startMs + toSlot * SLOT_MS + 1000;
    const keepLast = stage === 'd7';
    figures[stage] = await restoreRuns(
      runs,
      { dir: database.dir, into, target: 'latest', verify: true, nowMs },
      keepLast,
    );
  }
  const slots = Array.from({ length: STAGES.d7 }, (_, slot) => stepOfSlot({ steps, dayChanges }, slot));
  await isolated(compareJob, { ...database, dir: into, steps: [...steps, ...slots] });
  return figures as LogLengthFigures;
};

export const benchLogLength = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string', default: '1000000' },
      'day-changes': { type: 'string', default: '500000' },
      runs: { type: 'string', default: '3' },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
    },
  });
  const dir = benchDirectory(values.dir);
  const machine = machineOf(dir);
  const database = { dir: join(dir, 'database'), records: wholeNumber('--records', values.records), seed: 1 };
  say('load');
  await buildDatabase({ ...database, changes: 0 });
  const figures = await logLengthOf({
    database,
    steps: [],
    dayChanges: wholeNumber('--day-changes', values['day-changes']),
    runs: wholeNumber('--runs', values.runs),
    into: join(dir, 'restored'),
    onStep: say,
  });
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ bench: 'log-length', machine, ...figures })}\n`);
    return;
  }
  const rows = Object.entries(figures).map(([stage, f]) => [
    stage,
    formatCount(f.records),
    formatCount(f.versions),
    `${f.seconds.toFixed(2)} s`,
    `${f.cpuSeconds.toFixed(2)} s`,
    `${f.rssAnonMB.toFixed(0)} MB`,
  ]);
  const columns = ['log', 'records', 'versions', 'restore', 'CPU', 'RssAnon'].map((title, i) =>
    i === 0 ? { title } : { title, align: 'right' as const },
  );
  process.stdout.write(`${machineLines(machine).join('\n')}\n\n${renderTable(columns, rows)}\n`);
};

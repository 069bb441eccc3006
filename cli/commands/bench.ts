import { existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { PitrError } from '../../engine/errors.ts';
import { type BenchFigures, runBench } from '../bench/bench.ts';
import { machineLines } from '../bench/machine.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { renderTable } from '../render/table.ts';
import { formatCount } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

interface BenchFlags {
  readonly dir?: string;
  readonly records: string;
  readonly runs: string;
  readonly commitMs: string;
}

const RECORDS_MAX = 20_000_000;
const RUNS_MAX = 100;
const COMMIT_MS_MAX = 60_000;

export const registerBench = (program: PitrCommand, runner: Runner): void => {
  program
    .command('bench')
    .about(
      'measure commits, archiving and restores on this machine',
      'Writes records of 200 bytes into an engine of its own, archives them, restores an instant in the middle, and compares ' +
        'the result with what was written. Says how many durable commits a second this disk allows, what an agent ships and ' +
        'what it costs the writer, and how long a restore takes. Each step runs in a fresh process; figures are medians. ' +
        'Everything is made in a new directory and removed at the end. Needs about 2 KB of disk for each record.',
    )
    .option(
      '--dir <dir>',
      'where to make that directory: on the disk that you ask about (default: the one for temporary files)',
    )
    .option(
      '--records <n>',
      `records to write, half as many changes follow (at most ${RECORDS_MAX})`,
      '200000',
    )
    .option('--runs <n>', `how often each step is repeated (at most ${RUNS_MAX})`, '3')
    .option('--commit-ms <ms>', 'how long each run of a commit figure lasts', '1000')
    .examples(
      ['pitr bench', 'this machine, the disk with the temporary files'],
      ['pitr bench --dir /var/lib --records 1000000', 'the disk below /var/lib, a larger database'],
      ['pitr bench --json', 'one object, for a program'],
    )
    .action(runner.action(runBenchCommand));
};

const runBenchCommand = async (session: Session, flags: BenchFlags): Promise<number> => {
  const records = wholeNumber('--records', flags.records, RECORDS_MAX);
  const runs = wholeNumber('--runs', flags.runs, RUNS_MAX);
  const commitMs = wholeNumber('--commit-ms', flags.commitMs, COMMIT_MS_MAX);
  const parent = resolve(flags.dir ?? tmpdir());
  if (!existsSync(parent))
    throw new PitrError('usage', {
      what: `there is no directory ${parent}`,
      hint: 'name one that exists with --dir; a new one is made in it',
    });
  const dir = await mkdtemp(join(parent, 'pitr-bench-'));
  const started = performance.now();
  const remove = (): void => rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  // also when it is cut short by a signal: the processes that it started are killed first
  process.once('exit', remove);
  try {
    const onStep = (what: string): void => session.note(`${what} …`);
    const figures = await runBench({ dir, records, runs, commitMs, onStep });
    const seconds = (performance.now() - started) / 1000;
    session.emit({ ...figures, runs, seconds }, () => renderBench(figures, parent));
    return 0;
  } finally {
    remove();
  }
};

const wholeNumber = (flag: string, text: string, max: number): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > max)
    throw new PitrError('usage', {
      what: `${flag} ${text} is not a whole number from 1 to ${max}`,
      hint: 'see pitr bench --help',
    });
  return value;
};

/** A table for a person; `parent` is the directory that was asked about. */
export const renderBench = (f: BenchFigures, parent: string): string => {
  const perSecond = (rate: number): string => `${formatCount(rate)}/s`;
  const ms = (value: number): string => `${value.toFixed(2)} ms`;
  const seconds = (value: number): string => `${value.toFixed(2)} s`;
  const rows: (readonly [string, string, string])[] = [
    ...([1, 64] as const).map(
      (n) =>
        [
          `durable commits, ${n} writer${n === 1 ? '' : 's'}`,
          perSecond(f.commits[n].commitsPerSecond),
          `p50 ${ms(f.commits[n].p50Ms)}, p99 ${ms(f.commits[n].p99Ms)}`,
        ] as const,
    ),
    ['changes in batches of 100', perSecond(f.batches.changesPerSecond), `p99 ${ms(f.batches.p99Ms)}`],
    [
      'agent ships changes',
      perSecond(f.archiver.changesPerSecond),
      `${f.archiver.logMBPerSecond.toFixed(0)} MB of log a second`,
    ],
    [
      'commits beside an agent, 64 writers',
      perSecond(f.agentCost.withAgent.commitsPerSecond),
      `p99 ${ms(f.agentCost.withAgent.p99Ms)}; without ${ms(f.agentCost.without.p99Ms)}`,
    ],
    [
      'archive',
      `${f.archiveMB.toFixed(1)} MB`,
      `${formatCount(f.records)} records, ${formatCount(f.changes)} changes`,
    ],
    [
      'restore, target verified',
      seconds(f.restoreVerified.seconds),
      `${formatCount(f.restoreVerified.records)} records, RssAnon ${f.restoreVerified.rssAnonMB.toFixed(0)} MB`,
    ],
    [
      'restore, not read back',
      seconds(f.restore.seconds),
      `whole process ${seconds(f.restore.processSeconds)}`,
    ],
  ];
  return [
    ...machineLines(f.machine),
    `in ${parent}; the restored records are those that were written`,
    '',
    renderTable([{ title: 'what' }, { title: 'figure', align: 'right' }, { title: '' }], rows),
  ].join('\n');
};

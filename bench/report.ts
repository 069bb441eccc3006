import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { machineLines } from '../cli/bench/machine.ts';
import { type Column, renderFields, renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import type { CoreFigures } from './core.ts';
import type { Peer } from './peers/peer.ts';
import { isMet, TARGET_SIZE, TARGETS, type Target } from './targets.ts';

/** A table as data: both forms carry the same cells. */
export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

export const left = (title: string): Column => ({ title });
export const right = (title: string): Column => ({ title, align: 'right' });

export const numberOf = (value: number, unit: Target['unit']): string => {
  if (Number.isNaN(value)) return '-';
  if (unit === '/s') return `${formatCount(value)}/s`;
  return `${value.toFixed(unit === 'ms' ? 0 : unit === 'MB' ? (value < 10 ? 1 : 0) : 2)} ${unit}`;
};

const seconds = (value: number): string => numberOf(value, 's');
const rate = (value: number | undefined): string => (value === undefined ? '-' : formatCount(value));

const isTargetSize = ({ options }: CoreFigures): boolean =>
  options.records === TARGET_SIZE.records &&
  options.changes === TARGET_SIZE.changes &&
  options.dayChanges === TARGET_SIZE.dayChanges;

const targetTable = (f: CoreFigures): Table => ({
  columns: [left('what'), right('target'), right('measured'), left('')],
  rows: TARGETS.map((target) => {
    const figure = target.figure(f);
    const verdict = figure === undefined ? 'no peer' : isMet(target, figure) ? 'met' : 'not met';
    return [
      target.what,
      `${target.better === 'lower' ? '<=' : '>='} ${numberOf(target.limit, target.unit)}`,
      figure === undefined ? '-' : numberOf(figure, target.unit),
      isTargetSize(f) ? verdict : '',
    ];
  }),
});

const restoreTable = (f: CoreFigures): Table => {
  const { restoreToT: r, logLength } = f;
  const memory = (m: { rssAnonMB: number; rssFileMB: number }): string[] => [
    numberOf(m.rssAnonMB, 'MB'),
    numberOf(m.rssFileMB, 'MB'),
  ];
  return {
    columns: ['restore', 'wall', 'CPU', 'process', 'RssAnon', 'RssFile'].map((title, i) =>
      i === 0 ? left(title) : right(title),
    ),
    rows: [
      ['to T, not read back', seconds(r.seconds), seconds(r.cpuSeconds), '', '', ''],
      [
        'to T, verified',
        seconds(r.verifiedSeconds),
        seconds(r.verifiedCpuSeconds),
        seconds(r.processSeconds),
        ...memory(r),
      ],
      ...(['h1', 'd1', 'd7', 'dayEnd'] as const).map((stage) => {
        const l = logLength[stage];
        const name = { h1: 'log of 1 hour', d1: 'log of 1 day', d7: 'log of 7 days', dayEnd: 'end of a day' }[
          stage
        ];
        return [
          `${name}, verified`,
          seconds(l.seconds),
          seconds(l.cpuSeconds),
          seconds(l.processSeconds),
          ...memory(l),
        ];
      }),
    ],
  };
};

const commitTable = (f: CoreFigures): Table => ({
  columns: [left('commits of 64 writers'), right('/s'), right('p50'), right('p99'), right('CPU each')],
  rows: (
    [
      ['without agent', f.agentCost.without],
      ['beside an agent', f.agentCost.withAgent],
    ] as const
  ).map(([name, r]) => [
    name,
    rate(r.commitsPerSecond),
    `${r.p50Ms.toFixed(2)} ms`,
    `${r.p99Ms.toFixed(2)} ms`,
    `${r.cpuMicrosPerChange.toFixed(1)} µs`,
  ]),
});

const peerTable = (f: CoreFigures): Table => ({
  columns: [left('changes a second'), ...['1 writer', '64', '64 grouped', 'batches', 'restore'].map(right)],
  rows: [
    [
      'pitr',
      rate(f.commitsPerSecond[1]),
      rate(f.commitsPerSecond[64]),
      '',
      rate(f.batchChangesPerSecond),
      seconds(f.restoreToT.verifiedSeconds),
    ],
    ...f.peers.flatMap((p) =>
      'absent' in p
        ? []
        : [
            [
              p.name,
              rate(p.commitsPerSecond['1']),
              rate(p.commitsPerSecond['64']),
              p.groupedCommitsPerSecond === undefined ? '' : rate(p.groupedCommitsPerSecond),
              rate(p.batchChangesPerSecond),
              p.restore ? seconds(p.restore.seconds) : '',
            ],
          ],
    ),
  ],
});

/** A peer's name, and how it was measured or why not. */
const peerField = (p: Peer): readonly [string, string] => {
  if ('absent' in p) return [p.name, `skipped: ${p.absent}`];
  const restore = p.restore
    ? `; repository ${p.restore.repositoryMB.toFixed(0)} MB, ${formatCount(p.restore.records)} records restored`
    : '';
  return [p.name, `${p.version}; ${p.how}${restore}`];
};

const remarks = (f: CoreFigures): string[] => {
  const { records, changes, runs, restoreRuns } = f.options;
  const { archiver: a, build: b, restoreToT: r } = f;
  return [
    `${formatCount(records)} records, ${formatCount(changes)} changes; medians of ${runs}, restores of ${restoreRuns}; took ${f.seconds.toFixed(0)} s`,
    `restored ${formatCount(r.records)} records of ${formatCount(r.versions)} versions; each is what the workload wrote`,
    `archive with what compaction has replaced, until that is deleted: ${f.archiveWithReplacedMB.toFixed(0)} MB`,
    `an agent alone ships ${formatCount(a.changesPerSecond)} changes/s, ${a.logMBPerSecond.toFixed(0)} MB/s of log`,
    `beside an agent: load ${formatCount(b.loadPerSecond)}/s, changes ${formatCount(b.changesPerSecond)}/s; it ended ${b.agentSeconds.toFixed(1)} s later`,
    `64 writers of batches of 100: ${formatCount(f.batches[64].changesPerSecond)} changes/s`,
  ];
};

/** For a terminal, 80 columns. */
export const renderCore = (f: CoreFigures): string =>
  [
    ...machineLines(f.machine),
    ...remarks(f),
    '',
    ...[targetTable, restoreTable, commitTable, peerTable].flatMap((table) => {
      const { columns, rows } = table(f);
      return [renderTable(columns, rows), ''];
    }),
    renderFields(f.peers.map(peerField)),
  ].join('\n');

export const markdown = ({ columns, rows }: Table): string => {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map((c) => c.title)),
    line(columns.map((c) => (c.align === 'right' ? '--:' : '---'))),
    ...rows.map(line),
  ].join('\n');
};

/** For docs/performance.md. */
export const renderMarkdown = (f: CoreFigures): string =>
  [
    [...machineLines(f.machine), ...remarks(f)].map((l) => `- ${l}`).join('\n'),
    ...[targetTable, restoreTable, commitTable, peerTable].map((table) => markdown(table(f))),
    f.peers.map((p) => `- ${peerField(p).join(': ')}`).join('\n'),
  ]
    .filter((part) => part !== '')
    .join('\n\n');

/** `npm run bench -- report FILE [--markdown]`: figures that `core --json` has printed, as tables. */
export const benchReport = async (args: string[]): Promise<void> => {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { markdown: { type: 'boolean', default: false } },
  });
  const figures: CoreFigures = JSON.parse(readFileSync(positionals[0] ?? 0, 'utf8'));
  process.stdout.write(`${values.markdown ? renderMarkdown(figures) : renderCore(figures)}\n`);
};

/** What `archive` has measured, for a terminal of 80 columns and for docs/performance-archive.md. */
import { machineLines } from '../cli/bench/machine.ts';
import { renderTable } from '../cli/render/table.ts';
import { formatCount } from '../cli/render/units.ts';
import type { ArchiveFigures } from './archive.ts';
import { requestsOf } from './bucket/traffic.ts';
import { left, markdown, numberOf, right, type Table } from './report.ts';
import { ARCHIVE_SIZE, ARCHIVE_TARGETS, isMet } from './targets.ts';

const ms = (value: number): string => numberOf(value, 'ms');
const seconds = (value: number): string => numberOf(value, 's');
const mb = (value: number): string => numberOf(value, 'MB');
const columns = (first: string, ...rest: string[]) => [left(first), ...rest.map(right)];

const isTargetSize = ({ options }: ArchiveFigures): boolean =>
  Object.entries(ARCHIVE_SIZE).every(([name, value]) => options[name as keyof typeof options] === value);

const targetTable = (f: ArchiveFigures): Table => ({
  columns: [left('what'), right('target'), right('measured'), left('')],
  rows: ARCHIVE_TARGETS.map((target) => {
    const figure = target.figure(f) ?? Number.NaN;
    const verdict = isMet(target, figure) ? 'met' : 'not met';
    const limit = `<= ${numberOf(target.limit, target.unit)}`;
    return [target.what, limit, numberOf(figure, target.unit), isTargetSize(f) ? verdict : ''];
  }),
});

const lagTable = (f: ArchiveFigures): Table => ({
  columns: columns('lag', 'p50', 'p99', 'max', 'changes/s', 'RssAnon', 'req/s', 'req/GB'),
  rows: (['ms0', 'ms50', 'ms200'] as const).map((name) => {
    const l = f.lag[name];
    return [
      `${name.slice(2)} ms`,
      ...[l.p50Ms, l.p99Ms, l.maxMs].map(ms),
      formatCount(l.changesPerSecond),
      mb(l.agentRssAnonMB),
      l.requestsPerSecond.toFixed(1),
      formatCount(l.requestsPerGB),
    ];
  }),
});

const STORES = [
  ['directory', 'directory'],
  ['ms0', 'bucket, 0 ms'],
  ['ms50', 'bucket, 50 ms'],
] as const;

const uploadTable = (f: ArchiveFigures): Table => ({
  columns: columns('log shipped to', 'wall', 'CPU', 'log/s', 'changes/s', 'RssAnon', 'req', 'server'),
  rows: STORES.map(([name, title]) => {
    const u = f.upload[name];
    return [
      title,
      seconds(u.seconds),
      seconds(u.cpuSeconds),
      mb(u.logMBPerSecond),
      formatCount(u.changesPerSecond),
      mb(u.rssAnonMB),
      formatCount(u.requests),
      seconds(u.serverCpuSeconds),
    ];
  }),
});

const restoreTable = (f: ArchiveFigures): Table => ({
  columns: columns('restored from', 'wall', 'CPU', 'process', 'RssAnon', 'read', 'req', 'server'),
  rows: STORES.map(([name, title]) => {
    const r = f.restore[name];
    return [
      title,
      seconds(r.seconds),
      seconds(r.cpuSeconds),
      seconds(r.processSeconds),
      mb(r.rssAnonMB),
      mb(r.receivedMB),
      formatCount(r.requests),
      seconds(r.serverCpuSeconds),
    ];
  }),
});

const lookTable = (f: ArchiveFigures): Table => ({
  columns: columns('at 50 ms', 'wall', 'requests', 'one after the other'),
  rows: Object.entries(f.looks).map(([what, l]) => [
    what,
    seconds(l.seconds),
    formatCount(l.requests),
    formatCount(l.roundTrips),
  ]),
});

const TABLES = [targetTable, lagTable, uploadTable, restoreTable, lookTable];

const remarks = (f: ArchiveFigures): string[] => {
  const { records, changes, rate, seconds: lasting, runs } = f.options;
  const { ms50 } = f.lag;
  const { put, get } = ms50.traffic.requests;
  return [
    `${formatCount(records)} records and ${formatCount(changes)} changes; restores verified, medians of ${runs}; took ${f.seconds.toFixed(0)} s`,
    `lag: ${formatCount(rate)} changes/s for ${lasting} s, each a commit of its own`,
    `at 50 ms: ${formatCount(requestsOf(ms50.traffic))} requests (${formatCount(put)} PUT, ${formatCount(get)} GET), ${ms50.publishedPerSecond.toFixed(1)} heads/s`,
    `cores at 50 ms: writer ${ms50.writerCores.toFixed(2)}, agent ${ms50.agentCores.toFixed(2)}, server ${ms50.serverCores.toFixed(2)}`,
    'the bucket is a stand-in in memory, a process of its own on these cores',
  ];
};

export const renderArchive = (f: ArchiveFigures): string =>
  [
    ...machineLines(f.machine),
    ...remarks(f),
    ...TABLES.flatMap((table) => ['', renderTable(table(f).columns, table(f).rows)]),
  ].join('\n');

export const renderArchiveMarkdown = (f: ArchiveFigures): string =>
  [
    [...machineLines(f.machine), ...remarks(f)].map((line) => `- ${line}`).join('\n'),
    ...TABLES.map((table) => markdown(table(f))),
  ].join('\n\n');

import { isSelfContained, type LogRange, type SnapshotEntry } from '../../snapshot/manifest.ts';
import { renderFields, renderTable, shorten } from './table.ts';
import { formatAge, formatBytes, formatCount, formatInstant, formatIso } from './units.ts';

/** Cells of a shortened timeline id. */
const TIMELINE_CELLS = 8;

/** A snapshot as --json gives it: without the name of its object, which nobody needs to know. */
export const snapshotData = ({ name: _, ...entry }: SnapshotEntry): Omit<SnapshotEntry, 'name'> => entry;

export interface SnapshotDetails extends Omit<SnapshotEntry, 'name'> {
  readonly coordinated: boolean;
  readonly logAfterTs: number;
  readonly positions: Readonly<Record<string, number>>;
  readonly log: readonly LogRange[];
  readonly segments: { readonly count: number; readonly bytes: number; readonly versions: number };
  readonly children: readonly string[];
}

export const renderSnapshots = (snapshots: readonly SnapshotEntry[], nowMs: number): string => {
  if (snapshots.length === 0)
    return 'No snapshots. Instants of the log can be restored without one; pitr snapshot create takes one.';
  const timelines = new Set(snapshots.map((s) => s.timeline));
  const isForked = timelines.size > 1;
  return renderTable(
    [
      { title: 'ID' },
      { title: 'LABEL' },
      { title: 'KIND' },
      { title: 'STATE OF', align: 'right' },
      { title: 'RECORDS', align: 'right' },
      ...(isForked ? [{ title: 'TIMELINE' }] : []),
    ],
    snapshots.map((s) => [
      s.id,
      s.label ?? '-',
      s.kind,
      formatAge(nowMs - s.endTs),
      formatCount(s.records),
      ...(isForked ? [s.timeline.slice(0, TIMELINE_CELLS)] : []),
    ]),
  );
};

export const renderNewSnapshot = (entry: SnapshotEntry, url: string, nowMs: number): string =>
  renderFields([
    ['Snapshot', entry.id],
    ['Label', entry.label ?? undefined],
    ['Kind', kindInWords(entry)],
    ['State of', formatInstant(entry.endTs, nowMs)],
    ['Records', formatCount(entry.records)],
    ['Restore', restoreLine(entry, url)],
  ]);

export const renderSnapshot = (s: SnapshotDetails, url: string, nowMs: number): string =>
  renderFields([
    ['Snapshot', s.id],
    ['Label', s.label ?? undefined],
    ['Kind', kindInWords(s)],
    ['State of', formatInstant(s.endTs, nowMs)],
    ['Adds since', formatIso(s.startTs)],
    ['Taken', formatInstant(s.createdMs, nowMs)],
    ['Timeline', s.timeline],
    ['Records', formatCount(s.records)],
    [
      'Positions',
      inLines(Object.entries(s.positions).map(([name, lsn]) => `${name} LSN ${formatCount(lsn)}`)),
    ],
    [
      'Log',
      inLines(
        s.log.map((r) => `${r.stream} LSN ${formatCount(r.lsnStart)} to ${formatCount(r.lsnEnd - 1)}`),
      ) ?? (isSelfContained(s) ? 'none needed' : 'nothing new'),
    ],
    [
      'Segments',
      s.segments.count > 0
        ? `${formatCount(s.segments.count)} of its own, ${formatBytes(s.segments.bytes)}`
        : 'none of its own',
    ],
    ['Needed by', s.children.join(', ') || 'nothing'],
    ['Restore', restoreLine(s, url)],
  ]);

const inLines = (lines: readonly string[]): string | undefined =>
  lines.length > 0 ? lines.join('\n') : undefined;

const kindInWords = ({ kind, parent }: Pick<SnapshotEntry, 'kind' | 'parent'>): string => {
  const after = parent === null ? '' : ` after ${shorten(parent, 24)}`;
  switch (kind) {
    case 'full':
      return `full, by reference${after}`;
    case 'incremental':
      return parent === null ? 'incremental, the first one' : `incremental,${after}`;
    case 'synthetic':
      return 'synthetic, merged from the archive';
    case 'base':
      return "base, copied from an engine's store";
    default:
      return kind satisfies never;
  }
};

/** For a shell, in several lines: the URL may be long, and a line that wraps is hard to copy. */
const restoreLine = (entry: Pick<SnapshotEntry, 'endTs'>, url: string): string =>
  `pitr restore \\\n  --archive ${forShell(url)} \\\n  --to ${formatIso(entry.endTs)} --into engine:DIR`;

/** URLs of buckets have ? and &, which a shell would take for its own. */
const forShell = (word: string): string =>
  /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

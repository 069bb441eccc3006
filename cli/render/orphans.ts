import type { OrphanLine, OrphanReport } from '../../snapshot/orphan-report.ts';
import { renderFields, renderTable } from './table.ts';
import { formatAge, formatBytes, formatCount } from './units.ts';

/** What nothing names in an archive: line by line, and summed up. */
export const renderOrphans = (
  { lines, more, sums, objects, bytes, denied }: OrphanReport,
  nowMs: number,
): string => {
  const noted = denied === null ? [] : [['uploads', `not looked at: ${denied}`] as [string, string]];
  if (lines.length === 0) return renderFields([['orphans', 'none'], ...noted]);
  return [
    renderTable(
      [
        { title: 'class' },
        { title: 'bytes', align: 'right' },
        { title: 'first seen' },
        { title: 'swept' },
        { title: 'name' },
      ],
      lines.map((line) => [
        line.class,
        line.bytes === null ? '-' : formatBytes(line.bytes),
        line.firstSeenMs === null ? '-' : formatAge(nowMs - line.firstSeenMs),
        fateOf(line, nowMs),
        line.name,
      ]),
    ),
    renderFields([
      ['orphans', `${formatCount(objects)}, ${formatBytes(bytes)}${more > 0 ? `, and ${more} more` : ''}`],
      ...sums.map((s): [string, string] => [s.class, `${formatCount(s.objects)}, ${formatBytes(s.bytes)}`]),
      ...noted,
    ]),
  ].join('\n\n');
};

const fateOf = ({ class: kind, sweptAfterMs, sweptBy }: OrphanLine, nowMs: number): string => {
  if (kind === 'foreign') return 'never';
  if (sweptAfterMs === null) return 'no agent has seen it';
  return `by ${sweptBy} ${sweptAfterMs <= nowMs ? 'next' : formatAge(nowMs - sweptAfterMs)}`;
};

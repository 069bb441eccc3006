import type { LocalStatus } from '../local-status.ts';
import type { Problem, Status, StreamStatus } from '../status.ts';
import { shortPartitions } from './partitions.ts';
import { renderFields, renderTable, renderTree, type TreeNode } from './table.ts';
import { formatAge, formatBytes, formatCount, formatDuration, formatInstant, formatIso } from './units.ts';

export const renderStatus = (s: Status): string => {
  const limit = s.limitedBy === null || s.streams.length === 1 ? '' : `, limited by ${s.limitedBy}`;
  const blocks = [
    renderFields([
      ['Archive', `${s.archive.url} (id ${s.archive.id.slice(0, 12)})`],
      ['Timeline', s.timeline],
      ['Restorable', restorableInWords(s)],
      ['Lag', s.lagMs === null ? undefined : `${formatDuration(Math.max(0, s.lagMs))}${limit}`],
      [
        'Ahead',
        s.maxEnd !== null && s.contiguousEnd !== null && s.maxEnd > s.contiguousEnd
          ? `one stream is archived up to ${formatIso(s.maxEnd)}`
          : undefined,
      ],
      ['Snapshots', snapshotsInWords(s)],
      ['Leases', s.leases.length === 0 ? undefined : s.leases.map((l) => l.purpose).join(', ')],
    ]),
    streamTable(s),
    ...localLines(s),
    ...(s.timelines.length > 1 ? [`Timelines:\n${timelineTree(s)}`] : []),
    verdict(s),
  ];
  return blocks.join('\n\n');
};

const restorableInWords = ({ ranges, nowMs, archive }: Status): string =>
  ranges.length === 0
    ? archive.isReachable
      ? 'nothing'
      : 'unknown: the archive cannot be read'
    : ranges
        .map(
          ({ fromTs, toTs }) =>
            `from ${formatInstant(fromTs, nowMs)}\n  to ${formatInstant(toTs, nowMs)}, ${formatDuration(toTs - fromTs)}`,
        )
        .join('\n');

const snapshotsInWords = ({ snapshots, lastSnapshot, nowMs, archive }: Status): string | undefined => {
  if (!archive.isReachable) return undefined;
  if (!lastSnapshot)
    return snapshots === 0 ? 'none' : `${formatCount(snapshots)}, none of them of this history`;
  const { label, id, kind, endTs } = lastSnapshot;
  return `${formatCount(snapshots)}, the last ${formatAge(nowMs - endTs)}: ${label ?? id}, ${kind}`;
};

const streamTable = ({ streams, nowMs }: Status): string => {
  const hasLocal = streams.some((s) => s.local);
  return renderTable(
    [
      { title: 'STREAM' },
      { title: 'PARTITIONS' },
      { title: 'FRONTIER', align: 'right' },
      { title: 'LSN', align: 'right' },
      { title: 'RUNS', align: 'right' },
      { title: 'SIZE', align: 'right' },
      { title: 'WRITTEN', align: 'right' },
      { title: 'GAPS', align: 'right' },
      ...(hasLocal ? [{ title: 'WAITING', align: 'right' } as const] : []),
    ],
    streams.map((s) => [
      s.stream,
      shortPartitions(s.partitions),
      s.frontierTs === null ? 'never' : formatAge(nowMs - s.frontierTs),
      formatCount(s.lsn),
      formatCount(s.runs),
      formatBytes(s.bytes),
      s.writeAmplification === null ? '-' : `${s.writeAmplification.toFixed(1)}×`,
      formatCount(s.gaps.length),
      ...(hasLocal ? [s.local ? formatBytes(s.local.waitingBytes) : '-'] : []),
    ]),
  );
};

/** Who works on the directories that were named. */
const localLines = ({ streams, nowMs }: Status): string[] => {
  const lines = streams.flatMap(({ stream, local }: StreamStatus) => {
    if (!local) return [];
    const writer = local.hasWriter ? 'a writer has it open' : 'no writer';
    const agent = local.hasAgent ? 'an agent archives it' : `no agent: pitr agent ${local.dir}`;
    return [
      [`  ${stream}`, `${local.dir}; ${writer}; ${agent}`] as const,
      ['  Log', spoolInWords(local, nowMs)] as const,
    ];
  });
  return lines.length > 0 ? [`Directories:\n${renderFields(lines)}`] : [];
};

const spoolInWords = (local: LocalStatus, nowMs: number): string => {
  const spool = local.writer?.spool;
  const spilled = spool && spool.spilledBytes > 0 ? `, ${formatBytes(spool.spilledBytes)} of it spilled` : '';
  const since =
    local.waitingSinceMs === null ? '' : `, the oldest ${formatAge(nowMs - local.waitingSinceMs)}`;
  return `${formatBytes(local.waitingBytes)} wait${spilled}${since}; quota ${formatBytes(local.quotaBytes)}, then ${
    { spill: 'spill, then block', block: 'block', 'drop-with-gap': 'drop' }[local.policy]
  }`;
};

const timelineTree = ({ timelines, timeline }: Status): string => {
  const nodesBelow = (parent: string | null): TreeNode[] =>
    timelines
      .filter((t) => t.parent === parent || (parent === null && !timelines.some((p) => p.id === t.parent)))
      .map((t) => ({
        label: [
          t.id,
          t.forkTs === null ? `since ${formatIso(t.createdMs)}` : `forked at ${formatIso(t.forkTs)}`,
          ...(t.detached ? ['partial'] : []),
          ...(t.id === timeline ? ['(shown)'] : []),
        ].join('  '),
        children: nodesBelow(t.id),
      }));
  return renderTree(nodesBelow(null));
};

const verdict = ({ green, problems, nowMs }: Status): string => {
  if (green) return 'Status: green';
  const items = problems.map((p) => renderFields([['  Why', problemInWords(p, nowMs)]]));
  return ['Status: not green', ...items].join('\n');
};

/** Why a status is not green, as a sentence. */
export const problemInWords = (p: Problem, nowMs: number): string => {
  switch (p.code) {
    case 'archive-away':
      return `the archive cannot be read: ${p.message}`;
    case 'outage':
      return (
        `the agent of ${p.stream} has not been able to archive since ${formatInstant(p.outage.sinceMs, nowMs)} ` +
        `(${formatCount(p.outage.tries)} tries): ${p.outage.error.message}`
      );
    case 'log-quota': {
      const who =
        p.blockedWriters === 0
          ? ''
          : `; ${formatCount(p.blockedWriters)} writes wait, since ${formatAge(nowMs - (p.blockedSinceMs ?? nowMs))}`;
      const what = p.diskLow
        ? 'its file system is nearly full'
        : `${formatBytes(p.waitingBytes)} of log wait, the quota is ${formatBytes(p.quotaBytes)}`;
      return `stream ${p.stream}: ${what} (policy ${p.policy})${who}`;
    }
    case 'dropped':
      return (
        `stream ${p.stream} gave up LSN ${p.range.lsnStart} to ${p.range.lsnEnd - 1} ` +
        `(${formatBytes(p.range.bytes)}) because of its quota; the archive will have a gap there`
      );
    case 'writer-failed':
      return `the writer of ${p.stream} takes no writes any more: ${p.message}`;
    case 'spool-failed':
      return `the log of ${p.stream} cannot be kept within its quota: ${p.message}`;
    case 'lag': {
      const who = p.stream === undefined ? '' : ` because of stream ${p.stream}; is its agent running?`;
      return `the archive is ${formatDuration(p.lagMs)} behind (limit ${formatDuration(p.maxLagMs)})${who}`;
    }
    case 'nothing-restorable':
      return p.why === undefined
        ? 'nothing is restorable yet: is an agent running?'
        : `nothing is restorable yet because of ${p.why}: is an agent running?`;
    case 'gap':
      return `stream ${p.stream} lacks LSN ${p.gap.lsnStart} to ${p.gap.lsnEnd - 1}: ${p.gap.cause}`;
    case 'hole':
      return `nothing between ${formatIso(p.afterTs)} and ${formatIso(p.untilTs)} is restorable`;
    case 'unregistered':
      return `${p.dir} writes timeline ${p.timeline}, of which nothing is archived: start pitr agent ${p.dir}`;
    default:
      return p satisfies never;
  }
};

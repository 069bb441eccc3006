import { causeInWords } from '../../snapshot/holes.ts';
import type { CaptureStatus } from '../../wal/capture/capture-status.ts';
import type { VerifyResult } from '../../wal/verify-results.ts';
import type { LocalStatus } from '../local-status.ts';
import type { Status, StreamStatus } from '../status.ts';
import { type Problem, SKEW_MS_MAX } from '../verdict.ts';
import { lsnRange } from './gaps.ts';
import { shortPartitions } from './partitions.ts';
import { renderFields, renderTable, renderTree, type TreeNode } from './table.ts';
import { formatAge, formatBytes, formatCount, formatDuration, formatInstant, formatIso } from './units.ts';

/** `where`: the verdict. Who watches a small terminal sees the first lines only. */
export const renderStatus = (s: Status, where: 'last' | 'first' = 'last'): string => {
  const blocks = [
    renderFields([
      ['Restorable', restorableInWords(s)],
      ['Lag', lagInWords(s)],
      [
        'Ahead',
        s.maxEnd !== null && s.contiguousEnd !== null && s.maxEnd > s.contiguousEnd
          ? `one stream is archived up to ${formatIso(s.maxEnd)}`
          : undefined,
      ],
      ['Window', windowInWords(s)],
      ['Holes', holesInWords(s)],
      ['Last snapshot', snapshotInWords(s)],
      ['Last verify', verifyInWords(s)],
      ['Archive', `${s.archive.url}${s.archive.id === '' ? '' : ` (id ${s.archive.id.slice(0, 12)})`}`],
      ['Timeline', s.timeline === '' ? undefined : s.timeline],
      ['Leases', s.leases.length === 0 ? undefined : s.leases.map((l) => l.purpose).join(', ')],
    ]),
    ...(s.streams.length > 0 ? [streamTable(s)] : []),
    ...localLines(s),
    ...(s.timelines.length > 1 ? [`Timelines:\n${timelineTree(s)}`] : []),
  ];
  const all = where === 'last' ? [...blocks, verdict(s)] : [verdict(s), ...blocks];
  return all.join('\n\n');
};

const lagInWords = ({ lagMs, limitedBy, streams }: Status): string | undefined => {
  if (lagMs === null) return undefined;
  if (lagMs < -SKEW_MS_MAX) return 'unknown: what is archived is ahead of the clock of this machine';
  const limit = limitedBy === null || streams.length === 1 ? '' : `, limited by ${limitedBy}`;
  return `${formatDuration(Math.max(0, lagMs))}${limit}`;
};

const windowInWords = ({ window, problems }: Status): string | undefined => {
  if (!window) return undefined;
  const { fromTs, toTs, wantedMs } = window;
  const has = `${formatDuration(toTs - fromTs)} without a hole, since ${formatIso(fromTs)}`;
  if (wantedMs === null) return has;
  const isFull = toTs - fromTs >= wantedMs;
  const isMissed = problems.some((p) => p.code === 'window');
  const wanted = `wanted ${formatDuration(wantedMs)}`;
  return `${has}\n${wanted}${isMissed ? ', which is missed' : isFull ? '' : ', which it grows to'}`;
};

const holesInWords = ({ holes, archive }: Status): string | undefined => {
  if (!archive.isReachable) return undefined;
  if (holes.length === 0) return 'none';
  const acknowledged = holes.filter((h) => h.acknowledged).length;
  return `${formatCount(holes.length)} (${formatCount(acknowledged)} acknowledged); pitr gaps lists them`;
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

const snapshotInWords = ({ snapshots, lastSnapshot, nowMs, archive }: Status): string | undefined => {
  if (!archive.isReachable) return undefined;
  if (!lastSnapshot)
    return snapshots === 0 ? 'none' : `none of this history (${formatCount(snapshots)} in the archive)`;
  const { label, id, kind, endTs } = lastSnapshot;
  return `${formatAge(nowMs - endTs)}, ${kind}, ${label === null ? id : `${label}, ${id}`} (of ${formatCount(snapshots)})`;
};

const verifyInWords = ({ lastVerify, lastGoodVerify, nowMs, archive }: Status): string | undefined => {
  if (!archive.isReachable) return undefined;
  if (!lastVerify) return 'never';
  const age = formatAge(nowMs - lastVerify.atMs);
  if (lastVerify.ok) return `${age}, good: ${readInWords(lastVerify)}, ${statesInWords(lastVerify)}`;
  const good = lastGoodVerify ? formatAge(nowMs - lastGoodVerify.atMs) : 'never';
  return `${age}, FAILED: ${anomaliesInWords(lastVerify)}; the last good one: ${good}`;
};

const readInWords = ({ bytes, versions }: VerifyResult): string =>
  `read all ${formatBytes(bytes)}, ${formatCount(versions)} versions`;

const statesInWords = ({ states: { equal, differs, notChecked } }: VerifyResult): string => {
  const compared = equal + differs;
  if (compared === 0) return 'no state compared';
  return notChecked === 0 ? 'state compared' : `${compared} of ${compared + notChecked} states compared`;
};

const anomaliesInWords = ({ anomalies }: VerifyResult): string =>
  Object.entries(anomalies)
    .map(([kind, n]) => `${formatCount(n)} ${kind}`)
    .join(', ');

/** What only the archive knows is left out when it does not answer. */
const streamTable = ({ streams, nowMs, archive }: Status): string => {
  const known = (text: string): string => (archive.isReachable ? text : '?');
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
      known(s.frontierTs === null ? 'never' : formatAge(nowMs - s.frontierTs)),
      formatCount(s.lsn),
      known(formatCount(s.runs)),
      known(formatBytes(s.bytes)),
      known(s.writeAmplification === null ? '-' : `${s.writeAmplification.toFixed(1)}×`),
      known(formatCount(s.gaps.length)),
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
      ...(local.source ? sourceLines(local.source, nowMs) : []),
    ];
  });
  return lines.length > 0 ? [`Directories:\n${renderFields(lines)}`] : [];
};

/** What is captured: from where, what has come of it, what it costs the cluster, and what nobody can know (S7). */
const sourceLines = (source: CaptureStatus, nowMs: number): (readonly [string, string])[] => {
  const { totals, cost, url, state, atMs, pollMs } = source;
  const states: Record<CaptureStatus['state'], string> = {
    starting: 'starting',
    copying: 'everything is being copied',
    waiting: 'copied; restorable once the archive has it',
    capturing: 'capturing',
    doubting: 'compares everything, or waits',
    failing: 'cannot be captured at present',
  };
  const inexact = [
    [totals.missed, 'with others before them that nobody saw'],
    [totals.late, 'found late'],
    [totals.windows, 'known within a window'],
  ] as const;
  const counts = [
    `${formatCount(totals.versions)} versions`,
    `${formatCount(totals.deletes)} of them deletes`,
    ...inexact.filter(([n]) => n > 0).map(([n, what]) => `${formatCount(n)} ${what}`),
  ];
  const cpu = cost.cpuPercent === null ? '' : `, server at ${Math.round(cost.cpuPercent)} % CPU`;
  const device = cost.deviceReads > 0 ? `, ${formatCount(cost.deviceReads)} device reads` : '';
  return [
    ['  Source', `${url}: ${states[state]} (said ${formatAge(nowMs - atMs)})`],
    ['  Captured', counts.join(', ')],
    [
      '  Last poll',
      `${pollMs === null ? '-' : formatDuration(pollMs)}, ${formatCount(cost.queries)} queries, ${formatCount(cost.records)} records and ` +
        `${formatBytes(cost.bytes)} read${device}${cpu}`,
    ],
    ['  Not known', source.limits.join('; ')],
  ];
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

/** What is only in a directory whose agent has lost the stream. */
const keptInWords = ({
  waitingBytes,
  waitingFiles,
  waitingLsn,
}: Extract<Problem, { code: 'fenced' | 'log-rolled-back' }>): string => {
  if (waitingFiles === 0) return 'nothing waits in the log here';
  const lsn = waitingLsn === null ? '' : `, LSN ${waitingLsn.lsnStart} to ${waitingLsn.lsnEnd - 1}`;
  return `${formatBytes(waitingBytes)} wait in the log here and are kept (${formatCount(waitingFiles)} files${lsn})`;
};

/** Why a status is not green, as a sentence. */
export const problemInWords = (p: Problem, nowMs: number): string => {
  switch (p.code) {
    case 'archive-away':
      return `the archive cannot be read: ${p.message}`;
    case 'fenced': {
      const { sinceMs, mine, current } = p.fenced;
      return (
        `another agent has stream ${p.stream} since ${formatInstant(sinceMs, nowMs)} (writer generation ${current}, here ${mine}): ` +
        `${keptInWords(p)}; to archive from here again, stop the other agent, then: pitr agent ${p.dir}`
      );
    }
    case 'log-rolled-back':
      return (
        `the log in ${p.dir} does not continue what is archived of stream ${p.stream}: ${p.why}; ${keptInWords(p)}. ` +
        `Stop its writer and keep the directory until what only it has is no longer needed (pitr get --dir ${p.dir} reads it), ` +
        'and go on with the directory that is archived, or with a new one made by pitr restore'
      );
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
        `stream ${p.stream} gave up ${lsnRange(p.range)} ` +
        `(${formatBytes(p.range.bytes)}) because of its quota; the archive will have a gap there`
      );
    case 'source-failing':
      return `stream ${p.stream}: ${p.url} cannot be captured at present: ${p.message}`;
    case 'source-waits':
      return `stream ${p.stream}: ${p.url} is being compared, or waited for: ${p.message}`;
    case 'unreadable-records':
      return `stream ${p.stream}: ${formatCount(p.records)} records are in no archive: the name of their set is not UTF-8`;
    case 'writer-failed':
      return `the writer of ${p.stream} takes no writes any more: ${p.message}`;
    case 'spool-failed':
      return `the log of ${p.stream} cannot be kept within its quota: ${p.message}`;
    case 'lag':
      return p.stream === undefined
        ? `the newest restorable instant is ${formatDuration(p.lagMs)} old (limit ${formatDuration(p.maxLagMs)})`
        : `the archive is ${formatDuration(p.lagMs)} behind (limit ${formatDuration(p.maxLagMs)}) because of stream ` +
            `${p.stream}; is its agent running?`;
    case 'clock-skew':
      return (
        `stream ${p.stream} is archived up to ${formatDuration(p.aheadMs)} after now: the clock of its writer or of this ` +
        'machine is wrong, and how far the archive is behind cannot be told; set the clocks (NTP)'
      );
    case 'nothing-restorable':
      return p.why === undefined
        ? 'nothing is restorable yet: is an agent running?'
        : `nothing is restorable yet because of ${p.why}: is an agent running?`;
    case 'gap': {
      const what = `stream ${p.stream} lacks ${lsnRange(p.gap)}: ${causeInWords(p.gap)}`;
      if (!p.isAnchored) return `${what}; nothing after it is restorable until a base copy is taken`;
      return `${what}; if that is known: pitr gaps ack ${p.stream}/${p.gap.lsnStart} --reason TEXT`;
    }
    case 'hole':
      return `nothing between ${formatIso(p.afterTs)} and ${formatIso(p.untilTs)} is restorable: ${p.cause}`;
    case 'window':
      return (
        `wanted is a window of ${formatDuration(p.wantedMs)}; without a hole instants can be restored only since ` +
        formatInstant(p.fromTs, nowMs)
      );
    case 'verify-failed':
      return `the last pitr verify, ${formatAge(nowMs - p.result.atMs)}, found damage: ${anomaliesInWords(p.result)}`;
    case 'unreadable':
      return `what was said of the archive is damaged and does not count: ${p.message}`;
    case 'unregistered':
      return `${p.dir} writes timeline ${p.timeline}, of which nothing is archived: start pitr agent ${p.dir}`;
    default:
      return p satisfies never;
  }
};

import type { DroppedRange } from '../../engine/spool.ts';
import type { Hole } from '../../snapshot/holes.ts';
import type { Acknowledgement } from '../../wal/acknowledgements.ts';
import { renderFields, renderTable } from './table.ts';
import { formatAge, formatCount, formatDuration, formatInstant, formatIso } from './units.ts';

/** A hole as --json gives it: instants also as ISO text. */
export const holeData = (hole: Hole): object => {
  const { timeline, stream, gap, afterTs, untilTs, cause, again, acknowledged } = hole;
  return {
    timeline,
    stream,
    lsnStart: gap?.lsnStart ?? null,
    lsnEnd: gap?.lsnEnd ?? null,
    positions: gap ? gap.lsnEnd - gap.lsnStart : null,
    afterTs,
    after: formatIso(afterTs),
    untilTs,
    until: formatIso(untilTs),
    cause,
    anchored: again ? { by: again.anchor, fromTs: again.fromTs, from: formatIso(again.fromTs) } : null,
    acknowledged: acknowledged && acknowledgementData(acknowledged),
  };
};

const acknowledgementData = ({ by, reason, atMs }: Acknowledgement): object => ({
  by,
  reason,
  atMs,
  at: formatIso(atMs),
});

/** `LSN 1,201 to 2,602`: of a half-open range, as people name it. */
export const lsnRange = ({ lsnStart, lsnEnd }: { lsnStart: number; lsnEnd: number }): string =>
  `LSN ${formatCount(lsnStart)} to ${formatCount(lsnEnd - 1)}`;

/** How `pitr gaps ack` names it. */
export const holeName = ({ stream, gap }: Hole): string =>
  stream === null || gap === null ? '-' : `${stream}/${gap.lsnStart}`;

/** Log that a directory here gave up, and that the archive does not know yet: it cannot be acknowledged before. */
export type PendingGap = DroppedRange & { readonly stream: string };

/** One line a hole, and below that what there is to say of each. */
export const renderHoles = (
  holes: readonly Hole[],
  pending: readonly PendingGap[],
  nowMs: number,
): string => {
  const blocks = [
    ...(holes.length > 0 ? [holeTable(holes, nowMs), ...holes.map((h) => detailsOf(h, nowMs))] : []),
    ...pending.map((p) =>
      renderFields([
        ['To come', `stream ${p.stream} gave up ${lsnRange(p)}; the archive does not know it yet`],
      ]),
    ),
  ];
  return blocks.length === 0 ? 'No holes.' : blocks.join('\n\n');
};

const holeTable = (holes: readonly Hole[], nowMs: number): string =>
  renderTable(
    [
      { title: 'HOLE' },
      { title: 'POSITIONS', align: 'right' },
      { title: 'BEGAN', align: 'right' },
      { title: 'LASTED', align: 'right' },
      { title: 'CAUSE' },
      { title: 'STATE' },
    ],
    holes.map((h) => [
      holeName(h),
      h.gap ? formatCount(h.gap.lsnEnd - h.gap.lsnStart) : '-',
      formatAge(nowMs - h.afterTs),
      formatDuration((h.again?.fromTs ?? h.untilTs) - h.afterTs),
      h.cause,
      stateOf(h),
    ]),
  );

const stateOf = ({ again, acknowledged }: Hole): string =>
  [...(again ? [] : ['open']), acknowledged ? 'acknowledged' : 'not acknowledged'].join(', ');

const detailsOf = (hole: Hole, nowMs: number): string => {
  const { gap, afterTs, untilTs, again, acknowledged, timeline } = hole;
  return renderFields([
    ['Hole', holeName(hole)],
    ['  Timeline', timeline],
    ['  Lost', gap ? lsnRange(gap) : 'no position of the log'],
    ['  After', formatInstant(afterTs, nowMs)],
    ['  Until', formatIso(untilTs)],
    [
      '  Restorable again',
      again
        ? `since ${formatIso(again.fromTs)}, by ${again.anchor}`
        : 'not yet: it takes a base copy, which the agent makes',
    ],
    ['  Acknowledged', acknowledged ? acknowledgedInWords(acknowledged) : 'no'],
  ]);
};

const acknowledgedInWords = ({ by, reason, atMs }: Acknowledgement): string =>
  `${formatIso(atMs)} by ${by}: ${reason}`;

export const renderAcknowledged = (
  what: 'acknowledged' | 'no longer acknowledged',
  gaps: readonly Acknowledgement[],
): string =>
  gaps.length === 0
    ? 'Nothing to change.'
    : gaps.map((g) => `${g.stream} ${lsnRange(g)}: ${what}`).join('\n');

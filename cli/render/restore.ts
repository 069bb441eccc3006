import { PARTITIONS } from '../../engine/partition.ts';
import type { RestorePlan, RestoreReport, Verification } from '../../restore/restore.ts';
import { isPartial, type Selection } from '../../restore/selection.ts';
import { renderFields } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatInstant, formatIso } from './units.ts';

/** What a dry run gives a program: the plan without the list of objects. */
export const planData = (plan: RestorePlan, archive: string, into: string | undefined): object => {
  const { target, timeline, state, selection, ttl, partial, estimateSeconds } = plan;
  return {
    dryRun: true,
    archive,
    ...(into === undefined ? {} : { into }),
    target,
    timeline,
    base: state.base?.id ?? null,
    runs: state.runs.length,
    objects: state.objects,
    bytes: state.bytes,
    versions: state.versions,
    positions: state.positions,
    selection,
    ttl,
    partial,
    estimateSeconds,
    verifiable: !('missing' in state.source),
    exact: state.exactness ? null : true,
  };
};

export const reportData = (report: RestoreReport, dir: string | undefined): object => ({
  ...(dir === undefined ? {} : { dir }),
  ...report,
  durationMs: Math.round(report.durationMs),
  verifyMs: Math.round(report.verifyMs),
});

export const renderPlan = (plan: RestorePlan, archive: string, nowMs: number): string => {
  const { target, timeline, state, selection, ttl, estimateSeconds } = plan;
  return renderFields([
    ['Archive', archive],
    ...targetFields(target, nowMs),
    ['Timeline', timeline],
    [
      'Starts from',
      state.base
        ? `snapshot ${state.base.label ?? state.base.id} (${state.base.kind}, ${formatIso(state.base.endTs)})`
        : 'the beginning of the history',
    ],
    [
      'To read',
      `${formatCount(state.versions)} versions, ${formatBytes(state.bytes)} in ${plural(state.objects, 'object')}, ` +
        `${plural(state.runs.length, 'sorted run')}`,
    ],
    [
      'Records',
      'missing' in state.source ? undefined : `about ${formatCount(recordsIn(plan))} before filters`,
    ],
    ['Filters', describeSelection(selection)],
    ['TTL', ttl],
    ['Expected', `about ${formatDuration(Math.max(100, estimateSeconds * 1000))}, plus the time to verify`],
    [
      'Verifiable',
      'missing' in state.source
        ? `only the copy; not against the source: ${state.source.missing}`
        : 'against what the source stated about itself',
    ],
    [
      'Exact',
      state.exactness
        ? 'known only after the merge: the source was watched, and some of its changes were missed or have a window'
        : undefined,
    ],
    ['Result', 'nothing was changed: this was a dry run'],
  ]);
};

const recordsIn = ({ state }: RestorePlan): number =>
  'missing' in state.source ? 0 : state.source.digests.reduce((n, d) => n + d.records, 0);

/** The report of a restore that was made, and what to do with the result. `into` undefined: JSON lines. */
export const renderReport = (
  report: RestoreReport,
  { into, isPartial: partial }: { into: string | undefined; isPartial: boolean },
  nowMs: number,
): string => {
  const { target, timeline, forkedTimeline, records, versions, expired, deleted, truncated, withoutKey } =
    report;
  const head = renderFields([
    ['Restored', into === undefined ? 'as JSON lines' : `engine directory ${into === '' ? '.' : into}`],
    ...targetFields(target, nowMs),
    [
      'Timeline',
      forkedTimeline === undefined ? timeline : `${timeline}; the copy goes on as ${forkedTimeline}`,
    ],
    ['Records', formatCount(records)],
    [
      'Resumed',
      report.resumed
        ? `an interrupted restore: ${formatCount(report.resumed.records)} records in ${plural(report.resumed.ranges, 'range')} were there`
        : undefined,
    ],
    [
      'Merged',
      `${formatCount(versions)} versions: ${formatCount(deleted)} deleted, ${formatCount(expired)} expired, ` +
        `${formatCount(truncated)} truncated by then`,
    ],
    ['Inexact', inexactInWords(report.inexact)],
    ['Read', `${formatBytes(report.bytes)} in ${plural(report.objects, 'object')}`],
    ['Copy', copyInWords(report.verification, into)],
    ['Source', sourceInWords(report.verification)],
    [
      'Took',
      `${formatDuration(report.durationMs)}${report.verifyMs > 0 ? `, ${formatDuration(report.verifyMs)} of it to verify` : ''}`,
    ],
    [
      'Note',
      withoutKey > 0
        ? `${formatCount(withoutKey)} records of a renamed set have no stored key: they keep the digest of their old name`
        : undefined,
    ],
  ]);
  return into === undefined ? head : `${head}\n\nNext:\n${nextSteps(into === '' ? '.' : into, partial)}`;
};

const nextSteps = (dir: string, partial: boolean): string =>
  renderFields([
    ['  use', `Engine.open({ dir: '${dir}' }) in your program`],
    [
      '  archive',
      partial
        ? `pitr agent ${dir} takes a base copy first: part of a state starts a history of its own`
        : `pitr agent ${dir}; the old timeline stays restorable`,
    ],
    ['  look', `pitr status ${dir}`],
  ]);

export const targetFields = (
  target: RestoreReport['target'],
  nowMs: number,
): (readonly [string, string | undefined])[] => [
  ['Target', formatInstant(target.ts, nowMs)],
  ['Asked for', target.text === formatIso(target.ts) ? undefined : target.text],
  ['Rounded', target.rounded],
  [
    'Also on',
    target.alsoOn.length === 0
      ? undefined
      : `${target.alsoOn.join(', ')}: another state; --timeline names it`,
  ],
];

/** Undefined: every record is what the source had. */
export const inexactInWords = ({
  records,
  missed,
  windows,
}: RestoreReport['inexact']): string | undefined => {
  if (records === 0) return undefined;
  const why = [
    missed > 0 ? `${formatCount(missed)} with versions that were missed` : '',
    windows > 0 ? `${formatCount(windows)} that changed in a window around the target` : '',
  ];
  return `${plural(records, 'record')} may not be what the source had then: ${why.filter(Boolean).join(', ')}`;
};

const copyInWords = ({ target }: Verification, into: string | undefined): string => {
  if (target === 'equal') return 'verified: read back, every record is as it was written';
  return into === undefined ? 'not read back: it went to stdout' : 'not read back (--no-verify)';
};

export const sourceInWords = ({ source, sourceTs, why }: Verification): string => {
  if (source === 'not checked') return `not compared${why === undefined ? '' : `: ${why}`}`;
  const at = sourceTs === undefined ? '' : ` at ${formatIso(sourceTs)}`;
  return `verified: equal to what the source stated about itself${at}`;
};

/** `namespace shop; set users, orders`, or undefined without filters and renames. */
export const describeSelection = (s: Selection): string | undefined => {
  if (!isPartial(s)) return undefined;
  const list = (name: string, values: readonly string[] | undefined): string[] =>
    values === undefined ? [] : [`${name} ${values.join(', ')}`];
  const renames = (name: string, pairs: Readonly<Record<string, string>> | undefined): string[] =>
    pairs === undefined
      ? []
      : [
          `${name} ${Object.entries(pairs)
            .map((pair) => pair.join(' becomes '))
            .join(', ')}`,
        ];
  return [
    ...list('namespace', s.namespaces),
    ...list('set', s.sets),
    ...list('bin', s.bins),
    ...(s.partitions === undefined ? [] : [`partitions ${s.partitions} of 0-${PARTITIONS - 1}`]),
    ...(s.digests === undefined ? [] : [plural(s.digests.length, 'single record')]),
    ...renames('namespace', s.renameNamespaces),
    ...renames('set', s.renameSets),
  ].join('; ');
};

export const plural = (count: number, noun: string): string =>
  `${formatCount(count)} ${noun}${count === 1 ? '' : 's'}`;

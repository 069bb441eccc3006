import { type ClusterMode, refusedCount } from '../../restore/aerospike/cluster-job.ts';
import { type ClusterReport, definitionFaults } from '../../restore/aerospike/cluster-report.ts';
import type { DefinitionResult, DefinitionStep } from '../../restore/aerospike/definitions.ts';
import { explainHazard, type Hazard } from '../../restore/aerospike/hazards.ts';
import type { ClusterPlan } from '../../restore/aerospike/restore-cluster.ts';
import { describeSelection, inexactInWords, plural, sourceInWords, targetFields } from './restore.ts';
import { renderFields } from './table.ts';
import { formatBytes, formatCount, formatDuration, formatIso } from './units.ts';

/** What a dry run into a cluster gives a program. */
export const clusterPlanData = (looked: ClusterPlan, place: string): object => {
  const { plan, facts, scopes, archived, hazards, definitions, occupied, mode, conflict } = looked;
  return {
    dryRun: true,
    into: place,
    target: plan.target,
    timeline: plan.timeline,
    mode: mode ?? null,
    conflict,
    ttl: plan.ttl,
    selection: plan.selection,
    versions: plan.state.versions,
    bytes: plan.state.bytes,
    objects: plan.state.objects,
    inQuestion: scopes,
    targetRecords: occupied,
    sets: archived,
    cluster: { nodes: facts.nodes, builds: facts.builds, community: facts.isCommunity },
    hazards: hazards.map((h) => ({ ...h, ...explainHazard(h) })),
    definitions: definitions.map(({ definition, step }) => ({ ...nameOf(definition), step })),
  };
};

export const renderClusterPlan = (looked: ClusterPlan, place: string, nowMs: number, width = 80): string => {
  const { plan, facts, scopes, hazards, definitions, occupied, mode, conflict } = looked;
  return renderFields(
    [
      ['Into', place],
      ...targetFields(plan.target, nowMs),
      ['Timeline', plan.timeline],
      ['Cluster', clusterInWords(facts)],
      [
        'To read',
        `${formatCount(plan.state.versions)} versions, ${formatBytes(plan.state.bytes)} in ${plural(plan.state.objects, 'object')}`,
      ],
      ['Filters', describeSelection(plan.selection)],
      ['In question', scopes.map(scopeInWords).join('; ')],
      ['Has now', `${plural(occupied, 'record')} of them`],
      ['Mode', modeInWords(mode, occupied)],
      ['Conflicts', conflict],
      ['TTL', plan.ttl],
      ['Definitions', stepsInWords(definitions)],
      ...hazards.map(hazardField),
      ['Result', 'nothing was changed: this was a dry run'],
    ],
    { width },
  );
};

export const clusterReportData = (report: ClusterReport): object => {
  const { plan, facts, tally, merged, hazards, durationMs, resumedRanges, ...rest } = report;
  const { versions, expired, deleted, truncated, withoutKey, inexact } = merged;
  const { samples: _, wrongPartitions: __, missing: ___, differing: ____, foreign: _____, ...counts } = tally;
  return {
    into: rest.place,
    target: plan.target,
    timeline: plan.timeline,
    mode: rest.mode ?? null,
    conflict: rest.conflict,
    records: tally.written + tally.unchanged,
    ...counts,
    refusedRecords: refusedCount(tally),
    refusedFile: rest.refusedFile ?? null,
    state: { versions, expired, deleted, truncated, withoutKey },
    inexact,
    digest: rest.digest,
    verification: rest.verification,
    recheck: rest.isRecheck,
    definitions: rest.definitions,
    hazards: hazards.map((h) => ({ ...h, ...explainHazard(h) })),
    cluster: { nodes: facts.nodes, builds: facts.builds, community: facts.isCommunity },
    stateDir: rest.stateDir,
    resumed: resumedRanges,
    durationMs: Math.round(durationMs),
  };
};

export const renderClusterReport = (report: ClusterReport, nowMs: number, width = 80): string => {
  const { plan, tally, merged, verification, definitions, resumedRanges } = report;
  const refused = refusedCount(tally);
  return renderFields(
    [
      [refused > 0 ? 'Restored in part' : 'Restored', report.place],
      ...targetFields(plan.target, nowMs),
      ['Timeline', plan.timeline],
      [
        'Records',
        `${formatCount(tally.written)} written${tally.unchanged > 0 ? `, ${formatCount(tally.unchanged)} were so already` : ''}`,
      ],
      ['Refused', refused === 0 ? undefined : causesInWords(tally.refused, refused)],
      ['They are in', report.refusedFile],
      [
        'Kept',
        tally.kept === 0
          ? undefined
          : `${formatCount(tally.kept)} as the target had them (${report.conflict})`,
      ],
      [
        'Deleted',
        report.mode === 'exact'
          ? `${formatCount(tally.deleted)} that the state has not` +
            (tally.notDeleted > 0 ? `; ${formatCount(tally.notDeleted)} changed meanwhile stay` : '')
          : undefined,
      ],
      ['Expired', tally.over + tally.expiredSince === 0 ? undefined : expiredInWords(tally)],
      [
        'Resumed',
        resumedRanges === 0
          ? undefined
          : `an interrupted restore: ${plural(resumedRanges, 'range')} were there`,
      ],
      [
        'Merged',
        `${formatCount(merged.versions)} versions: ${formatCount(merged.deleted)} deleted, ${formatCount(merged.expired)} expired, ` +
          `${formatCount(merged.truncated)} truncated by then`,
      ],
      [
        'Digests',
        merged.withoutKey === 0
          ? undefined
          : `${formatCount(merged.withoutKey)} records of a renamed set have no stored key: they keep the digest of their old name`,
      ],
      [
        'Read back',
        verification.target === 'equal'
          ? `verified: ${formatCount(tally.readBack)} records are as they were written`
          : report.isRecheck
            ? 'not compared: only what came back was looked for (--recheck)'
            : 'not read back (--no-verify)',
      ],
      ['Source', sourceInWords(verification)],
      ['Inexact', inexactInWords(merged.inexact)],
      ['Definitions', resultsInWords(definitions)],
      ...definitionFaults(report).map(faultField),
      ['Took', formatDuration(report.durationMs)],
      ['Note', noteOf(report)],
    ],
    { width },
  );
};

const clusterInWords = ({ nodes, builds, isCommunity }: ClusterPlan['facts']): string =>
  `${plural(nodes.length, 'node')}, ${builds.join(', ')} ${isCommunity ? 'Community' : 'Enterprise'}`;

const scopeInWords = ({ namespace, sets }: ClusterPlan['scopes'][number]): string =>
  sets ? sets.map((set) => `${namespace}/${set}`).join(', ') : `all of namespace ${namespace}`;

const modeInWords = (mode: ClusterMode | undefined, occupied: number): string => {
  if (mode === 'exact') return 'exact: what the state has not is deleted';
  if (mode === 'add') return 'add: what the target has besides stays';
  return occupied > 0 ? 'none: refused, because the target is not empty' : 'none: the target is empty';
};

const hazardField = (hazard: Hazard): [string, string] => {
  const { what, hint } = explainHazard(hazard);
  return [hazard.stops ? 'Impossible' : 'Hazard', `${what}; ${hint}`];
};

const causesInWords = (refused: Readonly<Record<string, number>>, all: number): string =>
  `${formatCount(all)}: ${Object.entries(refused)
    .sort((a, b) => b[1] - a[1])
    .map(([cause, count]) => `${formatCount(count)} ${cause}`)
    .join(', ')}`;

const expiredInWords = ({ over, expiredSince }: ClusterReport['tally']): string =>
  `${formatCount(over)} had no time to live left` +
  (expiredSince > 0 ? `; ${formatCount(expiredSince)} expired before they were read back` : '');

const nameOf = (definition: DefinitionStep['definition']): object =>
  definition.what === 'sindex'
    ? { what: 'sindex', namespace: definition.namespace, name: definition.name }
    : { what: 'udf', name: definition.name };

const stepsInWords = (steps: readonly DefinitionStep[]): string | undefined =>
  countsInWords(steps.map(({ step }) => step));

const resultsInWords = (results: readonly DefinitionResult[]): string | undefined =>
  countsInWords(results.map(({ result }) => result));

const countsInWords = (words: readonly string[]): string | undefined => {
  if (words.length === 0) return undefined;
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} ${word}`).join(', ');
};

const faultField = ({ what, namespace, name, result, why }: DefinitionResult): [string, string] => {
  const kind = what === 'sindex' ? `index ${name} of namespace ${namespace}` : `module ${name}`;
  return [
    'Not as it was',
    result === 'differs' ? `${kind} is another one; --replace-definitions makes it anew` : `${kind}: ${why}`,
  ];
};

const noteOf = ({ mode, facts, tally, plan }: ClusterReport): string | undefined =>
  mode === 'exact' && facts.isCommunity && tally.deleted > 0
    ? `a Community server forgets deletions with its cold start: run this again with --to ${formatIso(plan.target.ts)} and --recheck after one`
    : undefined;

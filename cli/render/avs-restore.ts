import type { AvsReport, planAvs } from '../../restore/aerospike/avs.ts';
import { refusedCount } from '../../restore/aerospike/cluster-job.ts';
import {
  clusterPlanData,
  clusterReportData,
  renderClusterPlan,
  renderClusterReport,
} from './cluster-restore.ts';
import { renderFields } from './table.ts';

/** Columns of a part, which is indented. */
const INNER_WIDTH = 78;

type AvsPlans = Awaited<ReturnType<typeof planAvs>>;

export const avsPlanData = ({ plans, missingIndexes }: AvsPlans, place: string): object => ({
  dryRun: true,
  profile: 'avs',
  into: place,
  parts: plans.map(({ step, plan }) => ({ step, ...clusterPlanData(plan, place) })),
  missingIndexes,
});

export const renderAvsPlan = ({ plans, missingIndexes }: AvsPlans, place: string, nowMs: number): string =>
  [
    ...plans.map(
      ({ step, plan }) => `${step}\n${indented(renderClusterPlan(plan, place, nowMs, INNER_WIDTH))}`,
    ),
    ...warningOf(missingIndexes),
  ].join('\n\n');

export const avsReportData = ({ steps, isCut, missingIndexes }: AvsReport): object => ({
  profile: 'avs',
  isCut,
  parts: steps.flatMap(({ step, reports }) => reports.map((r) => ({ step, ...clusterReportData(r) }))),
  records: steps.flatMap((s) => s.reports).reduce((n, r) => n + r.tally.written + r.tally.unchanged, 0),
  refusedRecords: steps.flatMap((s) => s.reports).reduce((n, r) => n + refusedCount(r.tally), 0),
  missingIndexes,
});

export const renderAvsReport = (
  { steps, isCut, missingIndexes }: AvsReport,
  place: string,
  nowMs: number,
): string =>
  [
    ...steps.flatMap(({ step, reports }) =>
      reports.map((r) => `${step}\n${indented(renderClusterReport(r, nowMs, INNER_WIDTH))}`),
    ),
    ...warningOf(missingIndexes),
    renderFields([
      [
        'Result',
        isCut
          ? `the metadata in ${place} is not whole: index and vectors were not begun`
          : 'all of it is there',
      ],
      [
        'Next',
        isCut
          ? 'do not start Aerospike Vector Search; remove the cause and run the command again'
          : 'start Aerospike Vector Search, if that is not done; docs/avs.md says what to look at',
      ],
    ]),
  ].join('\n\n');

const warningOf = (missing: readonly string[]): string[] =>
  missing.length === 0
    ? []
    : [
        renderFields([
          [
            'Warning',
            `the metadata names ${missing.map((m) => `"${m}"`).join(', ')}, and no set of that name has records in what is restored: ` +
              'drop such an index, or restore its index data, before it is searched',
          ],
        ]),
      ];

const indented = (text: string): string =>
  text
    .split('\n')
    .map((line) => `  ${line}`)
    .join('\n');

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { clientOptionsOf, clusterPlace, parseClusterUrl } from '../engine/aerospike/client/cluster-url.ts';
import type { Rate } from '../engine/aerospike/client/rate-limit.ts';
import { PitrError } from '../engine/errors.ts';
import {
  type ClusterMode,
  CONFLICT_RULES,
  type ConflictRule,
  refusedCount,
} from '../restore/aerospike/cluster-job.ts';
import { type ClusterReport, definitionFaults } from '../restore/aerospike/cluster-report.ts';
import { explainHazard } from '../restore/aerospike/hazards.ts';
import {
  type ClusterRestoreOptions,
  planClusterRestore,
  restoreCluster,
} from '../restore/aerospike/restore-cluster.ts';
import { defaultStateDir } from '../restore/aerospike/restore-state.ts';
import type { RestoreOptions, RestoreProgress } from '../restore/restore.ts';
import { type AvsFlags, assertAvsFlags, planProfile, restoreProfile, withAvsOptions } from './avs-restore.ts';
import { parseByteSize } from './byte-size.ts';
import type { PitrCommand } from './pitr-command.ts';
import {
  clusterPlanData,
  clusterReportData,
  renderClusterPlan,
  renderClusterReport,
} from './render/cluster-restore.ts';
import { plural } from './render/restore.ts';
import { renderFields } from './render/table.ts';
import type { Session } from './session.ts';

/** Flags of `pitr restore` that are about a cluster. */
export interface ClusterFlags extends AvsFlags {
  readonly mode?: string;
  readonly conflict?: string;
  readonly state?: string;
  readonly refused?: string;
  readonly recordsPerSecond?: string;
  readonly bytesPerSecond?: string;
  readonly recheck?: boolean;
  readonly replaceDefinitions?: boolean;
}

const FLAGS: Readonly<Record<keyof ClusterFlags, string>> = {
  profile: '--profile',
  avsMeta: '--avs-meta',
  avsIndex: '--avs-index',
  avsVectors: '--avs-vectors',
  avs: '--avs',
  avsIsDown: '--avs-is-down',
  mode: '--mode',
  conflict: '--conflict',
  state: '--state',
  refused: '--refused',
  recordsPerSecond: '--records-per-second',
  bytesPerSecond: '--bytes-per-second',
  recheck: '--recheck',
  replaceDefinitions: '--replace-definitions',
};

export const withClusterOptions = (command: PitrCommand): PitrCommand =>
  withAvsOptions(
    command
      .optionsGroup('Into a cluster:')
      .choice('--mode <mode>', 'without it the target must be empty', ['exact', 'add'])
      .choice('--conflict <rule>', 'records that are there; default overwrite', CONFLICT_RULES)
      .option('--records-per-second <n>', 'at most so many')
      .option('--bytes-per-second <size>', 'at most so much, for example 20MiB')
      .option('--refused <file>', 'records that the cluster does not take (default: in the state)')
      .option('--state <dir>', 'how far it is (default: a folder in .pitr-restore)')
      .option('--replace-definitions', 'make anew indexes and modules that differ')
      .option('--recheck', 'delete again what came back since this exact restore'),
  );

/** @throws usage when a flag of a cluster goes with something else */
export const refuseClusterFlags = (flags: ClusterFlags): void => {
  for (const [name, flag] of Object.entries(FLAGS))
    if (flags[name as keyof ClusterFlags] !== undefined)
      throw new PitrError('usage', {
        what: `${flag} is for a restore into a cluster`,
        hint: 'use it with --into aerospike://HOST:PORT',
      });
};

/** Who looks on while a restore runs. */
export interface Followed {
  readonly options: Pick<RestoreOptions, 'onProgress' | 'onInexact'>;
  stop(): Promise<void>;
}

/** Restores into the cluster of `url`, or says what would be done. Returns the exit code. */
export const restoreIntoCluster = async (
  session: Session,
  url: string,
  flags: ClusterFlags & { readonly dryRun?: boolean },
  restore: RestoreOptions,
  follow: () => Promise<Followed>,
): Promise<number> => {
  const { cwd, env, stdout } = session.surroundings;
  const parsed = parseClusterUrl(url);
  const options: ClusterRestoreOptions = {
    ...restore,
    client: clientOptionsOf(parsed, env, (path) => readPem(resolve(cwd, path))),
    place: clusterPlace(parsed),
    stateDir: (wanted) =>
      flags.state === undefined ? defaultStateDir(cwd, wanted) : resolve(cwd, flags.state),
    ...(flags.mode === undefined ? {} : { mode: flags.mode as ClusterMode }),
    ...(flags.conflict === undefined ? {} : { conflict: flags.conflict as ConflictRule }),
    ...(flags.refused === undefined ? {} : { refusedFile: resolve(cwd, flags.refused) }),
    rate: rateOf(flags),
    recheck: flags.recheck ?? false,
    replaceDefinitions: flags.replaceDefinitions ?? false,
    onHazard: (hazard) => {
      const { what, hint } = explainHazard(hazard);
      session.note(renderFields([['note', `${what}; ${hint}`]]));
    },
  };
  const { profile, avsMeta, avsIndex, avsVectors, avs, avsIsDown } = flags;
  assertAvsFlags({ profile, avsMeta, avsIndex, avsVectors, avs, avsIsDown }, restore.selection ?? {});
  if (profile === 'avs') {
    if (flags.dryRun) {
      await planProfile(session, flags, options);
      return 0;
    }
    const list = await follow();
    try {
      // a bar would be of the whole archive, and these are parts of it
      const { onInexact } = list.options;
      const all = await restoreProfile(session, flags, { ...options, ...(onInexact ? { onInexact } : {}) });
      return endOf(
        session,
        all.steps.flatMap((s) => s.reports),
      );
    } finally {
      await list.stop();
    }
  }
  if (flags.dryRun) {
    const looked = await planClusterRestore(options);
    session.emit(clusterPlanData(looked, options.place), () =>
      renderClusterPlan(looked, options.place, session.clock.nowMs()),
    );
    return 0;
  }
  const followed = await follow();
  let report: ClusterReport;
  let last: RestoreProgress | undefined;
  const onProgress = (progress: RestoreProgress): void => {
    last = progress;
    followed.options.onProgress?.(progress);
  };
  try {
    report = await restoreCluster({ ...options, ...followed.options, onProgress });
  } catch (error) {
    if (last) session.note(renderFields([['note', partInWords(last)]]));
    throw error;
  } finally {
    await followed.stop();
  }
  session.emit(clusterReportData(report), () => renderClusterReport(report, session.clock.nowMs()), stdout);
  return endOf(session, [report]);
};

const partInWords = ({ doneRanges, ranges }: RestoreProgress): string =>
  `the target may be restored in part: ${doneRanges} of ${plural(ranges, 'range')} are done; the same command goes on`;

/** Any loss makes it non-zero. */
const endOf = (session: Session, reports: readonly ClusterReport[]): number => {
  const losses = reports.map(lossOf).filter((loss) => loss !== undefined);
  for (const { hint } of losses) session.note(renderFields([['hint', hint]]));
  return losses[0]?.exitCode ?? 0;
};

/** What the report has lost, as the error that it would be: its exit code and what to do next. */
const lossOf = (report: ClusterReport): PitrError | undefined => {
  const count = refusedCount(report.tally);
  const { refused } = report.tally;
  if (count > 0)
    return new PitrError('records-refused', {
      count,
      causes: Object.keys(refused).join(', '),
      file: report.refusedFile,
    });
  const faults = definitionFaults(report);
  if (faults.length === 0) return undefined;
  return new PitrError('definitions-refused', { what: faults.map((f) => `${f.what} ${f.name}`).join(', ') });
};

const rateOf = ({ recordsPerSecond, bytesPerSecond }: ClusterFlags): Rate => {
  if (recordsPerSecond !== undefined && !/^[1-9]\d{0,8}$/.test(recordsPerSecond))
    throw new PitrError('usage', {
      what: `--records-per-second ${recordsPerSecond} is not a number from 1 on`,
      hint: 'for example --records-per-second 50000',
    });
  return {
    ...(recordsPerSecond === undefined ? {} : { recordsPerSecond: Number(recordsPerSecond) }),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond: parseByteSize(bytesPerSecond) }),
  };
};

const readPem = (path: string): Buffer => {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new PitrError(
      'io',
      { op: 'open', path, why: (cause as NodeJS.ErrnoException).code ?? `${cause}` },
      { cause },
    );
  }
};

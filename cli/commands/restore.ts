import * as fs from 'node:fs/promises';
import { relative, resolve } from 'node:path';
import { isClusterUrl } from '../../engine/aerospike/client/cluster-url.ts';
import { PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { resolveKey } from '../../engine/record-key.ts';
import {
  planRestore,
  type RestoreOptions,
  type RestorePlan,
  type RestoreReport,
  restoreEngine,
  restoreJsonLines,
} from '../../restore/restore.ts';
import { isPartial, parseRenames, type Selection } from '../../restore/selection.ts';
import {
  type ClusterFlags,
  type Followed,
  refuseClusterFlags,
  restoreIntoCluster,
  withClusterOptions,
} from '../cluster-restore.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { chooseTimeline, openPlaces } from '../places.ts';
import { parseDigest, parseRecordAddress } from '../record-address.ts';
import { planData, renderPlan, renderReport, reportData } from '../render/restore.ts';
import { formatCount } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

/** Below this many versions worker threads take longer to start than the work. */
const WORKERS_FROM_VERSIONS = 100_000;

interface RestoreFlags extends ClusterFlags {
  readonly to?: string;
  readonly into?: string;
  readonly jsonLines?: boolean;
  readonly dryRun?: boolean;
  readonly timeline?: string;
  readonly stream?: string;
  readonly workers?: string;
  readonly verify: boolean;
  readonly namespace?: readonly string[];
  readonly set?: readonly string[];
  readonly bin?: readonly string[];
  readonly partitions?: string;
  readonly key?: readonly string[];
  readonly digest?: readonly string[];
  readonly renameNamespace?: readonly string[];
  readonly renameSet?: readonly string[];
  readonly strict?: boolean;
  readonly inexact?: string;
}

export function registerRestore(program: PitrCommand, runner: Runner): void {
  const command = program
    .command('restore')
    .about(
      'restore an instant into a new engine, or as JSON lines',
      'Restores the state at an instant into a new engine directory, or as JSON lines on stdout. Plans first, never ' +
        'overwrites, reads the target back and compares it with what the source stated about itself. A restored engine ' +
        'goes on as a new timeline; the old one stays restorable. The same command goes on with an interrupted restore.',
    )
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .optionsGroup('What:')
    .option('--archive <url>', 'archive to restore from')
    .option('--to <target>', 'the instant: a time, -10m, mark:NAME, lsn:STREAM/N or latest')
    .option('--timeline <id>', 'history to restore (default: that of the directories, or the newest)')
    .option('--dry-run', 'plan and say what would be done; change nothing')
    .optionsGroup('Where to:')
    .option('--into <target>', 'engine:DIR (absent, empty or begun) or aerospike://HOST:PORT')
    .option('--json-lines', 'one JSON object a record on stdout; the report goes to stderr')
    .option('--stream <name>', 'stream name of the restored engine (default: main)')
    .optionsGroup('Which records:')
    .option('--namespace <names...>', 'only these namespaces')
    .option('--set <names...>', 'only these sets')
    .option('--bin <names...>', 'only these bins, and records that have one of them')
    .option('--partitions <ranges>', 'only these, for example 0-1365,4000')
    .option('--key <keys...>', 'only these records: NS/SET/KEY as for pitr get')
    .option('--digest <hex...>', 'only records with these digests')
    .optionsGroup('How:')
    .option('--rename-namespace <old=new...>', 'restore a namespace under another name')
    .option('--rename-set <old=new...>', 'restore a set under another name')
    .choice('--ttl <mode>', 'time to live; default remaining', ['remaining', 'absolute', 'never'])
    .option('--workers <n>', 'worker threads (default: one a processor)')
    .option('--no-verify', 'do not read the target back')
    .option('--strict', 'refuse when it is not certain that a record is what the source had')
    .option('--inexact <file>', 'write which records those are, one JSON object a line');
  withClusterOptions(command)
    .optionsGroup('Options:')
    .examples(
      ['pitr restore --archive file:/backup/db --to latest --into engine:data2', 'everything archived'],
      ['pitr restore data --to 2026-11-21T10:00:00Z --into data-at-ten --dry-run', 'what would happen?'],
      ['pitr restore data --to mark:before --json-lines --set users > users.jsonl', 'some of it'],
      [
        'pitr restore shop --to -10m --into aerospike://db:3000 --mode exact',
        'a cluster as it was ten minutes ago, what came since deleted',
      ],
      ['pitr restore data --to -1h --into old --key shop/users/42 shop/users/43', 'two records'],
    )
    .action(
      runner.action(
        async (session, args: readonly string[], flags: RestoreFlags) => {
          const to = checkedTarget(flags);
          const selection = selectionOf(flags);
          const places = await openPlaces(session, args);
          const { archive } = places;
          const timeline = await chooseTimeline(session, places, flags.timeline);
          const options: RestoreOptions = {
            archive,
            target: to,
            selection,
            ttl: session.config.ttl,
            workers: session.config.workers,
            verify: flags.verify,
            clock: session.clock,
            strict: flags.strict === true,
            ...(timeline === undefined ? {} : { timeline }),
          };
          const { plan } = await planRestore(options);
          const few = session.origins.workers === 'default' && plan.state.versions < WORKERS_FROM_VERSIONS;
          const sized = few ? { ...options, workers: 0 } : options;
          if (flags.into !== undefined && isClusterUrl(flags.into))
            return restoreIntoCluster(session, flags.into, flags, sized, () =>
              following(session, plan, flags),
            );
          refuseClusterFlags(flags);
          const into = flags.into === undefined ? undefined : directoryOf(flags.into);
          if (flags.dryRun) {
            if (into !== undefined) await refuseFull(into);
            session.emit(planData(plan, archive.url, into), () =>
              renderPlan(plan, archive.url, session.clock.nowMs()),
            );
            return 0;
          }
          await restore(session, plan, flags, into, sized);
          return 0;
        },
        { ownsStdout: (_args, flags) => flags.jsonLines === true },
      ),
    );
}

/** The recovery target as it was written. @throws usage */
const checkedTarget = ({ to, into, jsonLines, dryRun, stream }: RestoreFlags): string => {
  const refuse = (what: string, hint: string): never => {
    throw new PitrError('usage', { what, hint });
  };
  if (to === undefined)
    return refuse(
      'restore needs an instant',
      'use --to with a time, -10m, mark:NAME, lsn:STREAM/N or latest',
    );
  if (into !== undefined && jsonLines)
    refuse('--into and --json-lines exclude each other', 'restore twice, or choose one');
  if (into === undefined && !jsonLines && !dryRun)
    refuse(
      'restore has no target',
      'use --into engine:DIR or aerospike://HOST:PORT, --json-lines, or --dry-run to look first',
    );
  if (stream !== undefined && (jsonLines || (into !== undefined && isClusterUrl(into))))
    refuse('--stream is for a restored engine', 'leave it out');
  return to;
};

const directoryOf = (target: string): string => {
  const [, scheme, rest = ''] = /^([a-z][a-z0-9+.-]*):(.*)$/i.exec(target) ?? [];
  const dir = scheme === undefined ? target : rest;
  if ((scheme !== undefined && scheme !== 'engine') || dir === '')
    throw new PitrError('usage', {
      what: `cannot restore into "${target}"`,
      hint: 'write engine:DIR, a directory, aerospike://HOST:PORT, or use --json-lines',
    });
  return dir;
};

/** @throws target-not-empty, as the restore itself would */
const refuseFull = async (dir: string): Promise<void> => {
  const names = await fs.readdir(dir).catch((): string[] => []);
  // what an interrupted restore left may be one of this target; only the restore itself can tell
  if (names.length > 0 && !names.includes('restoring.json')) throw new PitrError('target-not-empty', { dir });
};

const selectionOf = (flags: RestoreFlags): Selection => {
  const keys = (flags.key ?? []).map(parseRecordAddress);
  const keyNamespaces = new Set(keys.map((k) => k.namespace));
  if (keyNamespaces.size > 1)
    throw new PitrError('usage', {
      what: `--key names records of several namespaces: ${[...keyNamespaces].join(', ')}`,
      hint: 'a digest does not say its namespace: restore one namespace at a time',
    });
  const [keyNamespace] = keyNamespaces;
  if (keyNamespace !== undefined && flags.namespace && !flags.namespace.includes(keyNamespace))
    throw new PitrError('usage', {
      what: `--key is in namespace ${keyNamespace}, which --namespace leaves out`,
      hint: 'leave --namespace out',
    });
  const namespaces = keyNamespace === undefined ? flags.namespace : [keyNamespace];
  const digests = [
    ...keys.map((k) => resolveKey(k).digest.toString('hex')),
    ...(flags.digest ?? []).map((d) => parseDigest(d).toString('hex')),
  ];
  const { set: sets, bin: bins, partitions, renameNamespace, renameSet } = flags;
  return {
    ...(namespaces ? { namespaces } : {}),
    ...(sets ? { sets } : {}),
    ...(bins ? { bins } : {}),
    ...(partitions === undefined ? {} : { partitions: PartitionSet.parse(partitions).toString() }),
    ...(digests.length > 0 ? { digests } : {}),
    ...(renameNamespace ? { renameNamespaces: parseRenames(renameNamespace) } : {}),
    ...(renameSet ? { renameSets: parseRenames(renameSet) } : {}),
  };
};

const restore = async (
  session: Session,
  plan: RestorePlan,
  flags: RestoreFlags,
  into: string | undefined,
  options: RestoreOptions,
): Promise<void> => {
  const { stdout, stderr } = session.surroundings;
  const followed = await following(session, plan, flags);
  const follow: RestoreOptions = { ...options, ...followed.options };
  let report: RestoreReport;
  try {
    report =
      into === undefined
        ? await restoreJsonLines((chunk) => written(stdout, chunk), follow)
        : await restoreEngine(into, flags.stream, follow);
  } finally {
    await followed.stop();
  }
  const target = into === undefined ? undefined : { dir: resolve(into), shown: relative('', resolve(into)) };
  session.emit(
    reportData(report, target?.dir),
    () =>
      renderReport(
        report,
        { into: target?.shown, isPartial: isPartial(plan.selection) },
        session.clock.nowMs(),
      ),
    into === undefined ? (session.quiet ? nowhere : stderr) : stdout,
  );
};

/** A progress bar for a plan, and the list of what is inexact. */
const following = async (
  session: Session,
  plan: RestorePlan,
  { inexact }: RestoreFlags,
): Promise<Followed> => {
  const list = inexact === undefined ? undefined : await openList(inexact);
  const progress = session.progress();
  return {
    options: {
      onProgress: progressOf(progress, plan),
      ...(list ? { onInexact: async (lines) => void (await list.appendFile(lines)) } : {}),
    },
    stop: async () => {
      progress.stop();
      await list?.close();
    },
  };
};

/** Empty when nothing is inexact: a list of an earlier restore must not stay. */
const openList = (path: string): Promise<fs.FileHandle> =>
  fs.open(path, 'w').catch((cause) => {
    throw new PitrError('io', { op: 'open', path, why: cause.code }, { cause });
  });

const nowhere = { write: (): boolean => true };

/** The number of records is known beforehand only when all of them are wanted; otherwise ranges are counted. */
const progressOf = (
  progress: ReturnType<Session['progress']>,
  { state, partial }: RestorePlan,
): NonNullable<RestoreOptions['onProgress']> => {
  const expected = 'missing' in state.source ? 0 : state.source.digests.reduce((n, d) => n + d.records, 0);
  const countsRecords = !partial && expected > 0;
  let phase = '';
  return (p) => {
    if (p.phase !== phase)
      progress.start(countsRecords ? expected : p.ranges, p.phase === 'merge' ? 'restore' : p.phase);
    phase = p.phase;
    if (countsRecords) progress.update(p.records);
    else progress.update(p.doneRanges, `${formatCount(p.records)} records`);
  };
};

/** Waits for a slow reader, so that what it has not read yet does not pile up here. */
const written = (stream: NodeJS.WritableStream, chunk: Buffer): Promise<void> =>
  new Promise((done, reject) => {
    if (stream.write(chunk)) return done();
    const drained = (): void => {
      stream.off('error', reject);
      done();
    };
    stream.once('drain', drained).once('error', reject);
  });

import { setTimeout as sleep } from 'node:timers/promises';
import { isPitrError, isStorageError, PitrError } from '../../engine/errors.ts';
import { parseDuration } from '../duration.ts';
import { STATUS_METRICS } from '../metrics/metric-table.ts';
import { Metrics } from '../metrics/metrics.ts';
import { tellBuild } from '../metrics/process-metrics.ts';
import { tellStatus } from '../metrics/status-metrics.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { openPlaces, readEngineDirs, timelineOfDirs } from '../places.ts';
import { renderStatus } from '../render/status.ts';
import type { Runner, Session } from '../session.ts';
import { readAwayStatus, readStatus, type Status } from '../status.ts';

/** Exit code of a status that was read and is not green. */
const EXIT_NOT_GREEN = 7;
const WATCH_MS = 2000;
const CLEAR_SCREEN = '\x1b[H\x1b[2J';

interface StatusFlags {
  readonly maxLag?: string;
  readonly timeline?: string;
  readonly watch?: boolean;
  readonly metrics?: boolean;
}

/** An archive that cannot be read is a status too, when there are directories that say the rest. */
const look = async (
  session: Session,
  args: readonly string[],
  maxLagMs: number | undefined,
  named: string | undefined,
): Promise<Status> => {
  try {
    const { archive, dirs } = await openPlaces(session, args);
    const timeline = named ?? timelineOfDirs(dirs);
    return await readStatus(archive, {
      dirs,
      ...(maxLagMs === undefined ? {} : { maxLagMs }),
      ...(timeline === undefined ? {} : { timeline }),
    });
  } catch (error) {
    if (args.length === 0 || !(isPitrError(error, 'archive-not-found') || isStorageError(error))) throw error;
    const dirs = await readEngineDirs(args);
    if (!dirs.every((d) => d.identity.archive)) throw error;
    return readAwayStatus(dirs, error as PitrError, session.clock.nowMs());
  }
};

/** The status as Prometheus text; also of an archive that cannot be read and of which no directory says anything. */
const tellOnce = async (
  session: Session,
  read: () => Promise<Status>,
  { watch }: StatusFlags,
): Promise<number> => {
  if (watch || session.json)
    throw new PitrError('usage', {
      what: `--metrics is a form of its own, not with ${watch ? '--watch' : '--json'}`,
      hint: 'a collector asks again by itself; pitr agent --metrics-port answers it',
    });
  const metrics = await Metrics.create(STATUS_METRICS);
  tellBuild(metrics);
  let failure: unknown;
  const status = await read().catch((error) => {
    failure = error;
    return undefined;
  });
  if (status) tellStatus(metrics, status);
  else if (isPitrError(failure, 'archive-not-found') || isStorageError(failure))
    metrics.set('pitr_up', {}, false);
  else throw failure;
  const text = await metrics.text();
  session.emit({}, () => text);
  if (!status) throw failure;
  return status.green ? 0 : EXIT_NOT_GREEN;
};

export function registerStatus(program: PitrCommand, runner: Runner): void {
  program
    .command('status')
    .about(
      'what can be restored, and how far behind the archive is',
      'Shows what can be restored, how far the archive is behind the clock and which stream holds it up; for every ' +
        'stream its frontier, size and gaps, and, for engine directories named here, the log that waits. Exits with 0 when ' +
        `all is well, and with ${EXIT_NOT_GREEN} when the archive is further behind than --max-lag or has holes, cannot be ` +
        'reached, or when a log is at its quota.',
    )
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'history to show (default: that of the directories, or the newest)')
    .option(
      '--max-lag <duration>',
      "how far behind is still well (default: 10s, or thrice the agents' --seal)",
    )
    .option('--metrics', 'as text for Prometheus: docs/metrics.md')
    .option('--watch', 'show it again every 2 seconds until interrupted; with --json a line each')
    .examples(
      ['pitr status data', 'the archive of an engine, and its own log'],
      ['pitr status --archive file:/backup/db --watch', 'keep an eye on it'],
      ['pitr status data --max-lag 1m --json || alert', 'in a check'],
      ['pitr status data --metrics', "for the textfile collector of Prometheus' node exporter"],
    )
    .action(
      runner.action(
        async (session, args: readonly string[], flags: StatusFlags) => {
          const maxLagMs = flags.maxLag === undefined ? undefined : parseDuration(flags.maxLag);
          const { stdout } = session.surroundings;
          if (flags.metrics)
            return tellOnce(session, () => look(session, args, maxLagMs, flags.timeline), flags);
          for (;;) {
            const status = await look(session, args, maxLagMs, flags.timeline);
            const clear = flags.watch && stdout.isTTY && !session.json ? CLEAR_SCREEN : '';
            session.emit(status, () => clear + renderStatus(status) + (flags.watch && !clear ? '\n' : ''));
            const exitCode = status.green ? 0 : EXIT_NOT_GREEN;
            if (!flags.watch) return exitCode;
            await sleep(WATCH_MS, undefined, { signal: session.stop }).catch(() => undefined);
            if (session.stop.aborted) return exitCode;
          }
        },
        { heedsStop: true },
      ),
    );
}

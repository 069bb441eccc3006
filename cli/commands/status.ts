import { setTimeout as sleep } from 'node:timers/promises';
import { isPitrError, isStorageError, PitrError } from '../../engine/errors.ts';
import { parseDuration } from '../duration.ts';
import { STATUS_METRICS } from '../metrics/metric-table.ts';
import { Metrics } from '../metrics/metrics.ts';
import { tellBuild } from '../metrics/process-metrics.ts';
import { tellStatus } from '../metrics/status-metrics.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { archiveUrl, openPlaces, readEngineDirs, timelineOfDirs } from '../places.ts';
import { Screen } from '../render/screen.ts';
import { renderStatus } from '../render/status.ts';
import { formatIso } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';
import { readAwayStatus, readStatus, type Status } from '../status.ts';

/** Exit code of a status that was read and is not green. */
const EXIT_NOT_GREEN = 7;
const WATCH_MS = 2000;

interface StatusFlags {
  readonly maxLag?: string;
  readonly timeline?: string;
  readonly watch?: boolean;
  readonly metrics?: boolean;
}

/**
 * An archive that cannot be read is a status too, when there are directories that say the rest, and for somebody who watches:
 * it may come back.
 */
const look = async (
  session: Session,
  args: readonly string[],
  maxLagMs: number | undefined,
  { timeline: named, watch }: StatusFlags,
): Promise<Status> => {
  try {
    const { archive, dirs } = await openPlaces(session, args);
    const timeline = named ?? timelineOfDirs(dirs);
    const { windowMs } = session.config;
    const status = await readStatus(archive, { dirs, maxLagMs, windowMs, timeline });
    // a directory may be of a timeline that is not there yet; one that somebody names is there or a mistake
    const known = status.timelines.map((t) => t.id);
    if (named !== undefined && !known.includes(named))
      throw new PitrError('timeline-unknown', { timeline: named, known: known.join(', ') || 'none' });
    return status;
  } catch (error) {
    if (!(isPitrError(error, 'archive-not-found') || isStorageError(error))) throw error;
    if (args.length === 0 && !watch) throw error;
    const dirs = await readEngineDirs(args);
    if (!dirs.every((d) => d.identity.archive)) throw error;
    const url = archiveUrl(session, dirs, args.length > 0);
    return readAwayStatus(dirs, error as PitrError, session.clock.nowMs(), url);
  }
};

/**
 * Looks again and again until the process is asked to stop. Returns the exit code of the last look.
 * @throws interrupted when there was none yet
 */
const watch = async (session: Session, lookOnce: () => Promise<Status>): Promise<number> => {
  const { stdout } = session.surroundings;
  const screen = stdout.isTTY && !session.json ? new Screen(stdout) : undefined;
  // a look at an archive that does not answer takes long, and Ctrl-C must not wait for it
  const stopped = new Promise<undefined>((resolve) => {
    session.stop.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  let exitCode: number | undefined;
  try {
    while (!session.stop.aborted) {
      const status = await Promise.race([lookOnce(), stopped]);
      if (status === undefined) break;
      exitCode = exitCodeOf(status);
      const shownAt = `${formatIso(status.nowMs)}, every ${WATCH_MS / 1000} s until Ctrl-C`;
      if (screen) screen.draw(`${shownAt}\n\n${renderStatus(status, 'first')}`);
      else session.emit(status, () => `${renderStatus(status)}\n\n`);
      await sleep(WATCH_MS, undefined, { signal: session.stop }).catch(() => undefined);
    }
  } finally {
    screen?.end();
  }
  if (exitCode === undefined) throw new PitrError('interrupted', { what: 'pitr status' });
  return exitCode;
};

const exitCodeOf = (status: Status): number => (status.green ? 0 : EXIT_NOT_GREEN);

/** The status as Prometheus text; also of an archive that cannot be read and of which no directory says anything. */
const tellOnce = async (
  session: Session,
  read: () => Promise<Status>,
  { watch: isWatched }: StatusFlags,
): Promise<number> => {
  if (isWatched || session.json)
    throw new PitrError('usage', {
      what: `--metrics is a form of its own, not with ${isWatched ? '--watch' : '--json'}`,
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
  return exitCodeOf(status);
};

export function registerStatus(program: PitrCommand, runner: Runner): void {
  program
    .command('status')
    .about(
      'what can be restored, and how far behind the archive is',
      'Shows what can be restored, how far the archive is behind the clock and which stream holds it up, the window without ' +
        'a hole, the holes, the last snapshot and the last verification; for every stream its frontier, size and gaps, and, ' +
        'for engine directories named here, the log that waits. Exits with 0 when all is well, and with ' +
        `${EXIT_NOT_GREEN} when a stream is further behind than --max-lag, a hole is not acknowledged or nothing after it can ` +
        'be restored, the window is shorter than wanted, the last verification failed, the archive cannot be reached, or a ' +
        'log is at its quota.',
    )
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'history to show (default: that of the directories, or the newest)')
    .option(
      '--max-lag <duration>',
      "how far behind is still well (default: 10s, or thrice the agents' --seal)",
    )
    .option('--window <duration>', 'how far back instants shall be restorable without a hole, such as 7d')
    .option('--metrics', 'as text for Prometheus: docs/metrics.md')
    .option('--watch', 'show it again every 2 seconds until interrupted; with --json a line each')
    .examples(
      ['pitr status data', 'the archive of an engine, and its own log'],
      ['pitr status --archive file:/backup/db --watch', 'keep an eye on it'],
      ['pitr status data --max-lag 1m --window 7d --json || alert', 'in a check'],
      ['pitr status data --metrics', "for the textfile collector of Prometheus' node exporter"],
    )
    .action(
      runner.action(
        async (session, args: readonly string[], flags: StatusFlags) => {
          const maxLagMs = flags.maxLag === undefined ? undefined : parseDuration(flags.maxLag);
          const lookOnce = (): Promise<Status> => look(session, args, maxLagMs, flags);
          if (flags.metrics) return tellOnce(session, lookOnce, flags);
          if (flags.watch) return watch(session, lookOnce);
          const status = await lookOnce();
          session.emit(status, () => renderStatus(status));
          return exitCodeOf(status);
        },
        { heedsStop: true },
      ),
    );
}

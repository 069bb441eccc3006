import { resolve } from 'node:path';
import { isPitrError } from '../../engine/errors.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { fullCopyEnds } from '../../snapshot/borders.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Sweeper } from '../../snapshot/sweep.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { readSource } from '../../wal/capture/capture-dir.ts';
import { writeAmplification } from '../../wal/catalog.ts';
import type { CaptureEvents } from '../capture/capture-run.ts';
import { initSource, type OpenCapture, openCapture } from '../capture/open-capture.ts';
import { assertSourceFlags, type SourceFlags, withSourceOptions } from '../capture/source-options.ts';
import type { AgentMetrics } from '../metrics/agent-metrics.ts';
import { serveMetrics, withMetricsOptions } from '../metrics/metrics-options.ts';
import { archiveOptionsOf } from '../object-storage.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { requireEngineDirs } from '../places.ts';
import { formatIso } from '../render/units.ts';
import { cronRuns, Schedule } from '../schedule.ts';
import type { Runner, Session } from '../session.ts';
import { keepSpoolSettings, withSpoolOptions } from '../spool.ts';

/** How often the agent looks whether a base copy is due. */
const ANCHOR_MS = 5000;
/** How often an archiver ships what a capture has sealed, unless somebody has set it. */
const CAPTURE_SEAL_MS = 100;
/** Polls that are further apart set the pace of shipping, too. */
const SELDOM_MS = 2000;
/** How often a copy says how far it is. */
const COPY_SAID_MS = 5000;

export const registerAgent = (program: PitrCommand, runner: Runner): void => {
  withSourceOptions(withMetricsOptions(withSpoolOptions(program.command('agent'))))
    .about(
      'archive engine directories, or capture a cluster, continuously',
      'The continuous archiving agent of one or more directories. From a live Aerospike cluster (--source) it captures what changes into ' +
        'a directory: a copy of everything first, then a poll a second, deletes included. Of engines, and of what it has captured, it ships every sealed log file to the archive, states the ' +
        'frontier, merges small runs into larger ones, takes snapshots on a schedule, and recovers the log of a writer that died. ' +
        'Each stream has one agent; a second one is refused. SIGTERM ends it cleanly. It logs to stderr. With --metrics-port it tells ' +
        'Prometheus how it is doing: docs/metrics.md.',
    )
    .argument('[dir...]', 'engine directories (default: dirs of the configuration)')
    .option(
      '--snapshot-cron <pattern>',
      'take a snapshot on this schedule, for example "0 * * * *"; one at a time',
    )
    .option('--snapshot-kind <kind>', 'full or incremental (default: incremental)')
    .option('--snapshot-label <label>', "start of the snapshots' labels; the time follows")
    .option(
      '--seal <duration>',
      'ship at most this often, so that there are fewer requests; what a lost machine may lose (default: 1s)',
    )
    .option('--compact-fanout <n>', 'how many runs of one level become one of the next (default: 8)')
    .option(
      '--sweep-margin <duration>',
      'how long what nothing names stays before it is deleted, or off (default: 24h)',
    )
    .option('--sweep-every <duration>', 'how often the agent looks for it (default: 1h)')
    .option('--once', 'archive what there is now, then stop')
    .examples(
      ['pitr agent data', 'archive one engine'],
      [
        'pitr agent --source aerospike://10.0.0.1 --archive s3://backup/shop shop',
        'capture a cluster; the next time: pitr agent shop',
      ],
      ['pitr agent shard-a shard-b --snapshot-cron "0 * * * *"', 'two streams, a snapshot every hour'],
      ['pitr agent data --metrics-port 9464', 'and http://127.0.0.1:9464/metrics tells how it goes'],
      ['pitr agent data --seal 10s', 'a tenth of the requests; see pitr chain --cost'],
      ['pitr agent data --once --json', 'ship what is waiting and say what it was'],
    )
    .action(runner.action(runAgent, { heedsStop: true }));
};

const runAgent = async (
  session: Session,
  args: string[],
  options: SourceFlags & { once?: boolean },
): Promise<number> => {
  assertSourceFlags(options, args);
  if (options.source !== undefined) await initSource(session, args[0]!, options);
  const dirs = await requireEngineDirs(session, args);
  const { log } = session;
  let versions = 0;
  let failures = 0;
  const onEvent = (event: ArchiverEvent, timeline: string): void => {
    served?.metrics.heard(event, timeline);
    if (event.kind === 'archived') versions += event.versions;
    if (event.kind === 'error') failures++;
    if (event.kind === 'error' && isPitrError(event.error, 'fenced')) fenced.abort();
    logEvent(session, event);
  };
  const archivers: Archiver[] = [];
  const captures: OpenCapture[] = [];
  const captured = new Map<Archiver, OpenCapture>();
  const fenced = new AbortController();
  /** A capture whose log takes nothing more: only starting anew helps. */
  const broken = new AbortController();
  const close = async (): Promise<void> => {
    await Promise.all(captures.map((c) => c.close()));
    await Promise.all(archivers.map((a) => a.close()));
    await served?.close();
  };
  // before any stream is taken over: who cannot listen has changed nothing
  const served = options.once ? undefined : await serveMetrics(session);
  try {
    for (const { dir } of dirs) await keepSpoolSettings(session, dir);
    for (const { dir } of dirs) {
      const archiver = await openArchiver(session, resolve(dir), onEvent, served?.metrics);
      archivers.push(archiver);
      if (!(await readSource(dir))) continue;
      const { stream, timeline } = archiver.identity;
      const events = captureEvents(session, stream, timeline, served?.metrics, () => failures++);
      const capture = await openCapture(session, archiver, options, events);
      captures.push(capture);
      captured.set(archiver, capture);
    }
    const engines = archivers.filter((a) => !captured.has(a));
    if (options.once) {
      for (const archiver of archivers) {
        await captured.get(archiver)?.run.once();
        await archiver.round();
        if (!captured.has(archiver)) await anchorIfNeeded(archiver);
        await sweeperOf(session, archiver)?.sweep();
      }
    } else {
      for (const archiver of archivers) archiver.start();
      const running = captures.map(({ run }) => run.run().catch((error) => broken.abort(error)));
      served?.metrics.watch(archivers);
      log.info(
        { streams: archivers.map((a) => a.identity.stream).join(','), archive: archivers[0].archive.url },
        'archiving',
      );
      const schedules = snapshots(session, archivers, served?.metrics);
      let anchoring: Promise<unknown> | undefined;
      const timer = setInterval(() => {
        anchoring ??= Promise.all(engines.map((a) => anchor(session, a, served?.metrics))).finally(() => {
          anchoring = undefined;
        });
      }, ANCHOR_MS);
      const sweeps = archivers.flatMap((a) => startSweeps(session, a, served?.metrics) ?? []);
      await stopped(session.stop, fenced.signal, broken.signal);
      for (const { run } of captures) run.stop();
      await Promise.all(running);
      clearInterval(timer);
      await Promise.all(sweeps.map((s) => s.stop()));
      await anchoring;
      await Promise.all(schedules.map((s) => s.stop()));
      log.info('stopping: shipping what is sealed');
      for (const archiver of archivers.filter((a) => !a.fenced))
        await archiver.finish().catch((error) => {
          if (error === archiver.fenced) return;
          failures++;
          const facts = {
            stream: archiver.identity.stream,
            error: String((error as Error).message ?? error),
          };
          log.error(facts, 'stopping without what is sealed: it waits in the log');
        });
    }
  } finally {
    await close();
  }
  if (broken.signal.aborted) throw broken.signal.reason;
  // whoever supervises the agent must see that this stream is somebody else's now
  const lost = archivers.find((a) => a.fenced)?.fenced;
  if (lost) throw lost;
  const streams = archivers.map(({ identity, head }) => ({
    stream: identity.stream,
    generation: head.generation,
    lsn: head.frontier.lsn,
    frontier: formatIso(head.frontier.ts),
    runs: head.runs.length,
    writeAmplification: writeAmplification(head.written),
  }));
  session.emit({ streams, versions, failures }, () =>
    streams
      .map((s, i) =>
        // a base copy that was not finished has stated none
        archivers[i].head.frontier.ts === 0
          ? `${s.stream}: nothing can be restored yet`
          : `${s.stream}: archived to LSN ${s.lsn}, frontier ${s.frontier}, ${s.runs} runs`,
      )
      .join('\n'),
  );
  return 0;
};

/** An archiver that merges nothing across the end of a full copy. */
const openArchiver = async (
  session: Session,
  dir: string,
  onEvent: (event: ArchiverEvent, timeline: string) => void,
  metrics: AgentMetrics | undefined,
): Promise<Archiver> => {
  const { sealMs, compact, capture } = session.config;
  const source = await readSource(dir);
  const isCapture = source !== undefined;
  // what is polled seldom is behind by that without anybody being late: `status` goes by what the head says
  const isSeldom = source?.kind === 'aerospike' && capture.poll > SELDOM_MS;
  const captureSealMs = isSeldom ? capture.poll : CAPTURE_SEAL_MS;
  const archiver: Archiver = await Archiver.open(dir, {
    ...(await archiveOptionsOf(session, dir)),
    // what a killed capture left is recovered by the next one, which is in this process
    ...(isCapture ? { adopt: false } : {}),
    // a capture seals once a poll: what it has sealed need not wait for more
    fanout: compact.fanout,
    sealMs: isCapture && session.origins.seal === 'default' ? captureSealMs : sealMs,
    ...(metrics ? { observe: metrics.observe } : {}),
    onEvent: (event) => onEvent(event, archiver.identity.timeline),
    borders: () => fullCopyEnds(archiver.archive, archiver.identity.timeline),
  });
  return archiver;
};

/** What a capture tells, into log and metrics. */
const captureEvents = (
  { log }: Session,
  stream: string,
  timeline: string,
  metrics: AgentMetrics | undefined,
  onFailure: () => void,
): CaptureEvents => {
  let saidMs = 0;
  /** Polls in a row that stated nothing. */
  let waits = 0;
  return {
    copying: (clockMs) => log.info({ stream, from: formatIso(clockMs) }, 'copying everything that is there'),
    copied: (records, expected) => {
      const nowMs = performance.now();
      if (nowMs - saidMs < COPY_SAID_MS) return;
      saidMs = nowMs;
      log.info({ stream, records, expected }, 'copying');
    },
    copyAgain: (why) => log.warn({ stream, why }, 'the copy is made anew'),
    gap: () => log.error({ stream }, 'the log has a gap: everything is copied again'),
    baseCopy: (snapshot, records) => {
      metrics?.succeeded('base_copy', { stream, timeline });
      log.info(
        { stream, snapshot, records },
        'base copy taken: from its end on every instant can be restored',
      );
    },
    polled: (report) => {
      const { waitsFor, doubts, versions, deleted, late, missed, elapsedMs, truncations } = report;
      const facts = { stream, versions, deleted, late, missed, ms: Math.round(elapsedMs) };
      // what is over with the next poll is nothing to tell of
      waits = waitsFor.length > 0 ? waits + 1 : 0;
      if (doubts.length > 0 || waits > 1)
        log.warn(
          { ...facts, why: [...waitsFor, ...doubts].join('; ') },
          'the cluster has changed: compared, or waiting',
        );
      else if (truncations > 0) log.info({ ...facts, truncations }, 'truncated');
      else log.debug(facts, 'polled');
    },
    failed: (error) => {
      onFailure();
      metrics?.failed(error, { stream, timeline });
      log.error(
        { stream, error: String((error as Error).message ?? error) },
        'capturing failed; trying again',
      );
    },
  };
};

const stopped = (...signals: AbortSignal[]): Promise<void> =>
  new Promise((resolve) => {
    // a pending promise alone does not keep a process alive; watchers and timers do
    for (const signal of signals) {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });

const anchor = async (
  { log }: Session,
  archiver: Archiver,
  metrics: AgentMetrics | undefined,
): Promise<void> => {
  const { stream, timeline } = archiver.identity;
  try {
    // what holds up the archiver would hold up a base copy too, and is said already
    const base = archiver.fenced || archiver.outage ? undefined : await anchorIfNeeded(archiver);
    if (!base) return;
    metrics?.succeeded('base_copy', { stream, timeline });
    log.info({ stream, snapshot: base.id }, 'base copy taken');
  } catch (error) {
    metrics?.failed(error, { stream, timeline });
    log.error({ stream, error: String((error as Error).message ?? error) }, 'base copy failed');
  }
};

const sweeperOf = ({ config }: Session, archiver: Archiver): Sweeper | undefined => {
  const { margin, every } = config.sweep;
  return margin === 'off' ? undefined : new Sweeper(archiver, { marginMs: margin, everyMs: every });
};

/** Sweeps at once, if the last one was long enough ago, and then again and again. */
const startSweeps = (
  session: Session,
  archiver: Archiver,
  metrics: AgentMetrics | undefined,
): { stop(): Promise<void> } | undefined => {
  const sweeper = sweeperOf(session, archiver);
  if (!sweeper) return undefined;
  const { stream, timeline } = archiver.identity;
  let running: Promise<void> | undefined;
  const sweep = (): void => {
    // what holds up the archiver holds up this, too, and is said already
    if (running || archiver.fenced || archiver.outage) return;
    running = sweeper
      .sweep()
      .then(
        () => metrics?.succeeded('sweep', { stream, timeline }),
        (error) => {
          if (error === archiver.fenced) return;
          session.log.error({ stream, error: String((error as Error).message ?? error) }, 'sweep failed');
          metrics?.failed(error, { stream, timeline });
        },
      )
      .finally(() => {
        running = undefined;
      });
  };
  const timer = setInterval(sweep, session.config.sweep.every);
  sweep();
  return {
    stop: async () => {
      clearInterval(timer);
      await running;
    },
  };
};

/** One schedule for each history among the directories: a snapshot has all streams of one. */
const snapshots = (
  session: Session,
  archivers: readonly Archiver[],
  metrics: AgentMetrics | undefined,
): Schedule[] => {
  const histories = new Map(archivers.map((a) => [`${a.archive.id}/${a.identity.timeline}`, a]));
  return [...histories.values()].flatMap((a) => snapshotsOf(session, a, histories.size > 1, metrics) ?? []);
};

const snapshotsOf = (
  session: Session,
  archiver: Archiver,
  isOneOfMany: boolean,
  metrics: AgentMetrics | undefined,
): Schedule | undefined => {
  const { cron, kind, label } = session.config.snapshot;
  if (cron === undefined) return undefined;
  const { archive, identity } = archiver;
  return new Schedule({
    nextRun: cronRuns(cron),
    onError: (error) => {
      metrics?.failed(error, { timeline: identity.timeline });
      const facts = { error: String((error as Error).message ?? error) };
      // due before every stream has stated its first frontier: the next one is taken
      if (isPitrError(error, 'nothing-restorable')) session.log.warn(facts, 'no snapshot yet');
      else session.log.error(facts, 'snapshot failed');
    },
    job: async (dueMs) => {
      // a label is one snapshot of the archive
      const which = isOneOfMany ? `-${identity.timeline.slice(0, 6)}` : '';
      const name = label === undefined ? {} : { label: `${label}-${formatIso(dueMs)}${which}` };
      const made = await createSnapshot(archive, { kind, timeline: identity.timeline, ...name });
      metrics?.succeeded('snapshot', { timeline: identity.timeline });
      session.log.info(
        { id: made.id, kind: made.kind, end: formatIso(made.endTs), records: made.records },
        'snapshot taken',
      );
    },
  });
};

const logEvent = ({ log }: Session, event: ArchiverEvent): void => {
  const { kind, ...facts } = event;
  switch (event.kind) {
    case 'archived':
      log.debug({ ...facts, frontierTs: formatIso(event.frontierTs) }, kind);
      return;
    case 'merged':
      log.debug(facts, kind);
      return;
    case 'swept':
      if (event.objects + event.failed > 0) log.info(facts, 'swept what crashes had left behind');
      else log.debug(facts, kind);
      return;
    case 'adopted':
      log.info(facts, 'recovered and sealed the log of a writer that had stopped');
      return;
    case 'gap':
      log.error({ stream: event.stream, ...event.gap }, 'gap: these positions are not in the archive');
      return;
    case 'error':
      log.error(
        { stream: event.stream, error: String((event.error as Error).message ?? event.error) },
        // each time after a longer pause: see wal/outage.ts
        isPitrError(event.error, 'fenced')
          ? 'another agent has the stream'
          : 'archiving failed; trying again',
      );
      return;
    default:
      event satisfies never;
  }
};

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isLocked } from '../../engine/directory-lock.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archiver } from '../../wal/archiver.ts';
import { requestShipping } from '../../wal/ship-request.ts';
import { archiveOptionsOf } from '../object-storage.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { chooseTimeline, type EngineDir, openPlaces, type Places } from '../places.ts';
import { renderNewSnapshot, snapshotData } from '../render/snapshots.ts';
import { formatIso } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';
import { askWriter } from '../writer.ts';

const KINDS = ['full', 'incremental', 'synthetic'] as const;
/** How often the frontier is looked at. */
const POLL_MS = 200;
/** Rounds of sealing until all streams have sealed at or after the newest seal of the first round. */
const SEAL_ROUNDS_MAX = 5;

interface CreateFlags {
  readonly kind?: (typeof KINDS)[number];
  readonly label?: string;
  readonly timeline?: string;
  readonly wait?: boolean;
}

export function registerSnapshotCreate(snapshot: PitrCommand, runner: Runner): void {
  snapshot
    .command('create')
    .about(
      'take a snapshot',
      'Takes a snapshot at the newest restorable instant. With --wait: at the instant of this command. Each engine ' +
        'directory is sealed, through its live writer if it has one; the archive is waited for until it covers that ' +
        'instant, and directories without an agent are archived by this command; then the snapshot is taken at exactly ' +
        'that instant.',
    )
    .argument('[dirs...]', 'engine directories')
    .option('--archive <url>', 'the archive, instead of that of the directories')
    .option('--timeline <id>', 'history to take it of (default: that of the directories, or the newest)')
    .choice('--kind <kind>', 'how it is made; default incremental', KINDS)
    .option('--label <label>', 'a name of your own, unique in the archive')
    .option('--wait', 'have everything written so far in it')
    .option('--wait-seconds <n>', 'give up waiting after this time (default: 60)')
    .examples(
      ['pitr snapshot create data --wait --label before-migration', 'everything written so far'],
      ['pitr snapshot create --archive file:/backup/db --kind synthetic', 'a full copy; faster restores'],
      ['pitr snapshot create a b --wait --wait-seconds 10', 'one instant over two writers'],
    )
    .action(
      runner.action(async (session, args: readonly string[], flags: CreateFlags) => {
        const places = await openPlaces(session, args);
        const { archive } = places;
        const timeline = await chooseTimeline(session, places, flags.timeline);
        const started = performance.now();
        const ts = flags.wait ? await coveredInstant(session, places, timeline) : undefined;
        const waitedMs = performance.now() - started;
        const progress = session.progress();
        let isShown = false;
        try {
          const entry = await createSnapshot(archive, {
            kind: flags.kind ?? session.config.snapshot.kind,
            ...(flags.label === undefined ? {} : { label: flags.label }),
            ...(timeline === undefined ? {} : { timeline }),
            ...(ts === undefined ? {} : { ts }),
            onProgress: (versions, total) => {
              if (!isShown) progress.start(total, 'merge');
              isShown = true;
              progress.update(versions);
            },
          });
          progress.stop();
          const waited = flags.wait ? { waitedMs: Math.round(waitedMs) } : {};
          session.emit({ archive: archive.url, snapshot: snapshotData(entry), ...waited }, () =>
            renderNewSnapshot(entry, archive.url, session.clock.nowMs()),
          );
        } finally {
          progress.stop();
        }
        return 0;
      }),
    );
}

/**
 * The instant of this command, once the archive covers it. Without directories it is only waited for.
 * @throws wait-timeout
 */
const coveredInstant = async (
  session: Session,
  { archive, dirs }: Places,
  timeline: string | undefined,
): Promise<number> => {
  const seconds = session.config.waitSeconds;
  const endMs = performance.now() + seconds * 1000;
  const ts = dirs.length > 0 ? await sealAll(session, dirs) : session.clock.nowMs();
  let isSaid = false;
  for (;;) {
    for (const { dir } of dirs) await archiveIfNobodyDoes(session, dir);
    const view = await viewOf(archive, timeline);
    const { contiguousEnd, limitedBy } = view?.restorable ?? {};
    if (contiguousEnd !== undefined && contiguousEnd >= ts) return ts;
    if (performance.now() >= endMs)
      throw new PitrError('wait-timeout', {
        seconds,
        what: `the archive to cover ${formatIso(ts)}${limitedBy === undefined ? '' : `; it is held up by ${limitedBy}`}`,
        contiguousEnd,
        limitedBy,
      });
    if (!isSaid) session.note(`waiting until the archive covers ${formatIso(ts)} …`);
    isSaid = true;
    await sleep(POLL_MS);
  }
};

/** A timeline that was forked by a restore is in the archive only from its first archived write on. */
const viewOf = async (
  archive: Places['archive'],
  timeline: string | undefined,
): Promise<ArchiveView | undefined> => {
  try {
    return await ArchiveView.read(archive, timeline);
  } catch (error) {
    if (isPitrError(error, 'timeline-unknown')) return undefined;
    throw error;
  }
};

/** Seals every directory at or after one common instant, and returns it. */
const sealAll = async (session: Session, dirs: readonly EngineDir[]): Promise<number> => {
  const sealedTs = new Map<string, number>();
  for (const { dir } of dirs) sealedTs.set(dir, await seal(session, dir));
  const ts = Math.max(...sealedTs.values());
  // a stream that sealed before the last one has not said anything about the time between: it seals again
  for (let round = 0; round < SEAL_ROUNDS_MAX; round++) {
    const behind = [...sealedTs].filter(([, sealed]) => sealed < ts);
    if (behind.length === 0) break;
    for (const [dir] of behind) sealedTs.set(dir, await seal(session, dir));
  }
  return ts;
};

/**
 * The instant up to which a directory's log is sealed now. Archived by ourselves it is the frontier that was just published:
 * the archive keeps what the source stated about itself at exactly that instant, and not at a seal just before it.
 */
const seal = async (session: Session, dir: string): Promise<number> => {
  const { result } = await askWriter<{ ts: number }>(dir, 'seal', { apply: true }, (e) => e.sealApplied());
  await requestShipping(dir);
  return Math.max(result.ts, (await archiveIfNobodyDoes(session, dir)) ?? 0);
};

/** Does the agent's work for a directory that has none; the frontier that was reached. */
const archiveIfNobodyDoes = async (session: Session, dir: string): Promise<number | undefined> => {
  if (isLocked(join(dir, 'agent.lock'))) return undefined;
  try {
    const archiver = await Archiver.open(dir, {
      ...(await archiveOptionsOf(session, dir)),
      clock: session.clock,
    });
    try {
      await archiver.archivePending();
      await anchorIfNeeded(archiver);
      return archiver.head.frontier.ts;
    } finally {
      await archiver.close();
    }
  } catch (error) {
    // an agent was started in between: it does the work
    if (!isPitrError(error, 'agent-busy')) throw error;
    return undefined;
  }
};

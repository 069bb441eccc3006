import { hostname, userInfo } from 'node:os';
import { PitrError } from '../../engine/errors.ts';
import { nodeFiles } from '../../engine/files.ts';
import type { DroppedRange } from '../../engine/spool.ts';
import { type Hole, holesOf } from '../../snapshot/holes.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { acknowledge, type GapPlace, readAcknowledged, unacknowledge } from '../../wal/acknowledgements.ts';
import type { Archive } from '../../wal/archive.ts';
import { readDropped } from '../../wal/dropped.ts';
import { logDirOf } from '../../wal/engine.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { chooseTimeline, type EngineDir, openPlaces } from '../places.ts';
import { holeData, holeName, type PendingGap, renderAcknowledged, renderHoles } from '../render/gaps.ts';
import type { Runner, Session } from '../session.ts';

/** Exit code when a hole is not acknowledged. */
const EXIT_NOT_ACKNOWLEDGED = 7;

interface Flags {
  readonly timeline?: string;
}

interface AckFlags extends Flags {
  readonly reason: string;
  readonly by?: string;
}

interface Found {
  readonly archive: Archive;
  readonly timeline: string;
  readonly holes: readonly Hole[];
  readonly pending: readonly PendingGap[];
}

const find = async (session: Session, args: readonly string[], flags: Flags): Promise<Found> => {
  const places = await openPlaces(session, args);
  const { archive } = places;
  const timeline = await chooseTimeline(session, places, flags.timeline);
  const [view, acknowledged] = await Promise.all([
    ArchiveView.read(archive, timeline),
    readAcknowledged(archive),
  ]);
  const holes = holesOf(view, acknowledged);
  return { archive, timeline: view.timeline.id, holes, pending: await pendingOf(places.dirs, holes) };
};

/** What directories here gave up, and what their agent has yet to tell the archive. */
const pendingOf = async (dirs: readonly EngineDir[], holes: readonly Hole[]): Promise<PendingGap[]> => {
  const isListed = (stream: string, { lsnStart, lsnEnd }: DroppedRange): boolean =>
    holes.some((h) => h.stream === stream && h.gap && h.gap.lsnStart < lsnEnd && h.gap.lsnEnd > lsnStart);
  const found = await Promise.all(
    dirs.map(async ({ dir, identity: { stream } }) => {
      const ranges = await readDropped(logDirOf(dir), nodeFiles);
      return ranges.flatMap((r) => (isListed(stream, r) ? [] : [{ stream, ...r }]));
    }),
  );
  return found.flat();
};

type GapHole = GapPlace & { readonly cause: string };

/** The gaps that `main/1201`, or `all`, names. @throws gap-unknown, usage */
const named = (holes: readonly Hole[], text: string): GapHole[] => {
  const gaps = holes.flatMap(({ timeline, stream, gap }) =>
    stream === null || gap === null
      ? []
      : [{ timeline, stream, lsnStart: gap.lsnStart, lsnEnd: gap.lsnEnd, cause: gap.cause }],
  );
  if (text === 'all') return gaps;
  const [, stream, digits] = /^(.+)\/(\d{1,15})$/.exec(text) ?? [];
  if (stream === undefined)
    throw new PitrError('usage', {
      what: `${JSON.stringify(text.slice(0, 100))} names no gap`,
      hint: 'write STREAM/LSN, as pitr gaps lists them, or all',
    });
  const lsn = Number(digits);
  const found = gaps.filter((g) => g.stream === stream && g.lsnStart <= lsn && lsn < g.lsnEnd);
  if (found.length === 0)
    throw new PitrError('gap-unknown', {
      position: text,
      known: holes.flatMap((h) => (h.gap ? [holeName(h)] : [])).join(', ') || 'none',
    });
  if (found.length > 1)
    throw new PitrError('usage', {
      what: `${text} is a gap on timelines ${found.map((g) => g.timeline).join(' and ')}`,
      hint: 'name one with --timeline',
    });
  return found;
};

export function registerGaps(program: PitrCommand, runner: Runner): void {
  const gaps = program
    .command('gaps')
    .about(
      'list holes in what can be restored, and acknowledge them',
      'A hole is a stretch of which nothing can be restored, because log of it never reached the archive. Without a ' +
        'command, pitr gaps lists them.',
    ) as PitrCommand;
  gaps.helpCommand(false).usage('[command] [options] [dirs...]');

  gaps
    .command('list', { isDefault: true })
    .about(
      'list holes with range, cause, and since when all is well again',
      'Lists the holes of a history and of what it was forked from: what is lost, why, since when instants can be restored ' +
        `again, and who has acknowledged it. Exits with 0 when there is none that is not acknowledged, else with ` +
        `${EXIT_NOT_ACKNOWLEDGED}.`,
    )
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'history to look at (default: that of the directories, or the newest)')
    .examples(
      ['pitr gaps data', 'of the archive of an engine'],
      ['pitr gaps --archive file:/backup/db --json', 'for a program'],
    )
    .action(
      runner.action(async (session, args: readonly string[], flags: Flags) => {
        const { archive, timeline, holes, pending } = await find(session, args, flags);
        const notAcknowledged = holes.filter((h) => !h.acknowledged).length;
        session.emit(
          { archive: archive.url, timeline, notAcknowledged, holes: holes.map(holeData), pending },
          () => renderHoles(holes, pending, session.clock.nowMs()),
        );
        return notAcknowledged + pending.length === 0 ? 0 : EXIT_NOT_ACKNOWLEDGED;
      }),
    );

  gaps
    .command('ack')
    .about(
      'say that a gap is known, so that alarms about it stop',
      'Writes into the archive who knows of a gap, and why it is there. What can be restored is the same as before. A gap ' +
        'that nothing restorable follows keeps status from being green all the same.',
    )
    .argument('<gap>', 'STREAM/LSN of any lost position, or all')
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .requiredOption('--reason <text>', 'why it is there, for those who read it later')
    .option('--by <name>', 'who acknowledges it (default: user@host)')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'history to look at (default: that of the directories, or the newest)')
    .examples(
      ['pitr gaps ack main/1201 data --reason "disk full on 3 May, ticket 17"', 'one gap'],
      ['pitr gaps ack all --archive file:/backup/db --reason "load test"', 'every one that is not yet'],
    )
    .action(
      runner.action(async (session, gap: string, args: readonly string[], flags: AckFlags) => {
        const { archive, holes, pending } = await find(session, args, flags);
        if (pending.length > 0)
          session.note(
            'what was given up and the archive does not know yet cannot be acknowledged before an agent has recorded it',
          );
        const { reason, by = whoAmI() } = flags;
        // all: what was said of the others stays
        const meant = gap === 'all' ? holes.filter((h) => !h.acknowledged) : holes;
        const acknowledged = await acknowledge(archive, named(meant, gap), { by, reason });
        session.emit({ archive: archive.url, acknowledged }, () =>
          renderAcknowledged('acknowledged', acknowledged),
        );
        return 0;
      }),
    );

  gaps
    .command('unack')
    .about(
      'take an acknowledgement back',
      'Removes what was said of a gap: it counts as not acknowledged again.',
    )
    .argument('<gap>', 'STREAM/LSN of any lost position, or all')
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'history to look at (default: that of the directories, or the newest)')
    .examples(['pitr gaps unack main/1201 data', 'one gap'])
    .action(
      runner.action(async (session, gap: string, args: readonly string[], flags: Flags) => {
        const { archive, holes } = await find(session, args, flags);
        const removed = await unacknowledge(archive, named(holes, gap));
        session.emit({ archive: archive.url, removed }, () =>
          renderAcknowledged('no longer acknowledged', removed),
        );
        return 0;
      }),
    );
}

const whoAmI = (): string => {
  let user = 'unknown';
  try {
    user = userInfo().username;
  } catch {
    // an id without an entry in the table of users, as in many containers
  }
  return `${user}@${hostname()}`;
};

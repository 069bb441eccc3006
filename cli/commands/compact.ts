import { join } from 'node:path';
import { isLocked } from '../../engine/directory-lock.ts';
import { PitrError } from '../../engine/errors.ts';
import { fullCopyEnds } from '../../snapshot/borders.ts';
import { Archiver } from '../../wal/archiver.ts';
import { type Head, writeAmplification } from '../../wal/catalog.ts';
import { archiveOptionsOf } from '../object-storage.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { type EngineDir, requireEngineDirs } from '../places.ts';
import { renderTable } from '../render/table.ts';
import { formatBytes, formatCount } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

export const registerCompact = (program: PitrCommand, runner: Runner): void => {
  program
    .command('compact')
    .about(
      'merge the archived runs of a stream',
      'Merges small runs into larger ones, as a running agent does by itself, so that a restore opens few of them. With --full all runs become ' +
        'one. What is written is read back and compared before it replaces anything; every version of the history stays. Interrupted anywhere, ' +
        'the same command goes on where it was. For directories without a running agent.',
    )
    .argument('[dir...]', 'engine directories (default: dirs of the configuration)')
    .option('--full', 'merge all runs of a stream into one')
    .option('--fanout <n>', 'how many runs of one level become one of the next (default: compact.fanout, 8)')
    .examples(
      ['pitr compact data', 'what an agent would do now'],
      ['pitr compact data --full', 'one run; before a drill, or to keep for long'],
      ['pitr compact shard-a shard-b --json', 'what was done, for a script'],
    )
    .action(runner.action(runCompact));
};

/** What happened to one stream, as JSON has it. */
interface Compacted {
  readonly stream: string;
  readonly merges: number;
  readonly runsBefore: number;
  readonly runsAfter: number;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly versions: number;
  /** Since the stream's beginning. */
  readonly written: Head['written'];
  readonly writeAmplification: number;
}

const runCompact = async (
  session: Session,
  args: string[],
  options: { full?: boolean; fanout?: string },
): Promise<undefined> => {
  const dirs = await requireEngineDirs(session, args);
  const fanout = fanoutOf(options.fanout, session.config.compact.fanout);
  const streams: Compacted[] = [];
  for (const dir of dirs) streams.push(await compactDir(session, dir, fanout, options.full ?? false));
  session.emit({ streams }, () =>
    renderTable(
      [
        { title: 'stream' },
        { title: 'merges', align: 'right' },
        { title: 'runs', align: 'right' },
        { title: 'versions', align: 'right' },
        { title: 'before', align: 'right' },
        { title: 'now', align: 'right' },
        { title: 'written', align: 'right' },
      ],
      streams.map((s) => [
        s.stream,
        formatCount(s.merges),
        `${formatCount(s.runsBefore)} → ${formatCount(s.runsAfter)}`,
        formatCount(s.versions),
        formatBytes(s.bytesBefore),
        formatBytes(s.bytesAfter),
        `${s.writeAmplification.toFixed(1)}×`,
      ]),
    ),
  );
};

const fanoutOf = (text: string | undefined, configured: number): number => {
  if (text === undefined) return configured;
  const fanout = Number(text);
  if (!Number.isInteger(fanout) || fanout < 2 || fanout > 64)
    throw new PitrError('usage', { what: `--fanout ${text}`, hint: 'a number from 2 to 64' });
  return fanout;
};

const compactDir = async (
  session: Session,
  { dir, identity }: EngineDir,
  fanout: number,
  full: boolean,
): Promise<Compacted> => {
  const { stream, timeline } = identity;
  if (isLocked(join(dir, 'agent.lock')))
    throw new PitrError('agent-busy', {
      stream,
      dir,
      hint: full
        ? 'stop the agent, merge, and start it again: what is written meanwhile waits in the log'
        : 'it merges by itself: there is nothing to do',
    });
  const archiver = await Archiver.open(dir, {
    ...(await archiveOptionsOf(session, dir)),
    clock: session.clock,
    borders: () => fullCopyEnds(archiver.archive, timeline),
  });
  const progress = session.progress();
  let total = 0;
  try {
    const before = sizeOf(archiver.head);
    const merges = await archiver.compact({
      fanout,
      full,
      onProgress: (done, of) => {
        if (of !== total) progress.start(of, `merge ${stream}`);
        total = of;
        progress.update(done);
      },
    });
    const { head } = archiver;
    const after = sizeOf(head);
    return {
      stream,
      merges,
      runsBefore: before.runs,
      runsAfter: after.runs,
      bytesBefore: before.bytes,
      bytesAfter: after.bytes,
      versions: after.versions,
      written: head.written,
      writeAmplification: writeAmplification(head.written),
    };
  } finally {
    progress.stop();
    await archiver.close();
  }
};

const sizeOf = ({ runs }: Head): { runs: number; bytes: number; versions: number } => {
  const segments = runs.flatMap((r) => r.segments);
  return {
    runs: runs.length,
    bytes: segments.reduce((n, s) => n + s.bytes, 0),
    versions: segments.reduce((n, s) => n + s.rows, 0),
  };
};

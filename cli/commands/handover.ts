import { join, resolve } from 'node:path';
import { isLocked } from '../../engine/directory-lock.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { archiveOfDir, handoverDirs } from '../../restore/handover.ts';
import { Archiver } from '../../wal/archiver.ts';
import { archiveOptionsOf } from '../object-storage.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { renderFields } from '../render/table.ts';
import { formatCount, formatIso } from '../render/units.ts';
import type { Runner, Session } from '../session.ts';

export const registerHandover = (program: PitrCommand, runner: Runner): void => {
  program
    .command('handover')
    .about(
      'move partitions from one engine to another',
      'The old owner closes the partitions at a position of its log; when the archive has that, ownership changes; the new owner loads their ' +
        'records from the archive and goes on. Both engines may be open in other processes or closed. Meanwhile writes to these ' +
        'partitions are refused. Interrupted anywhere, the same command finishes it.',
    )
    .argument('<from>', 'engine directory that has the partitions')
    .requiredOption('--to <dir>', 'engine directory that takes them')
    .requiredOption('--partitions <ranges>', 'which, for example 0-1365,4000')
    .examples(
      ['pitr handover shard-a --to shard-b --partitions 0-1365', 'move a third of the database'],
      [
        'pitr handover shard-a --to shard-b --partitions 0-1365 --json',
        'positions of both streams, for a script',
      ],
    )
    .action(runner.action(runHandover));
};

const runHandover = async (
  session: Session,
  from: string,
  options: { to: string; partitions: string },
): Promise<undefined> => {
  const fromDir = resolve(from);
  const archive = await archiveOfDir(fromDir);
  // without an agent on the old owner's directory this command ships its log itself
  const archiver = isLocked(join(fromDir, 'agent.lock'))
    ? undefined
    : await Archiver.open(fromDir, await archiveOptionsOf(session, fromDir));
  try {
    const done = await handoverDirs(fromDir, resolve(options.to), {
      partitions: PartitionSet.parse(options.partitions),
      archive,
      waitMs: session.config.waitSeconds * 1000,
      ...(archiver ? { ship: () => archiver.archivePending() } : {}),
    });
    session.emit(done, () =>
      renderFields([
        ['partitions', done.partitions],
        ['from', `${done.from}, closed at LSN ${done.released.lsn}, ${formatIso(done.released.ts)}`],
        ['to', `${done.to}, from LSN ${done.acquired.lsn}, ${formatIso(done.acquired.ts)}`],
        ['records', formatCount(done.records)],
        ['epoch', String(done.epoch)],
      ]),
    );
  } finally {
    await archiver?.close();
  }
};

import { join, resolve } from 'node:path';
import { isLocked } from '../../engine/directory-lock.ts';
import { PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { archiveOfDir, type Handover, handoverDirs, takeOverLost } from '../../restore/handover.ts';
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
      'move partitions from one engine, or capture, to another',
      'The old owner closes the partitions at a position of its log; when the archive has that, ownership changes; the new owner loads their ' +
        'records from the archive and goes on. Both engines may be open in other processes or closed. Meanwhile writes to these ' +
        'partitions are refused. Of directories that capture a cluster both agents must run. With --lost the directory of a capture is gone: FROM is the ' +
        'name of its stream. Interrupted anywhere, the same command finishes it.',
    )
    .argument('<from>', 'directory that has the partitions; with --lost the name of its stream')
    .requiredOption('--to <dir>', 'directory that takes them')
    .option('--partitions <ranges>', 'which, for example 0-1365,4000 (with --lost: all of them)')
    .option('--lost', 'the directory that captured them is gone; its agent, if there is one, is fenced')
    .examples(
      ['pitr handover shard-a --to shard-b --partitions 0-1365', 'move a third of the database'],
      ['pitr handover main --lost --to shop-2', "go on in a new directory after the capture's was lost"],
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
  options: { to: string; partitions?: string; lost?: boolean },
): Promise<undefined> => {
  const toDir = resolve(options.to);
  if (options.lost) {
    if (options.partitions !== undefined)
      throw new PitrError('usage', {
        what: '--lost moves all partitions',
        hint: 'leave --partitions out, and hand some on afterwards',
      });
    return say(session, await takeOverLost(await archiveOfDir(toDir), from, toDir));
  }
  if (options.partitions === undefined)
    throw new PitrError('usage', { what: 'which partitions?', hint: 'name them with --partitions' });
  const fromDir = resolve(from);
  const archive = await archiveOfDir(fromDir);
  // without an agent on the old owner's directory this command ships its log itself
  const archiver = isLocked(join(fromDir, 'agent.lock'))
    ? undefined
    : await Archiver.open(fromDir, await archiveOptionsOf(session, fromDir));
  try {
    const done = await handoverDirs(fromDir, toDir, {
      partitions: PartitionSet.parse(options.partitions),
      archive,
      waitMs: session.config.waitSeconds * 1000,
      ...(archiver ? { ship: () => archiver.archivePending() } : {}),
    });
    return say(session, done);
  } finally {
    await archiver?.close();
  }
};

const say = (session: Session, done: Handover): undefined => {
  session.emit(done, () =>
    renderFields([
      ['partitions', done.partitions],
      ['from', `${done.from}, closed at LSN ${done.released.lsn}, ${formatIso(done.released.ts)}`],
      ['to', `${done.to}, from LSN ${done.acquired.lsn}, ${formatIso(done.acquired.ts)}`],
      ['records', formatCount(done.records)],
      ['epoch', String(done.epoch)],
    ]),
  );
  return undefined;
};

import { relative, resolve } from 'node:path';
import { PitrError } from '../../engine/errors.ts';
import type { EngineIdentity } from '../../engine/identity.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Engine } from '../../wal/engine.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { archiveUrl } from '../places.ts';
import { describePartitions } from '../render/partitions.ts';
import { renderFields } from '../render/table.ts';
import type { Runner } from '../session.ts';
import { keepSpoolSettings, withSpoolOptions } from '../spool.ts';

interface InitFlags {
  readonly stream?: string;
  readonly partitions?: string;
  readonly shards?: string;
}

export function registerInit(program: PitrCommand, runner: Runner): void {
  withSpoolOptions(program.command('init'))
    .about(
      'make an engine directory and register it in an archive',
      'Makes an empty engine directory and registers it in an archive, which is made too if there is none. The first ' +
        'engine of an archive takes every partition; a further one, under another --stream, takes those that nobody ' +
        'owns, or is handed some later.',
    )
    .argument('<dir>', 'directory to make; it must be absent or empty')
    .option('--archive <url>', 'where the history goes, for example file:/backup/db')
    .option('--stream <name>', 'name of this engine in the archive (default: main)')
    .option('--partitions <ranges>', 'partitions that it owns, for example 0-1365 (default: all free ones)')
    .option('--shards <n>', 'shards of the running digest, a power of two (default: 16)')
    .examples(
      ['pitr init data --archive file:/backup/db', 'a new database'],
      ['pitr init a --archive file:/backup/db --stream a --partitions 0-2047', 'the first of two writers'],
      ['pitr init b --archive file:/backup/db --stream b --partitions 2048-4095', 'and the second'],
    )
    .action(
      runner.action(async (session, dir: string, flags: InitFlags) => {
        if (flags.shards !== undefined && !/^\d{1,3}$/.test(flags.shards))
          throw new PitrError('usage', {
            what: `${flags.shards} shards`,
            hint: 'a power of two from 1 to 256',
          });
        const url = archiveUrl(session, [], false);
        const identity = await Engine.init(dir, {
          archive: url,
          clock: session.clock,
          ...(flags.stream === undefined ? {} : { stream: flags.stream }),
          ...(flags.partitions === undefined ? {} : { partitions: PartitionSet.parse(flags.partitions) }),
          ...(flags.shards === undefined ? {} : { shards: Number(flags.shards) }),
        });
        await keepSpoolSettings(session, dir);
        const { stream, timeline, partitions, shards, engineId, archive } = identity;
        const data = { dir: resolve(dir), engineId, stream, timeline, partitions, shards, archive };
        session.emit(data, () => text(dir, identity));
        return 0;
      }),
    );
}

const text = (dir: string, identity: EngineIdentity): string => {
  const shown = relative('', resolve(dir)) || '.';
  const { stream, timeline, partitions, archive } = identity;
  const made = renderFields([
    ['Engine', resolve(dir)],
    ['Stream', stream],
    ['Timeline', timeline],
    ['Partitions', describePartitions(partitions)],
    ['Archive', `${archive?.url} (id ${archive?.id.slice(0, 12)})`],
  ]);
  const isEmpty = partitions === 'none';
  const next = renderFields([
    ['  write', `Engine.open({ dir: '${shown}' }) in your program`],
    ['  archive', `pitr agent ${shown}`],
    ['  look', `pitr status ${shown}`],
    [
      '  take over',
      isEmpty ? `all partitions have owners: pitr handover moves some to ${stream}` : undefined,
    ],
  ]);
  return `${made}\n\nNext:\n${next}`;
};

import { deleteSnapshot, findSnapshot, listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { openPlaces } from '../places.ts';
import { renderSnapshot, renderSnapshots, snapshotData } from '../render/snapshots.ts';
import { formatBytes, formatCount, formatIso } from '../render/units.ts';
import type { Runner } from '../session.ts';
import { registerSnapshotCreate } from './snapshot-create.ts';

interface ListFlags {
  readonly timeline?: string;
}

export function registerSnapshot(program: PitrCommand, runner: Runner): void {
  const snapshot = program
    .command('snapshot')
    .about(
      'take, list, show and delete snapshots',
      'A snapshot is a named state of the archive at one instant, from which later restores may start. Taking one copies ' +
        'nothing and stops no writer, except that a synthetic one is merged from the archive into segments of its own.',
    ) as PitrCommand;
  snapshot.helpCommand(false).usage('<command> [options]');
  registerSnapshotCreate(snapshot, runner);

  snapshot
    .command('list')
    .about(
      'list the snapshots of an archive',
      'Lists the snapshots of an archive, oldest first. An id may be shortened to its beginning wherever one is asked for.',
    )
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .option('--timeline <id>', 'only those of this history')
    .examples(
      ['pitr snapshot list data', 'of the archive of an engine'],
      ['pitr snapshot list --archive file:/backup/db --json', 'for a program'],
    )
    .action(
      runner.action(async (session, args: readonly string[], flags: ListFlags) => {
        const { archive } = await openPlaces(session, args);
        const timeline =
          flags.timeline === undefined ? undefined : (await archive.timeline(flags.timeline)).id;
        const snapshots = await listSnapshots(archive, timeline);
        session.emit({ archive: archive.url, snapshots: snapshots.map(snapshotData) }, () =>
          renderSnapshots(snapshots, session.clock.nowMs()),
        );
        return 0;
      }),
    );

  snapshot
    .command('show')
    .about(
      'show what a snapshot is and what it depends on',
      'Shows one snapshot: its instant, what it was taken after, the log that it names and the segments of its own.',
    )
    .argument('<id>', 'id, its beginning, or label')
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .examples(
      ['pitr snapshot show nightly data', 'by label'],
      ['pitr snapshot show 20261121-10 --archive file:/backup/db', 'by the beginning of the id'],
    )
    .action(
      runner.action(async (session, id: string, args: readonly string[]) => {
        const { archive } = await openPlaces(session, args);
        const entry = await findSnapshot(archive, id);
        const manifest = await readSnapshot(archive, entry);
        const all = await listSnapshots(archive);
        const children = all.filter((s) => s.parent === entry.id).map((s) => s.id);
        const { coordinated, positions, log, logAfterTs } = manifest;
        const segments = {
          count: manifest.segments.length,
          bytes: manifest.segments.reduce((n, s) => n + s.bytes, 0),
          versions: manifest.segments.reduce((n, s) => n + s.rows, 0),
        };
        const data = { ...snapshotData(entry), coordinated, logAfterTs, positions, log, segments, children };
        session.emit({ archive: archive.url, snapshot: data }, () =>
          renderSnapshot(data, archive.url, session.clock.nowMs()),
        );
        return 0;
      }),
    );

  snapshot
    .command('delete')
    .about(
      'delete a snapshot',
      'Deletes a snapshot: it is not there any more at once. Its manifest and the segments of its own go when those have ' +
        'ended who may read them, two minutes later at the earliest: an agent deletes them, or the next snapshot that is taken or ' +
        'deleted. Refused while another snapshot or a history depends on it. The log is not touched: what it covers stays restorable.',
    )
    .argument('<id>', 'id, its beginning, or label')
    .argument('[dirs...]', 'engine directories, whose archive is meant')
    .option('--archive <url>', 'the archive')
    .examples(
      ['pitr snapshot delete nightly data', 'by label'],
      ['pitr snapshot delete 20261121-100000-ab12 --archive file:/backup/db', 'by id'],
    )
    .action(
      runner.action(async (session, id: string, args: readonly string[]) => {
        const { archive } = await openPlaces(session, args);
        const { frees, ...entry } = await deleteSnapshot(archive, id);
        session.emit({ archive: archive.url, deleted: snapshotData(entry), frees }, () => {
          const label = entry.label === null ? '' : ` "${entry.label}"`;
          const readers =
            frees.readers.length === 0 ? '' : `, when this has ended: ${frees.readers.join(', ')}`;
          return [
            `Deleted snapshot ${entry.id}${label}, the state at ${formatIso(entry.endTs)}.`,
            `Its objects (${formatCount(frees.objects)}, ${formatBytes(frees.bytes)}) go after ${formatIso(frees.afterMs)}${readers}:`,
            'by a running agent, or by the next snapshot that is taken or deleted.',
          ].join('\n');
        });
        return 0;
      }),
    );
}

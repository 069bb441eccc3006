import { PitrError } from '../../engine/errors.ts';
import { requestShipping } from '../../wal/ship-request.ts';
import type { PitrCommand } from '../pitr-command.ts';
import { requireEngineDirs } from '../places.ts';
import { renderTable } from '../render/table.ts';
import { formatCount, formatIso } from '../render/units.ts';
import type { Runner } from '../session.ts';
import { askWriter, type Via } from '../writer.ts';

interface Mark {
  readonly name: string;
  readonly lsn: number;
  readonly ts: number;
}

/**
 * A mark is made to be returned to: an agent that lets files wait for each other is not to keep it back. The mark is made
 * whatever becomes of that.
 */
const shipSoon = async (dir: string, via: Via): Promise<void> => {
  try {
    // this command's own engine has sealed its log in closing
    if (via === 'writer') await askWriter(dir, 'seal', {}, (engine) => engine.seal());
    await requestShipping(dir);
  } catch (error) {
    if (!(error instanceof PitrError)) throw error;
  }
};

export function registerMark(program: PitrCommand, runner: Runner): void {
  program
    .command('mark')
    .about(
      'name the present, to return to it later',
      'Gives the present position of an engine a name. Restoring to mark:NAME gives exactly what was written before it. ' +
        'Asks the live writer when there is one, otherwise opens the engine for a moment. With several directories every ' +
        'stream gets the mark at its own position.',
    )
    .argument('<name>', 'letters, digits and _ . : -, at most 128')
    .argument('[dirs...]', 'engine directories')
    .option('--dir <dirs...>', 'the same')
    .examples(
      ['pitr mark before-deploy data', 'before something risky'],
      ['pitr restore data --to mark:before-deploy --into engine:old', 'and back'],
      ['pitr mark nightly a b', 'two writers of one database'],
    )
    .action(
      runner.action(async (session, name: string, args: readonly string[]) => {
        const dirs = await requireEngineDirs(session, args);
        const marks: { dir: string; stream: string; lsn: number; ts: number; via: Via }[] = [];
        for (const { dir, identity } of dirs) {
          const { result: mark, via } = await askWriter<Mark>(dir, 'mark', { name }, (engine) =>
            engine.mark(name),
          );
          marks.push({ dir, stream: identity.stream, lsn: mark.lsn, ts: mark.ts, via });
          if (identity.archive) await shipSoon(dir, via);
        }
        const ts = Math.max(...marks.map((m) => m.ts));
        const archived = dirs.every((d) => d.identity.archive);
        session.emit({ name, ts, marks }, () => {
          const table = renderTable(
            [
              { title: 'STREAM' },
              { title: 'LSN', align: 'right' },
              { title: 'TIME' },
              { title: 'MARKED BY' },
            ],
            marks.map((m) => [
              m.stream,
              formatCount(m.lsn),
              formatIso(m.ts),
              m.via === 'writer' ? 'the live writer' : 'this command',
            ]),
          );
          const lines = [`Marked "${name}":`, table];
          if (marks.length > 1)
            lines.push('Each stream has a mark of its own; as a target the newest one counts.');
          lines.push(
            archived
              ? `Restore it with --to mark:${name}, once the archive covers it (pitr status).`
              : 'This engine has no archive: nothing of it can be restored.',
          );
          return lines.join('\n');
        });
        return 0;
      }),
    );
}

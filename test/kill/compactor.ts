/** A process that ships what waits and merges runs, fanout 2, until it is killed: `node compactor.ts DIR`. Says each merge. */
import { writeSync } from 'node:fs';
import { isPitrError } from '../../engine/errors.ts';
import { Archiver } from '../../wal/archiver.ts';

const say = (line: string): void => {
  writeSync(1, `${line}\n`);
};
const archiver = await Archiver.open(process.argv[2], {
  onEvent: (event) => {
    if (event.kind === 'merged') say(`merged ${event.runs} L${event.level}`);
    if (event.kind === 'archived') say(`frontier ${event.frontierTs}`);
    if (event.kind === 'gap') say(`gap ${JSON.stringify(event.gap)}`);
  },
});
say('go');
for (;;) {
  try {
    await archiver.archivePending();
    await archiver.compact({ fanout: 2 });
  } catch (error) {
    say(`error ${isPitrError(error, 'io') ? error.message : String(error)}`);
  }
  await new Promise((resolve) => setTimeout(resolve, 10));
}

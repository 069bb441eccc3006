/**
 * A process that archives an engine directory and merges all that it archives, in small parts on a thread of its own, until it is
 * killed: `node merger.ts DIR`. Says each merge.
 */
import { writeSync } from 'node:fs';
import { Archiver } from '../../wal/archiver.ts';

const archiver = await Archiver.open(process.argv[2], {
  fanout: 2,
  retireMs: 0,
  smallBytes: 0,
  partRawBytes: 30_000,
  threadBytes: Number(process.argv[3]),
  onEvent: (event) => {
    if (event.kind === 'merged') writeSync(1, `merged ${event.versions}\n`);
    if (event.kind === 'error') writeSync(1, `error ${String(event.error)}\n`);
  },
});
writeSync(1, 'open\n');
for (;;) {
  await archiver.archivePending();
  await archiver.compact({ full: true });
  await new Promise((resolve) => setTimeout(resolve, 5));
}

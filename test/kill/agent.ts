/** A process that archives engine directories until it is killed: `node agent.ts DIR…`. Says each frontier that it published. */
import { writeSync } from 'node:fs';
import { Archiver } from '../../wal/archiver.ts';

writeSync(1, 'go\n');
for (const dir of process.argv.slice(2)) {
  const archiver = await Archiver.open(dir, {
    fanout: 3,
    onEvent: (event) => {
      if (event.kind === 'archived') writeSync(1, `frontier ${event.frontierTs}\n`);
      if (event.kind === 'adopted') writeSync(1, `adopted ${event.tornBytes}\n`);
      if (event.kind === 'merged') writeSync(1, `merged ${event.runs} L${event.level}\n`);
      if (event.kind === 'gap') writeSync(1, `gap ${JSON.stringify(event.gap)}\n`);
      if (event.kind === 'error') writeSync(1, `error ${String(event.error)}\n`);
    },
  });
  archiver.start();
}

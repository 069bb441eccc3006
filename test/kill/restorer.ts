/**
 * A process that restores: `node restorer.ts ARCHIVE DIR TARGET [WORKERS]`. Says its report, or the id of the error; with WORKERS also
 * each range that is done (`range 3`).
 */
import { writeSync } from 'node:fs';
import { PitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';

const [archive, dir, target, workers] = process.argv.slice(2);
writeSync(1, 'go\n');
try {
  const { records, verification, digest, resumed } = await restoreEngine(dir, undefined, {
    archive,
    target,
    workers: Number(workers ?? 0),
    onProgress: ({ phase, doneRanges }) => {
      if (workers !== undefined && phase === 'merge') writeSync(1, `range ${doneRanges}\n`);
    },
  });
  writeSync(1, `${JSON.stringify({ records, verification, digest, resumed })}\n`);
} catch (error) {
  writeSync(
    1,
    `${JSON.stringify({ error: error instanceof PitrError ? `${error.id}: ${error.message}` : String(error) })}\n`,
  );
  process.exitCode = 1;
}

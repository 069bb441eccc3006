/** A process that restores: `node restorer.ts ARCHIVE DIR TARGET`. Says its report, or the id of the error. */
import { writeSync } from 'node:fs';
import { PitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';

const [archive, dir, target] = process.argv.slice(2);
writeSync(1, 'go\n');
try {
  const report = await restoreEngine(dir, undefined, { archive, target, workers: 0 });
  writeSync(1, `${JSON.stringify({ records: report.records, verification: report.verification })}\n`);
} catch (error) {
  writeSync(
    1,
    `${JSON.stringify({ error: error instanceof PitrError ? `${error.id}: ${error.message}` : String(error) })}\n`,
  );
  process.exitCode = 1;
}

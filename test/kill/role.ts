/**
 * A process that is ready before it is needed: it has loaded everything, waits for one line `{"script","args"}` on stdin, and is
 * that script from then on. So a life may be milliseconds long, and the kill hits work, not the loading of files.
 */

import { join } from 'node:path';
import { createInterface } from 'node:readline';
import '../../restore/restore.ts';
import '../../snapshot/create.ts';
import '../../wal/archiver.ts';
import './content.ts';

const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
  const { script, args } = JSON.parse(line);
  process.argv = [process.execPath, join(import.meta.dirname, script), ...args];
  await import(`./${script}`);
  break;
}

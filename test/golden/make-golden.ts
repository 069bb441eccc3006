/**
 * Wrote segment-v1.seg and log-v1.wal, once. Run it again only to make the files of a new format version, under new names:
 *
 *     node test/golden/make-golden.ts
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openLog } from '../wal/log-support.ts';
import { logPath, MemoryFiles } from '../wal/memory-files.ts';
import { encodeSegment } from '../wal/segment-support.ts';
import {
  GOLDEN_EVENTS,
  GOLDEN_LOG_BATCHES,
  GOLDEN_LOG_CLOCK,
  GOLDEN_LOG_EVENT,
  GOLDEN_ROWS,
} from './content.ts';

/** The log file as the code of today writes it. */
export const makeGoldenLog = async (): Promise<Buffer> => {
  const files = new MemoryFiles();
  const { log } = await openLog(files);
  for (const versions of GOLDEN_LOG_BATCHES) {
    log.append(versions);
    await log.sync();
  }
  log.appendEvent(GOLDEN_LOG_EVENT);
  await log.seal(GOLDEN_LOG_CLOCK);
  return files.bytesOf(logPath(1, 'wal'));
};

if (import.meta.main) {
  const flag = { flag: 'wx' };
  await writeFile(
    join(import.meta.dirname, 'segment-v1.seg'),
    encodeSegment(GOLDEN_ROWS, GOLDEN_EVENTS).bytes,
    flag,
  );
  await writeFile(join(import.meta.dirname, 'log-v1.wal'), await makeGoldenLog(), flag);
}

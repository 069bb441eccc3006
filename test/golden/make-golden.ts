/**
 * Wrote segment-v3.seg and log-v3.wal, once. Run it again only to make the files of a new format version, under new
 * names; it leaves those that are there alone:
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
  GOLDEN_LOG_EVENTS,
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
  for (const event of GOLDEN_LOG_EVENTS) log.appendEvent(event);
  await log.seal(GOLDEN_LOG_CLOCK);
  return files.bytesOf(logPath(1, 'wal'));
};

if (import.meta.main) {
  const make = async (name: string, bytes: Buffer): Promise<void> =>
    writeFile(join(import.meta.dirname, name), bytes, { flag: 'wx' }).catch((error) => {
      if (error.code !== 'EEXIST') throw error;
    });
  await make('segment-v3.seg', encodeSegment(GOLDEN_ROWS, GOLDEN_EVENTS).bytes);
  await make('log-v3.wal', await makeGoldenLog());
}

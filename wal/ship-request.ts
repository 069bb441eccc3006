import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { PitrError } from '../engine/errors.ts';
import { type Files, removeIfThere } from '../engine/files.ts';
import { LOG_DIR } from '../engine/identity.ts';

/** In the log directory, where an archiver looks for new files anyway: somebody waits for what is sealed to be archived. */
export const SHIP_REQUEST_FILE = 'ship.request';

/** Has the archiver of a directory ship at once what is sealed, whatever its pace. Without one it stays for the next. @throws io */
export const requestShipping = async (dir: string): Promise<void> => {
  const path = join(dir, LOG_DIR, SHIP_REQUEST_FILE);
  await fs.writeFile(path, '').catch((cause) => {
    throw new PitrError('io', { op: 'write', path, why: cause.code }, { cause });
  });
};

/** Taken before the files are listed: what is asked for afterwards is another request. One that stays is only taken once more. */
export const takeShipRequest = (dir: string, files: Files): Promise<void> =>
  removeIfThere(files, join(dir, LOG_DIR, SHIP_REQUEST_FILE)).catch(() => undefined);

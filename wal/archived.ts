import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';

/** What the agent tells the engine: the log up to `lsn`, in files up to `sequence`, is durable in the archive. */
export interface Archived {
  readonly lsn: number;
  readonly sequence: number;
}

const ARCHIVED_FILE = 'archived.json';

/** Missing or unreadable counts as "nothing archived": the engine then keeps its log. */
export const readArchived = async (dir: string): Promise<Archived> => {
  try {
    const { lsn, sequence } = JSON.parse(await fs.readFile(join(dir, ARCHIVED_FILE), 'utf8'));
    if (Number.isSafeInteger(lsn) && Number.isSafeInteger(sequence)) return { lsn, sequence };
  } catch {
    // see above
  }
  return { lsn: 0, sequence: 0 };
};

/** Not synced on purpose: a lost update makes the engine keep more log than it must. */
export const writeArchived = async (dir: string, archived: Archived): Promise<void> => {
  const temporary = join(dir, `.${ARCHIVED_FILE}.${randomBytes(4).toString('hex')}`);
  await fs.writeFile(temporary, JSON.stringify(archived));
  await fs.rename(temporary, join(dir, ARCHIVED_FILE));
};

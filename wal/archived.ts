import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Files, nodeFiles } from '../engine/files.ts';

/** What the agent tells the engine: the log up to `lsn`, in files up to `sequence`, is durable in the archive. */
export interface Archived {
  readonly lsn: number;
  readonly sequence: number;
}

const ARCHIVED_FILE = 'archived.json';

/** A flipped digit must not make the engine trim what is not archived. */
const crcOf = ({ lsn, sequence }: Archived): number => crc32(`${lsn}/${sequence}`);

/** Missing or unreadable counts as "nothing archived": the engine then keeps its log. */
export const readArchived = async (dir: string, files: Files = nodeFiles): Promise<Archived> => {
  try {
    const { lsn, sequence, crc } = JSON.parse((await files.read(join(dir, ARCHIVED_FILE))).toString('utf8'));
    if (Number.isSafeInteger(lsn) && Number.isSafeInteger(sequence) && crc === crcOf({ lsn, sequence }))
      return { lsn, sequence };
  } catch {
    // see above
  }
  return { lsn: 0, sequence: 0 };
};

/** Not synced on purpose: a lost update makes the engine keep more log than it must. */
export const writeArchived = async (
  dir: string,
  archived: Archived,
  files: Files = nodeFiles,
): Promise<void> => {
  const temporary = join(dir, `.${ARCHIVED_FILE}.${randomBytes(4).toString('hex')}`);
  const file = await files.createNew(temporary);
  try {
    await file.append(Buffer.from(JSON.stringify({ ...archived, crc: crcOf(archived) })));
  } finally {
    await file.close();
  }
  await files.rename(temporary, join(dir, ARCHIVED_FILE));
};

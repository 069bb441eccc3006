import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Files, nodeFiles } from '../engine/files.ts';
import { replaceFile } from '../engine/identity.ts';

/** What the agent tells the engine: the log up to `lsn`, in files up to `sequence`, is durable in the archive. */
export interface Archived {
  readonly lsn: number;
  readonly sequence: number;
}

const ARCHIVED_FILE = 'archived.json';

const ARCHIVED_VERSION = 1;

const checksum = ({ lsn, sequence }: Archived): string =>
  crc32(`${ARCHIVED_VERSION} ${lsn} ${sequence}`).toString(16).padStart(8, '0');

export const encodeArchived = (archived: Archived): string =>
  JSON.stringify({ version: ARCHIVED_VERSION, ...archived, crc32: checksum(archived) });

/**
 * Missing, unreadable or changed counts as "nothing archived": the engine then keeps its log. One flipped digit that passed
 * would make it trim what no archive has.
 */
export const readArchived = async (dir: string, files: Files = nodeFiles): Promise<Archived> => {
  try {
    const text = (await files.read(join(dir, ARCHIVED_FILE))).toString('utf8');
    const { lsn, sequence } = JSON.parse(text);
    if (
      Number.isSafeInteger(lsn) &&
      Number.isSafeInteger(sequence) &&
      text === encodeArchived({ lsn, sequence })
    )
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
  await replaceFile(dir, ARCHIVED_FILE, encodeArchived(archived), files);
};

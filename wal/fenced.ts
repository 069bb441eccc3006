import { join } from 'node:path';
import { type Files, nodeFiles, removeIfThere } from '../engine/files.ts';
import { writeFileDurably } from '../engine/identity.ts';

/** What an agent leaves behind in the engine directory when another one has taken its stream. */
export interface FencedReport {
  /** When it found out, ms by its own clock. */
  readonly sinceMs: number;
  /** Writer generation of this agent, and of the one that has the stream. */
  readonly mine: number;
  readonly current: number;
  /** What the archive certainly has of this directory: the log up to this LSN, in files up to this number. */
  readonly lsn: number;
  readonly sequence: number;
}

const FENCED_FILE = 'fenced.json';
const FENCED_VERSION = 1;

/** Durable: nobody may be there any more to say it again. */
export const writeFenced = (dir: string, report: FencedReport, files: Files): Promise<void> => {
  const text = JSON.stringify({ pitr: 'fenced', version: FENCED_VERSION, ...report });
  return writeFileDurably(dir, FENCED_FILE, `${text}\n`, files);
};

/** An agent archives this directory again. */
export const clearFenced = (dir: string, files: Files): Promise<void> =>
  removeIfThere(files, join(dir, FENCED_FILE));

/** Undefined: no agent has lost the stream here since one took it. What cannot be read says nothing. */
export const readFenced = async (
  dir: string,
  files: Files = nodeFiles,
): Promise<FencedReport | undefined> => {
  try {
    const { version, pitr, ...report } = JSON.parse(
      (await files.read(join(dir, FENCED_FILE))).toString('utf8'),
    );
    return version === FENCED_VERSION ? report : undefined;
  } catch {
    return undefined;
  }
};

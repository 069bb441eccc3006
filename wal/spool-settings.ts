import { join } from 'node:path';
import { PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { writeFileDurably } from '../engine/identity.ts';
import { SPOOL_POLICIES, type SpoolPolicy } from '../engine/spool.ts';

/** How much log may wait for the archive, and what happens then. */
export interface SpoolSettings {
  readonly policy: SpoolPolicy;
  /** Log in the engine directory that the archive does not have, bytes. */
  readonly quotaBytes: number;
  /** A second directory, on another file system, for what is over; null: none. Used by policy `spill` only. */
  readonly spillDir: string | null;
  /** Bytes of log that may wait there. */
  readonly spillBytes: number;
  /** How long a writer waits for room before its write is refused, ms. */
  readonly blockTimeoutMs: number;
  /** With less left in the file system of the log it counts as full; 0: not looked at. Bytes. */
  readonly minFreeBytes: number;
}

export const SPOOL_DEFAULTS: SpoolSettings = {
  policy: 'spill',
  quotaBytes: 10 * 1024 ** 3,
  spillDir: null,
  spillBytes: 10 * 1024 ** 3,
  blockTimeoutMs: 60_000,
  minFreeBytes: 0,
};

/** In the engine directory. Whoever runs the agent writes it; the writer looks at it once a second. */
export const SPOOL_FILE = 'spool.json';
const SPOOL_VERSION = 1;

/** What is set for a directory; what is not said has its default. @throws config-invalid, format-version, io */
export const readSpoolSettings = async (dir: string, files: Files = nodeFiles): Promise<SpoolSettings> => {
  const path = join(dir, SPOOL_FILE);
  let text: string;
  try {
    text = (await files.read(path)).toString('utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return SPOOL_DEFAULTS;
    throw new PitrError('io', { op: 'read', path, why: code }, { cause });
  }
  let said: { version?: unknown } & Record<string, unknown>;
  try {
    said = JSON.parse(text);
  } catch (cause) {
    throw new PitrError('config-invalid', { path, what: 'it is not JSON' }, { cause });
  }
  if (said?.version !== SPOOL_VERSION)
    throw new PitrError('format-version', {
      what: path,
      version: String(said?.version),
      supported: SPOOL_VERSION,
    });
  const { version, pitr, ...settings } = said;
  return checked({ ...SPOOL_DEFAULTS, ...settings } as SpoolSettings, path);
};

/** Changes what is set for a directory; a writer that has it open follows. Returns what counts now. */
export const writeSpoolSettings = async (
  dir: string,
  change: Partial<SpoolSettings>,
): Promise<SpoolSettings> => {
  const before = await readSpoolSettings(dir);
  const settings = checked({ ...before, ...change }, join(dir, SPOOL_FILE));
  if (JSON.stringify(settings) !== JSON.stringify(before)) {
    const text = JSON.stringify({ pitr: 'spool', version: SPOOL_VERSION, ...settings }, null, 2);
    await writeFileDurably(dir, SPOOL_FILE, `${text}\n`);
  }
  return settings;
};

const checked = (s: SpoolSettings, path: string): SpoolSettings => {
  const refuse = (what: string): PitrError => new PitrError('config-invalid', { path, what });
  if (!SPOOL_POLICIES.includes(s.policy)) throw refuse(`policy ${String(s.policy)}`);
  for (const name of ['quotaBytes', 'spillBytes', 'blockTimeoutMs', 'minFreeBytes'] as const)
    if (!Number.isSafeInteger(s[name]) || s[name] < 0) throw refuse(`${name} is ${String(s[name])}`);
  if (s.spillDir !== null && typeof s.spillDir !== 'string') throw refuse('spillDir is not a path');
  return s;
};

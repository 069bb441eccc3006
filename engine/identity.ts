import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { PitrError } from './errors.ts';

/** File in an engine directory that says what it is. Written once, replaced only as a whole. */
export const IDENTITY_FILE = 'engine.json';
export const IDENTITY_VERSION = 1;
/** Directory of the local log in an engine directory. */
export const LOG_DIR = 'log';

/** The history that an engine's own log continues. Positions are the last LSN of each stream that counts. */
export interface ForkPoint {
  readonly timeline: string;
  /** The restored instant, ms: versions of the parent with a later ts do not belong to this history. */
  readonly ts: number;
  readonly positions: Readonly<Record<string, number>>;
  readonly ttl: TtlShift;
}

/** What the restore did to void times (S10). `forkTs`: versions expired by then were not restored. */
export interface TtlShift {
  readonly mode: 'absolute' | 'shift' | 'never';
  readonly seconds: number;
}

export interface EngineIdentity {
  readonly pitr: 'engine';
  readonly version: number;
  /** 32 hex digits. */
  readonly engineId: string;
  /** Name of its stream in the archive. */
  readonly stream: string;
  /** Id of the history it writes, 16 hex digits. */
  readonly timeline: string;
  /** Shards of the running digest: a power of two. */
  readonly shards: number;
  /** Partitions that it owned when it was made; later changes are in its log. */
  readonly partitions: string;
  readonly archive?: { readonly url: string; readonly id: string };
  /** Set by a restore. */
  readonly fork?: ForkPoint;
  /** A restore with filters or renames: no longer the parent's history, a base copy starts a new one. */
  readonly detached?: boolean;
  readonly createdMs: number;
}

export const newTimelineId = (): string => randomBytes(8).toString('hex');

export const newIdentity = (
  fields: Partial<
    Pick<EngineIdentity, 'stream' | 'timeline' | 'shards' | 'partitions' | 'archive' | 'fork' | 'detached'>
  >,
  nowMs: number,
): EngineIdentity => {
  const stream = fields.stream ?? 'main';
  const shards = fields.shards ?? 16;
  if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(stream))
    throw new PitrError('usage', {
      what: `bad stream name "${stream}"`,
      hint: 'letters, digits, _ and -, at most 63',
    });
  if (shards < 1 || shards > 256 || (shards & (shards - 1)) !== 0)
    throw new PitrError('usage', { what: `${shards} shards`, hint: 'a power of two from 1 to 256' });
  return {
    pitr: 'engine',
    version: IDENTITY_VERSION,
    engineId: randomBytes(16).toString('hex'),
    timeline: newTimelineId(),
    partitions: 'all',
    createdMs: nowMs,
    ...fields,
    stream,
    shards,
  };
};

/** @throws not-an-engine, format-version */
export const readIdentity = async (dir: string): Promise<EngineIdentity> => {
  let text: string;
  try {
    text = await fs.readFile(join(dir, IDENTITY_FILE), 'utf8');
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && code !== 'ENOTDIR')
      throw new PitrError('io', { op: 'read', path: join(dir, IDENTITY_FILE), why: code }, { cause });
    throw new PitrError('not-an-engine', {
      dir,
      why: code === 'ENOTDIR' ? 'it is not a directory' : `it has no ${IDENTITY_FILE}`,
    });
  }
  let identity: EngineIdentity;
  try {
    identity = JSON.parse(text);
  } catch (cause) {
    throw new PitrError('not-an-engine', { dir, why: `${IDENTITY_FILE} is not JSON` }, { cause });
  }
  if (identity?.pitr !== 'engine')
    throw new PitrError('not-an-engine', { dir, why: `${IDENTITY_FILE} is of something else` });
  if (identity.version !== IDENTITY_VERSION)
    throw new PitrError('format-version', {
      what: join(dir, IDENTITY_FILE),
      version: identity.version,
      supported: IDENTITY_VERSION,
    });
  return identity;
};

/** Writes the identity durably: temporary file, fsync, rename, fsync of the directory. */
export const writeIdentity = async (dir: string, identity: EngineIdentity): Promise<void> =>
  writeFileDurably(dir, IDENTITY_FILE, `${JSON.stringify(identity, null, 2)}\n`);

/** Replaces a small file as a whole and durably. */
export const writeFileDurably = async (dir: string, name: string, text: string): Promise<void> => {
  await fs.mkdir(dir, { recursive: true });
  const temporary = join(dir, `.${name}.${randomBytes(4).toString('hex')}`);
  const handle = await fs.open(temporary, 'wx');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.rename(temporary, join(dir, name));
  const folder = await fs.open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
};

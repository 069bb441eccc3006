import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { PitrError } from './errors.ts';
import { type Files, makeDirs, nodeFiles } from './files.ts';
import { PartitionSet } from './partition.ts';

/** File in an engine directory that says what it is. Written once, replaced only as a whole. Ends with the crc32 of the rest. */
export const IDENTITY_FILE = 'engine.json';
export const IDENTITY_VERSION = 2;
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

const lsn = z.int().min(0);
const shape = z.object({
  engineId: z.string().regex(/^[0-9a-f]{32}$/),
  stream: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/),
  timeline: z.string().regex(/^[0-9a-f]{16}$/),
  shards: z.int().refine((n) => n >= 1 && n <= 256 && (n & (n - 1)) === 0),
  partitions: z.string().refine(PartitionSet.isText),
  archive: z.object({ url: z.string().min(1), id: z.string().min(1) }).optional(),
  fork: z
    .object({
      timeline: z.string().min(1),
      ts: lsn,
      positions: z.record(z.string(), lsn),
      ttl: z.object({ mode: z.enum(['absolute', 'shift', 'never']), seconds: z.int() }),
    })
    .optional(),
  detached: z.boolean().optional(),
  createdMs: lsn,
});

const checksum = (identity: object): string => crc32(JSON.stringify(identity)).toString(16).padStart(8, '0');

export const encodeIdentity = (identity: EngineIdentity): string =>
  `${JSON.stringify({ ...identity, crc32: checksum(identity) }, null, 2)}\n`;

/** @throws not-an-engine, format-version */
export const decodeIdentity = (text: string, dir: string): EngineIdentity => {
  const refuse = (why: string, cause?: unknown): PitrError =>
    new PitrError('not-an-engine', { dir, why: `${IDENTITY_FILE} ${why}` }, { cause });
  let found: EngineIdentity & { readonly crc32?: unknown };
  try {
    found = JSON.parse(text);
  } catch (cause) {
    throw refuse('is not JSON', cause);
  }
  if (found?.pitr !== 'engine') throw refuse('is of something else');
  if (found.version !== IDENTITY_VERSION)
    throw new PitrError('format-version', {
      what: join(dir, IDENTITY_FILE),
      version: String(found.version),
      supported: IDENTITY_VERSION,
    });
  const { crc32: stated, ...identity } = found;
  if (stated !== checksum(identity)) throw refuse('does not match its checksum');
  const problem = shape.safeParse(identity).error?.issues[0];
  if (problem) throw refuse(`has a bad ${problem.path.join('.')}`);
  return identity;
};

/** @throws not-an-engine, format-version, io */
export const readIdentity = async (dir: string, files: Files = nodeFiles): Promise<EngineIdentity> => {
  const path = join(dir, IDENTITY_FILE);
  let bytes: Buffer;
  try {
    bytes = await files.read(path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && code !== 'ENOTDIR')
      throw new PitrError('io', { op: 'read', path, why: code }, { cause });
    throw new PitrError('not-an-engine', {
      dir,
      why: code === 'ENOTDIR' ? 'it is not a directory' : `it has no ${IDENTITY_FILE}`,
    });
  }
  return decodeIdentity(bytes.toString('utf8'), dir);
};

/** Writes the identity durably: temporary file, fsync, rename, fsync of the directory. */
export const writeIdentity = async (dir: string, identity: EngineIdentity, files?: Files): Promise<void> =>
  writeFileDurably(dir, IDENTITY_FILE, encodeIdentity(identity), files);

/** Replaces a small file as a whole and durably. */
export const writeFileDurably = async (
  dir: string,
  name: string,
  text: string,
  files: Files = nodeFiles,
): Promise<void> => {
  await makeDirs(files, dir);
  await replace(dir, name, text, files, true);
  await files.syncDir(dir);
};

/** The same for what may be lost: nothing is synced. The folder must be there. */
export const replaceFile = (dir: string, name: string, text: string, files: Files): Promise<void> =>
  replace(dir, name, text, files, false);

const replace = async (
  dir: string,
  name: string,
  text: string,
  files: Files,
  isSynced: boolean,
): Promise<void> => {
  const temporary = join(dir, `.${name}.${randomBytes(4).toString('hex')}`);
  const file = await files.createNew(temporary);
  try {
    await file.append(Buffer.from(text));
    if (isSynced) await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(temporary, join(dir, name));
};

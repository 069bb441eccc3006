import { join } from 'node:path';
import { PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { DroppedRange } from '../engine/spool.ts';
import type { Gap } from './catalog.ts';

/** In the log directory: what was given up of the log before the archive had it. Durable before a file goes. */
export const DROPPED_FILE = 'dropped.json';
const DROPPED_VERSION = 1;

/** Missing: nothing was dropped. @throws format-version, object-corrupt, io */
export const readDropped = async (logDir: string, files: Files): Promise<DroppedRange[]> => {
  const path = join(logDir, DROPPED_FILE);
  let bytes: Buffer;
  try {
    bytes = await files.read(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    throw new PitrError('io', { op: 'read', path, why: code }, { cause });
  }
  try {
    const { version, ranges } = JSON.parse(bytes.toString('utf8'));
    if (version !== DROPPED_VERSION)
      throw new PitrError('format-version', { what: path, version, supported: DROPPED_VERSION });
    if (Array.isArray(ranges)) return ranges;
  } catch (cause) {
    if (cause instanceof PitrError) throw cause;
  }
  throw new PitrError('object-corrupt', { name: path, why: 'it is not what pitr writes' });
};

/** Replaces the record as a whole, durably. */
export const writeDropped = async (
  logDir: string,
  ranges: readonly DroppedRange[],
  files: Files,
): Promise<void> => {
  const path = join(logDir, DROPPED_FILE);
  const temporary = `${path}.new`;
  await files.remove(temporary).catch((error) => {
    if (error.code !== 'ENOENT') throw error;
  });
  const file = await files.createNew(temporary);
  try {
    await file.append(
      Buffer.from(`${JSON.stringify({ pitr: 'dropped', version: DROPPED_VERSION, ranges })}\n`),
    );
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(temporary, path);
  await files.syncDir(logDir);
};

/** Adds a range; one that goes on where the last one ends is one with it: one outage, one gap. */
export const withDropped = (ranges: readonly DroppedRange[], range: DroppedRange): DroppedRange[] => {
  const last = ranges.at(-1);
  if (!last || last.lsnEnd < range.lsnStart) return [...ranges, range];
  return [
    ...ranges.slice(0, -1),
    {
      ...range,
      lsnStart: last.lsnStart,
      afterTs: last.afterTs,
      files: last.files + range.files,
      bytes: last.bytes + range.bytes,
    },
  ];
};

/** The gap with its cause, when it is log that was given up on purpose. A record that cannot be read explains nothing. */
export const withCause = async (gap: Gap, logDir: string, files: Files): Promise<Gap> => {
  const ranges = await readDropped(logDir, files).catch(() => []);
  const isDropped = ranges.some((r) => r.lsnStart < gap.lsnEnd && r.lsnEnd > gap.lsnStart);
  return isDropped ? { ...gap, cause: 'dropped: quota' } : gap;
};

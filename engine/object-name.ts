/** What every store checks before it touches anything: names, folders and byte ranges. */
import { PitrError } from './errors.ts';

const NAME_BYTES_MAX = 1000;
/** A folder at the top that no caller can name: stores keep there what is none of the archive's objects. */
export const RESERVED_FOLDER = '.tmp';

/** One part of a name, between slashes. */
export const isNamePart = (part: string): boolean =>
  /^[A-Za-z0-9._-]{1,255}$/.test(part) && !part.includes('..') && part !== '.';

export const isObjectName = (name: string): boolean =>
  name.length <= NAME_BYTES_MAX &&
  name !== RESERVED_FOLDER &&
  !name.startsWith(`${RESERVED_FOLDER}/`) &&
  name.split('/').every(isNamePart);

/** @throws usage */
export function checkName(name: string): void {
  if (!isObjectName(name))
    throw new PitrError('usage', { what: `${JSON.stringify(name.slice(0, 200))} is not an object name` });
}

/** A folder to list: `''` or a name that ends in `/`. @throws usage */
export function checkFolder(prefix: string): void {
  if (prefix === '') return;
  if (!prefix.endsWith('/'))
    throw new PitrError('usage', { what: `prefix ${JSON.stringify(prefix)} does not end in /` });
  checkName(prefix.slice(0, -1));
}

/** @throws usage */
export function checkRange(range?: { start: number; end?: number }): void {
  const { start, end = Number.MAX_SAFE_INTEGER } = range ?? { start: 0 };
  const ordered = range?.end === undefined || (start >= 0 && end >= start);
  if (!Number.isSafeInteger(start) || !Number.isSafeInteger(end) || !ordered) {
    throw new PitrError('usage', { what: `[${start}, ${end}) is not a byte range` });
  }
}

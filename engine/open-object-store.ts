import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DirectoryStore } from './directory-store.ts';
import { PitrError } from './errors.ts';
import type { ObjectStore } from './object-store.ts';

/**
 * The store that an archive URL names: `file:DIR` (relative to the working directory, or absolute) or `file:///DIR`
 * (a URL proper, in which `%20` is a space). Touches nothing: the directory is made by the first create.
 * @throws `archive-url`
 */
export function openObjectStore(url: string): ObjectStore {
  return new DirectoryStore({ dir: directoryOf(url), url });
}

function directoryOf(url: string): string {
  const path = url.startsWith('file:') ? url.slice('file:'.length) : '';
  if (path === '' || path.includes('\0')) throw new PitrError('archive-url', { url });
  if (!path.startsWith('//')) return resolve(path);
  try {
    return fileURLToPath(url);
  } catch (cause) {
    // A host, or an escape that is no path.
    throw new PitrError('archive-url', { url }, { cause });
  }
}

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
  try {
    const path = url.startsWith('file:///') ? fileURLToPath(url) : url.replace(/^file:(?!\/\/)/, '');
    if (path !== url && path !== '' && !path.includes('\0')) return resolve(path);
  } catch (cause) {
    // An escape that is no path.
    throw new PitrError('archive-url', { url }, { cause });
  }
  throw new PitrError('archive-url', { url });
}

/** `file:` URLs are kept absolute: an agent may be started elsewhere. */
export const absoluteUrl = (url: string): string => {
  const m = /^file:(?!\/\/)(.*)$/.exec(url);
  return m ? `file:${resolve(m[1])}` : url;
};

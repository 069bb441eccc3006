import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DirectoryStore } from './directory-store.ts';
import { PitrError } from './errors.ts';
import type { ObjectStore } from './object-store.ts';
import { observedStore } from './observed-store.ts';
import { isS3Url, withoutTuning } from './s3-options.ts';
import { S3Store } from './s3-store.ts';
import type { StoreObserver } from './store-observer.ts';

/**
 * The store that an archive URL names: `file:DIR` (relative to the working directory, or absolute), `file:///DIR`
 * (a URL proper, in which `%20` is a space), or `s3://BUCKET/PREFIX?…` (s3-options.ts). Touches nothing: a directory is made by
 * the first create, a bucket must be there. Without an observer it is the store itself.
 * @throws `archive-url`
 */
export function openObjectStore(url: string, observe?: StoreObserver): ObjectStore {
  const store = isS3Url(url)
    ? new S3Store({ url, ...(observe ? { observe } : {}) })
    : new DirectoryStore({ dir: directoryOf(url), url });
  return observe ? observedStore(store, observe) : store;
}

/** The directory of a `file:` URL, absolute. @throws `archive-url` */
export function directoryOf(url: string): string {
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

/** The form in which an engine directory keeps the URL of its archive: what is where, not how fast it may be talked to. */
export const keptUrl = (url: string): string => withoutTuning(absoluteUrl(url));

import { PitrError } from './errors.ts';
import { DIGEST_BYTES, PARTITIONS } from './partition.ts';
import { HEADER_BYTES } from './state-record.ts';

/**
 * **Pages**: how a restore writes many small records at once. A page holds the records of an equal part of a partition, in order of
 * their sort keys:
 *
 *     20 sort key · u32 value bytes · value (state-record.ts)      after one another, little endian
 *
 * A page is never changed. What is written to the store later lies beside the pages and hides what they say (store.ts).
 */
export const PAGES_VERSION = 1;
/** Bytes in front of each value in a page. */
export const PAGE_ENTRY_BYTES = DIGEST_BYTES + 4;
/** Size that pages have on average: LMDB keeps whole 4 KiB, so small pages waste space, and large ones make a read of one record slow. */
const PAGE_BYTES = 14 * 1024;
/** Bytes at which a page is full: what else belongs into it goes beside the pages, so digests need not be spread evenly. */
export const PAGE_BYTES_MAX = 64 * 1024;
/** Larger values have no use for a page. */
export const PAGED_VALUE_BYTES_MAX = 4 * 1024;
const PER_PARTITION_MAX = 2 ** 20;
/** First words of sort keys that one partition has. */
export const WORDS_PER_PARTITION = 2 ** 20;

/** Pages in each partition for about `records` of `valueBytes` on average; 0: pages are of no use. */
export const pagesPerPartition = (records: number, valueBytes: number): number => {
  if (!(valueBytes <= PAGED_VALUE_BYTES_MAX)) return 0;
  const bytes = (records / PARTITIONS) * (PAGE_ENTRY_BYTES + valueBytes);
  return bytes < PAGE_BYTES / 16
    ? 0
    : Math.min(PER_PARTITION_MAX, Math.max(1, Math.round(bytes / PAGE_BYTES)));
};

/** Number of the page that a record belongs to, from the first word of its sort key; pages of a partition follow each other. */
export const pageOfWord = (w0: number, perPartition: number): number =>
  (w0 >>> 20) * perPartition + Math.floor(((w0 & 0xfffff) * perPartition) / 2 ** 20);

/** Start of a record's value within a page, or -1. Its bytes are the u32 before. `bytes` is the size of the page. */
export const findInPage = (page: Buffer, bytes: number, key: Buffer): number => {
  // the sort key is the end of the store key
  const keyAt = key.length - DIGEST_BYTES;
  for (let at = 0; at + PAGE_ENTRY_BYTES <= bytes; ) {
    const order = compareKeys(page, at, key, keyAt);
    if (order === 0) return at + PAGE_ENTRY_BYTES;
    if (order > 0) return -1;
    at += PAGE_ENTRY_BYTES + u32(page, at + DIGEST_BYTES);
  }
  return -1;
};

const u32 = (b: Buffer, at: number): number =>
  (b[at] | (b[at + 1] << 8) | (b[at + 2] << 16) | (b[at + 3] << 24)) >>> 0;

const compareKeys = (a: Buffer, aAt: number, b: Buffer, bAt: number): number => {
  for (let i = 0; i < DIGEST_BYTES; i++) {
    const difference = a[aAt + i] - b[bAt + i];
    if (difference !== 0) return difference;
  }
  return 0;
};

/**
 * End of the entry that starts at `at`, after checking that it is one.
 * @throws store-corrupt
 */
export const entryEnd = (page: Buffer, at: number, dir: string): number => {
  const start = at + PAGE_ENTRY_BYTES;
  const end = start > page.length ? start : start + u32(page, at + DIGEST_BYTES);
  if (end > page.length || end - start < HEADER_BYTES || end < start + HEADER_BYTES + page[start + 24])
    throw new PitrError('store-corrupt', { dir, why: 'a page ends within a record' });
  return end;
};

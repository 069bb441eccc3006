import { crc32 } from 'node:zlib';
import type { ZodType } from 'zod';
import { PitrError } from '../engine/errors.ts';
import {
  acknowledgementsSchema,
  archiveSchema,
  assertShape,
  headSchema,
  leasesSchema,
  mergeNoteSchema,
  timelinesSchema,
  verifyResultsSchema,
} from './schema.ts';

/**
 * Control objects (catalog heads, timelines, snapshot manifests) are JSON under one line that says what they are, so that a
 * person can read them and a flipped bit is seen:
 *
 *     {"pitr":"head","version":2,"bytes":1234,"crc32":"89abcdef"}
 *     { … }
 */
export const DOCUMENT_VERSION = 2;
/** Bound on a control object; longer lists live in pages. */
const DOCUMENT_BYTES_MAX = 64 * 1024 * 1024;
const HEADER_BYTES_MAX = 512;

export type DocumentKind =
  | 'archive'
  | 'timelines'
  | 'head'
  | 'snapshots'
  | 'snapshot'
  | 'snapshot-range'
  | 'page'
  | 'merge'
  | 'leases'
  | 'acknowledgements'
  | 'verify-results'
  | 'orphans';

/** @throws internal when it would be more than anybody reads: what is there stays, and can be read */
export const encodeDocument = (kind: DocumentKind, body: unknown): Buffer => {
  const text = Buffer.from(`${JSON.stringify(body, null, 1)}\n`);
  if (text.length > DOCUMENT_BYTES_MAX - HEADER_BYTES_MAX)
    throw new PitrError('internal', { what: `a ${kind} of ${text.length} bytes is over the limit` });
  const crc = crc32(text).toString(16).padStart(8, '0');
  const head = `${JSON.stringify({ pitr: kind, version: DOCUMENT_VERSION, bytes: text.length, crc32: crc })}\n`;
  return Buffer.concat([Buffer.from(head), text]);
};

/** What is checked beyond the checksum, by kind; the kinds of snapshot/ bring their schema along. */
const SCHEMAS: Partial<Record<DocumentKind, ZodType>> = {
  archive: archiveSchema,
  timelines: timelinesSchema,
  head: headSchema,
  merge: mergeNoteSchema,
  leases: leasesSchema,
  acknowledgements: acknowledgementsSchema,
  'verify-results': verifyResultsSchema,
};

/** @throws object-corrupt, also when the body does not have the shape of its kind; format-version */
export const decodeDocument = <T>(
  kind: DocumentKind,
  bytes: Buffer,
  name: string,
  schema: ZodType | undefined = SCHEMAS[kind],
): T => {
  const body = openDocument(kind, bytes, name);
  if (schema) assertShape(schema, body, name);
  return body as T;
};

/** The body of a document whose checksum is right. @throws object-corrupt, format-version */
export const openDocument = (kind: DocumentKind, bytes: Buffer, name: string): unknown => {
  const corrupt = (why: string, cause?: unknown): PitrError =>
    new PitrError('object-corrupt', { name, why }, { cause });
  if (bytes.length > DOCUMENT_BYTES_MAX) throw corrupt(`${bytes.length} bytes are over the limit`);
  const end = bytes.indexOf(10);
  if (end < 0 || end > HEADER_BYTES_MAX) throw corrupt('no header line');
  let head: { pitr?: unknown; version?: unknown; bytes?: unknown; crc32?: unknown };
  try {
    head = JSON.parse(bytes.toString('utf8', 0, end));
  } catch (cause) {
    throw corrupt('header line is not JSON', cause);
  }
  if (head?.pitr !== kind) throw corrupt(`it is not a ${kind}`);
  if (head.version !== DOCUMENT_VERSION)
    throw new PitrError('format-version', {
      what: name,
      version: String(head.version),
      supported: DOCUMENT_VERSION,
    });
  const text = bytes.subarray(end + 1);
  if (text.length !== head.bytes) throw corrupt('it is cut short or too long');
  if (crc32(text).toString(16).padStart(8, '0') !== head.crc32) throw corrupt('checksum');
  try {
    return JSON.parse(text.toString('utf8'));
  } catch (cause) {
    throw corrupt('body is not JSON', cause);
  }
};

import { z } from 'zod';
import { PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';

/**
 * What control objects, events and log headers must look like. A checksum says that the bytes are those that were written; this
 * says that they make sense to this release, so that a field that is missing or of another type is refused where it is read,
 * and does not become NaN in a comparison far away. Unknown fields are left alone.
 */

const count = z.int().min(0);
/** LSN, ts, LUT, offsets: below 2^53. */
const position = count;
const text = z.string();
const name = text.min(1);
const bytes = z.instanceof(Uint8Array);
export const partitionsText = text.refine(PartitionSet.isText, 'not a list of partitions');
export const partitionRangeSchema = z
  .object({ start: count.max(4096), end: count.max(4096) })
  .refine((r) => r.start <= r.end, 'it ends before it starts');
export const shardDigests = z
  .array(z.object({ sum: text.regex(/^[0-9a-f]{32}$/), records: z.int() }))
  .max(256);

export const logHeaderSchema = z.object({
  engine: name,
  stream: name,
  timeline: name,
  sequence: position,
  lsnFirst: position,
  epoch: count,
  chain: count.max(0xffffffff),
});

const at = { lsn: position, ts: position };
// a truncation without a finite cutoff would hide or show everything
const truncate = {
  kind: z.literal('truncate'),
  namespace: name,
  set: text.nullable(),
  cutoffLut: z.number(),
  partitions: partitionsText,
  windowStartMs: position.optional(),
  windowEndMs: position.optional(),
};
/** A window has both ends, in their order. */
const hasWindow = (e: { windowStartMs?: number | undefined; windowEndMs?: number | undefined }): boolean =>
  e.windowStartMs === undefined
    ? e.windowEndMs === undefined
    : e.windowEndMs !== undefined && e.windowStartMs <= e.windowEndMs;
const WINDOW_WHY = 'its window has no start or no end, or ends before it starts';
const definition = {
  kind: z.literal('definition'),
  what: z.enum(['sindex', 'udf']),
  namespace: text.nullable(),
  name: text,
  body: bytes.nullable(),
};
const ownership = {
  kind: z.literal('ownership'),
  change: z.enum(['acquire', 'release']),
  partitions: partitionsText,
  peer: text,
  epoch: count,
  digests: shardDigests.nullish(),
};

export const logEventSchema = z.discriminatedUnion('kind', [
  z.object({ ...at, ...truncate }).refine(hasWindow, WINDOW_WHY),
  z.object({ ...at, ...definition }),
  z.object({ ...at, kind: z.literal('mark'), name: text }),
  z.object({ ...at, ...ownership }),
]);

export const logClockSchema = z.object({ ...at, epoch: count, digests: shardDigests });

const archived = { ...at, stream: name, epoch: count };

export const clockEventSchema = z.object({ ...archived, kind: z.literal('clock'), digests: shardDigests });

export const archiveEventSchema = z.discriminatedUnion('kind', [
  z.object({ ...archived, ...truncate }).refine(hasWindow, WINDOW_WHY),
  z.object({ ...archived, kind: z.literal('mark'), name: text }),
  z.object({ ...archived, ...ownership }),
  clockEventSchema,
  z.object({ ...archived, ...definition }),
  z.object({ ...archived, kind: z.literal('gap'), lsnStart: position, lsnEnd: position, cause: text }),
]);

/** A definition in a document, which is JSON. */
export const storedDefinitionSchema = z.object({
  ...archived,
  ...definition,
  body: z.base64().nullable(),
});

export const archiveEventsSchema = z.array(archiveEventSchema);

export const archiveSchema = z.object({ id: text.regex(/^[0-9a-f]{32}$/), createdMs: count });

export const timelinesSchema = z.object({
  archive: name,
  timelines: z.array(
    z.object({
      id: name,
      createdMs: count,
      parent: z
        .object({
          timeline: name,
          ts: position,
          positions: z.record(text, position),
          ttl: z.object({ mode: z.enum(['absolute', 'shift', 'never']), seconds: z.number() }),
        })
        .nullable(),
      detached: z.boolean(),
      streams: z.array(z.object({ name, engineId: text })),
      ownership: z.array(
        z.object({
          epoch: count,
          stream: name,
          partitions: partitionsText,
          fromTs: z.int(),
          toTs: z.int().nullable(),
        }),
      ),
    }),
  ),
});

const inexactPart = z.object({ count, fromTs: position });

const segmentRef = z.object({
  name,
  bytes: count,
  crc: text.regex(/^[0-9a-f]{8}$/),
  rows: count,
  tsMin: position,
  tsMax: position,
  partitions: partitionRangeSchema,
  events: count,
  inexact: inexactPart.optional(),
});
export const segmentRefsSchema = z.array(segmentRef);

const lsnRange = { lsnStart: position, lsnEnd: position };
export const logRangesSchema = z.array(z.object({ stream: name, ...lsnRange }));

const requestCounts = { puts: count, gets: count, deletes: count, sentBytes: count, receivedBytes: count };
const asked = z.object({
  ...requestCounts,
  sinceMs: count,
  earlier: z.array(z.object({ ...requestCounts, atMs: count })),
});
const written = z.object({ bytes: count, versions: count });

export const headSchema = z.object({
  archive: name,
  timeline: name,
  stream: name,
  engineId: text,
  generation: count,
  claim: text,
  frontier: z.object({ ts: position, lsn: position }),
  clock: clockEventSchema.nullable(),
  sequence: count,
  chain: count.max(0xffffffff).nullable(),
  runs: z.array(
    z.object({
      level: z.int(),
      ...lsnRange,
      tsMin: position,
      tsMax: position,
      segments: segmentRefsSchema.min(1),
    }),
  ),
  gaps: z.array(z.object({ ...lsnRange, afterTs: position, untilTs: position, cause: text })),
  marks: z.array(z.object({ name: text, ...at })),
  retired: z.array(z.object({ names: z.array(name), sinceMs: count, leases: z.array(name).nullable() })),
  written: z.object({ seals: written, merges: written }),
  sealMs: count.optional(),
  asked: asked.optional(),
  updatedMs: count,
});

export const mergeNoteSchema = z.object({
  archive: name,
  generation: count,
  claim: text,
  merge: z
    .object({
      level: count,
      ...lsnRange,
      inputs: z.array(name),
      parts: z.array(z.object({ ref: segmentRef, digest: text })),
      next: z.object({ namespace: text, partition: count.max(4096) }).nullable(),
      writing: name.nullable(),
    })
    .nullable(),
});

export const leasesSchema = z.object({
  archive: name,
  leases: z.array(
    z.object({
      id: name,
      purpose: text,
      ttlMs: count,
      beats: count,
      begunMs: count,
      renewedMs: count,
    }),
  ),
});

export const ACKNOWLEDGED_MAX = 10_000;
export const REASON_CHARS_MAX = 500;
export const BY_CHARS_MAX = 200;

export const acknowledgementsSchema = z.object({
  archive: name,
  gaps: z
    .array(
      z.object({
        timeline: name,
        stream: name,
        ...lsnRange,
        cause: text,
        by: name.max(BY_CHARS_MAX),
        reason: name.max(REASON_CHARS_MAX),
        atMs: count,
      }),
    )
    .max(ACKNOWLEDGED_MAX),
});

export const VERIFY_HISTORY_MAX = 30;

const verifyResult = z.object({
  atMs: count,
  durationMs: count,
  ok: z.boolean(),
  version: text,
  segments: count,
  bytes: count,
  versions: count,
  snapshots: count,
  states: z.object({ equal: count, differs: count, notChecked: count }),
  anomalies: z.record(text, count),
  harmless: z.record(text, count),
});

export const verifyResultsSchema = z.object({
  archive: name,
  newestGood: verifyResult.nullable(),
  history: z.array(verifyResult).max(VERIFY_HISTORY_MAX),
});

const segmentHeader = {
  archive: name,
  timeline: name,
  level: z.int(),
  streams: z.array(z.object({ epoch: count, stream: name, ...lsnRange })).max(65536),
  generation: count,
  salt: bytes,
  keyId: text.nullable(),
};
export const segmentHeaderSchema = z.object(segmentHeader);

export const segmentPropertiesSchema = z.object({
  header: segmentHeaderSchema,
  namespaces: z.array(name).max(65536),
  sets: z.array(text),
  rows: count,
  blocks: count,
  tsMin: position,
  tsMax: position,
  partitions: partitionRangeSchema,
  counts: z.array(
    z.object({ namespace: text, set: text, versions: count, deletes: count, imageBytes: count }),
  ),
  dataBytes: count,
  rawBytes: count,
  digest: text.nullable(),
  eventsOffset: count,
  eventsBytes: count,
  events: count,
  inexact: inexactPart.optional(),
  top: z.array(
    z.object({
      namespace: count,
      key: bytes.refine((key) => key.length === 20, 'not 20 bytes'),
      indexOffset: count,
      indexBytes: count,
      filterOffset: count,
      filterBytes: count,
    }),
  ),
});

/** Why `value` is not of this shape, or undefined: `runs.0.lsnStart: Invalid input`. */
export const misfit = (schema: z.ZodType, value: unknown): string | undefined => {
  const issue = schema.safeParse(value).error?.issues[0];
  return issue && `${issue.path.join('.') || 'it'}: ${issue.message}`;
};

/** @throws object-corrupt when `value` is not of this shape */
export const assertShape = (schema: z.ZodType, value: unknown, object: string): void => {
  const why = misfit(schema, value);
  if (why !== undefined) throw new PitrError('object-corrupt', { name: object, why });
};

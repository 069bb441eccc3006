import { z } from 'zod';
import type { ShardDigest } from '../engine/content-digest.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { PartitionRange } from '../engine/partition.ts';
import type { Archive } from '../wal/archive.ts';
import { decodeDocument, encodeDocument } from '../wal/document.ts';
import { partitionRangeSchema, segmentRefsSchema, shardDigests } from '../wal/schema.ts';
import type { SegmentRef } from '../wal/segment.ts';
import { SegmentReader } from '../wal/segment-reader.ts';
import type { Begun } from './manifest.ts';

/** What merging one range of partitions came to. Plain data: it comes from worker threads, and is the body of a note. */
export interface MergedRange {
  /** By namespace, in byte order: a run is sorted by namespace first, and ranges are put together after. */
  readonly parts: readonly { readonly namespace: string; readonly segments: readonly SegmentRef[] }[];
  /** Of the records in the segments. */
  readonly digest: readonly ShardDigest[];
  /** Of the state at the source's newest statement. */
  readonly clockDigest: readonly ShardDigest[];
  readonly records: number;
  readonly versions: number;
}

interface ProgressNote extends MergedRange {
  readonly archive: string;
  readonly snapshot: string;
  readonly range: PartitionRange;
}

const noteSchema = z.object({
  archive: z.string(),
  snapshot: z.string(),
  range: partitionRangeSchema,
  parts: z.array(z.object({ namespace: z.string(), segments: segmentRefsSchema })),
  digest: shardDigests,
  clockDigest: shardDigests,
  records: z.int().min(0),
  versions: z.int().min(0),
});

/** `begun/TIMELINE/ID/0000-0255`: found by its name, without a listing. */
export const noteName = (begun: Begun, { start, end }: PartitionRange): string => {
  const digits = (n: number): string => String(n).padStart(4, '0');
  return `begun/${begun.timeline}/${begun.id}/${digits(start)}-${digits(end - 1)}`;
};

/** Notes, durably, that the segments of a range are there. One that is there already, of another process, is replaced. */
export const writeNote = async (
  archive: Archive,
  begun: Begun,
  range: PartitionRange,
  merged: MergedRange,
): Promise<void> => {
  const name = noteName(begun, range);
  const note: ProgressNote = { archive: archive.id, snapshot: begun.id, range, ...merged };
  const bytes = encodeDocument('snapshot-range', note);
  try {
    await archive.store.create(name, bytes);
  } catch (error) {
    if (!isPitrError(error, 'object-exists')) throw error;
    await archive.store.delete([name]);
    await archive.store.create(name, bytes);
  }
};

/**
 * What an earlier attempt noted of a range, when all of it is really there: every block of every segment is read and its
 * checksums compared. Undefined: there is no note, or what it names is not what it says; then the range is merged again.
 */
export const readNote = async (
  archive: Archive,
  begun: Begun,
  range: PartitionRange,
): Promise<MergedRange | undefined> => {
  const name = noteName(begun, range);
  try {
    const note = decodeDocument<ProgressNote>(
      'snapshot-range',
      await archive.store.read(name),
      name,
      noteSchema,
    );
    if (note.archive !== archive.id || note.snapshot !== begun.id)
      throw new PitrError('object-corrupt', { name, why: 'it is of another snapshot' });
    let rows = 0;
    for (const { segments } of note.parts) for (const ref of segments) rows += await rowsIn(archive, ref);
    if (rows !== note.records) throw new PitrError('object-corrupt', { name, why: 'its count is wrong' });
    return note;
  } catch (error) {
    // a store that does not answer is no reason to do work again
    if (isPitrError(error, 'object-not-found') || isPitrError(error, 'object-corrupt')) return undefined;
    throw error;
  }
};

const rowsIn = async (archive: Archive, ref: SegmentRef): Promise<number> => {
  const reader = await SegmentReader.open(archive.store, ref, archive.id);
  let rows = 0;
  for (const handle of await reader.blocks()) {
    const [stored] = await reader.readBlocks([handle]);
    rows += reader.decode(stored).rows;
  }
  return rows;
};

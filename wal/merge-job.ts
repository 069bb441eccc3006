import { setImmediate as breathe } from 'node:timers/promises';
import { PitrError } from '../engine/errors.ts';
import { PARTITIONS } from '../engine/partition.ts';
import type { Archive } from './archive.ts';
import { segmentName } from './archive.ts';
import { type ArchiveEvent, compareEvents } from './event.ts';
import { Merge } from './merge.ts';
import type { RunCursor } from './run-cursor.ts';
import { type MergedPart, type MergePosition, RunWriter } from './run-writer.ts';
import { joinSpans, type Run } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';
import { verifyPart } from './verify-part.ts';
import { VersionDigest } from './version-digest.ts';

/** Rows between two looks at the world outside. */
const ROWS_AT_ONCE = 8192;

/** One merge of neighbouring runs into one, or the rest of it. Plain data: it goes to a worker thread and into a note. */
export interface MergeJob {
  readonly timeline: string;
  readonly stream: string;
  readonly generation: number;
  /** Level of the result. */
  readonly level: number;
  readonly runs: readonly Run[];
  /** Finished before, in order. */
  readonly parts: readonly MergedPart[];
  /** Where the part after them begins; null: at the start. */
  readonly next: MergePosition | null;
  /** Raw bytes after which a part ends at the next partition border. */
  readonly partRawBytes: number;
  /** Stop after this many parts: the rest is another job. */
  readonly partsMax: number;
}

/** What a job did. `next` null: the merge is complete. */
export interface MergeOutcome {
  readonly parts: readonly MergedPart[];
  readonly next: MergePosition | null;
}

/** Told what is about to be written, and what was: before and after, so that a kill at any point leaves no unknown object. */
export interface MergeHooks {
  writing(name: string): Promise<void>;
  /** The part was read back and is right. Not called for the last one. */
  wrote(part: MergedPart, next: MergePosition): Promise<void>;
  /** Looked at while it merges. @throws whatever shall end the job */
  check(): void;
}

class Enough extends Error {}

/**
 * Merges all versions and events of the runs; of the clock frames it keeps the last of each input and those of marks. Every part
 * is read back from the archive and compared with what went into it; at the end what the inputs stated of themselves is
 * compared with what all parts are. The catalog is not touched.
 * @throws verification-failed, object-corrupt, object-not-found …; what was written is then the caller's to delete
 */
export const runMergeJob = async (
  archive: Archive,
  job: MergeJob,
  hooks: MergeHooks,
): Promise<MergeOutcome> => {
  const readers = await Promise.all(
    job.runs.map((run) => Promise.all(run.segments.map((ref) => archive.reader(ref)))),
  );
  const events = await eventsOf(archive, job.runs);
  const { skip, merge } = mergeFrom(readers, job.next);
  const { lsnStart } = job.runs[0];
  const { lsnEnd } = job.runs[job.runs.length - 1];
  const parts: MergedPart[] = [];
  let next: MergePosition | null = null;
  const { timeline, stream, level, generation } = job;
  const writer = new RunWriter(
    {
      store: archive.store,
      archive: archive.id,
      timeline,
      level,
      generation,
      streams: joinSpans(readers.flat().flatMap((r) => r.properties.header.streams)),
      namespaces: merge.namespaces,
      nameOf: () => segmentName(timeline, stream, level, lsnStart, lsnEnd, generation),
      segmentRawBytes: job.partRawBytes,
      isFirst: job.parts.length === 0,
      parts: {
        before: (name) => hooks.writing(name),
        after: async (part, following) => {
          const isFirst = job.parts.length + parts.length === 0;
          await verifyPart(archive, part, { lsnStart, lsnEnd }, isFirst ? events : []);
          parts.push(part);
          next = following;
          if (!following) return;
          await hooks.wrote(part, following);
          if (parts.length >= job.partsMax) throw new Enough();
        },
      },
    },
    merge.sources,
    events,
  );
  let rows = 0;
  try {
    await merge.run({
      row: (cursor) => {
        if (skip(cursor)) return false;
        const isDue = writer.append(cursor, cursor.block.voidTime[cursor.row]);
        return ++rows % ROWS_AT_ONCE === 0 || isDue;
      },
      drain: async () => {
        await writer.flush();
        await breathe();
        hooks.check();
      },
    });
    await writer.finish();
  } catch (error) {
    if (!(error instanceof Enough)) throw error;
    return { parts, next };
  }
  checkTotal(readers.flat(), [...job.parts, ...parts]);
  return { parts, next: null };
};

/** The merge from a position on. With one namespace the index leads there; else what is before is read and left out. */
const mergeFrom = (
  readers: readonly (readonly SegmentReader[])[],
  next: MergePosition | null,
): { merge: Merge; skip: (cursor: RunCursor) => boolean } => {
  if (!next) return { merge: new Merge(readers), skip: () => false };
  const merge = new Merge(readers);
  if (merge.namespaces.length === 1)
    return { merge: new Merge(readers, { start: next.partition, end: PARTITIONS }), skip: () => false };
  const namespace = merge.namespaces.indexOf(next.namespace);
  return {
    merge,
    skip: (cursor) =>
      cursor.namespace < namespace ||
      (cursor.namespace === namespace && cursor.block.w0[cursor.row] >>> 20 < next.partition),
  };
};

const eventsOf = async (archive: Archive, runs: readonly Run[]): Promise<ArchiveEvent[]> => {
  const events: ArchiveEvent[] = [];
  for (const run of runs) {
    const own = await archive.events(run.segments);
    const marks = new Set(own.flatMap((e) => (e.kind === 'mark' ? [e.lsn] : [])));
    const newest = own
      .filter((e) => e.kind === 'clock')
      .sort(compareEvents)
      .at(-1);
    events.push(...own.filter((e) => e.kind !== 'clock' || e === newest || marks.has(e.lsn)));
  }
  return events.sort(compareEvents);
};

/** What the inputs stated when they were written, against what the outputs are. @throws verification-failed */
const checkTotal = (inputs: readonly SegmentReader[], parts: readonly MergedPart[]): void => {
  const stated = new VersionDigest();
  for (const { properties, ref } of inputs) {
    if (properties.digest === null)
      throw new PitrError('object-corrupt', { name: ref.name, why: 'it states no digest of its versions' });
    stated.plus(VersionDigest.parse(properties.digest));
  }
  const written = new VersionDigest();
  for (const { digest } of parts) written.plus(VersionDigest.parse(digest));
  if (`${stated}` !== `${written}`)
    throw new PitrError('verification-failed', {
      what: `a merge of ${stated.rows} versions wrote ${written.rows} (digest ${written}, the inputs state ${stated})`,
      hint: 'nothing was replaced; run pitr verify on the archive',
    });
};

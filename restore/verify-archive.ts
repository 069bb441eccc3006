import { ContentDigest } from '../engine/content-digest.ts';
import { isStorageError, PitrError } from '../engine/errors.ts';
import { PartitionSet } from '../engine/partition.ts';
import { NamedObjects } from '../snapshot/named-objects.ts';
import { type OrphanReport, reportOrphans } from '../snapshot/orphan-report.ts';
import { listSnapshots, readSnapshot } from '../snapshot/snapshots.ts';
import { planState } from '../snapshot/state-plan.ts';
import { ArchiveView } from '../snapshot/view.ts';
import type { Archive } from '../wal/archive.ts';
import { withLease } from '../wal/lease.ts';
import type { Run, SegmentRef } from '../wal/segment.ts';
import type { SegmentReader } from '../wal/segment-reader.ts';
import type { RestoreJob } from './range-job.ts';
import { RangePool, rangesFor } from './range-pool.ts';

/** One thing that is wrong. `class`: what kind of wrong. */
export interface Anomaly {
  readonly class:
    | 'missing'
    | 'corrupt'
    | 'order'
    | 'count'
    | 'gap'
    | 'overlap'
    | 'digest'
    | 'orphan'
    | 'foreign';
  readonly object: string;
  readonly what: string;
  /** Orphans and what is not ours are untidy, not harmful. A gap that the catalog states is no damage either: nothing across it is promised. */
  readonly harmless: boolean;
}

export interface VerifyReport {
  readonly archive: string;
  readonly segments: number;
  readonly bytes: number;
  readonly versions: number;
  readonly snapshots: number;
  /** Timelines whose whole state was merged and compared with the digest that the source stated. */
  readonly states: readonly {
    readonly timeline: string;
    readonly ts: number;
    readonly result: 'equal' | 'differs' | 'not checked';
    readonly why?: string;
  }[];
  readonly anomalies: readonly Anomaly[];
  /** What nothing names; null: not asked for. */
  readonly orphans: OrphanReport | null;
  readonly durationMs: number;
}

export interface VerifyOptions {
  /** Also list the store and name objects that nothing refers to. */
  readonly orphans?: boolean;
  readonly workers?: number;
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Reads everything that the catalog names: every block's checksums, order, counts; that each LSN is there exactly once; that
 * runs follow each other; that snapshots have what they name; and that the merged state is what the source stated.
 * @throws lease-lost
 */
export const verifyArchive = (archive: Archive, options: VerifyOptions = {}): Promise<VerifyReport> =>
  withLease(archive, 'verify', () => verifyHeld(archive, options));

const verifyHeld = async (archive: Archive, options: VerifyOptions): Promise<VerifyReport> => {
  const started = performance.now();
  const anomalies: Anomaly[] = [];
  const add: Add = (kind, object, what, harmless = kind === 'orphan' || kind === 'foreign') => {
    anomalies.push({ class: kind, object, what, harmless });
  };
  const { timelines } = await archive.timelines();
  const work: { stream: string; runs: readonly Run[] }[] = [];
  for (const timeline of timelines)
    for (const [stream, head] of await archive.heads(timeline)) {
      checkContinuity(archive.headName(timeline.id, stream), head.runs, head.gaps, head.frontier.lsn, add);
      work.push({ stream, runs: head.runs });
    }
  const entries = await listSnapshots(archive);
  const own: SegmentRef[] = [];
  const lost = new LostHeads(archive);
  for (const { parent } of timelines) if (parent) await lost.check(parent.timeline, parent.positions);
  for (const entry of entries) {
    try {
      const { segments, positions } = await readSnapshot(archive, entry);
      own.push(...segments);
      await lost.check(entry.timeline, positions);
    } catch (error) {
      add(classOf(error), entry.name, messageOf(error));
    }
  }
  const refs = [...work.flatMap((w) => w.runs.flatMap((r) => r.segments)), ...own];
  const totalBytes = refs.reduce((n, r) => n + r.bytes, 0);
  let doneBytes = 0;
  let versions = 0;
  const checkRef = async (ref: SegmentRef): Promise<number> => {
    try {
      versions += ref.rows;
      return await checkSegment(archive, ref, add);
    } catch (error) {
      add(classOf(error), ref.name, messageOf(error));
      return Number.NaN;
    } finally {
      doneBytes += ref.bytes;
      options.onProgress?.(doneBytes, totalBytes);
    }
  };
  for (const { runs } of work)
    for (const run of runs) {
      let positions = 0;
      for (const ref of run.segments) positions += await checkRef(ref);
      if (!Number.isNaN(positions) && positions !== run.lsnEnd - run.lsnStart)
        add(
          'count',
          run.segments[0].name,
          `LSN ${run.lsnStart}-${run.lsnEnd - 1} are ${run.lsnEnd - run.lsnStart} positions, ${positions} are in it`,
        );
    }
  for (const ref of own) await checkRef(ref);
  // what nothing names any more was replaced while we read: that says nothing about the archive
  const missing = anomalies.filter((a) => a.class === 'missing');
  if (missing.length > 0) {
    const named = await NamedObjects.read(archive);
    for (const gone of missing)
      if (!(await named.has(gone.object)))
        throw new PitrError('lease-lost', { what: 'verify', why: `${gone.object} was replaced` });
  }
  const states: VerifyReport['states'][number][] = [];
  for (const timeline of await unknownTimelines(archive))
    add('missing', 'timelines', `it does not know timeline ${timeline}, of which heads are there`);
  for (const [name, lsn] of lost.found)
    add('missing', name, `the catalog of a stream, of which LSN 1 to ${lsn} were archived, is gone`);
  // a recorded gap limits what can be restored; what can be is still checked
  if (anomalies.every((a) => a.class === 'gap'))
    for (const timeline of timelines)
      states.push(await checkState(archive, timeline.id, options.workers ?? 2, add));
  const orphans = options.orphans ? await reportOrphans(archive) : null;
  if (orphans) addOrphans(orphans, add);
  return {
    archive: archive.id,
    segments: refs.length,
    bytes: totalBytes,
    versions,
    snapshots: entries.length,
    states,
    anomalies,
    orphans,
    durationMs: performance.now() - started,
  };
};

/** Of which something is archived, and which the document of all timelines does not have. */
const unknownTimelines = async (archive: Archive): Promise<string[]> => {
  const found = new Set((await archive.store.list('heads/')).map(({ name }) => name.split('/')[1]));
  // read afterwards: a timeline is written down before its first head
  const { timelines } = await archive.timelines();
  for (const { id } of timelines) found.delete(id);
  return [...found];
};

/** Heads that are gone although a snapshot or a fork tells what was archived of their streams. */
class LostHeads {
  /** Name of the head, and the newest LSN that is known to have been archived. */
  readonly found = new Map<string, number>();
  readonly #archive: Archive;
  readonly #isThere = new Map<string, boolean>();

  constructor(archive: Archive) {
    this.#archive = archive;
  }

  async check(timeline: string, positions: Readonly<Record<string, number>>): Promise<void> {
    for (const [stream, lsn] of Object.entries(positions)) {
      const name = this.#archive.headName(timeline, stream);
      if (lsn === 0) continue;
      if (!this.#isThere.has(name))
        this.#isThere.set(name, (await this.#archive.head(timeline, stream)) !== undefined);
      if (!this.#isThere.get(name)) this.found.set(name, Math.max(lsn, this.found.get(name) ?? 0));
    }
  }
}

type Add = (kind: Anomaly['class'], object: string, what: string, harmless?: boolean) => void;

const checkContinuity = (
  name: string,
  runs: readonly Run[],
  gaps: readonly { readonly lsnStart: number; readonly lsnEnd: number; readonly cause: string }[],
  lsnLast: number,
  add: Add,
): void => {
  let next = 1;
  for (const run of runs) {
    const gap = gaps.find((g) => g.lsnStart === next && g.lsnEnd === run.lsnStart);
    if (gap)
      add('gap', name, `LSN ${gap.lsnStart}-${gap.lsnEnd - 1} were never archived: ${gap.cause}`, true);
    else if (run.lsnStart > next) add('gap', name, `LSN ${next}-${run.lsnStart - 1} are in no run`);
    else if (run.lsnStart < next) add('overlap', name, `LSN ${run.lsnStart}-${next - 1} are in two runs`);
    next = run.lsnEnd;
  }
  if (next - 1 !== lsnLast) add('gap', name, `the frontier says LSN ${lsnLast}, the runs end at ${next - 1}`);
};

/** Checks one segment from its first byte to its last; returns the positions in it: versions and events with an LSN. */
const checkSegment = async (archive: Archive, ref: SegmentRef, add: Add): Promise<number> => {
  const reader = await archive.reader(ref);
  const header = await reader.header();
  if (
    JSON.stringify(header.streams) !== JSON.stringify(reader.properties.header.streams) ||
    header.archive !== archive.id
  )
    add('corrupt', ref.name, 'its header and its properties disagree');
  let rows = 0;
  let last: Buffer | undefined;
  for (const handle of await reader.blocks()) {
    const block = reader.decode((await reader.readBlocks([handle]))[0]);
    rows += block.rows;
    if (block.rows !== handle.rows || !block.sortKey(0).equals(handle.key))
      add('corrupt', ref.name, 'a block is not the one that its index names');
    last = checkOrder(reader, block, last, ref.name, add);
  }
  if (rows !== ref.rows) add('count', ref.name, `it has ${rows} versions, the catalog says ${ref.rows}`);
  const events = await reader.events();
  return rows + events.filter((e) => e.kind !== 'clock').length;
};

/** Rows must be in the order (namespace, key, ts descending, position descending). Returns the last row as comparable bytes. */
const checkOrder = (
  reader: SegmentReader,
  block: ReturnType<SegmentReader['decode']>,
  before: Buffer | undefined,
  name: string,
  add: Add,
): Buffer => {
  let last = before;
  for (let i = 0; i < block.rows; i++) {
    const row = Buffer.alloc(38);
    row.writeUInt16BE(block.namespace, 0);
    block.sortKey(i).copy(row, 2);
    row.writeUIntBE(2 ** 47 - block.ts(i), 22, 6);
    row.writeUInt16BE(0xffff - block.source[i], 28);
    row.writeUIntBE(2 ** 47 - block.lsn(i), 30, 6);
    if (last && Buffer.compare(last, row) >= 0)
      add('order', name, `row ${i} of a block is not after its predecessor`);
    if (
      block.source[i] >= reader.properties.header.streams.length ||
      block.set[i] >= reader.properties.sets.length
    )
      add('corrupt', name, `row ${i} of a block names a stream or set that is not in the tables`);
    last = row;
  }
  return last as Buffer;
};

const checkState = async (
  archive: Archive,
  timelineId: string,
  workers: number,
  add: Add,
): Promise<VerifyReport['states'][number]> => {
  const view = await ArchiveView.read(archive, timelineId);
  const ts = view.restorable.contiguousEnd;
  if (ts === undefined)
    return { timeline: timelineId, ts: 0, result: 'not checked', why: 'nothing is restorable' };
  const plan = await planState(view, ts);
  if ('missing' in plan.source)
    return { timeline: timelineId, ts, result: 'not checked', why: plan.source.missing };
  const shards = plan.source.digests.length;
  const job: RestoreJob = {
    plan,
    selection: { namespaces: [] },
    ttl: { mode: 'absolute', seconds: 0 },
    output: 'store',
    shards,
  };
  const mine = new ContentDigest(shards);
  const pool = new RangePool(archive, workers);
  try {
    await pool.merge(job, rangesFor(archive, plan, PartitionSet.all, workers), {
      onChunk: () => undefined,
      onRange: (_, { clockDigest }) => mine.add(ContentDigest.from(clockDigest)),
    });
  } finally {
    await pool.close();
  }
  const wrong = mine.difference(ContentDigest.from(plan.source.digests));
  if (wrong.length > 0)
    add(
      'digest',
      `timeline ${timelineId}`,
      `the merged state differs from what the source stated in shards ${wrong.join(', ')}`,
    );
  return { timeline: timelineId, ts, result: wrong.length > 0 ? 'differs' : 'equal' };
};

/** Objects only: what a store itself has left is in the report's own list. */
const addOrphans = ({ lines }: OrphanReport, add: Add): void => {
  for (const { class: kind, name, bytes } of lines)
    switch (kind) {
      case 'segment':
      case 'snapshot':
      case 'probe':
        add('orphan', name, `${bytes} bytes that nothing names`);
        break;
      case 'foreign':
        add('foreign', name, `${bytes} bytes under a name that is none of pitr's`);
        break;
      case 'begun':
      case 'upload':
      case 'temporary':
      case 'folder':
      case 'value':
        break;
      default:
        kind satisfies never;
    }
};

const classOf = (error: unknown): Anomaly['class'] => {
  if (!(error instanceof PitrError)) throw error;
  // a store that cannot be read is not an archive that is damaged
  if (isStorageError(error)) throw error;
  return error.id === 'object-not-found' ? 'missing' : 'corrupt';
};
const messageOf = (error: unknown): string => (error as Error).message;

import { PitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import { segmentName } from './archive.ts';
import { type Head, runOf } from './catalog.ts';
import type { ArchiveEvent } from './event.ts';
import { compareEvents } from './event.ts';
import { Merge } from './merge.ts';
import { RunWriter } from './run-writer.ts';
import type { Run, StreamSpan } from './segment.ts';

/** Runs of one level that are merged into one of the next. The runs a restore opens stay below fanout × levels. */
export const FANOUT = 8;
/** Above this level runs are merged no further by themselves: 8^6 seals of one second are three days. */
const LEVEL_MAX = 6;

/**
 * The oldest `fanout` neighbouring runs of one level, lowest level first, or undefined. A gap is never bridged: a run says
 * that it has every LSN of its range.
 */
export const runsToMerge = (runs: readonly Run[], fanout: number): Run[] | undefined => {
  for (let level = 0; level < LEVEL_MAX; level++) {
    let group: Run[] = [];
    for (const run of runs) {
      const last = group.at(-1);
      if (run.level !== level || (last && last.lsnEnd !== run.lsnStart)) group = [];
      if (run.level === level) group.push(run);
      if (group.length === fanout) return group;
    }
  }
  return undefined;
};

/**
 * Merges runs into one run of the next level: all versions, all events; of the clock frames the last of each input and those of marks. The result
 * is read back and counted before it is returned; the catalog is not touched.
 */
export const mergeRuns = async (archive: Archive, head: Head, runs: readonly Run[]): Promise<Run> => {
  const readers = await Promise.all(
    runs.map((run) => Promise.all(run.segments.map((ref) => archive.reader(ref)))),
  );
  const merge = new Merge(readers);
  const lsnStart = runs[0].lsnStart;
  const lsnEnd = runs[runs.length - 1].lsnEnd;
  const level = runs[0].level + 1;
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
  const writer = new RunWriter(
    {
      store: archive.store,
      archive: archive.id,
      timeline: head.timeline,
      level,
      generation: head.generation,
      streams: joinSpans(readers.flat().flatMap((r) => r.properties.header.streams)),
      namespaces: merge.namespaces,
      nameOf: () => segmentName(head.timeline, head.stream, level, lsnStart, lsnEnd, head.generation),
    },
    merge.sources,
    events.sort(compareEvents),
  );
  await merge.run({
    row: (cursor) => writer.append(cursor, cursor.block.voidTime[cursor.row]),
    drain: () => writer.flush(),
  });
  const segments = await writer.finish();
  const rowsIn = readers.flat().reduce((n, r) => n + r.properties.rows, 0);
  let rowsOut = 0;
  for (const ref of segments) rowsOut += (await archive.reader(ref)).properties.rows;
  if (rowsIn !== rowsOut)
    throw new PitrError('internal', { what: `a merge of ${rowsIn} versions wrote ${rowsOut}` });
  return runOf(level, lsnStart, lsnEnd, segments);
};

/** Spans of the same epoch and stream as one, ordered by (epoch, stream). */
export const joinSpans = (spans: readonly StreamSpan[]): StreamSpan[] => {
  const joined = new Map<string, StreamSpan>();
  for (const s of spans) {
    const id = `${s.epoch}/${s.stream}`;
    const old = joined.get(id);
    joined.set(id, {
      epoch: s.epoch,
      stream: s.stream,
      lsnStart: Math.min(s.lsnStart, old?.lsnStart ?? s.lsnStart),
      lsnEnd: Math.max(s.lsnEnd, old?.lsnEnd ?? s.lsnEnd),
    });
  }
  return [...joined.values()].sort(
    (a, b) => a.epoch - b.epoch || Buffer.compare(Buffer.from(a.stream), Buffer.from(b.stream)),
  );
};

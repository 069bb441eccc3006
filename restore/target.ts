import { type ErrorId, PitrError } from '../engine/errors.ts';
import type { ArchiveView } from '../snapshot/view.ts';
import { FLAG } from '../wal/block.ts';
import type { ArchiveEvent } from '../wal/event.ts';
import type { Run } from '../wal/segment.ts';
import { type Sought, sameHistory, timelineAt, timelinesWith } from './branches.ts';

/** A recovery target as a person writes it. */
export type RecoveryTarget =
  | { readonly kind: 'latest' }
  | { readonly kind: 'time'; readonly ts: number }
  | { readonly kind: 'ago'; readonly ms: number }
  | { readonly kind: 'lsn'; readonly stream: string; readonly lsn: number }
  | { readonly kind: 'mark'; readonly name: string };

/** What a target came to (S5). Never clamped: a target outside the ranges is an error that names its neighbours. */
export interface ResolvedTarget {
  readonly text: string;
  /** The instant, ms, inclusive. */
  readonly ts: number;
  /** present: the newest restorable instant; past: before it. */
  readonly position: 'present' | 'past';
  /** Set when the target was moved, and why (S3). */
  readonly rounded?: string;
  /** The timeline whose own log the target lies in: the chosen one, or an ancestor up to the fork. */
  readonly timeline: string;
  /** Other timelines on which the same words mean another state. */
  readonly alsoOn: readonly string[];
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const EPOCH_MS_MIN = 100_000_000_000;

/** Reads `2026-11-21T10:00:00Z`, epoch ms, `-10m`, `lsn:STREAM/N`, `mark:NAME`, `latest`. @throws target-invalid */
export const parseTarget = (text: string): RecoveryTarget => {
  const bad = (): PitrError => new PitrError('target-invalid', { target: text });
  if (text === 'latest') return { kind: 'latest' };
  let m = /^mark:(.+)$/.exec(text);
  if (m) return { kind: 'mark', name: m[1] };
  m = /^lsn:([A-Za-z0-9_-]+)\/(\d{1,15})$/.exec(text);
  if (m) return { kind: 'lsn', stream: m[1], lsn: Number(m[2]) };
  if (text.startsWith('-')) {
    let ms = 0;
    let rest = text.slice(1);
    while (rest !== '') {
      const part = /^(\d+)(ms|s|m|h|d)/.exec(rest);
      if (!part) throw bad();
      ms += Number(part[1]) * UNIT_MS[part[2]];
      rest = rest.slice(part[0].length);
    }
    if (text === '-' || !Number.isSafeInteger(ms)) throw bad();
    return { kind: 'ago', ms };
  }
  if (/^\d+$/.test(text)) {
    const ts = Number(text);
    if (ts < EPOCH_MS_MIN || ts > 8.64e15) throw bad();
    return { kind: 'time', ts };
  }
  // a date without zone would mean another instant on another machine
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))$/.test(text)) throw bad();
  const ts = Date.parse(text);
  if (Number.isNaN(ts)) throw bad();
  return { kind: 'time', ts };
};

/**
 * The instant that a target means on the view's timeline (T1). One that only other timelines have is refused with their names
 * (T2), one that others have as well is said (T3).
 * @throws nothing-restorable, target-future, target-nodata, mark-unknown, stream-unknown, target-elsewhere
 */
export const resolveTarget = async (
  view: ArchiveView,
  text: string,
  nowMs: number,
): Promise<ResolvedTarget> => {
  const target = parseTarget(text);
  if (target.kind === 'latest') return resolveHere(view, text, target);
  const sought: Sought = target.kind === 'ago' ? { kind: 'time', ts: nowMs - target.ms } : target;
  let here: ResolvedTarget;
  try {
    here = await resolveHere(view, text, sought);
  } catch (error) {
    if (!(error instanceof PitrError) || !NOT_HERE.has(error.id)) throw error;
    const found = await timelinesWith(view, sought, view.timeline.id);
    if (found.length === 0) throw error;
    throw new PitrError(
      'target-elsewhere',
      { target: text, timeline: view.timeline.id, found: found.join(', '), why: error.message },
      { cause: error },
    );
  }
  const others = await timelinesWith(view, sought, here.timeline);
  // every history has most instants; only those of branches of this one can be meant
  const alsoOn = others.filter(
    (id) => sought.kind !== 'time' || sameHistory(view.timelines, id, view.timeline.id),
  );
  return { ...here, alsoOn };
};

/** Ways to say that the view's timeline does not have a target. */
const NOT_HERE: ReadonlySet<ErrorId> = new Set([
  'target-future',
  'target-nodata',
  'nothing-restorable',
  'mark-unknown',
  'stream-unknown',
]);

const resolveHere = async (
  view: ArchiveView,
  text: string,
  target: Sought | { readonly kind: 'latest' },
): Promise<ResolvedTarget> => {
  const { ranges, contiguousEnd, limitedBy } = view.restorable;
  if (contiguousEnd === undefined) throw new PitrError('nothing-restorable', { limitedBy });
  const within = (ts: number): ResolvedTarget => {
    const position = ts === contiguousEnd ? 'present' : 'past';
    if (ranges.some((r) => r.fromTs <= ts && ts <= r.toTs))
      return { text, ts, position, timeline: timelineAt(view, ts), alsoOn: [] };
    if (ts > contiguousEnd)
      throw new PitrError('target-future', {
        target: text,
        nearest: iso(contiguousEnd),
        timeline: view.timeline.id,
      });
    const before = ranges.filter((r) => r.toTs < ts).at(-1)?.toTs;
    const after = ranges.find((r) => r.fromTs > ts)?.fromTs;
    throw new PitrError('target-nodata', {
      target: text,
      before: before === undefined ? 'none' : iso(before),
      after: after === undefined ? 'none' : iso(after),
    });
  };
  switch (target.kind) {
    case 'latest':
      return within(contiguousEnd);
    case 'time':
      return within(target.ts);
    case 'mark':
      return within((await findMark(view, target.name)).ts);
    case 'lsn': {
      const { ts, rounded, timeline } = await findLsn(view, target.stream, target.lsn, text);
      return { ...within(ts), timeline, ...(rounded === undefined ? {} : { rounded }) };
    }
    default:
      return target satisfies never;
  }
};

const iso = (ts: number): string => new Date(ts).toISOString();

/** All marks on the view's timeline and, up to the forks, its ancestors; newest first. */
export const listMarks = async (
  view: ArchiveView,
): Promise<{ name: string; stream: string; lsn: number; ts: number }[]> => {
  const marks: { name: string; stream: string; lsn: number; ts: number }[] = [];
  let tsMax = Number.POSITIVE_INFINITY;
  for (const timeline of view.ancestry) {
    for (const head of view.heads.get(timeline.id)?.values() ?? [])
      for (const mark of head.marks) if (mark.ts <= tsMax) marks.push({ ...mark, stream: head.stream });
    tsMax = Math.min(tsMax, timeline.parent?.ts ?? -1);
  }
  return marks.sort((a, b) => b.ts - a.ts);
};

const findMark = async (view: ArchiveView, name: string): Promise<{ ts: number }> => {
  const marks = await listMarks(view);
  const found = marks.find((m) => m.name === name);
  if (found) return found;
  // a head keeps the newest ones only; the events have them all
  let tsMax = Number.POSITIVE_INFINITY;
  for (const timeline of view.ancestry) {
    for (const head of view.heads.get(timeline.id)?.values() ?? [])
      for (const run of head.runs) {
        const events = await view.archive.events(run.segments);
        const event = events.find((e) => e.kind === 'mark' && e.name === name && e.ts <= tsMax);
        if (event) return event;
      }
    tsMax = Math.min(tsMax, timeline.parent?.ts ?? -1);
  }
  throw new PitrError('mark-unknown', {
    mark: name,
    known:
      marks
        .slice(0, 10)
        .map((m) => m.name)
        .join(', ') || 'none',
  });
};

/** The instant of an LSN: the ts of its version or event; inside a batch the instant before the batch (S3). */
const findLsn = async (
  view: ArchiveView,
  stream: string,
  lsn: number,
  text: string,
): Promise<{ ts: number; rounded?: string; timeline: string }> => {
  let known = false;
  // of an ancestor only what lies before the fork belongs to this history
  let tsMax = Number.POSITIVE_INFINITY;
  for (const timeline of view.ancestry) {
    const until = tsMax;
    tsMax = Math.min(tsMax, timeline.parent?.ts ?? -1);
    const head = view.heads.get(timeline.id)?.get(stream);
    if (!head) continue;
    known = true;
    const run = head.runs.find((r) => lsn >= r.lsnStart && lsn < r.lsnEnd);
    const at = run && (await positionInRun(view, run, stream, lsn));
    if (run && !at)
      throw new PitrError('object-corrupt', { name: run.segments[0].name, why: `LSN ${lsn} is not in it` });
    if (at && at.ts <= until) {
      const { id } = timeline;
      if (!at.batchMore) return { ts: at.ts, timeline: id };
      const rounded = `LSN ${lsn} is inside a batch; rounded down to before the batch`;
      return { ts: at.ts - 1, rounded, timeline: id };
    }
  }
  const own = view.heads.get(view.timeline.id)?.get(stream);
  if (own && lsn > own.frontier.lsn)
    throw new PitrError('target-future', { target: text, nearest: `lsn:${stream}/${own.frontier.lsn}` });
  if (known) throw new PitrError('target-nodata', { target: text, before: 'none', after: 'none' });
  const names = view.ancestry.flatMap((t) => t.streams.map((s) => s.name));
  throw new PitrError('stream-unknown', { stream, known: [...new Set(names)].join(', ') });
};

const positionInRun = async (
  view: ArchiveView,
  run: Run,
  stream: string,
  lsn: number,
): Promise<{ ts: number; batchMore: boolean } | undefined> => {
  const event = (await view.archive.events(run.segments)).find(
    (e: ArchiveEvent) => e.kind !== 'clock' && e.stream === stream && e.lsn === lsn,
  );
  if (event) return { ts: event.ts, batchMore: false };
  for (const ref of run.segments) {
    const reader = await view.archive.reader(ref);
    for (const handle of await reader.blocks()) {
      const block = reader.decode((await reader.readBlocks([handle]))[0]);
      for (let i = 0; i < block.rows; i++)
        if (block.lsn(i) === lsn)
          return { ts: block.ts(i), batchMore: (block.flags[i] & FLAG.batchMore) !== 0 };
    }
  }
  return undefined;
};

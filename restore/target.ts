import { PitrError } from '../engine/errors.ts';
import type { ArchiveView } from '../snapshot/view.ts';
import { FLAG } from '../wal/block.ts';
import type { ArchiveEvent } from '../wal/event.ts';
import type { Run } from '../wal/segment.ts';

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

/** The instant that a target means in this archive. @throws target-future, target-nodata, mark-unknown, stream-unknown */
export const resolveTarget = async (
  view: ArchiveView,
  text: string,
  nowMs: number,
): Promise<ResolvedTarget> => {
  const target = parseTarget(text);
  const { ranges, contiguousEnd } = view.restorable;
  if (contiguousEnd === undefined)
    throw new PitrError('target-nodata', { target: text, before: 'none', after: 'none' });
  switch (target.kind) {
    case 'latest':
      return { text, ts: contiguousEnd, position: 'present' };
    case 'time':
      return within(view, text, target.ts);
    case 'ago':
      return within(view, text, nowMs - target.ms);
    case 'mark':
      return within(view, text, (await findMark(view, target.name)).ts);
    case 'lsn': {
      const found = await findLsn(view, target.stream, target.lsn, text);
      const at = within(view, text, found.ts);
      return found.rounded === undefined ? at : { ...at, rounded: found.rounded };
    }
    default:
      return target satisfies never;
  }

  function within(v: ArchiveView, shown: string, ts: number): ResolvedTarget {
    const end = contiguousEnd as number;
    if (ranges.some((r) => r.fromTs <= ts && ts <= r.toTs))
      return { text: shown, ts, position: ts === end ? 'present' : 'past' };
    if (ts > end)
      throw new PitrError('target-future', { target: shown, nearest: iso(end), timeline: v.timeline.id });
    const before = ranges.filter((r) => r.toTs < ts).at(-1)?.toTs;
    const after = ranges.find((r) => r.fromTs > ts)?.fromTs;
    throw new PitrError('target-nodata', {
      target: shown,
      before: before === undefined ? 'none' : iso(before),
      after: after === undefined ? 'none' : iso(after),
    });
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
): Promise<{ ts: number; rounded?: string }> => {
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
      if (!at.batchMore) return { ts: at.ts };
      return { ts: at.ts - 1, rounded: `LSN ${lsn} is inside a batch; rounded down to before the batch` };
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

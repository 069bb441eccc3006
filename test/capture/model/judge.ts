/**
 * Exact or said: what a restore says beside the truth. Outside the records that it names the state is equal, and what it names has happened:
 * inside the window that it gives, as often as it says.
 */
import type { Reason, Restored } from './restored.ts';
import { type Content, idOf, isExpiredAt, type RecordTruth, type Span, type Truth } from './truth.ts';

export interface Verdict {
  readonly wrong: readonly string[];
  readonly records: number;
  /** Named, and of them those that are not as they were. */
  readonly inexact: number;
  readonly inexactAndWrong: number;
  /** More than one state could be the true one. */
  readonly uncertain: number;
  /**
   * Nothing can know of it: a life that began and ended between two polls, or one that ended and whose successor had passed its generation
   * by the next poll, which looks like updates.
   */
  readonly hidden: number;
}

export interface JudgeOptions {
  readonly truth: Truth;
  /** Records of these sets only; null: all. */
  readonly sets: readonly string[] | null;
  /** Clocks of base copies, ms: of what they have the LUT is only a bound. */
  readonly copiedMs: ReadonlySet<number>;
  /** Instants that the server's clock has shown twice, or not at all. */
  readonly folds: readonly Span[];
  /** From a poll that was complete to the next one that was, by the clocks with which they began. */
  readonly gapsAt: (ts: number) => readonly Span[];
}

/** Clocks are read to the ms. */
const ROUNDING_MS = 1;
/** A generation that rises by more was set by a fault. */
const FAR = 30_000;

export const judge = (restored: Restored, ts: number, options: JudgeOptions): Verdict => {
  const { truth, sets, copiedMs, gapsAt, folds } = options;
  const gaps = gapsAt(ts);
  const wrong: string[] = [];
  let uncertain = 0;
  let hidden = 0;
  let inexactAndWrong = 0;
  const say = (record: RecordTruth, what: string): void => {
    wrong.push(`${what}\n${describe(truth, restored, record, ts)}`);
  };
  for (const [id, record] of truth.records) {
    if (sets && !sets.includes(record.set)) continue;
    const got = restored.records.get(id);
    const reasons = restored.inexact.get(id);
    const possible = truth.possibleAt(record, ts);
    if (possible.length > 1) uncertain++;
    const isRight = possible.some((content) => isSame(content, got));
    if (reasons) {
      if (!isRight) inexactAndWrong++;
      for (const reason of reasons) {
        const why = unfounded(truth, record, got, reason, ts, folds);
        if (why !== undefined) say(record, `${why} for ${reason.by} ${JSON.stringify(reason)}`);
      }
      continue;
    }
    if (isRight) {
      const same = possible.find((content) => content && isSame(content, got));
      if (got && same && got.lutMs < same.lutMs && !copiedMs.has(got.lutMs))
        say(record, 'a last update before the true one');
      continue;
    }
    if (gaps.some((gap) => isHidden(truth, record, got, ts, gap, folds))) hidden++;
    else say(record, 'differs and is not named');
  }
  for (const id of restored.records.keys()) if (!truth.records.has(id)) wrong.push(`${id} was never written`);
  for (const id of restored.inexact.keys())
    if (!truth.records.has(id)) wrong.push(`${id} is named and was never written`);
  return {
    wrong,
    records: restored.records.size,
    inexact: restored.inexact.size,
    inexactAndWrong,
    uncertain,
    hidden,
  };
};

const isSame = (a: Content | undefined, b: Content | undefined): boolean =>
  a === undefined || b === undefined
    ? a === b
    : a.generation === b.generation &&
      a.voidTimeS === b.voidTimeS &&
      a.key === b.key &&
      a.bins.length === b.bins.length &&
      a.bins.every((bin, i) => bin === b.bins[i]);

/** What was restored is what was there at the poll before, or between the polls; after that a life ended, and the next poll came later. */
const isHidden = (
  truth: Truth,
  record: RecordTruth,
  got: Content | undefined,
  ts: number,
  { fromMs, toMs }: Span,
  folds: readonly Span[],
): boolean => {
  const ends = truth.ends(record).map((end) => unfolded(end, folds));
  const isBetween = (ms: number): boolean => ms >= fromMs && ms <= ts;
  const states = [
    ...truth.possibleAt(record, fromMs - 1).map((content) => ({ ms: fromMs - 1, content })),
    ...record.changes.filter((c) => isBetween(c.fromMs)).map(({ fromMs: ms, content }) => ({ ms, content })),
    ...ends.filter((end) => isBetween(end.fromMs)).map((end) => ({ ms: end.fromMs, content: undefined })),
  ];
  return states.some(
    ({ ms, content }) =>
      isSame(content && isExpiredAt(content, ts) ? undefined : content, got) &&
      ends.some((end) => end.toMs >= ms && end.fromMs <= toMs),
  );
};

/** When it can have been, also where the clock says no instant. */
const unfolded = ({ fromMs, toMs }: Span, folds: readonly Span[]): Span => {
  const over = folds.filter((f) => f.fromMs <= toMs && f.toMs >= fromMs);
  return {
    fromMs: Math.min(fromMs, ...over.map((f) => f.fromMs)),
    toMs: Math.max(toMs, ...over.map((f) => f.toMs)),
  };
};

/** Why the reason is not one; undefined: it is. */
const unfounded = (
  truth: Truth,
  record: RecordTruth,
  got: Content | undefined,
  { by, window, missed, missedAfterMs, atMs }: Reason,
  ts: number,
  folds: readonly Span[],
): string | undefined => {
  const instants = truth.instants(record).map((at) => unfolded(at, folds));
  if (window) {
    const { fromMs, toMs } = window;
    const isIn = (at: Span): boolean => at.fromMs <= toMs + ROUNDING_MS && at.toMs >= fromMs - ROUNDING_MS;
    if (by !== 'next' && (ts <= fromMs || ts > toMs)) return 'the instant is not in the window';
    if (by === 'chosen' && got) {
      // the version that was restored, or one that came back as it was
      if (!record.changes.some((c) => isSame(c.content, got) && isIn(unfolded(c, folds))))
        return 'that version did not come in the window';
    } else if (!instants.some(isIn)) return 'nothing happened in the window';
  }
  if (missed === 0) return undefined;
  // what happened after the version that was restored, up to the one that says so; that nothing did before `missedAfterMs` other instants show
  const sinceMs = got ? Math.min(got.lutMs, ts) : missedAfterMs;
  // one that was found late came by the end of its window, however early its place in the log
  const untilMs = Math.max(atMs, window?.toMs ?? 0) + ROUNDING_MS;
  const isIn = (at: Span): boolean => at.toMs >= sinceMs && at.fromMs <= untilMs;
  const between = instants.filter(isIn);
  // once a life has ended generations begin anew, and how many there were is anybody's guess
  const bornMs = got?.lutMs ?? 0;
  const hasEnded = truth.ends(record).some((end) => end.toMs >= bornMs && end.fromMs <= untilMs);
  const least = hasEnded || (missed ?? 1) > FAR ? 0 : (missed ?? 1);
  return between.length > least ? undefined : `only ${between.length} things happened`;
};

const describe = (truth: Truth, restored: Restored, record: RecordTruth, ts: number): string => {
  const id = idOf(record.namespace, record.digest.toString('hex'));
  const short = (c: Content | undefined): string =>
    c === undefined
      ? 'absent'
      : `gen ${c.generation} lut ${c.lutMs} void ${c.voidTimeS} key ${c.key} ${c.bins.map((b) => b.slice(0, 40)).join(' ')}`;
  return [
    `  ${id} set ${record.set} partition ${record.digest.readUInt16LE(0) & 4095} at ${ts}`,
    `  restored ${short(restored.records.get(id))}, named ${JSON.stringify(restored.inexact.get(id) ?? null)}`,
    ...truth.possibleAt(record, ts).map((c) => `  possible ${short(c)}`),
    ...record.changes
      .filter((c) => Math.abs(c.fromMs - ts) < 20_000)
      .slice(-12)
      .map((c) => `  changed ${c.fromMs - ts} to ${c.toMs - ts}: ${short(c.content)}`),
    ...truth.truncations.map(
      (t) =>
        `  truncated ${t.namespace} ${t.set} cutoff ${t.cutoffMs - ts} in ${t.fromMs - ts} to ${t.toMs - ts}`,
    ),
  ].join('\n');
};

/** Definitions that are not what they could be between the frontiers around an instant. */
export const judgeDefinitions = (
  restored: ReadonlyMap<string, string>,
  truth: Truth,
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): string[] => {
  const wrong: string[] = [];
  for (const [key, changes] of truth.definitions) {
    const possible = new Set<string | null>([null]);
    for (const change of changes) {
      if (change.fromMs > toMs) continue;
      if (change.toMs <= fromMs) possible.clear();
      possible.add(change.body);
    }
    const got = restored.get(key) ?? null;
    if (![...possible].some((body) => (body === null ? got === null : got?.includes(body) === true)))
      wrong.push(`${key}: ${got}, not one of ${JSON.stringify([...possible])}`);
  }
  return wrong;
};

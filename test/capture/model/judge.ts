/**
 * Exact or said: what a restore says beside the truth. Outside the records that it names the state is equal, and what it names has happened:
 * inside the window that it gives, as often as it says.
 */
import type { Reason, Restored } from './restored.ts';
import { type Content, idOf, type Possible, type RecordTruth, type Truth } from './truth.ts';

export interface Verdict {
  readonly wrong: readonly string[];
  readonly records: number;
  /** Named, and of them those that are not as they were. */
  readonly inexact: number;
  readonly inexactAndWrong: number;
  /** More than one state could be the true one. */
  readonly uncertain: number;
  /** Came and went between two polls: nothing can know of them. */
  readonly unseen: number;
  /** Removed and written again between two polls, up to a generation above the one that was known: that looks like updates. */
  readonly hidden: number;
}

export interface JudgeOptions {
  readonly truth: Truth;
  /** Records of these sets only; null: all. */
  readonly sets: readonly string[] | null;
  /** Whether a poll began after `fromMs` that ended before `toMs`, of who owns the partition. */
  /** Clocks of base copies, ms: of what they have the LUT is only a bound. */
  readonly copiedMs: ReadonlySet<number>;
  readonly hasPolled: (record: RecordTruth, fromMs: number, toMs: number) => boolean;
}

/** Clocks are read to the ms. */
const ROUNDING_MS = 1;

export const judge = (restored: Restored, ts: number, options: JudgeOptions): Verdict => {
  const { truth, sets, copiedMs, hasPolled } = options;
  const wrong: string[] = [];
  let uncertain = 0;
  let unseen = 0;
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
        const why = unfounded(truth, record, got, reason, ts);
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
    if (!got && isUnseen(truth, record, possible, hasPolled)) unseen++;
    else if (got && isHidden(truth, record, got, hasPolled)) hidden++;
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
    unseen,
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

/** All that could be there was born and gone without a poll in between. */
const isUnseen = (
  truth: Truth,
  record: RecordTruth,
  possible: Possible,
  hasPolled: JudgeOptions['hasPolled'],
): boolean =>
  possible.every((content) => {
    if (!content) return true;
    const { bornMs, goneMs } = truth.lifeOf(record, content);
    return !hasPolled(record, bornMs, goneMs);
  });

/** What was restored had ended, and no poll came before the next life had passed its generation. */
const isHidden = (
  truth: Truth,
  record: RecordTruth,
  got: Content,
  hasPolled: JudgeOptions['hasPolled'],
): boolean => {
  const at = record.changes.findLastIndex((c) => isSame(c.content, got));
  if (at < 0) return false;
  const { goneMs } = truth.lifeOf(record, record.changes[at].content as Content);
  const passed = record.changes.find(
    (c, i) => i > at && c.fromMs >= goneMs && (c.content?.generation ?? 0) > got.generation,
  );
  return passed !== undefined && !hasPolled(record, goneMs, passed.fromMs);
};

/** Why the reason is not one; undefined: it is. */
const unfounded = (
  truth: Truth,
  record: RecordTruth,
  got: Content | undefined,
  { by, window, missed, atMs }: Reason,
  ts: number,
): string | undefined => {
  if (window) {
    const { fromMs, toMs } = window;
    const isIn = (at: { fromMs: number; toMs: number }): boolean =>
      at.fromMs <= toMs + ROUNDING_MS && at.toMs >= fromMs - ROUNDING_MS;
    if (by !== 'next' && (ts <= fromMs || ts > toMs)) return 'the instant is not in the window';
    if (by === 'chosen' && got) {
      // the version that was restored, or one that came back as it was
      if (!record.changes.some((c) => isSame(c.content, got) && isIn(c)))
        return 'that version did not come in the window';
    } else if (!truth.instants(record).some(isIn)) return 'nothing happened in the window';
  }
  if (missed === 0) return undefined;
  // what happened after the version that was restored, up to the one that says so
  const sinceMs = got ? Math.min(got.lutMs, ts) : 0;
  const between = truth
    .instants(record)
    .filter((at) => at.toMs >= sinceMs && at.fromMs <= atMs + ROUNDING_MS);
  return between.length > (missed ?? 1) ? undefined : `only ${between.length} things happened`;
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

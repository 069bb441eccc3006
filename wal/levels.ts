import type { Run } from './segment.ts';

/** Runs of one level that are merged into one of the next. */
export const FANOUT = 8;

/** Which runs are to be merged. */
export interface LevelRule {
  readonly fanout: number;
  /**
   * Ends of the full copies in the history, ms, ascending: a restore begins at one of them. No merge goes across one, or the
   * restore would read what was before it.
   */
  readonly borders: readonly number[];
}

/** Runs that become one run of `level`. */
export interface MergeChoice {
  readonly runs: readonly Run[];
  readonly level: number;
}

/**
 * What to merge next, or undefined: the oldest `fanout` neighbouring runs of one level, lowest level first; then, where a full
 * copy has been taken since, all that is left of the time before it. `busy` runs are in a merge that is not finished.
 *
 * A gap is never bridged: a run says that it has every LSN of its range.
 *
 * So a stretch of the log, between full copies and gaps, has at most `fanout - 1` runs of each level, and one once it is over.
 * Levels are at most 1 + log(level-0 runs) / log(fanout).
 */
export const nextMerge = (
  runs: readonly Run[],
  rule: LevelRule,
  busy: ReadonlySet<Run> = new Set(),
): MergeChoice | undefined => {
  const stretches = stretchesOf(runs, rule.borders, busy);
  const levels = [...new Set(runs.map((r) => r.level))].sort((a, b) => a - b);
  for (const level of levels)
    for (const stretch of stretches) {
      let group: Run[] = [];
      for (const run of stretch) {
        if (run.level === level) group.push(run);
        else group = [];
        if (group.length === rule.fanout) return { runs: group, level: level + 1 };
      }
    }
  const newest = rule.borders.at(-1) ?? Number.NEGATIVE_INFINITY;
  const over = stretches.find((s) => s.length > 1 && s[s.length - 1].tsMax <= newest);
  return over && wholeOf(over);
};

/** The oldest stretch between two gaps that is more than one run: a full merge goes on until there is none. */
export const nextFullMerge = (runs: readonly Run[]): MergeChoice | undefined => {
  const stretch = stretchesOf(runs, [], new Set()).find((s) => s.length > 1);
  return stretch && wholeOf(stretch);
};

const wholeOf = (runs: readonly Run[]): MergeChoice => ({
  runs,
  level: Math.max(...runs.map((r) => r.level)) + 1,
});

/** Neighbours that may become one run. */
const stretchesOf = (runs: readonly Run[], borders: readonly number[], busy: ReadonlySet<Run>): Run[][] => {
  const stretches: Run[][] = [[]];
  let before: Run | undefined;
  for (const run of runs) {
    const last = before;
    before = run;
    const apart =
      busy.has(run) ||
      (last !== undefined &&
        (busy.has(last) ||
          last.lsnEnd !== run.lsnStart ||
          borders.some((ts) => last.tsMax <= ts && ts < run.tsMax)));
    if (apart) stretches.push([]);
    if (!busy.has(run)) stretches[stretches.length - 1].push(run);
  }
  return stretches;
};

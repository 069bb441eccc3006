import { PartitionSet } from '../../../engine/partition.ts';
import { portionsOf, takeCensus } from './census.ts';
import { type Delta, isExpired, readDelta, type Seconds, secondsOf } from './delta.ts';
import { readWhole, tellChanges } from './images.ts';
import type { Scope } from './scope.ts';

/** Rows from which on a part whose count is off is halved, not read. */
const HALVED_ROWS_MIN = 2048;
/** So many are off: halving would ask about every part. */
const OFF_MANY = 64;
/** Rows that one pass with bins takes before what it told is counted again. */
const WHOLE_ROWS = 100_000;

export interface NamespaceTask {
  /** Only what was changed; that and what the counts say; or every digest, too. */
  readonly mode: 'changes' | 'counts' | 'everything';
  /** Whose digests are due to be compared. */
  readonly due: PartitionSet;
  /** Ends the poll when records were truncated since it began. */
  readonly lookAgain: () => Promise<void>;
}

/** Cuts partitions into `groups` parts, some of them empty when there are few. */
export const groupsOf = (partitions: PartitionSet, groups: number): PartitionSet[] => {
  const all = partitions.ranges.flatMap(({ start, end }) =>
    Array.from({ length: end - start }, (_, i) => start + i),
  );
  const size = Math.ceil(all.length / groups);
  const parts: PartitionSet[] = [];
  for (let from = 0; from < all.length; from += size)
    parts.push(PartitionSet.of(all.slice(from, from + size).map((start) => ({ start, end: start + 1 }))));
  return parts;
};

/** One namespace: what was changed, what is missing. @throws aerospike-… */
export const pollNamespace = async (scope: Scope, task: NamespaceTask): Promise<void> => {
  const { groups, calendar, id } = scope.state;
  const { to } = secondsOf(scope);
  if (calendar.isOver(to + 60)) calendar.rebuild(scope.journal.index, id, groups, to);
  let next = 0;
  let failure: unknown;
  const worker = async (): Promise<void> => {
    while (next < groups.length && failure === undefined) {
      const group = next++;
      await pollGroup(scope, task, group).catch((error: unknown) => {
        failure ??= error;
      });
    }
  };
  await Promise.all(Array.from({ length: scope.settings.concurrency }, worker));
  if (failure !== undefined) throw failure;
};

const pollGroup = async (scope: Scope, task: NamespaceTask, group: number): Promise<void> => {
  const { settings, state, sinceMs } = scope;
  const partitions = state.groups[group];
  const changesMax = Math.ceil(settings.changesMax / state.groups.length);
  const delta = await readDelta(scope, partitions, sinceMs, changesMax);
  const verdict = judge(delta, expectedOf(scope, delta, partitions, calendarCount(scope, group, partitions)));
  let suspects = PartitionSet.none;
  if (task.mode === 'everything') suspects = partitions;
  else if (task.mode === 'counts') {
    if (verdict.isOff) await task.lookAgain();
    if (!delta.isWhole) suspects = partitions;
    else if (verdict.isOff) {
      scope.findings.countsOff++;
      suspects = await narrow(scope, partitions, verdict.by);
    }
  }
  if (delta.isWhole) await tellChanges(scope, delta.changes);
  else
    for (const portion of portionsOf(scope, partitions, WHOLE_ROWS))
      await readWhole(scope, portion, sinceMs, new Map());
  // not before what came back is told: when that fails the next look has to begin where this one did
  if (task.mode === 'counts' && verdict.isExact) verify(scope, partitions);
  const swept = suspects.union(partitions.subtract(partitions.subtract(task.due)));
  if (swept.size === 0) return;
  // one event, not a delete for each record that is missing
  if (suspects.size > 0) await task.lookAgain();
  await takeCensus(scope, swept);
};

/** How many live records should not have been changed: at least and at most, the difference being those that expire just now. */
interface Expected {
  readonly min: number;
  readonly max: number;
}

interface Verdict {
  readonly isOff: boolean;
  readonly isExact: boolean;
  /** By how many records, at least. */
  readonly by: number;
}

const judge = ({ unchanged }: Delta, { min, max }: Expected): Verdict => {
  if (unchanged === undefined) return { isOff: true, isExact: false, by: Number.POSITIVE_INFINITY };
  const by = unchanged < min ? min - unchanged : unchanged > max ? unchanged - max : 0;
  return { isOff: by > 0, isExact: by === 0 && min === max, by };
};

/** Rows that have not expired, and of them those that do within `seconds`. */
interface Rows {
  readonly live: number;
  readonly expiring: number;
}

type CountRows = (seconds: Seconds) => Rows;

const calendarCount =
  ({ journal, state }: Scope, group: number, partitions: PartitionSet): CountRows =>
  ({ from, to }) => {
    let rows = 0;
    for (const { start, end } of partitions.ranges)
      for (let p = start; p < end; p++) rows += journal.index.count(state.id, p);
    return {
      live: rows - state.calendar.expiring(group, 0, from),
      expiring: state.calendar.expiring(group, from, to),
    };
  };

const walkCount =
  ({ journal, state }: Scope, partitions: PartitionSet): CountRows =>
  ({ from, to }) => {
    let live = 0;
    let expiring = 0;
    for (const { start, end } of partitions.ranges)
      for (let p = start; p < end; p++) {
        const rows = journal.index.partition(state.id, p);
        for (let i = 0; i < rows.length; i++) {
          const voidTimeS = rows.voidTimeS(i);
          if (isExpired(voidTimeS, from)) continue;
          live++;
          if (isExpired(voidTimeS, to)) expiring++;
        }
      }
    return { live, expiring };
  };

const expectedOf = (scope: Scope, delta: Delta, partitions: PartitionSet, count: CountRows): Expected => {
  const seconds = secondsOf(scope);
  let { live, expiring } = count(seconds);
  for (const { partition, voidTimeS } of scope.state.unrepresentable.values())
    if (partitions.has(partition) && !isExpired(voidTimeS, seconds.from)) {
      live++;
      if (isExpired(voidTimeS, seconds.to)) expiring++;
    }
  for (const voidTimeS of delta.returnedVoidTimes)
    if (!isExpired(voidTimeS, seconds.from)) {
      live--;
      if (isExpired(voidTimeS, seconds.to)) expiring--;
    }
  return { min: live - expiring, max: live };
};

/** The parts of `partitions` whose count is off, by halves. Nothing may have been told of them since the index was stored. */
const narrow = async (scope: Scope, partitions: PartitionSet, by: number): Promise<PartitionSet> => {
  let rows = 0;
  for (const { start, end } of partitions.ranges)
    for (let p = start; p < end; p++) rows += scope.journal.index.count(scope.state.id, p);
  if (partitions.size === 1 || rows < HALVED_ROWS_MIN || by > OFF_MANY) return partitions;
  let suspects = PartitionSet.none;
  for (const half of groupsOf(partitions, 2)) {
    const delta = await readDelta(scope, half, scope.sinceMs, Number.POSITIVE_INFINITY);
    const verdict = judge(delta, expectedOf(scope, delta, half, walkCount(scope, half)));
    if (!verdict.isOff) continue;
    scope.findings.countsOff++;
    suspects = suspects.union(await narrow(scope, half, verdict.by));
  }
  return suspects;
};

const verify = ({ state, time }: Scope, partitions: PartitionSet): void => {
  for (const { start, end } of partitions.ranges) state.verifiedMs.fill(time.ms - 1, start, end);
};

import type { RecordBlock } from '../../../engine/aerospike/client/record-block.ts';
import { DIGEST_BYTES, PARTITIONS, PartitionSet, sortKeyOf } from '../../../engine/partition.ts';
import type { Rows } from '../index-row.ts';
import { type Change, changeAt, digestsOnly, isExpired, isSameVersion, scanOf, secondsOf } from './delta.ts';
import { tellChanges } from './images.ts';
import type { Scope } from './scope.ts';

/** Rows that are compared at a time. */
const ROWS_MAX = 100_000;
/** Changes that are read before the scan goes on. */
const CHANGES_MAX = 4000;

/** Partitions in portions of at most so many rows of the index, one partition at least. */
export const portionsOf = (scope: Scope, partitions: PartitionSet, rowsMax: number): PartitionSet[] => {
  const portions: PartitionSet[] = [];
  let rows = 0;
  let start = -1;
  for (const range of partitions.ranges) {
    for (let p = range.start; p < range.end; p++) {
      const more = scope.journal.index.count(scope.state.id, p);
      if (start >= 0 && rows + more > rowsMax) {
        portions.push(PartitionSet.of([{ start, end: p }]));
        start = -1;
      }
      if (start < 0) {
        start = p;
        rows = 0;
      }
      rows += more;
    }
    portions.push(PartitionSet.of([{ start, end: range.end }]));
    start = -1;
  }
  return portions;
};

/** Rows of a partition, and which of them were met. */
interface Roll {
  readonly rows: Rows;
  readonly isMet: Uint8Array;
}

/**
 * Compares every digest of `partitions`, or of one set in them, with the index, and tells the journal what is missing, unknown or different
 * (P5). The index must know everything that was told of these partitions before. @throws aerospike-…
 */
export const takeCensus = async (scope: Scope, partitions: PartitionSet, set?: string): Promise<void> => {
  for (const portion of portionsOf(scope, partitions, ROWS_MAX)) {
    await scope.gate.breathe();
    const open = await compare(scope, portion, set);
    if (set !== undefined) continue;
    for (const { start, end } of portion.subtract(open).ranges)
      scope.state.verifiedMs.fill(scope.time.ms - 1, start, end);
    scope.findings.sweptPartitions += portion.size;
  }
};

/** Without doubt, what has a LUT below S was there before anything of this poll was read. */
const boundedBefore = ({ missedAfterMs, boundedBeforeMs, time }: Scope): number =>
  missedAfterMs === undefined ? boundedBeforeMs : time.ms;

/** Returns the partitions of which it cannot say what is missing. */
const compare = async (
  scope: Scope,
  partitions: PartitionSet,
  set: string | undefined,
): Promise<PartitionSet> => {
  const rolls = rollsOf(scope, partitions);
  if (set === undefined)
    for (const [digest, { partition }] of scope.state.unrepresentable)
      if (rolls[partition]) scope.state.unrepresentable.delete(digest);
  const key = Buffer.alloc(DIGEST_BYTES);
  const boundedBeforeMs = boundedBefore(scope);
  let changes: Change[] = [];
  const meet = (block: RecordBlock, i: number): void => {
    const at = block.digestStart(i);
    const digest = block.bytes.subarray(at, at + DIGEST_BYTES);
    const roll = rolls[block.partition(i)];
    const lutMs = scope.hasLuts ? block.lutMsOf(i) : undefined;
    const seen = { generation: block.generation(i), voidTimeS: block.voidTimeS(i), lutMs };
    const row = roll ? roll.rows.find(sortKeyOf(digest, key)) : -1;
    if (roll && row >= 0) {
      roll.isMet[row] = 1;
      if (isSameVersion(roll.rows, row, seen, boundedBeforeMs)) {
        if (lutMs !== undefined && roll.rows.isBase(row)) scope.learn(digest, lutMs);
        return;
      }
    }
    // what this poll has told already
    const told = scope.journal.row(scope.namespace, digest);
    if (told && isSameVersion(told, 0, seen, boundedBeforeMs)) return;
    const change = changeAt(scope, block, i, lutMs);
    if (change) changes.push(change);
  };
  const options = { partitions, ...(set === undefined ? {} : { set }), ...digestsOnly(scope) };
  for await (const block of scanOf(scope, options)) {
    for (let i = 0; i < block.length; i++) meet(block, i);
    await scope.gate.breathe();
    if (changes.length < CHANGES_MAX) continue;
    await tellChanges(scope, changes);
    changes = [];
  }
  await tellChanges(scope, changes);
  const open: { start: number; end: number }[] = [];
  for (const [partition, roll] of rolls.entries())
    if (roll && !tellMissing(scope, partition, roll, set))
      open.push({ start: partition, end: partition + 1 });
  return PartitionSet.of(open);
};

const rollsOf = (scope: Scope, partitions: PartitionSet): (Roll | undefined)[] => {
  const rolls = new Array<Roll | undefined>(PARTITIONS);
  for (const { start, end } of partitions.ranges)
    for (let p = start; p < end; p++) {
      const rows = scope.journal.index.partition(scope.state.id, p);
      rolls[p] = { rows, isMet: new Uint8Array(rows.length) };
    }
  return rolls;
};

/** Rows whose records the scan did not have. What has expired needs no event. False: one may have expired, or may have gone before. */
const tellMissing = (
  scope: Scope,
  partition: number,
  { rows, isMet }: Roll,
  set: string | undefined,
): boolean => {
  const { journal, state, time } = scope;
  const { from, to } = secondsOf(scope);
  let isClear = true;
  const endMs = time.latestMs();
  for (let i = 0; i < rows.length; i++) {
    if (isMet[i] === 1) continue;
    const voidTimeS = rows.voidTimeS(i);
    if (isExpired(voidTimeS, to)) {
      isClear &&= isExpired(voidTimeS, from);
      continue;
    }
    const name = journal.setName(rows.set(i));
    if (set !== undefined && name !== set) continue;
    const when = { startMs: Math.min(state.verifiedMs[partition], endMs), endMs };
    if (scope.gone({ digest: rows.digest(i), set: name, when })) scope.findings.deleted++;
  }
  return isClear;
};

import { nameAt } from '../../../engine/aerospike/client/name.ts';
import type { RecordBlock } from '../../../engine/aerospike/client/record-block.ts';
import type { ScanOptions, ScanTotals } from '../../../engine/aerospike/client/scan.ts';
import { ge, lastUpdate, nanoseconds } from '../../../engine/aerospike/expression/build.ts';
import { PitrError } from '../../../engine/errors.ts';
import { DIGEST_BYTES, type PartitionSet } from '../../../engine/partition.ts';
import type { Rows } from '../index-row.ts';
import type { Scope, Unread } from './scope.ts';

/** A record that was changed, as a scan without bins has it. Its buffers are its own. */
export interface Change {
  readonly digest: Buffer;
  readonly set: string;
  readonly generation: number;
  readonly voidTimeS: number;
  /** Undefined: the build does not say it in scans. */
  readonly lutMs: number | undefined;
  /** Stored key as a field has it: type, key. Empty: none. */
  readonly key: Buffer;
  /** What was seen of an earlier life of it in this poll. */
  readonly unread?: Unread;
}

/** What was changed in some partitions since an instant, and what their count says. */
export interface Delta {
  readonly changes: readonly Change[];
  /** False: there are more changes than asked for, and the rest was not read. */
  readonly isWhole: boolean;
  /** Live records that were not changed; undefined: a page came twice, so nobody knows. */
  readonly unchanged: number | undefined;
  /** Void times of the rows, and of what cannot be logged, whose records came back. */
  readonly returnedVoidTimes: readonly number[];
}

/** They are kept in memory. */
const UNREPRESENTABLE_MAX = 100_000;

export const NO_BYTES = Buffer.alloc(0);

/** Seconds between which a record expires while it is looked at: before the first it has, from the second on it has not. */
export interface Seconds {
  readonly from: number;
  readonly to: number;
}

export const secondsOf = ({ time }: Scope): Seconds => ({
  from: Math.floor(time.ms / 1000),
  to: Math.floor(time.latestMs() / 1000),
});

export const isExpired = (voidTimeS: number, second: number): boolean =>
  voidTimeS !== 0 && voidTimeS < second;

/** A scan that counts its cost. @throws aerospike-… */
export async function* scanOf(
  scope: Scope,
  options: Omit<ScanOptions, 'namespace' | 'signal'>,
): AsyncGenerator<RecordBlock, ScanTotals, undefined> {
  const { cost } = scope;
  const scan = scope.client.scan({ ...options, namespace: scope.namespace, signal: scope.signal });
  try {
    for await (const block of scan) yield block;
  } finally {
    const { records, bytes, pages, filteredMeta } = scan.totals;
    cost.scans += Math.max(1, pages);
    cost.returned += records;
    cost.filtered += filteredMeta;
    cost.bytes += bytes;
    // a projection, and a stored key, are read where the record is
    if (scope.isOnDevice) cost.deviceReads += records;
  }
  return scan.totals;
}

/** LUT, and neither bins nor anything else. */
export const digestsOnly = ({ hasLuts }: Scope): Pick<ScanOptions, 'withLut' | 'bins'> =>
  hasLuts ? { withLut: true } : { bins: 'none' };

/** Record `i` of a block; undefined: it cannot be logged, which is noted. */
export const changeAt = (
  scope: Scope,
  block: RecordBlock,
  i: number,
  lutMs: number | undefined,
): Change | undefined => {
  const at = block.digestStart(i);
  const set = nameAt(block.bytes, block.setStart(i), block.setEnd(i));
  const digest = Buffer.from(block.bytes.subarray(at, at + DIGEST_BYTES));
  if (typeof set !== 'string') {
    const { unrepresentable } = scope.state;
    if (unrepresentable.size === UNREPRESENTABLE_MAX)
      throw new PitrError('bad-record', {
        what: `more than ${UNREPRESENTABLE_MAX} records of ${scope.namespace} are in sets whose names are not UTF-8`,
        hint: 'capture the sets that can be named',
      });
    const entry = { partition: block.partition(i), voidTimeS: block.voidTimeS(i) };
    unrepresentable.set(digest.toString('latin1'), entry);
    return undefined;
  }
  return {
    digest,
    set,
    generation: block.generation(i),
    voidTimeS: block.voidTimeS(i),
    lutMs,
    key: Buffer.from(block.bytes.subarray(block.keyStart(i), block.keyEnd(i))),
  };
};

/**
 * Whether row `i` is the version that was seen. Without LUT nobody can say more than that it may be. A LUT of which only a bound is known is
 * taken for the same below `boundedBeforeMs`: above, it may have been replaced after the row was read.
 */
export const isSameVersion = (
  rows: Rows,
  i: number,
  seen: { readonly generation: number; readonly voidTimeS: number; readonly lutMs: number | undefined },
  boundedBeforeMs: number,
): boolean => {
  if (rows.generation(i) !== seen.generation) return false;
  if (seen.lutMs === undefined) return rows.voidTimeS(i) === seen.voidTimeS;
  if (!rows.isBase(i)) return seen.lutMs === rows.lutMs(i);
  return seen.lutMs <= rows.lutMs(i) && seen.lutMs < boundedBeforeMs;
};

/**
 * The records of `partitions` with LUT >= `sinceMs`: which of them are not known like that, and how many others there are. It stops after
 * `changesMax` changes. @throws aerospike-…
 */
export const readDelta = async (
  scope: Scope,
  partitions: PartitionSet,
  sinceMs: number,
  changesMax: number,
): Promise<Delta> => {
  const { journal, namespace } = scope;
  const changes: Change[] = [];
  const returnedVoidTimes: number[] = [];
  let returned = 0;
  const scan = scanOf(scope, {
    partitions,
    filter: ge(lastUpdate(), nanoseconds(sinceMs)).bytes,
    isPaged: false,
    ...digestsOnly(scope),
  });
  const take = (block: RecordBlock, i: number): void => {
    const at = block.digestStart(i);
    const row = journal.row(namespace, block.bytes.subarray(at, at + DIGEST_BYTES));
    const lutMs = scope.hasLuts ? block.lutMsOf(i) : undefined;
    if (row) returnedVoidTimes.push(row.voidTimeS(0));
    const seen = { generation: block.generation(i), voidTimeS: block.voidTimeS(i), lutMs };
    if (row && lutMs !== undefined && isSameVersion(row, 0, seen, scope.boundedBeforeMs)) return;
    const change = changeAt(scope, block, i, lutMs);
    if (change) changes.push(change);
    else returnedVoidTimes.push(seen.voidTimeS);
  };
  for (let step = await scan.next(); ; step = await scan.next()) {
    if (step.done) {
      const isRepeated = step.value.records !== returned;
      return {
        changes,
        isWhole: true,
        unchanged: isRepeated ? undefined : step.value.filteredMeta,
        returnedVoidTimes,
      };
    }
    returned += step.value.length;
    for (let i = 0; i < step.value.length; i++) take(step.value, i);
    if (changes.length > changesMax) {
      await scan.return({ records: 0, bytes: 0, pages: 0, filteredMeta: 0, filteredBins: 0 });
      return { changes: [], isWhole: false, unchanged: undefined, returnedVoidTimes };
    }
  }
};

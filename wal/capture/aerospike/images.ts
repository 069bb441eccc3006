import { WireTtl } from '../../../engine/aerospike/bits.ts';
import { type RecordCommand, readCommand } from '../../../engine/aerospike/client/command.ts';
import type { CommandResults } from '../../../engine/aerospike/client/command-results.ts';
import {
  and,
  eq,
  ge,
  keyExists,
  lastUpdate,
  nanoseconds,
  not,
} from '../../../engine/aerospike/expression/build.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { PitrError } from '../../../engine/errors.ts';
import { PartitionSet, partitionOf } from '../../../engine/partition.ts';
import type { Window } from '../found.ts';
import { type Change, changeAt, NO_BYTES, readDelta, scanOf } from './delta.ts';
import type { Scope, Unread } from './scope.ts';

/** How often a record that changes all the time is asked for by its LUT. */
const ROUNDS = 3;
const ROWS_FIRST = 256;
const ROWS_MAX = 4000;
/** Bytes that the answers of one call may have, as the last ones had. */
const BYTES_WANTED = 8 * 1024 * 1024;

/** Reads the changed records and tells the journal of them (P4). @throws aerospike-… */
export const tellChanges = async (scope: Scope, changes: readonly Change[]): Promise<void> => {
  scope.findings.changed += changes.length;
  let open = [];
  for (const change of changes)
    if (scope.hasLuts || scope.journal.isLogged(change.set)) open.push(change);
    else tellUnlogged(scope, change);
  if (!scope.hasLuts) open = await withLuts(scope, open);
  for (let round = 0; open.length > 0; round++) {
    const again = await readImages(scope, open);
    scope.findings.changedMeanwhile += again.length;
    if (again.length === 0) return;
    if (round === ROUNDS) return tellWhole(scope, again);
    open = await seenAgain(scope, again);
  }
};

/** Of a set that is left out: that it is there, and not what it holds. */
const tellUnlogged = (scope: Scope, change: Change): void => {
  const { lutMs } = change;
  scope.found({ ...change, lut: lutMs ?? windowOf(scope, scope.sinceMs - 1), image: NO_BYTES });
};

const windowOf = ({ time }: Scope, startMs: number): Window => {
  const endMs = time.latestMs();
  return { startMs: Math.min(startMs, endMs), endMs };
};

/** Images by batches on the condition that each record is still what was seen; returns those that are not. */
const readImages = async (scope: Scope, changes: readonly Change[]): Promise<Change[]> => {
  const again: Change[] = [];
  let rows = ROWS_FIRST;
  for (let from = 0; from < changes.length; ) {
    const part = changes.slice(from, from + rows);
    from += part.length;
    const logged = part.filter((change) => {
      if (scope.journal.isLogged(change.set)) return true;
      tellUnlogged(scope, change);
      return false;
    });
    if (logged.length === 0) continue;
    const results = await batch(scope, logged, imageCommand);
    let bytes = 0;
    for (const [i, change] of logged.entries()) {
      const code = codeOf(results, i);
      // two versions in one ms share their LUT, and may differ in the stored key, which only the scan says
      const isOther = code === ResultCode.ok && results.generation(i) !== change.generation;
      if (code === ResultCode.filteredOut || isOther) again.push(change);
      else if (code === ResultCode.notFound) tellVanished(scope, change);
      else {
        const image = results.image(i, change.key);
        bytes += image.length;
        scope.found({
          digest: change.digest,
          set: change.set,
          generation: results.generation(i),
          voidTimeS: results.voidTimeS(i),
          lut: change.lutMs ?? 0,
          image,
          unread: change.unread,
        });
      }
    }
    scope.cost.bytes += bytes;
    if (scope.isOnDevice) scope.cost.deviceReads += logged.length;
    rows = Math.max(
      16,
      Math.min(ROWS_MAX, 4 * rows, Math.floor((BYTES_WANTED * logged.length) / (bytes + 1))),
    );
    await scope.gate.breathe();
  }
  return again;
};

/** Reads of a capture must not count as uses of a record (P9). */
const quiet = (command: RecordCommand): RecordCommand => ({ ...command, recordTtl: WireTtl.never });

/** On the condition that it is the version that was seen, also in what a read does not say: whether its key is stored. */
const imageCommand = ({ namespace }: Scope, { set, digest, lutMs = 0, key }: Change): RecordCommand => {
  const hasKey = key.length > 0 ? keyExists() : not(keyExists());
  const filter = and(eq(lastUpdate(), nanoseconds(lutMs)), hasKey).bytes;
  return quiet(readCommand({ namespace, set, digest }, { filter }));
};

const lutCommand = ({ namespace }: Scope, { set, digest }: Change): RecordCommand =>
  quiet(readCommand({ namespace, set, digest }, { bins: 'none', withLut: true }));

const batch = (
  scope: Scope,
  changes: readonly Change[],
  commandOf: (scope: Scope, change: Change) => RecordCommand,
): Promise<CommandResults> => {
  scope.cost.reads += changes.length;
  return scope.client.batch(changes.map((change) => commandOf(scope, change)));
};

/** 0, not found or filtered out. @throws whatever else came of it */
const codeOf = (results: CommandResults, i: number): number => {
  const code = results.code(i);
  if (code === ResultCode.ok || code === ResultCode.notFound || code === ResultCode.filteredOut) return code;
  throw results.failure(i) ?? new PitrError('internal', { what: 'a read without an end' });
};

/** It was seen and is no more: what was seen of it and not read is missed. */
const tellVanished = (scope: Scope, change: Change): void => {
  const { digest, set, lutMs } = change;
  // the scan saw it after S, perhaps in the same ms
  const when = windowOf(scope, Math.max(scope.time.ms - 1, lutMs ?? 0));
  if (scope.gone({ digest, set, when, unread: unreadOf(scope, change) })) scope.findings.deleted++;
};

/** What was seen of a record that is no longer what was seen. */
const unreadOf = (
  { journal, namespace }: Scope,
  { digest, generation, lutMs = 0, unread }: Change,
): Unread => {
  const known = unread ? 0 : (journal.row(namespace, digest)?.generation(0) ?? 0);
  const versions = generation > known ? generation - known : generation;
  return { versions: versions + (unread?.versions ?? 0), lutMs: unread?.lutMs ?? lutMs };
};

/** The same record as it was seen later. When it is another life of it, what was seen of the one before is not to be read any more. */
const seenLater = (scope: Scope, before: Change, now: Change): Change => {
  const isSame = now.generation === before.generation && now.lutMs === before.lutMs;
  const unread = isSame || now.generation > before.generation ? before.unread : unreadOf(scope, before);
  return unread ? { ...now, unread } : now;
};

/** For builds whose scans have no LUTs: asks for them one by one. */
const withLuts = async (scope: Scope, changes: readonly Change[]): Promise<Change[]> => {
  const found: Change[] = [];
  for (let from = 0; from < changes.length; from += ROWS_MAX) {
    const part = changes.slice(from, from + ROWS_MAX);
    const results = await batch(scope, part, lutCommand);
    for (const [i, change] of part.entries()) {
      if (codeOf(results, i) === ResultCode.notFound) tellVanished(scope, change);
      else
        found.push({
          ...change,
          generation: results.generation(i),
          voidTimeS: results.voidTimeS(i),
          lutMs: results.bins(i).lutMs,
        });
    }
  }
  return found;
};

const partitionsOf = (changes: readonly Change[]): PartitionSet =>
  PartitionSet.of(
    changes.map(({ digest }) => {
      const start = partitionOf(digest);
      return { start, end: start + 1 };
    }),
  );

const idOf = ({ digest }: Change): string => digest.toString('latin1');
const earliest = (changes: readonly Change[]): number => Math.min(...changes.map(({ lutMs = 0 }) => lutMs));

/** The same records as they are now, by a scan: only that says stored key and LUT together. */
const seenAgain = async (scope: Scope, changes: readonly Change[]): Promise<Change[]> => {
  const now = scope.hasLuts
    ? (await readDelta(scope, partitionsOf(changes), earliest(changes), Number.POSITIVE_INFINITY)).changes
    : await withLuts(scope, changes);
  const byId = new Map(now.map((change) => [idOf(change), change]));
  return changes.flatMap((change) => {
    const later = byId.get(idOf(change));
    if (later) return seenLater(scope, change, later);
    // without LUTs it was asked for, and told to be gone
    return scope.hasLuts ? change : [];
  });
};

/** Records that change faster than they can be read twice: with their bins in one scan, and a window. */
const tellWhole = async (scope: Scope, changes: readonly Change[]): Promise<void> => {
  const seen = new Map(changes.map((change) => [idOf(change), change]));
  await readWhole(scope, partitionsOf(changes), earliest(changes), seen);
  if (seen.size === 0) return;
  const left = [...seen.values()];
  const results = await batch(scope, left, lutCommand);
  for (const [i, change] of left.entries()) {
    if (codeOf(results, i) !== ResultCode.notFound)
      throw new PitrError('verification-failed', {
        what: `the last update of a record of ${scope.namespace} went back while it was read`,
        hint: 'the next poll reads it again',
      });
    tellVanished(scope, change);
  }
};

/**
 * Changes since `sinceMs` in one pass with bins. LUTs are windows, from the one in `seen` on if there is one; what is met is removed from
 * `seen`. @throws aerospike-…
 */
export const readWhole = async (
  scope: Scope,
  partitions: PartitionSet,
  sinceMs: number,
  seen: Map<string, Change>,
): Promise<void> => {
  const filter = ge(lastUpdate(), nanoseconds(sinceMs)).bytes;
  for await (const block of scanOf(scope, { partitions, filter })) {
    for (let i = 0; i < block.length; i++) {
      const change = changeAt(scope, block, i, undefined);
      if (!change) continue;
      const before = seen.get(idOf(change));
      seen.delete(idOf(change));
      scope.findings.changed += before ? 0 : 1;
      const isLogged = scope.journal.isLogged(change.set);
      scope.found({
        ...change,
        // also with the generation that it had: it may have been deleted and written as often. What was not read is in the window
        lut: windowOf(scope, (before?.unread?.lutMs ?? before?.lutMs ?? sinceMs) - 1),
        image: isLogged ? block.image(i) : NO_BYTES,
      });
    }
    await scope.gate.breathe();
  }
};

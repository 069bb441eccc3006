import type { LogEntry, LogEvent, LogVersion } from './commit-log.ts';
import { ContentDigest } from './content-digest.ts';
import { PitrError } from './errors.ts';
import type { EngineIdentity } from './identity.ts';
import type { RecordStore } from './machine.ts';
import { PartitionSet, sortKeyOf } from './partition.ts';
import { encodeState, state, stateKey } from './state-record.ts';
import { addToDigest, partitionOfKey, type StoreChange, type StoreMeta } from './store.ts';
import { type Transfer, withTransfer } from './transfer.ts';

/** Versions that one store transaction takes at start-up. */
const REPLAY_VERSIONS = 5000;

export interface Replay {
  readonly entry: (entry: LogEntry) => void;
  /** Applies what is left and removes what an interrupted hand-over loaded. */
  readonly finish: (
    lastLsn: number,
    lastTs: number,
  ) => {
    digest: ContentDigest;
    partitions: PartitionSet;
    epoch: number;
    transfers: readonly Transfer[];
  };
}

/**
 * Brings the store up to the log: the entries come in order, all above `meta.appliedLsn`. Where a clock frame states the
 * digests of exactly this position, they must be the store's.
 */
export const replayInto = (
  store: RecordStore,
  identity: EngineIdentity,
  meta: StoreMeta | undefined,
): Replay => {
  const digest = meta ? ContentDigest.from(meta.digests) : new ContentDigest(identity.shards);
  let partitions = PartitionSet.parse(meta?.partitions ?? identity.partitions);
  let epoch = meta?.epoch ?? 1;
  let transfers = meta?.transfers ?? [];
  let lsn = meta?.appliedLsn ?? 0;
  let lastTs = meta?.lastTs ?? 0;
  let changes: StoreChange[] = [];
  const newest = new Map<string, Buffer | undefined>();

  const flush = (): void => {
    const now: StoreMeta = {
      appliedLsn: lsn,
      lastTs,
      epoch,
      partitions: partitions.toString(),
      digests: digest.toShards(),
      transfers,
    };
    if (changes.length > 0 || lsn > (meta?.appliedLsn ?? 0)) store.applySync(changes, now);
    changes = [];
    newest.clear();
  };

  const version = (v: LogVersion): void => {
    const key = stateKey(v.namespace, sortKeyOf(v.digest));
    const mapKey = key.toString('latin1');
    const before = newest.has(mapKey) ? newest.get(mapKey) : store.get(key);
    if (before) addToDigest(digest, key, before, -1);
    const value =
      v.image &&
      encodeState(
        {
          generation: v.generation,
          voidTime: v.voidTime,
          ts: v.ts,
          lsn: v.lsn,
          lut: v.seen?.lutMs ?? v.ts,
        },
        v.set,
        v.image,
      );
    if (value) addToDigest(digest, key, value, 1);
    newest.set(mapKey, value);
    changes.push({ key, value });
    if (changes.length >= REPLAY_VERSIONS && !v.batchMore) flush();
  };

  const removeWhere = (namespace: string | undefined, hit: (value: Buffer, key: Buffer) => boolean): void => {
    for (const { key, value } of store.scan(namespace)) {
      if (!hit(value, key)) continue;
      addToDigest(digest, key, value, -1);
      changes.push({ key, value: undefined });
    }
  };

  const event = (e: LogEvent): void => {
    // what came before is one state of the store, the event with its effect is the next
    flush();
    lsn = e.lsn;
    lastTs = Math.max(lastTs, e.ts);
    switch (e.kind) {
      case 'mark':
      case 'definition':
        return;
      case 'truncate': {
        // only of what it owned: the rest is what a hand-over that failed or is yet to come has loaded
        const mask = partitions.toMask();
        removeWhere(
          e.namespace,
          (v, key) =>
            mask[partitionOfKey(key)] === 1 &&
            state.lut(v) < e.cutoffLut &&
            (e.set === null || state.set(v) === e.set),
        );
        flush();
        return;
      }
      case 'ownership': {
        const moved = PartitionSet.parse(e.partitions);
        const mask = moved.toMask();
        transfers = withTransfer(transfers, e);
        if (e.change === 'release') {
          partitions = partitions.subtract(moved);
          removeWhere(undefined, (_, key) => mask[partitionOfKey(key)] === 1);
        } else {
          // their records were durable in the store before this event was logged
          partitions = partitions.union(moved);
          epoch = Math.max(epoch, e.epoch);
          for (const { key, value } of store.scan())
            if (mask[partitionOfKey(key)]) addToDigest(digest, key, value, 1);
        }
        flush();
        return;
      }
      default:
        e satisfies never;
    }
  };

  return {
    entry: (entry) => {
      switch (entry.kind) {
        case 'version':
          lsn = entry.version.lsn;
          lastTs = Math.max(lastTs, entry.version.ts);
          version(entry.version);
          return;
        case 'event':
          event(entry.event);
          return;
        case 'clock': {
          lastTs = Math.max(lastTs, entry.clock.ts);
          if (entry.clock.lsn !== lsn) return;
          const wrong = ContentDigest.from(entry.clock.digests).difference(digest);
          if (wrong.length > 0)
            throw new PitrError('store-corrupt', {
              dir: store.dir,
              why: `at LSN ${lsn} the records of shard ${wrong[0]} are not those that were written`,
            });
          return;
        }
        default:
          entry satisfies never;
      }
    },
    finish: (lastLsn, newestTs) => {
      lsn = lastLsn;
      lastTs = Math.max(lastTs, newestTs);
      flush();
      const foreign = PartitionSet.all.subtract(partitions);
      for (const namespace of store.namespaces())
        for (const range of foreign.ranges)
          for (const { key } of store.scan(namespace, range)) changes.push({ key, value: undefined });
      flush();
      return { digest, partitions, epoch, transfers };
    },
  };
};

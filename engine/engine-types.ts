/** What goes into an engine and comes out of it: options, operations, outcomes, reports. */
import type { Clock } from './clock.ts';
import type { CommitLog, CommitLogOpener, LogRecovery } from './commit-log.ts';
import type { ContentDigest, ShardDigest } from './content-digest.ts';
import type { HeldLock } from './directory-lock.ts';
import type { EngineIdentity } from './identity.ts';
import type { Machine, RecordStore } from './machine.ts';
import type { PartitionSet } from './partition.ts';
import type { RecordKey } from './record-key.ts';
import type { Spool } from './spool.ts';
import type { StoreChange } from './store.ts';
import type { Transfer } from './transfer.ts';
import type { Value } from './value.ts';
import type { WriteOptions } from './write-op.ts';

/** Bins as a caller gives them; null removes a bin. */
export type BinsInput = Readonly<Record<string, Value | null>>;

export type BatchOp =
  | ({ readonly op: 'put'; readonly key: RecordKey; readonly bins: BinsInput } & WriteOptions)
  | ({ readonly op: 'delete'; readonly key: RecordKey } & Pick<WriteOptions, 'generation'>)
  | ({ readonly op: 'touch'; readonly key: RecordKey } & Pick<WriteOptions, 'generation' | 'ttl'>);

/** What a durable write did. `found`: there was a record before. */
export interface WriteOutcome {
  readonly lsn: number;
  readonly ts: number;
  readonly generation: number;
  readonly found: boolean;
}

export interface EngineCoreOptions extends Machine {
  readonly dir: string;
  readonly clock?: Clock;
  /** How often the log is sealed and the frontier stated; 0 = only on request and at close. Default 1000. */
  readonly sealMs?: number;
  /** Bytes of unsealed log after which it is sealed early. Default 32 MiB. */
  readonly sealBytes?: number;
  /** How long to wait for another writer to close the directory. Default 2000. */
  readonly lockWaitMs?: number;
  /** False: no door for other processes, for an engine that is open for a moment only. Default true. */
  readonly door?: boolean;
  readonly openLog: CommitLogOpener;
  /** Bounds the log by what the archive has; undefined without archive, then the store alone decides what is trimmed. */
  readonly openSpool?: (parts: SpoolParts) => Promise<Spool>;
  /** Names the stream that owns a partition, for messages. */
  readonly ownerOf?: (partition: number) => Promise<string | undefined>;
}

/** What a spool works with. */
export interface SpoolParts {
  readonly log: CommitLog;
  /** Makes what is in the log visible to the archiver, then trims. */
  readonly seal: () => Promise<unknown>;
  readonly trim: () => Promise<void>;
}

/** The door's `acquire`: `file` holds the records, as engine/record-file.ts writes them. */
export interface AcquireRequest {
  readonly partitions: string;
  readonly peer: string;
  readonly epoch: number;
  readonly afterTs: number;
  readonly file: string;
  /** What the previous owner said that it gave up: see {@link Release}. */
  readonly digests?: readonly ShardDigest[];
}

/** Where partitions were given up, and the digest of what was in them as one shard (logs of older releases lack it). */
export interface Release {
  readonly lsn: number;
  readonly ts: number;
  readonly digests?: readonly ShardDigest[];
}

export interface AcquireOptions {
  readonly partitions: PartitionSet;
  readonly peer: string;
  readonly epoch: number;
  /** The previous owner's ts of the release. */
  readonly afterTs: number;
  readonly load: AsyncIterable<readonly StoreChange[]>;
  /** What `load` must come to. */
  readonly digests?: readonly ShardDigest[];
}

/** What opening found and did. */
export interface OpenReport extends LogRecovery {
  readonly created: boolean;
  /** LSN up to which the store was current before the replay. */
  readonly storeLsn: number;
  readonly durationMs: number;
}

/** What an EngineCore is made of, once opened. */
export interface EngineParts {
  readonly options: EngineCoreOptions;
  readonly identity: EngineIdentity;
  readonly lock: HeldLock;
  readonly store: RecordStore;
  readonly log: CommitLog;
  readonly digest: ContentDigest;
  readonly partitions: PartitionSet;
  readonly epoch: number;
  readonly transfers: readonly Transfer[];
  readonly lastTs: number;
  readonly report: OpenReport;
}

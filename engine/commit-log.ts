import type { ShardDigest } from './content-digest.ts';

/** {@link Sighting.missed}: at least one, nobody knows how many. */
export const MISSED_UNKNOWN = 0xffffffff;

/** What is known of a version that was found, not made, by whoever logs it. Instants are ms. */
export interface Sighting {
  /** Last-update time as the source has it. */
  readonly lutMs: number;
  /**
   * The change came in (start, end]: after `windowStartMs`, not after `windowEndMs`. Both equal to `lutMs`: exactly then. A late version has
   * the window (LUT, found].
   */
  readonly windowStartMs: number;
  readonly windowEndMs: number;
  /** Versions of the record between the one logged before and this one that nobody saw, u32; or {@link MISSED_UNKNOWN}. */
  readonly missed: number;
  /**
   * They came after this instant, and not after this version's LUT. 0: nobody knows since when, or nothing was missed. Below the LUT, if
   * it is not 0.
   */
  readonly missedAfterMs: number;
  /** Its ts had to be later than its LUT, because the time of the LUT was published already (F2). */
  readonly late: boolean;
}

/**
 * One version as the engine hands it to the log and gets it back at start-up: a write with its image, or a delete.
 * Always the state after the operation, never the operation.
 */
export interface LogVersion {
  readonly lsn: number;
  /** Commit time, ms. */
  readonly ts: number;
  readonly namespace: string;
  /** '' = no set. */
  readonly set: string;
  /** 20 bytes. */
  readonly digest: Uint8Array;
  readonly generation: number;
  /** Seconds since 1970, 0 = never. */
  readonly voidTime: number;
  /** Stored key and bins; undefined for a delete. */
  readonly image: Uint8Array | undefined;
  /** The next LSN belongs to the same batch. */
  readonly batchMore: boolean;
  /** Absent: the writer of the log made it, at `ts`, and its LUT is `ts`. */
  readonly seen?: Sighting;
}

export interface LogTruncate {
  readonly kind: 'truncate';
  readonly lsn: number;
  readonly ts: number;
  readonly namespace: string;
  readonly set: string | null;
  /** Records with a last-update time below this, ms, are gone. */
  readonly cutoffLut: number;
  readonly partitions: string;
  /** Found, not made: it took effect in (start, end]. Absent: at `ts`. */
  readonly windowStartMs?: number;
  readonly windowEndMs?: number;
}

export interface LogMark {
  readonly kind: 'mark';
  readonly lsn: number;
  readonly ts: number;
  readonly name: string;
}

export interface LogOwnership {
  readonly kind: 'ownership';
  readonly lsn: number;
  readonly ts: number;
  readonly change: 'acquire' | 'release';
  readonly partitions: string;
  readonly peer: string;
  /** Ownership epoch of every position of this stream from here on. */
  readonly epoch: number;
  /** Of a release: of the records that it gives up, by shard. Who takes them over compares. */
  readonly digests?: readonly ShardDigest[];
}

/** A definition of a secondary index or UDF module as the source gives it. */
export interface LogDefinition {
  readonly kind: 'definition';
  readonly lsn: number;
  readonly ts: number;
  readonly what: 'sindex' | 'udf';
  /** Null: of all namespaces, as UDF modules are. */
  readonly namespace: string | null;
  readonly name: string;
  /** Null: it is there no more. */
  readonly body: Uint8Array | null;
}

export type LogEvent = LogTruncate | LogMark | LogOwnership | LogDefinition;

/** A clock frame: the stream's frontier as its writer states it (F3). */
export interface LogClock {
  readonly ts: number;
  readonly lsn: number;
  readonly epoch: number;
  readonly digests: readonly ShardDigest[];
}

/** A log file that never changes any more. */
export interface SealedFile {
  readonly sequence: number;
  readonly lsnFirst: number;
  /** Below `lsnFirst` when it holds clock frames only. */
  readonly lsnLast: number;
  /** Of its last clock frame, ms: nothing in it is newer. */
  readonly ts: number;
  readonly bytes: number;
}

/** What the engine needs of the log below it. The log (wal/) implements it; the engine never imports the log. */
export interface CommitLog {
  /** LSN of the newest version or event in the log, 0 when there is none. */
  readonly lastLsn: number;

  /** Adds versions that become durable together. Cheap and synchronous; nothing is durable before {@link sync} returns. */
  append(versions: readonly LogVersion[]): void;
  appendEvent(event: LogEvent): void;
  /** A clock frame between seals: what the stream states of itself at a mark. */
  appendClock(clock: LogClock): void;

  /** The next {@link sync} is likely to block the event loop for a moment: let it turn first, and what comes shares the sync. */
  readonly blocks: boolean;

  /** Writes and syncs everything appended before the call. After a failure the log accepts nothing more. @throws log-full */
  sync(): Promise<void>;

  /** Appends a clock frame, syncs, and makes the file visible to the archiver as sealed. */
  seal(clock: LogClock): Promise<void>;

  /** Removes sealed files in which no LSN is above `lsn`. Returns how many. */
  trim(lsn: number): Promise<number>;

  /** Files that are sealed and still here, oldest first. */
  readonly sealedFiles: readonly SealedFile[];

  /** Bytes written since the last seal. */
  readonly unsealedBytes: number;

  /** Bytes in files that are not trimmed yet. */
  readonly bytes: number;

  close(): Promise<void>;
}

/** What replay finds, in log order. */
export type LogEntry =
  | { readonly kind: 'version'; readonly version: LogVersion }
  | { readonly kind: 'event'; readonly event: LogEvent }
  | { readonly kind: 'clock'; readonly clock: LogClock };

/** Opens the log of an engine directory and replays what is in it above `afterLsn`. */
export type CommitLogOpener = (options: {
  readonly dir: string;
  readonly engineId: string;
  readonly stream: string;
  /** Identifies the history that this log continues; part of every file's header. */
  readonly timeline: string;
  /** Entries with an LSN at or below this are in the store already and are not replayed (clock frames are). */
  readonly afterLsn: number;
  /** Ownership epoch to go on with when the log says nothing else. */
  readonly epoch: number;
  readonly replay: (entry: LogEntry) => void;
}) => Promise<{ log: CommitLog; recovery: LogRecovery }>;

/** What start-up found in the log and did about it. */
export interface LogRecovery {
  readonly files: number;
  readonly versions: number;
  readonly events: number;
  /** Bytes of an unfinished write that were cut off the newest file: nothing acknowledged. */
  readonly tornBytes: number;
  readonly lastLsn: number;
  readonly lastTs: number;
  readonly epoch: number;
}

/** What the engine needs of whatever bounds its log while the archive is away. wal/log-spool.ts implements it. */

/** What happens when the log that the archive does not have reaches its quota. */
export const SPOOL_POLICIES = ['spill', 'block', 'drop-with-gap'] as const;
export type SpoolPolicy = (typeof SPOOL_POLICIES)[number];

/** Log that was given up although the archive did not have it. */
export interface DroppedRange {
  readonly lsnStart: number;
  readonly lsnEnd: number;
  /** Versions that went have a ts after `afterTs`, up to and including `untilTs`; ms. */
  readonly afterTs: number;
  readonly untilTs: number;
  readonly files: number;
  readonly bytes: number;
  /** When the last file of it was dropped, ms. */
  readonly atMs: number;
}

/** The writer's own figures, as its door tells them. */
export interface SpoolStatus {
  readonly policy: SpoolPolicy;
  readonly quotaBytes: number;
  readonly spillBytes: number;
  readonly blockTimeoutMs: number;
  readonly minFreeBytes: number;
  /** Log that the archive does not have. */
  readonly waitingBytes: number;
  /** Of it, in the spill directory. */
  readonly spilledBytes: number;
  /** Ts at which the oldest sealed file that waits was sealed, ms; null: none waits. */
  readonly oldestTs: number | null;
  /** Writers that wait for room, and since when, ms. */
  readonly blockedWriters: number;
  readonly blockedSinceMs: number | null;
  /** The file system has less than `minFreeBytes` left. */
  readonly diskLow: boolean;
  /** Ranges that the archive has not been told of yet. */
  readonly dropped: readonly DroppedRange[];
  /** Why spilling or dropping fails at the moment. */
  readonly error: string | null;
}

export interface Spool {
  /** Undefined when a write may go on, else a promise after which to ask again. @throws log-quota when it has waited too long */
  room(): Promise<void> | undefined;

  /** Newest LSN that the log may let go of, of those up to `appliedLsn`, which are durable in the store. */
  trimTo(appliedLsn: number): Promise<number>;

  status(): SpoolStatus;

  /** Ends every wait: who waited looks again, and finds the engine closed or failed. */
  wake(): void;
}

import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { isLocked, writerLockPath } from '../engine/directory-lock.ts';
import { callDoor } from '../engine/door.ts';
import { nodeFiles } from '../engine/files.ts';
import type { DroppedRange, SpoolPolicy, SpoolStatus } from '../engine/spool.ts';
import { readDropped } from '../wal/dropped.ts';
import { logDirOf } from '../wal/engine.ts';
import { logFilesIn } from '../wal/log-file.ts';
import { type OutageReport, readOutage } from '../wal/outage.ts';
import { readSpoolSettings } from '../wal/spool-settings.ts';

/** A writer that does not answer by then is busy; what the files say has to do. */
const DOOR_TIMEOUT_MS = 2000;

/** What the live writer says of itself. */
export interface WriterStatus {
  readonly lastLsn: number;
  readonly spool: SpoolStatus | null;
  /** Why no write succeeds any more. */
  readonly failure: { readonly id: string; readonly message: string } | null;
}

/** What an engine directory on this machine says, with or without its archive. */
export interface LocalStatus {
  readonly dir: string;
  readonly hasWriter: boolean;
  readonly hasAgent: boolean;
  /** Log that the archive does not have: sealed files, and the one that is being written. */
  readonly waitingFiles: number;
  readonly waitingBytes: number;
  /** When the oldest sealed file that waits was written, ms. */
  readonly waitingSinceMs: number | null;
  readonly policy: SpoolPolicy;
  readonly quotaBytes: number;
  /** What was given up and the archive does not know yet. */
  readonly dropped: readonly DroppedRange[];
  /** Since when and why the agent cannot archive; null: it can, or there is none. */
  readonly outage: OutageReport | null;
  readonly writer: WriterStatus | null;
}

export const readLocalStatus = async (dir: string, archivedSequence: number): Promise<LocalStatus> => {
  const log = logDirOf(dir);
  const names: string[] = await fs.readdir(log).catch(() => []);
  const waiting = logFilesIn(names).filter((f) => f.sequence > archivedSequence);
  const stats = await Promise.all(
    // the writer renames and trims meanwhile: a file that is gone waits for nothing
    waiting.map(({ name }) => fs.stat(join(log, name)).catch(() => undefined)),
  );
  const oldest = stats.find((s, i) => s && waiting[i].sealed);
  const hasWriter = isLocked(writerLockPath(dir));
  const hasAgent = isLocked(join(dir, 'agent.lock'));
  const [writer, settings, dropped, outage] = await Promise.all([
    hasWriter ? askWriterStatus(dir) : null,
    readSpoolSettings(dir),
    readDropped(log, nodeFiles).catch(() => []),
    hasAgent ? readOutage(dir) : undefined,
  ]);
  const { policy, quotaBytes } = writer?.spool ?? settings;
  return {
    dir,
    hasWriter,
    hasAgent,
    waitingFiles: waiting.length,
    waitingBytes: stats.reduce((n, s) => n + (s?.size ?? 0), 0),
    waitingSinceMs: oldest ? Math.floor(oldest.mtimeMs) : null,
    policy,
    quotaBytes,
    dropped: writer?.spool?.dropped ?? dropped,
    outage: outage ?? null,
    writer,
  };
};

/** Null: it has no door, is closing, or does not answer. */
const askWriterStatus = async (dir: string): Promise<WriterStatus | null> => {
  try {
    const said = (await callDoor(dir, 'status', {}, { timeoutMs: DOOR_TIMEOUT_MS })) as WriterStatus;
    return { lastLsn: said.lastLsn, spool: said.spool ?? null, failure: said.failure ?? null };
  } catch {
    return null;
  }
};

/** Why a directory's part of a status is not green. */
export type LocalProblem =
  | { readonly code: 'outage'; readonly stream: string; readonly outage: OutageReport }
  | {
      readonly code: 'log-quota';
      readonly stream: string;
      readonly policy: SpoolPolicy;
      readonly waitingBytes: number;
      readonly quotaBytes: number;
      readonly blockedWriters: number;
      readonly blockedSinceMs: number | null;
      readonly diskLow: boolean;
    }
  | { readonly code: 'dropped'; readonly stream: string; readonly range: DroppedRange }
  | { readonly code: 'writer-failed'; readonly stream: string; readonly id: string; readonly message: string }
  | { readonly code: 'spool-failed'; readonly stream: string; readonly message: string };

export const localProblems = (stream: string, local: LocalStatus): LocalProblem[] => {
  const { outage, dropped, writer, policy, quotaBytes } = local;
  const spool = writer?.spool;
  const waitingBytes = spool?.waitingBytes ?? local.waitingBytes;
  const isFull = waitingBytes - (spool?.spilledBytes ?? 0) >= quotaBytes || spool?.diskLow === true;
  return [
    ...(outage ? [{ code: 'outage', stream, outage } as const] : []),
    ...(isFull || (spool?.blockedWriters ?? 0) > 0
      ? [
          {
            code: 'log-quota',
            stream,
            policy,
            waitingBytes,
            quotaBytes,
            blockedWriters: spool?.blockedWriters ?? 0,
            blockedSinceMs: spool?.blockedSinceMs ?? null,
            diskLow: spool?.diskLow ?? false,
          } as const,
        ]
      : []),
    ...dropped.map((range) => ({ code: 'dropped', stream, range }) as const),
    ...(writer?.failure ? [{ code: 'writer-failed', stream, ...writer.failure } as const] : []),
    ...(spool?.error ? [{ code: 'spool-failed', stream, message: spool.error } as const] : []),
  ];
};

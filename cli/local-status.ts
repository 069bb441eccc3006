import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { isLocked, writerLockPath } from '../engine/directory-lock.ts';
import { callDoor } from '../engine/door.ts';
import { isPitrError } from '../engine/errors.ts';
import { nodeFiles } from '../engine/files.ts';
import type { DroppedRange, SpoolPolicy, SpoolStatus } from '../engine/spool.ts';
import { readArchived } from '../wal/archived.ts';
import { type CaptureStatus, readCaptureStatus } from '../wal/capture/capture-status.ts';
import { type ArchivedLog, Continuity } from '../wal/continuity.ts';
import { readDropped } from '../wal/dropped.ts';
import { logDirOf } from '../wal/engine.ts';
import { type FencedReport, readFenced } from '../wal/fenced.ts';
import { decodeLogHeader, type LogFileName, logFilesIn, scanLogFile } from '../wal/log-file.ts';
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
  /** Another agent has taken the stream from the one of this directory. */
  readonly fenced: FencedReport | null;
  /** Why the log here is not the one whose continuation the archive would take. */
  readonly rolledBack: string | null;
  /** What waits, when one of the two above is so and the log can be read. */
  readonly waitingLsn: { readonly lsnStart: number; readonly lsnEnd: number } | null;
  readonly writer: WriterStatus | null;
  /** What the agent said last of the cluster that is captured here; null: an engine directory, or nothing yet. */
  readonly source: CaptureStatus | null;
}

/** `archived`: what the archive has of the stream, or what the directory knows of that. */
export const readLocalStatus = async (dir: string, archived: ArchivedLog): Promise<LocalStatus> => {
  const log = logDirOf(dir);
  const names: string[] = await fs.readdir(log).catch(() => []);
  const fenced = await readFenced(dir);
  const hasAgent = isLocked(join(dir, 'agent.lock'));
  // an agent looks for itself, and its outage says so
  const rolledBack = hasAgent ? null : await whyRolledBack(log, logFilesIn(names), archived);
  // numbers of another history say nothing about these files
  const ownSequence = fenced?.sequence ?? (await readArchived(dir)).sequence;
  const sequence = rolledBack === null ? archived.sequence : ownSequence;
  const waiting = logFilesIn(names).filter((f) => f.sequence > sequence);
  const stats = await Promise.all(
    // the writer renames and trims meanwhile: a file that is gone waits for nothing
    waiting.map(({ name }) => fs.stat(join(log, name)).catch(() => undefined)),
  );
  const oldest = stats.find((s, i) => s && waiting[i].sealed);
  const hasWriter = isLocked(writerLockPath(dir));
  const [writer, settings, dropped, outage, source] = await Promise.all([
    hasWriter ? askWriterStatus(dir) : null,
    readSpoolSettings(dir),
    readDropped(log, nodeFiles).catch(() => []),
    hasAgent ? readOutage(dir) : undefined,
    readCaptureStatus(dir),
  ]);
  const { policy, quotaBytes } = writer?.spool ?? settings;
  const fileBytes = stats.reduce((n, s) => n + (s?.size ?? 0), 0);
  return {
    dir,
    hasWriter,
    hasAgent,
    waitingFiles: waiting.length,
    // the file that is being written is longer than what is in it, and its writer knows by how much
    waitingBytes: Math.min(fileBytes, writer?.spool?.waitingBytes ?? fileBytes),
    waitingSinceMs: oldest ? Math.floor(oldest.mtimeMs) : null,
    policy,
    quotaBytes,
    dropped: writer?.spool?.dropped ?? dropped,
    outage: outage ?? null,
    fenced: fenced ?? null,
    rolledBack,
    waitingLsn: fenced || rolledBack !== null ? await lsnRangeOf(log, waiting, writer) : null,
    writer,
    source: source ?? null,
  };
};

/** Why the log does not continue what is archived; null: it does, or nobody can tell. */
const whyRolledBack = async (
  log: string,
  files: readonly LogFileName[],
  archived: ArchivedLog,
): Promise<string | null> => {
  if (files.length === 0) return null;
  try {
    await new Continuity(log, nodeFiles).check(files, archived);
    return null;
  } catch (error) {
    return isPitrError(error, 'log-rolled-back') ? String(error.facts.why) : null;
  }
};

/** LSNs `[lsnStart, lsnEnd)` of the files; null: there are none, or they cannot be read. */
const lsnRangeOf = async (
  log: string,
  files: readonly LogFileName[],
  writer: WriterStatus | null,
): Promise<LocalStatus['waitingLsn']> => {
  const [first, last] = [files.at(0), files.at(-1)];
  if (!first || !last) return null;
  try {
    const path = join(log, first.name);
    const { lsnFirst } = decodeLogHeader(await fs.readFile(path), path).body;
    const lastPath = join(log, last.name);
    const lsnEnd = writer
      ? writer.lastLsn + 1
      : scanLogFile(await fs.readFile(lastPath), lastPath, !last.sealed, () => undefined).lsnNext;
    return lsnEnd > lsnFirst ? { lsnStart: lsnFirst, lsnEnd } : null;
  } catch {
    return null;
  }
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

/** Log that is only in this directory. */
interface KeptLog {
  readonly dir: string;
  readonly waitingBytes: number;
  readonly waitingFiles: number;
  readonly waitingLsn: LocalStatus['waitingLsn'];
}

/** Why a directory's part of a status is not green. */
export type LocalProblem =
  | ({
      readonly code: 'fenced';
      readonly stream: string;
      readonly fenced: FencedReport;
    } & KeptLog)
  | ({ readonly code: 'log-rolled-back'; readonly stream: string; readonly why: string } & KeptLog)
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
  | {
      readonly code: 'source-failing';
      readonly stream: string;
      readonly url: string;
      readonly message: string;
    }
  | { readonly code: 'source-waits'; readonly stream: string; readonly url: string; readonly message: string }
  | {
      readonly code: 'unreadable-records';
      readonly stream: string;
      readonly records: number;
    }
  | { readonly code: 'spool-failed'; readonly stream: string; readonly message: string };

/** Of a cluster that an agent captures; what one that has ended said is history. */
const sourceProblems = (stream: string, { source, hasAgent }: LocalStatus): LocalProblem[] => {
  if (!source) return [];
  const { state, why, url, totals } = source;
  const message = why ?? '';
  return [
    ...(hasAgent && state === 'failing' ? [{ code: 'source-failing', stream, url, message } as const] : []),
    ...(hasAgent && state === 'doubting' ? [{ code: 'source-waits', stream, url, message } as const] : []),
    ...(totals.unreadable > 0
      ? [{ code: 'unreadable-records', stream, records: totals.unreadable } as const]
      : []),
  ];
};

export const localProblems = (stream: string, local: LocalStatus): LocalProblem[] => {
  const { outage, dropped, writer, policy, quotaBytes } = local;
  const { fenced, rolledBack } = local;
  const kept: KeptLog = {
    dir: local.dir,
    waitingBytes: local.waitingBytes,
    waitingFiles: local.waitingFiles,
    waitingLsn: local.waitingLsn,
  };
  const spool = writer?.spool;
  const waitingBytes = spool?.waitingBytes ?? local.waitingBytes;
  const isFull = waitingBytes - (spool?.spilledBytes ?? 0) >= quotaBytes || spool?.diskLow === true;
  return [
    ...(fenced ? [{ code: 'fenced', stream, fenced, ...kept } as const] : []),
    ...(rolledBack === null ? [] : [{ code: 'log-rolled-back', stream, why: rolledBack, ...kept } as const]),
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
    ...sourceProblems(stream, local),
    ...(spool?.error ? [{ code: 'spool-failed', stream, message: spool.error } as const] : []),
  ];
};

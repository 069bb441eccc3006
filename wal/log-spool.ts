import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, systemClock } from '../engine/clock.ts';
import type { CommitLog, SealedFile } from '../engine/commit-log.ts';
import type { SpoolParts } from '../engine/engine-types.ts';
import { PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import type { DroppedRange, Spool, SpoolStatus } from '../engine/spool.ts';
import { readArchived, writeArchived } from './archived.ts';
import { readDropped, withDropped, writeDropped } from './dropped.ts';
import { LOG_DIR } from './local-log.ts';
import { SpillDir } from './spill-dir.ts';
import { readSpoolSettings, type SpoolSettings } from './spool-settings.ts';

/** How often a full spool looks whether the archive has caught up. */
const LOOK_MS = 100;

export interface LogSpoolOptions {
  readonly dir: string;
  readonly engineId: string;
  /** Win over what is set for the directory. */
  readonly settings?: Partial<SpoolSettings>;
  readonly files?: Files;
  readonly clock?: Clock;
}

/**
 * Bounds the log that the archive does not have (README.md, section "Spool"). The engine asks {@link room} before it takes a
 * write, which is a comparison of numbers, and {@link trimTo} after each seal, which is where everything else happens.
 *
 * Q1: a writer waits at most `blockTimeoutMs`. Q2: only what the store holds durably is dropped, and only after the record of
 * it is durable. Q3: reads, seals, marks and closing never wait for room.
 */
export class LogSpool implements Spool {
  readonly #options: LogSpoolOptions;
  readonly #parts: SpoolParts;
  readonly #log: CommitLog;
  readonly #files: Files;
  readonly #logDir: string;
  readonly #spill: SpillDir;
  #settings: SpoolSettings;
  #dropped: readonly DroppedRange[];
  #archivedLsn = 0;
  /** Bytes of sealed files that wait, up to the file of this number: what the last look found. */
  #counted = { sequence: 0, bytes: 0 };
  #diskLow = false;
  #error: string | null = null;
  readonly #waiters = new Set<() => void>();
  #blockedSinceMs: number | null = null;
  #relief: Promise<void> | undefined;

  private constructor(
    options: LogSpoolOptions,
    parts: SpoolParts,
    settings: SpoolSettings,
    dropped: readonly DroppedRange[],
  ) {
    this.#options = options;
    this.#parts = parts;
    this.#log = parts.log;
    this.#files = options.files ?? nodeFiles;
    this.#logDir = join(options.dir, LOG_DIR);
    this.#spill = new SpillDir(this.#logDir, options.engineId, this.#files);
    this.#settings = settings;
    this.#dropped = dropped;
  }

  /** @throws config-invalid, format-version, object-corrupt, io */
  static async open(options: LogSpoolOptions, parts: SpoolParts): Promise<LogSpool> {
    const settings = { ...(await readSpoolSettings(options.dir, options.files)), ...options.settings };
    const dropped = await readDropped(join(options.dir, LOG_DIR), options.files ?? nodeFiles);
    const spool = new LogSpool(options, parts, settings, dropped);
    await forgetForeign(options, parts.log.lastLsn);
    await spool.#look();
    return spool;
  }

  room(): Promise<void> | undefined {
    if (!this.#isFull) return undefined;
    if (this.#settings.policy === 'drop-with-gap') {
      void this.#relieve();
      return undefined;
    }
    return this.#wait();
  }

  async trimTo(appliedLsn: number): Promise<number> {
    this.#error = null;
    await this.#look();
    let lsn = Math.min(appliedLsn, this.#archivedLsn);
    try {
      await this.#forgetDropped();
      if (this.#settings.policy === 'spill') await this.#spillOver();
      if (this.#settings.policy === 'drop-with-gap') lsn = Math.max(lsn, await this.#drop(appliedLsn));
    } catch (error) {
      // the log stays as it is and goes on growing, or holds writers back; status says why
      this.#error = String((error as Error).message ?? error);
    }
    this.#count(lsn);
    if (!this.#isFull) this.wake();
    return lsn;
  }

  status(): SpoolStatus {
    const { policy, quotaBytes, spillBytes, spillDir, blockTimeoutMs, minFreeBytes } = this.#settings;
    return {
      policy,
      quotaBytes,
      spillBytes: spillDir === null ? 0 : spillBytes,
      blockTimeoutMs,
      minFreeBytes,
      waitingBytes: this.#waitingBytes,
      spilledBytes: this.#spill.bytes,
      oldestTs: this.#log.sealedFiles.find((f) => f.lsnLast > this.#archivedLsn)?.ts ?? null,
      blockedWriters: this.#waiters.size,
      blockedSinceMs: this.#blockedSinceMs,
      diskLow: this.#diskLow,
      dropped: this.#dropped,
      error: this.#error,
    };
  }

  wake(): void {
    for (const wake of [...this.#waiters]) wake();
  }

  /** Asked for every write: only what was sealed since the last look is counted anew. */
  get #waitingBytes(): number {
    const { sealedFiles, unsealedBytes } = this.#log;
    let bytes = this.#counted.bytes + unsealedBytes;
    for (let i = sealedFiles.length - 1; i >= 0 && sealedFiles[i].sequence > this.#counted.sequence; i--)
      bytes += sealedFiles[i].bytes;
    return bytes;
  }

  get #isFull(): boolean {
    return this.#diskLow || this.#waitingBytes - this.#spill.bytes >= this.#settings.quotaBytes;
  }

  /** What settings, archive and file system say now. */
  async #look(): Promise<void> {
    const { dir, settings } = this.#options;
    try {
      this.#settings = { ...(await readSpoolSettings(dir, this.#files)), ...settings };
    } catch (error) {
      // a file that somebody broke must not stop a writer: what it said last goes on
      this.#error = String((error as Error).message ?? error);
    }
    this.#archivedLsn = (await readArchived(dir, this.#files)).lsn;
    const { minFreeBytes } = this.#settings;
    this.#diskLow = minFreeBytes > 0 && (await freeBytesOf(this.#logDir).catch(() => 0)) < minFreeBytes;
    await this.#spill.look(this.#settings.spillDir, this.#log.sealedFiles);
    this.#count(this.#archivedLsn);
  }

  /** Files of which nothing is above `lsn` do not wait. */
  #count(lsn: number): void {
    const { sealedFiles } = this.#log;
    const bytes = sealedFiles.reduce((n, f) => (f.lsnLast > lsn ? n + f.bytes : n), 0);
    this.#counted = { sequence: sealedFiles.at(-1)?.sequence ?? this.#counted.sequence, bytes };
  }

  /** Moves the oldest files that wait to the spill directory. From half the quota on, so that writers need not wait for it. */
  async #spillOver(): Promise<void> {
    const { spillDir, spillBytes, quotaBytes } = this.#settings;
    if (spillDir === null) return;
    for (const file of this.#log.sealedFiles) {
      if (this.#waitingBytes - this.#spill.bytes < quotaBytes / 2) return;
      if (file.lsnLast <= this.#archivedLsn || this.#spill.has(file.sequence)) continue;
      if (this.#spill.bytes + file.bytes > spillBytes) return;
      await this.#spill.take(file);
    }
  }

  /** Up to which LSN the log is given up: 0 for nothing. The newest sealed file stays (L7). */
  async #drop(appliedLsn: number): Promise<number> {
    const going: SealedFile[] = [];
    const { sealedFiles } = this.#log;
    let left = this.#waitingBytes;
    let before: SealedFile | undefined;
    for (const file of sealedFiles.slice(0, -1)) {
      if (file.lsnLast <= this.#archivedLsn) {
        before = file;
        continue;
      }
      if (file.lsnLast > appliedLsn || (left < this.#settings.quotaBytes && !this.#diskLow)) break;
      going.push(file);
      left -= file.bytes;
    }
    const last = going.at(-1);
    if (!last) return 0;
    const range: DroppedRange = {
      lsnStart: Math.max(going[0].lsnFirst, this.#archivedLsn + 1),
      lsnEnd: last.lsnLast + 1,
      afterTs: before?.ts ?? this.#dropped.at(-1)?.untilTs ?? 0,
      untilTs: last.ts,
      files: going.length,
      bytes: going.reduce((n, f) => n + f.bytes, 0),
      atMs: (this.#options.clock ?? systemClock).nowMs(),
    };
    const dropped = withDropped(this.#dropped, range);
    await writeDropped(this.#logDir, dropped, this.#files);
    this.#dropped = dropped;
    return last.lsnLast;
  }

  /** What the archive has a position after, it has either got or recorded as a gap. */
  async #forgetDropped(): Promise<void> {
    const left = this.#dropped.filter((r) => r.lsnEnd > this.#archivedLsn);
    if (left.length === this.#dropped.length) return;
    await writeDropped(this.#logDir, left, this.#files);
    this.#dropped = left;
  }

  async #wait(): Promise<void> {
    this.#blockedSinceMs ??= (this.#options.clock ?? systemClock).nowMs();
    const { blockTimeoutMs } = this.#settings;
    await new Promise<void>((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(wake);
        if (this.#waiters.size === 0) this.#blockedSinceMs = null;
      };
      const wake = (): void => {
        done();
        resolve();
      };
      const timer = setTimeout(() => {
        done();
        reject(this.#refusal());
      }, blockTimeoutMs);
      this.#waiters.add(wake);
      void this.#relieve();
    });
  }

  #refusal(): PitrError {
    const { dir } = this.#options;
    const { quotaBytes, blockTimeoutMs, minFreeBytes } = this.#settings;
    return new PitrError('log-quota', {
      dir,
      waitingBytes: this.#waitingBytes,
      quotaBytes,
      seconds: blockTimeoutMs / 1000,
      ...(this.#diskLow ? { minFreeBytes } : {}),
    });
  }

  /** Seals once, so that the archiver has everything, then trims until there is room, nobody waits, or the engine fails. */
  #relieve(): Promise<void> {
    this.#relief ??= (async () => {
      try {
        // a file that cannot be removed, of which a seal hears too, leaves writers waiting, each until its own time is over (Q1)
        const stuck = (error: unknown): void => {
          if (error instanceof PitrError) throw error;
          this.#error = String((error as Error).message ?? error);
        };
        await this.#parts.seal().catch(stuck);
        do {
          // the timers of those who wait keep the process; with policy drop this only spaces the seals
          await sleep(LOOK_MS, undefined, { ref: false });
          await this.#parts.trim().catch(stuck);
        } while (this.#waiters.size > 0);
      } catch {
        // the writers look for themselves at what has failed
        this.wake();
      } finally {
        this.#relief = undefined;
      }
    })();
    return this.#relief;
  }
}

const freeBytesOf = async (dir: string): Promise<number> => {
  const { bavail, bsize } = await fs.statfs(dir);
  return bavail * bsize;
};

/**
 * A log that ends before what is said to be archived is an earlier state that was put back: what it gets from now on has LSNs that the
 * archive has with other content, and must not be trimmed for that.
 */
const forgetForeign = async ({ dir, files = nodeFiles }: LogSpoolOptions, lastLsn: number): Promise<void> => {
  if ((await readArchived(dir, files)).lsn > lastLsn)
    await writeArchived(dir, { lsn: 0, sequence: 0 }, files);
};

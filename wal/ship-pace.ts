import { join } from 'node:path';
import type { Clock } from '../engine/clock.ts';
import type { Files } from '../engine/files.ts';
import { LOG_DIR } from '../engine/identity.ts';
import { logFilesIn } from './log-file.ts';
import { SHIP_REQUEST_FILE } from './ship-request.ts';
import { readSpoolSettings } from './spool-settings.ts';

/** How often a stream is shipped at most. */
export const SEAL_MS = 1000;
/** So much log is shipped at once: its requests cost little beside the bytes. */
const WAITING_BYTES = 16 * 1024 * 1024;
/** The share of its quota that is not made to wait: a writer could be held up by it. */
const QUOTA_SHARE = 4;

/**
 * When what is sealed goes into the archive (README.md, "Pace"): requests are saved by letting files wait for each other. Not asked by
 * whoever ships on purpose.
 */
export class ShipPace {
  readonly sealMs: number;
  readonly #dir: string;
  readonly #files: Files;
  readonly #clock: Clock;
  /** When the last shipping that brought something began; undefined: there was none, or none that counts. */
  #lastMs: number | undefined;
  /** Of the files that wait, as far as they were looked at. */
  #seen = { sequence: 0, bytes: 0 };

  constructor(dir: string, files: Files, clock: Clock, sealMs: number) {
    this.#dir = dir;
    this.#files = files;
    this.#clock = clock;
    this.sealMs = sealMs;
  }

  /** Something was shipped, from `startMs` on. */
  shipped(startMs: number): void {
    this.#lastMs = startMs;
    this.#seen = { sequence: 0, bytes: 0 };
  }

  /** ms until files after the archived one are to be shipped; 0: now. A clock that was set back makes nothing wait longer. */
  async waitMs(archivedSequence: number): Promise<number> {
    const nowMs = this.#clock.nowMs();
    const dueMs = (this.#lastMs ?? 0) + this.sealMs;
    if (this.#lastMs === undefined || nowMs >= dueMs || nowMs < this.#lastMs) return 0;
    const names: string[] = await this.#files.list(join(this.#dir, LOG_DIR)).catch(() => []);
    if (names.includes(SHIP_REQUEST_FILE)) return 0;
    const bytes = await this.#waitingBytes(names, archivedSequence);
    return bytes >= (await this.#bytesMax()) ? 0 : dueMs - nowMs;
  }

  async #waitingBytes(names: readonly string[], archivedSequence: number): Promise<number> {
    for (const { name, sequence, sealed } of logFilesIn(names)) {
      if (!sealed || sequence <= Math.max(archivedSequence, this.#seen.sequence)) continue;
      // trimmed a moment ago: it does not wait
      const stat = await this.#files.stat(join(this.#dir, LOG_DIR, name)).catch(() => undefined);
      this.#seen = { sequence, bytes: this.#seen.bytes + (stat?.bytes ?? 0) };
    }
    return this.#seen.bytes;
  }

  async #bytesMax(): Promise<number> {
    // settings that cannot be read are the writer's to complain about
    const quota = await readSpoolSettings(this.#dir, this.#files).then(
      (s) => s.quotaBytes,
      () => 0,
    );
    return Math.min(WAITING_BYTES, quota / QUOTA_SHARE);
  }
}

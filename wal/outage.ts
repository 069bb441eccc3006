import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../engine/clock.ts';
import { PitrError } from '../engine/errors.ts';
import { type Files, removeIfThere } from '../engine/files.ts';
import { type EngineIdentity, readIdentity, replaceFile } from '../engine/identity.ts';

/** First pause after a failure, and the longest. */
const PAUSE_MS = 1000;
const PAUSE_MS_MAX = 30_000;

/** What the agent says of a stream that it cannot archive at present. */
export interface OutageReport {
  readonly sinceMs: number;
  readonly tries: number;
  readonly lastMs: number;
  readonly nextMs: number;
  /** Of the newest failure: id and sentence. */
  readonly error: { readonly id: string; readonly message: string };
}

const OUTAGE_FILE = 'outage.json';
const OUTAGE_VERSION = 1;

/**
 * The time in which a stream cannot be archived: since when, why, and when to try again. Tries are further and further apart,
 * so that nothing is hammered while it is away, and half a minute at most, so that it is soon noticed to be back. Kept in the
 * engine directory, where `pitr status` finds it.
 */
export class Outage {
  readonly #dir: string;
  readonly #clock: Clock;
  readonly #files: Files;
  #report: OutageReport | undefined;
  #isKept = true;

  constructor(dir: string, clock: Clock, files: Files) {
    this.#dir = dir;
    this.#clock = clock;
    this.#files = files;
  }

  get report(): OutageReport | undefined {
    return this.#report;
  }

  /** False while it is too early for another try. A clock that was set back does not lengthen the pause. */
  get isDue(): boolean {
    if (!this.#report) return true;
    const nowMs = this.#clock.nowMs();
    return nowMs >= this.#report.nextMs || nowMs < this.#report.lastMs;
  }

  /** `isShipped`: what failed came after shipping, which is not to be held up by it. */
  async failed(error: unknown, isShipped = false): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const tries = (this.#report?.tries ?? 0) + 1;
    const pauseMs = isShipped ? PAUSE_MS : Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** Math.min(tries - 1, 10));
    this.#report = {
      sinceMs: this.#report?.sinceMs ?? nowMs,
      tries,
      lastMs: nowMs,
      nextMs: nowMs + pauseMs,
      error: {
        id: error instanceof PitrError ? error.id : 'internal',
        message: String((error as Error).message ?? error),
      },
    };
    // nothing is written where the engine is no more
    if (this.#report.error.id === 'engine-gone') return;
    this.#isKept = true;
    const text = JSON.stringify({ pitr: 'outage', version: OUTAGE_VERSION, ...this.#report });
    // not synced: a lost word is said again soon
    await replaceFile(this.#dir, OUTAGE_FILE, `${text}\n`, this.#files).catch(() => undefined);
  }

  /** It works again, or still. Also takes away what an agent left that was killed during an outage. */
  async ended(): Promise<void> {
    this.#report = undefined;
    if (!this.#isKept) return;
    await removeIfThere(this.#files, join(this.#dir, OUTAGE_FILE));
    this.#isKept = false;
  }
}

/** What the agent of a directory last said; undefined: it archives. What cannot be read says nothing. */
export const readOutage = async (dir: string): Promise<OutageReport | undefined> => {
  try {
    const { version, pitr, ...report } = JSON.parse(await fs.readFile(join(dir, OUTAGE_FILE), 'utf8'));
    return version === OUTAGE_VERSION ? report : undefined;
  } catch {
    return undefined;
  }
};

/**
 * A directory that vanished while it was archived must not be made anew by opening an engine in it, and another engine in its
 * place is not the one whose stream this is. @throws engine-gone, io
 */
export const assertSameEngine = async (
  dir: string,
  identity: EngineIdentity,
  files: Files,
): Promise<void> => {
  const now = await readIdentity(dir, files).catch((error) => {
    if (error instanceof PitrError && error.id === 'not-an-engine')
      throw new PitrError('engine-gone', { dir, why: error.facts.why }, { cause: error });
    throw error;
  });
  if (now.engineId !== identity.engineId)
    throw new PitrError('engine-gone', { dir, why: `engine ${now.engineId} is there instead` });
};

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PitrError } from '../../engine/errors.ts';
import type { RangeResult } from '../range-job.ts';
import type { Selection } from '../selection.ts';

const STATE_FILE = 'restore.json';
const FORMAT_VERSION = 1;
/** In the working folder. */
export const STATE_FOLDER = '.pitr-restore';

/** What a restore makes of a cluster: two that agree in this make the same. */
export interface WantedOfCluster {
  readonly archive: string;
  readonly timeline: string;
  readonly ts: number;
  readonly selection: Selection;
  readonly ttl: string;
  readonly mode: string;
  readonly conflict: string;
  /** Its hosts, sorted. */
  readonly target: string;
}

/** How far a restore into a cluster is. */
export interface ClusterProgress {
  /** When the first attempt began, by the server's clock, ms. */
  readonly startedMs: number;
  /** Partitions that are done, as text, in how many ranges, and what they came to. */
  readonly partitions: string;
  readonly ranges: number;
  readonly totals: RangeResult;
  /** Everything is done: it stays for what deletions may need. */
  readonly isFinished: boolean;
}

/** Where the state is when nobody says: a folder for each thing that a restore makes. */
export const defaultStateDir = (cwd: string, wanted: WantedOfCluster): string => {
  const name = createHash('sha256').update(JSON.stringify(wanted)).digest('hex').slice(0, 16);
  return join(cwd, STATE_FOLDER, name);
};

/** The note of a restore in a folder of its own, replaced after each range. A kill leaves the one before or this one. */
export class RestoreState {
  readonly dir: string;
  readonly #wanted: WantedOfCluster;
  progress: ClusterProgress | undefined;

  private constructor(dir: string, wanted: WantedOfCluster, progress: ClusterProgress | undefined) {
    this.dir = dir;
    this.#wanted = wanted;
    this.progress = progress;
  }

  /** @throws target-begun: the folder is of another restore; io */
  static open(dir: string, wanted: WantedOfCluster): RestoreState {
    const found = read(dir);
    if (found && JSON.stringify(found.wanted) !== JSON.stringify(wanted))
      throw new PitrError('target-begun', {
        dir,
        begun: `${inWords(found.wanted)}${found.progress.isFinished ? '; it is finished' : ''}`,
        hint: found.progress.isFinished
          ? 'choose another --state, or delete that folder: it is only for --recheck'
          : 'give that instant and those options to go on with it, choose another --state, or delete that folder',
      });
    return new RestoreState(dir, wanted, found?.progress);
  }

  /** Keeps what is needed to delete again what comes back. @throws io */
  finish(): void {
    if (this.progress) this.record({ ...this.progress, isFinished: true });
  }

  /** The next restore begins anew; a file of refused records stays. */
  remove(): void {
    rmSync(join(this.dir, STATE_FILE), { force: true });
    try {
      rmdirSync(this.dir);
    } catch {
      // something of somebody else is in it
    }
  }

  /** @throws io */
  record(progress: ClusterProgress): void {
    this.progress = progress;
    const path = join(this.dir, STATE_FILE);
    try {
      mkdirSync(this.dir, { recursive: true });
      writeFileSync(
        `${path}.next`,
        JSON.stringify({ version: FORMAT_VERSION, wanted: this.#wanted, progress }),
      );
      renameSync(`${path}.next`, path);
    } catch (cause) {
      throw new PitrError(
        'io',
        { op: 'write', path, why: (cause as NodeJS.ErrnoException).code ?? `${cause}` },
        { cause },
      );
    }
  }
}

interface Stored {
  readonly version: number;
  readonly wanted: WantedOfCluster;
  readonly progress: ClusterProgress;
}

/** Undefined: there is none that can be gone on with. */
const read = (dir: string): Stored | undefined => {
  try {
    const stored = JSON.parse(readFileSync(join(dir, STATE_FILE), 'utf8')) as Stored;
    return stored.version === FORMAT_VERSION && stored.wanted ? stored : undefined;
  } catch {
    return undefined;
  }
};

const inWords = ({ archive, timeline, ts, target, mode }: WantedOfCluster): string =>
  `${new Date(ts).toISOString()} of timeline ${timeline} in archive ${archive} into ${target}, mode ${mode}`;

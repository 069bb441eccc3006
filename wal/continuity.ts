import { join } from 'node:path';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { Head } from './catalog.ts';
import { type LogFileName, scanLogFile } from './log-file.ts';

/**
 * Is a log directory the one whose log is archived, or a copy of an earlier state of it? What an engine logs in such a copy has
 * LSNs and file numbers that the archive knows already, with other content.
 */
export class Continuity {
  readonly #dir: string;
  readonly #files: Files;
  /** Number of the archived file that was last found to be the one here. */
  #compared = 0;

  constructor(dir: string, files: Files) {
    this.#dir = dir;
    this.#files = files;
  }

  /** The file here is what was archived under this number. */
  shipped(sequence: number): void {
    this.#compared = sequence;
  }

  /** @throws log-rolled-back */
  async check(files: readonly LogFileName[], head: Head): Promise<void> {
    const { sequence, chain, stream } = head;
    const newest = files.at(-1)?.sequence ?? 0;
    if (newest < sequence)
      throw new PitrError('log-rolled-back', {
        path: this.#dir,
        stream,
        why: `its newest file is ${newest}, archived is file ${sequence}`,
      });
    // the file after it says the same in its header
    const file = files.find((f) => f.sequence === sequence);
    if (!file?.sealed || this.#compared === sequence || typeof chain !== 'number') return;
    const path = join(this.#dir, file.name);
    const own = await this.#chainOf(path);
    if (own !== undefined && own !== chain)
      throw new PitrError('log-rolled-back', {
        path,
        stream,
        why: 'it is not the file that is archived under this number',
      });
    this.#compared = sequence;
  }

  /** Undefined when the file is damaged, which its engine will say, or was trimmed a moment ago. */
  async #chainOf(path: string): Promise<number | undefined> {
    try {
      return scanLogFile(await this.#files.read(path), path, false, () => undefined).chain;
    } catch (error) {
      if (isPitrError(error, 'log-corrupt') || (error as NodeJS.ErrnoException).code === 'ENOENT')
        return undefined;
      throw error;
    }
  }
}

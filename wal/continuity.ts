import { join } from 'node:path';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Files } from '../engine/files.ts';
import type { Head } from './catalog.ts';
import {
  decodeLogHeader,
  type LogFileContent,
  type LogFileName,
  logFilesIn,
  scanLogFile,
} from './log-file.ts';

/** What a head says of the log behind it. */
export type ArchivedLog = Pick<Head, 'stream' | 'sequence' | 'chain'>;

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
  async check(files: readonly LogFileName[], head: ArchivedLog): Promise<void> {
    const { sequence, chain, stream } = head;
    const newest = files.at(-1)?.sequence ?? 0;
    if (newest < sequence)
      throw new PitrError('log-rolled-back', {
        path: this.#dir,
        stream,
        why: `its newest file is ${newest}, archived is file ${sequence}`,
      });
    if (this.#compared === sequence || typeof chain !== 'number') return;
    const refuse = (name: string, why: string): PitrError =>
      new PitrError('log-rolled-back', { path: join(this.#dir, name), stream, why });
    const file = files.find((f) => f.sequence === sequence);
    if (file) {
      const own = await this.#contentOf(file);
      // what is archived had its seal before; a rename that a power cut undid leaves the seal in the file
      if (own && !own.sealed) throw refuse(file.name, 'it is still being written, archived is its whole');
      if (own && own.chain !== chain)
        throw refuse(file.name, 'it is not the file that is archived under this number');
      // renamed soon: looked at again under that name
      if (!file.sealed) return;
    } else {
      // trimmed: the file after it says the same in its header
      const next = files.find((f) => f.sequence === sequence + 1);
      const before = next && (await this.#chainBefore(next));
      if (next && before !== undefined && before !== chain)
        throw refuse(next.name, `it does not follow file ${sequence} as it was archived`);
    }
    this.#compared = sequence;
  }

  /** Looks at the directory as it is now. @throws log-rolled-back, io */
  async checkNow(head: ArchivedLog): Promise<void> {
    const names = await this.#files.list(this.#dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: this.#dir, why: cause.code }, { cause });
    });
    await this.check(logFilesIn(names), head);
  }

  #contentOf(file: LogFileName): Promise<Pick<LogFileContent, 'sealed' | 'chain'> | undefined> {
    return this.#read(file, (bytes, path) => scanLogFile(bytes, path, !file.sealed, () => undefined));
  }

  #chainBefore(file: LogFileName): Promise<number | undefined> {
    return this.#read(file, (bytes, path) => decodeLogHeader(bytes, path).body.chain);
  }

  /** Undefined when the file is damaged, which its engine will say, or was trimmed a moment ago. */
  async #read<T>({ name }: LogFileName, decode: (bytes: Buffer, path: string) => T): Promise<T | undefined> {
    const path = join(this.#dir, name);
    try {
      return decode(await this.#files.read(path), path);
    } catch (error) {
      if (isPitrError(error, 'log-corrupt') || (error as NodeJS.ErrnoException).code === 'ENOENT')
        return undefined;
      throw error;
    }
  }
}

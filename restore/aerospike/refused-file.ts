import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { PitrError } from '../../engine/errors.ts';

/** Records that the cluster did not take, one JSON object a line. The file is made with the first of them; a restore that goes on appends. */
export class RefusedFile {
  readonly path: string;
  #file: number | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** True once there is a line of this run. */
  get isThere(): boolean {
    return this.#file !== undefined;
  }

  /** Whole lines. @throws io */
  append(lines: Uint8Array): void {
    try {
      if (this.#file === undefined) {
        mkdirSync(dirname(this.path), { recursive: true });
        this.#file = openSync(this.path, 'a');
      }
      writeSync(this.#file, lines);
    } catch (cause) {
      const why = (cause as NodeJS.ErrnoException).code ?? `${cause}`;
      throw new PitrError('io', { op: 'write', path: this.path, why }, { cause });
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}

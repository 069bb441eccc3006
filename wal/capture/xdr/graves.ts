import { join } from 'node:path';
import type { LogVersion } from '../../../engine/commit-log.ts';
import { type Files, nodeFiles } from '../../../engine/files.ts';
import { LOG_DIR } from '../../local-log.ts';
import { logFilesIn, scanLogFile } from '../../log-file.ts';

/** How long a delete is remembered at least, by the clock of who is told: what is sent again comes within seconds. */
const GRAVE_MS = 600_000;
const GRAVES_MAX = 200_000;
/** Of the log that is read at start, the newest so many bytes. */
const LOG_BYTES_MAX = 256 * 1024 * 1024;

/** A record that was deleted. */
export interface Grave {
  readonly lutMs: number;
  /** Its last version before, as far as it is known: 0 and 0 when nothing was. */
  readonly generation: number;
  readonly writtenLutMs: number;
  /** The delete is in the log. Not when the record was unknown. */
  isLogged: boolean;
  readonly atMs: number;
}

/** Deletes that a write which comes late must not undo (README.md, section "Intake"), oldest first. */
export class Graves {
  readonly #byRecord = new Map<string, Grave>();
  readonly #max: number;
  /** Newest LUT of a grave that was forgotten above the frontier; an unknown record that is older may be one of theirs. */
  forgottenLutMs = 0;

  constructor(max = GRAVES_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#byRecord.size;
  }

  get(namespace: string, digest: Uint8Array): Grave | undefined {
    return this.#byRecord.get(idOf(namespace, digest));
  }

  add(namespace: string, digest: Uint8Array, grave: Grave): void {
    const id = idOf(namespace, digest);
    // to the end: the map is in the order of time
    this.#byRecord.delete(id);
    this.#byRecord.set(id, grave);
  }

  /** Lets go of what is old and stated, and of the oldest when there are too many. */
  prune(nowMs: number, frontierTs: number): void {
    for (const [id, grave] of this.#byRecord) {
      const isDone = grave.lutMs <= frontierTs && grave.atMs < nowMs - GRAVE_MS;
      if (!isDone && this.#byRecord.size <= this.#max) return;
      if (grave.lutMs > frontierTs) this.forgottenLutMs = Math.max(this.forgottenLutMs, grave.lutMs);
      this.#byRecord.delete(id);
    }
  }

  /**
   * Those of the deletes in the newest log of `captureDir` that is still there. Its journal is open, and nobody writes to it yet.
   * @throws log-corrupt, io errors
   */
  async readLog(captureDir: string, nowMs: number, files: Files = nodeFiles): Promise<void> {
    const dir = join(captureDir, LOG_DIR);
    const recent: { path: string; sealed: boolean }[] = [];
    let bytes = 0;
    for (const { name, sealed } of logFilesIn(await files.list(dir)).reverse()) {
      const path = join(dir, name);
      // a file that was spilled, and is not mounted, is older than what is sent again
      const stat = await files.stat(path).catch(() => undefined);
      bytes += stat?.bytes ?? LOG_BYTES_MAX;
      if (bytes > LOG_BYTES_MAX) break;
      recent.unshift({ path, sealed });
    }
    const last = new Map<string, LogVersion>();
    for (const { path, sealed } of recent)
      scanLogFile(await files.read(path), path, !sealed, (entry) => {
        if (entry.kind === 'version') this.#replay(entry.version, last, nowMs);
      });
  }

  #replay(v: LogVersion, last: Map<string, LogVersion>, nowMs: number): void {
    const id = idOf(v.namespace, v.digest);
    const before = last.get(id);
    if (v.image) last.set(id, { ...v, image: EMPTY, digest: EMPTY });
    else {
      last.delete(id);
      this.add(v.namespace, v.digest, {
        lutMs: lutOf(v),
        generation: before?.generation ?? 0,
        writtenLutMs: before ? lutOf(before) : 0,
        isLogged: true,
        atMs: nowMs,
      });
    }
  }
}

const EMPTY = new Uint8Array(0);

const lutOf = (v: LogVersion): number => v.seen?.lutMs ?? v.ts;

const idOf = (namespace: string, digest: Uint8Array): string =>
  `${namespace}/${Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('latin1')}`;

/** How long a delete is remembered at least, by the clock of who is told: what is sent again comes within seconds. */
const GRAVE_MS = 600_000;
const GRAVES_MAX = 200_000;

/** A record that was deleted. */
export interface Grave {
  readonly lutMs: number;
  /** Its last version before, as far as it is known: 0 and 0 when nothing was. */
  readonly generation: number;
  readonly writtenLutMs: number;
  /** The delete is in the log. Not when the record was unknown. */
  isLogged: boolean;
  /** LUT of the last delete before it that is in the log; 0: none is known. */
  readonly loggedLutMs: number;
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
}

const idOf = (namespace: string, digest: Uint8Array): string =>
  `${namespace}/${Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('latin1')}`;

/** A change that the source shipped and that was not kept. */
export interface Owing {
  readonly namespace: string;
  readonly set: string;
  /** Hex. */
  readonly digest: string;
  readonly lutMs: number;
  readonly why: string;
}

/** Records whose refused changes are remembered one by one. */
const OWED_MAX = 1000;

/**
 * Changes that were refused although the source shipped them (X8): nothing in the log says that they are missing, so nothing more is stated until
 * each record has come again with that LUT or a later one. Beyond {@link OWED_MAX} nobody knows which, and it stays so.
 */
export class Owed {
  readonly #byRecord = new Map<string, Owing>();
  /** More were refused than can be remembered. */
  isOverfull = false;
  /** It is not what {@link stored} said last. */
  hasChanged = false;

  get size(): number {
    return this.#byRecord.size;
  }

  get isClear(): boolean {
    return this.size === 0 && !this.isOverfull;
  }

  /** Some of them, for a report. */
  first(count: number): Owing[] {
    return [...this.#byRecord.values()].slice(0, count);
  }

  add(owing: Owing): void {
    const id = idOf(owing.namespace, owing.digest);
    const before = this.#byRecord.get(id);
    if (before && before.lutMs >= owing.lutMs) return;
    this.hasChanged = true;
    if (!before && this.#byRecord.size >= OWED_MAX) this.isOverfull = true;
    else this.#byRecord.set(id, owing);
  }

  /** A version or delete of the record with this LUT is in the log, or known. */
  came(namespace: string, digest: Uint8Array, lutMs: number): void {
    if (this.#byRecord.size === 0) return;
    const id = idOf(namespace, Buffer.from(digest).toString('hex'));
    const owing = this.#byRecord.get(id);
    if (!owing || lutMs < owing.lutMs) return;
    this.#byRecord.delete(id);
    this.hasChanged = true;
  }

  stored(): { readonly records: readonly Owing[]; readonly isOverfull: boolean } {
    this.hasChanged = false;
    return { records: [...this.#byRecord.values()], isOverfull: this.isOverfull };
  }

  static from(stored: ReturnType<Owed['stored']> | undefined): Owed {
    const owed = new Owed();
    for (const owing of stored?.records ?? []) owed.#byRecord.set(idOf(owing.namespace, owing.digest), owing);
    owed.isOverfull = stored?.isOverfull ?? false;
    return owed;
  }
}

const idOf = (namespace: string, digest: string): string => `${namespace}/${digest}`;

/** The database that the kill tests grow: every record's content follows from its number, so that anybody can check it. */
import { createHash } from 'node:crypto';

export const NAMESPACE = 'test';
/** Records that are written over and over. */
export const HOT_RECORDS = 50;

/** Text of up to 1 kB that follows from a number. */
export const textOf = (n: number): string =>
  createHash('shake256', { outputLength: 1 + ((n * 37) % 500) })
    .update(String(n))
    .digest('hex');

/** Operations in batch `n`: 2…10. Every third number is a single write instead. */
export const sizeOf = (n: number): number => (n % 3 === 0 ? 1 : 2 + ((n * 7) % 9));

/** A record in plain form: what writer, restorer and model are compared by. */
export type Plain = Readonly<Record<string, string>>;

/**
 * The state after steps 1…n: step n writes its own `sizeOf(n)` records, raises a counter, overwrites a hot record, and
 * deletes what step n - 20 wrote, if that is a multiple of five. All in one batch.
 */
export class Model {
  readonly records = new Map<string, string>();
  #steps = 0;

  get steps(): number {
    return this.#steps;
  }

  advanceTo(step: number): void {
    while (this.#steps < step) {
      const n = ++this.#steps;
      for (let i = 0; i < sizeOf(n); i++) this.records.set(`${n}.${i}`, `${n} ${textOf(n + i)}`);
      this.records.set('counter', `${n}`);
      this.records.set(`hot.${n % HOT_RECORDS}`, `${n} ${textOf(n)}`);
      const old = n - 20;
      if (old > 0 && old % 5 === 0) for (let i = 0; i < sizeOf(old); i++) this.records.delete(`${old}.${i}`);
    }
  }

  /** One line of hex for the whole state. */
  fingerprint(): string {
    return fingerprintOf(this.records);
  }
}

export const fingerprintOf = (records: ReadonlyMap<string, string>): string => {
  const hash = createHash('sha256');
  for (const key of [...records.keys()].sort()) hash.update(`${key}=${records.get(key)}\n`);
  return hash.digest('hex');
};

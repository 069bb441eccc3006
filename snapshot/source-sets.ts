import { nameAt } from '../engine/aerospike/client/name.ts';
import type { SegmentWriter } from '../wal/segment-writer.ts';

/** What a copy knows of a set. */
export interface SourceSet {
  readonly name: string;
  /** In this copier's table. */
  readonly number: number;
  readonly seed: number;
  readonly isLogged: boolean;
  /** Its number in the segment that is being written, and which that is. */
  inSegment: number;
  writer: SegmentWriter | undefined;
}

/** Sets of one namespace by the bytes of their names: the last one is usually the next. */
export class SourceSets {
  readonly names: string[] = [];
  readonly #of: (name: string) => Pick<SourceSet, 'seed' | 'isLogged'>;
  readonly #sets = new Map<string, SourceSet | undefined>();
  #lastName = Buffer.alloc(0);
  #last: SourceSet | undefined;
  #hasLast = false;

  constructor(of: (name: string) => Pick<SourceSet, 'seed' | 'isLogged'>) {
    this.#of = of;
  }

  /** The set whose name is `bytes[start, end)`; undefined: it is not UTF-8. */
  at(bytes: Buffer, start: number, end: number): SourceSet | undefined {
    const last = this.#lastName;
    let isLast = this.#hasLast && last.length === end - start;
    for (let i = 0; isLast && i < last.length; i++) isLast = last[i] === bytes[start + i];
    if (!isLast) {
      this.#lastName = Buffer.from(bytes.subarray(start, end));
      this.#last = this.#find(this.#lastName);
      this.#hasLast = true;
    }
    return this.#last;
  }

  #find(bytes: Buffer): SourceSet | undefined {
    const id = bytes.toString('latin1');
    if (this.#sets.has(id)) return this.#sets.get(id);
    const name = nameAt(bytes, 0, bytes.length);
    const set =
      typeof name === 'string'
        ? {
            name,
            number: this.names.push(name) - 1,
            ...this.#of(name),
            inSegment: 0,
            writer: undefined,
          }
        : undefined;
    this.#sets.set(id, set);
    return set;
  }
}

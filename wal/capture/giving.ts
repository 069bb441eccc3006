import type { Release } from '../../engine/engine-types.ts';
import { PitrError } from '../../engine/errors.ts';
import { PartitionSet, partitionOf } from '../../engine/partition.ts';

/** Partitions that somebody has asked for, and who waits for them. */
export interface Asked {
  readonly partitions: PartitionSet;
  readonly peer: string;
  readonly done: PromiseWithResolvers<Release>;
}

/**
 * Giving up partitions at a frontier that nothing in the log about them is above (README.md, section "Hand-over"): which frontier that will be, and
 * what of a poll is the next owner's to find.
 */
export class Giving {
  /** The frontier that is aimed at, ms. */
  aimTs = 0;
  /** It will be that of the release. */
  #isNow = false;
  #asked: (Asked & { readonly mask: Uint8Array; newestTs: number }) | undefined;

  /** Partitions that go with the frontier that is aimed at: it has to be known what is missing in them. */
  get partitions(): PartitionSet {
    return this.#isNow && this.#asked ? this.#asked.partitions : PartitionSet.none;
  }

  /** Resolves when they are given up; whoever asked before hears that somebody else has. `newestTs`: of all that is in the log. */
  ask(partitions: PartitionSet, peer: string, newestTs: number): Promise<Release> {
    this.cancel(new PitrError('interrupted', { what: 'another hand-over' }));
    const done = Promise.withResolvers<Release>();
    // also heard when the caller has gone
    done.promise.catch(() => undefined);
    this.#asked = { partitions, peer, done, mask: partitions.toMask(), newestTs };
    return done.promise;
  }

  cancel(why: PitrError): void {
    this.#asked?.done.reject(why);
    this.#asked = undefined;
    this.#isNow = false;
  }

  /** `frontierTs`: the last that was stated. */
  aim(ts: number, frontierTs: number): void {
    this.aimTs = ts;
    // what was found before may be above it
    this.#isNow = this.#asked !== undefined && ts >= this.#asked.newestTs && ts > frontierTs;
  }

  /** A version of these partitions is in the log. */
  logged(digest: Uint8Array, ts: number): void {
    const asked = this.#asked;
    if (asked && ts > asked.newestTs && asked.mask[partitionOf(digest)] === 1) asked.newestTs = ts;
  }

  /** A truncation is in the log, above the frontier that is aimed at: a later one will be that of the release. */
  truncated(ts: number): void {
    this.#isNow = false;
    if (this.#asked) this.#asked.newestTs = ts;
  }

  /** Of a record that is asked for, and above the frontier that is aimed at. */
  isAsked(digest: Uint8Array, ts: number): boolean {
    return ts > this.aimTs && this.#asked?.mask[partitionOf(digest)] === 1;
  }

  /** It is the next owner's to find. */
  isHeld(digest: Uint8Array, ts: number): boolean {
    return this.#isNow && this.isAsked(digest, ts);
  }

  /** What goes with the frontier `ts`, and is not asked for any more. */
  take(ts: number): Asked | undefined {
    const asked = this.#asked;
    if (!asked || !this.#isNow || this.aimTs !== ts) return undefined;
    this.#asked = undefined;
    this.#isNow = false;
    return asked;
  }
}

import type { Head } from '../wal/catalog.ts';
import type { SegmentRef } from '../wal/segment.ts';

/**
 * Which segments may hold the first version of a record after T, where that may say that T is inexact (S7). Of a history in which
 * nothing later makes T inexact there are none, so that an engine's archive is read as far as T and no further.
 */
export class LaterRuns {
  readonly #ts: number;
  /** The newest version that may say something, and the partitions in which there are some. */
  readonly #tsMax: number;
  readonly #start: number;
  readonly #end: number;

  private constructor(ts: number, saying: readonly SegmentRef[]) {
    this.#ts = ts;
    this.#tsMax = Math.max(...saying.map((s) => s.tsMax));
    this.#start = Math.min(...saying.map((s) => s.partitions.start));
    this.#end = Math.max(...saying.map((s) => s.partitions.end));
  }

  /** Of the heads of the target's timeline; undefined: there are none. */
  static of(heads: readonly Head[], ts: number): LaterRuns | undefined {
    const all = heads.flatMap((h) => h.runs.flatMap((r) => r.segments));
    const saying = all.filter((s) => saysOf(s, ts));
    return saying.length === 0 ? undefined : new LaterRuns(ts, saying);
  }

  /** It says itself that earlier instants, T among them, may be inexact. */
  says(s: SegmentRef): boolean {
    return saysOf(s, this.#ts);
  }

  /** A first version after T may be in it, and there may be one, in it or in another one, that says something. */
  needs(s: SegmentRef): boolean {
    return (
      s.tsMax > this.#ts &&
      s.tsMin <= this.#tsMax &&
      s.partitions.start < this.#end &&
      s.partitions.end > this.#start
    );
  }
}

const saysOf = ({ inexact, tsMax }: SegmentRef, ts: number): boolean =>
  inexact !== undefined && tsMax > ts && inexact.fromTs <= ts;

import { PARTITIONS, PartitionSet } from '../engine/partition.ts';
import type { Timeline } from '../wal/timeline.ts';
import { hasOwnRows, type Snapshot, type SnapshotEntry } from './manifest.ts';

/** A timeline whose versions count, up to an instant. */
interface Step {
  readonly timeline: Timeline;
  readonly tsMax: number;
}

interface Candidate {
  readonly entry: SnapshotEntry;
  /** Position of its timeline in the history, 0 = that of the target. */
  readonly depth: number;
}

/** After every instant: no version of this counts. */
const NEVER = Number.MAX_SAFE_INTEGER;

/**
 * The copies that a state begins with. Usually one of the whole state; for partitions of a stream that was anchored again after
 * a gap, the newest copy of them: nothing older counts for these, while all others go on from the older copy.
 */
export class Bases {
  readonly #used: readonly Candidate[];
  /** For each partition an index into `used`; -1: it begins with the history. */
  readonly #chosen: Int16Array;

  private constructor(used: readonly Candidate[], chosen: Int16Array) {
    this.#used = used;
    this.#chosen = chosen;
  }

  /** `history`: the timelines that make the state, newest first. */
  static choose(history: readonly Step[], snapshots: readonly SnapshotEntry[]): Bases {
    const used: Candidate[] = [];
    const chosen = new Int16Array(PARTITIONS).fill(-1);
    let open = PARTITIONS;
    for (let depth = 0; depth < history.length && open > 0; depth++) {
      const { timeline, tsMax } = history[depth];
      const copies = snapshots
        .filter((s) => s.timeline === timeline.id && hasOwnRows(s) && s.endTs <= tsMax)
        .sort((a, b) => b.endTs - a.endTs);
      for (const entry of copies) {
        const mask = PartitionSet.parse(entry.partitions ?? 'all').toMask();
        const before = open;
        for (let p = 0; p < PARTITIONS; p++) {
          if (!mask[p] || chosen[p] >= 0) continue;
          chosen[p] = used.length;
          open--;
        }
        if (open < before) used.push({ entry, depth });
        if (open === 0) break;
      }
    }
    return new Bases(used, chosen);
  }

  get entries(): SnapshotEntry[] {
    return this.#used.map((c) => c.entry);
  }

  /** The copy that stands for everything older, if there is one. */
  get whole(): SnapshotEntry | undefined {
    return this.#used.find((c) => c.entry.partitions === undefined)?.entry;
  }

  get isMixed(): boolean {
    return this.#used.some((c) => c.entry.partitions !== undefined);
  }

  /** How many timelines of the history are needed. */
  depthOf(history: readonly Step[]): number {
    return this.#chosen.includes(-1) ? history.length : Math.max(...this.#used.map((c) => c.depth)) + 1;
  }

  /** Which log of the timeline at `depth` counts: versions after this instant, for all partitions or for each. */
  tsAfterOf(depth: number, manifests: readonly Snapshot[]): number | readonly number[] {
    return this.#perPartition((index) => {
      if (index < 0 || depth < this.#used[index].depth) return -1;
      return depth === this.#used[index].depth ? manifests[index].logAfterTs : NEVER;
    });
  }

  /** Which rows of a copy count: those of the partitions that begin with it. */
  rowsAfterOf(copy: number): number | readonly number[] {
    return this.#perPartition((index) => (index === copy ? -1 : NEVER));
  }

  /** The instant from which on partition `p` is known on the target's own timeline; -1: since its beginning. */
  knownSince(p: number): number {
    const used = this.#used[this.#chosen[p]];
    return used && used.depth === 0 ? used.entry.endTs : -1;
  }

  depthOfCopy(copy: number): number {
    return this.#used[copy].depth;
  }

  #perPartition(of: (index: number) => number): number | readonly number[] {
    const values = Array.from(this.#chosen, of);
    return values.every((v) => v === values[0]) ? values[0] : values;
  }
}

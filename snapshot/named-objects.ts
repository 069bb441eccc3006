import type { Archive } from '../wal/archive.ts';
import { knownNames } from '../wal/compaction.ts';
import { type Place, placeOf } from '../wal/layout.ts';
import type { Timelines } from '../wal/timeline.ts';
import type { Begun, SnapshotEntry, SnapshotIndex } from './manifest.ts';
import { readIndex } from './snapshot-index.ts';
import { readSnapshot } from './snapshots.ts';

/** One stream, and with it its timeline's snapshots: what one agent looks after. Undefined: the whole archive. */
export interface Scope {
  readonly timeline: string;
  readonly stream: string;
}

/**
 * What heads, notes of merges, the index of snapshots and its manifests name now (A5, N2). Manifests are read when they are asked
 * for, one at a time: ask in the order of names.
 */
export class NamedObjects {
  readonly #archive: Archive;
  readonly #timelines: Timelines;
  readonly #index: SnapshotIndex | undefined;
  /** By timeline and stream: what its head and its merge note name. */
  readonly #ofStreams: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #begun: ReadonlyMap<string, Begun>;
  readonly #entries: ReadonlyMap<string, SnapshotEntry>;
  readonly #retired: ReadonlySet<string>;
  #newest: { readonly id: string; readonly names: Promise<ReadonlySet<string> | undefined> } | undefined;

  private constructor(
    archive: Archive,
    timelines: Timelines,
    index: SnapshotIndex | undefined,
    ofStreams: ReadonlyMap<string, ReadonlySet<string>>,
  ) {
    this.#archive = archive;
    this.#timelines = timelines;
    this.#index = index;
    this.#ofStreams = ofStreams;
    this.#begun = new Map(index?.begun.map((b) => [b.id, b]));
    this.#entries = new Map(index?.snapshots.map((s) => [s.id, s]));
    this.#retired = new Set(index?.retired?.flatMap((r) => r.names));
  }

  /** `index`: the one that a swap has just made. Without it the current one is read. */
  static async read(archive: Archive, scope?: Scope, index?: SnapshotIndex): Promise<NamedObjects> {
    const timelines = await archive.timelines();
    const ofStreams = new Map<string, ReadonlySet<string>>();
    for (const timeline of timelines.timelines)
      for (const { name: stream } of timeline.streams) {
        if (scope && (scope.timeline !== timeline.id || scope.stream !== stream)) continue;
        const head = await archive.head(timeline.id, stream);
        if (head) ofStreams.set(keyOf(timeline.id, stream), await knownNames(archive, head.value));
      }
    return new NamedObjects(archive, timelines, index ?? (await readIndex(archive)), ofStreams);
  }

  /** Snapshots that somebody makes, or whose attempts are still to be deleted. */
  get begun(): readonly Begun[] {
    return this.#index?.begun ?? [];
  }

  placeOf(name: string): Place {
    return placeOf(name, (timeline, folder) =>
      this.#timelines.timelines.some(
        (t) => t.id === timeline && t.streams.some((stream) => stream.name === folder),
      ),
    );
  }

  begunOf(place: Place): Begun | undefined {
    return place.kind === 'snapshot' ? this.#begun.get(place.id) : undefined;
  }

  /** Also true where it cannot be known: of a snapshot whose manifest cannot be read nothing is an orphan. */
  async has(name: string): Promise<boolean> {
    const place = this.placeOf(name);
    switch (place.kind) {
      case 'control':
        return true;
      case 'segment':
        return this.#ofStreams.get(keyOf(place.timeline, place.stream))?.has(name) ?? false;
      case 'snapshot': {
        if (this.#begun.has(place.id) || this.#retired.has(name)) return true;
        const entry = this.#entries.get(place.id);
        if (!entry) return false;
        const names = await this.#namesOf(entry);
        return names === undefined || names.has(name);
      }
      case 'probe':
      case 'foreign':
        return false;
      default:
        return place satisfies never;
    }
  }

  #namesOf(entry: SnapshotEntry): Promise<ReadonlySet<string> | undefined> {
    if (this.#newest?.id !== entry.id) {
      const names = readSnapshot(this.#archive, entry).then(
        ({ segments }) => new Set([entry.name, ...segments.map((s) => s.name)]),
        () => undefined,
      );
      this.#newest = { id: entry.id, names };
    }
    return this.#newest.names;
  }
}

const keyOf = (timeline: string, stream: string): string => `${timeline}/${stream}`;

import { isPitrError, PitrError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import type { MergeJob } from './merge-job.ts';
import type { MergedPart, MergePosition } from './run-writer.ts';
import type { Run } from './segment.ts';

/** What an unfinished merge has come to. Kept beside the catalog, so that whoever has the stream next goes on with it. */
export interface MergeNote {
  readonly archive: string;
  /** Of the head under which it was written. */
  readonly generation: number;
  readonly claim: string;
  /** Null: nothing is unfinished. */
  readonly merge: {
    readonly level: number;
    readonly lsnStart: number;
    readonly lsnEnd: number;
    /** Segments that are merged, by name. Empty: it is given up, and everything that the note names is being deleted. */
    readonly inputs: readonly string[];
    /** Written and read back. */
    readonly parts: readonly MergedPart[];
    readonly next: MergePosition | null;
    /** Name of an object that was about to be written: perhaps it is there, perhaps in part. */
    readonly writing: string | null;
  } | null;
}

export const noteName = (timeline: string, stream: string): string => `merges/${timeline}/${stream}`;

interface NoteOwner {
  readonly stream: string;
  readonly generation: number;
  readonly claim: string;
}

/** The note of a stream as the holder of its head keeps it; every change is a compare-and-swap. */
export class NoteKeeper {
  readonly #archive: Archive;
  readonly #name: string;
  readonly #owner: NoteOwner;
  #tag: string | undefined;
  #note: MergeNote | undefined;

  private constructor(archive: Archive, name: string, owner: NoteOwner) {
    this.#archive = archive;
    this.#name = name;
    this.#owner = owner;
  }

  static async read(
    archive: Archive,
    head: { timeline: string; stream: string; generation: number; claim: string },
  ): Promise<NoteKeeper> {
    const { timeline, stream, generation, claim } = head;
    const it = new NoteKeeper(archive, noteName(timeline, stream), { stream, generation, claim });
    await it.#read();
    return it;
  }

  get merge(): MergeNote['merge'] {
    return this.#note?.merge ?? null;
  }

  /** @throws fenced when somebody else has written it since */
  async write(merge: MergeNote['merge']): Promise<void> {
    const { generation, claim } = this.#owner;
    const note: MergeNote = { archive: this.#archive.id, generation, claim, merge };
    try {
      this.#tag = await this.#archive.swapDocument('merge', this.#name, this.#tag, note);
      this.#note = note;
    } catch (error) {
      await this.#read().catch(() => undefined);
      const now = this.#note ?? this.#owner;
      if (now.generation === generation && now.claim === claim) throw error;
      throw this.#fenced(now.generation, error);
    }
  }

  #fenced(current: number, cause?: unknown): PitrError {
    const { stream, generation: mine } = this.#owner;
    return new PitrError('fenced', { stream, mine, current }, { cause });
  }

  /**
   * Takes another's note over by writing it again as one's own, whatever it says: from then on the other, who may only have
   * slept, can change nothing here.
   * @throws fenced when the note is of a newer holder
   */
  async takeOver(): Promise<void> {
    for (;;) {
      const { generation, claim, merge } = this.#note ?? { generation: 0, claim: '', merge: null };
      if (generation === this.#owner.generation && claim === this.#owner.claim) return;
      // read for the first time after an hour's sleep: taking it from the newer one would stop that one, too
      if (generation > this.#owner.generation) throw this.#fenced(generation);
      try {
        await this.write(merge);
      } catch (error) {
        // the older one has written once more, just now
        const newest = this.#note?.generation ?? 0;
        if (!isPitrError(error, 'fenced') || newest >= this.#owner.generation) throw error;
      }
    }
  }

  async #read(): Promise<void> {
    const found = await this.#archive.readDocument<MergeNote>('merge', this.#name);
    this.#tag = found?.tag;
    this.#note = found?.value;
  }
}

/** All objects that a note names. */
export const objectsOf = (merge: NonNullable<MergeNote['merge']>): string[] => [
  ...merge.parts.map((p) => p.ref.name),
  ...(merge.writing === null ? [] : [merge.writing]),
];

/** The note of a merge that nobody goes on with: the inputs that it is about are in no head. */
export const givenUp = (merge: NonNullable<MergeNote['merge']>): NonNullable<MergeNote['merge']> => ({
  ...merge,
  inputs: [],
});

export const isGivenUp = ({ inputs }: NonNullable<MergeNote['merge']>): boolean => inputs.length === 0;

const segmentNames = (runs: readonly Run[]): string[] => runs.flatMap((r) => r.segments.map((s) => s.name));

/** The runs of the head that a noted merge was about, or undefined when they are not there any more. */
export const inputsIn = (
  runs: readonly Run[],
  { inputs, lsnStart, lsnEnd }: NonNullable<MergeNote['merge']>,
): Run[] | undefined => {
  const found = runs.filter((r) => r.lsnStart >= lsnStart && r.lsnEnd <= lsnEnd);
  const names = segmentNames(found);
  const same = names.length === inputs.length && names.every((n, i) => n === inputs[i]);
  return same && found.length > 1 ? found : undefined;
};

export const noteOf = (
  job: MergeJob,
  parts: readonly MergedPart[],
  next: MergePosition | null,
  writing: string | null,
): NonNullable<MergeNote['merge']> => ({
  level: job.level,
  lsnStart: job.runs[0].lsnStart,
  lsnEnd: job.runs[job.runs.length - 1].lsnEnd,
  inputs: segmentNames(job.runs),
  parts,
  next,
  writing,
});

import { isPitrError, isStorageError } from '../engine/errors.ts';
import type { Archive } from './archive.ts';
import { type Head, namesOf, runOf } from './catalog.ts';
import { FANOUT, type MergeChoice, nextFullMerge, nextMerge } from './levels.ts';
import type { MergeJob, MergeOutcome } from './merge-job.ts';
import { givenUp, inputsIn, isGivenUp, NoteKeeper, noteOf, objectsOf } from './merge-note.ts';
import type { MergePool } from './merge-pool.ts';
import { type Run, SEGMENT_RAW_BYTES } from './segment.ts';
import { verifyPart } from './verify-part.ts';

/** Stored bytes up to which a merge is done in one go: it is begun anew when it is killed, and keeps no note. */
const SMALL_BYTES = 16 * 1024 * 1024;

export interface CompactionOptions {
  /** Default {@link FANOUT}. */
  readonly fanout?: number;
  /** Ends of full copies, ms, ascending. Default none. */
  readonly borders?: () => Promise<readonly number[]>;
  /** Raw bytes of a part. Default {@link SEGMENT_RAW_BYTES}. */
  readonly partRawBytes?: number;
  /** Stored bytes up to which a merge keeps no note. Default 16 MiB. */
  readonly smallBytes?: number;
  /** Stored bytes from which a merge has a thread of its own. Default 2 MiB. */
  readonly threadBytes?: number;
}

/** What compaction needs of the archiver: it never changes the head itself. */
export interface CompactionHost {
  readonly archive: Archive;
  readonly pool: MergePool;
  head(): Head;
  /** Puts the run in the place of others; with `objects`, those are deleted when that has certainly failed. */
  publish(inputs: readonly Run[], merged: Run, objects: readonly string[]): Promise<void>;
  /** Deletes objects unless the head lists them, once it is certain that no head that lists them can still be published. */
  discard(objects: readonly string[]): Promise<void>;
  merged(inputs: readonly Run[], merged: Run): void;
}

export interface CompactRequest {
  readonly fanout?: number;
  /** Merge until every stretch between gaps is one run. */
  readonly full?: boolean;
  /** Versions that are merged and written, of those that the current merge has to. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Merges the runs of one stream beside everything else that its archiver does: the head changes only in the step that puts a
 * finished run in the place of its inputs.
 *
 * A large merge is done part by part. What is finished is in the {@link NoteKeeper}, so that a kill costs at most one part; between
 * parts small merges come first, so that the number of runs stays bounded while it lasts.
 */
export class Compaction {
  readonly #host: CompactionHost;
  readonly #options: CompactionOptions;
  /** One run after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #note: NoteKeeper | undefined;
  /** Objects of a merge that keeps no note. */
  #writing: readonly string[] = [];
  #closed = false;

  constructor(host: CompactionHost, options: CompactionOptions) {
    this.#host = host;
    this.#options = options;
  }

  /** Objects that the head may come to list, and that nothing names yet. */
  get writing(): readonly string[] {
    return this.#writing;
  }

  /** Merges until the number of runs is within bounds. Returns the number of merges that were completed. */
  run(request: CompactRequest = {}): Promise<number> {
    const work = this.#last.then(() => this.#run(request));
    this.#last = work.catch(() => undefined);
    return work;
  }

  /** Ends the merge that runs, at whatever point, and waits for that. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#host.pool.close();
    await this.#last;
  }

  async #run(request: CompactRequest): Promise<number> {
    const rule = {
      fanout: request.fanout ?? this.#options.fanout ?? FANOUT,
      borders: (await this.#options.borders?.()) ?? [],
    };
    let merges = 0;
    if (this.#host.head().runs.length > 1 && !this.#note) await this.#adoptNote();
    for (;;) {
      if (this.#closed) return merges;
      const { runs } = this.#host.head();
      const begun = await this.#begun();
      const choice = request.full ? undefined : nextMerge(runs, rule, new Set(begun?.runs));
      if (choice && this.#isSmall(choice)) await this.#mergeAtOnce(choice, request);
      else if (begun) {
        if (!(await this.#mergePart(begun, request))) continue;
      } else {
        const next = choice ?? (request.full ? nextFullMerge(runs) : undefined);
        if (!next) return merges;
        if (this.#isSmall(next)) await this.#mergeAtOnce(next, request);
        else if (!(await this.#mergePart(next, request))) continue;
      }
      merges++;
    }
  }

  #isSmall({ runs }: MergeChoice): boolean {
    const bytes = runs.flatMap((r) => r.segments).reduce((n, s) => n + s.bytes, 0);
    return bytes <= (this.#options.smallBytes ?? SMALL_BYTES);
  }

  /** The merge that the note is about; what is left of one that makes no sense any more is removed. */
  async #begun(): Promise<MergeChoice | undefined> {
    const merge = this.#note?.merge;
    if (!this.#note || !merge) return undefined;
    const runs = inputsIn(this.#host.head().runs, merge);
    if (runs) return { runs, level: merge.level };
    await this.#forget();
    return undefined;
  }

  /** Once for each archiver: takes over what its predecessor left, after a look at every part of it. */
  async #adoptNote(): Promise<NoteKeeper> {
    const { archive } = this.#host;
    const note = await NoteKeeper.read(archive, this.#host.head());
    await note.takeOver();
    this.#note = note;
    try {
      const { merge } = note;
      if (!(await this.#begun()) || !merge) return note;
      for (const part of merge.parts)
        await verifyPart(archive, part, merge, undefined).catch((error) => {
          if (isStorageError(error)) throw error;
          // damaged or gone: the merge begins anew
          return this.#forget();
        });
      return note;
    } catch (error) {
      // not looked at in full: the next run does that
      this.#note = undefined;
      throw error;
    }
  }

  /**
   * Removes what an unfinished merge has written, and the note of it. The note says so first: between the proof that a deletion needs
   * and the deletion this process may sleep for an hour, and whoever takes the note over meanwhile must not go on with its parts.
   */
  async #forget(): Promise<void> {
    const note = this.#note;
    const merge = note?.merge;
    if (!note || !merge) return;
    if (!isGivenUp(merge)) await note.write(givenUp(merge));
    await this.#host.discard(objectsOf(merge));
    await note.write(null);
  }

  async #mergeAtOnce(choice: MergeChoice, request: CompactRequest): Promise<void> {
    const written: string[] = [];
    this.#writing = written;
    try {
      await this.#mergeWriting(choice, written, request);
    } finally {
      this.#writing = [];
    }
  }

  async #mergeWriting(choice: MergeChoice, written: string[], request: CompactRequest): Promise<void> {
    let outcome: MergeOutcome;
    try {
      outcome = await this.#host.pool.run(this.#job(choice, [], null, Number.POSITIVE_INFINITY), {
        writing: async (name) => void written.push(name),
        wrote: async () => undefined,
      });
    } catch (error) {
      await this.#host.discard(written).catch(() => undefined);
      throw error;
    }
    const merged = mergedOf(choice, outcome.parts);
    await this.#host.publish(choice.runs, merged, written);
    this.#done(choice, merged, request);
  }

  /** The next part of a noted merge, or the first. True: that was the last, and the run is published. */
  async #mergePart(choice: MergeChoice, request: CompactRequest): Promise<boolean> {
    const note = this.#note ?? (await this.#adoptNote());
    const before = note.merge;
    // an earlier try may have written a part and not lived to note that it is right
    if (before?.writing) {
      // the same once more: a note of ours that has it as a part, and whose answer was lost, can arrive no more
      await note.write(before);
      await this.#host.discard([before.writing]);
      await note.write({ ...before, writing: null });
    }
    const parts = before?.parts ?? [];
    const job = this.#job(choice, parts, before?.next ?? null, 1);
    let outcome: MergeOutcome;
    try {
      outcome = await this.#host.pool.run(job, {
        writing: (name) => note.write(noteOf(job, parts, job.next, name)),
        wrote: (part, next) => note.write(noteOf(job, [...parts, part], next, null)),
      });
    } catch (error) {
      // what was written is not what went in, or an input is not what it was: nothing of this is to be gone on with
      if (isPitrError(error, 'verification-failed') || isPitrError(error, 'object-corrupt'))
        await this.#forget().catch(() => undefined);
      throw error;
    }
    const all = [...parts, ...outcome.parts];
    if (outcome.next) {
      request.onProgress?.(rowsOf(all.map((p) => p.ref)), rowsOf(choice.runs.flatMap((r) => r.segments)));
      return false;
    }
    const merged = mergedOf(choice, all);
    // no objects: who has taken the stream meanwhile has taken over the note, and goes on with them
    await this.#host.publish(choice.runs, merged, []);
    await note.write(null);
    this.#done(choice, merged, request);
    return true;
  }

  #done({ runs }: MergeChoice, merged: Run, request: CompactRequest): void {
    const rows = rowsOf(merged.segments);
    request.onProgress?.(rows, rows);
    this.#host.merged(runs, merged);
  }

  #job(
    { runs, level }: MergeChoice,
    parts: MergeJob['parts'],
    next: MergeJob['next'],
    partsMax: number,
  ): MergeJob {
    const { timeline, stream, generation } = this.#host.head();
    const partRawBytes = this.#options.partRawBytes ?? SEGMENT_RAW_BYTES;
    return { timeline, stream, generation, level, runs, parts, next, partRawBytes, partsMax };
  }
}

const mergedOf = ({ runs, level }: MergeChoice, parts: MergeOutcome['parts']): Run =>
  runOf(
    level,
    runs[0].lsnStart,
    runs[runs.length - 1].lsnEnd,
    parts.map((p) => p.ref),
  );

const rowsOf = (segments: Run['segments']): number => segments.reduce((n, s) => n + s.rows, 0);

/** Objects of the head and of an unfinished merge: none of them is an orphan. */
export const knownNames = async (archive: Archive, head: Head): Promise<Set<string>> => {
  const { merge } = await NoteKeeper.read(archive, head);
  return new Set([...namesOf(head), ...(merge ? objectsOf(merge) : [])]);
};

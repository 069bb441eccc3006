/** Looks at every catalog head in the moment in which it is published, by its text alone: A1, A2, A3, A4, A5. */
import type { History } from './history.ts';
import { type Process, Violation } from './scheduler.ts';
import type { Service } from './service.ts';

/** What the judge reads of a head: written down here once more. */
interface HeadText {
  readonly stream: string;
  readonly generation: number;
  readonly claim: string;
  readonly frontier: { readonly ts: number; readonly lsn: number };
  readonly sequence: number;
  readonly runs: readonly {
    readonly lsnStart: number;
    readonly lsnEnd: number;
    readonly segments: readonly { readonly name: string; readonly bytes: number }[];
  }[];
  readonly gaps: readonly unknown[];
  readonly retired: readonly { readonly names: readonly string[] }[];
}

/** Of the index of snapshots, of a manifest, and of the note of an unfinished merge. */
interface IndexText {
  readonly snapshots: readonly { readonly id: string; readonly name: string }[];
  readonly begun: readonly { readonly id: string }[];
  /** Deleted; their objects go later. */
  readonly retired?: readonly { readonly names: readonly string[] }[];
}

interface ManifestText {
  readonly segments: readonly { readonly name: string }[];
}

interface NoteText {
  readonly merge: {
    readonly parts: readonly { readonly ref: { readonly name: string } }[];
    readonly writing: string | null;
  } | null;
}

const bodyOf = <T>(bytes: Buffer): T => JSON.parse(bytes.toString('utf8', bytes.indexOf(10) + 1));

export class CatalogWatch {
  readonly #bucket: Service;
  readonly #history: History;
  readonly #newest = new Map<string, HeadText>();
  readonly #notes = new Map<string, NoteText>();
  #index: IndexText = { snapshots: [], begun: [] };
  /** Objects by who made them. */
  readonly #makers = new Map<string, Process | undefined>();
  /** What each process made last: it may have it in hand, and name it next. */
  readonly #inHand = new Map<Process | undefined, string>();
  heads = 0;

  /** `fail` is told what is wrong: who publishes must not hear of it. */
  constructor(bucket: Service, history: History, fail: (error: unknown) => void) {
    this.#bucket = bucket;
    this.#history = history;
    const watched = (name: string, look: () => void): void => {
      try {
        look();
      } catch (error) {
        fail(
          error instanceof SyntaxError ? new Violation(`${name} cannot be read: ${error.message}`) : error,
        );
      }
    };
    bucket.onSwap = (name, bytes) => watched(name, () => this.#swapped(name, bytes));
    bucket.onCreate = (name, by) => {
      this.#makers.set(name, by);
      this.#inHand.set(by, name);
    };
    bucket.onDelete = (name) => watched(name, () => this.#deleted(name));
  }

  generationOf(stream: string): number {
    return [...this.#newest.values()].find((h) => h.stream === stream)?.generation ?? 0;
  }

  #swapped(name: string, bytes: Buffer): void {
    if (name.startsWith('heads/')) this.#published(name, bodyOf(bytes));
    else if (name.startsWith('merges/')) this.#notes.set(name, bodyOf(bytes));
    else if (name === 'snapshots') this.#indexed(bodyOf(bytes));
  }

  #published(name: string, head: HeadText): void {
    this.heads++;
    const old = this.#newest.get(name);
    const bad = (what: string): Violation => new Violation(`head of ${head.stream}: ${what}`);
    if (old) {
      if (head.generation < old.generation)
        throw bad(`A3: generation ${head.generation} after ${old.generation}`);
      if (head.generation === old.generation && head.claim !== old.claim)
        throw bad(`A3: two claims to generation ${head.generation} both advance`);
      if (head.sequence < old.sequence) throw bad(`A2: file ${head.sequence} after ${old.sequence}`);
    }
    if (head.gaps.length > 0) throw bad(`a gap, and no file was lost: ${JSON.stringify(head.gaps)}`);
    let next = 1;
    for (const run of head.runs) {
      if (run.lsnStart !== next || run.lsnEnd <= run.lsnStart)
        throw bad(`A1: a run of ${run.lsnStart}..${run.lsnEnd} where ${next} is due`);
      next = run.lsnEnd;
      for (const { name: object, bytes } of run.segments)
        if (this.#bucket.bytesOf(object)?.length !== bytes)
          throw bad(`A4: it lists ${object}, which is not there`);
    }
    if (next !== head.frontier.lsn + 1)
      throw bad(`runs end at ${next - 1}, the frontier is ${head.frontier.lsn}`);
    this.#newest.set(name, head);
    this.#history.published(head.stream, head.frontier);
  }

  #indexed(index: IndexText): void {
    this.#index = index;
    for (const { id, name } of index.snapshots)
      for (const object of [name, ...this.#segmentsOf(name)])
        if (this.#bucket.bytesOf(object) === undefined)
          throw new Violation(`C1: snapshot ${id} names ${object}, which is not there`);
  }

  #deleted(name: string): void {
    if (this.#named().has(name)) throw new Violation(`A6: ${name} is named and was deleted`);
  }

  #segmentsOf(manifest: string): string[] {
    const bytes = this.#bucket.bytesOf(manifest);
    return bytes ? bodyOf<ManifestText>(bytes).segments.map((s) => s.name) : [];
  }

  /** What heads and snapshots name: what exists. */
  #named(): Set<string> {
    return new Set([
      ...[...this.#newest.values()].flatMap((h) => h.runs.flatMap((r) => r.segments.map((s) => s.name))),
      ...this.#index.snapshots.flatMap(({ name }) => [name, ...this.#segmentsOf(name)]),
    ]);
  }

  /** At any time: everything that is named exists. */
  check(): void {
    for (const name of this.#named())
      if (this.#bucket.bytesOf(name) === undefined)
        throw new Violation(`A6: ${name} is named and is not there`);
  }

  /**
   * When all is quiet: objects that nothing names, and that nobody is going to delete. Each must be of somebody who was killed, whom
   * something had happened to, or who has just made it. Returns how many there are.
   */
  orphans(): number {
    const known = this.#named();
    for (const head of this.#newest.values())
      for (const r of head.retired) for (const n of r.names) known.add(n);
    for (const { merge } of this.#notes.values())
      for (const n of [...(merge?.parts ?? []).map((p) => p.ref.name), merge?.writing]) if (n) known.add(n);
    for (const { names } of this.#index.retired ?? []) for (const n of names) known.add(n);
    const begun = this.#index.begun.map(({ id }) => `/${id}/`);
    let count = 0;
    for (const name of this.#bucket.names()) {
      if (name === 'archive' || known.has(name) || begun.some((part) => name.includes(part))) continue;
      const by = this.#makers.get(name);
      if (by?.alive && by.troubles === 0 && this.#inHand.get(by) !== name)
        throw new Violation(`${by.name} has left ${name} behind`);
      count++;
    }
    return count;
  }
}

/** Looks at every catalog head in the moment in which it is published, by its text alone: A1, A2, A3, A4, A5. */
import type { History } from './history.ts';
import { Violation } from './scheduler.ts';
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

const headOf = (bytes: Buffer): HeadText => JSON.parse(bytes.toString('utf8', bytes.indexOf(10) + 1));

export class CatalogWatch {
  readonly #bucket: Service;
  readonly #history: History;
  readonly #newest = new Map<string, HeadText>();
  heads = 0;

  /** `fail` is told what is wrong: who publishes must not hear of it. */
  constructor(bucket: Service, history: History, fail: (error: unknown) => void) {
    this.#bucket = bucket;
    this.#history = history;
    bucket.onSwap = (name, bytes) => {
      try {
        if (name.startsWith('heads/')) this.#published(name, headOf(bytes));
      } catch (error) {
        fail(error);
      }
    };
  }

  generationOf(stream: string): number {
    return [...this.#newest.values()].find((h) => h.stream === stream)?.generation ?? 0;
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

  /** At any time: everything that a head lists exists. */
  check(): void {
    for (const head of this.#newest.values())
      for (const run of head.runs)
        for (const { name } of run.segments)
          if (this.#bucket.bytesOf(name) === undefined) throw new Violation(`A6: ${name} is listed and was deleted`);
  }
}

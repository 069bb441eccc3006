import { randomBytes } from 'node:crypto';
import type { Clock } from '../engine/clock.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { EngineIdentity } from '../engine/identity.ts';
import { RequestTally } from '../engine/request-tally.ts';
import type { Archive } from './archive.ts';
import { AskedCounter } from './asked.ts';
import { emptyHead, type Head, namesOf, type Retired } from './catalog.ts';
import { placeOf } from './layout.ts';

/** Names of swept objects that are remembered: none of them is listed again. */
const SWEPT_MAX = 100_000;

/** What a deletion did. */
export interface Deletion {
  readonly deleted: readonly string[];
  readonly failed: readonly { readonly name: string; readonly cause: unknown }[];
}

/** For how long a publication proves that the archive is there, ms by a clock that only goes forward. */
const PROOF_MS = 10_000;

export interface HeldHeadOptions {
  /**
   * Asked about the very head that is replaced; throws what forbids it. Whoever could not go on from there would only stop another
   * one that can.
   */
  readonly mayTake?: (head: Head) => Promise<void>;
  /** Asked when there is no head yet: throws what forbids to begin one. */
  readonly mayBegin?: () => Promise<void>;
  /** Of the archiver; left out: what the head says. */
  readonly sealMs?: number | undefined;
  /** What this archiver asks of the store; left out: it is not counted. */
  readonly tally?: RequestTally;
}

/** A stream's catalog head as its archiver holds it: the one place that changes it. Calls must not overlap. */
export class HeldHead {
  readonly #archive: Archive;
  readonly #clock: Clock;
  readonly #asked: AskedCounter;
  #head: Head;
  #tag: string;
  readonly #swept = new Set<string>();
  /** When the catalog last took a head of ours; undefined: something failed since. */
  #provedMs: number | undefined = performance.now();

  private constructor(archive: Archive, clock: Clock, asked: AskedCounter, head: Head, tag: string) {
    this.#archive = archive;
    this.#asked = asked;
    this.#clock = clock;
    this.#head = head;
    this.#tag = tag;
  }

  /**
   * Raises the writer generation, or makes the first head. From here on an older archiver can publish nothing.
   * @throws stream-taken, and what `mayTake` and `mayBegin` throw
   */
  static async claim(
    archive: Archive,
    identity: Pick<EngineIdentity, 'engineId' | 'stream' | 'timeline'>,
    clock: Clock,
    options: HeldHeadOptions = {},
  ): Promise<HeldHead> {
    const { engineId, stream, timeline } = identity;
    // two that claim at once would otherwise write the same bytes, and each would take the other's head for its own
    const claim = randomBytes(8).toString('hex');
    for (;;) {
      const found = await archive.head(timeline, stream);
      if (found && found.value.engineId !== engineId) throw new PitrError('stream-taken', { stream });
      if (found) await options.mayTake?.(found.value);
      else
        try {
          await options.mayBegin?.();
        } catch (error) {
          // what another one has made since we looked is no sign that there was one before
          if (await archive.head(timeline, stream)) continue;
          throw error;
        }
      const before =
        found?.value ?? emptyHead({ archive: archive.id, timeline, stream, engineId, generation: 0 });
      const said = options.sealMs === undefined ? {} : { sealMs: options.sealMs };
      const asked = new AskedCounter(before.asked, options.tally ?? new RequestTally(), clock.nowMs());
      const head: Head = {
        ...before,
        ...said,
        generation: before.generation + 1,
        claim,
        asked: asked.at(clock.nowMs()),
      };
      try {
        return new HeldHead(archive, clock, asked, head, await archive.swapHead(found?.tag, head));
      } catch (error) {
        if (!isPitrError(error, 'cas-conflict') && !isPitrError(error, 'fenced')) throw error;
      }
    }
  }

  /** The head as it was last published. */
  get current(): Head {
    return this.#head;
  }

  /**
   * That the archive is where it was, before anything is written there: the catalog took a head of ours a moment ago, or it is
   * looked at. True: it was looked at. @throws archive-not-found, archive-mismatch
   */
  async assertHere(): Promise<boolean> {
    if (this.#provedMs !== undefined && performance.now() - this.#provedMs < PROOF_MS) return false;
    await this.#archive.assertHere();
    return true;
  }

  /** Something about the archive failed: what was last seen of it proves nothing any more. */
  doubt(): void {
    this.#provedMs = undefined;
  }

  /**
   * Publishes `next`, which was made from `from`.
   * @throws internal when another head was published since `from`, or the frontier would fall (A2); fenced; cas-conflict;
   * head-missing when somebody has deleted it; object-not-found when it lists an object that was swept, having lain there unlisted
   * for so long
   */
  async publish(from: Head, next: Head): Promise<void> {
    const refuse = (what: string): PitrError =>
      new PitrError('internal', { what: `a catalog head of stream ${from.stream} ${what}` });
    if (from !== this.#head) throw refuse('was made from one that is no longer current');
    if (
      next.frontier.ts < from.frontier.ts ||
      next.frontier.lsn < from.frontier.lsn ||
      next.sequence < from.sequence
    )
      throw refuse('would lower the frontier');
    if (this.#swept.size > 0)
      for (const name of namesOf(next))
        if (this.#swept.has(name)) throw new PitrError('object-not-found', { name });
    const nowMs = this.#clock.nowMs();
    // by a clock that was ahead and has been put right, it would stay until that day
    const retired = next.retired.map((r) => (r.sinceMs > nowMs ? { ...r, sinceMs: nowMs } : r));
    const head = { ...next, retired, asked: this.#asked.at(nowMs), updatedMs: nowMs };
    try {
      this.#tag = await this.#archive.swapHead(this.#tag, head);
      this.#head = head;
      this.#provedMs = performance.now();
    } catch (error) {
      this.doubt();
      // a head of our claim is our own: an earlier swap had its effect although all its answers were lost
      const isConflict = isPitrError(error, 'cas-conflict');
      const now = isConflict ? await this.#archive.head(head.timeline, head.stream) : undefined;
      if (isConflict && !now) {
        const { timeline, stream, frontier } = this.#head;
        const name = this.#archive.headName(timeline, stream);
        throw new PitrError('head-missing', { stream, name, lsn: frontier.lsn }, { cause: error });
      }
      if (now && now.value.generation === head.generation && now.value.claim === head.claim) {
        this.#tag = now.tag as string;
        this.#head = now.value;
      }
      throw error;
    }
  }

  /**
   * Publishes a head that lists new objects; when that has certainly failed they are deleted, so that a try leaves nothing.
   * Whether they are listed after all is read back: a successor may have taken them over from a head whose answer was lost.
   */
  async publishWith(from: Head, next: Head, objects: readonly string[]): Promise<void> {
    try {
      await this.publish(from, next);
    } catch (error) {
      if (isPitrError(error, 'fenced') || isPitrError(error, 'cas-conflict'))
        await this.#discard(objects).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Deletes what was retired up to `beforeMs` and is held by no lease; returns what could not be deleted, which stays listed and
   * comes up again as if retired at `nowMs`. Publishing first proves that the catalog is still ours; names are forgotten only
   * after their deletion, which may be repeated.
   *
   * The leases that count are those that are held when they are first looked at after the objects were retired: whoever takes
   * one later reads a catalog that does not name them.
   */
  async deleteRetired(
    beforeMs: number,
    nowMs: number,
    leases: () => Promise<ReadonlySet<string>>,
  ): Promise<{ name: string; cause: unknown }[]> {
    const due = (r: Retired): boolean => r.sinceMs <= beforeMs;
    if (!this.#head.retired.some(due)) return [];
    const held = await leases();
    const retired = this.#head.retired.map((r) =>
      due(r) && r.leases === null ? { ...r, leases: [...held] } : r,
    );
    const free = retired.filter((r) => due(r) && r.leases?.every((id) => !held.has(id)));
    const isNoted = retired.some((r, i) => !free.includes(r) && r !== this.#head.retired[i]);
    if (free.length === 0 && !isNoted) return [];
    await this.publish(this.#head, { ...this.#head, retired });
    if (free.length === 0) return [];
    const failed = await this.#archive.store.delete(free.flatMap((r) => r.names));
    const kept = this.#head.retired.filter((_, i) => !free.includes(retired[i]));
    if (failed.length > 0) kept.push({ names: failed.map((f) => f.name), sinceMs: nowMs, leases: null });
    await this.publish(this.#head, { ...this.#head, retired: kept });
    return failed;
  }

  /**
   * Deletes objects that no head lists. Publishing first makes it certain that none that lists them can still come: an
   * earlier swap without an answer has had its effect by then, or never will.
   */
  async discard(objects: readonly string[]): Promise<void> {
    if (objects.length === 0) return;
    await this.#prove();
    const listed = namesOf(this.#head);
    await this.#archive.store.delete(objects.filter((name) => !listed.has(name)));
  }

  /**
   * Deletes segments of this stream that nothing names: a late swap of an older archiver is out of the question after the
   * publication, and this one lists none of them any more. `known` gives what is named by a head and beside it.
   */
  async sweep(
    objects: readonly string[],
    known: (head: Head) => Promise<ReadonlySet<string>>,
  ): Promise<Deletion> {
    await this.#prove();
    if (objects.length === 0) return { deleted: [], failed: [] };
    const head = this.#head;
    const named = await known(head);
    const free = objects.filter((name) => {
      const place = placeOf(name, (_, folder) => folder === head.stream);
      const isOurs =
        place.kind === 'segment' &&
        place.timeline === head.timeline &&
        place.stream === head.stream &&
        place.generation <= head.generation;
      return isOurs && !named.has(name);
    });
    for (const name of free) this.#swept.add(name);
    for (const name of this.#swept) {
      if (this.#swept.size <= SWEPT_MAX) break;
      this.#swept.delete(name);
    }
    const failed = await this.#archive.store.delete(free);
    return { deleted: free.filter((name) => !failed.some((f) => f.name === name)), failed };
  }

  /** The head is still ours, and every swap that was tried before has had its effect or never will. */
  async #prove(): Promise<void> {
    try {
      await this.publish(this.#head, this.#head);
    } catch (error) {
      if (!isPitrError(error, 'cas-conflict')) throw error;
      // that swap had its effect after all; what is current has been read back
      await this.publish(this.#head, this.#head);
    }
  }

  async #discard(objects: readonly string[]): Promise<void> {
    const now = await this.#archive.head(this.#head.timeline, this.#head.stream);
    if (!now) return;
    const listed = namesOf(now.value);
    await this.#archive.store.delete(objects.filter((name) => !listed.has(name)));
  }
}

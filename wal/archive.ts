import { randomBytes } from 'node:crypto';
import type { ZodType } from 'zod';
import { type Clock, systemClock } from '../engine/clock.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { observedStore } from '../engine/observed-store.ts';
import { openObjectStore } from '../engine/open-object-store.ts';
import type { StoreObserver } from '../engine/store-observer.ts';
import type { Head } from './catalog.ts';
import { type DocumentKind, decodeDocument, encodeDocument } from './document.ts';
import type { ArchiveEvent } from './event.ts';
import type { SegmentRef } from './segment.ts';
import { SegmentReader } from './segment-reader.ts';
import { currentTimeline, type Timeline, type Timelines, timelineOf } from './timeline.ts';

export { segmentName } from './segment-name.ts';

const ARCHIVE_OBJECT = 'archive';
const TIMELINES_OBJECT = 'timelines';
/** Tries of a compare-and-swap loop before it gives up. */
const SWAP_TRIES_MAX = 50;
/** Open segments that are remembered: each keeps up to 64 KiB of its end. */
const READERS_MAX = 500;

interface ArchiveDocument {
  readonly id: string;
  readonly createdMs: number;
}

/** A value read together with the tag that a swap expects. */
export interface Tagged<T> {
  readonly value: T;
  readonly tag: string | undefined;
}

/** An archive: its object store, its identity and its control objects. Opening reads one object; nothing is listed. */
export class Archive {
  readonly store: ObjectStore;
  readonly id: string;
  readonly clock: Clock;
  readonly #readers = new Map<string, Promise<SegmentReader>>();

  private constructor(store: ObjectStore, id: string, clock: Clock) {
    this.store = store;
    this.id = id;
    this.clock = clock;
  }

  get url(): string {
    return this.store.url;
  }

  /**
   * `observe` is told of every request.
   * @throws archive-not-found, object-corrupt, format-version
   */
  static async open(
    url: string | ObjectStore,
    options: { clock?: Clock; observe?: StoreObserver } = {},
  ): Promise<Archive> {
    const store = storeOf(url, options.observe);
    try {
      const { id } = decodeDocument<ArchiveDocument>(
        'archive',
        await store.read(ARCHIVE_OBJECT),
        ARCHIVE_OBJECT,
      );
      return new Archive(store, id, options.clock ?? systemClock);
    } catch (error) {
      if (isPitrError(error, 'object-not-found'))
        throw new PitrError('archive-not-found', { url: store.url }, { cause: error });
      throw error;
    }
  }

  /** Opens the archive, making it if there is none. @throws object-corrupt when there is one without its first object */
  static async openOrCreate(url: string | ObjectStore, options: { clock?: Clock } = {}): Promise<Archive> {
    const store = storeOf(url);
    try {
      return await Archive.open(store, options);
    } catch (error) {
      if (!isPitrError(error, 'archive-not-found')) throw error;
    }
    if (await store.readSwap(TIMELINES_OBJECT)) {
      // made by somebody else a moment ago, or what was made long ago has lost its first object: another id would shut its owners out
      const there = await Archive.open(store, options).catch((error) => {
        if (isPitrError(error, 'archive-not-found')) return undefined;
        throw error;
      });
      if (there) return there;
      throw new PitrError('object-corrupt', {
        name: ARCHIVE_OBJECT,
        why: `it is gone, and ${TIMELINES_OBJECT} of an archive is there`,
      });
    }
    const id = randomBytes(16).toString('hex');
    const createdMs = (options.clock ?? systemClock).nowMs();
    try {
      await store.create(
        ARCHIVE_OBJECT,
        encodeDocument('archive', { id, createdMs } satisfies ArchiveDocument),
      );
    } catch (error) {
      // somebody else made it at the same moment: theirs counts
      if (!isPitrError(error, 'object-exists')) throw error;
    }
    return Archive.open(store, options);
  }

  /**
   * An archive that is away for a while must not be taken for an empty one: the mount point of an unmounted file system is a
   * directory without anything. Asked before anything is written, and whenever something that should be there is not.
   * @throws archive-not-found, archive-mismatch
   */
  async assertHere(): Promise<void> {
    this.#mine(this.url, (await Archive.open(this.store)).id);
  }

  async timelines(): Promise<Timelines> {
    return (await this.#timelines()).value;
  }

  /** The timeline of this id, or the current one. @throws timeline-unknown, archive-not-found when there is none yet */
  async timeline(id?: string): Promise<Timeline> {
    const all = await this.timelines();
    if (id !== undefined) return timelineOf(all, id);
    const current = currentTimeline(all);
    if (!current) throw new PitrError('timeline-unknown', { timeline: 'any', known: 'none' });
    return current;
  }

  /** Changes the timelines by compare-and-swap; `change` may run several times and may throw. */
  async updateTimelines(change: (all: Timelines) => Timelines): Promise<Timelines> {
    for (let tries = 0; tries < SWAP_TRIES_MAX; tries++) {
      const { value, tag } = await this.#timelines();
      const next = change(value);
      if (next === value) return value;
      if (await this.#swap(TIMELINES_OBJECT, tag, 'timelines', next)) return next;
    }
    throw new PitrError('cas-conflict', { name: TIMELINES_OBJECT });
  }

  headName(timeline: string, stream: string): string {
    return `heads/${timeline}/${stream}`;
  }

  async head(timeline: string, stream: string): Promise<Tagged<Head> | undefined> {
    const name = this.headName(timeline, stream);
    const found = await this.#readSwap(name);
    if (!found) return undefined;
    const value = decodeDocument<Head>('head', found.bytes, name);
    this.#mine(name, value.archive);
    return { value, tag: found.tag };
  }

  /** Heads of all streams of a timeline that have archived anything. */
  async heads(timeline: Timeline): Promise<Map<string, Head>> {
    const heads = await Promise.all(timeline.streams.map((s) => this.head(timeline.id, s.name)));
    return new Map(heads.flatMap((h) => (h ? [[h.value.stream, h.value] as const] : [])));
  }

  /**
   * Publishes a head. An unclear answer is settled by reading back: our own content there is published once more.
   * @throws cas-conflict, fenced when another writer's generation, or claim to this generation, is current
   */
  async swapHead(expected: string | undefined, head: Head): Promise<string> {
    const name = this.headName(head.timeline, head.stream);
    const bytes = encodeDocument('head', head);
    try {
      return await this.store.swap(name, expected, bytes);
    } catch (error) {
      const now = await this.#readSwap(name);
      if (now?.bytes.equals(bytes)) return await this.#settled(name, now.tag, bytes, error);
      if (now && isPitrError(error, 'cas-conflict')) {
        const current = decodeDocument<Head>('head', now.bytes, name);
        const taken = current.generation === head.generation && current.claim !== head.claim;
        if (current.generation > head.generation || taken)
          throw new PitrError('fenced', {
            stream: head.stream,
            mine: head.generation,
            current: current.generation,
          });
      }
      throw error;
    }
  }

  /** Reads a document that is swapped, or undefined. */
  async readDocument<T>(kind: DocumentKind, name: string, schema?: ZodType): Promise<Tagged<T> | undefined> {
    const found = await this.store.readSwap(name);
    return found && { value: decodeDocument<T>(kind, found.bytes, name, schema), tag: found.tag };
  }

  /**
   * Replaces a document if its tag is still `expected`; returns the new tag. An unclear answer is settled by reading back.
   * @throws cas-conflict
   */
  async swapDocument(
    kind: DocumentKind,
    name: string,
    expected: string | undefined,
    value: unknown,
  ): Promise<string> {
    const bytes = encodeDocument(kind, value);
    try {
      return await this.store.swap(name, expected, bytes);
    } catch (error) {
      const now = await this.#readSwap(name);
      if (now?.bytes.equals(bytes)) return await this.#settled(name, now.tag, bytes, error);
      throw error;
    }
  }

  /** Changes a swapped document; `undefined` is passed when there is none yet. */
  async updateDocument<T>(
    kind: DocumentKind,
    name: string,
    change: (value: T | undefined) => T,
    schema?: ZodType,
  ): Promise<T> {
    for (let tries = 0; tries < SWAP_TRIES_MAX; tries++) {
      const found = await this.readDocument<T>(kind, name, schema);
      if (!found) await this.assertHere();
      const next = change(found?.value);
      if (found && next === found.value) return next;
      if (await this.#swap(name, found?.tag, kind, next)) return next;
    }
    throw new PitrError('cas-conflict', { name });
  }

  /** Opens a segment, once for all who ask. */
  reader(ref: SegmentRef): Promise<SegmentReader> {
    let reader = this.#readers.get(ref.name);
    if (!reader) {
      reader = SegmentReader.open(this.store, ref, this.id);
      reader.catch(() => this.#readers.delete(ref.name));
      this.#readers.set(ref.name, reader);
      // a long-running agent must not remember every segment it ever saw
      if (this.#readers.size > READERS_MAX) this.#readers.delete(this.#readers.keys().next().value as string);
    }
    return reader;
  }

  async events(refs: readonly SegmentRef[]): Promise<ArchiveEvent[]> {
    const lists = await Promise.all(
      refs.filter((r) => r.events > 0).map(async (r) => (await this.reader(r)).events()),
    );
    return lists.flat();
  }

  async #timelines(): Promise<Tagged<Timelines>> {
    const found = await this.#readSwap(TIMELINES_OBJECT);
    if (!found) return { value: { archive: this.id, timelines: [] }, tag: undefined };
    const value = decodeDocument<Timelines>('timelines', found.bytes, TIMELINES_OBJECT);
    this.#mine(TIMELINES_OBJECT, value.archive);
    return { value, tag: found.tag };
  }

  async #swap(name: string, tag: string | undefined, kind: DocumentKind, value: unknown): Promise<boolean> {
    try {
      await this.swapDocument(kind, name, tag, value);
      return true;
    } catch (error) {
      if (isPitrError(error, 'cas-conflict')) return false;
      throw error;
    }
  }

  /**
   * Our own content is there although the swap failed. If it was the sync that failed, a power cut may still take it: the same
   * again on top of it counts once that is durable.
   */
  async #settled(name: string, tag: string, bytes: Buffer, error: unknown): Promise<string> {
    return isPitrError(error, 'cas-conflict') ? tag : this.store.swap(name, tag, bytes);
  }

  async #readSwap(name: string): Promise<{ bytes: Buffer; tag: string } | undefined> {
    const found = await this.store.readSwap(name);
    if (!found) await this.assertHere();
    return found;
  }

  #mine(name: string, archive: string): void {
    if (archive !== this.id)
      throw new PitrError('archive-mismatch', { what: name, actual: archive, expected: this.id });
  }
}

/** The store that a URL means, or the one that was given; told of by `observe`, if there is one. @throws archive-url */
export const storeOf = (url: string | ObjectStore, observe?: StoreObserver): ObjectStore => {
  if (typeof url === 'string') return openObjectStore(url, observe);
  return observe ? observedStore(url, observe) : url;
};

import { join } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { type Clock, systemClock } from '../engine/clock.ts';
import {
  acquireDirectoryLock,
  type DirectoryLock,
  isLocked,
  writerLockPath,
} from '../engine/directory-lock.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../engine/identity.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { Archive, segmentName } from './archive.ts';
import { writeArchived } from './archived.ts';
import { type Gap, HEAD_MARKS_MAX, type Head, replaceRuns, runOf } from './catalog.ts';
import { FANOUT, mergeRuns, runsToMerge } from './compaction.ts';
import { Continuity } from './continuity.ts';
import { withCause } from './dropped.ts';
import { Engine } from './engine.ts';
import { HeldHead } from './held-head.ts';
import { LOG_DIR } from './local-log.ts';
import { logFilesIn } from './log-file.ts';
import { LogReader } from './log-reader.ts';
import { segmentOfLog } from './log-segment.ts';
import { assertSameEngine, Outage, type OutageReport } from './outage.ts';
import { segmentRefOf } from './segment-writer.ts';
import { withEngine } from './timeline.ts';

/** Looks at the directory this often even when the watcher says nothing. */
const POLL_MS = 1000;
/**
 * Objects that a merge replaced are deleted after this time: a restore works for hours by the catalog that it read at its
 * start, and nothing tells the archiver about it.
 */
const RETIRE_MS = 6 * 60 * 60 * 1000;

export interface ArchiverOptions {
  readonly clock?: Clock;
  readonly files?: Files;
  /** Default: the store of the archive's URL. */
  readonly store?: ObjectStore;
  readonly fanout?: number;
  readonly retireMs?: number;
  /** Told about everything that happens; never throws. */
  readonly onEvent?: (event: ArchiverEvent) => void;
}

export type ArchiverEvent =
  | {
      readonly kind: 'archived';
      readonly stream: string;
      readonly versions: number;
      readonly bytes: number;
      readonly frontierTs: number;
    }
  | {
      readonly kind: 'merged';
      readonly stream: string;
      readonly runs: number;
      readonly level: number;
      readonly versions: number;
    }
  | {
      readonly kind: 'adopted';
      readonly stream: string;
      readonly versions: number;
      readonly tornBytes: number;
    }
  | { readonly kind: 'gap'; readonly stream: string; readonly gap: Gap }
  | { readonly kind: 'error'; readonly stream: string; readonly error: unknown };

/** What a job has that runs alone on the archiver ({@link Archiver.exclusively}). */
export interface Alone {
  /** {@link Archiver.archivePending}, as a part of the job. */
  archivePending(): Promise<number>;
}

/**
 * Ships the sealed log files of one engine directory into the archive and states the stream's frontier there. The one archiver
 * of its stream: a kernel-held lock on this machine, a writer generation in the catalog head everywhere.
 *
 * Everything that touches the head, the log or the store is a job on one queue: rounds, the methods here, base copies.
 *
 * Order, so that a crash anywhere leaves the truth: segment object → catalog head → word to the engine that it may trim.
 */
export class Archiver {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly archive: Archive;
  readonly #options: ArchiverOptions;
  readonly #files: Files;
  readonly #clock: Clock;
  readonly #lock: DirectoryLock;
  readonly #held: HeldHead;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The newest job, or what is left of it: each begins when the one before has ended. */
  #queue: Promise<unknown> = Promise.resolve();
  #queued = false;
  #stopped = false;
  #fenced: PitrError | undefined;
  readonly #continuity: Continuity;
  readonly #outage: Outage;

  private constructor(
    dir: string,
    identity: EngineIdentity,
    archive: Archive,
    lock: DirectoryLock,
    options: ArchiverOptions,
    held: HeldHead,
  ) {
    this.dir = dir;
    this.identity = identity;
    this.archive = archive;
    this.#lock = lock;
    this.#options = options;
    this.#files = options.files ?? nodeFiles;
    this.#clock = options.clock ?? systemClock;
    this.#held = held;
    this.#continuity = new Continuity(join(dir, LOG_DIR), this.#files);
    this.#outage = new Outage(dir, this.#clock);
  }

  /** Takes the stream. @throws agent-busy, archive-not-found, archive-mismatch, usage when the engine has no archive */
  static async open(dir: string, options: ArchiverOptions = {}): Promise<Archiver> {
    const identity = await readIdentity(dir);
    if (!identity.archive)
      throw new PitrError('usage', {
        what: `the engine in ${dir} has no archive`,
        hint: 'make one with: pitr init DIR --archive URL',
      });
    const lock = await acquireDirectoryLock(join(dir, 'agent.lock'), { waitMs: 200 });
    if (!lock) throw new PitrError('agent-busy', { stream: identity.stream, dir });
    try {
      const clock = options.clock ?? systemClock;
      const archive = await Archive.open(options.store ?? identity.archive.url, { clock });
      if (archive.id !== identity.archive.id)
        throw new PitrError('archive-mismatch', {
          what: dir,
          actual: identity.archive.id,
          expected: archive.id,
        });
      await archive.updateTimelines((all) => withEngine(all, identity, clock.nowMs()));
      const held = await HeldHead.claim(archive, identity, clock);
      return new Archiver(dir, identity, archive, lock, options, held);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** The head as this archiver last published it. */
  get head(): Head {
    return this.#held.current;
  }

  /** Set once another agent has taken the stream: this one does nothing any more but {@link close}. */
  get fenced(): PitrError | undefined {
    return this.#fenced;
  }

  /** Why and since when rounds fail; undefined while all is well. */
  get outage(): OutageReport | undefined {
    return this.#outage.report;
  }

  /** Watches the directory and archives what is sealed there until {@link close}. */
  start(): void {
    this.#watcher = watch(join(this.dir, LOG_DIR), { depth: 0, ignoreInitial: true });
    this.#watcher.on('add', (path) => {
      if (path.endsWith('.wal')) this.#kick(false);
    });
    this.#watcher.on('error', (error) => this.#emit({ kind: 'error', stream: this.identity.stream, error }));
    this.#timer = setInterval(() => this.#kick(true), POLL_MS);
    this.#kick(true);
  }

  /** One round: adopt the log of a dead or closed writer, ship, compact. */
  round(): Promise<void> {
    return this.#enqueue(() => this.#work(true));
  }

  /** Ships sealed files that the archive does not have. Returns the number of versions. */
  archivePending(): Promise<number> {
    return this.#enqueue(() => this.#archivePending());
  }

  /**
   * When no writer has the directory: opens the engine, which repairs and seals its log under the writer's own lock and states
   * the frontier, and closes it again.
   */
  adopt(): Promise<boolean> {
    return this.#enqueue(() => this.#adopt());
  }

  /** Merges until the number of runs is within bounds, and deletes what earlier merges replaced. Returns the number of merges. */
  compact(fanout = this.#options.fanout ?? FANOUT): Promise<number> {
    return this.#enqueue(() => this.#compact(fanout));
  }

  /**
   * Runs `job` while nothing else of this archiver does: no engine is opened to adopt its log, nothing is shipped. In the job
   * only `own` may be used; this object's methods would wait for the job itself.
   */
  exclusively<T>(job: (own: Alone) => Promise<T>): Promise<T> {
    return this.#enqueue(() => job({ archivePending: () => this.#archivePending() }));
  }

  /** Waits for the jobs that were asked for, and lets go of the stream. */
  async close(): Promise<void> {
    this.#stopped = true;
    await this.#unwatch();
    await this.#queue;
    this.#lock.release();
  }

  async #enqueue<T>(job: () => Promise<T>): Promise<T> {
    // the lock is gone, or will be when the queue has ended
    if (this.#stopped)
      throw new PitrError('interrupted', { what: `archiving of stream ${this.identity.stream}` });
    const work = this.#queue.then(async () => {
      if (this.#fenced) throw this.#fenced;
      try {
        return await job();
      } catch (error) {
        if (isPitrError(error, 'fenced')) this.#stopFenced(error);
        throw error;
      }
    });
    this.#queue = work.catch(() => undefined);
    return work;
  }

  #stopFenced(error: PitrError): void {
    this.#fenced = error;
    void this.#unwatch();
    this.#emit({ kind: 'error', stream: this.identity.stream, error });
  }

  async #unwatch(): Promise<void> {
    clearInterval(this.#timer);
    await this.#watcher?.close();
  }

  async #archivePending(): Promise<number> {
    let versions = 0;
    for (;;) {
      const shipped = await this.#shipNext();
      if (shipped === undefined) return versions;
      versions += shipped;
    }
  }

  async #adopt(): Promise<boolean> {
    if (isLocked(writerLockPath(this.dir))) return false;
    try {
      const engine = await Engine.open({
        dir: this.dir,
        sealMs: 0,
        lockWaitMs: 0,
        // it is open for a moment only: who wants something of a writer waits for the lock instead
        door: false,
        clock: this.#clock,
        ...(this.#options.files ? { files: this.#options.files } : {}),
      });
      const { versions, tornBytes } = engine.report;
      await engine.close();
      if (versions > 0 || tornBytes > 0)
        this.#emit({ kind: 'adopted', stream: this.identity.stream, versions, tornBytes });
      return true;
    } catch (error) {
      // a writer was faster
      if (isPitrError(error, 'engine-busy')) return false;
      throw error;
    }
  }

  async #compact(fanout: number): Promise<number> {
    let merges = 0;
    for (;;) {
      const head = this.head;
      const runs = this.#stopped ? undefined : runsToMerge(head.runs, fanout);
      if (!runs) break;
      const merged = await mergeRuns(this.archive, head, runs);
      const names = runs.flatMap((r) => r.segments.map((s) => s.name));
      const next = {
        ...head,
        runs: replaceRuns(head.runs, runs, merged),
        retired: [...head.retired, { names, sinceMs: this.#clock.nowMs() }],
      };
      await this.#held.publishWith(
        head,
        next,
        merged.segments.map((s) => s.name),
      );
      merges++;
      const versions = merged.segments.reduce((n, s) => n + s.rows, 0);
      this.#emit({
        kind: 'merged',
        stream: this.identity.stream,
        runs: runs.length,
        level: merged.level,
        versions,
      });
    }
    await this.#deleteRetired();
    return merges;
  }

  /** Adopting seals a file, and a sealed file kicks: only the timer adopts, or the two would chase each other. */
  #kick(adopt: boolean): void {
    if (this.#queued || this.#stopped || this.#fenced || !this.#outage.isDue) return;
    this.#queued = true;
    this.#enqueue(async () => {
      this.#queued = false;
      if (!this.#stopped) await this.#work(adopt);
    }).catch((error) => {
      // that it was fenced has been said
      if (error !== this.#fenced) this.#emit({ kind: 'error', stream: this.identity.stream, error });
    });
  }

  async #work(adopt: boolean): Promise<void> {
    let failure: unknown;
    let isShipped = false;
    try {
      await assertSameEngine(this.dir, this.identity);
      // an engine that does not open any more is no reason to leave its sealed files unarchived
      if (adopt)
        await this.#adopt().catch((error) => {
          failure = error;
        });
      await this.#archivePending();
      isShipped = true;
      await this.#compact(this.#options.fanout ?? FANOUT);
      if (failure) throw failure;
    } catch (error) {
      if (!isPitrError(error, 'fenced')) await this.#outage.failed(error, isShipped);
      throw error;
    }
    await this.#outage.ended();
  }

  async #shipNext(): Promise<number | undefined> {
    const dir = join(this.dir, LOG_DIR);
    const names = await this.#files.list(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: dir, why: cause.code }, { cause });
    });
    const head = this.head;
    const files = logFilesIn(names);
    await this.#continuity.check(files, head);
    const waiting = files.filter((f) => f.sealed && f.sequence > head.sequence);
    if (waiting.length === 0) return undefined;
    await this.archive.assertHere();
    const batch = new LogReader(this.identity, head);
    await batch.readFiles(dir, waiting, this.#files);
    if (batch.sequence === 0) return undefined;
    const { clock } = batch;
    const gap = batch.gap && (await withCause(batch.gap, dir, this.#files));
    if (!clock)
      throw new PitrError('log-corrupt', { path: dir, offset: 0, why: 'a sealed file without clock frame' });
    let next: Head = {
      ...head,
      frontier: { ts: Math.max(clock.ts, head.frontier.ts), lsn: batch.lsnEnd - 1 },
      clock: batch.clockEvent() ?? head.clock,
      sequence: batch.sequence,
      chain: batch.chain,
      gaps: gap ? [...head.gaps, gap] : head.gaps,
    };
    let bytes = 0;
    const objects: string[] = [];
    if (batch.lsnEnd > batch.lsnStart) {
      const { timeline, stream, generation } = head;
      const finished = segmentOfLog(
        { versions: batch.versions, events: batch.allEvents(), streams: batch.streams() },
        { archive: this.archive.id, timeline, generation },
      );
      const name = segmentName(timeline, stream, 0, batch.lsnStart, batch.lsnEnd, generation);
      await this.archive.store.create(name, finished.bytes);
      objects.push(name);
      bytes = finished.bytes.length;
      next = {
        ...next,
        runs: [...next.runs, runOf(0, batch.lsnStart, batch.lsnEnd, [segmentRefOf(name, finished)])],
        marks: [...next.marks, ...batch.marks].slice(-HEAD_MARKS_MAX),
      };
    }
    await this.#held.publishWith(head, next, objects);
    this.#continuity.shipped(next.sequence);
    await writeArchived(this.dir, { lsn: next.frontier.lsn, sequence: next.sequence });
    if (gap) this.#emit({ kind: 'gap', stream: this.identity.stream, gap });
    if (bytes > 0)
      this.#emit({
        kind: 'archived',
        stream: this.identity.stream,
        versions: batch.versions.length,
        bytes,
        frontierTs: next.frontier.ts,
      });
    return batch.versions.length;
  }

  async #deleteRetired(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const failed = await this.#held.deleteRetired(nowMs - (this.#options.retireMs ?? RETIRE_MS), nowMs);
    if (failed.length === 0) return;
    const [{ name, cause }] = failed;
    throw new PitrError(
      'io',
      { op: 'delete', path: name, why: `${failed.length} objects could not be deleted` },
      { cause },
    );
  }

  #emit(event: ArchiverEvent): void {
    this.#options.onEvent?.(event);
  }
}

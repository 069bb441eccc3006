import { join } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { type Clock, systemClock } from '../engine/clock.ts';
import { acquireDirectoryLock, type DirectoryLock, isLocked } from '../engine/directory-lock.ts';
import { writerLockPath } from '../engine/engine-core.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../engine/identity.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import { Archive, segmentName } from './archive.ts';
import { writeArchived } from './archived.ts';
import { emptyHead, type Gap, HEAD_MARKS_MAX, type Head, replaceRuns, runOf } from './catalog.ts';
import { FANOUT, mergeRuns, runsToMerge } from './compaction.ts';
import { Engine } from './engine.ts';
import { LOG_DIR } from './local-log.ts';
import { logFilesIn } from './log-file.ts';
import { LogReader } from './log-reader.ts';
import { segmentOfLog } from './log-segment.ts';
import { segmentRefOf } from './segment-writer.ts';
import { withEngine } from './timeline.ts';

/** Versions that one level-0 segment takes when several files wait: bounds memory while catching up. */
const CATCH_UP_VERSIONS = 200_000;
/** Looks at the directory this often even when the watcher says nothing. */
const POLL_MS = 1000;
/** Objects that a merge replaced are deleted after this time. */
const RETIRE_MS = 10 * 60 * 1000;

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

/**
 * Ships the sealed log files of one engine directory into the archive and states the stream's frontier there. The one archiver
 * of its stream: a kernel-held lock on this machine, a writer generation in the catalog head everywhere.
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
  #head: Head;
  #tag: string;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #queued = false;
  #stopped = false;

  private constructor(
    dir: string,
    identity: EngineIdentity,
    archive: Archive,
    lock: DirectoryLock,
    options: ArchiverOptions,
    head: Head,
    tag: string,
  ) {
    this.dir = dir;
    this.identity = identity;
    this.archive = archive;
    this.#lock = lock;
    this.#options = options;
    this.#files = options.files ?? nodeFiles;
    this.#clock = options.clock ?? systemClock;
    this.#head = head;
    this.#tag = tag;
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
      const { head, tag } = await claim(archive, identity);
      return new Archiver(dir, identity, archive, lock, options, head, tag);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** The head as this archiver last published it. */
  get head(): Head {
    return this.#head;
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

  /** One round: adopt the log of a dead or closed writer, ship, compact. Rounds never overlap. */
  round(): Promise<void> {
    const work = this.#working.then(() => this.#work(true));
    this.#working = work.catch(() => undefined);
    return work;
  }

  /** Ships sealed files that the archive does not have. Returns the number of versions. */
  async archivePending(): Promise<number> {
    let versions = 0;
    for (;;) {
      const shipped = await this.#shipNext();
      if (shipped === undefined) return versions;
      versions += shipped;
    }
  }

  /**
   * When no writer has the directory: opens the engine, which repairs and seals its log under the writer's own lock and states
   * the frontier, and closes it again.
   */
  async adopt(): Promise<boolean> {
    if (isLocked(writerLockPath(this.dir))) return false;
    try {
      const engine = await Engine.open({
        dir: this.dir,
        sealMs: 0,
        lockWaitMs: 0,
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

  /** Merges until the number of runs is within bounds, and deletes what earlier merges replaced. */
  async compact(fanout = this.#options.fanout ?? FANOUT): Promise<number> {
    let merges = 0;
    for (let runs = runsToMerge(this.#head.runs, fanout); runs; runs = runsToMerge(this.#head.runs, fanout)) {
      if (this.#stopped) break;
      const merged = await mergeRuns(this.archive, this.#head, runs);
      const names = runs.flatMap((r) => r.segments.map((s) => s.name));
      await this.#publish({
        ...this.#head,
        runs: replaceRuns(this.#head.runs, runs, merged),
        retired: [...this.#head.retired, { names, sinceMs: this.#clock.nowMs() }],
      });
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

  async close(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#watcher?.close();
    await this.#working;
    this.#lock.release();
  }

  /** Adopting seals a file, and a sealed file kicks: only the timer adopts, or the two would chase each other. */
  #kick(adopt: boolean): void {
    if (this.#queued || this.#stopped) return;
    this.#queued = true;
    this.#working = this.#working.then(async () => {
      this.#queued = false;
      if (this.#stopped) return;
      try {
        await this.#work(adopt);
      } catch (error) {
        this.#emit({ kind: 'error', stream: this.identity.stream, error });
      }
    });
  }

  async #work(adopt: boolean): Promise<void> {
    let failure: unknown;
    // an engine that does not open any more is no reason to leave its sealed files unarchived
    if (adopt)
      await this.adopt().catch((error) => {
        failure = error;
      });
    await this.archivePending();
    await this.compact();
    if (failure) throw failure;
  }

  async #shipNext(): Promise<number | undefined> {
    const dir = join(this.dir, LOG_DIR);
    const names = await this.#files.list(dir).catch((cause) => {
      if (cause.code === 'ENOENT') return [];
      throw new PitrError('io', { op: 'list', path: dir, why: cause.code }, { cause });
    });
    const waiting = logFilesIn(names).filter((f) => f.sealed && f.sequence > this.#head.sequence);
    if (waiting.length === 0) return undefined;
    const batch = new LogReader(this.identity, this.#head);
    let bytesRead = 0;
    for (const { name, sequence } of waiting) {
      // a missing file ends the batch: the next one begins with the gap
      if (batch.sequence > 0 && sequence !== batch.sequence + 1) break;
      const path = join(dir, name);
      const bytes = await this.#files.read(path);
      batch.read(bytes, path, sequence);
      bytesRead += bytes.length;
      if (batch.versions.length >= CATCH_UP_VERSIONS || bytesRead >= 64 * 1024 * 1024) break;
    }
    const { clock, gap } = batch;
    if (!clock)
      throw new PitrError('log-corrupt', { path: dir, offset: 0, why: 'a sealed file without clock frame' });
    let next: Head = {
      ...this.#head,
      frontier: { ts: Math.max(clock.ts, this.#head.frontier.ts), lsn: batch.lsnEnd - 1 },
      clock: batch.clockEvent() ?? this.#head.clock,
      sequence: batch.sequence,
      gaps: gap ? [...this.#head.gaps, gap] : this.#head.gaps,
    };
    let bytes = 0;
    if (batch.lsnEnd > batch.lsnStart) {
      const { timeline, stream, generation } = this.#head;
      const finished = segmentOfLog(
        { versions: batch.versions, events: batch.allEvents(), streams: batch.streams() },
        { archive: this.archive.id, timeline, generation },
      );
      const name = segmentName(timeline, stream, 0, batch.lsnStart, batch.lsnEnd, generation);
      await this.archive.store.create(name, finished.bytes);
      bytes = finished.bytes.length;
      next = {
        ...next,
        runs: [...next.runs, runOf(0, batch.lsnStart, batch.lsnEnd, [segmentRefOf(name, finished)])],
        marks: [...next.marks, ...batch.marks].slice(-HEAD_MARKS_MAX),
      };
    }
    await this.#publish(next);
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

  async #publish(head: Head): Promise<void> {
    const next = { ...head, updatedMs: this.#clock.nowMs() };
    try {
      this.#tag = await this.archive.swapHead(this.#tag, next);
      this.#head = next;
    } catch (error) {
      // a head of our generation is our own: an earlier swap had its effect although all its answers were lost
      const now = isPitrError(error, 'cas-conflict')
        ? await this.archive.head(next.timeline, next.stream)
        : undefined;
      if (now?.value.generation === next.generation) {
        this.#tag = now.tag as string;
        this.#head = now.value;
      }
      throw error;
    }
  }

  async #deleteRetired(): Promise<void> {
    const before = this.#clock.nowMs() - (this.#options.retireMs ?? RETIRE_MS);
    const due = this.#head.retired.filter((r) => r.sinceMs <= before);
    if (due.length === 0) return;
    // our generation must still be current when something is deleted: publishing the boundary first proves it
    await this.#publish({ ...this.#head, retired: this.#head.retired.filter((r) => !due.includes(r)) });
    await this.archive.store.delete(due.flatMap((r) => r.names));
  }

  #emit(event: ArchiverEvent): void {
    this.#options.onEvent?.(event);
  }
}

/** Raises the writer generation, or makes the first head. From here on an older archiver can publish nothing. */
const claim = async (archive: Archive, identity: EngineIdentity): Promise<{ head: Head; tag: string }> => {
  for (;;) {
    const found = await archive.head(identity.timeline, identity.stream);
    const { engineId, stream, timeline } = identity;
    if (found && found.value.engineId !== engineId) throw new PitrError('stream-taken', { stream });
    const head = found
      ? { ...found.value, generation: found.value.generation + 1 }
      : emptyHead({ archive: archive.id, timeline, stream, engineId, generation: 1 });
    try {
      return { head, tag: await archive.swapHead(found?.tag, head) };
    } catch (error) {
      if (!isPitrError(error, 'cas-conflict') && !isPitrError(error, 'fenced')) throw error;
    }
  }
};

import { existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type FSWatcher, watch } from 'chokidar';
import { type Clock, systemClock } from '../engine/clock.ts';
import { type HeldLock, kernelLocks, writerLockPath } from '../engine/directory-lock.ts';
import { isPitrError, PitrError } from '../engine/errors.ts';
import { type Files, nodeFiles } from '../engine/files.ts';
import { type EngineIdentity, readIdentity } from '../engine/identity.ts';
import { countedStore } from '../engine/request-tally.ts';
import { Archive, storeOf } from './archive.ts';
import { readArchived } from './archived.ts';
import type { Alone, ArchiverEvent, ArchiverOptions } from './archiver-types.ts';
import { type Head, RETIRE_MS, replaceRuns, withWritten } from './catalog.ts';
import { Compaction, type CompactRequest, knownNames } from './compaction.ts';
import { CompactionPace } from './compaction-pace.ts';
import { Continuity } from './continuity.ts';
import { Engine } from './engine.ts';
import { clearFenced, writeFenced } from './fenced.ts';
import { type Deletion, HeldHead } from './held-head.ts';
import { LeaseWatch } from './lease.ts';
import { LOG_DIR } from './local-log.ts';
import { logFilesIn } from './log-file.ts';
import { MergePool } from './merge-pool.ts';
import { assertSameEngine, Outage, type OutageReport } from './outage.ts';
import type { Run } from './segment.ts';
import { SEAL_MS, ShipPace } from './ship-pace.ts';
import { SHIP_REQUEST_FILE, takeShipRequest } from './ship-request.ts';
import { SHIP_LIMITS } from './shipment.ts';
import { Shipper } from './shipper.ts';
import { withEngine } from './timeline.ts';

export type { Alone, ArchiverEvent, ArchiverOptions } from './archiver-types.ts';

/** Looks at the directory this often even when the watcher says nothing. */
const POLL_MS = 1000;
/** After a merge that failed, compaction rests this long, then twice as long, up to the longest. */
const REST_MS = 1000;
const REST_MAX_MS = 10 * 60 * 1000;

/**
 * Ships the sealed log files of one engine directory into the archive and states the stream's frontier there. The one archiver
 * of its stream: a kernel-held lock on this machine, a writer generation in the catalog head everywhere.
 *
 * Everything that touches the head, the log or the store is a job on one queue: rounds, the methods here, base copies. Merging
 * goes on beside it and only publishes its result there, so that the frontier moves on while a large merge runs.
 */
export class Archiver {
  readonly dir: string;
  readonly identity: EngineIdentity;
  readonly archive: Archive;
  readonly #options: ArchiverOptions;
  readonly #files: Files;
  readonly #clock: Clock;
  readonly #lock: HeldLock;
  readonly #held: HeldHead;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** The newest job, or what is left of it: each begins when the one before has ended. */
  #queue: Promise<unknown> = Promise.resolve();
  #queued = false;
  #stopped = false;
  #fenced: PitrError | undefined;
  /** That it was fenced is being written down; that an earlier one was is being forgotten. */
  #word: Promise<void> | undefined;
  #forgetting: Promise<void> | undefined;
  readonly #shipper: Shipper;
  readonly #pace: ShipPace;
  /** Fires when what was sealed too early to be shipped is due. */
  #due: NodeJS.Timeout | undefined;
  #isAdoptDue = false;
  readonly #compaction: Compaction;
  readonly #compactionPace: CompactionPace;
  readonly #leases: LeaseWatch;
  #merging = false;
  /** Failed merges in a row, and until when compaction rests. */
  #failures = 0;
  #restUntilMs = 0;
  readonly #outage: Outage;
  readonly #succeededMs: { ship?: number; compaction?: number } = {};

  private constructor(
    dir: string,
    identity: EngineIdentity,
    archive: Archive,
    lock: HeldLock,
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
    this.#shipper = new Shipper({
      dir,
      identity,
      archive,
      held,
      files: this.#files,
      limits: { ...SHIP_LIMITS, ...options.ship },
      emit: (event) => this.#emit(event),
    });
    this.#pace = new ShipPace(dir, this.#files, this.#clock, held.current.sealMs ?? SEAL_MS);
    this.#leases = new LeaseWatch(archive, this.#clock);
    this.#compaction = new Compaction(
      {
        archive,
        // a store that was passed in is known to this thread only
        pool: new MergePool(
          archive,
          options.store ? Number.POSITIVE_INFINITY : options.threadBytes,
          options.observe,
        ),
        head: () => this.head,
        publish: (inputs, merged, objects) =>
          this.#enqueue(() => this.#publishMerged(inputs, merged, objects)),
        discard: (objects) => this.#enqueue(() => held.discard(objects)),
        merged: (inputs, { level, segments }) =>
          this.#emit({
            kind: 'merged',
            stream: identity.stream,
            runs: inputs.length,
            level,
            versions: segments.reduce((n, s) => n + s.rows, 0),
            bytes: segments.reduce((n, s) => n + s.bytes, 0),
          }),
      },
      options,
    );
    this.#compactionPace = new CompactionPace({ fanout: options.fanout, retireMs: this.#retireMs });
    this.#outage = new Outage(dir, this.#clock, this.#files);
  }

  /**
   * Takes the stream, from whoever has it, unless the log of this directory does not continue what is archived (A8).
   * @throws agent-busy, archive-not-found, archive-mismatch, log-rolled-back, head-missing, usage when the engine has no archive
   */
  static async open(dir: string, options: ArchiverOptions = {}): Promise<Archiver> {
    const identity = await readIdentity(dir, options.files);
    if (!identity.archive)
      throw new PitrError('usage', {
        what: `the engine in ${dir} has no archive`,
        hint: 'make one with: pitr init DIR --archive URL',
      });
    const lock = await (options.locks ?? kernelLocks).acquire(join(dir, 'agent.lock'), {
      waitMs: 200,
    });
    if (!lock) throw new PitrError('agent-busy', { stream: identity.stream, dir });
    try {
      const clock = options.clock ?? systemClock;
      const place = options.store ?? options.url ?? identity.archive.url;
      const store = countedStore(storeOf(place, options.observe));
      const archive = await Archive.open(store, { clock });
      if (archive.id !== identity.archive.id)
        throw new PitrError('archive-mismatch', {
          what: dir,
          actual: identity.archive.id,
          expected: archive.id,
        });
      await archive.updateTimelines((all) => withEngine(all, identity, clock.nowMs()));
      const continuity = new Continuity(join(dir, LOG_DIR), options.files ?? nodeFiles);
      const held = await HeldHead.claim(archive, identity, clock, {
        // read after the head: whatever has been archived of this directory is there, or a newer file
        mayTake: (head) => continuity.checkNow(head),
        // one that began anew would have all that was archived swept
        mayBegin: async () => {
          const { stream, timeline } = identity;
          const { lsn } = await readArchived(dir, options.files ?? nodeFiles);
          if (lsn > 0)
            throw new PitrError('head-missing', { stream, name: archive.headName(timeline, stream), lsn });
        },
        sealMs: options.sealMs,
        tally: store.tally,
      });
      await forgetFenced(dir, options.files ?? nodeFiles);
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

  /** When a round last ended without a failure, and when compaction last had nothing left to merge, ms; absent: not yet. */
  get succeededMs(): { readonly ship?: number; readonly compaction?: number } {
    return this.#succeededMs;
  }

  /** Watches the directory and archives what is sealed there until {@link close}. */
  start(): void {
    const logDir = join(this.dir, LOG_DIR);
    // of a folder that is made later, not everything is heard; whoever opens the engine finds it made and makes it durable
    if (existsSync(this.dir)) mkdirSync(logDir, { recursive: true });
    this.#watcher = watch(logDir, { depth: 0, ignoreInitial: true });
    // not its event "add", which leaves out what follows another change of the folder within 5 ms, as a seal follows the next file
    this.#watcher.on('raw', (_event, path) => {
      const name = basename(path ?? '');
      const [file] = logFilesIn([name]);
      const isNew = file?.sealed === true && file.sequence > this.head.sequence;
      if (isNew || name === SHIP_REQUEST_FILE) this.#kick(false);
    });
    this.#watcher.on('error', (error) => this.#emit({ kind: 'error', stream: this.identity.stream, error }));
    this.#timer = setInterval(() => this.#kick(true), POLL_MS);
    this.#kick(true);
  }

  /** One round: adopt the log of a dead or closed writer, ship, compact. */
  async round(): Promise<void> {
    const failure = await this.#enqueue(() => this.#work(true));
    await this.compact();
    if (failure) throw failure;
  }

  /** A round without merging, which may take long: what is to be done before {@link close}. */
  async finish(): Promise<void> {
    const failure = await this.#enqueue(() => this.#work(true));
    if (failure) throw failure;
  }

  /** Ships sealed files that the archive does not have. Returns the number of versions. */
  archivePending(): Promise<number> {
    return this.#enqueue(() => this.#ship());
  }

  /**
   * When no writer has the directory: opens the engine, which repairs and seals its log under the writer's own lock and states
   * the frontier, and closes it again. Does nothing where the writer is not an engine (`adopt: false`).
   */
  adopt(): Promise<boolean> {
    return this.#enqueue(() => this.#adopt());
  }

  /**
   * Merges until the number of runs is within bounds, or all of a stretch is one run, and deletes what earlier merges replaced.
   * Returns the number of merges.
   * @throws verification-failed when what was written is not what went in: the originals stay
   */
  async compact(request: CompactRequest = {}): Promise<number> {
    this.#assertOpen();
    const merges = await this.#compaction.run(request).catch((error) => {
      // the note of an unfinished merge may tell before the head does
      throw isPitrError(error, 'fenced') ? this.#stopFenced(error) : error;
    });
    await this.#enqueue(() => this.#deleteRetired());
    this.#succeededMs.compaction = this.#clock.nowMs();
    return merges;
  }

  /**
   * Runs `job` while nothing else of this archiver does: no engine is opened to adopt its log, nothing is shipped. In the job
   * only `own` may be used; this object's methods would wait for the job itself.
   */
  exclusively<T>(job: (own: Alone) => Promise<T>): Promise<T> {
    return this.#enqueue(() => job({ archivePending: () => this.#ship() }));
  }

  /** Deletes segments of this stream that nothing names; others are left alone. With none it only proves that the stream is ours. */
  sweep(names: readonly string[]): Promise<Deletion> {
    return this.#enqueue(() =>
      this.#held.sweep(
        names,
        async (head) => new Set([...(await knownNames(this.archive, head)), ...this.#compaction.writing]),
      ),
    );
  }

  /** Tells who listens to this archiver of something that was done beside it. */
  tell(event: ArchiverEvent): void {
    this.#emit(event);
  }

  /** Waits for the jobs that were asked for, ends a merge that runs wherever it is, and lets go of the stream. */
  async close(): Promise<void> {
    this.#stopped = true;
    await this.#unwatch();
    await this.#compaction.close();
    await this.#queue;
    await this.#word;
    this.#lock.release();
  }

  get #retireMs(): number {
    return this.#options.retireMs ?? RETIRE_MS;
  }

  #assertOpen(): void {
    // the lock is gone, or will be when the queue has ended
    if (this.#stopped)
      throw new PitrError('interrupted', { what: `archiving of stream ${this.identity.stream}` });
    if (this.#fenced) throw this.#fenced;
  }

  async #enqueue<T>(job: () => Promise<T>): Promise<T> {
    this.#assertOpen();
    const work = this.#queue.then(async () => {
      if (this.#fenced) throw this.#fenced;
      try {
        return await job();
      } catch (error) {
        throw isPitrError(error, 'fenced') ? this.#stopFenced(error) : error;
      }
    });
    this.#queue = work.catch(() => undefined);
    return work;
  }

  /** Returns what everybody is told from now on. */
  #stopFenced(error: PitrError): PitrError {
    // a merge and what is on the queue may both find out
    if (this.#fenced) return this.#fenced;
    this.#fenced = error;
    void this.#unwatch();
    this.#word = this.#leaveWord(Number(error.facts.current));
    this.#emit({ kind: 'error', stream: this.identity.stream, error });
    return error;
  }

  /** For `pitr status`: this process ends, and what the directory has logged since is not archived. */
  async #leaveWord(current: number): Promise<void> {
    const { frontier, sequence, generation: mine } = this.head;
    const report = { sinceMs: this.#clock.nowMs(), mine, current, lsn: frontier.lsn, sequence };
    try {
      await this.#forgetting;
      await assertSameEngine(this.dir, this.identity, this.#files);
      await writeFenced(this.dir, report, this.#files);
    } catch (error) {
      // the exit code and the log of the agent say it as well
      this.#emit({ kind: 'error', stream: this.identity.stream, error });
    }
  }

  async #unwatch(): Promise<void> {
    clearInterval(this.#timer);
    clearTimeout(this.#due);
    await this.#watcher?.close();
  }

  async #adopt(): Promise<boolean> {
    const { files, locks, openStore } = this.#options;
    if (this.#options.adopt === false) return false;
    if ((locks ?? kernelLocks).isLocked(writerLockPath(this.dir))) return false;
    try {
      const engine = await Engine.open({
        dir: this.dir,
        sealMs: 0,
        lockWaitMs: 0,
        // it is open for a moment only: who wants something of a writer waits for the lock instead
        door: false,
        clock: this.#clock,
        files,
        locks,
        openStore,
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

  async #publishMerged(inputs: readonly Run[], merged: Run, objects: readonly string[]): Promise<void> {
    const { head } = this;
    const names = inputs.flatMap((r) => r.segments.map((s) => s.name));
    const next: Head = {
      ...head,
      runs: replaceRuns(head.runs, inputs, merged),
      retired: [...head.retired, { names, sinceMs: this.#clock.nowMs(), leases: null }],
      written: withWritten(head.written, 'merges', merged.segments),
    };
    await this.#held.publishWith(head, next, objects);
  }

  /** Compaction beside everything else. One at a time; a failure is said and tried again after a rest. */
  #compactBeside(): void {
    if (this.#merging || this.#stopped || this.#fenced || performance.now() < this.#restUntilMs) return;
    const nowMs = this.#clock.nowMs();
    if (this.#compactionPace.isSettled(this.head, nowMs, performance.now())) {
      this.#succeededMs.compaction = nowMs;
      return;
    }
    this.#merging = true;
    // what is published meanwhile was not looked at
    const before = this.head;
    this.compact()
      .then((merges) => {
        this.#failures = 0;
        if (merges === 0) this.#compactionPace.settled(before, performance.now());
      })
      .catch((error) => {
        if (this.#stopped || error === this.#fenced) return;
        this.#restUntilMs = performance.now() + Math.min(REST_MAX_MS, REST_MS * 2 ** this.#failures++);
        this.#emit({ kind: 'error', stream: this.identity.stream, error });
      })
      .finally(() => {
        this.#merging = false;
      });
  }

  /** Adopting seals a file, and a sealed file kicks: only the timer adopts, or the two would chase each other. */
  #kick(adopt: boolean): void {
    if (this.#queued || this.#stopped || this.#fenced || !this.#outage.isDue) return;
    this.#queued = true;
    this.#enqueue(async () => {
      this.#queued = false;
      const failure = this.#stopped || (await this.#isEarly(adopt)) ? undefined : await this.#work(adopt);
      this.#compactBeside();
      if (failure) throw failure;
    }).catch((error) => {
      // that it was fenced has been said
      if (error !== this.#fenced) this.#emit({ kind: 'error', stream: this.identity.stream, error });
    });
  }

  /** What was sealed waits for more of it; then the same kick comes again. */
  async #isEarly(adopt: boolean): Promise<boolean> {
    // what did not work is tried again when that is due, and by then somebody may wait for it
    if (this.#outage.report) return false;
    const ms = await this.#pace.waitMs(this.head.sequence);
    clearTimeout(this.#due);
    if (ms === 0 || this.#stopped) return false;
    this.#isAdoptDue ||= adopt;
    this.#due = setTimeout(() => this.#kick(this.#isAdoptDue), ms);
    return true;
  }

  async #ship(): Promise<number> {
    const startMs = this.#clock.nowMs();
    const { sequence } = this.head;
    await takeShipRequest(this.dir, this.#files);
    const versions = await this.#shipper.shipAll();
    if (this.head.sequence > sequence) this.#pace.shipped(startMs);
    return versions;
  }

  /** Returns why adopting failed, if it did. */
  async #work(adopt: boolean): Promise<unknown> {
    let failure: unknown;
    try {
      await assertSameEngine(this.dir, this.identity, this.#files);
      if (adopt) this.#isAdoptDue = false;
      // an engine that does not open any more is no reason to leave its sealed files unarchived
      if (adopt)
        await this.#adopt().catch((error) => {
          failure = error;
        });
      await this.#ship();
    } catch (error) {
      if (!isPitrError(error, 'fenced')) await this.#outage.failed(error);
      throw error;
    }
    if (failure) await this.#outage.failed(failure, true);
    else {
      this.#succeededMs.ship = this.#clock.nowMs();
      await this.#outage.ended();
    }
    // of one that shared this directory from another host and woke up after this one had taken the stream; not its own
    if (!this.#fenced) this.#forgetting = forgetFenced(this.dir, this.#files);
    await this.#forgetting;
    return failure;
  }

  async #deleteRetired(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const beforeMs = nowMs - this.#retireMs;
    const failed = await this.#held.deleteRetired(beforeMs, nowMs, () => this.#leases.held());
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

/** What cannot be removed only keeps a status from being green. */
const forgetFenced = (dir: string, files: Files): Promise<void> =>
  clearFenced(dir, files).catch(() => undefined);

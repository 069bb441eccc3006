import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { listSnapshots } from '../../snapshot/snapshots.ts';
import { copySource, needsCopy, publishCopy, type SourceCopy } from '../../snapshot/source-copy.ts';
import type { Archiver } from '../../wal/archiver.ts';
import type { PollReport } from '../../wal/capture/aerospike/poll-report.ts';
import { Poller } from '../../wal/capture/aerospike/poller.ts';
import type { Journal } from '../../wal/capture/journal.ts';
import type { CaptureEvents, CaptureRun } from './capture-run.ts';
import { ClusterStatus } from './cluster-status.ts';
import { Turn } from './turn.ts';

/** First wait after a failure, and the longest, ms. */
const BACKOFF_MS = 500;
const BACKOFF_MS_MAX = 15_000;
/** Until the next poll after one that stated no frontier, at most. */
const UNSTATED_MS = 1000;
/** By how much the log may be ahead of a copy that waits. */
const COPY_WAITS_MS = 5000;
/** How long a single look waits for what the frontier waits for. */
const ONCE_MS = 60_000;

/** What a journal says of its base copy when it needs none. */
const NO_COPY = { state: 'published', snapshot: '' } as const;

export interface ClusterRunOptions {
  readonly journal: Journal;
  readonly archiver: Archiver;
  readonly client: Omit<ClientOptions, 'timing' | 'random'>;
  readonly pollMs: number;
  readonly groups: number;
  readonly events: CaptureEvents;
}

/**
 * Captures a cluster into one directory: connects, makes the base copy when there is none that counts, polls. What fails is tried again;
 * what ends it is a log that takes nothing more.
 */
export class ClusterRun implements CaptureRun {
  readonly journal: Journal;
  readonly #options: ClusterRunOptions;
  readonly #status: ClusterStatus;
  readonly #turn = new Turn();
  readonly #stop = new AbortController();
  #copy: SourceCopy | undefined;
  #poller: Poller | undefined;
  #failures = 0;
  /** The last one is nothing to go on with. */
  #isCopyDue = false;
  /** Gaps that a base copy has bridged. */
  #gapsKnown = 0;

  constructor(options: ClusterRunOptions) {
    this.#options = options;
    this.journal = options.journal;
    this.#status = new ClusterStatus(options.journal, options.archiver.archive.clock);
  }

  /**
   * Everything that was done before this call is in the log, and the frontier is behind it. Two polls at least: a delete is known to lie between a
   * poll that counted the record and the end of the one that missed it, which is after the frontier of that one.
   */
  async seal(): Promise<{ lsn: number; ts: number }> {
    await this.#passed();
    return { lsn: this.journal.lastLsn, ts: this.journal.frontierTs };
  }

  /** Until the frontier is behind everything that a poll after this call has found. */
  async #passed(): Promise<void> {
    await this.#turn.next();
    const { newestTs } = this.journal;
    do await this.#turn.next();
    while (this.journal.frontierTs < newestTs);
  }

  async mark(name: string): Promise<{ name: string; lsn: number; ts: number }> {
    if (!/^[\w.:-]{1,128}$/.test(name))
      throw new PitrError('usage', {
        what: `bad mark name "${name}"`,
        hint: 'letters, digits and _ . : -, at most 128',
      });
    await this.#passed();
    this.#turn.mark(name);
    await this.#turn.next();
    return { name, lsn: this.journal.lastLsn, ts: this.journal.frontierTs };
  }

  /** Until {@link stop}, or an error that only opening the directory anew can end. @throws log-full, log-corrupt, … */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      let client: AerospikeClient | undefined;
      try {
        client = await AerospikeClient.connect(this.#options.client);
        await this.#capture(client, false);
      } catch (error) {
        await this.#failed(error);
      } finally {
        await client?.close();
      }
    }
  }

  /** Base copy if there has to be one, one poll, and the copy published. */
  async once(): Promise<void> {
    const client = await AerospikeClient.connect(this.#options.client);
    try {
      await this.#capture(client, true);
    } finally {
      await client.close();
    }
  }

  stop(): void {
    this.#stop.abort();
    this.#turn.over(new PitrError('interrupted', { what: 'the capture' }));
  }

  async #capture(client: AerospikeClient, isOnce: boolean): Promise<void> {
    const { pollMs, groups } = this.#options;
    const { signal } = this.#stop;
    const begunMs = performance.now();
    let partitions = '';
    this.#poller = undefined;
    while (!signal.aborted) {
      const startedMs = performance.now();
      if (partitions !== this.journal.partitions.toString() || !this.#poller) {
        partitions = this.journal.partitions.toString();
        this.#poller = new Poller(client, this.journal, { groups });
      }
      if (this.journal.partitions.size === 0) await this.#beginEmpty(this.#poller);
      else if (await this.#needsCopy()) {
        await this.#makeCopy(this.#poller);
        this.#poller = new Poller(client, this.journal, { groups });
        this.#poller.copied();
      }
      const turn = this.#turn.begin();
      this.#poller.mark(turn.marks);
      const report = await this.#poller.poll(signal).catch((error: unknown) => {
        // who waits for it waits for the one that is tried again, maybe by another client
        this.#turn.putBack(turn);
        throw error;
      });
      this.#failures = 0;
      this.#report(report);
      if (report.copyAgain !== undefined) {
        this.#options.events.copyAgain(report.copyAgain);
        this.#copy = undefined;
        this.#isCopyDue = true;
        this.#turn.putBack(turn);
        continue;
      }
      if (report.isStated) this.#turn.end(turn);
      else this.#turn.putBack(turn);
      if (this.#copy && report.isStated) await this.#publish(this.#copy);
      if (isOnce && report.isStated) return;
      if (isOnce && performance.now() - begunMs > ONCE_MS)
        throw new PitrError('wait-timeout', {
          seconds: ONCE_MS / 1000,
          what: `the cluster: ${[...report.waitsFor, ...report.doubts].join('; ') || 'its clock does not go on'}`,
        });
      // what is asked for does not wait for the next poll's time
      // nothing was stated: what it waits for may be over soon
      const paceMs = report.isStated ? pollMs : Math.min(pollMs, UNSTATED_MS);
      const waitMs = paceMs - (performance.now() - startedMs);
      if (waitMs > 0) await this.#turn.wait(waitMs, signal);
    }
  }

  /** There is none that counts, or the log has a gap behind it. */
  async #needsCopy(): Promise<boolean> {
    const { archiver } = this.#options;
    if (this.#copy) return false;
    if (this.#isCopyDue || (await needsCopy(archiver.archive, this.journal))) return true;
    const { gaps } = archiver.head;
    if (gaps.length === this.#gapsKnown) return false;
    const { stream, timeline } = this.journal.identity;
    const bases = (await listSnapshots(archiver.archive, timeline)).filter((s) => s.kind === 'base');
    const newest = bases.filter(
      (s) => s.partitions === undefined || s.partitions === this.journal.partitions.toString(),
    );
    const isBridged = gaps.every((g) => g.untilTs <= (newest.at(-1)?.endTs ?? -1));
    if (isBridged) this.#gapsKnown = gaps.length;
    else this.#options.events.gap(stream);
    return !isBridged;
  }

  /** Without partitions it waits for a hand-over: what comes with that is its beginning. */
  async #beginEmpty(poller: Poller): Promise<void> {
    if (this.journal.frontierTs > 0) return;
    const { clockMs } = await poller.prepare();
    this.journal.keep({ base: NO_COPY });
    await this.journal.loaded(new ContentDigest(this.journal.identity.shards), clockMs);
  }

  async #makeCopy(poller: Poller): Promise<void> {
    const { archiver, client, events } = this.#options;
    this.#status.copying();
    let { clockMs } = await poller.prepare();
    // a clock of whole seconds is behind what the log has: soon it is not
    while (clockMs < this.journal.newestTs && this.journal.newestTs < clockMs + COPY_WAITS_MS) {
      await sleep(UNSTATED_MS / 4, undefined, { signal: this.#stop.signal });
      ({ clockMs } = await poller.prepare());
    }
    events.copying(clockMs);
    this.#copy = await copySource(archiver.archive, this.journal, {
      client,
      clockMs,
      signal: this.#stop.signal,
      onProgress: (records, expected) => events.copied(records, expected),
    });
    this.#isCopyDue = false;
    this.#status.copied(this.#copy.leftOut.records);
  }

  /** The frontier is stated: once the archive has it, the copy is the beginning of what can be restored. */
  async #publish(copy: SourceCopy): Promise<void> {
    const { archiver, events } = this.#options;
    const endTs = this.journal.frontierTs;
    const entry = await publishCopy(archiver.archive, this.journal, copy, endTs, async (ts) => {
      if (archiver.head.frontier.ts >= ts) return;
      await archiver.archivePending();
      if (archiver.head.frontier.ts < ts)
        throw new PitrError('internal', { what: `a base copy that ends at ${ts}, which no seal covers` });
    });
    this.#copy = undefined;
    events.baseCopy(entry.id, copy.records);
  }

  #report(report: PollReport): void {
    this.#status.polled(report, this.#copy !== undefined);
    this.#options.events.polled(report);
  }

  /** @throws what only opening the directory anew can end */
  async #failed(error: unknown): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#status.failing(error);
    if (error instanceof PitrError && (error.id.startsWith('log-') || error.id === 'store-corrupt')) {
      // a log that is full by its quota has not failed
      if (!isPitrError(error, 'log-quota')) throw error;
    }
    this.#options.events.failed(error);
    // what was copied and not published is nothing without the poll that failed; that is done again
    const waitMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** Math.min(this.#failures++, 10));
    await sleep(waitMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
  }
}

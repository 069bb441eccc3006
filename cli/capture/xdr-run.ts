import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from '../../engine/errors.ts';
import { emptyCopy, needsCopy, publishCopy } from '../../snapshot/source-copy.ts';
import type { Archiver } from '../../wal/archiver.ts';
import {
  type CaptureStatus,
  NO_COST,
  NO_TOTALS,
  writeCaptureStatus,
} from '../../wal/capture/capture-status.ts';
import type { Journal } from '../../wal/capture/journal.ts';
import { XdrCapture, type XdrCaptureOptions } from '../../wal/capture/xdr/xdr-capture.ts';
import type { XdrReport } from '../../wal/capture/xdr/xdr-report.ts';
import type { CaptureEvents, CaptureRun } from './capture-run.ts';

export interface XdrRunOptions {
  readonly archiver: Archiver;
  readonly xdr: XdrCaptureOptions;
  readonly events: CaptureEvents;
}

/** How often it is looked whether the history can begin. */
const LOOK_MS = 200;
/** After a try to publish the beginning. */
const AGAIN_MS = 5000;
/** Status is written this often at least, so that its age says whether somebody is there. */
const STATUS_MS = 1000;

/** Takes what an Enterprise cluster ships into one directory, and begins its history with an empty copy at the first proof. */
export class XdrRun implements CaptureRun {
  readonly journal: Journal;
  readonly #options: XdrRunOptions;
  readonly #stop = new AbortController();
  #capture: XdrCapture | undefined;
  #failure: unknown;

  constructor(options: XdrRunOptions) {
    this.#options = options;
    this.journal = options.xdr.journal;
  }

  /** The frontier is the source's to prove: what is durable is shipped, and no newer one is stated for this. */
  async seal(): Promise<{ lsn: number; ts: number }> {
    return { lsn: this.journal.lastLsn, ts: this.journal.frontierTs };
  }

  mark(): Promise<never> {
    return Promise.reject(
      new PitrError('usage', {
        what: 'a mark in what is shipped by XDR',
        hint: 'restore to a time: every version has its own',
      }),
    );
  }

  async run(): Promise<void> {
    await this.#start();
    await this.#until(() => false);
  }

  /** Until the first proof is published; then it is over. */
  async once(): Promise<void> {
    await this.#start();
    const { archive } = this.#options.archiver;
    await this.#until(async () => !(await needsCopy(archive, this.journal)));
    await this.#end();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #start(): Promise<void> {
    const { xdr, events } = this.#options;
    this.#capture = await XdrCapture.start({
      ...xdr,
      onError: (error) => {
        this.#failure = error;
        events.failed(error);
      },
    });
  }

  /** Publishes the beginning, says how it is; ends with {@link stop}, or with a log that takes nothing more. */
  async #until(isOver: () => boolean | Promise<boolean>): Promise<void> {
    const { archiver, events } = this.#options;
    const { signal } = this.#stop;
    try {
      let againMs = 0;
      for (let saidMs = 0; !signal.aborted && !(await isOver()); ) {
        const report = this.#capture?.report();
        if (!report) return;
        if (report.history.startMs !== undefined && performance.now() >= againMs) {
          againMs = performance.now() + AGAIN_MS;
          if (await needsCopy(archiver.archive, this.journal))
            await this.#publish(report).catch((error) => events.failed(error));
        }
        if (performance.now() - saidMs >= STATUS_MS) {
          saidMs = performance.now();
          await writeCaptureStatus(this.journal.dir, this.#statusOf(report)).catch(() => undefined);
        }
        if (this.#failure instanceof PitrError && this.#failure.id === 'log-full') throw this.#failure;
        await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
      }
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    await this.#capture?.close();
    this.#capture = undefined;
  }

  async #publish({ history: { c0Ts, startMs = 0 } }: XdrReport): Promise<void> {
    const { archiver, events } = this.#options;
    const copy = await emptyCopy(archiver.archive, this.journal, c0Ts);
    const listener = this.#capture?.listener;
    if (!listener) return;
    // its word in the journal comes between two turns of the listener
    const entry = await listener.between(() =>
      publishCopy(archiver.archive, this.journal, copy, startMs, async (ts) => {
        if (archiver.head.frontier.ts >= ts) return;
        await archiver.archivePending();
        if (archiver.head.frontier.ts < ts)
          throw new PitrError('internal', { what: `a history that begins at ${ts}, which no seal covers` });
      }),
    );
    events.baseCopy(entry.id, 0);
  }

  #statusOf({ listener, frontierTs, proof, history, inexact, gaps }: XdrReport): CaptureStatus {
    const { counts, retryWhy, refusals } = listener;
    const state =
      retryWhy !== undefined ? 'failing' : history.startMs === undefined ? 'waiting' : 'capturing';
    const open = gaps.map(
      ({ namespace, sinceMs, untilMs, why }) =>
        `${namespace}: versions may be missing from ${new Date(sinceMs).toISOString()} to ` +
        `${untilMs === undefined ? 'now' : new Date(untilMs).toISOString()} (${why})`,
    );
    return {
      atMs: this.#options.archiver.archive.clock.nowMs(),
      kind: 'xdr',
      url: this.journal.source.url,
      state,
      why: retryWhy ?? (proof.kind === 'proven' ? null : proof.why),
      frontierTs: frontierTs || null,
      pollMs: null,
      totals: { ...NO_TOTALS, versions: counts.versions + counts.deletes, deletes: counts.deletes },
      cost: NO_COST,
      limits: [
        ...inexact,
        ...open,
        ...refusals.map(({ why, code, count }) => `${count} changes were refused with ${code}: ${why}`),
      ],
    };
  }
}

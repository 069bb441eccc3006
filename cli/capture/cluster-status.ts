import type { Clock } from '../../engine/clock.ts';
import type { PollReport } from '../../wal/capture/aerospike/poll-report.ts';
import {
  type CaptureStatus,
  NO_COST,
  NO_TOTALS,
  writeCaptureStatus,
} from '../../wal/capture/capture-status.ts';
import type { Journal } from '../../wal/capture/journal.ts';

/** What the mode of polling cannot know, whatever the cluster (S7). */
const LIMITS = [
  'versions between two polls (generations tell how many)',
  'the instant of a delete (it lies between two polls)',
  'a record that came and went between two polls, or was removed and written again to a higher generation',
];

/** What the agent says of a polled cluster in `capture.json`: written after each poll, lost without harm. */
export class ClusterStatus {
  readonly #journal: Journal;
  readonly #clock: Clock;
  #status: CaptureStatus;
  #writing: Promise<void> = Promise.resolve();

  constructor(journal: Journal, clock: Clock) {
    this.#journal = journal;
    this.#clock = clock;
    this.#status = {
      atMs: clock.nowMs(),
      kind: 'aerospike',
      url: journal.source.url,
      state: 'starting',
      why: null,
      frontierTs: journal.frontierTs || null,
      pollMs: null,
      totals: NO_TOTALS,
      cost: NO_COST,
      limits: LIMITS,
    };
    this.#write();
  }

  copying(): void {
    this.#change({ state: 'copying', why: null });
  }

  /** `unreadable`: records that the copy had to leave out. */
  copied(unreadable: number): void {
    const { totals } = this.#status;
    this.#change({ state: 'waiting', totals: { ...totals, unreadable } });
  }

  failing(error: unknown): void {
    this.#change({ state: 'failing', why: String((error as Error).message ?? error) });
  }

  polled(report: PollReport, isWaiting: boolean): void {
    const { totals } = this.#status;
    const { cost } = report;
    const waits = [...report.waitsFor, ...report.doubts];
    this.#change({
      state: waits.length > 0 ? 'doubting' : isWaiting ? 'waiting' : 'capturing',
      why: waits.length > 0 ? waits.join('; ') : null,
      frontierTs: this.#journal.frontierTs || null,
      pollMs: Math.round(report.elapsedMs),
      totals: {
        versions: totals.versions + report.versions,
        deletes: totals.deletes + report.deleted,
        truncations: totals.truncations + report.truncations,
        late: totals.late + report.late,
        missed: totals.missed + report.missed,
        windows: totals.windows,
        unreadable: Math.max(totals.unreadable, report.unrepresentable),
      },
      cost: {
        queries: cost.scans,
        records: cost.returned + cost.reads,
        filtered: cost.filtered,
        bytes: cost.bytes,
        deviceReads: cost.deviceReads,
        cpuPercent: report.cpuPercent.size === 0 ? null : Math.max(...[...report.cpuPercent.values()]),
      },
      limits: [...LIMITS, ...report.limits],
    });
  }

  /** Resolves when what was said last is written. */
  written(): Promise<void> {
    return this.#writing;
  }

  #change(change: Partial<CaptureStatus>): void {
    this.#status = { ...this.#status, ...change, atMs: this.#clock.nowMs() };
    this.#write();
  }

  #write(): void {
    const status = this.#status;
    // one after another, and what cannot be written is only not shown
    this.#writing = this.#writing
      .then(() => writeCaptureStatus(this.#journal.dir, status))
      .catch(() => undefined);
  }
}

import type { PollReport } from '../../wal/capture/aerospike/poll-report.ts';
import type { Journal } from '../../wal/capture/journal.ts';

/** A source that is captured into one directory. */
export interface CaptureRun {
  readonly journal: Journal;
  /** States a frontier as soon as it can. */
  seal(): Promise<{ lsn: number; ts: number }>;
  mark(name: string): Promise<{ name: string; lsn: number; ts: number }>;
  run(): Promise<void>;
  /** What there is now, and no more. */
  once(): Promise<void>;
  /** Ends `run`; what is under way comes to its end first. */
  stop(): void;
}

/** What happens while a source is captured; never throws. */
export interface CaptureEvents {
  copying(clockMs: number): void;
  copied(records: number, expected: number): void;
  copyAgain(why: string): void;
  gap(stream: string): void;
  baseCopy(id: string, records: number): void;
  polled(report: PollReport): void;
  failed(error: unknown): void;
}

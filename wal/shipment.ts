import { type Gap, HEAD_MARKS_MAX, type Head, type Mark, withWritten } from './catalog.ts';
import type { ClockEvent } from './event.ts';
import type { Run } from './segment.ts';

/** Where the log goes on: what a catalog head says about the end of what it has, or will say. */
export type LogPosition = Pick<Head, 'frontier' | 'sequence' | 'chain'>;

/** Consecutive sealed files of the log on their way into the archive. */
export interface Shipment {
  /** Where the log goes on behind them. */
  readonly end: LogPosition;
  /** Their newest clock frame. */
  readonly clock: ClockEvent | undefined;
  /** What is missing before them. */
  readonly gap: Gap | undefined;
  readonly marks: readonly Mark[];
  readonly versions: number;
  /** Null: nothing but clock frames, and there is no object. */
  readonly run: Run | null;
}

/** Bounds on what is on its way at a time. Left out: the default. */
export interface ShipLimits {
  /** Versions, and bytes of log, that one segment takes. Default 200,000 and 64 MiB. */
  readonly segmentVersions: number;
  readonly segmentLogBytes: number;
  /** Objects that are being created at a time. Default 4. */
  readonly creates: number;
  /** Their bytes together; one that is larger goes alone. Default 64 MiB. */
  readonly createBytes: number;
}

export const SHIP_LIMITS: ShipLimits = {
  segmentVersions: 200_000,
  segmentLogBytes: 64 * 1024 * 1024,
  creates: 4,
  createBytes: 64 * 1024 * 1024,
};

/** Objects that the head lists once the shipment is published. */
export const objectsIn = ({ run }: Shipment): string[] => run?.segments.map((s) => s.name) ?? [];

/** The head with one more shipment, which must begin where the head ends. */
export const headWith = (head: Head, { end, clock, gap, marks, run }: Shipment): Head => {
  const next: Head = {
    ...head,
    ...end,
    clock: clock ?? head.clock,
    gaps: gap ? [...head.gaps, gap] : head.gaps,
  };
  if (!run) return next;
  return {
    ...next,
    runs: [...next.runs, run],
    marks: [...next.marks, ...marks].slice(-HEAD_MARKS_MAX),
    written: withWritten(next.written, 'seals', run.segments),
  };
};

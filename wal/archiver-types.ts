/** What an archiver is told, and what it tells. */
import type { Clock } from '../engine/clock.ts';
import type { Machine } from '../engine/machine.ts';
import type { ObjectStore } from '../engine/object-store.ts';
import type { StoreObserver } from '../engine/store-observer.ts';
import type { Gap } from './catalog.ts';
import type { CompactionOptions } from './compaction.ts';
import type { ShipLimits } from './shipment.ts';

export interface ArchiverOptions extends CompactionOptions, Machine {
  readonly clock?: Clock;
  /** Default: the store of the archive's URL. */
  readonly store?: ObjectStore;
  /** How this process reaches the archive; default: as the engine directory has it. */
  readonly url?: string;
  /** Told of every request to the archive, those of merging threads included. */
  readonly observe?: StoreObserver;
  /** How long what a merge replaced stays at least, ms. Default two minutes; what leases hold stays longer. */
  readonly retireMs?: number;
  /** How often what is sealed is shipped at most, ms; stated in the head. Default: as it is there, or 1 s. */
  readonly sealMs?: number;
  /**
   * False: the directory's log is not an engine's, and is never opened as one: its writer repairs, seals and trims it when it starts
   * again, and until then only what is sealed is shipped. Default true.
   */
  readonly adopt?: boolean;
  /** Bounds on what is on its way into the archive at a time. */
  readonly ship?: Partial<ShipLimits>;
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
      readonly bytes: number;
    }
  | {
      readonly kind: 'adopted';
      readonly stream: string;
      readonly versions: number;
      readonly tornBytes: number;
    }
  | {
      /** What crashes had left behind is deleted. */
      readonly kind: 'swept';
      readonly stream: string;
      readonly objects: number;
      /** As far as the store says them. */
      readonly bytes: number;
      /** Could not be deleted: tried again with the next sweep. */
      readonly failed: number;
      /** Still to be waited for. */
      readonly waiting: number;
    }
  | { readonly kind: 'gap'; readonly stream: string; readonly gap: Gap }
  | { readonly kind: 'error'; readonly stream: string; readonly error: unknown };

/** What a job has that runs alone on the archiver. */
export interface Alone {
  /** Ships sealed files, as a part of the job. */
  archivePending(): Promise<number>;
}

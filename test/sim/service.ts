/** The archive's object storage as a run sees it: a service that outlives every process. */
import type { ObjectStore } from '../../engine/object-store.ts';
import type { Process } from './scheduler.ts';

export interface Service {
  /** `plain`: an object store as the interface has it. `s3`: a server that the real S3 store and the official client talk to. */
  readonly kind: 'plain' | 's3';
  /** Failures of one request before who asked is told. */
  readonly tries: number;
  /** Told about every new value of a swapped object, before the one who swapped it is. */
  onSwap: (name: string, bytes: Buffer) => void;
  onCreate: (name: string, by: Process | undefined) => void;
  onDelete: (name: string) => void;
  /** Most requests of one process that were under way at once, and most tries of one write; 0: not counted. */
  readonly bounds: { readonly inFlightMax: number; readonly triesMax: number };
  /** As a process reaches it: through the scheduler, with faults. */
  clientOf(process: Process): ObjectStore;
  /** For the judge: at once and without faults. */
  direct(): ObjectStore;
  /** What is stored under a name now. */
  bytesOf(name: string): Buffer | undefined;
  /** Objects that are written once. */
  names(): string[];
  /** A bit of some object flips for good; returns its name. */
  rot(): string;
}

import type { Worker } from 'node:worker_threads';
import { type ErrorId, type Facts, PitrError } from '../engine/errors.ts';
import type { RequestCounts } from '../engine/request-tally.ts';
import { RemoteObserver, type StoreEvent, type StoreObserver } from '../engine/store-observer.ts';
import { endThread, startThread } from '../engine/thread.ts';
import type { Archive } from './archive.ts';
import { type MergeHooks, type MergeJob, type MergeOutcome, runMergeJob } from './merge-job.ts';
import type { MergedPart, MergePosition } from './run-writer.ts';

/** Stored bytes from which a merge has a thread of its own: below, starting one would take longer. */
const THREAD_BYTES = 2 * 1024 * 1024;

export type ToMergeWorker =
  | { readonly kind: 'job'; readonly job: MergeJob }
  | { readonly kind: 'noted'; readonly error?: { readonly id: ErrorId; readonly facts: Facts } };

export interface MergeWorkerData {
  readonly url: string;
  /** It tells of its requests, too. */
  readonly observed: boolean;
}

export type FromMergeWorker = { readonly kind: 'stored'; readonly event: StoreEvent } | FromMergeJob;

type FromMergeJob =
  /** What was asked of the store since the last word of this. */
  | { readonly kind: 'asked'; readonly counts: RequestCounts }
  | { readonly kind: 'writing'; readonly name: string }
  | { readonly kind: 'wrote'; readonly part: MergedPart; readonly next: MergePosition }
  | { readonly kind: 'done'; readonly outcome: MergeOutcome }
  | { readonly kind: 'failed'; readonly id: ErrorId; readonly facts: Facts };

/** Runs merge jobs, one at a time: large ones on a thread of their own, kept for the next. */
export class MergePool {
  readonly #archive: Archive;
  readonly #threadBytes: number;
  readonly #observe: StoreObserver | undefined;
  #worker: Worker | undefined;
  #stop: ((error: PitrError) => void) | undefined;
  #hear: ((message: FromMergeJob) => void) | undefined;
  #closed = false;

  /** `threadBytes` Infinity: the store is one that a thread cannot open by its URL. */
  constructor(archive: Archive, threadBytes = THREAD_BYTES, observe?: StoreObserver) {
    this.#archive = archive;
    this.#threadBytes = threadBytes;
    this.#observe = observe;
  }

  async run(job: MergeJob, hooks: Omit<MergeHooks, 'check'>): Promise<MergeOutcome> {
    const bytes = job.runs.flatMap((r) => r.segments).reduce((n, s) => n + s.bytes, 0);
    if (this.#closed) throw interrupted();
    if (bytes >= this.#threadBytes) return this.#onThread(job, hooks);
    return runMergeJob(this.#archive, job, {
      ...hooks,
      check: () => {
        if (this.#closed) throw interrupted();
      },
    });
  }

  /** Ends the job that runs, wherever it is. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#stop?.(interrupted());
    if (this.#worker) await endThread(this.#worker);
    this.#worker = undefined;
  }

  async #onThread(job: MergeJob, hooks: Omit<MergeHooks, 'check'>): Promise<MergeOutcome> {
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const send = (message: ToMergeWorker): void => worker.postMessage(message);
    const noted = async (work: Promise<void>): Promise<void> => {
      try {
        await work;
        send({ kind: 'noted' });
      } catch (error) {
        const { id, facts } =
          error instanceof PitrError ? error : { id: 'internal' as const, facts: { what: String(error) } };
        send({ kind: 'noted', error: { id, facts } });
      }
    };
    worker.ref();
    try {
      return await new Promise<MergeOutcome>((resolve, reject) => {
        this.#stop = reject;
        this.#hear = (message) => {
          switch (message.kind) {
            case 'asked':
              this.#archive.store.tally?.add(message.counts);
              return;
            case 'writing':
              void noted(hooks.writing(message.name));
              return;
            case 'wrote':
              void noted(hooks.wrote(message.part, message.next));
              return;
            case 'done':
              resolve(message.outcome);
              return;
            case 'failed':
              reject(new PitrError(message.id, message.facts));
              return;
            default:
              message satisfies never;
          }
        };
        send({ kind: 'job', job });
      });
    } catch (error) {
      // a job may still run there: the next one gets a thread of its own
      this.#worker = undefined;
      await endThread(worker);
      throw error;
    } finally {
      this.#stop = undefined;
      this.#hear = undefined;
      // an idle thread is no reason to live
      worker.unref();
    }
  }

  /** A thread that ends, at work or idle, is not given another job. */
  #start(): Worker {
    const workerData: MergeWorkerData = { url: this.#archive.url, observed: this.#observe !== undefined };
    const worker = startThread(import.meta.url, 'merge-worker', { workerData });
    const observer = this.#observe && new RemoteObserver(this.#observe);
    const ended = (what: string, cause?: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#stop?.(new PitrError('internal', { what }, { cause }));
    };
    worker.on('message', (message: FromMergeWorker) => {
      if (message.kind === 'stored') observer?.heard(message.event);
      else if (this.#worker === worker) this.#hear?.(message);
    });
    worker.on('error', (cause) => ended(String(cause), cause));
    worker.on('exit', () => {
      observer?.ended();
      ended('the merging thread ended');
    });
    return worker;
  }
}

const interrupted = (): PitrError => new PitrError('interrupted', { what: 'a merge' });

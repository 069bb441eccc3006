import type { Worker } from 'node:worker_threads';
import { AerospikeClient } from '../engine/aerospike/client/client.ts';
import { type ErrorId, type Facts, PitrError } from '../engine/errors.ts';
import type { RequestCounts } from '../engine/request-tally.ts';
import { endThread, startThread } from '../engine/thread.ts';
import type { Archive } from '../wal/archive.ts';
import type { CopiedRows, CopiedSegment, CopyJob, CopyTotals, Stretch } from './copy-job.ts';
import { StretchCopier } from './stretch-copier.ts';

export type ToCopyWorker =
  | { readonly kind: 'job'; readonly job: CopyJob }
  /** Undefined: there is no more. */
  | { readonly kind: 'stretch'; readonly stretch: Stretch | undefined }
  | { readonly kind: 'taken'; readonly bytes: number };

export type FromCopyWorker =
  | { readonly kind: 'want' }
  | { readonly kind: 'rows'; readonly rows: CopiedRows }
  | { readonly kind: 'segment'; readonly segment: CopiedSegment }
  /** With what was asked of the store. */
  | { readonly kind: 'done'; readonly totals: CopyTotals; readonly asked: RequestCounts }
  | { readonly kind: 'failed'; readonly id: ErrorId; readonly facts: Facts };

/** What is told of a copy as it goes on. */
export interface CopyHandlers {
  rows(rows: CopiedRows): void;
  segment(segment: CopiedSegment): void;
}

/** Of each thread: blocks and frames are no part of it. */
const YOUNG_GENERATION_MB = 8;

/** Threads that copy stretches, each with a client of its own. They start with the pool, so that they are up when the work is known. */
export class CopyPool {
  readonly #archive: Archive;
  readonly #threads: Worker[];
  #ended: PitrError | undefined;
  #stop: ((error: PitrError) => void) | undefined;

  /** `workers` 0: the caller's thread does it, in whatever store the archive is. */
  constructor(archive: Archive, workers: number) {
    this.#archive = archive;
    const resourceLimits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB };
    this.#threads = Array.from({ length: workers }, () => {
      const thread = startThread(import.meta.url, 'copy-worker', {
        workerData: { url: archive.url },
        resourceLimits,
      });
      thread.on('error', (cause) => this.#end(new PitrError('internal', { what: String(cause) }, { cause })));
      thread.on('exit', () => this.#end(new PitrError('internal', { what: 'a copying thread ended' })));
      return thread;
    });
  }

  /** Copies all stretches; the first failure ends everything. @throws what a scan throws; interrupted */
  async run(
    job: CopyJob,
    stretches: Iterator<Stretch>,
    handlers: CopyHandlers,
    signal: AbortSignal | undefined,
  ): Promise<CopyTotals[]> {
    const next = (): Stretch | undefined => {
      const { value, done } = stretches.next();
      return done ? undefined : value;
    };
    const interrupted = (): PitrError => new PitrError('interrupted', { what: 'the base copy' });
    if (signal?.aborted) throw interrupted();
    if (this.#threads.length === 0) return [await this.#here(job, next, handlers, signal, interrupted)];
    if (this.#ended) throw this.#ended;
    const stopped = new Promise<never>((_, reject) => {
      this.#stop = reject;
    });
    const abort = (): void => this.#end(interrupted());
    signal?.addEventListener('abort', abort);
    try {
      return await Promise.race([
        Promise.all(this.#threads.map((t) => this.#onThread(t, job, next, handlers))),
        stopped,
      ]);
    } finally {
      signal?.removeEventListener('abort', abort);
      this.#stop = undefined;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map(endThread));
  }

  #end(error: PitrError): void {
    this.#ended ??= error;
    this.#stop?.(error);
  }

  async #here(
    job: CopyJob,
    next: () => Stretch | undefined,
    handlers: CopyHandlers,
    signal: AbortSignal | undefined,
    interrupted: () => PitrError,
  ): Promise<CopyTotals> {
    const client = await AerospikeClient.connect(job.client);
    // every wait of a scan ends with its client
    const abort = (): void => void client.close();
    signal?.addEventListener('abort', abort);
    try {
      const copier = new StretchCopier(this.#archive.store, client, job, {
        rows: async (rows) => handlers.rows(rows),
        segment: (segment) => handlers.segment(segment),
      });
      return await copier.run(async () => next());
    } catch (error) {
      throw signal?.aborted ? interrupted() : error;
    } finally {
      signal?.removeEventListener('abort', abort);
      await client.close();
    }
  }

  #onThread(
    thread: Worker,
    job: CopyJob,
    next: () => Stretch | undefined,
    handlers: CopyHandlers,
  ): Promise<CopyTotals> {
    const send = (message: ToCopyWorker): void => thread.postMessage(message);
    return new Promise((resolve, reject) => {
      const take = (message: FromCopyWorker): void => {
        switch (message.kind) {
          case 'want':
            send({ kind: 'stretch', stretch: next() });
            return;
          case 'rows': {
            const bytes = message.rows.buffer.byteLength;
            handlers.rows(message.rows);
            send({ kind: 'taken', bytes });
            return;
          }
          case 'segment':
            handlers.segment(message.segment);
            return;
          case 'done':
            this.#archive.store.tally?.add(message.asked);
            resolve(message.totals);
            return;
          case 'failed':
            reject(new PitrError(message.id, message.facts));
            return;
          default:
            message satisfies never;
        }
      };
      thread.on('message', (message: FromCopyWorker) => {
        try {
          take(message);
        } catch (error) {
          reject(error);
        }
      });
      send({ kind: 'job', job });
    });
  }
}

import type { Worker } from 'node:worker_threads';
import { ContentDigest } from '../engine/content-digest.ts';
import { PitrError } from '../engine/errors.ts';
import { PARTITIONS, type PartitionRange, type PartitionSet } from '../engine/partition.ts';
import { isS3Url } from '../engine/s3-options.ts';
import type { Store } from '../engine/store.ts';
import { endThread, startThread } from '../engine/thread.ts';
import type { Archive } from '../wal/archive.ts';
import { isReusable, reuse } from './chunks.ts';
import { type RangeResult, type RestoreJob, runRange } from './range-job.ts';
import type { FromWorker, ToWorker, WorkerInput } from './worker.ts';

export interface RangeHandlers {
  /** Takes a chunk; chunks of one range come in order. Its memory is used again after it. */
  readonly onChunk: (chunk: Buffer, index: number) => Promise<void> | void;
  readonly onRange: (index: number, result: RangeResult) => Promise<void> | void;
}

/**
 * How a thread works on ranges: so many at a time, each of which should read so many stored bytes at most. The product bounds what
 * waits in front of a slow target. Of a bucket one range is merged while the first reads of the other are on their way.
 */
interface RangeShape {
  readonly atOnce: number;
  readonly bytesMax: number;
}
const OF_DIRECTORY: RangeShape = { atOnce: 1, bytesMax: 8 * 1024 * 1024 };
const OF_BUCKET: RangeShape = { atOnce: 2, bytesMax: 4 * 1024 * 1024 };

const shapeOf = ({ url }: Archive): RangeShape => (isS3Url(url) ? OF_BUCKET : OF_DIRECTORY);

/** Of each thread. What a merge allocates for a moment is little, and by default 48 MB of it may wait for the collector. */
const YOUNG_GENERATION_MB = 6;

/** Cuts partitions into ranges of about equal work. */
export const rangesFor = (
  archive: Archive,
  plan: RestoreJob['plan'],
  wanted: PartitionSet,
  workers: number,
): PartitionRange[] => {
  const { bytesMax } = shapeOf(archive);
  const count = Math.min(
    PARTITIONS,
    Math.max(workers > 1 ? workers * 4 : 1, Math.ceil(plan.bytes / bytesMax)),
  );
  const step = Math.ceil(PARTITIONS / count);
  const ranges: PartitionRange[] = [];
  for (const { start, end } of wanted.ranges)
    for (let at = start; at < end; at += step) ranges.push({ start: at, end: Math.min(end, at + step) });
  return ranges;
};

/**
 * Threads that work on ranges of partitions. They start with the pool, so that they are up when the plan is; without threads, and
 * for a single range, the caller's thread does the work.
 */
export class RangePool {
  readonly #archive: Archive;
  readonly #threads: Worker[];
  /** Of the first thread that ended, whenever that was. */
  #ended: PitrError | undefined;
  #stop: ((error: PitrError) => void) | undefined;

  /** `workers`: threads, 0 = none. */
  constructor(archive: Archive, workers: number) {
    this.#archive = archive;
    const workerData: WorkerInput = { url: archive.url };
    this.#threads = Array.from({ length: workers }, () => {
      const resourceLimits = { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB };
      const thread = startThread(import.meta.url, 'worker', { workerData, resourceLimits });
      thread.on('error', (cause) => this.#end(new PitrError('internal', { what: String(cause) }, { cause })));
      thread.on('exit', () => this.#end(new PitrError('internal', { what: 'a worker thread ended' })));
      return thread;
    });
  }

  /** Merges all ranges, each once; the first failure ends everything. `run`: what the caller's thread does with a range. */
  async merge(
    job: RestoreJob,
    ranges: readonly PartitionRange[],
    handlers: RangeHandlers,
    run: typeof runRange = runRange,
  ): Promise<void> {
    if (this.#threads.length === 0 || ranges.length <= 1) {
      for (const [index, range] of ranges.entries()) {
        const result = await run(this.#archive, job, range, async (chunk) => {
          await handlers.onChunk(chunk, index);
          // text may still be on its way out
          if (job.output === 'store') reuse(chunk.buffer as ArrayBuffer);
        });
        await handlers.onRange(index, result);
      }
      return;
    }
    for (const thread of this.#threads) thread.postMessage({ kind: 'job', job } satisfies ToWorker);
    const tasks = ranges.map((range, index): ToWorker => ({ kind: 'range', index, ...range }));
    // one range is written while another one is read back
    const { atOnce } = job.output === 'cluster' ? OF_BUCKET : shapeOf(this.#archive);
    await this.#share(tasks, atOnce, async (message, thread) => {
      switch (message.kind) {
        case 'chunk':
          await this.#take(job, message, thread, handlers);
          return false;
        case 'done':
          await handlers.onRange(message.index, message.result);
          return true;
        default:
          return false;
      }
    });
  }

  async #take(
    { output }: RestoreJob,
    { buffer, bytes, index }: FromWorker & { kind: 'chunk' },
    thread: Worker,
    { onChunk }: RangeHandlers,
  ): Promise<void> {
    const taken = { kind: 'taken', bytes: buffer.byteLength } as const;
    await onChunk(Buffer.from(buffer, 0, bytes), index);
    // text may still be on its way out
    if (output !== 'store') thread.postMessage(taken satisfies ToWorker);
    else if (isReusable(buffer)) thread.postMessage({ ...taken, buffer } satisfies ToWorker, [buffer]);
    else {
      reuse(buffer);
      thread.postMessage(taken satisfies ToWorker);
    }
  }

  /** The digest of everything in a store, read back; other processes' and threads' view of it. */
  async digest(dir: string, store: Store, shards: number): Promise<ContentDigest> {
    if (this.#threads.length === 0) return store.contentDigest(shards);
    const digest = new ContentDigest(shards);
    const count = this.#threads.length;
    const startOf = (i: number): number => Math.floor((PARTITIONS * i) / count);
    const tasks = this.#threads.map(
      (_, i): ToWorker => ({ kind: 'digest', dir, shards, start: startOf(i), end: startOf(i + 1) }),
    );
    await this.#share(tasks, 1, async (message) => {
      if (message.kind !== 'digest') return false;
      digest.add(ContentDigest.from(message.digest));
      return true;
    });
    return digest;
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map(endThread));
  }

  #end(error: PitrError): void {
    this.#ended ??= error;
    this.#stop?.(error);
  }

  /** Gives each thread `atOnce` tasks, and another one whenever `handle` says that one is done. */
  async #share(
    tasks: readonly ToWorker[],
    atOnce: number,
    handle: (message: FromWorker, thread: Worker) => Promise<boolean>,
  ): Promise<void> {
    // one that ended before it was given anything to do would never answer
    if (this.#ended) throw this.#ended;
    const stopped = new Promise<never>((_, reject) => {
      this.#stop = reject;
    });
    let next = 0;
    const shared = Promise.all(
      this.#threads.map(
        (thread) =>
          new Promise<void>((resolve, reject) => {
            // messages are handled one after the other: a chunk is taken before the next is looked at
            let handling: Promise<void> = Promise.resolve();
            let given = 0;
            const assign = (): void => {
              for (; given < atOnce && next < tasks.length; given++) thread.postMessage(tasks[next++]);
              if (given === 0) resolve();
            };
            thread.removeAllListeners('message');
            thread.on('message', (message: FromWorker) => {
              handling = handling
                .then(async () => {
                  if (message.kind === 'failed') throw new PitrError(message.id, message.facts);
                  if (!(await handle(message, thread))) return;
                  given--;
                  assign();
                })
                .catch(reject);
            });
            assign();
          }),
      ),
    );
    try {
      await Promise.race([shared, stopped]);
    } finally {
      this.#stop = undefined;
    }
  }
}

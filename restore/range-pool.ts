import { Worker } from 'node:worker_threads';
import { type ErrorId, type Facts, PitrError } from '../engine/errors.ts';
import { PARTITIONS, type PartitionRange, PartitionSet } from '../engine/partition.ts';
import type { Archive } from '../wal/archive.ts';
import { type RangeResult, type RestoreJob, runRange } from './range-job.ts';
import type { ToWorker, WorkerInput } from './worker.ts';

export interface PoolOptions {
  /** Worker threads; 0 = this thread does the work. */
  readonly workers: number;
  /** Takes a chunk; chunks of one range come in order. */
  readonly onChunk: (chunk: Buffer, index: number) => Promise<void> | void;
  readonly onRange?: (index: number, result: RangeResult) => Promise<void> | void;
}

type FromWorker =
  | { readonly kind: 'chunk'; readonly index: number; readonly bytes: ArrayBuffer }
  | { readonly kind: 'done'; readonly index: number; readonly result: RangeResult }
  | { readonly kind: 'failed'; readonly id: ErrorId; readonly facts: Facts };

/** Stored bytes that one range should read at most: bounds what waits in front of a slow target. */
const RANGE_BYTES = 8 * 1024 * 1024;

/** Cuts the selected partitions into ranges of about equal work. */
export const rangesFor = (job: RestoreJob, workers: number): PartitionRange[] => {
  const wanted = PartitionSet.parse(job.selection.partitions ?? 'all');
  const count = Math.min(
    PARTITIONS,
    Math.max(workers > 1 ? workers * 4 : 1, Math.ceil(job.plan.bytes / RANGE_BYTES)),
  );
  const step = Math.ceil(PARTITIONS / count);
  const ranges: PartitionRange[] = [];
  for (const { start, end } of wanted.ranges)
    for (let at = start; at < end; at += step) ranges.push({ start: at, end: Math.min(end, at + step) });
  return ranges;
};

/** Runs all ranges, each once, on worker threads; the first failure ends everything. Results are in the order of the ranges. */
export const runRanges = async (
  archive: Archive,
  job: RestoreJob,
  ranges: readonly PartitionRange[],
  options: PoolOptions,
): Promise<RangeResult[]> => {
  const results: RangeResult[] = [];
  if (options.workers === 0 || ranges.length <= 1) {
    for (const [index, range] of ranges.entries()) {
      results[index] = await runRange(archive, job, range, async (chunk) => options.onChunk(chunk, index));
      await options.onRange?.(index, results[index]);
    }
    return results;
  }
  const file = import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js';
  const workerData: WorkerInput = { url: archive.url, job };
  const workers = Array.from(
    { length: Math.min(options.workers, ranges.length) },
    () => new Worker(new URL(file, import.meta.url), { workerData }),
  );
  try {
    let next = 0;
    await Promise.all(
      workers.map(
        (worker) =>
          new Promise<void>((resolve, reject) => {
            // messages are handled one after the other: a chunk is taken before the next is looked at
            let handling: Promise<void> = Promise.resolve();
            const assign = (): void => {
              const index = next++;
              if (index >= ranges.length) resolve();
              else worker.postMessage({ kind: 'range', index, ...ranges[index] } satisfies ToWorker);
            };
            const handle = async (message: FromWorker): Promise<void> => {
              switch (message.kind) {
                case 'chunk':
                  await options.onChunk(Buffer.from(message.bytes), message.index);
                  worker.postMessage({ kind: 'taken' } satisfies ToWorker);
                  return;
                case 'done':
                  results[message.index] = message.result;
                  await options.onRange?.(message.index, message.result);
                  assign();
                  return;
                case 'failed':
                  throw new PitrError(message.id, message.facts);
                default:
                  message satisfies never;
              }
            };
            worker.on('message', (message: FromWorker) => {
              handling = handling.then(() => handle(message)).catch(reject);
            });
            worker.on('error', (cause) =>
              reject(new PitrError('internal', { what: String(cause) }, { cause })),
            );
            assign();
          }),
      ),
    );
    return results;
  } finally {
    await Promise.all(workers.map((w) => w.terminate()));
  }
};

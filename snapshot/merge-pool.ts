import type { Worker } from 'node:worker_threads';
import { type ErrorId, type Facts, PitrError } from '../engine/errors.ts';
import type { PartitionRange } from '../engine/partition.ts';
import { endThread, startThread } from '../engine/thread.ts';
import type { Archive } from '../wal/archive.ts';
import { type MergeJob, mergeRange } from './merge-range.ts';
import type { MergedRange } from './progress-note.ts';

export interface MergeWorkerData {
  readonly url: string;
  readonly job: MergeJob;
}

export type FromMergeWorker =
  | { readonly merged: MergedRange }
  | { readonly failed: { readonly id: ErrorId; readonly facts: Facts } };

/**
 * Merges ranges, each once, on worker threads (0: in this one); `onRange` may wait, and the next range of that thread waits for
 * it. The first failure ends everything.
 */
export const mergeRanges = async (
  archive: Archive,
  job: MergeJob,
  ranges: readonly PartitionRange[],
  workers: number,
  onRange: (range: PartitionRange, merged: MergedRange) => Promise<void>,
): Promise<void> => {
  if (workers === 0 || ranges.length <= 1) {
    for (const range of ranges) await onRange(range, await mergeRange(archive, job, range));
    return;
  }
  const workerData: MergeWorkerData = { url: archive.url, job };
  const threads = Array.from({ length: Math.min(workers, ranges.length) }, () =>
    startThread(import.meta.url, 'merge-worker', { workerData }),
  );
  const waiting = [...ranges];
  try {
    await Promise.all(
      threads.map(async (thread) => {
        for (let range = waiting.shift(); range; range = waiting.shift())
          await onRange(range, await answerOf(thread, range));
      }),
    );
  } finally {
    await Promise.all(threads.map(endThread));
  }
};

/** The answer to one range. */
const answerOf = (thread: Worker, range: PartitionRange): Promise<MergedRange> =>
  new Promise((resolve, reject) => {
    const onMessage = (message: FromMergeWorker): void => {
      end();
      if ('merged' in message) resolve(message.merged);
      else reject(new PitrError(message.failed.id, message.failed.facts));
    };
    const onError = (cause: unknown): void => {
      end();
      reject(new PitrError('internal', { what: String(cause) }, { cause }));
    };
    const onExit = (code: number): void => onError(`a merge worker ended with ${code}`);
    const end = (): void => {
      thread.off('message', onMessage).off('error', onError).off('exit', onExit);
    };
    thread.on('message', onMessage).on('error', onError).on('exit', onExit);
    thread.postMessage(range);
  });

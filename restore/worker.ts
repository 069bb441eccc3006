/** Worker thread of a restore: runs range after range and sends chunks, a few at a time. */
import { parentPort, workerData } from 'node:worker_threads';
import { PitrError } from '../engine/errors.ts';
import { Archive } from '../wal/archive.ts';
import { type RestoreJob, runRange } from './range-job.ts';

/** Chunks that may be on their way to the main thread. */
const CHUNKS_AHEAD_MAX = 8;

export interface WorkerInput {
  readonly url: string;
  readonly job: RestoreJob;
}

export type ToWorker =
  | { readonly kind: 'range'; readonly index: number; readonly start: number; readonly end: number }
  | { readonly kind: 'taken' };

const port = parentPort;
if (port) {
  const { url, job } = workerData as WorkerInput;
  const archive = Archive.open(url);
  archive.catch(() => undefined);
  let ahead = 0;
  let taken: (() => void) | undefined;
  port.on('message', async (message: ToWorker) => {
    if (message.kind === 'taken') {
      ahead--;
      taken?.();
      return;
    }
    const { index, start, end } = message;
    try {
      const result = await runRange(await archive, job, { start, end }, async (chunk) => {
        // a chunk's buffer is its own, so it can be moved instead of copied
        const bytes = chunk.buffer.slice(chunk.byteOffset, chunk.byteOffset + chunk.length) as ArrayBuffer;
        port.postMessage({ kind: 'chunk', index, bytes }, [bytes]);
        ahead++;
        while (ahead >= CHUNKS_AHEAD_MAX)
          await new Promise<void>((resolve) => {
            taken = resolve;
          });
      });
      port.postMessage({ kind: 'done', index, result });
    } catch (error) {
      const known = error instanceof PitrError;
      port.postMessage({
        kind: 'failed',
        id: known ? error.id : 'internal',
        facts: known ? error.facts : { what: String((error as Error).stack ?? error) },
      });
    }
  });
}

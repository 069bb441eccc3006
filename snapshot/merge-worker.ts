/** Worker thread of a synthetic snapshot: merges range after range and answers what each came to. */

import { parentPort, workerData } from 'node:worker_threads';
import { PitrError } from '../engine/errors.ts';
import type { PartitionRange } from '../engine/partition.ts';
import { endsOnRequest } from '../engine/thread.ts';
import { Archive } from '../wal/archive.ts';
import type { FromMergeWorker, MergeWorkerData } from './merge-pool.ts';
import { mergeRange } from './merge-range.ts';

const port = parentPort;
if (port) {
  const { url, job } = workerData as MergeWorkerData;
  const archive = Archive.open(url);
  archive.catch(() => undefined);
  endsOnRequest(port);
  port.on('message', async (range: PartitionRange) => {
    let answer: FromMergeWorker;
    try {
      answer = { merged: await mergeRange(await archive, job, range) };
    } catch (error) {
      const known = error instanceof PitrError;
      const facts = known ? error.facts : { what: String((error as Error).stack ?? error) };
      answer = { failed: { id: known ? error.id : 'internal', facts } };
    }
    port.postMessage(answer);
  });
}

/** Worker thread of compaction: runs one merge job after the other, so that the agent's own thread ships meanwhile. */

import { parentPort, workerData } from 'node:worker_threads';
import { PitrError } from '../engine/errors.ts';
import { openObjectStore } from '../engine/open-object-store.ts';
import { countedStore, minusCounts, NO_REQUESTS } from '../engine/request-tally.ts';
import type { StoreObserver } from '../engine/store-observer.ts';
import { endsOnRequest } from '../engine/thread.ts';
import { Archive } from './archive.ts';
import { runMergeJob } from './merge-job.ts';
import type { FromMergeWorker, MergeWorkerData, ToMergeWorker } from './merge-pool.ts';

const port = parentPort;
if (port) {
  const { url, observed } = workerData as MergeWorkerData;
  const observe: StoreObserver = (event) =>
    port.postMessage({ kind: 'stored', event } satisfies FromMergeWorker);
  const store = countedStore(openObjectStore(url, observed ? observe : undefined));
  const archive = Archive.open(store);
  archive.catch(() => undefined);
  let acknowledged: ((error: PitrError | undefined) => void) | undefined;
  let told = NO_REQUESTS;
  const say = (message: FromMergeWorker): void => {
    const { counts } = store.tally;
    port.postMessage({ kind: 'asked', counts: minusCounts(counts, told) } satisfies FromMergeWorker);
    told = counts;
    port.postMessage(message);
  };
  /** Says something and waits until the main thread has made it durable. */
  const agreed = (message: FromMergeWorker): Promise<void> =>
    new Promise((resolve, reject) => {
      acknowledged = (error) => (error ? reject(error) : resolve());
      say(message);
    });
  endsOnRequest(port);
  port.on('message', async (message: ToMergeWorker) => {
    if (message.kind === 'noted') {
      acknowledged?.(message.error && new PitrError(message.error.id, message.error.facts));
      return;
    }
    try {
      const outcome = await runMergeJob(await archive, message.job, {
        writing: (name) => agreed({ kind: 'writing', name }),
        wrote: (part, next) => agreed({ kind: 'wrote', part, next }),
        // it is ended from outside
        check: () => undefined,
      });
      say({ kind: 'done', outcome });
    } catch (error) {
      const known = error instanceof PitrError;
      say({
        kind: 'failed',
        id: known ? error.id : 'internal',
        facts: known ? error.facts : { what: String((error as Error).stack ?? error) },
      });
    }
  });
}

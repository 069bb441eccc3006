/** Worker thread of a base copy: a client of its own, stretch after stretch of partitions. */

import { parentPort, workerData } from 'node:worker_threads';
import { AerospikeClient } from '../engine/aerospike/client/client.ts';
import { PitrError } from '../engine/errors.ts';
import { giveBack } from '../engine/give-back.ts';
import { openObjectStore } from '../engine/open-object-store.ts';
import { countedStore } from '../engine/request-tally.ts';
import { endsOnRequest } from '../engine/thread.ts';
import type { CopyJob, Stretch } from './copy-job.ts';
import type { FromCopyWorker, ToCopyWorker } from './copy-pool.ts';
import { type SegmentStore, StretchCopier } from './stretch-copier.ts';

/** Rows that may be on their way to the main thread; some always may. */
const AHEAD_BYTES_MAX = 4 * 1024 * 1024;

const port = parentPort;
if (port) {
  const say = (message: FromCopyWorker, moved: ArrayBuffer[] = []): void => port.postMessage(message, moved);
  let ahead = 0;
  let room: (() => void) | undefined;
  let given: ((stretch: Stretch | undefined) => void) | undefined;

  const copy = async (job: CopyJob, url: string): Promise<void> => {
    const store = countedStore(openObjectStore(url));
    const segments: SegmentStore = {
      create: async (name, bytes) => {
        await store.create(name, bytes);
        // the garbage collector would be late
        giveBack([bytes]);
      },
    };
    const client = await AerospikeClient.connect(job.client);
    try {
      const copier = new StretchCopier(segments, client, job, {
        rows: async (rows) => {
          while (ahead > AHEAD_BYTES_MAX) await new Promise<void>((resolve) => (room = resolve));
          ahead += rows.buffer.byteLength;
          say({ kind: 'rows', rows }, [rows.buffer]);
        },
        segment: (segment) => say({ kind: 'segment', segment }),
      });
      const totals = await copier.run(
        () =>
          new Promise((resolve) => {
            given = resolve;
            say({ kind: 'want' });
          }),
      );
      say({ kind: 'done', totals, asked: store.tally.counts });
    } finally {
      await client.close();
    }
  };

  endsOnRequest(port);
  port.on('message', (message: ToCopyWorker) => {
    switch (message.kind) {
      case 'job':
        copy(message.job, (workerData as { url: string }).url).catch((error) => {
          const known = error instanceof PitrError;
          say({
            kind: 'failed',
            id: known ? error.id : 'internal',
            facts: known ? error.facts : { what: String((error as Error).stack ?? error) },
          });
        });
        return;
      case 'stretch':
        given?.(message.stretch);
        return;
      case 'taken':
        ahead -= message.bytes;
        room?.();
        return;
      default:
        message satisfies never;
    }
  });
}

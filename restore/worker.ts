/** Worker thread of a restore: works on range after range and sends chunks, a few at a time. */

import { parentPort, workerData } from 'node:worker_threads';
import type { AerospikeClient } from '../engine/aerospike/client/client.ts';
import type { ShardDigest } from '../engine/content-digest.ts';
import { type ErrorId, type Facts, PitrError } from '../engine/errors.ts';
import { endsOnRequest } from '../engine/thread.ts';
import { Archive } from '../wal/archive.ts';
import type { ClusterJob } from './aerospike/cluster-job.ts';
import { reuse } from './chunks.ts';
import { type RangeResult, type RestoreJob, runRange } from './range-job.ts';

/** Bytes that may be on their way to the main thread; a chunk goes whatever its size when nothing else does. */
const AHEAD_BYTES_MAX = 4 * 1024 * 1024;

export interface WorkerInput {
  readonly url: string;
}

export type ToWorker =
  | { readonly kind: 'job'; readonly job: RestoreJob }
  | { readonly kind: 'range'; readonly index: number; readonly start: number; readonly end: number }
  | { readonly kind: 'taken'; readonly bytes: number; readonly buffer?: ArrayBuffer }
  | {
      readonly kind: 'digest';
      readonly dir: string;
      readonly shards: number;
      readonly start: number;
      readonly end: number;
    };

export type FromWorker =
  | { readonly kind: 'chunk'; readonly index: number; readonly buffer: ArrayBuffer; readonly bytes: number }
  | { readonly kind: 'done'; readonly index: number; readonly result: RangeResult }
  | { readonly kind: 'digest'; readonly digest: readonly ShardDigest[] }
  | { readonly kind: 'failed'; readonly id: ErrorId; readonly facts: Facts };

const port = parentPort;
if (port) {
  const { url } = workerData as WorkerInput;
  const archive = Archive.open(url);
  archive.catch(() => undefined);
  let job: RestoreJob | undefined;
  /** The thread's own sockets. */
  let cluster: Promise<AerospikeClient> | undefined;
  const connectTo = async ({ client }: ClusterJob): Promise<AerospikeClient> => {
    const { AerospikeClient } = await import('../engine/aerospike/client/client.ts');
    return AerospikeClient.connect(client);
  };
  let ahead = 0;
  /** Ranges whose next chunk has to wait. */
  let waiting: (() => void)[] = [];

  const emit = async (index: number, chunk: Buffer): Promise<void> => {
    const buffer = chunk.buffer as ArrayBuffer;
    const bytes = chunk.length;
    while (ahead > 0 && ahead + buffer.byteLength > AHEAD_BYTES_MAX)
      await new Promise<void>((resolve) => waiting.push(resolve));
    ahead += buffer.byteLength;
    // a chunk's buffer is its own, so it can be moved instead of copied
    port.postMessage({ kind: 'chunk', index, buffer, bytes } satisfies FromWorker, [buffer]);
  };

  const work = async (message: ToWorker): Promise<FromWorker | undefined> => {
    switch (message.kind) {
      case 'job':
        job = message.job;
        return undefined;
      case 'taken':
        ahead -= message.bytes;
        if (message.buffer) reuse(message.buffer);
        // each of them looks again
        for (const go of waiting) go();
        waiting = [];
        return undefined;
      case 'range': {
        const { index } = message;
        const opened = await archive;
        const wanted = job as RestoreJob;
        const put = (chunk: Buffer) => emit(index, chunk);
        if (!wanted.cluster)
          return { kind: 'done', index, result: await runRange(opened, wanted, message, put) };
        cluster ??= connectTo(wanted.cluster);
        const { runClusterRange } = await import('./aerospike/cluster-range.ts');
        const result = await runClusterRange(await cluster, opened, wanted, message, put);
        return { kind: 'done', index, result };
      }
      case 'digest': {
        const { Store } = await import('../engine/store.ts');
        const store = Store.open(message.dir, { readOnly: true });
        try {
          return { kind: 'digest', digest: store.contentDigest(message.shards, message).toShards() };
        } finally {
          await store.close();
        }
      }
      default:
        return message satisfies never;
    }
  };

  endsOnRequest(port);
  port.on('message', async (message: ToWorker) => {
    try {
      const answer = await work(message);
      if (answer) port.postMessage(answer);
    } catch (error) {
      const known = error instanceof PitrError;
      port.postMessage({
        kind: 'failed',
        id: known ? error.id : 'internal',
        facts: known ? error.facts : { what: String((error as Error).stack ?? error) },
      } satisfies FromWorker);
    }
  });
}

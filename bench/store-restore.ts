import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { archiveUrl, BATCH, tidyJob } from '../cli/bench/database.ts';
import { isolated } from '../cli/bench/isolate.ts';
import { compareJob, type RestoreFigures, restoreRuns } from '../cli/bench/restore-rate.ts';
import { openObjectStore } from '../engine/open-object-store.ts';
import type { BenchBucket } from './bucket/bench-bucket.ts';
import { requestsOf } from './bucket/traffic.ts';

export const SEED = 1;
/** Prefix of the copy of the directory's archive. */
export const COPY = 'copy';

export interface StoreRestore extends RestoreFigures {
  /** Of one restore; 0: a directory. */
  readonly requests: number;
  readonly receivedMB: number;
  readonly serverCpuSeconds: number;
}

interface Args {
  /** Of the engine and its archive. */
  readonly dir: string;
  readonly records: number;
  readonly changes: number;
  readonly runs: number;
}

/**
 * The archive in the directory is merged as an agent would have, and copied to the bucket object by object: restores from all
 * stores read the same bytes. The last restore is compared with the workload.
 */
export const restoresOf = async (
  bucket: BenchBucket,
  { dir, records, changes, runs }: Args,
): Promise<Record<'directory' | 'ms0' | 'ms50', StoreRestore>> => {
  await isolated(tidyJob, { dir });
  await bucket.begin(0);
  await copyArchive(archiveUrl(dir), bucket.url(COPY));
  const into = join(dir, 'restored');
  const restored = async (archive: string, latencyMs: number): Promise<StoreRestore> => {
    await bucket.begin(latencyMs);
    const figures = await restoreRuns(runs, { dir, into, archive, target: 'latest', verify: true }, true);
    const traffic = await bucket.figures();
    return {
      ...figures,
      requests: requestsOf(traffic) / runs,
      receivedMB: traffic.receivedMB / runs,
      serverCpuSeconds: traffic.cpuSeconds / runs,
    };
  };
  const all = {
    directory: await restored(archiveUrl(dir), 0),
    ms0: await restored(bucket.url(COPY), 0),
    ms50: await restored(bucket.url(COPY), 50),
  };
  await isolated(compareJob, { dir: into, records, seed: SEED, steps: [{ changes, batchSize: BATCH }] });
  await rm(into, { recursive: true });
  return all;
};

/** Values of swappable objects are numbered in a directory. */
const SWAP_VALUE = /\/\d{12}$/;

const copyArchive = async (from: string, to: string): Promise<void> => {
  const [source, target] = [openObjectStore(from), openObjectStore(to)];
  const names = (await source.list('')).map(({ name }) => name);
  for (const name of names.filter((n) => !SWAP_VALUE.test(n)))
    await target.create(name, await source.read(name));
  const swapped = new Set(names.filter((n) => SWAP_VALUE.test(n)).map((n) => n.replace(SWAP_VALUE, '')));
  for (const name of swapped) {
    const value = await source.readSwap(name);
    if (value) await target.swap(name, undefined, value.bytes);
  }
};

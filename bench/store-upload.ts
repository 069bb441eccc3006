import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type ArchiveRate, archiveRateJob, writeUnarchivedJob } from '../cli/bench/archive-rate.ts';
import { archiveUrl, engineDir } from '../cli/bench/database.ts';
import { type Isolated, isolated } from '../cli/bench/isolate.ts';
import { readIdentity, writeIdentity } from '../engine/identity.ts';
import { Archive } from '../wal/archive.ts';
import { Engine } from '../wal/engine.ts';
import type { BenchBucket } from './bucket/bench-bucket.ts';
import { requestsOf } from './bucket/traffic.ts';
import { SEED } from './store-restore.ts';

export interface StoreUpload extends ArchiveRate {
  readonly rssAnonMB: number;
  /** Of the server of the bucket; 0: a directory. The same holds below. */
  readonly serverCpuSeconds: number;
  readonly requests: number;
  /** Of log. */
  readonly requestsPerGB: number;
}

interface UploadArgs {
  readonly dir: string;
  readonly records: number;
  readonly changes: number;
}

/**
 * One log that waits, shipped from a copy of it to a directory and to the bucket. The directory's engine and archive stay in
 * `dir/directory`.
 */
export const uploadsOf = async (
  bucket: BenchBucket,
  { dir, ...size }: UploadArgs,
): Promise<{
  upload: Record<'directory' | 'ms0' | 'ms50', StoreUpload>;
  logBytesPerChange: number;
}> => {
  const waiting = join(dir, 'waiting');
  await Engine.init(engineDir(waiting), { archive: archiveUrl(waiting) });
  const args = { ...size, dir: waiting, seed: SEED };
  const { logMB, changes } = (await isolated<{ logMB: number; changes: number }>(writeUnarchivedJob, args))
    .value;
  const shipped = async (name: string, url: string, latencyMs: number): Promise<StoreUpload> => {
    const at = join(dir, name);
    await bucket.begin(0);
    await copyEngine(waiting, at, url);
    await bucket.begin(latencyMs);
    const done: Isolated<ArchiveRate> = await isolated(archiveRateJob, { dir: at, logMB });
    const traffic = await bucket.figures();
    const requests = requestsOf(traffic);
    return {
      ...done.value,
      rssAnonMB: done.rssAnonMB,
      serverCpuSeconds: traffic.cpuSeconds,
      requests,
      requestsPerGB: requests / (logMB / 1000),
    };
  };
  const inBucket = async (name: string, latencyMs: number): Promise<StoreUpload> => {
    const figures = await shipped(name, bucket.url(name), latencyMs);
    await bucket.empty();
    await rm(join(dir, name), { recursive: true });
    return figures;
  };
  const upload = {
    directory: await shipped('directory', archiveUrl(join(dir, 'directory')), 0),
    ms0: await inBucket('ms0', 0),
    ms50: await inBucket('ms50', 50),
  };
  await rm(waiting, { recursive: true });
  return { upload, logBytesPerChange: (logMB * 1e6) / changes };
};

/** An engine with the same log and an empty archive at `url`. */
const copyEngine = async (from: string, to: string, url: string): Promise<void> => {
  await cp(join(engineDir(from), 'log'), join(engineDir(to), 'log'), { recursive: true });
  const identity = await readIdentity(engineDir(from));
  const { id } = await Archive.openOrCreate(url);
  await writeIdentity(engineDir(to), { ...identity, archive: { url, id } });
};

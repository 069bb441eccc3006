/**
 * The archive on object storage: how far it is behind at a fixed rate of changes, what shipping and restoring take against a
 * directory, with 0, 50 and 200 ms added to each request, how many requests that makes, and how much memory.
 *
 *     npm run bench -- archive [--records 1000000] [--changes 500000] [--rate 20000] [--seconds 30] [--runs 3] [--quick]
 *                              [--dir DIR] [--json | --markdown]
 *
 * The bucket is bench/bucket/, a stand-in in a process of its own on the same processors. `--quick`: a tenth of the data, 10 s.
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Machine, machineOf } from '../cli/bench/machine.ts';
import { renderArchive, renderArchiveMarkdown } from './archive-report.ts';
import { benchDirectory, say, wholeNumber } from './arguments.ts';
import { BenchBucket } from './bucket/bench-bucket.ts';
import { type LagFigures, lagOf } from './lag.ts';
import { type LookFigures, looksOf } from './look.ts';
import { restoresOf, type StoreRestore } from './store-restore.ts';
import { type StoreUpload, uploadsOf } from './store-upload.ts';

export interface ArchiveOptions {
  readonly dir: string;
  /** Loaded, and then changed in batches of 100: the log that is shipped, and what is restored. */
  readonly records: number;
  readonly changes: number;
  /** Changes a second of the lag. */
  readonly rate: number;
  readonly seconds: number;
  /** Of each restore. */
  readonly runs: number;
}

/** Milliseconds added to each request. */
export const LATENCIES = { ms0: 0, ms50: 50, ms200: 200 } as const;
export type Latency = keyof typeof LATENCIES;

/** What `--json` prints. MB = 10^6 bytes, GB = 10^9. */
export interface ArchiveFigures {
  readonly bench: 'archive';
  readonly machine: Machine;
  readonly options: Omit<ArchiveOptions, 'dir'>;
  /** From commit to durable in the archive. */
  readonly lag: Readonly<Record<Latency, LagFigures>>;
  /** A log that waits, shipped without compaction. */
  readonly upload: Readonly<Record<'directory' | 'ms0' | 'ms50', StoreUpload>>;
  /** The same objects in each store, target read back and verified; medians. */
  readonly restore: Readonly<Record<'directory' | 'ms0' | 'ms50', StoreRestore>>;
  /** Restore at 50 ms, as a multiple of that from the directory. */
  readonly restoreTimesDirectory: number;
  /** What commands wait for one after the other. */
  readonly looks: LookFigures;
  /** Of log: at the rate of the lag and 50 ms, and for the log that waits. */
  readonly requestsPerGB: { readonly live: number; readonly waiting: number };
  /** Peaks: of the agent over all latencies, and of the processes that restored from the bucket. */
  readonly rssAnonMB: { readonly agent: number; readonly restore: number };
  /** Of the whole benchmark. */
  readonly seconds: number;
}

/** Before the lag is looked at. */
const WARM_UP_SECONDS = 2;

export const runArchive = async (options: ArchiveOptions): Promise<ArchiveFigures> => {
  const { dir, records, changes, rate, seconds, runs } = options;
  const started = performance.now();
  const machine = machineOf(dir);
  const bucket = await BenchBucket.start();
  try {
    say('a log that waits, shipped');
    const { upload, logBytesPerChange } = await uploadsOf(bucket, { dir, records, changes });
    say('restores');
    const database = { dir: join(dir, 'directory'), records, changes };
    const restore = await restoresOf(bucket, { ...database, runs });
    say('looks');
    const looks = await looksOf(bucket);
    await bucket.empty();
    const lag = {} as Record<Latency, LagFigures>;
    for (const [name, latencyMs] of Object.entries(LATENCIES) as [Latency, number][]) {
      say(`lag at ${latencyMs} ms`);
      const paced = { rate, seconds, warmUpSeconds: Math.min(WARM_UP_SECONDS, seconds / 4), keys: records };
      lag[name] = await lagOf(bucket, { ...paced, dir: join(dir, name), latencyMs, logBytesPerChange });
    }
    const { dir: _, ...conditions } = options;
    return {
      bench: 'archive',
      machine,
      options: conditions,
      lag,
      upload,
      restore,
      restoreTimesDirectory: restore.ms50.seconds / restore.directory.seconds,
      looks,
      requestsPerGB: { live: lag.ms50.requestsPerGB, waiting: upload.ms50.requestsPerGB },
      rssAnonMB: {
        agent: Math.max(...Object.values(lag).map((l) => l.agentRssAnonMB)),
        restore: Math.max(restore.ms0.rssAnonMB, restore.ms50.rssAnonMB),
      },
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await bucket.stop();
  }
};

export const benchArchive = async (args: string[]): Promise<void> => {
  const { values } = parseArgs({
    args,
    options: {
      records: { type: 'string' },
      changes: { type: 'string' },
      rate: { type: 'string', default: '20000' },
      seconds: { type: 'string' },
      runs: { type: 'string' },
      quick: { type: 'boolean', default: false },
      dir: { type: 'string' },
      json: { type: 'boolean', default: false },
      markdown: { type: 'boolean', default: false },
    },
  });
  const size = values.quick
    ? { records: '100000', changes: '50000', seconds: '10', runs: '1' }
    : { records: '1000000', changes: '500000', seconds: '30', runs: '3' };
  const figures = await runArchive({
    dir: benchDirectory(values.dir),
    records: wholeNumber('--records', values.records ?? size.records),
    changes: wholeNumber('--changes', values.changes ?? size.changes),
    rate: wholeNumber('--rate', values.rate, 100),
    seconds: wholeNumber('--seconds', values.seconds ?? size.seconds),
    runs: wholeNumber('--runs', values.runs ?? size.runs),
  });
  if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
  else process.stdout.write(`${values.markdown ? renderArchiveMarkdown(figures) : renderArchive(figures)}\n`);
};

import { Engine } from '../../wal/engine.ts';
import { BIN, keyOf } from './database.ts';
import { jobOf } from './isolate.ts';
import { quantile, timed } from './measure.ts';
import { Workload } from './workload.ts';

/** Values made beforehand: making them is not what is measured. */
const VALUES = 4096;
const KEYS = 1_000_000;
const WARM_UP_MS = 300;

export interface CommitArgs {
  readonly dir: string;
  /** How many write at the same time, each waiting for its own commit before the next. */
  readonly writers: number;
  /** Changes in each commit; 1 = a single put. */
  readonly batchSize: number;
  readonly ms: number;
}

export interface CommitRate {
  readonly commitsPerSecond: number;
  readonly changesPerSecond: number;
  readonly cpuMicrosPerChange: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Durable commits per second of `writers` that put records of 200 bytes under keys drawn from a million. */
export const commitRateJob = jobOf(import.meta.url, 'commitRate');
export const commitRate = async ({ dir, writers, batchSize, ms }: CommitArgs): Promise<CommitRate> => {
  const engine = await Engine.open({ dir });
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  let n = 0;
  const put = () => {
    n++;
    const bins = { [BIN]: values[n % VALUES] };
    return { op: 'put' as const, key: keyOf(Math.abs(Math.imul(n, 2654435761) % KEYS)), bins };
  };
  const commit = async (): Promise<void> => {
    if (batchSize > 1) await engine.batch(Array.from({ length: batchSize }, put));
    else {
      const { key, bins } = put();
      await engine.put(key, bins);
    }
  };
  const run = async (forMs: number): Promise<number[]> => {
    const latencies: number[] = [];
    const end = performance.now() + forMs;
    const writer = async (): Promise<void> => {
      for (let at = performance.now(); at < end; ) {
        await commit();
        const now = performance.now();
        latencies.push(now - at);
        at = now;
      }
    };
    await Promise.all(Array.from({ length: writers }, writer));
    return latencies;
  };
  try {
    await run(Math.min(ms, WARM_UP_MS));
    const { value, seconds, cpuSeconds } = await timed(() => run(ms));
    const changes = value.length * batchSize;
    return {
      commitsPerSecond: value.length / seconds,
      changesPerSecond: changes / seconds,
      cpuMicrosPerChange: (cpuSeconds * 1e6) / changes,
      p50Ms: quantile(value, 0.5),
      p99Ms: quantile(value, 0.99),
    };
  } finally {
    await engine.close();
  }
};

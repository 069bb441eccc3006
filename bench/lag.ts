import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isolated } from '../cli/bench/isolate.ts';
import { quantile } from '../cli/bench/measure.ts';
import { PitrError } from '../engine/errors.ts';
import { openEnvelope } from '../engine/swap-envelope.ts';
import type { Head } from '../wal/catalog.ts';
import { decodeDocument } from '../wal/document.ts';
import { Engine } from '../wal/engine.ts';
import { Agent } from './agent.ts';
import type { BenchBucket } from './bucket/bench-bucket.ts';
import { requestsOf, type Traffic } from './bucket/traffic.ts';
import { type Group, type Paced, type PacedArgs, pacedWriterJob } from './paced-writer.ts';

/** Time from the acknowledgement of commits to a catalog head in the bucket whose frontier covers them. */
export interface LagFigures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** What the writer reached of the rate that it was asked for. */
  readonly changesPerSecond: number;
  /** CPU seconds a second of run: writer, agent, and the server, which is no part of pitr. */
  readonly writerCores: number;
  readonly agentCores: number;
  readonly serverCores: number;
  readonly agentRssAnonMB: number;
  /** Heads that moved the frontier, a second. */
  readonly publishedPerSecond: number;
  readonly requestsPerSecond: number;
  /** Of log, at what a change takes there. */
  readonly requestsPerGB: number;
  readonly traffic: Traffic;
}

export interface LagArgs extends Omit<PacedArgs, 'dir'> {
  readonly dir: string;
  readonly latencyMs: number;
  readonly logBytesPerChange: number;
}

/** How long the agent has for what was written last. */
const CATCH_UP_MS_MAX = 60_000;

/** One writer at a fixed rate, one `pitr agent`, one bucket with this latency. */
export const lagOf = async (bucket: BenchBucket, args: LagArgs): Promise<LagFigures> => {
  const { dir, latencyMs, logBytesPerChange, ...paced } = args;
  const engine = join(dir, 'engine');
  await bucket.begin(0);
  await Engine.init(engine, { archive: bucket.url(`lag-${latencyMs}`) });
  const agent = await Agent.start(engine);
  try {
    const before = agent.cpuSeconds;
    await bucket.begin(latencyMs);
    const { value } = await isolated<Paced>(pacedWriterJob, { ...paced, dir: engine });
    const heads = await headsUntil(bucket, Math.max(...value.groups.map((g) => g.ts)));
    const traffic = await bucket.figures();
    const agentSeconds = agent.cpuSeconds - before;
    const { rssAnonMB } = await agent.stop();
    const lags = value.groups.map((group) => lagBehind(heads, group));
    const { seconds, warmUpSeconds } = paced;
    const written = (value.changes * (seconds + warmUpSeconds)) / seconds;
    const requests = requestsOf(traffic);
    return {
      p50Ms: quantile(lags, 0.5),
      p99Ms: quantile(lags, 0.99),
      maxMs: Math.max(...lags),
      changesPerSecond: value.changesPerSecond,
      writerCores: value.cpuSeconds / seconds,
      agentCores: agentSeconds / (seconds + warmUpSeconds),
      serverCores: traffic.cpuSeconds / (seconds + warmUpSeconds),
      agentRssAnonMB: rssAnonMB,
      publishedPerSecond: heads.length / (seconds + warmUpSeconds),
      requestsPerSecond: requests / (seconds + warmUpSeconds),
      requestsPerGB: requests / ((written * logBytesPerChange) / 1e9),
      traffic,
    };
  } finally {
    agent.kill();
    await bucket.empty();
    await rm(dir, { recursive: true, force: true });
  }
};

/** When a frontier could be read, and which. */
interface Published {
  readonly atMs: number;
  readonly frontierTs: number;
}

/** All heads that moved the frontier, once it has reached `ts`. */
const headsUntil = async (bucket: BenchBucket, ts: number): Promise<Published[]> => {
  const started = performance.now();
  for (;;) {
    const heads: Published[] = [];
    for (const { key, atMs, value } of await bucket.heads()) {
      const document = openEnvelope(key, Buffer.from(value, 'base64')).value;
      const frontierTs = decodeDocument<Head>('head', document, key).frontier.ts;
      if (frontierTs > (heads.at(-1)?.frontierTs ?? 0)) heads.push({ atMs, frontierTs });
    }
    if ((heads.at(-1)?.frontierTs ?? 0) >= ts) return heads;
    if (performance.now() - started > CATCH_UP_MS_MAX)
      throw new PitrError('internal', { what: 'the agent did not archive what was written last' });
    await sleep(100);
  }
};

const lagBehind = (heads: readonly Published[], { ts, ackMs }: Group): number => {
  const covering = heads.find((head) => head.frontierTs >= ts);
  // the clock of all three is the machine's; a frontier may be read before the last of a group has come back
  return Math.max(0, (covering?.atMs ?? Number.POSITIVE_INFINITY) - ackMs);
};

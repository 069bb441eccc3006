import { setTimeout as sleep } from 'node:timers/promises';
import { BIN, keyOf } from '../cli/bench/database.ts';
import { jobOf } from '../cli/bench/isolate.ts';
import { timed } from '../cli/bench/measure.ts';
import { Workload } from '../cli/bench/workload.ts';
import { Engine } from '../wal/engine.ts';

const TICK_MS = 10;
/** Values made beforehand: making them is not what is measured. */
const VALUES = 4096;

export interface PacedArgs {
  readonly dir: string;
  /** Changes a second, whatever becomes of those before. */
  readonly rate: number;
  readonly seconds: number;
  /** Written at the same rate first, and not part of the result. */
  readonly warmUpSeconds: number;
  /** Keys are drawn from so many. */
  readonly keys: number;
}

/** The puts of one tick: when the last one was acknowledged, and the newest ts that they got. */
export interface Group {
  readonly ts: number;
  readonly ackMs: number;
}

export interface Paced {
  readonly groups: readonly Group[];
  readonly changes: number;
  readonly changesPerSecond: number;
  readonly cpuSeconds: number;
}

/** Puts records of 200 bytes at a fixed rate, each a commit of its own. */
export const pacedWriterJob = jobOf(import.meta.url, 'pacedWriter');
export const pacedWriter = async (args: PacedArgs): Promise<Paced> => {
  const { dir, rate, seconds, warmUpSeconds, keys } = args;
  const engine = await Engine.open({ dir });
  const workload = new Workload(0);
  const values = Array.from({ length: VALUES }, (_, i) => workload.value(i, 1));
  let n = 0;
  const group = async (size: number): Promise<Group> => {
    const puts = Array.from({ length: size }, () => {
      n++;
      return engine.put(keyOf(Math.abs(Math.imul(n, 2654435761) % keys)), { [BIN]: values[n % VALUES] });
    });
    const outcomes = await Promise.all(puts);
    return { ts: outcomes.reduce((ts, o) => Math.max(ts, o.ts), 0), ackMs: Date.now() };
  };
  const write = async (forSeconds: number): Promise<Group[]> => {
    const started = performance.now();
    const groups: Promise<Group>[] = [];
    const ticks = Math.ceil((forSeconds * 1000) / TICK_MS);
    const size = Math.ceil((rate * TICK_MS) / 1000);
    for (let tick = 0; tick < ticks; tick++) {
      const earlyMs = started + tick * TICK_MS - performance.now();
      // who is late does not wait, so that the rate is kept
      if (earlyMs > 0) await sleep(earlyMs);
      groups.push(group(size));
    }
    return Promise.all(groups);
  };
  try {
    await write(warmUpSeconds);
    const before = n;
    const { value: groups, seconds: took, cpuSeconds } = await timed(() => write(seconds));
    return { groups, changes: n - before, changesPerSecond: (n - before) / took, cpuSeconds };
  } finally {
    await engine.close();
  }
};

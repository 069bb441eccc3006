import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { ManualClock } from '../../engine/clock.ts';
import { PitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { Engine } from '../../wal/engine.ts';
import { archiveUrl, BIN, type DatabaseArgs, keyOf, NAMESPACE } from './database.ts';
import { isolated, jobOf } from './isolate.ts';
import { medianOf, timed } from './measure.ts';
import { Workload, type WorkloadStep } from './workload.ts';

export interface RestoreArgs {
  readonly dir: string;
  /** URL of the archive. Default: that of the database in `dir`. */
  readonly archive?: string;
  readonly into: string;
  readonly target: string;
  readonly verify: boolean;
  /** Default: one a processor. */
  readonly workers?: number;
  /** Now, of an archive that was made by a simulated clock. */
  readonly nowMs?: number;
}

export interface RestoreRate {
  /** From the call of restoreEngine to its return. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly records: number;
  readonly versions: number;
}

export const restoreJob = jobOf(import.meta.url, 'restore');
export const restore = async (args: RestoreArgs): Promise<RestoreRate> => {
  const { seconds, cpuSeconds, value } = await timed(() =>
    restoreEngine(args.into, undefined, {
      archive: args.archive ?? archiveUrl(args.dir),
      target: args.target,
      verify: args.verify,
      workers: args.workers ?? availableParallelism(),
      ...(args.nowMs === undefined ? {} : { clock: new ManualClock(args.nowMs) }),
    }),
  );
  return { seconds, cpuSeconds, records: value.records, versions: value.versions };
};

/**
 * Reads every record of an engine and compares it with what the workload says that it holds after the last of `steps`, which are
 * those that wrote it.
 */
export const compareJob = jobOf(import.meta.url, 'compare');
export const compare = async (
  args: DatabaseArgs & { readonly steps: readonly WorkloadStep[] },
): Promise<{ records: number }> => {
  const truth = new Workload(args.records, args.seed);
  for (const { changes, batchSize } of args.steps) truth.skipTo(changes, batchSize);
  const engine = await Engine.open({ dir: args.dir, door: false });
  const differs = (what: string): PitrError => new PitrError('verification-failed', { what });
  let records = 0;
  try {
    for await (const record of engine.scan({ namespace: NAMESPACE })) {
      const key = Number(Buffer.from(record.key?.bytes ?? []).readBigInt64BE());
      const value = record.particles.get(BIN)?.bytes;
      const expected = truth.expected(key);
      if (!value || !expected?.equals(value))
        throw differs(`record ${keyOf(key).key} is not what the workload wrote`);
      records++;
    }
  } finally {
    await engine.close();
  }
  // no key twice in a store: as many, all of them right, are all of them
  if (records !== truth.count) throw differs(`${records} records, the workload has ${truth.count}`);
  return { records };
};

export interface RestoreFigures {
  readonly seconds: number;
  readonly cpuSeconds: number;
  /** Of the whole process, from its start. */
  readonly processSeconds: number;
  readonly rssAnonMB: number;
  readonly rssFileMB: number;
  readonly records: number;
  readonly versions: number;
}

/** Restores `runs` times, each in a process of its own into an empty directory; the last one is kept when asked for. */
export const restoreRuns = async (
  runs: number,
  args: RestoreArgs,
  keepLast = false,
): Promise<RestoreFigures> => {
  const figures: RestoreFigures[] = [];
  for (let run = 0; run < runs; run++) {
    await rm(args.into, { recursive: true, force: true });
    const { value, processSeconds, rssAnonMB, rssFileMB } = await isolated<RestoreRate>(restoreJob, args);
    figures.push({ ...value, processSeconds, rssAnonMB, rssFileMB });
  }
  if (!keepLast) await rm(args.into, { recursive: true, force: true });
  return medianOf(figures);
};

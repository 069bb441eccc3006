/** The measured steps that every benchmark is put together from: each makes what it needs below `dir` and removes it. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Engine } from '../../wal/engine.ts';
import { type ArchiveRate, archiveRateJob, writeUnarchivedJob } from './archive-rate.ts';
import { type CommitArgs, type CommitRate, commitRateJob } from './commit-rate.ts';
import { agentJob, archiveUrl, type Built, buildJob, type DatabaseArgs, engineDir } from './database.ts';
import { type Isolated, isolated, type RunningJob, startJob } from './isolate.ts';
import { medianOf } from './measure.ts';

/** A directory for one step, gone afterwards. */
export const inDirectory = async <T>(dir: string, step: (dir: string) => Promise<T>): Promise<T> => {
  try {
    return await step(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
};

/** Durable commits on a fresh engine without archive, median of `runs`. */
export const commitRateOf = async (
  dir: string,
  runs: number,
  args: Omit<CommitArgs, 'dir'>,
): Promise<CommitRate> => {
  const rates: CommitRate[] = [];
  for (let run = 0; run < runs; run++)
    rates.push(
      await inDirectory(join(dir, 'commits'), async (at) => {
        return (await isolated<CommitRate>(commitRateJob, { ...args, dir: at })).value;
      }),
    );
  return medianOf(rates);
};

/** What an archiver ships of a log that waits for it, median of `runs`. */
export const archiveRateOf = async (
  dir: string,
  runs: number,
  size: { readonly records: number; readonly changes: number },
): Promise<ArchiveRate> => {
  const rates: ArchiveRate[] = [];
  for (let run = 0; run < runs; run++)
    rates.push(
      await inDirectory(join(dir, 'waiting'), async (at) => {
        await Engine.init(engineDir(at), { archive: archiveUrl(at) });
        const written = await isolated<{ logMB: number }>(writeUnarchivedJob, { ...size, dir: at, seed: 1 });
        return (await isolated<ArchiveRate>(archiveRateJob, { dir: at, logMB: written.value.logMB })).value;
      }),
    );
  return medianOf(rates);
};

/** What an agent costs the writer: the same commits without one, and with one that archives them in another process. */
export const agentCostOf = async (
  dir: string,
  runs: number,
  args: Omit<CommitArgs, 'dir'>,
): Promise<{ without: CommitRate; withAgent: CommitRate }> => {
  const without: CommitRate[] = [];
  const withAgent: CommitRate[] = [];
  // one after the other, so that what else the machine does meets both
  for (let run = 0; run < runs; run++)
    for (const [rates, hasAgent] of [
      [without, false],
      [withAgent, true],
    ] as const)
      await inDirectory(join(dir, 'agent'), async (at) => {
        await Engine.init(engineDir(at), { archive: archiveUrl(at) });
        const agent = hasAgent ? startJob(agentJob, { dir: at }) : undefined;
        await agent?.ready;
        rates.push((await isolated<CommitRate>(commitRateJob, { ...args, dir: engineDir(at) })).value);
        await ended(agent);
      });
  return { without: medianOf(without), withAgent: medianOf(withAgent) };
};

/** A database with its archive, written beside an agent that is done when this returns. `agentSeconds`: how long it needed after the last write. */
export const buildDatabase = async (
  args: DatabaseArgs & { readonly changes: number },
): Promise<Isolated<Built> & { readonly agentSeconds: number }> => {
  await Engine.init(engineDir(args.dir), { archive: archiveUrl(args.dir) });
  const agent = startJob(agentJob, { dir: args.dir });
  await agent.ready;
  const built = await isolated<Built>(buildJob, args);
  const started = performance.now();
  await ended(agent);
  return { ...built, agentSeconds: (performance.now() - started) / 1000 };
};

const ended = async (job: RunningJob<unknown> | undefined): Promise<void> => {
  job?.stop();
  await job?.result;
};

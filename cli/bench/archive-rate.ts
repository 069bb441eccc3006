import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Archiver } from '../../wal/archiver.ts';
import { Engine, logDirOf } from '../../wal/engine.ts';
import { BATCH, type DatabaseArgs, engineDir, loadRecords, makeChanges } from './database.ts';
import { jobOf } from './isolate.ts';
import { timed } from './measure.ts';
import { Workload } from './workload.ts';

/** Changes between two seals: what a second brings at a moderate rate. */
const SEAL_CHANGES = 25_000;

/** Writes records and changes with nobody archiving them. Returns the bytes of log that wait. */
export const writeUnarchivedJob = jobOf(import.meta.url, 'writeUnarchived');
export const writeUnarchived = async (
  args: DatabaseArgs & { readonly changes: number },
): Promise<{ logMB: number; changes: number }> => {
  const engine = await Engine.open({ dir: engineDir(args.dir), sealMs: 0 });
  const workload = new Workload(args.records, args.seed);
  try {
    await loadRecords(engine, workload);
    await engine.seal();
    let sealedAt = 0;
    await makeChanges(engine, workload, args.changes, {
      batchSize: BATCH,
      onBatch: async () => {
        if (workload.changes - sealedAt < SEAL_CHANGES) return;
        sealedAt = workload.changes;
        await engine.seal();
      },
    });
  } finally {
    await engine.close();
  }
  const dir = logDirOf(engineDir(args.dir));
  const bytes = readdirSync(dir).reduce((n, name) => n + statSync(join(dir, name)).size, 0);
  return { logMB: bytes / 1e6, changes: args.records + args.changes };
};

export interface ArchiveRate {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly changesPerSecond: number;
  /** Of log that was read; and of segments that were written. */
  readonly logMBPerSecond: number;
  readonly segmentMBPerSecond: number;
}

/** Ships everything that waits, without compaction. */
export const archiveRateJob = jobOf(import.meta.url, 'archiveRate');
export const archiveRate = async (args: {
  readonly dir: string;
  readonly logMB: number;
}): Promise<ArchiveRate> => {
  let segmentBytes = 0;
  const archiver = await Archiver.open(engineDir(args.dir), {
    onEvent: (event) => {
      if (event.kind === 'archived') segmentBytes += event.bytes;
    },
  });
  try {
    const { value, seconds, cpuSeconds } = await timed(() => archiver.archivePending());
    return {
      seconds,
      cpuSeconds,
      changesPerSecond: value / seconds,
      logMBPerSecond: args.logMB / seconds,
      segmentMBPerSecond: segmentBytes / 1e6 / seconds,
    };
  } finally {
    await archiver.close();
  }
};

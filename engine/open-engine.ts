import type { CommitLog } from './commit-log.ts';
import { kernelLocks, writerLockPath } from './directory-lock.ts';
import type { EngineCoreOptions, EngineParts, OpenReport } from './engine-types.ts';
import { PitrError } from './errors.ts';
import { readIdentity } from './identity.ts';
import type { RecordStore } from './machine.ts';
import { replayInto } from './replay.ts';
import { Store } from './store.ts';

/** Takes the lock, opens store and log, replays. @throws not-an-engine, engine-busy, log-*, store-corrupt */
export const openEngineParts = async (options: EngineCoreOptions): Promise<EngineParts> => {
  const started = performance.now();
  const identity = await readIdentity(options.dir, options.files);
  const lock = await (options.locks ?? kernelLocks).acquire(writerLockPath(options.dir), {
    waitMs: options.lockWaitMs ?? 2000,
  });
  if (!lock) throw new PitrError('engine-busy', { dir: options.dir });
  let store: RecordStore | undefined;
  let openedLog: CommitLog | undefined;
  try {
    store = (options.openStore ?? Store.open)(options.dir);
    const meta = store.meta();
    const replay = replayInto(store, identity, meta);
    const { log, recovery } = await options.openLog({
      dir: options.dir,
      engineId: identity.engineId,
      stream: identity.stream,
      timeline: identity.timeline,
      afterLsn: meta?.appliedLsn ?? 0,
      epoch: meta?.epoch ?? 1,
      replay: replay.entry,
    });
    openedLog = log;
    // above what was published before it owned anything, even if the clock has been set back since (F1)
    const before = identity.fork?.ts ?? identity.createdMs - 1;
    const lastTs = Math.max(meta?.lastTs ?? 0, recovery.lastTs, before);
    const { digest, partitions, epoch, transfers } = replay.finish(recovery.lastLsn, lastTs);
    const report: OpenReport = {
      ...recovery,
      created: meta === undefined && recovery.files === 0,
      storeLsn: meta?.appliedLsn ?? 0,
      durationMs: performance.now() - started,
    };
    return { options, identity, lock, store, log, digest, partitions, epoch, transfers, lastTs, report };
  } catch (error) {
    // why it does not open is what counts, and whatever fails here, the directory is let go
    await openedLog?.close().catch(() => undefined);
    await store?.close().catch(() => undefined);
    lock.release();
    throw error;
  }
};

import type { DoorHandlers } from './door.ts';
import { doorArguments } from './door-arguments.ts';
import type { EngineCore } from './engine-core.ts';
import { readRecordFile } from './record-file.ts';

/** What other processes may ask of a live engine. */
export const doorOf = (engine: EngineCore): DoorHandlers => ({
  seal: async (args) => (doorArguments('seal', args)?.apply ? engine.sealApplied() : engine.seal()),
  mark: async (args) => engine.mark(doorArguments('mark', args).name),
  status: async () => ({
    stream: engine.identity.stream,
    lastLsn: engine.lastLsn,
    partitions: engine.partitions.toString(),
    logBytes: engine.logBytes,
    spool: engine.spool ?? null,
    failure: engine.failure,
  }),
  truncate: async (args) => engine.truncate(doorArguments('truncate', args)),
  release: async (args) => {
    const { partitions, peer } = doorArguments('release', args);
    return engine.release(partitions, peer);
  },
  acquire: async (args) => {
    const { file, ...request } = doorArguments('acquire', args);
    return engine.acquire({ ...request, load: readRecordFile(file) });
  },
});

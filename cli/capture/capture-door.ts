import type { DoorHandlers } from '../../engine/door.ts';
import { doorArguments } from '../../engine/door-arguments.ts';
import { PitrError } from '../../engine/errors.ts';
import { readRecordFile } from '../../engine/record-file.ts';
import type { CaptureRun } from './capture-run.ts';

/** What other processes may ask of a capture: as of an engine, except what would change the source. */
export const captureDoor = (run: CaptureRun): DoorHandlers => ({
  seal: () => run.seal(),
  mark: async (args) => run.mark(doorArguments('mark', args).name),
  status: async () => ({
    stream: run.journal.identity.stream,
    lastLsn: run.journal.lastLsn,
    partitions: run.journal.partitions.toString(),
    logBytes: run.journal.logBytes,
    spool: run.journal.spool,
    failure: null,
  }),
  truncate: async () => {
    throw new PitrError('usage', {
      what: 'a truncation of what is captured',
      hint: 'truncate in the cluster: the capture sees it',
    });
  },
  release: async (args) => {
    const { partitions, peer } = doorArguments('release', args);
    const released = run.journal.release(partitions, peer);
    await run.seal();
    return released;
  },
  acquire: async (args) => {
    const { file, ...request } = doorArguments('acquire', args);
    const acquired = run.journal.acquire({ ...request, load: readRecordFile(file) });
    await run.seal();
    return acquired;
  },
});

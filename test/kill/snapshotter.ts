/**
 * A process that takes one snapshot after the other until it is killed: `node snapshotter.ts ARCHIVE`. Says each, and what it found
 * begun: `begun 2` ranges are noted of one that a killed process left.
 */
import { writeSync } from 'node:fs';
import { PitrError } from '../../engine/errors.ts';
import { listBegun } from '../../snapshot/begun.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Archive } from '../../wal/archive.ts';

const KINDS = ['synthetic', 'incremental', 'synthetic', 'full'] as const;
/** Small, so that a snapshot of this small database has several ranges. */
const RANGE_BYTES = 40_000;

const archive = await Archive.open(process.argv[2]);
const say = (line: string): void => {
  writeSync(1, `${line}\n`);
};
say('go');
for (const begun of await listBegun(archive)) {
  const notes = await archive.store.list(`begun/${begun.timeline}/${begun.id}/`);
  if (begun.state === 'working') say(`begun ${notes.length}`);
}
for (let n = 0; ; n++) {
  try {
    const entry = await createSnapshot(archive, {
      // the one that was begun first
      kind: n === 0 ? 'synthetic' : KINDS[Math.floor(Math.random() * KINDS.length)],
      workers: 0,
      rangeBytes: RANGE_BYTES,
    });
    say(`snapshot ${entry.kind} ${entry.id}`);
  } catch (error) {
    if (!(error instanceof PitrError) || !['nothing-restorable', 'target-nodata'].includes(error.id)) {
      say(`error ${error instanceof PitrError ? `${error.id}: ` : ''}${(error as Error).message}`);
      process.exit(1);
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 30));
}

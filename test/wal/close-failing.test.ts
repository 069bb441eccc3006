/** A log that fails in the seal of closing: what is durable is in the store, nothing is under way when that is closed. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { Engine } from '../../wal/engine.ts';
import { inScratch, keyOf, refuses } from './archiver-support.ts';

inScratch('closing applies what is durable when its seal fails', async (root) => {
  const dir = join(root, 'e');
  let isFull = false;
  const files: Files = {
    ...nodeFiles,
    openSynced: async (path, bytes) => {
      const file = await nodeFiles.openSynced(path, bytes);
      return {
        append: async (more) => {
          if (isFull) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
          await file.append(more);
        },
        close: () => file.close(),
      };
    },
  };
  const engine = await Engine.open({ dir, sealMs: 0, files });
  for (let n = 1; n <= 10; n++) await engine.put(keyOf(n), { n });
  isFull = true;
  await refuses('log-full', engine.close());
  const again = await Engine.open({ dir, sealMs: 0 });
  assert.equal(again.report.storeLsn, 10);
  await again.close();
});

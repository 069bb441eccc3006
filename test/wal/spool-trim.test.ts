/** A full spool whose files cannot be removed. */
import { join } from 'node:path';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { inScratch, keyOf, refuses } from './archiver-support.ts';

inScratch('Q1: a writer is refused in time although every trim fails', async (root) => {
  const dir = join(root, 'e');
  await Engine.init(dir, { archive: `file:${join(root, 'archive')}` });
  let isStuck = false;
  const files: Files = {
    ...nodeFiles,
    remove: async (path) => {
      if (isStuck && path.endsWith('.wal')) throw Object.assign(new Error('stuck'), { code: 'EPERM' });
      await nodeFiles.remove(path);
    },
  };
  const spool = { policy: 'block', quotaBytes: 20_000, blockTimeoutMs: 700 } as const;
  const engine = await Engine.open({ dir, sealMs: 0, files, spool });
  const image = Buffer.alloc(8000);
  await engine.put(keyOf(1), { image });
  await engine.sealApplied();
  await engine.put(keyOf(2), { image });
  await engine.sealApplied();
  const archiver = await Archiver.open(dir);
  await archiver.archivePending();
  await archiver.close();
  // from here on every trim has a file to remove, and nothing more is archived
  isStuck = true;
  for (let n = 3; n < 6; n++) await engine.put(keyOf(n), { image });
  const waits = engine.put(keyOf(6), { image });
  waits.catch(() => undefined);
  const timer = setTimeout(() => {
    isStuck = false;
    void engine.close();
  }, 4000);
  await refuses('log-quota', waits);
  clearTimeout(timer);
  isStuck = false;
  await engine.close();
});

/** The sweep of a spill directory that is known by two names. */
import assert from 'node:assert/strict';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { nodeFiles } from '../../engine/files.ts';
import { SpillDir } from '../../wal/spill-dir.ts';
import { inScratch } from './archiver-support.ts';

inScratch('copies that a link names stay when their directory is given by another path', async (root) => {
  const log = join(root, 'log');
  await mkdir(log);
  await mkdir(join(root, 'disk'));
  await symlink(join(root, 'disk'), join(root, 'alias'));
  const file = join(log, '000000000001.wal');
  await writeFile(file, 'not archived');
  const sealed = [{ sequence: 1, lsnFirst: 1, lsnLast: 1, ts: 1, bytes: 12 }];
  const first = new SpillDir(log, 'e', nodeFiles);
  await first.look(join(root, 'disk'), sealed);
  await first.take(sealed[0]);
  await new SpillDir(log, 'e', nodeFiles).look(join(root, 'alias'), sealed);
  assert.equal((await readFile(file)).toString(), 'not archived');
});

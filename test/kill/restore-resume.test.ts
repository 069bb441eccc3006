import assert from 'node:assert/strict';
import { readFileSync, watch } from 'node:fs';
import { access, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';

const keyOf = (n: number) => ({ namespace: 'test', set: 's', key: n });

/** An archive with ten records, and a restore of all of them to one instant. */
const inArchive = (
  what: string,
  body: (restore: (dir: string) => Promise<number>, dir: string) => Promise<void>,
) =>
  test(what, async () => {
    const root = await mkdtemp(join(tmpdir(), 'pitr-resume-'));
    const archive = `file:${join(root, 'archive')}`;
    try {
      await Engine.init(join(root, 'e'), { archive });
      const engine = await Engine.open({ dir: join(root, 'e'), sealMs: 0 });
      for (let n = 1; n <= 10; n++) await engine.put(keyOf(n), { n });
      await engine.close();
      const agent = await Archiver.open(join(root, 'e'));
      await agent.archivePending();
      await agent.close();
      const { restorable } = await ArchiveView.read(await Archive.open(archive));
      const target = String(restorable.contiguousEnd);
      const restore = async (dir: string): Promise<number> =>
        (await restoreEngine(dir, undefined, { archive, target, workers: 0 })).records;
      await body(restore, join(root, 'r'));
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });

describe('S8: a restore that was killed', () => {
  inArchive(
    'before its marker had its name leaves a file that does not stand in the way',
    async (restore, dir) => {
      await mkdir(dir);
      await writeFile(join(dir, '.restoring.json.0a1b2c3d'), '{"arch');
      assert.equal(await restore(dir), 10);
      assert.deepEqual(
        (await readdir(dir)).filter((n) => n.startsWith('.')),
        [],
      );
    },
  );

  inArchive(
    'after its last step but one is made again, as long as nobody has opened the engine',
    async (restore, dir) => {
      const marker = await markerOf(restore, dir);
      assert.equal(await restore(dir), 10);
      await writeFile(join(dir, 'restoring.json'), marker);
      assert.equal(await restore(dir), 10);
      await assert.rejects(access(join(dir, 'restoring.json')));
      const engine = await Engine.open({ dir, sealMs: 0 });
      assert.equal((await engine.get(keyOf(7)))?.bins.n, 7);
      await engine.close();
    },
  );

  inArchive(
    'there, and whose engine was written to since, is not made again over that',
    async (restore, dir) => {
      const marker = await markerOf(restore, dir);
      assert.equal(await restore(dir), 10);
      await writeFile(join(dir, 'restoring.json'), marker);
      const engine = await Engine.open({ dir, sealMs: 0 });
      await engine.put(keyOf(11), { n: 11 });
      await engine.close();
      await assert.rejects(restore(dir), (e) => isPitrError(e, 'target-not-empty'));
      const again = await Engine.open({ dir, sealMs: 0 });
      assert.equal((await again.get(keyOf(11)))?.bins.n, 11);
      assert.equal((await again.get(keyOf(7)))?.bins.n, 7);
      await again.close();
    },
  );

  /** The marker that a restore has while it is under way. */
  const markerOf = async (restore: (dir: string) => Promise<number>, dir: string): Promise<string> => {
    let marker = '';
    await mkdir(dir);
    const watcher = watch(dir, () => {
      try {
        marker ||= readFileSync(join(dir, 'restoring.json'), 'utf8');
      } catch {
        // not there yet, or not any more
      }
    });
    await restore(dir);
    watcher.close();
    await rm(dir, { recursive: true });
    assert.notEqual(marker, '');
    return marker;
  };
});

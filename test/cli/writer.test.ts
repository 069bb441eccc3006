/** What a command does when the writer of a directory is about to close. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { askWriter } from '../../cli/writer.ts';
import { DoorServer } from '../../engine/door.ts';
import { PitrError } from '../../engine/errors.ts';
import { Engine } from '../../wal/engine.ts';

test('a writer that answers engine-closed is one that is not there: the command does it itself', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-writer-'));
  try {
    await Engine.init(dir);
    let asked = 0;
    const door = await DoorServer.open(dir, {
      mark: async () => {
        asked++;
        throw new PitrError('engine-closed', { dir });
      },
    });
    const { result, via } = await askWriter(dir, 'mark', { name: 'm' }, (e) => e.mark('m'));
    await door.close();
    assert.deepEqual([result.name, via], ['m', 'command']);
    assert.ok(asked > 1, 'asked again before');
  } finally {
    rmSync(dir, { recursive: true });
  }
});

import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { nodeFiles } from '../../engine/files.ts';

const inScratch = (name: string, body: (path: string) => Promise<void>): void => {
  test(name, async () => {
    const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-files-'));
    try {
      const path = join(dir, 'f');
      await fs.writeFile(path, 'header');
      await body(path);
    } finally {
      await fs.rm(dir, { recursive: true });
    }
  });
};

inScratch(
  'a synced file: small appends go into zeros written ahead, and closing cuts those off',
  async (path) => {
    const file = await nodeFiles.openSynced(path, 6);
    let expected = Buffer.from('header');
    for (let i = 1; i <= 60; i++) {
      const more = Buffer.alloc(i * 35, i);
      await file.append(more);
      expected = Buffer.concat([expected, more]);
      if (i % 20 !== 1) continue;
      const bytes = await fs.readFile(path);
      assert.ok(bytes.length > expected.length);
      assert.ok(bytes.subarray(0, expected.length).equals(expected));
      assert.ok(bytes.subarray(expected.length).every((b) => b === 0));
    }
    await file.close();
    assert.ok((await fs.readFile(path)).equals(expected));
  },
);

inScratch(
  'a synced file: a large append has no zeros behind it, goes over those that are there, and is whole',
  async (path) => {
    const file = await nodeFiles.openSynced(path, 6);
    await file.append(Buffer.from('small'));
    const large = Buffer.alloc(3_000_001, 'large');
    await file.append(large);
    const expected = Buffer.concat([Buffer.from('headersmall'), large]);
    assert.ok((await fs.readFile(path)).equals(expected));
    await file.append(Buffer.from('end'));
    await file.close();
    assert.ok((await fs.readFile(path)).equals(Buffer.concat([expected, Buffer.from('end')])));
  },
);

inScratch(
  'a synced file that is opened again goes on where its content ends, not where its zeros do',
  async (path) => {
    const first = await nodeFiles.openSynced(path, 6);
    await first.append(Buffer.from('one'));
    // as after a crash: never closed, the zeros are still there
    const second = await nodeFiles.openSynced(path, 9);
    await second.append(Buffer.from('two'));
    await second.close();
    assert.equal(await fs.readFile(path, 'utf8'), 'headeronetwo');
  },
);

inScratch('a synced file that was deleted says so at the next append', async (path) => {
  const file = await nodeFiles.openSynced(path, 6);
  await file.append(Buffer.from('one'));
  await fs.unlink(path);
  await assert.rejects(file.append(Buffer.from('two')), { code: 'ENOENT' });
  await file.close();
});

test('a synced file: an append that blocks stays within the zeros', {
  skip: process.platform !== 'linux',
}, async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-files-'));
  try {
    const path = join(dir, 'f');
    await fs.writeFile(path, 'header');
    const file = await nodeFiles.openSynced(path, 6);
    const appendNow = (bytes: Buffer): boolean | undefined => file.appendNow?.(bytes);
    assert.equal(appendNow(Buffer.from('one')), false, 'there are no zeros yet');
    await file.append(Buffer.from('one'));
    const { size } = await fs.stat(path);
    assert.equal(appendNow(Buffer.from('two')), true);
    assert.equal(appendNow(Buffer.alloc(size)), false, 'a large one is not for blocking');
    const part = Buffer.alloc(50_000, 'part');
    let parts = 0;
    while (appendNow(part)) parts++;
    assert.ok(parts > 2);
    assert.equal((await fs.stat(path)).size, size);
    await file.append(Buffer.from('three'));
    assert.equal(appendNow(Buffer.from('four')), true);
    await fs.link(path, join(dir, 'g'));
    await fs.unlink(path);
    assert.equal(appendNow(Buffer.from('five')), true, 'it still has a name');
    await fs.unlink(join(dir, 'g'));
    assert.throws(() => appendNow(Buffer.from('six')), { code: 'ENOENT' });
    await file.close();
  } finally {
    await fs.rm(dir, { recursive: true });
  }
});

inScratch('a synced file holds what was appended either way, in order', async (path) => {
  const file = await nodeFiles.openSynced(path, 6);
  let expected = 'header';
  for (let i = 0; i < 2000; i++) {
    const more = `${i} `.repeat(50);
    if (i % 3 === 0 || !file.appendNow?.(Buffer.from(more))) await file.append(Buffer.from(more));
    expected += more;
  }
  await file.close();
  assert.equal(await fs.readFile(path, 'utf8'), expected);
});

inScratch(
  'a synced file that could not be cut leaves other files alone when it is closed again',
  async (path) => {
    const file = await nodeFiles.openSynced(path, 6);
    await file.append(Buffer.from('small'));
    await file.close();
    // takes the descriptor that has become free
    const other = `${path}.other`;
    await fs.writeFile(other, 'the bytes of somebody else');
    const handle = await fs.open(other, 'r+');
    try {
      await file.close();
      assert.equal((await fs.readFile(other)).toString(), 'the bytes of somebody else');
      assert.ok((await handle.stat()).isFile());
    } finally {
      await handle.close();
    }
  },
);

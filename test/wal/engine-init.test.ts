import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { cp, mkdir, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { callDoor, isDoorClosed } from '../../engine/door.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { inScratch, keyOf, openEngine, refuses } from './archiver-support.ts';

describe('engine: init', () => {
  inScratch('a path below a file is refused, and the archive does not know the engine', async (dir) => {
    const archive = `file:${join(dir, 'archive')}`;
    await writeFile(join(dir, 'file'), '');
    await refuses('io', Engine.init(join(dir, 'file'), { archive }));
    await refuses('io', Engine.init(join(dir, 'file', 'db'), { archive }));
    const identity = await Engine.init(join(dir, 'db'), { archive });
    assert.equal(identity.partitions, PartitionSet.all.toString());
  });

  inScratch('what the archive refuses leaves nothing behind, and the next try works', async (dir) => {
    const archive = `file:${join(dir, 'archive')}`;
    const half = PartitionSet.parse('0-2047');
    await Engine.init(join(dir, 'a'), { archive, stream: 'a', partitions: half });
    const b = join(dir, 'deep', 'er', 'b');
    await refuses('ownership-conflict', Engine.init(b, { archive, stream: 'b', partitions: half }));
    await refuses('stream-taken', Engine.init(b, { archive, stream: 'a' }));
    await refuses('archive-url', Engine.init(b, { archive: 'ftp://nowhere' }));
    assert.deepEqual((await readdir(dir)).sort(), ['a', 'archive']);
    const empty = join(dir, 'empty');
    await mkdir(empty);
    await refuses('stream-taken', Engine.init(empty, { archive, stream: 'a' }));
    assert.deepEqual(await readdir(empty), [], 'a directory that was there stays');
    const identity = await Engine.init(b, { archive, stream: 'b' });
    assert.equal(identity.partitions, '2048-4095');
  });

  inScratch(
    'many that join one archive at once share it; each file says what the archive says',
    async (dir) => {
      const archive = `file:${join(dir, 'archive')}`;
      const made = await Promise.all(
        Array.from({ length: 4 }, (_, i) =>
          Engine.init(join(dir, `e${i}`), {
            archive,
            stream: `s${i}`,
            partitions: PartitionSet.parse(`${i * 1024}-${i * 1024 + 1023}`),
          }),
        ),
      );
      const timeline = await (await Archive.open(archive)).timeline();
      assert.deepEqual(new Set(made.map((m) => m.timeline)), new Set([timeline.id]));
      for (const { stream, partitions } of made)
        assert.equal(timeline.ownership.find((o) => o.stream === stream)?.partitions, partitions);
    },
  );

  inScratch('an init that was cut short before it registered is completed by the agent', async (dir) => {
    const archive = `file:${join(dir, 'archive')}`;
    const e = join(dir, 'e');
    const { timeline } = await Engine.init(e, { archive });
    await rm(join(dir, 'archive', 'timelines'), { recursive: true });
    assert.deepEqual((await (await Archive.open(archive)).timelines()).timelines, []);
    const archiver = await Archiver.open(e);
    await archiver.round();
    await archiver.close();
    assert.equal((await (await Archive.open(archive)).timeline()).id, timeline);
  });

  inScratch('the temporary file of a killed init does not stand in the way', async (dir) => {
    await writeFile(join(dir, '.engine.json.0a0b0c0d'), '{');
    await Engine.init(dir);
    await (await openEngine(dir)).close();
  });
});

describe('engine: open', () => {
  inScratch('a door that cannot be opened leaves the directory free', async (dir) => {
    await Engine.init(dir);
    await mkdir(join(dir, 'engine.sock', 'x'), { recursive: true });
    await refuses('io', openEngine(dir));
    // who needs no door does not notice
    await (await Engine.open({ dir, sealMs: 0, lockWaitMs: 0, door: false })).close();
    await rm(join(dir, 'engine.sock'), { recursive: true });
    const engine = await openEngine(dir);
    await engine.put(keyOf(1), { n: 1 });
    await engine.close();
  });

  inScratch('an agent that adopts a closed directory never answers at its door', async (dir) => {
    const e = join(dir, 'e');
    await Engine.init(e, { archive: `file:${join(dir, 'archive')}` });
    const archiver = await Archiver.open(e);
    let stopped = false;
    const adopting = (async () => {
      while (!stopped) await archiver.adopt();
    })();
    for (let i = 0; i < 30; i++)
      await assert.rejects(callDoor(e, 'mark', { name: `m${i}` }), (error) => isDoorClosed(error));
    stopped = true;
    await adopting;
    await archiver.close();
  });

  inScratch('an open that fails after the log was opened closes its files', async (dir) => {
    const e = join(dir, 'e');
    await Engine.init(e);
    const engine = await openEngine(e);
    await engine.put(keyOf(1), { n: 1 });
    await cp(join(e, 'log'), join(dir, 'log'), { recursive: true });
    await engine.put(keyOf(2), { n: 2 });
    await engine.close();
    await rm(join(e, 'log'), { recursive: true });
    await cp(join(dir, 'log'), join(e, 'log'), { recursive: true });
    await refuses('log-gap', openEngine(e));
    const logs = () => readdirSync('/proc/self/fd').length;
    const before = logs();
    for (let i = 0; i < 20; i++) await refuses('log-gap', openEngine(e));
    assert.ok(logs() <= before + 2, `${before} → ${logs()} descriptors`);
  });

  inScratch(
    'record files of hand-overs that were killed are removed, those under way are not',
    async (dir) => {
      await Engine.init(dir);
      const [old, fresh] = ['incoming-0a1b2c3d.records', 'incoming-ffffffff.records'];
      for (const name of [old, fresh]) await writeFile(join(dir, name), 'x');
      const then = new Date(Date.now() - 2 * 3_600_000);
      await utimes(join(dir, old), then, then);
      await (await openEngine(dir)).close();
      const names = await readdir(dir);
      assert.deepEqual([names.includes(old), names.includes(fresh)], [false, true]);
    },
  );
});

/** Restorable ranges where databases grow, fork and lose what they stand on (S4). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { restoreEngine, restoreJsonLines } from '../../restore/restore.ts';
import { createBase, createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot } from '../../snapshot/snapshots.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-ranges-'));
after(() => rmSync(root, { recursive: true }));
const START = 1_700_000_000_000;
const is = (id: ErrorId) => (e: unknown) => e instanceof PitrError && e.id === id;

/** A folder with a clock and an archive of its own. */
const place = (name: string) => {
  const clock = new ManualClock(START);
  const archive = `file:${join(root, name, 'archive')}`;
  const dirOf = (stream: string): string => join(root, name, stream);
  return {
    clock,
    archive,
    dirOf,
    init: (stream: string, partitions?: string) =>
      Engine.init(dirOf(stream), {
        archive,
        stream,
        clock,
        ...(partitions === undefined ? {} : { partitions: PartitionSet.parse(partitions) }),
      }),
    write: async (stream: string, keys: readonly number[]): Promise<void> => {
      const engine = await Engine.open({ dir: dirOf(stream), sealMs: 0, clock });
      for (const key of keys) {
        clock.step(10);
        await engine.put({ namespace: 'test', key }, { key }).catch((e) => {
          if (!is('partition-not-owned')(e)) throw e;
        });
      }
      clock.step(10);
      await engine.close();
    },
    ship: async (stream: string): Promise<void> => {
      const archiver = await Archiver.open(dirOf(stream), { clock });
      await archiver.archivePending();
      await archiver.close();
    },
    view: async (): Promise<ArchiveView> => ArchiveView.read(await Archive.open(archive, { clock })),
  };
};

const keys = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i);

test('S4: an engine that joins later takes nothing from what was restorable before', async () => {
  const p = place('joins');
  await p.init('a', '0-2047');
  await p.write('a', keys(20));
  await p.ship('a');
  const [before] = (await p.view()).restorable.ranges;
  p.clock.step(1000);
  await p.init('b', '2048-4095');
  const [joined] = (await p.view()).restorable.ranges;
  assert.deepEqual([joined.fromTs, joined.toTs >= before.toTs], [before.fromTs, true]);
  await p.write('a', keys(20, 20));
  await p.write('b', keys(40));
  await p.ship('a');
  await p.ship('b');
  const { ranges } = (await p.view()).restorable;
  assert.equal(ranges.length, 1, 'the range goes on over the moment at which the new engine joined');
  assert.ok(ranges[0].fromTs === before.fromTs && ranges[0].toTs > joined.toTs);
});

test('S4 S8: a copy on which a fork stands cannot be deleted, and a fork without its past promises nothing', async () => {
  const p = place('stands');
  await p.init('a');
  await p.write('a', keys(10));
  await p.ship('a');
  const archive = await Archive.open(p.archive, { clock: p.clock });
  // a filtered restore is a history without known past: it starts with a base copy
  await restoreEngine(p.dirOf('part'), 'part', {
    archive,
    target: 'latest',
    workers: 0,
    clock: p.clock,
    selection: { namespaces: ['test'] },
  });
  const engine = await Engine.open({ dir: p.dirOf('part'), sealMs: 0, clock: p.clock });
  const sealed = await engine.sealApplied();
  await engine.close();
  await p.ship('part');
  const base = await createBase(archive, p.dirOf('part'), sealed);
  await assert.rejects(deleteSnapshot(archive, base.id), is('snapshot-in-use'));
  // by reference nothing is lost with it
  const byReference = await createSnapshot(archive, { kind: 'incremental', timeline: base.timeline });
  await deleteSnapshot(archive, byReference.id);
});

test('an LSN of the parent after the fork is not taken for a state of the fork', async () => {
  const p = place('future');
  await p.init('a');
  await p.write('a', keys(5));
  await p.ship('a');
  const archive = await Archive.open(p.archive, { clock: p.clock });
  await restoreEngine(p.dirOf('fork'), 'fork', { archive, target: 'lsn:a/3', workers: 0, clock: p.clock });
  await p.write('fork', keys(2, 100));
  await p.ship('fork');
  const lines = async (target: string): Promise<number> => {
    let n = 0;
    await restoreJsonLines(
      async (text) => {
        n += text.toString().split('\n').length - 1;
      },
      { archive, target, workers: 0, clock: p.clock },
    );
    return n;
  };
  assert.equal(await lines('lsn:a/2'), 2);
  assert.equal(await lines('latest'), 5);
  await assert.rejects(lines('lsn:a/5'), is('target-elsewhere'));
  await assert.rejects(lines('lsn:fork/99'), is('target-future'));
});

test('records of a renamed set stay, also when only some partitions were restored', async () => {
  const p = place('renamed');
  await p.init('a');
  const engine = await Engine.open({ dir: p.dirOf('a'), sealMs: 0, clock: p.clock });
  for (const key of keys(60)) await engine.put({ namespace: 'test', set: 'old', key }, { key });
  await engine.close();
  await p.ship('a');
  const { records } = await restoreEngine(p.dirOf('copy'), 'copy', {
    archive: p.archive,
    target: 'latest',
    workers: 0,
    clock: p.clock,
    selection: { partitions: '0-2047', renameSets: { old: 'new' } },
  });
  assert.ok(records > 0 && records < 60);
  const copy = await Engine.open({ dir: p.dirOf('copy'), sealMs: 0, clock: p.clock });
  let found = 0;
  for await (const record of copy.scan()) {
    assert.equal(record.set, 'new');
    found++;
  }
  await copy.close();
  assert.equal(found, records);
});

/** Snapshots: kinds, what they depend on, when they may be taken (N1–N5 of snapshot/README.md). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { planRestore, restoreJsonLines } from '../../restore/restore.ts';
import { inspectChain } from '../../snapshot/chain.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot, findSnapshot, listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-snapshots-'));
after(() => rmSync(root, { recursive: true }));
const is = (id: ErrorId) => (e: unknown) => e instanceof PitrError && e.id === id;

test('a chain of snapshots: parents, what each adds, and the state that each stands for', async () => {
  const dir = join(root, 'data');
  await Engine.init(dir, { archive: `file:${join(root, 'archive')}` });
  const engine = await Engine.open({ dir, sealMs: 0 });
  const archiver = await Archiver.open(dir);
  const { archive } = archiver;
  const put = async (from: number, to: number): Promise<void> => {
    for (let key = from; key < to; key++) await engine.put({ namespace: 'test', key }, { key });
  };
  const ship = async (): Promise<number> => {
    const { ts } = await engine.seal();
    await archiver.archivePending();
    return ts;
  };

  await put(0, 10);
  await ship();
  const full = await createSnapshot(archive, { kind: 'full', label: 'one' });
  await put(10, 30);
  await engine.delete({ namespace: 'test', key: 0 });
  const endTs = await ship();
  // N1: an instant that the archive has not reached is refused, not clamped
  await assert.rejects(createSnapshot(archive, { kind: 'full', ts: endTs + 60_000 }), is('target-future'));
  await assert.rejects(createSnapshot(archive, { kind: 'full', label: 'one' }), is('snapshot-exists'));
  // nobody waits for a snapshot: a write goes through while it is taken
  const [incremental] = await Promise.all([
    createSnapshot(archive, { kind: 'incremental', label: 'two' }),
    put(30, 31),
  ]);
  const synthetic = await createSnapshot(archive, {
    kind: 'synthetic',
    label: 'three',
    ts: incremental.endTs,
  });

  assert.deepEqual([full.parent, incremental.parent, synthetic.parent], [null, full.id, null]);
  const added = (await readSnapshot(archive, incremental)).log;
  assert.deepEqual(added, [{ stream: 'main', lsnStart: 11, lsnEnd: 32 }]);
  const own = await readSnapshot(archive, synthetic);
  assert.deepEqual([own.records, own.segments.reduce((n, s) => n + s.rows, 0), own.log], [29, 29, []]);

  // N2: what is published is there for everyone, at once
  const fresh = await Archive.open(archive.url);
  assert.deepEqual(
    (await listSnapshots(fresh)).map((s) => s.label),
    ['one', 'two', 'three'],
  );
  assert.equal((await findSnapshot(fresh, full.id.slice(0, -1))).id, full.id);
  const chain = await inspectChain(fresh);
  assert.deepEqual(
    chain.timelines[0].snapshots.map((s) => [s.label, s.usable, s.positions]),
    [
      ['one', true, 10],
      ['two', true, 21],
      ['three', true, 0],
    ],
  );

  // the nearest self-contained snapshot is where a restore starts, and gives the same state as the log alone
  await ship();
  const state = async (useBase: boolean): Promise<string[]> => {
    const source = useBase ? fresh : await Archive.open(archive.url);
    if (!useBase) await deleteSnapshot(source, 'three');
    const { plan } = await planRestore({ archive: source, target: 'latest' });
    assert.equal(plan.state.base?.label, useBase ? 'three' : undefined);
    const lines: string[] = [];
    const report = await restoreJsonLines(
      async (text) => {
        lines.push(...text.toString().trim().split('\n'));
      },
      { archive: source, target: 'latest', workers: 0 },
    );
    assert.equal(report.verification.source, 'equal');
    return lines;
  };
  // N3: what another depends on stays; by reference nothing else does
  await assert.rejects(deleteSnapshot(fresh, 'one'), is('snapshot-in-use'));
  const withBase = await state(true);
  assert.deepEqual(await state(false), withBase);
  assert.equal(withBase.length, 30);
  await deleteSnapshot(fresh, 'two');
  await deleteSnapshot(fresh, 'one');
  assert.deepEqual(await listSnapshots(fresh), []);
  assert.equal((await ArchiveView.read(fresh)).restorable.ranges.length, 1, 'the log alone covers it');
  await engine.close();
  await archiver.close();
});

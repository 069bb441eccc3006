/** `pitr compact`, and what other commands say of merging. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { assertNarrow, errorOf, jsonOf, runPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-compact-'));
after(() => rmSync(cwd, { recursive: true }));

/** Seals, each archived as a run of its own. */
const sealRuns = async (from: number, to: number): Promise<void> => {
  const dir = join(cwd, 'data');
  const engine = await Engine.open({ dir, sealMs: 0 });
  const archiver = await Archiver.open(dir);
  for (let n = from; n <= to; n++) {
    await engine.put({ namespace: 'test', set: 's', key: n % 5 }, { n });
    await engine.seal();
    await archiver.archivePending();
  }
  await engine.close();
  await archiver.archivePending();
  await archiver.close();
};

test('compact merges by level, --full into one run; status and chain say what was written', async () => {
  await jsonOf(['init', 'data', '--archive', 'file:archive'], { cwd });
  await sealRuns(1, 9);
  const some = await jsonOf(['compact', 'data', '--fanout', '3'], { cwd });
  const [tiered] = some.streams;
  assert.deepEqual([tiered.merges, tiered.runsBefore, tiered.runsAfter, tiered.versions], [4, 9, 1, 9]);
  await sealRuns(10, 11);
  const nothing = await jsonOf(['compact', 'data'], { cwd });
  assert.deepEqual([nothing.streams[0].merges, nothing.streams[0].runsAfter], [0, 3]);
  const full = (await jsonOf(['compact', 'data', '--full'], { cwd })).streams[0];
  assert.deepEqual([full.merges, full.runsAfter, full.versions], [1, 1, 11]);
  assert.deepEqual([full.written.seals.versions, full.written.merges.versions], [11, 9 + 9 + 11]);
  assert.ok(full.writeAmplification > 1.5);
  const status = await jsonOf(['status', 'data', '--max-lag', '1d'], { cwd });
  assert.equal(status.streams[0].writeAmplification, full.writeAmplification);
  assert.deepEqual(status.leases, []);
  const chain = await jsonOf(['chain', 'data'], { cwd });
  assert.deepEqual(chain.timelines[0].streams[0].written, full.written);
  assert.equal((await jsonOf(['verify', 'data', '--orphans'], { cwd })).anomalies.length, 0);
  for (const command of ['compact', 'status', 'chain']) {
    const { stdout } = await runPitr([command, 'data'], { cwd });
    assertNarrow(stdout);
    assert.match(stdout, /\d\.\d×/);
  }
});

test('a full copy is a border: what is before it and after it stays apart, until --full', async () => {
  await jsonOf(['snapshot', 'create', 'data', '--kind', 'synthetic', '--wait'], { cwd });
  await sealRuns(20, 23);
  const [apart] = (await jsonOf(['compact', 'data', '--fanout', '2'], { cwd })).streams;
  assert.equal(apart.runsAfter, 2);
  const [one] = (await jsonOf(['compact', 'data', '--full'], { cwd })).streams;
  assert.equal(one.runsAfter, 1);
});

test('a directory with a running agent, and a fanout that is none, are refused', async () => {
  const archiver = await Archiver.open(join(cwd, 'data'));
  try {
    const busy = await errorOf(['compact', 'data', '--full'], { cwd }, 'agent-busy', 51);
    assert.match(busy.hint, /stop the agent/);
    assert.match((await errorOf(['compact', 'data'], { cwd }, 'agent-busy', 51)).hint, /merges by itself/);
  } finally {
    await archiver.close();
  }
  await errorOf(['compact', 'data', '--fanout', '1'], { cwd }, 'usage', 2);
});

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { renderBench } from '../../cli/commands/bench.ts';
import { assertNarrow, errorOf, jsonOf, outcomeOf, startPitr } from './run-pitr.ts';

const SMALL = ['bench', '--records', '2000', '--runs', '1', '--commit-ms', '50'];

describe('pitr bench', () => {
  let cwd = '';
  before(async () => {
    cwd = await mkdtemp(join(tmpdir(), 'pitr-bench-command-'));
  });
  after(() => rm(cwd, { recursive: true, force: true }));

  test('--json gives every figure, which read as a table of 80 columns, and nothing stays on the disk', async () => {
    const figures = await jsonOf([...SMALL, '--dir', '.'], { cwd });
    const { commits, batches, archiver, agentCost, restore, restoreVerified } = figures;
    const positive = {
      one: commits['1'].commitsPerSecond,
      many: commits['64'].commitsPerSecond,
      p99: commits['64'].p99Ms,
      batches: batches.changesPerSecond,
      shipped: archiver.changesPerSecond,
      logMB: archiver.logMBPerSecond,
      without: agentCost.without.p99Ms,
      withAgent: agentCost.withAgent.p99Ms,
      archive: figures.archiveMB,
      restore: restore.seconds,
      verified: restoreVerified.seconds,
      memory: restoreVerified.rssAnonMB,
      sync: figures.machine.syncMicros,
    };
    for (const [name, value] of Object.entries(positive)) assert.ok(value > 0, `${name}: ${value}`);
    assert.deepEqual([figures.command, figures.records, figures.changes], ['bench', 2000, 1000]);
    assert.ok(restoreVerified.versions >= 2500 && restoreVerified.versions <= 3000);
    assert.deepEqual(await readdir(cwd), []);
    const text = renderBench(figures, '.');
    assert.match(text, /durable commits, 64 writers .*restore, target verified/s);
    assertNarrow(text);
  });

  test('a run that is interrupted removes what it made, and its processes are gone', async () => {
    const dir = join(cwd, 'interrupted');
    await mkdir(dir);
    const child = startPitr(['bench', '--dir', dir, '--json'], { cwd });
    const outcome = outcomeOf(child);
    while ((await readdir(dir)).length === 0) await sleep(20);
    await sleep(300);
    child.kill('SIGINT');
    const { code, stdout } = await outcome;
    assert.deepEqual([code, JSON.parse(stdout).error.id], [61, 'interrupted']);
    // a writer that went on would make its directory again
    await sleep(500);
    assert.deepEqual(await readdir(dir), []);
  });

  test('refuses numbers that are none, and a directory that is not there', async () => {
    for (const args of [
      ['--records', '0'],
      ['--records', '1e99'],
      ['--runs', 'x'],
      ['--commit-ms', '-1'],
      ['--dir', 'absent'],
    ])
      await errorOf(['bench', ...args], { cwd }, 'usage', 2);
    assert.deepEqual(
      (await readdir(cwd)).filter((n) => n !== 'interrupted'),
      [],
    );
  });
});

/** An agent process that loses its stream, and one that archives two databases. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Archiver } from '../../wal/archiver.ts';
import { jsonOf, outcomeOf, startPitr } from './run-pitr.ts';

const inScratch = (what: string, body: (cwd: string) => Promise<void>): void => {
  test(what, async () => {
    const cwd = mkdtempSync(join(tmpdir(), 'pitr-agent-'));
    try {
      await body(cwd);
    } finally {
      rmSync(cwd, { recursive: true });
    }
  });
};

inScratch('an agent that was fenced ends with exit code 52 and says so once', async (cwd) => {
  await jsonOf(['init', 'a', '--archive', 'file:archive'], { cwd });
  const agent = startPitr(['agent', 'a', '--log-format', 'json', '--json'], { cwd });
  const outcome = outcomeOf(agent);
  try {
    await new Promise<void>((resolve) => agent.stderr?.once('data', () => resolve()));
    cpSync(join(cwd, 'a'), join(cwd, 'b'), {
      recursive: true,
      filter: (path) => !/\.(sock|lock)$/.test(path),
    });
    const taker = await Archiver.open(join(cwd, 'b'));
    const { code, stdout, stderr } = await outcome;
    await taker.close();
    assert.equal(code, 52, stderr);
    assert.equal(JSON.parse(stdout).error.id, 'fenced');
    assert.equal(stderr.match(/another agent has the stream/g)?.length, 1, stderr);
  } finally {
    agent.kill('SIGKILL');
  }
});

inScratch('the schedule takes snapshots of every archive and history among the directories', async (cwd) => {
  for (const name of ['a', 'b']) await jsonOf(['init', name, '--archive', `file:archive-${name}`], { cwd });
  const args = ['agent', 'a', 'b', '--snapshot-cron', '* * * * * *', '--snapshot-label', 'every', '--json'];
  const agent = startPitr(args, { cwd });
  const outcome = outcomeOf(agent);
  try {
    const countOf = async (name: string): Promise<number> =>
      (await jsonOf(['snapshot', 'list', '--archive', `file:archive-${name}`], { cwd })).snapshots.length;
    for (const until = Date.now() + 20_000; ; ) {
      if ((await countOf('a')) > 0 && (await countOf('b')) > 0) break;
      assert.ok(Date.now() < until, 'both have snapshots');
      await sleep(200);
    }
    agent.kill('SIGTERM');
    const { code, stderr } = await outcome;
    assert.equal(code, 0, stderr);
  } finally {
    agent.kill('SIGKILL');
  }
});

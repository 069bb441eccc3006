/** An agent process that loses its stream, and one that archives two databases. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { kernelLocks, type Locks } from '../../engine/directory-lock.ts';
import { readIdentity } from '../../engine/identity.ts';
import { Archive } from '../../wal/archive.ts';
import { readArchived } from '../../wal/archived.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { readFenced } from '../../wal/fenced.ts';
import { errorOf, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

/** Far above what anything takes on a busy machine. */
const PATIENCE_MS = 60_000;

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

/** A directory with a writer that stays, and its agent, which has archived the first two writes and sleeps. */
const withSleeper = async (cwd: string) => {
  await jsonOf(['init', 'a', '--archive', 'file:archive'], { cwd });
  const dir = join(cwd, 'a');
  // with a writer there, the agent never holds the writer's lock
  const engine = await Engine.open({ dir, sealMs: 0 });
  const put = async (value: string): Promise<void> => {
    await engine.put({ namespace: 'test', set: 's', key: value }, { value });
    await engine.seal();
  };
  await put('first');
  await put('second');
  const agent = startPitr(['agent', 'a', '--log-format', 'json', '--json'], { cwd });
  const outcome = outcomeOf(agent);
  for (const until = Date.now() + PATIENCE_MS; (await readArchived(dir)).lsn < 2; await sleep(50))
    assert.ok(Date.now() < until, 'the first writes are archived');
  agent.kill('SIGSTOP');
  return { dir, engine, put, agent, outcome };
};

const logOf = (dir: string): Buffer =>
  Buffer.concat(readdirSync(join(dir, 'log')).map((name) => readFileSync(join(dir, 'log', name))));

const headIn = async (cwd: string, dir: string) => {
  const { timeline, stream } = await readIdentity(dir);
  return (await (await Archive.open(`file:${join(cwd, 'archive')}`)).head(timeline, stream))?.value;
};

inScratch(
  'an agent that slept while a copy of its directory was archived ends with exit code 52; its log is kept, and status says so',
  async (cwd) => {
    const { dir, engine, put, agent, outcome } = await withSleeper(cwd);
    try {
      const copy = join(cwd, 'b');
      cpSync(dir, copy, { recursive: true, filter: (path) => !/\.(sock|lock)$/.test(path) });
      // both go on, each with a third write of its own
      const other = await Engine.open({ dir: copy, sealMs: 0 });
      await other.put({ namespace: 'test', set: 's', key: 'theirs' }, { value: 'theirs' });
      await other.close();
      const taker = await Archiver.open(copy);
      await taker.round();
      await taker.close();
      await put('only here');
      const before = await headIn(cwd, dir);
      agent.kill('SIGCONT');
      const { code, stdout, stderr } = await outcome;
      assert.equal(code, 52, stderr);
      assert.equal(JSON.parse(stdout).error.id, 'fenced');
      assert.equal(stderr.match(/another agent has the stream/g)?.length, 1, stderr);
      assert.deepEqual(await headIn(cwd, dir), before, 'it published nothing');
      // what a writer trims later is what the archive has
      for (const value of ['fourth', 'fifth']) await put(value);
      await engine.sealApplied();
      await engine.close();
      for (const value of ['only here', 'fourth', 'fifth']) assert.ok(logOf(dir).includes(value), value);
      const status = await runPitr(['status', 'a', '--json'], { cwd });
      assert.equal(status.code, 7, status.stderr);
      const { problems } = JSON.parse(status.stdout);
      const [fenced] = problems.filter((p: { code: string }) => p.code === 'fenced');
      assert.deepEqual([fenced.fenced.mine, fenced.fenced.current], [1, 2]);
      assert.deepEqual(fenced.waitingLsn, { lsnStart: 3, lsnEnd: 6 });
      assert.ok(fenced.waitingFiles >= 3 && fenced.waitingBytes > 0);
      assert.equal(problems.filter((p: { code: string }) => p.code === 'log-rolled-back').length, 1);
      await errorOf(['agent', 'a', '--once'], { cwd }, 'log-rolled-back', 46);
      assert.deepEqual(await headIn(cwd, dir), before, 'nor does it take the stream from who can go on');
    } finally {
      agent.kill('SIGKILL');
      await engine.close();
    }
  },
);

inScratch(
  'an agent that slept while another one archived the same directory: what it finds is said until an agent is there again',
  async (cwd) => {
    const { dir, engine, put, agent, outcome } = await withSleeper(cwd);
    try {
      // on another host the lock of this one is not seen
      const elsewhere = (path: string): string => path.replace(/agent\.lock$/, 'agent-elsewhere.lock');
      const locks: Locks = {
        acquire: (path, options) => kernelLocks.acquire(elsewhere(path), options),
        isLocked: (path) => kernelLocks.isLocked(elsewhere(path)),
      };
      const taker = await Archiver.open(dir, { locks });
      await put('third');
      await taker.archivePending();
      await taker.close();
      await put('fourth');
      agent.kill('SIGCONT');
      const { code, stderr } = await outcome;
      assert.equal(code, 52, stderr);
      const { code: exit, stdout } = await runPitr(['status', 'a'], { cwd });
      assert.equal(exit, 7);
      assert.match(stdout, /another agent has stream main since .*writer generation 2, here 1/s);
      assert.match(stdout, /LSN 4 to 4/);
      assert.doesNotMatch(stdout, /does not continue/);
      const again = await jsonOf(['agent', 'a', '--once'], { cwd });
      assert.deepEqual([again.streams[0].lsn, again.streams[0].generation], [4, 3]);
      assert.equal(await readFenced(dir), undefined);
    } finally {
      agent.kill('SIGKILL');
      await engine.close();
    }
  },
);

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

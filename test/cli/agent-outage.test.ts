/** A real writer, a real agent, and an archive directory that goes away for some seconds: what each policy makes of it. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { restoreEngine } from '../../restore/restore.ts';
import { Engine } from '../../wal/engine.ts';
import { Child } from '../kill/child.ts';
import { fingerprintOf, Model } from '../kill/content.ts';
import { stateOf } from '../kill/state.ts';
import { assertNarrow, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

/** Far above what anything takes: tries are up to half a minute apart, and the machine may be busy. */
const PATIENCE_MS = 120_000;
const root = mkdtempSync(join(tmpdir(), 'pitr-outage-'));
const running: { kill(signal: 'SIGKILL'): unknown }[] = [];
after(async () => {
  await Child.killAll();
  for (const child of running) child.kill('SIGKILL');
  rmSync(root, { recursive: true });
});

/** An engine with its writer, its agent and its archive, each of which can be there or not. */
const place = async (name: string, ...initArgs: string[]) => {
  const cwd = join(root, name);
  const dir = join(cwd, 'data');
  const archive = join(cwd, 'archive');
  await jsonOf(['init', dir, '--archive', `file:${archive}`, ...initArgs], { cwd: root });
  let acknowledged = 0;
  const status = async () => {
    const { code, stdout, stderr } = await runPitr(['status', dir, '--json'], { cwd: root });
    assert.ok(code === 0 || code === 7, `${stdout}${stderr}`);
    const said = JSON.parse(stdout);
    assert.equal(said.green, code === 0);
    return said;
  };
  return {
    dir,
    archive,
    status,
    acknowledged: () => acknowledged,
    startWriter: (): Child =>
      new Child('writer.ts', [dir], (line) => {
        if (!line.startsWith('{')) acknowledged = Number(line);
      }),
    startAgent: () => {
      const agent = startPitr(['agent', dir, '--log-format', 'json', '--json'], { cwd: root });
      running.push(agent);
      return { agent, outcome: outcomeOf(agent) };
    },
    takeAway: () => renameSync(archive, `${archive}-away`),
    bringBack: () => renameSync(`${archive}-away`, archive),
    /** The first status that `wanted` accepts. */
    // biome-ignore lint/suspicious/noExplicitAny: the output is checked by the test that asks for it
    until: async (what: string, wanted: (said: any) => boolean) => {
      for (const end = Date.now() + PATIENCE_MS; ; await sleep(200)) {
        const said = await status();
        if (wanted(said)) return said;
        assert.ok(Date.now() < end, `${what}: ${JSON.stringify(said.problems)}`);
      }
    },
    /** Restores and compares with what the writer must have written. Returns the step that the state is of. */
    check: async (target: string): Promise<number> => {
      const into = join(cwd, `restored-${target}`);
      await restoreEngine(into, `r${target}`, { archive: `file:${archive}`, target, workers: 0 });
      const engine = await Engine.open({ dir: into, sealMs: 0 });
      const records = await stateOf(engine);
      await engine.close();
      const model = new Model();
      model.advanceTo(Number(records.get('counter')));
      assert.equal(fingerprintOf(records), model.fingerprint());
      return model.steps;
    },
  };
};

const codesOf = (said: { problems: { code: string }[] }): string[] => said.problems.map((p) => p.code);

test('S2: the archive is away while a writer goes on: status says so, and everything acknowledged arrives', async () => {
  const p = await place('away');
  const { agent, outcome } = p.startAgent();
  const writer = p.startWriter();
  await writer.line((l) => Number(l) > 20);
  await p.until('archived', (s) => s.contiguousEnd !== null);
  p.takeAway();
  const goneMs = Date.now();
  const before = p.acknowledged();
  const away = await p.until('outage', (s) => codesOf(s).includes('outage'));
  assert.deepEqual([away.archive.isReachable, codesOf(away)[0]], [false, 'archive-away']);
  const { local } = away.streams[0];
  const { outage } = local;
  // a round that it surprised halfway says io
  assert.ok(['archive-not-found', 'io'].includes(outage.error.id));
  assert.ok(outage.sinceMs >= goneMs && outage.tries >= 1 && outage.nextMs > outage.lastMs);
  assert.ok(local.waitingBytes > 0 && local.hasAgent && local.hasWriter);
  assert.ok(local.writer.spool.waitingBytes > 0 && local.writer.failure === null);
  assert.ok(
    local.waitingBytes <= local.writer.spool.waitingBytes,
    'room that is written ahead waits for nothing',
  );
  await sleep(3000);
  const later = await p.until('still away', () => true);
  assert.ok(later.streams[0].local.waitingBytes > local.waitingBytes, 'the log spools');
  assert.equal(later.streams[0].local.outage.sinceMs, outage.sinceMs);
  assert.ok(p.acknowledged() > before, 'the writer goes on');
  const text = await runPitr(['status', p.dir], { cwd: root });
  assert.equal(text.code, 7);
  assert.match(text.stdout, /has not been able to archive since/);
  assertNarrow(text.stdout.replaceAll(p.dir, 'data').replaceAll(p.archive, 'archive'));
  p.bringBack();
  await p.until('caught up', (s) => s.green);
  await writer.kill();
  const { acknowledged } = { acknowledged: p.acknowledged() };
  // the agent recovers what the killed writer left
  const killedMs = Date.now();
  await p.until('adopted', (s) => s.contiguousEnd >= killedMs);
  agent.kill('SIGTERM');
  const { code, stderr } = await outcome;
  assert.equal(code, 0, stderr);
  const tries = stderr.split('\n').filter((l) => l.includes('trying again')).length;
  assert.ok(tries >= 1 && tries <= 6, `${tries} tries in an outage of some seconds`);
  assert.ok((await p.check('latest')) >= acknowledged, 'nothing acknowledged is missing');
});

test('policy block: without an agent the writer waits and status says so; with one it goes on', async () => {
  const p = await place('block', '--log-policy', 'block', '--log-quota', '128KiB', '--block-timeout', '2m');
  const writer = p.startWriter();
  const blocked = await p.until('blocked', (s) =>
    s.problems.some(
      (x: { code: string; blockedWriters: number }) => x.code === 'log-quota' && x.blockedWriters > 0,
    ),
  );
  const problem = blocked.problems.find((x: { code: string }) => x.code === 'log-quota');
  assert.deepEqual([problem.policy, problem.quotaBytes, problem.diskLow], ['block', 128 * 1024, false]);
  assert.ok(problem.waitingBytes >= 128 * 1024 && problem.waitingBytes < 512 * 1024);
  const stuck = p.acknowledged();
  await sleep(700);
  assert.equal(p.acknowledged(), stuck);
  const { agent, outcome } = p.startAgent();
  await writer.line((l) => Number(l) > stuck + 200);
  await p.until('green', (s) => s.green);
  await writer.kill();
  agent.kill('SIGTERM');
  assert.equal((await outcome).code, 0);
  assert.ok((await p.check('latest')) >= p.acknowledged());
});

test('S4: policy drop-with-gap: the writer never waits, the gap is recorded, and a base copy starts a new range', async () => {
  const p = await place('drop');
  // the operator's word through the agent reaches the live writer
  const writer = p.startWriter();
  await writer.line((l) => Number(l) > 20);
  await jsonOf(['agent', p.dir, '--once', '--log-policy', 'drop-with-gap', '--log-quota', '512KiB'], {
    cwd: root,
  });
  const shipped = (await p.status()).streams[0].lsn;
  const { agent, outcome } = p.startAgent();
  await p.until('the agent archives', (s) => s.streams[0].lsn > shipped);
  p.takeAway();
  const dropping = await p.until('dropped', (s) => codesOf(s).includes('dropped'));
  assert.ok(dropping.streams[0].local.dropped.length === 1);
  const during = p.acknowledged();
  await writer.line((l) => Number(l) > during + 50);
  p.bringBack();
  // on a busy machine there may be a second gap: each ends with a copy
  await p.until('anchored again', (s) => s.ranges.length > 1 && s.ranges.at(-1).anchor !== 'start');
  await writer.kill();
  const killedMs = Date.now();
  const after = await p.until('all there', (s) => s.contiguousEnd >= killedMs);
  const { gaps } = after.streams[0];
  assert.ok(gaps.length > 0 && gaps.every((g: { cause: string }) => g.cause === 'dropped: quota'));
  agent.kill('SIGTERM');
  const { code, stderr } = await outcome;
  assert.equal(code, 0, stderr);
  const [old] = after.ranges;
  const early = await p.check(String(old.toTs));
  assert.ok(early < during);
  await assert.rejects(p.check(String(old.toTs + 1)), (e: { id?: string }) => e.id === 'target-nodata');
  assert.ok((await p.check('latest')) >= p.acknowledged());
});

/** The agent, and the commands that look at what it makes, as processes: three engines, one archive, a hand-over between two of them. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { PitrError } from '../../engine/errors.ts';
import { digestOf, partitionOf } from '../../engine/partition.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Engine } from '../../wal/engine.ts';
import { assertNarrow, errorOf, jsonOf, type Outcome, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-agent-'));
const ARCHIVE = 'file:archive';
const STREAMS = { a: '0-1365', b: '1366-2730', c: '2731-4095' } as const;
const KEYS = 60;
const json = (...args: string[]) => jsonOf(args, { cwd });
const engines = new Map<string, Engine>();
let agent: ChildProcess;
let agentOutcome: Promise<Outcome>;

const keyOf = (key: string) => ({ namespace: 'test', set: 's', key });
const ownerOf = (key: string): Engine => {
  const partition = partitionOf(digestOf('s', 3, Buffer.from(key)));
  const owner = [...engines.values()].find((e) => e.partitions.has(partition));
  assert.ok(owner, `partition ${partition} has an owner`);
  return owner;
};
const putAll = async (value: number): Promise<void> => {
  for (let i = 0; i < KEYS; i++) await ownerOf(`k${i}`).put(keyOf(`k${i}`), { value });
};

before(async () => {
  for (const [stream, partitions] of Object.entries(STREAMS))
    await json('init', stream, '--archive', ARCHIVE, '--stream', stream, '--partitions', partitions);
  agent = startPitr(
    [
      'agent',
      'a',
      'b',
      'c',
      '--snapshot-cron',
      '* * * * * *',
      '--log-format',
      'json',
      '--log-level',
      'debug',
      '--json',
    ],
    { cwd },
  );
  agentOutcome = outcomeOf(agent);
  for (const stream of Object.keys(STREAMS))
    engines.set(stream, await Engine.open({ dir: join(cwd, stream), sealMs: 200 }));
});

after(async () => {
  for (const engine of engines.values()) await engine.close();
  agent.kill('SIGKILL');
  rmSync(cwd, { recursive: true });
});

test('one agent archives three streams of three live writers and snapshots on a schedule', async () => {
  await putAll(1);
  const made = await json(
    'snapshot',
    'create',
    'a',
    'b',
    'c',
    '--label',
    'first',
    '--kind',
    'full',
    '--wait',
  );
  assert.equal(made.snapshot?.records ?? made.records, KEYS);
  for (const until = Date.now() + 20_000; ; ) {
    const { snapshots } = await json('snapshot', 'list', '--archive', ARCHIVE);
    if (snapshots.filter((s: { kind: string }) => s.kind === 'incremental').length >= 2) break;
    assert.ok(Date.now() < until, 'scheduled snapshots appear');
    await sleep(300);
  }
});

test('a second agent for a stream, and a second writer for a directory, are refused', async () => {
  await errorOf(['agent', 'b', '--once'], { cwd }, 'agent-busy', 51);
  await assert.rejects(
    Engine.open({ dir: join(cwd, 'a'), lockWaitMs: 100 }),
    (e) => e instanceof PitrError && e.id === 'engine-busy',
  );
});

test('partitions move between two live writers by one command; the old one names the new one', async () => {
  const done = await json('handover', 'c', '--to', 'a', '--partitions', STREAMS.c);
  assert.deepEqual([done.from, done.to, done.partitions], ['c', 'a', STREAMS.c]);
  const moved = Array.from({ length: KEYS }, (_, i) => `k${i}`).filter(
    (k) => ownerOf(k) === engines.get('a'),
  );
  assert.ok(done.records > 0 && moved.length > done.records);
  const { c } = Object.fromEntries(engines);
  const key = moved.find((k) => partitionOf(digestOf('s', 3, Buffer.from(k))) > 2730) as string;
  await assert.rejects(
    c.put(keyOf(key), { value: 9 }),
    (e) => e instanceof PitrError && e.id === 'partition-not-owned' && e.facts.owner === 'a',
  );
  await putAll(2);
  assert.equal((await ownerOf(key).get(keyOf(key)))?.bins.value, 2);
});

test('chain, status, verify and doctor agree on what there is', async () => {
  await json('mark', 'here', 'a');
  await json('snapshot', 'create', 'a', 'b', 'c', '--label', 'second', '--wait');
  const chain = await json('chain', '--archive', ARCHIVE);
  const [timeline] = chain.timelines;
  assert.deepEqual(
    timeline.streams.map((s: { stream: string; partitions: string }) => [s.stream, s.partitions]),
    [
      ['a', '0-1365,2731-4095'],
      ['b', '1366-2730'],
      ['c', 'none'],
    ],
  );
  assert.ok(timeline.snapshots.every((s: { usable: boolean }) => s.usable));
  assert.deepEqual(
    timeline.marks.map((m: { name: string }) => m.name),
    ['here'],
  );
  const verified = await json('verify', 'a', '--orphans');
  assert.deepEqual([verified.ok, verified.anomalies, verified.states[0].result], [true, [], 'equal']);
  const doctor = await json('doctor', 'a', '--archive', ARCHIVE);
  assert.ok(doctor.ok);
  const left = readdirSync(join(cwd, 'archive')).filter((name) => name.startsWith('doctor'));
  assert.deepEqual(left, [], 'doctor leaves nothing behind');
  for (const args of [
    ['chain', '--archive', ARCHIVE],
    ['chain', '--archive', ARCHIVE, '--tree'],
    ['verify', '--archive', ARCHIVE],
    ['doctor', 'a'],
  ]) {
    const { code, stdout } = await runPitr(args, { cwd });
    assert.equal(code, 0);
    assertNarrow(stdout);
  }
});

test('a snapshot that is due before anything is restorable is not an error; a later one is taken', async () => {
  // of a copy of a part nothing is restorable until its base copy, which is not made in the first seconds
  await json('restore', '--archive', ARCHIVE, '--to', 'mark:here', '--set', 's', '--into', 'part');
  const child = startPitr(['agent', 'part', '--snapshot-cron', '* * * * * *', '--log-format', 'json'], {
    cwd,
  });
  let said = '';
  child.stderr?.on('data', (text) => {
    said += text;
  });
  try {
    for (const what of ['no snapshot yet', 'snapshot taken'])
      for (const until = Date.now() + 20_000; !said.includes(what); await sleep(50))
        assert.ok(Date.now() < until, `the agent says "${what}": ${said}`);
  } finally {
    child.kill('SIGTERM');
    await outcomeOf(child);
  }
  assert.doesNotMatch(said, /"level":"error"/);
});

test('SIGTERM ends the agent cleanly, with everything sealed shipped', async () => {
  await putAll(3);
  for (const engine of engines.values()) await engine.seal();
  agent.kill('SIGTERM');
  const { code, stdout, stderr } = await agentOutcome;
  assert.equal(code, 0, stderr);
  const said = JSON.parse(stdout);
  assert.equal(said.failures, 0, stderr);
  for (const { stream, lsn } of said.streams) assert.equal(lsn, engines.get(stream)?.lastLsn);
  for (const [stream, engine] of engines) {
    await engine.close();
    engines.delete(stream);
  }
});

test('verify names a flipped byte and a missing object, and its exit code says so', async () => {
  await json('agent', 'a', 'b', 'c', '--once');
  const archive = await Archive.open(`file:${join(cwd, 'archive')}`);
  const view = await ArchiveView.read(archive);
  const [flipped, missing] = [...(view.heads.get(view.timeline.id)?.values() ?? [])].map(
    (h) => h.runs[0].segments[0].name,
  );
  const path = join(cwd, 'archive', flipped);
  const bytes = readFileSync(path);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(path, bytes);
  rmSync(join(cwd, 'archive', missing));
  const { code, stdout } = await runPitr(['verify', '--archive', ARCHIVE, '--json'], { cwd });
  const report = JSON.parse(stdout);
  assert.deepEqual([code, report.ok], [43, false]);
  const found = new Map(report.anomalies.map((a: { object: string; class: string }) => [a.object, a.class]));
  assert.equal(found.get(missing), 'missing');
  assert.ok(['corrupt', 'missing'].includes(String(found.get(flipped))), stdout);
});

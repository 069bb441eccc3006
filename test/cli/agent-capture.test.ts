/** A real agent captures a cluster of three nodes; its directory is lost; another one goes on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { ParticleType } from '../../engine/particle.ts';
import { jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const PATIENCE_MS = 60_000;
const cwd = mkdtempSync(join(tmpdir(), 'pitr-capture-'));
const run = { cwd };
const running: { kill(signal: 'SIGKILL'): unknown }[] = [];
after(() => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(cwd, { recursive: true });
});

const start = (args: readonly string[]) => {
  const child = startPitr([...args], run);
  running.push(child);
  return { child, outcome: outcomeOf(child) };
};

const until = async <T>(what: string, look: () => Promise<T | undefined>): Promise<T> => {
  for (const end = Date.now() + PATIENCE_MS; ; await sleep(100)) {
    const found = await look().catch(() => undefined);
    if (found !== undefined) return found;
    assert.ok(Date.now() < end, what);
  }
};

/** The first of three ports that follow each other and are free; not among those that the system gives out by itself. */
const threePorts = async (): Promise<number> => {
  for (;;) {
    const first = 10_000 + Math.floor(Math.random() * 20_000);
    const servers = [0, 1, 2].map((n) => createServer().listen(first + n, '127.0.0.1'));
    const listening = await Promise.allSettled(servers.map((server) => once(server, 'listening')));
    await Promise.allSettled(servers.map((server) => new Promise((done) => server.close(done))));
    if (listening.every(({ status }) => status === 'fulfilled')) return first;
  }
};
const PORT = await threePorts();
const CLUSTER = `aerospike://127.0.0.1:${PORT}`;

const key = (i: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(i));
  return wireKeyOf('test', 's', { type: ParticleType.integer, bytes }, true);
};
const text = (value: string) => [{ name: 'v', type: ParticleType.string, bytes: Buffer.from(value) }];

/** Records at an instant by their keys, as JSON lines have them. */
const stateAt = async (dir: string, to: string): Promise<Record<string, string>> => {
  const { stdout, code, stderr } = await runPitr(
    ['restore', dir, '--to', to, '--json-lines', '--strict'],
    run,
  );
  assert.equal(code, 0, stderr);
  const lines = stdout
    .trim()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return Object.fromEntries(lines.map((r) => [String(r.key?.value ?? r.key), r.bins.v?.value ?? r.bins.v]));
};

const restorable = async (dir: string): Promise<true | undefined> => {
  const { contiguousEnd } = await jsonOf(['status', dir], run);
  return contiguousEnd === null ? undefined : true;
};

test('a cluster is captured, marked, restored; its directory is lost, and another one goes on', async (t) => {
  start(['serve', 'served', '--listen', `127.0.0.1:${PORT}`, '--nodes', '3']);
  const client = await until('the cluster', () =>
    AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: PORT }] }),
  );
  // one that stays open keeps the process
  t.after(() => client.close());
  for (let i = 0; i < 20; i++) await client.put(key(i), text('first'), { mode: 'replace', ttl: 'never' });
  const source = ['--source', CLUSTER, '--archive', 'file:archive', '--poll', '200ms'];
  const first = start(['agent', ...source, '--stream', 'one', 'one']);
  await until('a base copy', () => restorable('one'));
  for (let i = 0; i < 5; i++) await client.delete(key(i));
  for (let i = 5; i < 10; i++) await client.put(key(i), text('second'), { mode: 'replace', ttl: 'never' });
  // a clock of whole seconds makes windows of deletes as wide: a mark that is exact is behind them
  await sleep(2500);
  await jsonOf(['mark', 'before', 'one'], run);
  await client.put(key(10), text('after'), { mode: 'replace', ttl: 'never' });
  await jsonOf(['mark', 'later', 'one'], run);
  const marked = await until('the marks', () => stateAt('one', 'mark:later'));
  assert.equal(marked['10'], 'after');
  const before = await stateAt('one', 'mark:before');
  const wanted: Record<string, string> = {};
  for (let i = 5; i < 20; i++) wanted[i] = i < 10 ? 'second' : 'first';
  assert.deepEqual(before, wanted);

  first.child.kill('SIGKILL');
  await first.outcome;
  rmSync(join(cwd, 'one'), { recursive: true });
  await client.put(key(11), text('alone'), { mode: 'replace', ttl: 'never' });
  await client.delete(key(12));
  start(['agent', ...source, '--stream', 'two', '--partitions', 'none', 'two']);
  const moved = await until('the new owner', () => jsonOf(['handover', 'one', '--lost', '--to', 'two'], run));
  assert.equal(moved.partitions, '0-4095');
  await sleep(2500);
  await jsonOf(['mark', 'recovered', 'two'], run);
  const after = await until('the new history', () => stateAt('two', 'mark:recovered'));
  const { '12': _, ...rest } = { ...wanted, '10': 'after', '11': 'alone' } as Record<string, string>;
  assert.deepEqual(after, rest);
  assert.deepEqual(await stateAt('two', 'mark:before'), wanted, 'the past is what it was');
  const status = await jsonOf(['status', 'two'], run);
  assert.equal(
    status.streams.find((s: { stream: string }) => s.stream === 'two').local.source.state,
    'capturing',
  );
});

test('a directory is not made for what the cluster does not have; one that is there goes on by another way', async () => {
  const nothing = ['agent', 'fresh', '--archive', 'file:other', '--once', '--source', CLUSTER];
  const refused = await runPitr([...nothing, '--namespace', 'test', 'nope'], run);
  assert.equal(refused.code, 2, refused.stderr);
  assert.match(refused.stderr, /the cluster has no namespace nope[\s\S]*it has test/);
  assert.ok(!existsSync(join(cwd, 'fresh')) && !existsSync(join(cwd, 'other')));

  const at = (port: number): string => `aerospike://me@127.0.0.1:${port}?cluster-name=pitr`;
  const env = { PITR_AEROSPIKE_PASSWORD: 'unused' };
  const first = ['agent', 'fresh', '--archive', 'file:other', '--once', '--namespace', 'test'];
  const made = await runPitr([...first, '--source', at(PORT + 1)], { cwd, env });
  assert.equal(made.code, 0, made.stderr);
  // the archive is known; where the cluster is may have changed
  const moved = await runPitr(['agent', 'fresh', '--once', '--source', at(PORT)], { cwd, env });
  assert.equal(moved.code, 0, moved.stderr);
  const kept = JSON.parse(readFileSync(join(cwd, 'fresh', 'source.json'), 'utf8'));
  assert.equal(kept.url, at(PORT));
  // what is asked for seldom may be behind by that: `status` goes by it
  assert.equal((await runPitr(['agent', 'fresh', '--once', '--poll', '10s'], { cwd, env })).code, 0);
  const chain = await jsonOf(['chain', 'fresh'], run);
  assert.equal(chain.timelines[0].streams[0].sealMs, 10_000);

  const marked = await runPitr(['mark', 'm', 'fresh'], run);
  assert.equal(marked.code, 10);
  assert.match(marked.stderr, /does not run: pitr agent /);
});

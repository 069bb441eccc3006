/** The command line with an archive in a bucket: a real server on loopback, processes of their own. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { Engine } from '../../wal/engine.ts';
import { CREDENTIALS, startProvider } from '../s3/provider.ts';
import { assertNarrow, errorOf, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const provider = await startProvider();
const { gate, faults } = provider;
const cwd = mkdtempSync(join(tmpdir(), 'pitr-s3-'));
const run = { cwd, env: CREDENTIALS };
const json = (...args: string[]) => jsonOf(args, run);

beforeEach(() => {
  gate.quirks = {};
  gate.messages.length = 0;
  faults.rate = 0;
});
after(async () => {
  await provider.close();
  rmSync(cwd, { recursive: true });
});

const keyOf = (i: number) => ({ namespace: 'test', set: 's', key: i });

test('init, agent, snapshot, restore and verify work on a bucket, also when requests fail on their way', async () => {
  const url = provider.url();
  const made = await json('init', 'data', '--archive', url, '--s3-requests', '7', '--s3-tries', '30');
  assert.match(made.archive.url, /^s3:.*endpoint=/);
  assert.doesNotMatch(made.archive.url, /requests|tries/, 'tuning is no part of where the archive is');

  faults.rate = 1 / 20;
  const settings = ['--s3-timeout', '2', '--s3-tries', '30'];
  const agent = startPitr(['agent', 'data', '--snapshot-cron', '* * * * * *', '--json', ...settings], run);
  const agentOutcome = outcomeOf(agent);
  const engine = await Engine.open({ dir: join(cwd, 'data'), sealMs: 200 });
  for (let i = 0; i < 300; i++) await engine.put(keyOf(i), { value: i });
  await json('mark', 'before', 'data');
  for (let i = 0; i < 100; i++) await engine.put(keyOf(i), { value: -i });
  const created = await json('snapshot', 'create', 'data', '--label', 'here', '--wait', ...settings);
  assert.ok(created.snapshot.id);
  const shown = await runPitr(['snapshot', 'show', created.snapshot.id, 'data'], run);
  assert.ok(shown.stdout.includes(`--archive '${made.archive.url}' \\\n`), 'a shell must take it as it is');
  await engine.close();
  agent.kill('SIGTERM');
  const { code, stdout, stderr } = await agentOutcome;
  assert.equal(code, 0, stderr);
  assert.equal(JSON.parse(stdout).streams[0].stream, 'main');

  const verified = await json('verify', '--archive', url, ...settings);
  assert.deepEqual([verified.ok, verified.anomalies], [true, []]);
  for (const [to, value] of [
    ['mark:before', 42],
    ['latest', -42],
  ] as const) {
    const into = `copy-${value}`;
    await json('restore', '--archive', url, '--to', to, '--into', `engine:${into}`, ...settings);
    const got = await json('get', 'test/s/42', '--dir', into);
    assert.equal(got.record.bins.value, value);
  }
  const seen = [...faults.seen.values()].reduce((sum, n) => sum + n, 0);
  assert.ok(seen > 0, `${seen} faults happened`);
});

test('storage class and encryption are those of the settings, only where they belong', async () => {
  const file = join(cwd, 'bucket.yaml');
  writeFileSync(file, 's3:\n  storageClass: segments:STANDARD_IA\n  encryption: aws:kms:key-1\n');
  const config = ['--config', file];
  await json('init', 'classes', '--archive', provider.url(), ...config);
  const engine = await Engine.open({ dir: join(cwd, 'classes') });
  await engine.put(keyOf(1), { value: 1 });
  await engine.close();
  await json('agent', 'classes', '--once', ...config);
  const puts = gate.messages.filter(({ method, url }) => method === 'PUT' && !url.includes('/.tmp/'));
  assert.ok(puts.length >= 4);
  for (const { url, headers } of puts) {
    const isSegment = url.includes('/segments/');
    assert.equal(headers['x-amz-storage-class'], isSegment ? 'STANDARD_IA' : undefined, url);
    assert.equal(headers['x-amz-server-side-encryption'], 'aws:kms', url);
    assert.equal(headers['x-amz-server-side-encryption-aws-kms-key-id'], 'key-1', url);
  }
});

test('what cannot be is refused, with its own exit code, and nothing is left in the directory', async () => {
  await errorOf(['init', 'x', '--archive', 's3://b'], run, 'archive-url', 22);
  await errorOf(['init', 'x', '--archive', 's3://key:secret@bucket/a'], run, 'archive-url', 22);
  const unsafe = await errorOf(['init', 'x', '--archive', provider.bareUrl()], run, 'archive-unsafe', 29);
  assert.match(unsafe.hint, /one writer/);
  const nowhere = provider.url().replace('pitr-test', 'pitr-nowhere');
  await errorOf(['init', 'x', '--archive', nowhere], run, 'bucket-unknown', 66);
  const away = 's3://pitr-test/a?endpoint=http://127.0.0.1:9&tries=2';
  await errorOf(['init', 'y', '--archive', away], run, 'archive-away', 62);
  const asked = await runPitr(['doctor', '--archive', away], run);
  assert.equal(asked.code, 1);
  assert.match(
    asked.stdout.replaceAll(/\s+/g, ' '),
    /read archive: ECONNREFUSED/,
    'in full, not cut off by a table',
  );
  assert.throws(() => readFileSync(join(cwd, 'x', 'engine.json')), { code: 'ENOENT' });
  const one = await json('init', 'one', '--archive', provider.bareUrl(), '--s3-single-writer', 'true');
  assert.match(one.archive.url, /single-writer=true/);
});

test('status says so when the bucket is away', async () => {
  const url = provider.url();
  await json('init', 'away', '--archive', url);
  await json('agent', 'away', '--once');
  const elsewhere = ['--s3-endpoint', 'http://127.0.0.1:9', '--s3-tries', '1'];
  const { code, stdout } = await runPitr(['status', 'away', '--json', ...elsewhere], run);
  assert.equal(code, 7);
  assert.match(stdout, /archive-away/);
});

test('the SDK is loaded only for a bucket', async () => {
  const refuse =
    'import{registerHooks}from"node:module";registerHooks({resolve(s,c,n){if(s.startsWith("@aws-sdk"))throw Error("SDK");return n(s,c)}})';
  const env = { ...CREDENTIALS, NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(refuse)}` };
  const directory = ['init', 'plain', '--archive', 'file:plain-archive', '--json'];
  assert.equal((await runPitr(directory, { cwd, env })).code, 0);
  const bucket = ['init', 'bucket', '--archive', provider.url(), '--json'];
  assert.notEqual((await runPitr(bucket, { cwd, env })).code, 0);
});

test('doctor finds a provider in order and leaves nothing behind', async () => {
  const report = await json('doctor', '--archive', provider.url());
  assert.equal(report.ok, true);
  const results = Object.fromEntries(
    report.checks
      .filter((c: { result?: string }) => c.result !== undefined)
      .map((c: { what: string; result: string }) => [c.what, c.result]),
  );
  assert.deepEqual(results, {
    'write, read, HEAD': 'ok',
    'missing object': 'ok',
    'storage class, encryption': 'ok',
    'list with continuation': 'ok',
    'ranged reads': 'ok',
    'create once': 'ok',
    'compare and swap': 'ok',
    'upload in parts': 'ok',
    'condition on an upload in parts': 'ok',
    'unfinished uploads': 'ok',
    delete: 'ok',
    clock: 'ok',
    'lifecycle rules': 'warning',
    'object lock': 'ok',
    'nothing is left behind': 'ok',
  });
  const bucket = await (await fetch(`${provider.bareEndpoint}/pitr-test?list-type=2&prefix=`)).text();
  assert.doesNotMatch(bucket, /doctor\//);
  const text = await runPitr(
    ['doctor', '--archive', 's3://pitr-test', '--s3-endpoint', provider.endpoint],
    run,
  );
  assert.equal(text.code, 0, text.stdout);
  assertNarrow(text.stdout);
});

test('doctor names what a provider does not keep', async () => {
  const failed = async (url: string): Promise<string[]> => {
    const { code, stdout } = await runPitr(['doctor', '--archive', url, '--json'], run);
    assert.equal(code, 1, stdout);
    const { checks } = JSON.parse(stdout);
    return checks.filter((c: { ok: boolean }) => !c.ok).map((c: { what: string }) => c.what);
  };
  gate.quirks = { ignoresConditions: true };
  assert.deepEqual(await failed(provider.url()), ['create once', 'compare and swap']);
  gate.quirks = { refusesConditions: true };
  assert.deepEqual(await failed(provider.url()), ['create once', 'compare and swap']);
  gate.quirks = { losesNames: true };
  assert.deepEqual(await failed(provider.url()), ['list with continuation']);
  gate.quirks = { held: 'gone' };
  assert.deepEqual(await failed(provider.url()), ['delete', 'nothing is left behind']);
  const rule = (what: string, prefix = '') =>
    `<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><Prefix>${prefix}</Prefix></Filter>${what}</Rule></LifecycleConfiguration>`;
  gate.quirks = { lifecycle: rule('<Expiration><Days>30</Days></Expiration>') };
  assert.deepEqual(await failed(provider.url()), ['lifecycle rules']);
  gate.quirks = {
    lifecycle: rule('<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>'),
  };
  assert.deepEqual(await failed(provider.url()), ['lifecycle rules']);
  gate.quirks = { aheadMs: 20 * 60_000 };
  assert.deepEqual(await failed(provider.url()), ['clock']);
  gate.quirks = {
    lifecycle: rule('<Expiration><Days>30</Days></Expiration>', 'elsewhere/'),
    objectLock:
      '<ObjectLockConfiguration><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>7</Days></DefaultRetention></Rule></ObjectLockConfiguration>',
    aheadMs: 60_000,
  };
  const told = await json('doctor', '--archive', provider.url(), '--window', '2d');
  const results = told.checks.map((c: { what: string; result?: string }) => `${c.what} ${c.result}`);
  assert.ok(results.includes('clock warning') && results.includes('lifecycle rules warning'), `${results}`);
  assert.match(
    told.checks.find((c: { what: string }) => c.what === 'object lock').found,
    /GOVERNANCE, 7 days; the window is 2 days/,
  );
  gate.quirks = {
    ignoresRanges: true,
    bareEtags: true,
    loserGets500: true,
    noEtagOfParts: true,
    hidesUploads: true,
  };
  const odd = await json('doctor', '--archive', provider.url());
  assert.equal(odd.ok, true);
  const found = (what: string) => odd.checks.find((c: { what: string }) => c.what === what).found;
  assert.match(found('compare and swap'), /without quotes/);
  assert.match(found('unfinished uploads'), /AccessDenied/);
});

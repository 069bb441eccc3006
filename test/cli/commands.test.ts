/** The real command line against a real small database: what a user types, what comes back. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { acquireDirectoryLock } from '../../engine/directory-lock.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { assertNarrow, errorOf, jsonOf, outcomeOf, runPitr, startPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-cli-'));
after(() => rmSync(cwd, { recursive: true }));
const run = (...args: string[]) => runPitr(args, { cwd });
const json = (...args: string[]) => jsonOf(args, { cwd });
const fails = (id: string, exitCode: number, ...args: string[]) => errorOf(args, { cwd }, id, exitCode);

type Model = Map<string, Record<string, unknown>>;

/** Namespace/set/key → bins, as the test wrote them: what the product must give back. */
const model: Model = new Map();
/** The model as it was at an instant. */
const then = new Map<'one' | 'two', Model>();
let lsnOfOne = 0;
let tsOfOne = 0;

async function write(changes: (engine: Engine) => Promise<void>, dir = 'data'): Promise<void> {
  const engine = await Engine.open({ dir: join(cwd, dir), sealMs: 0 });
  await changes(engine);
  await engine.close();
}

async function put(
  engine: Engine,
  set: string,
  key: number | string,
  bins: Record<string, string | number>,
  ttl?: number,
) {
  await engine.put({ namespace: 'shop', set, key }, bins, ttl === undefined ? {} : { ttl });
  const name = `shop/${set}/${key}`;
  model.set(name, { ...model.get(name), ...bins });
}

async function contentOf(dir: string): Promise<Model> {
  const engine = await Engine.open({ dir: join(cwd, dir), sealMs: 0 });
  const found: Model = new Map();
  for await (const record of engine.scan()) {
    const key = Buffer.from(record.key?.bytes ?? []);
    const shown = record.key?.type === 1 ? `${key.readBigInt64BE()}` : key.toString();
    found.set(`${record.namespace}/${record.set}/${shown}`, record.bins);
  }
  await engine.close();
  return found;
}

function assertSame(actual: Model, expected: Model | undefined): void {
  const sorted = (m: Model) => [...m].sort(([a], [b]) => (a < b ? -1 : 1));
  assert.deepEqual(sorted(actual), sorted(expected ?? new Map()));
}

const linesOf = (stdout: string): Record<string, unknown>[] =>
  stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

const contentOfLines = (stdout: string): Model =>
  new Map(
    linesOf(stdout).map((r) => [`${r.namespace}/${r.set}/${r.key}`, r.bins as Record<string, unknown>]),
  );

before(async () => {
  const made = await json('init', 'data', '--archive', 'file:backup');
  assert.equal(made.stream, 'main');
  assert.equal(made.archive.url, `file:${join(cwd, 'backup')}`);
  await write(async (engine) => {
    for (let key = 1; key <= 30; key++) await put(engine, 'users', key, { name: `user ${key}`, age: key });
    for (let key = 1; key <= 10; key++) await put(engine, 'orders', key, { total: key * 100 });
    await put(engine, 'users', '42', { name: 'a string key' });
    await put(engine, 'sessions', 'mortal', { token: 'x' }, 3600);
  });
  const marked = await json('mark', 'one', 'data');
  then.set('one', new Map(model));
  lsnOfOne = marked.marks[0].lsn;
  tsOfOne = marked.ts;
  const snapshot = await json('snapshot', 'create', 'data', '--wait', '--label', 'first');
  assert.ok(snapshot.snapshot.endTs >= marked.ts);
  await write(async (engine) => {
    for (let key = 1; key <= 10; key++) await put(engine, 'users', key, { age: key + 1000 });
    for (let key = 11; key <= 15; key++) {
      await engine.delete({ namespace: 'shop', set: 'users', key });
      model.delete(`shop/users/${key}`);
    }
  });
  then.set('two', new Map(model));
  await json('snapshot', 'create', 'data', '--wait', '--kind', 'synthetic', '--label', 'second');
});

test('init says what it made and what to do next', async () => {
  const { code, stdout, stderr } = await run(
    'init',
    'other',
    '--archive',
    'file:backup-other',
    '--shards',
    '4',
  );
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /pitr agent other/);
  assertNarrow(stdout);
  await fails('engine-exists', 11, 'init', 'other', '--archive', 'file:backup-other');
  await fails(
    'ownership-conflict',
    27,
    'init',
    'x',
    '--archive',
    'file:backup',
    '--partitions',
    '0-9',
    '--stream',
    'x',
  );
  await fails('target-not-empty', 34, 'init', '.', '--archive', 'file:backup');
  await fails('usage', 2, 'init', 'x', '--archive', 'file:backup', '--shards', 'three');
  assert.ok(!existsSync(join(cwd, 'x')));
});

test('restoring a mark gives what was written before it', async () => {
  const { code, stdout } = await run('restore', 'data', '--to', 'mark:one', '--into', 'engine:at-mark');
  assert.equal(code, 0);
  assertNarrow(stdout);
  assert.match(stdout, /^Asked for: mark:one$/m);
  assertSame(await contentOf('at-mark'), then.get('one'));
});

test('restoring a time, an LSN and the latest instant', async () => {
  const byTime = await json('restore', 'data', '--to', new Date(tsOfOne).toISOString(), '--into', 'at-time');
  assert.equal(byTime.target.ts, tsOfOne);
  assertSame(await contentOf('at-time'), then.get('one'));
  await json('restore', '--archive', 'file:backup', '--to', `lsn:main/${lsnOfOne}`, '--into', 'at-lsn');
  assertSame(await contentOf('at-lsn'), then.get('one'));
  const latest = await json('restore', 'data', '--to', 'latest', '--into', 'at-latest', '--workers', '2');
  assertSame(await contentOf('at-latest'), then.get('two'));
  assert.equal(latest.verification.target, 'equal');
  assert.equal(latest.verification.source, 'equal');
  assert.equal(latest.records, model.size);
});

test('a restored engine knows its archive from wherever it is used', async () => {
  mkdirSync(join(cwd, 'deep'));
  await json('restore', '--archive', 'file:backup', '--to', 'latest', '--into', 'moved');
  await jsonOf(['snapshot', 'list', '../moved'], { cwd: join(cwd, 'deep') });
});

test('a dry run plans and changes nothing', async () => {
  const { code, stdout } = await run(
    'restore',
    'data',
    '--to',
    'latest',
    '--into',
    'dry',
    '--dry-run',
    '--set',
    'users',
  );
  assert.equal(code, 0);
  assert.match(stdout, /^Filters: +set users$/m);
  assert.match(stdout, /^Starts from: snapshot second/m);
  assertNarrow(stdout);
  assert.ok(!existsSync(join(cwd, 'dry')));
  const plan = await json('restore', 'data', '--to', 'latest', '--dry-run');
  assert.deepEqual([plan.dryRun, plan.partial, plan.verifiable], [true, false, true]);
  await fails('target-not-empty', 34, 'restore', 'data', '--to', 'latest', '--dry-run', '--into', 'data');
});

test('JSON lines go to stdout, the report to stderr', async () => {
  const { code, stdout, stderr } = await run('restore', 'data', '--to', 'mark:one', '--json-lines');
  assert.equal(code, 0);
  assertSame(contentOfLines(stdout), then.get('one'));
  assert.match(stderr, /^Restored: +as JSON lines$/m);
  const quiet = await run('restore', 'data', '--to', 'latest', '--json-lines', '--quiet', '--workers', '3');
  assert.equal(quiet.stderr, '');
  assertSame(contentOfLines(quiet.stdout), then.get('two'));
  const asJson = await run('restore', 'data', '--to', 'latest', '--json-lines', '--json');
  assert.equal(JSON.parse(asJson.stderr).records, model.size);
  assert.equal(linesOf(asJson.stdout).length, model.size);
});

test('an error of a JSON lines restore does not come as a record', async () => {
  const { code, stdout, stderr } = await run('restore', 'data', '--to', 'mark:no', '--json-lines', '--json');
  assert.deepEqual([code, stdout, JSON.parse(stderr).error.id], [33, '', 'mark-unknown']);
  const both = await run('restore', 'data', '--to', 'latest', '--json-lines', '--into', 'x');
  assert.deepEqual([both.code, both.stdout], [2, '']);
});

test('filters and renames', async () => {
  const lines = async (...args: string[]) =>
    contentOfLines((await run('restore', 'data', '--to', 'latest', '--json-lines', ...args)).stdout);
  const keysOf = async (...args: string[]) => [...(await lines(...args)).keys()].sort();

  assert.equal((await lines('--set', 'orders')).size, 10);
  assert.equal((await lines('--namespace', 'nothing')).size, 0);
  assert.deepEqual((await lines('--bin', 'age', '--set', 'users')).get('shop/users/1'), { age: 1001 });
  assert.deepEqual(await keysOf('--key', 'shop/users/1', 'shop/users/str:42'), [
    'shop/users/1',
    'shop/users/42',
  ]);
  const [first] = linesOf(
    (await run('restore', 'data', '--to', 'latest', '--json-lines', '--key', 'shop/orders/7')).stdout,
  );
  assert.deepEqual(await keysOf('--digest', String(first?.digest)), ['shop/orders/7']);
  assert.deepEqual(
    await keysOf('--set', 'orders', '--rename-set', 'orders=sales', '--key', 'shop/orders/7'),
    ['shop/sales/7'],
  );
  assert.deepEqual(await keysOf('--key', 'shop/orders/7', '--rename-namespace', 'shop=test'), [
    'test/orders/7',
  ]);
  const low = await keysOf('--partitions', '0-2047');
  const high = await keysOf('--partitions', '2048-4095');
  assert.equal(low.length + high.length, model.size);

  await json(
    'restore',
    'data',
    '--to',
    'latest',
    '--into',
    'renamed',
    '--set',
    'orders',
    '--rename-set',
    'orders=sales',
  );
  assert.deepEqual((await contentOf('renamed')).get('shop/sales/3'), { total: 300 });
});

test('--ttl decides what becomes of the time to live', async () => {
  const expiry = async (mode: string): Promise<number> => {
    const args = ['--json-lines', '--set', 'sessions', '--ttl', mode];
    const [record] = linesOf((await run('restore', 'data', '--to', 'mark:one', ...args)).stdout);
    return record?.expires === null ? 0 : Date.parse(String(record?.expires));
  };
  const [absolute, remaining] = [await expiry('absolute'), await expiry('remaining')];
  assert.equal(await expiry('never'), 0);
  // what was left at the mark counts from now, so it ends later than it did
  assert.ok(remaining > absolute && remaining - absolute < 600_000, `${remaining - absolute} ms later`);
});

test('a restore with filters becomes a history of its own', async () => {
  await json('restore', 'data', '--to', 'latest', '--into', 'part', '--set', 'orders');
  const before = await run('status', 'part');
  assert.equal(before.code, 7);
  assert.match(before.stdout, /of which\s+nothing\s+is\s+archived/);
  await json('snapshot', 'create', 'part', '--wait');
  const status = await json('status', 'part');
  assert.equal(status.green, true);
  assert.equal(status.timelines.find((t: { id: string }) => t.id === status.timeline).detached, true);
  await json('restore', 'part', '--to', 'latest', '--into', 'part2');
  const unclear = await run('restore', '--archive', 'file:backup', '--to', 'latest', '--dry-run');
  assert.match(unclear.stderr, /^timeline [0-9a-f]{16}, the newest of 2; --timeline names another$/m);
  assert.equal((await contentOf('part2')).size, 10);
});

test('get shows a record now and as it was', async () => {
  const now = await json('get', 'shop/users/1', '--dir', 'data');
  assert.deepEqual(now.record.bins, { name: 'user 1', age: 1001 });
  assert.equal(now.source.appliedLsn > 0, true);
  const { timeline } = await json('status', 'data', '--max-lag', '1d');
  const inArchive = ['--archive', 'file:backup', '--timeline', timeline];
  const was = await json('get', 'shop/users/1', ...inArchive, '--at', 'mark:one');
  assert.deepEqual([was.record.bins, was.record.generation], [{ name: 'user 1', age: 1 }, 1]);
  assert.equal((await json('get', 'shop/users/11', '--dir', 'data', '--at', 'mark:one')).record.key, 11);
  assert.equal((await json('get', 'shop/users/str:42', '--dir', 'data')).record.key, '42');
  const byDigest = await json('get', `shop/users/digest:${now.record.digest}`, '--dir', 'data');
  assert.deepEqual(byDigest.record, now.record);
  const { stdout } = await run('get', 'shop/users/str:42', '--dir', 'data');
  assert.match(stdout, /^Record: +shop\/users\/str:42$/m);
  assert.match(stdout, /^ {2}name: "a string key"$/m);
  await fails('record-not-found', 4, 'get', 'shop/users/11', '--dir', 'data');
  await fails('record-not-found', 4, 'get', 'shop/users/11', ...inArchive);
  await fails('record-not-found', 4, 'get', 'shop/users/1', '--dir', 'other');
});

test('get of a live engine neither disturbs it nor waits for it', async () => {
  const engine = await Engine.open({ dir: join(cwd, 'at-latest'), sealMs: 0 });
  try {
    await engine.put({ namespace: 'shop', set: 'users', key: 1 }, { age: 7 });
    await engine.sealApplied();
    assert.equal((await json('get', 'shop/users/1', '--dir', 'at-latest')).record.bins.age, 7);
    await engine.put({ namespace: 'shop', set: 'users', key: 1 }, { age: 8 });
  } finally {
    await engine.close();
  }
});

test('status is green with an archive that keeps up, and says what can be restored', async () => {
  await json('snapshot', 'create', 'data', '--wait');
  const { code, stdout } = await run('status', 'data', '--max-lag', '1m');
  assert.equal(code, 0, stdout);
  assertNarrow(stdout);
  assert.match(stdout, /^Status: green$/m);
  const status = await json('status', 'data', '--max-lag', '1m');
  assert.deepEqual([status.green, status.problems, status.ranges.length], [true, [], 1]);
  assert.deepEqual(
    status.streams.map((s: Record<string, unknown>) => [s.stream, s.partitions, s.gaps]),
    [['main', '0-4095', []]],
  );
  assert.deepEqual(status.streams[0].local, {
    dir: join(cwd, 'data'),
    hasWriter: false,
    hasAgent: false,
    waitingFiles: 0,
    waitingBytes: 0,
    waitingSinceMs: null,
    policy: 'spill',
    quotaBytes: 10 * 1024 ** 3,
    dropped: [],
    outage: null,
    fenced: null,
    rolledBack: null,
    waitingLsn: null,
    writer: null,
    source: null,
  });
  assert.equal(status.archive.isReachable, true);
});

test('status of an archive that is behind has its own exit code and a result all the same', async () => {
  const { code, stdout } = await run('status', 'data', '--max-lag', '1ms', '--json');
  const status = JSON.parse(stdout);
  assert.deepEqual([code, status.green, status.problems[0].code], [7, false, 'lag']);
  const text = await run('status', 'data', '--max-lag', '1ms');
  assert.deepEqual([text.code, text.stderr], [7, '']);
  assert.match(text.stdout, /Status: not green/);
});

test('status of an archive without anything in it', async () => {
  const { code, stdout } = await run('status', 'other');
  assert.equal(code, 7);
  assert.match(stdout, /^Restorable: +nothing$/m);
  assertNarrow(stdout);
});

test('status --watch goes on until it is interrupted', async () => {
  const child = startPitr(['status', 'data', '--watch', '--json', '--max-lag', '1d'], { cwd });
  child.stdout?.once('data', () => child.kill('SIGINT'));
  const { code, stdout } = await outcomeOf(child);
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout.split('\n')[0] ?? '').command, 'status');
});

test('snapshots are listed, shown and deleted', async () => {
  const { stdout } = await run('snapshot', 'list', 'data');
  assert.match(stdout, /first +incremental/);
  assert.match(stdout, /second +synthetic/);
  assertNarrow(stdout);
  const shown = await json('snapshot', 'show', 'first', 'data');
  assert.deepEqual([shown.snapshot.kind, shown.snapshot.records], ['incremental', 42]);
  assertNarrow((await run('snapshot', 'show', 'second', 'data')).stdout);
  const made = await json('snapshot', 'create', 'data', '--wait', '--label', 'doomed');
  const doomed = await json('snapshot', 'delete', made.snapshot.id, '--archive', 'file:backup');
  assert.equal(doomed.deleted.label, 'doomed');
  await fails('snapshot-unknown', 36, 'snapshot', 'show', 'doomed', 'data');
  await fails('snapshot-unknown', 36, 'snapshot', 'delete', 'doomed', 'data');
  await fails('snapshot-in-use', 37, 'snapshot', 'delete', 'second', 'data');
  await fails('snapshot-exists', 38, 'snapshot', 'create', 'data', '--label', 'first');
});

test('snapshot create --wait has in it what a live writer had acknowledged', async () => {
  await json('init', 'live', '--archive', 'file:backup-live');
  const engine = await Engine.open({ dir: join(cwd, 'live'), sealMs: 0 });
  const archiver = await Archiver.open(join(cwd, 'live'));
  archiver.start();
  try {
    await engine.put({ namespace: 'shop', set: 'users', key: 1 }, { age: 1 });
    const { marks } = await json('mark', 'live-mark', 'live');
    assert.equal(marks[0].via, 'writer');
    const { snapshot } = await json('snapshot', 'create', 'live', '--wait');
    assert.equal(snapshot.records, 1);
    const status = await json('status', 'live');
    assert.deepEqual([status.streams[0].local.hasWriter, status.streams[0].local.hasAgent], [true, true]);
    await json('restore', 'live', '--to', new Date(snapshot.endTs).toISOString(), '--into', 'live2');
    assert.equal((await contentOf('live2')).size, 1);
  } finally {
    await archiver.close();
    await engine.close();
  }
});

test('snapshot create --wait makes one cut over several writers, without agents', async () => {
  await json('init', 'a', '--archive', 'file:backup-ab', '--stream', 'a', '--partitions', '0-2047');
  await json('init', 'b', '--archive', 'file:backup-ab', '--stream', 'b', '--partitions', '2048-4095');
  const marked = await run('mark', 'both', 'a', 'b');
  assert.match(marked.stdout, /the newest one counts/);
  assertNarrow(marked.stdout);
  const { snapshot } = await json('snapshot', 'create', 'a', 'b', '--wait');
  const status = await json('status', 'a', 'b');
  assert.deepEqual(
    status.streams.map((s: Record<string, unknown>) => [s.stream, s.partitions]),
    [
      ['a', '0-2047'],
      ['b', '2048-4095'],
    ],
  );
  assert.equal(status.green, true);
  assert.ok(status.contiguousEnd >= snapshot.endTs);
  assertNarrow((await run('status', 'a', 'b')).stdout);
  await json('restore', 'a', '--to', 'mark:both', '--into', 'ab');
});

test('waiting for an archive that does not move ends with wait-timeout', async () => {
  const lock = await acquireDirectoryLock(join(cwd, 'data', 'agent.lock'));
  try {
    const error = await fails(
      'wait-timeout',
      39,
      'snapshot',
      'create',
      'data',
      '--wait',
      '--wait-seconds',
      '0',
    );
    assert.equal(error.facts.seconds, 0);
  } finally {
    lock?.release();
  }
});

test('a directory whose writer has no door is busy', async () => {
  const lock = await acquireDirectoryLock(join(cwd, 'data', 'writer.lock'));
  try {
    await fails('engine-busy', 50, 'mark', 'x', 'data');
    await fails('engine-busy', 50, 'snapshot', 'create', 'data', '--wait');
  } finally {
    lock?.release();
  }
});

test('targets that cannot be: unreadable, unknown, in the future, before the beginning, of an empty archive', async () => {
  const to = (target: string, dir = 'data') => ['restore', dir, '--to', target, '--dry-run'];
  await fails('target-invalid', 30, ...to('yesterday'));
  await fails('target-future', 31, ...to('2099-01-01T00:00:00Z'));
  await fails('target-future', 31, ...to('lsn:main/999999'));
  await fails('target-nodata', 32, ...to('2001-01-01T00:00:00Z'));
  await fails('target-nodata', 32, ...to('-10000d'));
  await fails('nothing-restorable', 32, ...to('latest', 'other'));
  const { facts } = await fails('mark-unknown', 33, ...to('mark:nope'));
  assert.match(String(facts.known), /one/);
  await fails('stream-unknown', 25, ...to('lsn:nope/1'));
  await fails('timeline-unknown', 28, ...to('latest'), '--timeline', 'nope');
  await fails('timeline-unknown', 28, 'status', 'data', '--timeline', 'nope');
  await fails('nothing-restorable', 32, 'snapshot', 'create', 'other');
});

test('archives that cannot be: absent, another one, an unsupported URL, none', async () => {
  await fails('archive-not-found', 20, 'status', '--archive', 'file:nowhere');
  await fails('archive-mismatch', 21, 'status', 'data', '--archive', 'file:backup-other');
  await fails('archive-mismatch', 21, 'status', 'data', 'other');
  await fails('archive-url', 22, 'status', '--archive', 'ftp://x/y');
  await fails('usage', 2, 'status');
  await fails('config-invalid', 2, 'status', '--archive', 'backup');
  assert.ok(!existsSync(join(cwd, 'nowhere')));
});

test('directories that are not engines, or not empty', async () => {
  mkdirSync(join(cwd, 'plain'));
  writeFileSync(join(cwd, 'plain', 'file'), '');
  for (const args of [
    ['status', 'plain'],
    ['mark', 'x', 'plain'],
    ['get', 'a/b/c', '--dir', 'absent'],
  ])
    await fails('not-an-engine', 10, ...args);
  await fails('target-not-empty', 34, 'restore', 'data', '--to', 'latest', '--into', 'plain');
  assert.deepEqual(readdirSync(join(cwd, 'plain')), ['file']);
});

test('an error in text is a sentence and a hint on stderr, whoever found it', async () => {
  for (const [exitCode, ...args] of [
    [2, 'restor'],
    [2, 'status', 'data', '--max-lag', '5'],
    [33, 'restore', 'data', '--to', 'mark:nope', '--dry-run'],
  ] as [number, ...string[]][]) {
    const { code, stdout, stderr } = await run(...args);
    assert.deepEqual([code, stdout], [exitCode, '']);
    assert.match(stderr, /^pitr: .+\nhint: .+\n$/);
  }
});

test('mistakes on the command line are errors like all others', async () => {
  const hintOf = async (...args: string[]) => (await fails('usage', 2, ...args)).hint;
  assert.equal(await hintOf('nonsense'), 'see pitr --help');
  assert.match(await hintOf('restor'), /did you mean restore\?/);
  assert.match(await hintOf('restore', '--tu', 'x'), /did you mean --to\?.* see pitr restore --help/);
  assert.equal(await hintOf('snapshot'), 'see pitr snapshot --help');
  assert.match(await hintOf('snapshot', 'lst'), /did you mean list\?/);
  assert.equal(await hintOf('init'), 'see pitr init --help');
  assert.equal(await hintOf('status', 'data', '--archive'), 'see pitr status --help');
  await hintOf('restore', 'data', '--into', 'x');
  await hintOf('restore', 'data', '--to', 'latest');
  await hintOf('restore', 'data', '--to', 'latest', '--into', 's3://bucket');
  await hintOf('restore', 'data', '--to', 'latest', '--dry-run', '--key', 'users/1');
  await hintOf('restore', 'data', '--to', 'latest', '--dry-run', '--key', 'a/b/1', 'c/d/1');
  await hintOf('restore', 'data', '--to', 'latest', '--dry-run', '--digest', 'abc');
  await hintOf('restore', 'data', '--to', 'latest', '--dry-run', '--rename-set', 'abc');
  await hintOf('snapshot', 'create', 'data', '--kind', 'base');
  await hintOf('get', 'shop/users/1');
  await hintOf('status', 'data', '--max-lag', '5');
});

test('settings come from pitr.yaml and the environment, and the command line wins', async () => {
  const home = join(cwd, 'home');
  mkdirSync(home);
  writeFileSync(join(home, 'pitr.yaml'), 'archive: file:../backup\n');
  const here = { cwd: home };
  assert.ok((await jsonOf(['snapshot', 'list'], here)).snapshots.length > 0);
  await errorOf(['status'], { ...here, env: { PITR_ARCHIVE: 'file:nowhere' } }, 'archive-not-found', 20);
  await jsonOf(['status', '--archive', 'file:../backup', '--max-lag', '1d'], {
    ...here,
    env: { PITR_ARCHIVE: 'file:nowhere' },
  });
  // a directory on the command line brings its own archive
  await jsonOf(['snapshot', 'list', '../a'], { ...here, env: { PITR_ARCHIVE: 'file:nowhere' } });
  await jsonOf(['get', 'shop/users/1'], { ...here, env: { PITR_DIR: '../data' } });
  await errorOf(['status', '--config', 'no.yaml'], here, 'config-invalid', 2);
});

test('help is there for every command, with examples, and fits into 80 columns', async () => {
  const commands = [[], ['init'], ['mark'], ['restore'], ['get'], ['status'], ['snapshot']];
  for (const sub of ['create', 'list', 'show', 'delete']) commands.push(['snapshot', sub]);
  for (const sub of ['list', 'ack', 'unack']) commands.push(['gaps', sub]);
  for (const command of commands) {
    const { code, stdout, stderr } = await run(...command, '--help');
    assert.deepEqual([code, stderr], [0, '']);
    assertNarrow(stdout);
    if (command[0] !== 'snapshot' || command.length > 1) assert.match(stdout, /^Examples:\n {2}# /m);
  }
  assert.match((await run('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
  assert.equal((await run()).code, 0);
});

test('a reader that goes away ends the program without a word', async () => {
  const child = startPitr(['status', 'data', '--watch', '--json', '--max-lag', '1d'], { cwd });
  child.stdout?.once('data', () => child.stdout?.destroy());
  const { code, stderr } = await outcomeOf(child);
  assert.deepEqual([code, stderr], [141, '']);
});

test('a command that is interrupted says so', async () => {
  const lock = await acquireDirectoryLock(join(cwd, 'data', 'agent.lock'));
  try {
    const child = startPitr(['snapshot', 'create', 'data', '--wait'], { cwd });
    child.stderr?.once('data', () => child.kill('SIGTERM'));
    const { code, stderr } = await outcomeOf(child);
    assert.equal(code, 61);
    assert.match(stderr, /pitr: pitr snapshot create was interrupted\nhint: /);
  } finally {
    lock?.release();
  }
});

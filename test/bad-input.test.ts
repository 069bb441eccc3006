/** Bad input as a user meets it on the command line: each its id, exit code and hint; nothing is changed by it. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { acquireDirectoryLock, writerLockPath } from '../engine/directory-lock.ts';
import { ERRORS, type ErrorId } from '../engine/errors.ts';
import { encodeDocument } from '../wal/document.ts';
import { Engine } from '../wal/engine.ts';
import { errorOf, jsonOf } from './cli/run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-bad-'));
after(() => rmSync(cwd, { recursive: true }));

const refused = async (id: ErrorId, ...args: string[]): Promise<string> => {
  const { message, hint } = await errorOf(args, { cwd }, id, ERRORS[id].exit);
  assert.ok(hint.length > 10, 'a hint that says what to do');
  return message;
};

/** A small database with its own archive: engine directory `name`, archive `name.archive`. */
const make = async (name: string): Promise<void> => {
  await jsonOf(['init', name, '--archive', `file:${name}.archive`], { cwd });
  const engine = await Engine.open({ dir: join(cwd, name), sealMs: 0 });
  for (let key = 0; key < 10; key++) await engine.put({ namespace: 'test', key }, { name, key });
  await engine.close();
  await jsonOf(['agent', name, '--once'], { cwd });
};

const restoreOf = (archive: string, target = 'latest'): string[] => [
  'restore',
  '--archive',
  `file:${archive}`,
  '--to',
  target,
  '--json-lines',
];

const copyOf = (name: string, copy: string): string => {
  cpSync(join(cwd, `${name}.archive`), join(cwd, copy), { recursive: true });
  return copy;
};

const segmentsIn = (archive: string): string[] =>
  readdirSync(join(cwd, archive, 'segments'), { recursive: true, encoding: 'utf8' })
    .filter((n) => n.endsWith('.seg'))
    .map((n) => join(cwd, archive, 'segments', n));

before(async () => {
  await make('one');
  await make('two');
});

test('an unknown target', async () => {
  await refused(
    'target-invalid',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    'yesterday',
    '--into',
    'x',
  );
  await refused(
    'mark-unknown',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    'mark:nowhere',
    '--into',
    'x',
  );
  await refused(
    'stream-unknown',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    'lsn:nobody/1',
    '--into',
    'x',
  );
  await refused(
    'target-future',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    '2100-01-01T00:00:00Z',
    '--into',
    'x',
  );
  await refused(
    'target-nodata',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    '2001-01-01T00:00:00Z',
    '--into',
    'x',
  );
  assert.ok(!readdirSync(cwd).includes('x'));
});

test('an empty archive, and none', async () => {
  mkdirSync(join(cwd, 'nothing'));
  await refused('archive-not-found', 'status', '--archive', 'file:nothing');
  await refused('archive-not-found', 'status', '--archive', 'file:missing');
  mkdirSync(join(cwd, 'empty'));
  writeFileSync(
    join(cwd, 'empty', 'archive'),
    encodeDocument('archive', { id: '0'.repeat(32), createdMs: 0 }),
  );
  await refused('timeline-unknown', 'restore', '--archive', 'file:empty', '--to', 'latest', '--into', 'x');
});

test("another archive's segment, and another archive's head", async () => {
  const archive = copyOf('one', 'mixed');
  const [mine] = segmentsIn(archive);
  const [foreign] = segmentsIn('two.archive');
  writeFileSync(mine, readFileSync(foreign));
  const message = await refused(
    'archive-mismatch',
    ...restoreOf(archive, 'latest').slice(0, -1),
    '--into',
    'x1',
  );
  assert.match(message, /belongs to archive/);

  const swapped = copyOf('one', 'swapped');
  rmSync(join(cwd, swapped, 'archive'));
  cpSync(join(cwd, 'two.archive', 'archive'), join(cwd, swapped, 'archive'));
  await refused('archive-mismatch', 'status', '--archive', `file:${swapped}`);
});

test('a future format version of a control object, a segment, a log file, an engine directory', async () => {
  const control = copyOf('one', 'future-control');
  const path = join(cwd, control, 'archive');
  writeFileSync(path, readFileSync(path, 'utf8').replace(/"version":\d+/, '"version":99'));
  await refused('format-version', 'status', '--archive', `file:${control}`);

  const data = copyOf('one', 'future-segment');
  const [segment] = segmentsIn(data);
  const bytes = readFileSync(segment);
  bytes.writeUInt16LE(99, bytes.length - 16);
  writeFileSync(segment, bytes);
  await refused('format-version', ...restoreOf(data).slice(0, -1), '--into', 'x2');

  await make('three');
  const log = join(cwd, 'three', 'log');
  const file = join(log, readdirSync(log)[0]);
  const frames = readFileSync(file);
  frames.writeUInt16LE(99, 8);
  writeFileSync(file, frames);
  await refused('format-version', 'mark', 'm', 'three');

  await make('four');
  const identity = join(cwd, 'four', 'engine.json');
  writeFileSync(identity, readFileSync(identity, 'utf8').replace('"version": 2', '"version": 9'));
  await refused('format-version', 'mark', 'm', 'four');
});

test('a log directory of another engine', async () => {
  await make('five');
  rmSync(join(cwd, 'five', 'log'), { recursive: true });
  cpSync(join(cwd, 'two', 'log'), join(cwd, 'five', 'log'), { recursive: true });
  await refused('log-foreign', 'mark', 'm', 'five');
});

test('a directory that is not one', async () => {
  mkdirSync(join(cwd, 'plain'));
  writeFileSync(join(cwd, 'plain', 'file'), '');
  await refused('not-an-engine', 'agent', 'plain', '--once');
  await refused('not-an-engine', 'mark', 'm', join('plain', 'file'));
  await refused(
    'target-not-empty',
    'restore',
    '--archive',
    'file:one.archive',
    '--to',
    'latest',
    '--into',
    'plain',
  );
  await refused('target-not-empty', 'init', 'plain', '--archive', 'file:one.archive');
  await refused('engine-exists', 'init', 'one', '--archive', 'file:one.archive');
  assert.deepEqual(readdirSync(join(cwd, 'plain')), ['file']);
});

test('a busy lock: a second writer, a second agent', async () => {
  const writer = await acquireDirectoryLock(writerLockPath(join(cwd, 'two')));
  const agent = await acquireDirectoryLock(join(cwd, 'two', 'agent.lock'));
  try {
    await refused('engine-busy', 'mark', 'm', 'two');
    await refused('agent-busy', 'agent', 'two', '--once');
  } finally {
    writer?.release();
    agent?.release();
  }
});

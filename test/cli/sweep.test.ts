/** Orphans from the command line: seen, waited for, swept; and snapshots that were deleted. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { readIdentity } from '../../engine/identity.ts';
import { Engine } from '../../wal/engine.ts';
import { assertNarrow, jsonOf, runPitr } from './run-pitr.ts';

const cwd = mkdtempSync(join(tmpdir(), 'pitr-sweep-cli-'));
after(() => rmSync(cwd, { recursive: true, force: true }));
const json = (...args: string[]) => jsonOf(args, { cwd });
const ARCHIVE = 'file:archive';
/** A look as often as the command is run, and nothing waits longer than two of them. */
const HASTY = { PITR_SWEEP_MARGIN: '1ms', PITR_SWEEP_EVERY: '1ms' };

const plant = (name: string): string => {
  const path = join(cwd, 'archive', name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, 'left behind');
  return path;
};

test('an orphan is shown, waits, and is swept by agents that run once; a foreign file never', async () => {
  await json('init', 'data', '--archive', ARCHIVE);
  const engine = await Engine.open({ dir: join(cwd, 'data') });
  await engine.put({ namespace: 'test', set: 's', key: 1 }, { n: 1 });
  await engine.close();
  const { timeline } = await readIdentity(join(cwd, 'data'));
  const name = `segments/${timeline}/main/L0/000000000000001-000000000000002-g1-0123456789ab.seg`;
  const [orphan, foreign] = [plant(name), plant('notes.txt')];
  const once = async (...args: string[]): Promise<string> => {
    const command = ['agent', 'data', '--once', '--log-format', 'json', ...args];
    return (await runPitr(command, { cwd, env: HASTY })).stderr;
  };
  for (let i = 0; i < 3; i++) await once('--sweep-margin', 'off');
  const text = await runPitr(['verify', 'data', '--orphans'], { cwd });
  assert.match(text.stdout, /segment +11 B +- +no agent has seen it/);
  assert.match(text.stdout, /foreign +11 B +- +never/);
  assertNarrow(text.stdout);

  await once('--sweep-margin', '1h');
  const { orphans, ok } = await json('verify', 'data', '--orphans');
  assert.ok(ok);
  const seen = orphans.lines.find((line: { name: string }) => line.name === name);
  assert.ok(seen.firstSeenMs > 0 && seen.sweptAfterMs >= seen.firstSeenMs + 3_600_000);
  assert.deepEqual([seen.class, seen.bytes, seen.sweptBy], ['segment', 11, 'main']);
  let said = '';
  for (let i = 0; i < 3 && existsSync(orphan); i++) said = await once();
  assert.ok(!existsSync(orphan));
  const swept = said.split('\n').find((line) => line.includes('swept'));
  assert.equal(JSON.parse(swept ?? '{}').objects, 1, said);
  assert.ok(existsSync(foreign));
});

test('snapshot delete says what it will free and when, and the next one frees it', async () => {
  await json('snapshot', 'create', 'data', '--kind', 'synthetic', '--label', 'one');
  const before = Date.now();
  const { deleted, frees } = await json('snapshot', 'delete', 'one', 'data');
  assert.equal(deleted.label, 'one');
  assert.equal(frees.objects, 2);
  assert.ok(frees.bytes > 100 && frees.afterMs >= before + 120_000);
  assert.deepEqual(frees.readers, []);
  await json('snapshot', 'create', 'data', '--label', 'two');
  const { stdout } = await runPitr(['snapshot', 'delete', 'two', 'data'], { cwd });
  assert.match(stdout, /Deleted snapshot .* "two".*\nIts objects \(1, .*\) go after 2/);
});

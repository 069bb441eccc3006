import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { CoreFigures } from '../../bench/core.ts';
import { renderCore, renderMarkdown } from '../../bench/report.ts';
import { renderScaling, type ScalingRow } from '../../bench/scaling.ts';
import { TARGETS } from '../../bench/targets.ts';
import { assertNarrow } from '../cli/run-pitr.ts';

const BENCH = fileURLToPath(new URL('../../bench/bench.ts', import.meta.url));
const run = promisify(execFile);
const TINY = ['--records', '2000', '--changes', '2000', '--day-changes', '480'];
const ONCE = ['--runs', '1', '--restore-runs', '1', '--ms', '60', '--peers', 'libraries'];

/** Runs a benchmark and gives its object. */
const jsonOf = async (...args: string[]) => {
  const { stdout } = await run(process.execPath, [BENCH, ...args, '--json']);
  assert.equal(stdout.trimEnd().split('\n').length, 1, 'one line');
  return JSON.parse(stdout);
};

/** The paths that readers of the JSON rely on. */
const FIELDS = [
  ...['seconds', 'verifiedSeconds', 'rssAnonMB', 'records'].map((f) => `restoreToT.${f}`),
  'archiveMB',
  ...['1', '64', '1024'].map((n) => `commitsPerSecond.${n}`),
  'batchChangesPerSecond',
  'mergeVersionsPerSecondPerCore',
  'snapshot.referenceSeconds',
  'snapshot.syntheticSeconds',
  ...['h1', 'd1', 'd7'].map((stage) => `rtoByLogLength.${stage}`),
];

describe('npm run bench -- core, tiny', () => {
  let dir = '';
  let figures: CoreFigures;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'pitr-core-test-'));
    figures = await jsonOf('core', ...TINY, ...ONCE, '--dir', dir);
  });
  after(() => rm(dir, { recursive: true, force: true }));

  test('prints one object that has every promised field, each a number above 0', () => {
    for (const field of FIELDS) {
      let value: unknown = figures;
      for (const part of field.split('.')) value = (value as Record<string, unknown>)[part];
      assert.ok(typeof value === 'number' && Number.isFinite(value) && value > 0, `${field}: ${value}`);
    }
    assert.equal(figures.machine.node, process.version);
    assert.ok(figures.machine.syncMicros > 0 && figures.machine.cores > 0);
  });

  test('restores as many records as the workload has, whatever the length of the log', () => {
    const { restoreToT, logLength } = figures;
    // of 4000 versions in the archive 1000 are after the target, and a restore may know that without reading them
    assert.ok(restoreToT.versions >= 3000 && restoreToT.versions <= 4000, `${restoreToT.versions} versions`);
    assert.ok(restoreToT.records > 1900 && restoreToT.records < 2100);
    for (const stage of ['h1', 'd1', 'd7'] as const) assert.ok(logLength[stage].records > 1900);
    // a day's log at most beside the full snapshot, after a week as after a day
    assert.ok(logLength.d7.versions <= logLength.d7.records + 2 * 480, `${logLength.d7.versions} versions`);
  });

  test('measures the libraries that are development dependencies', () => {
    const names = figures.peers.filter((p) => 'commitsPerSecond' in p).map((p) => p.name);
    assert.deepEqual(names, ['better-sqlite3', 'node:sqlite', 'classic-level']);
  });

  test('fits into 80 columns, judges no small run, and has every target as a line of markdown', () => {
    const text = renderCore(figures);
    assertNarrow(text);
    assert.doesNotMatch(text, /\bmet\b/);
    const options = { ...figures.options, records: 1e6, changes: 1e6, dayChanges: 5e5 };
    const full = { ...figures, options };
    assertNarrow(renderCore(full));
    const lines = renderMarkdown(full).split('\n');
    for (const { what } of TARGETS)
      assert.match(lines.find((l) => l.startsWith(`| ${what} |`)) ?? '', /\| (met|not met) \|$/, what);
  });

  test('leaves nothing behind', async () => {
    assert.deepEqual(await readdir(dir), []);
  });

  test('refuses an unknown name and a number that is none', async () => {
    for (const args of [['nothing'], ['core', '--records', '1.5']])
      await assert.rejects(
        run(process.execPath, [BENCH, ...args]),
        (error: { code: number }) => error.code === 2,
      );
  });
});

test('npm run bench -- scaling has a row for each size and number of workers, restored with what the archive has', async () => {
  const { rows }: { rows: ScalingRow[] } = await jsonOf('scaling', '--sizes', '0.001', '--runs', '1');
  const shape = rows.map((r) => [r.records, r.changes, r.workers]);
  assert.deepEqual(shape, [
    [1000, 500, 1],
    [1000, 500, 2],
  ]);
  for (const { restore, archiveMB } of rows) {
    assert.ok(restore.versions >= 1250 && restore.versions <= 1500, `${restore.versions} versions`);
    assert.ok(restore.seconds > 0 && restore.rssAnonMB > 0 && archiveMB > 0);
  }
  assertNarrow(renderScaling(rows));
});

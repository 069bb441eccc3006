import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ArchiveFigures } from '../../bench/archive.ts';
import { renderArchive, renderArchiveMarkdown } from '../../bench/archive-report.ts';
import { ARCHIVE_SIZE, ARCHIVE_TARGETS } from '../../bench/targets.ts';
import { assertNarrow } from '../cli/run-pitr.ts';

const BENCH = fileURLToPath(new URL('../../bench/bench.ts', import.meta.url));
const TINY = ['--records', '2000', '--changes', '1000', '--rate', '2000', '--seconds', '1', '--runs', '1'];

/** The paths that readers of the JSON rely on. */
const FIELDS = [
  ...['ms0', 'ms50', 'ms200'].flatMap((ms) =>
    ['p50Ms', 'p99Ms', 'maxMs', 'changesPerSecond', 'agentRssAnonMB', 'requestsPerGB'].map(
      (field) => `lag.${ms}.${field}`,
    ),
  ),
  ...['directory', 'ms0', 'ms50'].flatMap((store) => [
    `upload.${store}.logMBPerSecond`,
    `upload.${store}.changesPerSecond`,
    `restore.${store}.seconds`,
    `restore.${store}.rssAnonMB`,
    `restore.${store}.records`,
  ]),
  'restoreTimesDirectory',
  'requestsPerGB.live',
  'requestsPerGB.waiting',
  'rssAnonMB.agent',
  'rssAnonMB.restore',
  'looks.status.requests',
];

describe('npm run bench -- archive, tiny', () => {
  let dir = '';
  let figures: ArchiveFigures;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'pitr-archive-bench-test-'));
    const args = [BENCH, 'archive', ...TINY, '--dir', dir, '--json'];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    assert.equal(stdout.trimEnd().split('\n').length, 1, 'one line');
    figures = JSON.parse(stdout);
  });
  after(() => rm(dir, { recursive: true, force: true }));

  test('prints one object that has every promised field, each a number above 0', () => {
    for (const field of FIELDS) {
      let value: unknown = figures;
      for (const part of field.split('.')) value = (value as Record<string, unknown>)[part];
      assert.ok(typeof value === 'number' && Number.isFinite(value) && value > 0, `${field}: ${value}`);
    }
  });

  test('restores the same from all stores, and asks a directory for nothing', () => {
    const { directory, ms0, ms50 } = figures.restore;
    assert.ok(directory.records > 1900 && directory.records < 2100);
    assert.deepEqual([ms0.records, ms50.records], [directory.records, directory.records]);
    assert.deepEqual([ms0.versions, ms50.versions], [3000, 3000]);
    assert.deepEqual([directory.requests, figures.upload.directory.requests], [0, 0]);
    // latency adds no requests; a restore of over 30 s renews its lease
    assert.ok(Math.abs(ms0.requests - ms50.requests) <= 4, `${ms0.requests} and ${ms50.requests}`);
  });

  test('counts what goes through the bucket', () => {
    for (const { traffic } of Object.values(figures.lag)) {
      const { put, get } = traffic.requests;
      // at least a segment and a head each second, and no end of them
      assert.ok(put >= 2 && put < 100 && get < 100, JSON.stringify(traffic));
      assert.ok(traffic.sentMB > 0.01);
    }
    assert.ok(figures.looks.open.requests === 4);
  });

  test('fits into 80 columns, judges no small run, and has every target as a line of markdown', () => {
    assertNarrow(renderArchive(figures));
    assert.doesNotMatch(renderArchive(figures), /\bmet\b/);
    const full = { ...figures, options: { ...figures.options, ...ARCHIVE_SIZE } };
    const lines = renderArchiveMarkdown(full).split('\n');
    for (const { what } of ARCHIVE_TARGETS)
      assert.match(lines.find((l) => l.startsWith(`| ${what} |`)) ?? '', /\| (met|not met) \|$/, what);
  });

  test('leaves nothing behind', async () => {
    assert.deepEqual(await readdir(dir), []);
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDuration } from '../../cli/duration.ts';
import { progressLine } from '../../cli/render/progress.ts';
import {
  formatAge,
  formatBytes,
  formatCount,
  formatDuration,
  formatInstant,
  formatIso,
} from '../../cli/render/units.ts';
import { isPitrError } from '../../engine/errors.ts';

test('bytes are in powers of 1024 and never print as 1024 of a unit', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1023), '1023 B');
  assert.equal(formatBytes(1024), '1.0 KiB');
  assert.equal(formatBytes(1_258_291), '1.2 MiB');
  assert.equal(formatBytes(1024 * 1024 - 1), '1.0 MiB');
  assert.equal(formatBytes(2n ** 60n), '1.0 EiB');
  assert.equal(formatBytes(-2048), '-2.0 KiB');
});

test('a count keeps every digit, also of a bigint', () => {
  assert.equal(formatCount(135_233), '135,233');
  assert.equal(formatCount(2n ** 60n + 1n), '1,152,921,504,606,846,977');
});

test('a duration has two units at most and rounding carries into the next one', () => {
  const cases: [number, string][] = [
    [0, '0 ms'],
    [12.4, '12 ms'],
    [999.6, '1 s'],
    [1400, '1.4 s'],
    [59_970, '1 min'],
    [125_000, '2 min 5 s'],
    [3_599_600, '1 h'],
    [2 * 3_600_000 + 60_000, '2 h 1 min'],
    [86_399_999, '1 d'],
    [3 * 86_400_000 + 4 * 3_600_000, '3 d 4 h'],
    [-1400, '-1.4 s'],
    [Number.NaN, '?'],
  ];
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text, `${ms} ms`);
});

test('an age is rounded down and tells past from future', () => {
  assert.equal(formatAge(12 * 60_000 + 59_999), '12 min ago');
  assert.equal(formatAge(999), 'now');
  assert.equal(formatAge(-5000), 'in 5 s');
});

test('an instant is UTC with ms, and one that no Date can hold does not throw', () => {
  const at = Date.UTC(2026, 10, 21, 10, 0, 0, 123);
  assert.equal(formatInstant(at, at + 12 * 60_000), '2026-11-21T10:00:00.123Z (12 min ago)');
  assert.equal(formatIso(9e15), '9000000000000000 ms');
});

test('durations that parse', () => {
  const cases = {
    '10m': 600_000,
    '1h30m': 5_400_000,
    '500ms': 500,
    '7d': 604_800_000,
    '1s': 1000,
    '1m1ms': 60_001,
  };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
});

test('durations that are refused: no unit, wrong order, twice, sign, too large', () => {
  for (const text of ['', '10', 'm', '30m1h', '1h1h', '-1s', '1.5h', ' 1s', '9999999999999d']) {
    assert.throws(
      () => parseDuration(text),
      (error) => isPitrError(error, 'usage'),
      JSON.stringify(text),
    );
  }
});

test('a progress line shows rate and time left, and 100% only when nothing is left', () => {
  assert.equal(
    progressLine('restore', 600, 1000, 3000, 'segment 7'),
    'restore ████████████░░░░░░░░  60%  600/1,000  200/s  2 s left  segment 7',
  );
  assert.match(progressLine('x', 9999, 10_000, 1000, ''), / 99% /);
  assert.match(progressLine('x', 10_000, 10_000, 1000, ''), /100% {2}10,000\/10,000 {2}10,000\/s$/);
});

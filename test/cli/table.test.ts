import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Progress, type ProgressStream } from '../../cli/render/progress.ts';
import {
  type Column,
  displayWidth,
  renderFields,
  renderTable,
  renderTree,
  shorten,
} from '../../cli/render/table.ts';

const columns: Column[] = [{ title: 'stream' }, { title: 'records', align: 'right' }];

test('text is left, numbers are right, nothing trails', () => {
  const table = renderTable(columns, [
    ['a', '7'],
    ['west', '135,233'],
  ]);
  assert.equal(
    table,
    ['stream  records', '──────  ───────', 'a             7', 'west    135,233'].join('\n'),
  );
});

test('a table that is too wide cuts its widest text and keeps its numbers whole', () => {
  const table = renderTable(columns, [['x'.repeat(200), '1,234,567,890']]);
  const row = table.split('\n')[2]!;
  assert.equal(displayWidth(row), 80);
  assert.ok(row.endsWith('x…  1,234,567,890'), row);
});

test('property: any table fits its width, one line a row', () => {
  const cell = fc.oneof(
    fc.string({ unit: 'grapheme', maxLength: 120 }),
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom('\n', '\x1b[31m', '日本語'.repeat(20), '👩‍👩‍👧'.repeat(30), 'e\u0301'.repeat(90)),
  );
  const table = fc.integer({ min: 1, max: 50 }).chain((count) =>
    fc.record({
      columns: fc.array(
        fc.record({ title: cell, align: fc.constantFrom('left' as const, 'right' as const) }),
        {
          minLength: count,
          maxLength: count,
        },
      ),
      rows: fc.array(fc.array(cell, { minLength: count, maxLength: count }), { maxLength: 4 }),
    }),
  );
  fc.assert(
    fc.property(table, fc.constantFrom(80, 40, 120), ({ columns, rows }, width) => {
      const lines = renderTable(columns, rows, { width }).split('\n');
      assert.equal(lines.length, rows.length + 2);
      for (const line of lines)
        assert.ok(displayWidth(line) <= width, `${displayWidth(line)} cells: ${line}`);
    }),
  );
});

test('width is counted in terminal cells', () => {
  const cases: [string, number][] = [
    ['abc', 3],
    ['日本', 4],
    ['e\u0301', 1],
    ['👩‍👩‍👧', 2],
    ['한국', 4],
    ['ü', 1],
    ['│', 1],
  ];
  for (const [text, cells] of cases) assert.equal(displayWidth(text), cells, text);
  assert.equal(shorten('日本語', 4), '日…');
});

test('a stored key cannot reach the terminal as an escape sequence or break a line', () => {
  const table = renderTable([{ title: 'key' }], [['a\x1b[2J\nb\u202e']]);
  assert.equal(table.split('\n')[2], 'a\\u001b[2J\\nb\\u202e');
});

test('fields line up, leave out what is absent and wrap below their value', () => {
  const block = renderFields(
    [
      ['archive', 'file:/a'],
      ['mark', undefined],
      ['why', 'one two three'],
    ],
    { width: 17 },
  );
  assert.equal(block, ['archive: file:/a', 'why:     one two', '         three'].join('\n'));
});

test('a tree shows which branch goes on', () => {
  const tree = renderTree([
    { label: 'full', children: [{ label: 'inc 1', children: [{ label: 'inc 2' }] }, { label: 'inc 3' }] },
    { label: 'other' },
  ]);
  assert.equal(tree, ['full', '├─ inc 1', '│  └─ inc 2', '└─ inc 3', 'other'].join('\n'));
});

class FakeTerminal implements ProgressStream {
  readonly columns = 60;
  readonly isTTY: boolean;
  written = '';

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string): boolean {
    this.written += text;
    return true;
  }
}

test('a line of a command that goes on after a backslash is never broken', () => {
  const command = `pitr restore \\\n  --archive 's3://${'b'.repeat(80)}?endpoint=x' \\\n  --to latest`;
  const lines = renderFields([['Restore', command]])
    .split('\n')
    .map((line) => line.slice('Restore: '.length));
  assert.deepEqual(lines, command.split('\n'));
});

test('progress draws for a person only, within the line, and leaves nothing behind', () => {
  const draw = (isTTY: boolean, json: boolean, quiet: boolean): string => {
    const stream = new FakeTerminal(isTTY);
    const progress = new Progress({ json, quiet, stream });
    progress.start(10, 'restore');
    progress.update(5, 'd'.repeat(100));
    progress.stop();
    return stream.written;
  };
  assert.equal(draw(false, false, false), '');
  assert.equal(draw(true, true, false), '');
  assert.equal(draw(true, false, true), '');

  const written = draw(true, false, false);
  assert.match(written, /restore ░+ {3}0% {2}0\/10/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the terminal's own sequences
  const frames = written.split(/\x1b\[[0-9;?]*[A-Za-z]/);
  assert.ok(frames.some((frame) => frame.includes('5/10') && frame.endsWith('…')));
  for (const frame of frames) assert.ok(displayWidth(frame) < 60, frame);
  assert.ok(written.endsWith('\x1b[2K'), 'the line is cleared last');
  assert.doesNotMatch(written, /\n|\?7l|\?25l/, 'no line is used up, no terminal mode is changed');
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Screen } from '../../cli/render/screen.ts';

test('a screen is drawn over itself in one write, never blank in between, and gives the cursor back', () => {
  const writes: string[] = [];
  const screen = new Screen({ columns: 10, rows: 5, write: (text: string) => writes.push(text) });
  screen.draw('one\na line that is too long');
  screen.draw('1\n2\n3\n4\n5\n6');
  screen.end();
  assert.deepEqual(writes, [
    '\x1b[?25l\x1b[2J\x1b[Hone\x1b[K\na line th…\x1b[K\n\x1b[J',
    '\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K\n… 3 more …\x1b[K\n\x1b[J',
    '\x1b[?25h',
  ]);
});

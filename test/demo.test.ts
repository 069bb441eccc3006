import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const dir = mkdtempSync(join(tmpdir(), 'pitr-demo-'));
after(() => rmSync(dir, { recursive: true }));

/** The demo compares what it restores with its own notes and fails when they differ; here with fewer cities. */
test('the demo ends well: three writers, a hand-over, a SIGKILL, a bad deployment, and back', {
  timeout: 180_000,
}, async () => {
  const demo = fileURLToPath(new URL('../cli/demo/demo.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [demo, join(dir, 'demo')], {
    env: { ...process.env, PITR_DEMO_CITIES: '12000' },
    maxBuffer: 2 ** 24,
  });
  assert.match(stdout, /restored cities are equal to the writers' own notes/);
  assert.match(stdout, /Source: {3}verified/);
  assert.match(stdout, /RTO .* RPO /);
});

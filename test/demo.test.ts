import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startProvider } from './s3/provider.ts';

const dir = mkdtempSync(join(tmpdir(), 'pitr-demo-'));
after(() => rmSync(dir, { recursive: true }));

/** The demo compares what it restores with its own notes and fails when they differ; here with fewer cities. */
const demo = async (cities: number, ...args: string[]): Promise<string> => {
  const program = fileURLToPath(new URL('../cli/demo/demo.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...args], {
    env: { ...process.env, PITR_DEMO_CITIES: `${cities}` },
    maxBuffer: 2 ** 24,
  });
  assert.match(stdout, /restored cities are equal to the writers' own notes/);
  assert.match(stdout, /Source: {3}verified/);
  assert.match(stdout, /RTO .* RPO /);
  return stdout;
};

test('the demo ends well: three writers, a hand-over, a SIGKILL, a bad deployment, and back', {
  timeout: 180_000,
}, async () => {
  await demo(12_000, join(dir, 'demo'));
});

const skip = process.env.PITR_DEMO_S3 === undefined && 'PITR_DEMO_S3=1 runs it: 17 s of processor time';
test('and with its archive in a bucket', { timeout: 180_000, skip }, async () => {
  const provider = await startProvider();
  try {
    const url = provider.url();
    const stdout = await demo(3000, join(dir, 'bucket'), '--archive', url);
    const [place] = url.split('?');
    const written = provider.gate.messages.filter(({ method }) => method === 'PUT').map((m) => m.url);
    assert.match(stdout, new RegExp(`chain --archive '${place}/demo-\\d+\\?`), 'a folder of its own');
    assert.ok(written.some((path) => /\/demo-\d+\/segments\//.test(path)));
    assert.ok(!existsSync(join(dir, 'bucket', 'archive')), 'nothing of the archive in the directory');
  } finally {
    await provider.close();
  }
});

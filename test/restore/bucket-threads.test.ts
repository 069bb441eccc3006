/** Restores from a bucket: threads work on two ranges each, and more comes out of them than may be on its way. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { restoreEngine } from '../../restore/restore.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { startProvider } from '../s3/provider.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-bucket-threads-'));
const provider = await startProvider();
after(async () => {
  await provider.close();
  rmSync(root, { recursive: true });
});

const RECORDS = 4000;
const BATCH = 100;
/** In all much more than the 4 MiB of one thread, and little once it is compressed. */
const VALUE = 'x'.repeat(8000);

test('more than may be on its way comes out of two threads, each with two ranges, and all of it arrives', {
  timeout: 60_000,
}, async () => {
  const dir = join(root, 'data');
  const archive = provider.url();
  await Engine.init(dir, { archive });
  const engine = await Engine.open({ dir, sealMs: 0 });
  for (let at = 0; at < RECORDS; at += BATCH)
    await engine.batch(
      Array.from({ length: BATCH }, (_, i) => ({
        op: 'put' as const,
        key: { namespace: 'test', set: 's', key: at + i },
        bins: { value: `${at + i} ${VALUE}` },
      })),
    );
  await engine.close();
  const archiver = await Archiver.open(dir);
  await archiver.archivePending();
  await archiver.close();
  const report = await restoreEngine(join(root, 'copy'), undefined, {
    archive,
    target: 'latest',
    workers: 2,
  });
  assert.equal(report.records, RECORDS);
  assert.deepEqual([report.verification.target, report.verification.source], ['equal', 'equal']);
});

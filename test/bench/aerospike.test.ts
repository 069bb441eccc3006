import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runAerospike } from '../../bench/aerospike.ts';

test('the benchmark of a cluster, small, against the endpoint, gives every figure', {
  timeout: 120_000,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-bench-aerospike-'));
  try {
    const f = await runAerospike({
      dir,
      namespace: 'test',
      records: 1000,
      rate: 500,
      seconds: 1,
      runs: 1,
      changed: 100,
      settleMs: 500,
    });
    assert.equal(f.server, undefined, 'no server was given');
    const { firstCopy, poll, lag, restore } = f.endpoint!;
    const all = [
      firstCopy.seconds,
      firstCopy.restorableSeconds,
      firstCopy.MB,
      firstCopy.rssAnonMB,
      poll.seconds,
      poll.changedSeconds,
      lag.p99Ms,
      restore.seconds,
    ];
    for (const figure of all) assert.ok(figure > 0, JSON.stringify(f));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runEndpoint } from '../../bench/endpoint.ts';

test('the benchmark of the endpoint, small, gives every figure', { timeout: 120_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-bench-endpoint-'));
  try {
    const f = await runEndpoint({ dir, records: 1000, ms: 60, runs: 1, window: 128 });
    const rates = [
      f.pipelined.putsPerSecond,
      f.pipelined.getsPerSecond,
      f.pipelined.puts.p99Ms,
      f.scan.recordsPerSecond,
      f.server.rssAnonMB,
      f.server.cpuSeconds,
      ...(f.official
        ? [f.official.batch.perSecond, ...Object.values(f.official.byInFlight).map((c) => c.puts.perSecond)]
        : []),
    ];
    for (const rate of rates) assert.ok(rate > 0, JSON.stringify(f));
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

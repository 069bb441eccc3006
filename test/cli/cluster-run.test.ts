/** Who asks a capture for a mark gets it, whatever becomes of the polls meanwhile. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CaptureEvents } from '../../cli/capture/capture-run.ts';
import { ClusterRun } from '../../cli/capture/cluster-run.ts';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { Faults } from '../../engine/aerospike/server/faults.ts';
import { Archiver } from '../../wal/archiver.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { Engine } from '../../wal/engine.ts';
import { readLog } from '../capture/log-state.ts';

const until = async (what: string, is: () => boolean): Promise<void> => {
  for (const end = Date.now() + 30_000; !is(); await sleep(10)) assert.ok(Date.now() < end, what);
};

test('a mark outlives polls that fail, and a poll that waits before one that fails', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'pitr-run-'));
  await Engine.init(join(root, 'engine'));
  const engine = await Engine.open({ dir: join(root, 'engine') });
  const faults = new Faults();
  const server = await AerospikeServer.listen({ engine, port: 0, faults, namespaces: ['test'] });
  const { port } = server.addresses[0];
  const dir = join(root, 'capture');
  const url = `aerospike://127.0.0.1:${port}`;
  await initCapture(
    dir,
    { kind: 'aerospike', url, namespaces: ['test'], sets: null },
    { archive: `file:${join(root, 'archive')}` },
  );
  const archiver = await Archiver.open(dir, { adopt: false });
  const journal = await Journal.open(dir);
  const counts = { copies: 0, waits: 0, failures: 0 };
  const events: CaptureEvents = {
    copying: () => undefined,
    copied: () => undefined,
    copyAgain: () => undefined,
    gap: () => undefined,
    baseCopy: () => counts.copies++,
    polled: ({ waitsFor }) => {
      if (waitsFor.length > 0) counts.waits++;
    },
    failed: () => counts.failures++,
  };
  const run = new ClusterRun({
    journal,
    archiver,
    client: { hosts: [{ host: '127.0.0.1', port }], attemptsMax: 2, backoff: { firstMs: 1, maxMs: 5 } },
    pollMs: 200,
    groups: 1,
    events,
  });
  const running = run.run();
  t.after(async () => {
    run.stop();
    await running;
    await journal.close();
    await archiver.close();
    await server.close();
    await engine.close();
    await rm(root, { recursive: true });
  });
  await until('a base copy', () => counts.copies === 1);

  faults.unavailable.add(7);
  const first = run.mark('first');
  // at least the second one has begun with it
  await until('polls that fail', () => counts.failures > 1);
  faults.unavailable.clear();
  const { ts } = await first;

  faults.migrating = 1;
  const second = run.mark('second');
  const { waits } = counts;
  await until('polls that wait', () => counts.waits > waits + 1);
  const { failures } = counts;
  faults.unavailable.add(7);
  await until('another that fails', () => counts.failures > failures);
  faults.unavailable.clear();
  faults.migrating = 0;
  await second;

  const marks = (await readLog(dir)).events.filter((e) => e.kind === 'mark');
  assert.deepEqual(
    marks.map(({ name }) => name),
    ['first', 'second'],
  );
  assert.equal(marks[0].ts, ts);
});

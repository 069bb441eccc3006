/** Since when a poll says that versions may have been missed: a cluster in this process, whose clock the test moves (P12). */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { systemTiming } from '../../engine/aerospike/client/timing.ts';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { ManualClock } from '../../engine/clock.ts';
import type { LogVersion } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { Poller } from '../../wal/capture/aerospike/poller.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { Engine } from '../../wal/engine.ts';
import { isInexactAt, readLog, SHARDS } from './journal-support.ts';

const START_MS = 1_795_000_000_000;

const keyOf = (n: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return wireKeyOf('test', 's', { type: 1, bytes });
};

test('P12, S7: what a poll finds to be missed makes nothing before the last complete poll inexact', async () => {
  const root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'pitr-poll-missed-'));
  const clock = new ManualClock(START_MS);
  await Engine.init(join(root, 'engine'), { clock });
  const engine = await Engine.open({ dir: join(root, 'engine'), clock });
  const server = await AerospikeServer.listen({ engine, port: 0, clock, namespaces: ['test'] });
  const { port } = server.addresses[0];
  const client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port }] });
  const url = `aerospike://127.0.0.1:${port}`;
  const dir = join(root, 'capture');
  const source = { kind: 'aerospike', url, namespaces: ['test'], sets: null } as const;
  await initCapture(dir, source, { archive: `file:${root}/archive`, shards: SHARDS });
  const journal = await Journal.open(dir);
  try {
    const timing = { ...systemTiming, nowMs: () => clock.nowMs() };
    const poller = new Poller(client, journal, { timing, groups: 2, sweepMs: 1e12 });
    const { clockMs } = await poller.prepare();
    await journal.loaded(new ContentDigest(SHARDS), clockMs);
    poller.copied();
    const put = async (n: number): Promise<void> => {
      clock.step(10);
      await client.put(keyOf(n), [{ name: 'n', type: 1, bytes: Buffer.alloc(8) }]);
    };
    const poll = async (): Promise<number> => {
      clock.step(2000);
      const report = await poller.poll();
      assert.deepEqual([report.isStated, report.waitsFor, report.doubts], [true, [], []]);
      return report.serverMs;
    };
    // by record 0 the clock is read
    await put(0);
    await put(1);
    clock.step(2000);
    await poller.poll();
    const lastMs = await poll();
    // 1 has a row and then two more versions, 2 has none and then three
    const beganMs = clock.nowMs() + 10;
    for (const n of [1, 2, 1, 2, 2]) await put(n);
    const nextMs = await poll();
    const versions = (await readLog(dir)).flatMap((e) => (e.kind === 'version' ? [e.version] : []));
    for (const [n, missed] of [
      [1, 1],
      [2, 2],
    ]) {
      const own = versions.filter((v) => Buffer.compare(keyOf(n).digest, v.digest) === 0);
      const { generation, ts, seen } = own.at(-1) as LogVersion;
      assert.deepEqual([generation, seen?.missed, seen?.missedAfterMs], [3, missed, lastMs - 1]);
      const inexact = [lastMs - 1000, lastMs - 1, lastMs, beganMs, ts - 1, ts, nextMs].map((at) =>
        isInexactAt(own, at),
      );
      assert.deepEqual(inexact, [false, false, true, true, true, false, false], `record ${n}`);
    }
  } finally {
    await journal.close();
    await client.close();
    await server.close();
    await engine.close();
    await rm(root, { recursive: true });
  }
});

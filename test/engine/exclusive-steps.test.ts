import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { PartitionSet } from '../../engine/partition.ts';
import { Engine } from '../../wal/engine.ts';
import { logFilesIn, scanLogFile } from '../../wal/log-file.ts';

describe('truncation and release, which hold writers back', async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-exclusive-'));
  after(() => fs.rm(dir, { recursive: true }));
  let n = 0;

  const engineWith = async (records: number): Promise<Engine> => {
    const path = join(dir, String(++n));
    // with an archive to which nobody ships, the log is kept
    await Engine.init(path, { archive: `file:${path}.archive` });
    const engine = await Engine.open({ dir: path, sealMs: 0 });
    const puts = Array.from({ length: records }, (_, i) => ({
      op: 'put' as const,
      key: { namespace: 'test', set: 's', key: i },
      bins: { n: i },
    }));
    await engine.batch(puts);
    return engine;
  };
  const recordsIn = (engine: Engine): number => engine.digests.reduce((sum, d) => sum + d.records, 0);

  test('Two truncations at once do not subtract the same records twice from the digest', async () => {
    const engine = await engineWith(50);
    const both = await Promise.all([
      engine.truncate({ namespace: 'test' }),
      engine.truncate({ namespace: 'test', set: 's' }),
    ]);
    assert.deepEqual(
      both.map((t) => t.records),
      [50, 0],
    );
    assert.equal(recordsIn(engine), 0);
    await engine.close();
  });

  test('Of three that wait for each other, one at a time goes on', async () => {
    const engine = await engineWith(50);
    const rest = PartitionSet.parse('2048-4095');
    const [first, released, last] = await Promise.all([
      engine.truncate({ namespace: 'test', beforeMs: 1 }),
      engine.release(rest, 'b'),
      engine.truncate({ namespace: 'test' }),
    ]);
    assert.equal(first.records, 0);
    assert(first.ts < released.ts && released.ts < last.ts);
    assert.equal(recordsIn(engine), 0);
    await engine.close();
  });

  test('F1: A seal while a truncation looks for its records does not state a frontier above its event', async (t) => {
    // more records than one turn of the event loop takes
    const engine = await engineWith(12_000);
    const seals: Promise<unknown>[] = [];
    const turn = setImmediate;
    const { mock } = t.mock.method(globalThis, 'setImmediate', (run: () => void) => {
      if (seals.length < 20) seals.push(engine.seal());
      return turn(run);
    });
    const { ts, lsn } = await engine.truncate({ namespace: 'test' });
    mock.restore();
    assert(seals.length > 0, 'the search let others in');
    await Promise.all(seals);
    const { dir: engineDir } = engine;
    await engine.close();
    const logDir = join(engineDir, 'log');
    for (const { name } of logFilesIn(await fs.readdir(logDir))) {
      const path = join(logDir, name);
      scanLogFile(await fs.readFile(path), path, false, (entry) => {
        if (entry.kind !== 'clock' || entry.clock.lsn >= lsn) return;
        assert(entry.clock.ts < ts, `the frontier ${entry.clock.ts} was stated without the event at ${ts}`);
      });
    }
  });
});

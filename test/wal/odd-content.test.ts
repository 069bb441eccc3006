/** Content that is odd but legal must not stop the log, the archiver or memory. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { particle } from '../../engine/value.ts';
import { Engine } from '../../wal/engine.ts';
import { segmentOfLog } from '../../wal/log-segment.ts';
import { clock, columnsOf, openLog, version, versionsOf } from './log-support.ts';
import { logPath, MemoryFiles } from './memory-files.ts';

const dir = mkdtempSync(join(tmpdir(), 'pitr-odd-'));
after(() => rmSync(dir, { recursive: true }));

test("another engine's log in a blob, torn in the last write, is a torn tail and not corruption", async () => {
  const other = new MemoryFiles();
  const foreign = await openLog(other, { engineId: 'f'.repeat(32) });
  for (let lsn = 1; lsn <= 20; lsn++) {
    foreign.log.append([version(lsn)]);
    await foreign.log.sync();
  }
  await foreign.log.seal(clock(20));
  const blob = other.bytesOf(logPath(1, 'wal'));

  const files = new MemoryFiles();
  const { log } = await openLog(files);
  log.append([version(1)]);
  await log.sync();
  const durable = files.contentOf(logPath(1, 'open')).length;
  log.append([version(2, { image: blob })]);
  await log.sync();
  const bytes = files.contentOf(logPath(1, 'open'));
  // one byte of the write that was under way never arrived
  bytes[durable + 60] ^= 0xff;
  const again = await openLog(files);
  assert.deepEqual(again.entries, versionsOf([version(1)]));
  // zeros at the end are not told from those that were written ahead
  const end = bytes.findLastIndex((b) => b !== 0) + 1;
  assert.ok(bytes.length - end < 4);
  assert.equal(again.recovery.tornBytes, end - durable);
});

test('a segment takes more sets than 16 bits can number', () => {
  const versions = Array.from({ length: 70_000 }, (_, i) => {
    const digest = Buffer.alloc(20);
    digest.writeUInt32LE(Math.imul(i + 1, 2654435761) >>> 0, 0);
    digest.writeUInt32LE(i, 4);
    return version(i + 1, {
      digest,
      set: `s${i}`,
      namespace: 'test',
      image: Buffer.of(0, 0),
      ts: 1_700_000_000_000,
    });
  });
  const { properties } = segmentOfLog(
    {
      versions: columnsOf(versions),
      events: [],
      streams: [{ epoch: 1, stream: 'main', lsnStart: 1, lsnEnd: 70_001 }],
    },
    { archive: 'a'.repeat(32), timeline: 't', generation: 1 },
  );
  assert.equal(properties.rows, 70_000);
  assert.equal(properties.sets.length, 70_000);
});

test('many large writes at once go to the log in bounded groups', async () => {
  const engine = await Engine.open({ dir: join(dir, 'large'), sealMs: 0 });
  const blob = particle(4, Buffer.alloc(8 * 1024 * 1024, 7));
  await Promise.all(
    Array.from({ length: 40 }, (_, key) => engine.put({ namespace: 'test', key, storeKey: false }, { blob })),
  );
  await engine.close();
  const log = join(dir, 'large', 'log');
  for (const name of readdirSync(log)) {
    const { size } = statSync(join(log, name));
    assert.ok(size < 200 * 1024 * 1024, `${name} has ${size} bytes`);
  }
});

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import type { LogEntry } from '../../engine/commit-log.ts';
import { isPitrError } from '../../engine/errors.ts';
import { sortKeyOf } from '../../engine/partition.ts';
import { scanLogFile } from '../../wal/log-file.ts';
import { ENGINE, TIMELINE, textOf } from '../wal/log-support.ts';
import { ARCHIVE, openBytes, readAll } from '../wal/segment-support.ts';
import {
  GOLDEN_EVENTS,
  GOLDEN_LOG_BATCHES,
  GOLDEN_LOG_CLOCK,
  GOLDEN_LOG_EVENTS,
  GOLDEN_ROWS,
} from './content.ts';
import { makeGoldenLog } from './make-golden.ts';

const golden = (name: string): Promise<Buffer> => readFile(join(import.meta.dirname, name));
/** Offset of the properties' crc32 in the fixed footer. */
const CRC_FROM_END = 28;

const openGolden = async (name = 'segment-v3.seg') => {
  const bytes = await golden(name);
  const crc = bytes
    .readUInt32LE(bytes.length - CRC_FROM_END)
    .toString(16)
    .padStart(8, '0');
  return openBytes(bytes, {
    name,
    bytes: bytes.length,
    crc,
    rows: 4,
    tsMin: 0,
    tsMax: 0,
    partitions: { start: 0, end: 4096 },
    events: 3,
  });
};

test('a segment of format version 3 is read to the rows and events that were written', async () => {
  const reader = await openGolden();
  const { rows, events } = await readAll(reader);
  assert.deepEqual(rows, GOLDEN_ROWS);
  assert.deepEqual(events, GOLDEN_EVENTS);
  const header = await reader.header();
  assert.deepEqual(
    { ...header, salt: Buffer.from(header.salt).toString('hex') },
    {
      archive: ARCHIVE,
      timeline: '0'.repeat(16),
      level: 0,
      generation: 1,
      streams: [
        { epoch: 1, stream: 'main', lsnStart: 2, lsnEnd: 5 },
        { epoch: 2, stream: 'main', lsnStart: 8589934592, lsnEnd: 8589934593 },
      ],
      salt: '07'.repeat(32),
      keyId: null,
    },
  );
});

test('index and filter of a segment of format version 3 find its keys', async () => {
  const reader = await openGolden();
  for (const { namespace, digest } of GOLDEN_ROWS)
    assert.equal((await reader.candidates(namespace, sortKeyOf(Buffer.from(digest, 'hex')))).length, 1);
  assert.deepEqual(await reader.candidates('test', Buffer.alloc(20, 3)), []);
});

test('a log file of format version 3 is read to the entries that were written', async () => {
  const entries: string[] = [];
  const bytes = await golden('log-v3.wal');
  const content = scanLogFile(bytes, 'log-v3.wal', false, (e) => entries.push(textOf(e)));
  const expected: LogEntry[] = [
    ...GOLDEN_LOG_BATCHES.flat().map((version): LogEntry => ({ kind: 'version', version })),
    ...GOLDEN_LOG_EVENTS.map((event): LogEntry => ({ kind: 'event', event })),
    { kind: 'clock', clock: GOLDEN_LOG_CLOCK },
  ];
  assert.deepEqual(entries, expected.map(textOf));
  assert.deepEqual(content.header, {
    engine: ENGINE,
    stream: 'main',
    timeline: TIMELINE,
    sequence: 1,
    lsnFirst: 1,
    epoch: 1,
    chain: 0,
  });
  assert.deepEqual({ sealed: content.sealed, lsnNext: content.lsnNext }, { sealed: true, lsnNext: 10 });
});

test('today’s code writes the log file of format version 3 byte for byte', async () => {
  assert.deepEqual(await makeGoldenLog(), await golden('log-v3.wal'));
});

test('log files of format versions 1 and 2, and a segment of version 2, which have no place for what is known of missed versions, are refused by their version', async () => {
  for (const version of [1, 2]) {
    const bytes = await golden(`log-v${version}.wal`);
    assert.throws(
      () => scanLogFile(bytes, 'old.wal', false, () => undefined),
      (e) => isPitrError(e, 'format-version') && e.facts.version === version,
    );
  }
  await assert.rejects(
    openGolden('segment-v2.seg'),
    (e) => isPitrError(e, 'format-version') && e.facts.version === 2,
  );
});

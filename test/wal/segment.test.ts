import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { IMAGE_BYTES_MAX } from '../../engine/image.ts';
import { sortKeyOf } from '../../engine/partition.ts';
import { Block, BlockBuilder, decodeStored, EXTENSION_BYTES, encodeStored } from '../../wal/block.ts';
import type { ArchiveEvent } from '../../wal/event.ts';
import { Filter } from '../../wal/filter.ts';
import { BLOCKS_PER_INDEX } from '../../wal/segment.ts';
import {
  arbitraryRows,
  compareRows,
  encodeSegment,
  openBytes,
  type Row,
  readAll,
  rowOf,
} from './segment-support.ts';

const ONE_STREAM = [{ epoch: 1, stream: 'main' }];

const events: ArchiveEvent[] = [
  { kind: 'mark', stream: 'main', epoch: 1, lsn: 5, ts: 50, name: 'before' },
  {
    kind: 'truncate',
    stream: 'main',
    epoch: 1,
    lsn: 6,
    ts: 60,
    namespace: 'test',
    set: null,
    cutoffLut: 59,
    partitions: '0-4095',
  },
  {
    kind: 'ownership',
    stream: 'main',
    epoch: 2,
    lsn: 7,
    ts: 70,
    change: 'acquire',
    partitions: '1',
    peer: 'b',
  },
  { kind: 'gap', stream: 'main', epoch: 2, lsn: 8, ts: 80, lsnStart: 8, lsnEnd: 9, cause: 'lost' },
  { kind: 'clock', stream: 'main', epoch: 2, lsn: 8, ts: 90, digests: [{ sum: '0'.repeat(32), records: 3 }] },
];

/** `count` versions of different records, image bytes `bytes`. */
const manyRows = (count: number, bytes: number): Row[] =>
  Array.from({ length: count }, (_, i) => ({
    namespace: i % 5 === 0 ? 'other' : 'test',
    set: 's',
    digest: digestOf(i),
    ts: 1000 + i,
    lsn: i + 1,
    epoch: 1,
    stream: 'main',
    generation: 1,
    voidTime: 0,
    image:
      bytes > 1000
        ? `${(i & 255).toString(16).padStart(2, '0')}*${bytes}`
        : Buffer.alloc(bytes, i).toString('hex'),
    batchMore: false,
    extension: undefined,
  }));

/** 20 bytes that look random and follow from `i`. */
const digestOf = (i: number): string => {
  const out = Buffer.alloc(20);
  let h = (i * 2654435761 + 12345) >>> 0;
  for (let w = 0; w < 5; w++) {
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d) >>> 0;
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39) >>> 0;
    h = (h ^ (h >>> 15) ^ w) >>> 0;
    out.writeUInt32LE(h, w * 4);
  }
  return out.toString('hex');
};

describe('segment: writer and reader', () => {
  test('S9: what is read is what was written, in sort order, for any rows and with events', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryRows({ streams: ONE_STREAM, largeBytes: 0 }, 200), async (rows) => {
        const { bytes, ref } = encodeSegment(rows, events);
        const read = await readAll(await openBytes(bytes, ref));
        assert.deepEqual(read.rows, [...rows].sort(compareRows));
        assert.deepEqual(read.events, events);
      }),
      { numRuns: 100 },
    );
  });

  test('images far above the size of a block are blocks of their own and come back', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryRows({ streams: ONE_STREAM, largeBytes: 300_000 }, 12), async (rows) => {
        const { bytes, ref } = encodeSegment(rows);
        assert.deepEqual((await readAll(await openBytes(bytes, ref))).rows, [...rows].sort(compareRows));
      }),
      { numRuns: 30 },
    );
  });

  test('blocks that cannot be made smaller, more than are taken for such at once, and one after them that can', async () => {
    const rows = manyRows(20, 10).map((row, n) => ({
      ...row,
      image: n === 19 ? '61*300000' : randomBytes(270_000).toString('hex'),
    }));
    const { bytes, ref } = encodeSegment(rows);
    const reader = await openBytes(bytes, ref);
    assert.deepEqual((await readAll(reader)).rows, [...rows].sort(compareRows));
    assert.equal(reader.properties.blocks, 20);
    assert.ok(bytes.length < 19 * 270_000 + 20_000);
  });

  test('properties and reference state counts, ranges and sizes of the rows', async () => {
    const rows = manyRows(1000, 10);
    const { bytes, ref } = encodeSegment(
      [...rows, { ...rows[1], lsn: 2000, ts: 5, image: undefined }],
      events,
    );
    const { properties } = await openBytes(bytes, ref);
    const partitions = rows.map((r) => sortKeyOf(Buffer.from(r.digest, 'hex')).readUInt16BE(0) >> 4);
    const range = { start: Math.min(...partitions), end: Math.max(...partitions) + 1 };
    assert.deepEqual(
      { ...ref, crc: '', bytes: 0 },
      { name: 'segment', bytes: 0, crc: '', rows: 1001, tsMin: 5, tsMax: 1999, partitions: range, events: 5 },
    );
    assert.equal(ref.bytes, bytes.length);
    assert.deepEqual(properties.counts, [
      { namespace: 'other', set: 's', versions: 200, deletes: 0, imageBytes: 2000 },
      { namespace: 'test', set: 's', versions: 801, deletes: 1, imageBytes: 8000 },
    ]);
  });

  test('a segment without rows holds its events; one without events says so', async () => {
    const only = encodeSegment([], events);
    assert.deepEqual(await readAll(await openBytes(only.bytes, only.ref)), { rows: [], events });
    const none = encodeSegment(manyRows(3, 1));
    assert.deepEqual((await openBytes(none.bytes, none.ref)).properties.eventsBytes, 0);
  });

  test('ranges of partitions give their rows and, of others, only what shares a block', async () => {
    const rows = manyRows(9000, 100).sort(compareRows);
    const { bytes, ref } = encodeSegment(rows);
    const reader = await openBytes(bytes, ref);
    const partitionOf = (r: Row): number => sortKeyOf(Buffer.from(r.digest, 'hex')).readUInt16BE(0) >> 4;
    const all = (await reader.blocks()).length;
    assert.ok(all > 5);
    for (const [start, end] of [
      [0, 4096],
      [0, 1],
      [100, 200],
      [2000, 2001],
      [4095, 4096],
    ]) {
      const found: Row[] = [];
      const handles = await reader.blocks(start, end);
      for (const handle of handles) {
        const block = reader.decode((await reader.readBlocks([handle]))[0]);
        for (let i = 0; i < block.rows; i++) found.push(rowOf(reader, block, i));
      }
      const inRange = (r: Row): boolean => partitionOf(r) >= start && partitionOf(r) < end;
      assert.deepEqual(found.filter(inRange), rows.filter(inRange));
      if (end - start === 1) assert.ok(handles.length <= 4, `${handles.length} blocks for one partition`);
    }
  });

  test('the largest image after a block that is nearly full is written and read', () => {
    const builder = new BlockBuilder();
    const key = new DataView(new ArrayBuffer(20));
    const image = Buffer.alloc(IMAGE_BYTES_MAX + EXTENSION_BYTES);
    builder.addRow(key, 0, 1, 1, 0, 0, 0, 1, 0, image, 0, 256 * 1024 - 100);
    builder.addRow(key, 0, 2, 2, 0, 0, 0, 1, 0, image, 0, image.length);
    const block = new Block(decodeStored(encodeStored(builder.take(0)), 'x'));
    assert.equal(block.rows, 2);
    assert.equal(block.heapEnd[1] - block.heapEnd[0], image.length);
  });
});

describe('segment: point lookup', () => {
  test('candidates finds every version of every key, also where versions of one fill several blocks', async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryRows({ streams: ONE_STREAM, largeBytes: 100_000 }, 60), async (rows) => {
        const { bytes, ref } = encodeSegment(rows);
        const reader = await openBytes(bytes, ref);
        for (const { namespace, digest } of rows) {
          const found: Row[] = [];
          for (const handle of await reader.candidates(namespace, sortKeyOf(Buffer.from(digest, 'hex')))) {
            const block = reader.decode((await reader.readBlocks([handle]))[0]);
            for (let i = 0; i < block.rows; i++) found.push(rowOf(reader, block, i));
          }
          const same = (r: Row): boolean => r.namespace === namespace && r.digest === digest;
          assert.deepEqual(found.filter(same), rows.filter(same).sort(compareRows));
        }
      }),
      { numRuns: 50 },
    );
  });

  test('candidates finds all versions of a key that starts at the end of one block and fills the next ones', async () => {
    const [one, two] = manyRows(2, 1);
    const versions = (row: Row, count: number, lsn: number): Row[] =>
      Array.from({ length: count }, (_, i) => ({
        ...row,
        namespace: 'test',
        lsn: lsn + i,
        ts: 9000 - i,
        image: '5a*100000',
      }));
    for (const before of [0, 1, 2, 3]) {
      const [small, large] = [one, two].sort((a, b) =>
        compareRows({ ...a, namespace: 'x' }, { ...b, namespace: 'x' }),
      );
      const rows = [...versions(small, before, 1), ...versions(large, 11, 100)];
      const { bytes, ref } = encodeSegment(rows);
      const reader = await openBytes(bytes, ref);
      const found: number[] = [];
      for (const handle of await reader.candidates('test', sortKeyOf(Buffer.from(large.digest, 'hex')))) {
        const block = reader.decode((await reader.readBlocks([handle]))[0]);
        for (let i = 0; i < block.rows; i++) if (block.lsn(i) >= 100) found.push(block.lsn(i));
      }
      assert.deepEqual(
        found,
        Array.from({ length: 11 }, (_, i) => 100 + i),
      );
    }
  });

  test('candidates over several index partitions, and rarely a block for a key that is not there', async () => {
    const rows = manyRows(20_000, 1300);
    const { bytes, ref } = encodeSegment(rows);
    const reader = await openBytes(bytes, ref);
    assert.ok(reader.properties.top.length > 2 && reader.properties.blocks > BLOCKS_PER_INDEX);
    for (let i = 0; i < rows.length; i += 97) {
      const key = sortKeyOf(Buffer.from(rows[i].digest, 'hex'));
      const handles = await reader.candidates(rows[i].namespace, key);
      const found: number[] = [];
      for (const handle of handles) {
        const block = reader.decode((await reader.readBlocks([handle]))[0]);
        for (let r = 0; r < block.rows; r++) if (block.sortKey(r).equals(key)) found.push(block.lsn(r));
      }
      assert.deepEqual(found, [rows[i].lsn]);
    }
    let wrong = 0;
    for (let i = 0; i < 1000; i++)
      if ((await reader.candidates('test', sortKeyOf(Buffer.from(digestOf(1e6 + i), 'hex')))).length > 0)
        wrong++;
    assert.ok(wrong < 40, `${wrong} of 1000 absent keys had candidates`);
    assert.deepEqual(await reader.candidates('no such namespace', Buffer.alloc(20)), []);
  });

  test('a filter never denies a key that it holds', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), fc.integer(), fc.integer()), { maxLength: 300 }),
        fc.nat(400),
        (keys, sizedFor) => {
          const filter = Filter.sized(sizedFor);
          for (const [n, a, b] of keys) filter.add(n, a >>> 0, b >>> 0);
          for (const [n, a, b] of keys) assert.ok(filter.mayHold(n, a >>> 0, b >>> 0));
        },
      ),
    );
  });
});

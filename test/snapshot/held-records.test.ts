/** What a scan brings is put in order (N12), and what cannot be kept is counted (N14). */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import fc from 'fast-check';
import { RecordBlock } from '../../engine/aerospike/client/record-block.ts';
import { ScanPage } from '../../engine/aerospike/client/scan-page.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { CopyRows } from '../../snapshot/copy-rows.ts';
import { HeldRecords } from '../../snapshot/held-records.ts';
import { SegmentWriter } from '../../wal/segment-writer.ts';
import { field, hex, int, message, utf8 } from '../aerospike/wire-bytes.ts';

const START = 100;
const END = 103;

/** A record as a node sends it. */
const sent = (digest: Buffer, generation: number, set = Buffer.from('s'), ops = [int('n', 1)]): Buffer =>
  message({ generation, fields: [field(0, utf8('test')), field(4, digest), field(1, set)], ops }).subarray(8);

/** One frame of records, taken apart by who takes apart those of a scan. Each in a page of its own: in what order they come is the test's matter. */
const blockOf = (records: readonly Buffer[]): RecordBlock => {
  const blocks = records.map((record) => {
    const partitions = [100, 101, 102].map((partition) => ({ partition, after: undefined }));
    const block = new ScanPage(partitions).frame(3, record);
    assert.ok(block);
    return block;
  });
  const bytes = Buffer.concat(blocks.map((b) => b.bytes));
  const columns: number[] = [];
  let base = 0;
  for (const b of blocks) {
    columns.push(base, b.generation(0), 0, base + b.digestStart(0), base + b.setStart(0), base + b.setEnd(0));
    columns.push(0, 0, b.ops(0), base + b.opsStart(0));
    base += b.bytes.length;
  }
  return new RecordBlock(bytes, Uint32Array.from(columns), blocks.length);
};

const digestOf = (partition: number, n: number): Buffer => {
  const digest = Buffer.alloc(20);
  digest.writeUInt16LE(partition | ((n & 1) << 12), 0);
  // few bytes differ, here and there: also far behind
  digest[2] = n >> 5;
  digest[19] = (n >> 1) & 15;
  return digest;
};

test('records of pages that failed and came again are there once, the latest, in ascending order', () => {
  const page = fc.record({
    partition: fc.integer({ min: START, max: END - 1 }),
    records: fc.uniqueArray(fc.nat(90), { maxLength: 12 }),
  });
  fc.assert(
    fc.property(fc.array(page, { maxLength: 12 }), fc.integer({ min: 1, max: 5 }), (pages, perBlock) => {
      const held = new HeldRecords({ start: START, end: END });
      const latest = new Map<string, number>();
      let generation = 0;
      let arrived = 0;
      for (const { partition, records } of pages) {
        const digests = records.map((n) => digestOf(partition, n)).sort((a, b) => Buffer.compare(b, a));
        for (let from = 0; from < digests.length; from += perBlock) {
          const part = digests.slice(from, from + perBlock);
          held.add(
            blockOf(
              part.map((digest) => {
                latest.set(digest.toString('hex'), ++generation);
                return sent(digest, generation);
              }),
            ),
          );
          arrived += part.length;
        }
      }
      const order = held.inOrder();
      const found = Array.from(order.blocks, (b, at) => {
        const block = held.blocks[b] as RecordBlock;
        const i = order.records[at] as number;
        const start = block.digestStart(i);
        return [block.bytes.toString('hex', start, start + 20), block.generation(i)] as const;
      });
      const partitionOf = (id: string): number => Buffer.from(id, 'hex').readUInt16LE(0) & 0xfff;
      const expected = [...latest].sort(
        ([a], [b]) =>
          partitionOf(a) - partitionOf(b) || Buffer.compare(Buffer.from(a, 'hex'), Buffer.from(b, 'hex')),
      );
      assert.deepEqual(found, expected);
      assert.equal(order.repeated, arrived - latest.size);
      assert.deepEqual(
        Array.from(order.counts),
        [100, 101, 102].map((p) => expected.filter(([id]) => partitionOf(id) === p).length),
      );
    }),
    { numRuns: Number(process.env.PITR_HELD_RUNS ?? 100) },
  );
});

test('a partition in pieces: what is at or above a point, then what is below, each once', () => {
  const held = new HeldRecords({ start: START, end: START + 1 });
  const digests = Array.from({ length: 60 }, (_, n) => digestOf(START, n)).sort((a, b) =>
    Buffer.compare(b, a),
  );
  for (let from = 0; from < 40; from += 7)
    held.add(blockOf(digests.slice(from, Math.min(40, from + 7)).map((d) => sent(d, 1))));
  const point = digests[24] as Buffer;
  const taken = (order: { blocks: Uint32Array; records: Uint32Array }): string[] =>
    Array.from(order.blocks, (b, at) => {
      const block = held.blocks[b] as RecordBlock;
      const start = block.digestStart(order.records[at] as number);
      return block.bytes.toString('hex', start, start + 20);
    });
  const hexOf = (from: number, to: number): string[] =>
    digests
      .slice(from, to)
      .map((d) => d.toString('hex'))
      .reverse();
  assert.deepEqual(taken(held.inOrder(point)), hexOf(0, 25));
  held.dropFrom(point);
  // read again from the point on, and to the end
  held.add(blockOf(digests.slice(25).map((d) => sent(d, 2))));
  assert.deepEqual(taken(held.inOrder()), hexOf(25, 60));
});

test('a record whose set is not UTF-8 is left out and counted; one whose bin is not is kept as it is', () => {
  const held = new HeldRecords({ start: START, end: END });
  const odd = digestOf(101, 3);
  const named = digestOf(101, 2);
  const bin = hex('00000016 02 01 01 02 fffe 0102030405060708 000000000000002a');
  held.add(blockOf([sent(odd, 1, Buffer.of(0xff)), sent(named, 1, Buffer.from('s'), [bin])]));
  const digest = new ContentDigest(1);
  const copy = new CopyRows('test', null, 1000, digest);
  const order = held.inOrder();
  const rows = copy.newRows(2);
  const stream = { epoch: 1, stream: 'main', lsnStart: 0, lsnEnd: 1 };
  const header = {
    archive: 'a',
    timeline: 't',
    level: -1,
    streams: [stream],
    generation: 0,
    salt: hex(''),
    keyId: null,
  };
  const writer = new SegmentWriter(header, ['test']);
  copy.add(held, order, 0, 2, writer, rows);
  assert.deepEqual(copy.leftOut, { records: 1, samples: [odd.toString('hex')] });
  assert.deepEqual([rows.length, writer.rows, digest.records], [1, 1, 1]);
  // no key, one bin: its name of two bytes, integer, eight bytes. An update time between name and value, which Enterprise may send, is not of it
  assert.equal(
    writer.builder.room(0).toString('hex', 0, writer.builder.heapBytes),
    '000102fffe0108000000000000002a',
  );
});

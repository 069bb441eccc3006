/** Scans of partitions: which records come, in which order, with what of them, and what the server counts. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  digestOf,
  digestsOf,
  filledPartition,
  partitionArray,
  type ScanParts,
  scan,
  scanOf,
} from './partition-scan.ts';
import { existsOf, NAMESPACE, putOf, removeOf, Subject, seen } from './subject.ts';
import {
  cdtRead,
  expRead,
  field,
  hex,
  int,
  LAST,
  NO_BINS,
  op,
  PARTITION_DONE,
  partitionOf,
  READ,
  RESPOND_ALL_OPS,
  type Reply,
  read,
  str,
  touch,
  utf8,
} from './wire-bytes.ts';

describe('scans', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());
  const { set } = subject;

  const filled = (count: number, ops?: (i: number) => Buffer[]) => filledPartition(subject, wire, count, ops);
  const run = (parts: ScanParts) => scan(wire, { set, ...parts });

  describe('order and completeness', () => {
    test('a partition comes in the order of its digests, highest first, and the end says 0 in a frame of its own', async () => {
      const { partition, digests } = await filled(20);
      const result = await run({ partitions: [partition] });
      assert.deepEqual(digestsOf(result), digests);
      assert.deepEqual([result.code, result.undone], [0, []]);
      assert.deepEqual(
        result.frames.at(-1)!.map((m) => [m.info[2], m.code, m.fields.size, m.ops.length]),
        [[LAST, 0, 0, 0]],
      );
    });

    test('a record comes with namespace, digest, set, generation, expiry and bins, and with its key when that is stored', async () => {
      const { partition, records } = subject.freshPartition(2);
      const written: Reply[] = [];
      for (const [i, record] of records.entries()) {
        await wire.call(putOf(record, [int('a', i), str('s', 'x')]));
        written.push(
          await wire.call(
            putOf(record, [touch()], { ttl: 1000 * i, fields: i === 1 ? [record.keyField] : [] }),
          ),
        );
      }
      const { records: found } = await run({ partitions: [partition] });
      for (const [i, reply] of found.entries()) {
        assert.deepEqual(seen(reply), [0, 2, `1 a 1:000000000000000${i}`, '1 s 3:78']);
        assert.equal(reply.voidTime, written[i]!.voidTime);
        assert.equal(reply.fields.get(0)!.toString(), NAMESPACE);
        assert.equal(reply.fields.get(1)!.toString(), set);
        assert.deepEqual(digestOf(reply), records[i]!.digest);
        assert.equal(reply.fields.get(2)?.toString(), i === 1 ? '\x03k' : undefined);
        assert.deepEqual([...reply.fields.keys()], i === 1 ? [0, 4, 1, 2] : [0, 4, 1]);
      }
    });

    test('several partitions each come in their order', async () => {
      const both = [await filled(5), await filled(5)];
      const result = await run({ partitions: both.map((p) => p.partition) });
      for (const { partition, digests } of both)
        assert.deepEqual(
          digestsOf(result).filter((d) => partitionOf(d) === partition),
          digests,
        );
      assert.equal(result.records.length, 10);
    });

    test('an empty partition is a scan without records', async () => {
      const { partition } = subject.freshPartition(0);
      const result = await run({ partitions: [partition] });
      assert.deepEqual([result.code, result.records.length, result.undone.length], [0, 0, 0]);
    });

    test('a set that nobody has written to has no records, and that is no error', async () => {
      const { partition } = await filled(1);
      const result = await run({ partitions: [partition], set: `never-${randomBytes(8).toString('hex')}` });
      assert.deepEqual([result.code, result.records.length], [0, 0]);
    });

    test('without a set the records of all sets come, and those of none', async () => {
      const { partition, records } = await filled(2);
      const setless = subject.freshPartition(0);
      assert.notEqual(setless.partition, partition);
      const digest = Buffer.from(records[0]!.digest);
      digest[19]! ^= 1;
      const without = { ...records[0]!, digest, fields: [field(0, utf8(NAMESPACE)), field(4, digest)] };
      await wire.call(putOf(without, [int('a', 9)]));
      const { records: found } = await scan(wire, { partitions: [partition] });
      const ours = found.filter((r) =>
        [digest, ...records.map((x) => x.digest)].some((d) => d.equals(digestOf(r))),
      );
      assert.equal(ours.length, 3);
      const setlessFound = ours.find((r) => digestOf(r).equals(digest))!;
      assert.deepEqual([...setlessFound.fields.keys()], [0, 4]);
      await wire.call(removeOf(without));
    });

    test('an expired record does not come', async () => {
      const { partition, records } = subject.freshPartition(2);
      await wire.call(putOf(records[0]!, [int('a', 1)], { ttl: 1 }));
      await wire.call(putOf(records[1]!, [int('a', 1)], { ttl: 1000 }));
      for (let tries = 0; (await wire.call(existsOf(records[0]!))).code === 0; tries++) {
        assert(tries < 100, 'expires');
        await sleep(100);
      }
      assert.deepEqual(digestsOf(await run({ partitions: [partition] })), [records[1]!.digest]);
    });

    test('more than a frame holds comes in several, each record whole', async () => {
      const value = Buffer.alloc(100_000, 7);
      const { partition, digests } = await filled(40, () => [op(2, 'a', 4, value)]);
      const result = await run({ partitions: [partition] });
      assert.deepEqual(digestsOf(result), digests);
      assert(result.frames.length > 3, `${result.frames.length} frames for 4 MB`);
      assert(result.records.every((r) => r.ops[0] === `1 a 4:${value.toString('hex')}`));
    });
  });

  describe('resumption', () => {
    test('goes on behind the digest, which need not be there any more', async () => {
      const { digests, records } = await filled(10);
      assert.deepEqual(digestsOf(await run({ after: [digests[3]!] })), digests.slice(4));
      await wire.call(removeOf(records[3]!));
      assert.deepEqual(digestsOf(await run({ after: [digests[3]!] })), digests.slice(4));
      assert.deepEqual(digestsOf(await run({ after: [digests[9]!] })), []);
    });

    test('of one partition goes with the beginning of another', async () => {
      const [a, b] = [await filled(4), await filled(4)];
      const result = await run({ partitions: [b.partition], after: [a.digests[1]!] });
      const found = digestsOf(result);
      assert.deepEqual(
        found.filter((d) => partitionOf(d) === a.partition),
        a.digests.slice(2),
      );
      assert.deepEqual(
        found.filter((d) => partitionOf(d) === b.partition),
        b.digests,
      );
    });

    test('page by page gives every record once', async () => {
      const { partition, digests } = await filled(25);
      const found: Buffer[] = [];
      for (let pages = 0; ; pages++) {
        assert(pages < 5);
        const after = found.at(-1);
        const page = await run({
          ...(after ? { after: [after] } : { partitions: [partition] }),
          maxRecords: 10,
        });
        assert.equal(page.code, 0);
        found.push(...digestsOf(page));
        if (page.records.length < 10) break;
      }
      assert.deepEqual(found, digests);
    });
  });

  describe('the number of records', () => {
    test('is counted over all partitions, after the filter', async () => {
      const [a, b] = [await filled(10), await filled(10)];
      const partitions = [a.partition, b.partition];
      assert.equal((await run({ partitions, maxRecords: 7 })).records.length, 7);
      assert.equal((await run({ partitions, maxRecords: 100 })).records.length, 20);
      const few = await run({ partitions, maxRecords: 3, filter: hex('93 04 93 51 02 a1 61 08') });
      assert.equal(few.records.length, 3);
      assert(
        few.records.every((r) => ['1 a 1:0000000000000008', '1 a 1:0000000000000009'].includes(r.ops[0]!)),
      );
    });
  });

  test('the number of records counts those that pass the filter, also when none of their bins is asked for', async () => {
    const { partition, digests } = await filled(6, (i) => [int(i % 2 ? 'a' : 'b', 1)]);
    const page = await run({ partitions: [partition], ops: [read('a')], maxRecords: 3 });
    assert.deepEqual(digestsOf(page), [digests[1]]);
    const filtered = await run({
      partitions: [partition],
      maxRecords: 3,
      filter: hex('93 01 93 51 02 a1 61 01'),
    });
    assert.deepEqual(digestsOf(filtered), [digests[1], digests[3], digests[5]]);
  });

  describe('what is refused, with one message as a request for one record gets it', () => {
    const refusals: Record<
      string,
      { readonly code: number; readonly parts: (partition: number) => ScanParts }
    > = {
      'a partition that is named twice: 4': { code: 4, parts: (p) => ({ partitions: [p, p] }) },
      'neither partitions nor digests: 16': { code: 16, parts: () => ({}) },
      'a client that does not know of partitions: 16': {
        code: 16,
        parts: (p) => ({ partitions: [p], info3: 0 }),
      },
      'a partition beyond 4095: 4': { code: 4, parts: () => ({ partitions: [4096] }) },
      'a namespace that is unknown: 20': {
        code: 20,
        parts: (p) => ({ partitions: [p], namespace: 'nowhere' }),
      },
      'a projection that writes: 4': { code: 4, parts: (p) => ({ partitions: [p], ops: [int('a', 1)] }) },
      'a filter that is not well-formed: 4': {
        code: 4,
        parts: (p) => ({ partitions: [p], filter: hex('93 01') }),
      },
      'a filter that is no condition: 4': {
        code: 4,
        parts: (p) => ({ partitions: [p], filter: hex('91 42') }),
      },
      'a bin name of 16 bytes: 4': {
        code: 4,
        parts: (p) => ({ partitions: [p], ops: [read('sixteen-bytes-xy')] }),
      },
      'a set name of 64 bytes: 4': { code: 4, parts: (p) => ({ partitions: [p], set: 'x'.repeat(64) }) },
      'no partition at all: 4': { code: 4, parts: () => ({ partitions: [] }) },
      'no digest at all: 4': { code: 4, parts: () => ({ after: [] }) },
    };
    for (const [name, { code, parts }] of Object.entries(refusals)) {
      test(name, async () => {
        const { partition } = await filled(1);
        const own = await subject.connect();
        const result = await scan(own, { set, ...parts(partition) });
        assert.deepEqual([result.code, result.refused, result.records.length], [code, true, 0]);
      });
    }

    test('a partition and a digest of it: 4', async () => {
      const { partition, digests } = await filled(3);
      assert.equal((await run({ partitions: [partition], after: [digests[0]!] })).code, 4);
    });
  });

  describe('what comes of a record', () => {
    test('metadata alone when no bins are asked for, and the message says so', async () => {
      const { partition, digests, records } = await filled(2);
      await wire.call(putOf(records[0]!, [int('a', 1)], { fields: [records[0]!.keyField] }));
      const result = await run({ partitions: [partition], info1: READ | NO_BINS });
      assert.deepEqual(digestsOf(result), digests);
      assert.deepEqual(
        result.records.map((r) => [r.info[0], ...seen(r), r.fields.get(2)?.toString()]),
        [
          [NO_BINS, 0, 2, '\x03k'],
          [NO_BINS, 0, 1, undefined],
        ],
      );
    });

    test('the bins that are named, in the order of the names', async () => {
      const { partition } = await filled(1, () => [int('a', 1), int('b', 2), int('c', 3)]);
      const { records } = await run({ partitions: [partition], ops: [read('c'), read('x'), read('a')] });
      assert.deepEqual(
        records.map((r) => r.ops),
        [['1 c 1:0000000000000003', '1 a 1:0000000000000001']],
      );
    });

    test('a record that has none of the named bins does not come', async () => {
      const { partition, digests } = await filled(4, (i) => [int(i % 2 ? 'a' : 'b', i)]);
      const result = await run({ partitions: [partition], ops: [read('a')] });
      assert.deepEqual(digestsOf(result), [digests[1], digests[3]]);
    });

    test('with the bit for all answers it comes with a value of type 0', async () => {
      const { partition, digests } = await filled(2, (i) => [int(i % 2 ? 'a' : 'b', i)]);
      const result = await run({ partitions: [partition], ops: [read('a')], info2: RESPOND_ALL_OPS });
      assert.deepEqual(digestsOf(result), digests);
      assert.deepEqual(
        result.records.map((r) => r.ops),
        [['1 a 0:'], ['1 a 1:0000000000000001']],
      );
    });

    test('expressions, next to bins: the last update time of each record', async () => {
      const { partition, records } = await filled(2);
      const { records: found } = await run({
        partitions: [partition],
        ops: [read('a'), expRead('', '91 42')],
      });
      for (const [i, record] of records.entries()) {
        const ops = found[i]!.ops;
        assert.equal(ops[0], `1 a 1:000000000000000${i}`);
        const alone = await scan(wire, {
          set,
          partitions: [partitionOf(record.digest)],
          ops: [expRead('a', '91 42')],
        });
        assert.equal(alone.records[i]!.ops[0]!.split(':')[1], ops[1]!.split(':')[1]);
        assert.match(ops[1]!, /^7 {2}1:18[0-9a-f]{14}$/);
      }
    });

    test('lists and expressions that are read have their operation, other than in a batch', async () => {
      const { partition } = await filled(1, () => [op(2, 'l', 20, hex('93 01 02 03'))]);
      const ops = [
        cdtRead('l', '91 10'),
        expRead('e', '91 45'),
        expRead('x', '93 51 02 a1 7a', 16),
        expRead('l', '91 47'),
      ];
      const values = ['3 l 1:0000000000000003', '7 e 1:ffffffffffffffff', '7 l 17:00'];
      const some = await run({ partitions: [partition], ops });
      assert.deepEqual(some.records[0]!.ops, values);
      const all = await run({ partitions: [partition], ops, info2: RESPOND_ALL_OPS });
      assert.deepEqual(all.records[0]!.ops, values.toSpliced(2, 0, '7 x 0:'));
    });
  });

  test('scans follow one another on one connection, and so does any request', async () => {
    const { partition, records } = await filled(3);
    const own = await subject.connect();
    for (let i = 0; i < 3; i++)
      assert.equal((await scan(own, { set, partitions: [partition] })).records.length, 3);
    assert.equal((await own.call(existsOf(records[0]!))).code, 0);
  });

  test('the field of the partitions may come in any place', async () => {
    const { partition } = await filled(2);
    const bytes = scanOf({ set, fields: [partitionArray([partition])], info3: PARTITION_DONE });
    assert.equal((await wire.frames(bytes)).flat().length, 3);
  });
});

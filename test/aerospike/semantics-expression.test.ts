/** Filter expressions: what they do to each kind of request, what their values are, and the bytes that tools send. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import {
  existsOf,
  getOf,
  operateOf,
  putOf,
  type RecordAddress,
  readOf,
  removeOf,
  Subject,
  seen,
} from './subject.ts';
import {
  cdtModify,
  deleteAll,
  expRead,
  filter,
  float,
  hex,
  int,
  nil,
  op,
  read,
  str,
  u64,
  utf8,
} from './wire-bytes.ts';

const TRUE = { fields: [filter('c3')] };
const FALSE = { fields: [filter('c2')] };

describe('expressions', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const written = async (...ops: readonly Uint8Array[]): Promise<RecordAddress> => {
    const record = subject.fresh();
    assert.equal((await wire.call(putOf(record, ops.length ? ops : [int('a', 1)]))).code, 0);
    return record;
  };
  /** Whether the record passes the filter: 0, or 27. */
  const passes = async (record: RecordAddress, expression: string): Promise<boolean> => {
    const { code } = await wire.call(existsOf(record, { fields: [filter(expression)] }));
    assert(code === 0 || code === 27, `${expression} answers ${code}`);
    return code === 0;
  };
  const refusal = async (record: RecordAddress, expression: string): Promise<number> =>
    (await wire.call(existsOf(record, { fields: [filter(expression)] }))).code;
  /** The value of an expression, as type:hex. */
  const evaluated = async (record: RecordAddress, expression: string): Promise<string> => {
    const reply = await wire.call(readOf(record, [expRead('e', expression)]));
    assert.deepEqual([expression, reply.code], [expression, 0]);
    return reply.ops[0]!.split(' ')[2]!;
  };
  const lutOf = async (record: RecordAddress): Promise<bigint> =>
    BigInt(`0x${(await evaluated(record, '91 42')).split(':')[1]}`);
  const hexOf = (value: bigint) => u64(value).toString('hex');

  describe('as a condition', () => {
    test('false stops reads, writes and removes of an existing record with 27', async () => {
      const record = await written();
      const requests = {
        get: getOf(record, FALSE),
        select: readOf(record, [read('a')], FALSE),
        exists: existsOf(record, FALSE),
        put: putOf(record, [int('a', 2)], FALSE),
        operate: operateOf(record, [int('a', 2), read('a')], FALSE),
        deleteAll: putOf(record, [deleteAll()], FALSE),
      };
      for (const [name, request] of Object.entries(requests))
        assert.deepEqual([name, ...seen(await wire.call(request))], [name, 27, 1]);
      assert.deepEqual(seen(await wire.call(removeOf(record, FALSE))), [27, 0]);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });

    test('true stops nothing', async () => {
      const record = await written();
      assert.equal((await wire.call(getOf(record, TRUE))).code, 0);
      assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 2)], TRUE))), [0, 2]);
      assert.deepEqual(seen(await wire.call(removeOf(record, TRUE))), [0, 0]);
    });

    test('it is not asked of a record that is missing: a write makes it, a read answers 2', async () => {
      const record = subject.fresh();
      assert.equal((await wire.call(getOf(record, FALSE))).code, 2);
      assert.equal((await wire.call(removeOf(record, FALSE))).code, 2);
      assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 1)], FALSE))), [0, 1]);
    });

    test('what is unknown is not true: a bin that is missing or of another type, in every connection', async () => {
      const record = await written(int('a', 1), str('s', 'x'));
      for (const unknown of [
        '93 01 93 51 02 a1 78 01',
        '93 01 93 51 02 a1 73 01',
        '93 02 93 51 02 a1 78 01',
      ]) {
        assert.equal(await passes(record, unknown), false);
        assert.equal(await passes(record, `92 12 ${unknown}`), false, 'not');
        assert.equal(await passes(record, `93 11 ${unknown} c3`), true, 'or true');
        assert.equal(await passes(record, `93 11 c3 ${unknown}`), true, 'true or');
        assert.equal(await passes(record, `93 10 ${unknown} c3`), false, 'and true');
      }
    });

    const malformed: Record<string, string> = {
      'an integer': '91 42',
      'an integer literal': '01',
      'a string': '91 46',
      'an empty list': '90',
      'an operation that does not exist': '91 7f',
      'an operation with too few arguments': '92 01 91 42',
      'an operation with too many arguments': '94 01 91 42 01 02',
      'values of two types compared': '93 01 91 42 a2 03 78',
      'an integer and a float compared': '93 01 91 42 cb 3ff0000000000000',
      'bytes behind the expression': 'c3 c3',
      'half an expression': '93 01 91',
      'no byte': '',
    };
    for (const [name, expression] of Object.entries(malformed)) {
      test(`${name} is refused with 4`, async () => {
        assert.equal(await refusal(await written(), expression), 4);
      });
    }
  });

  describe('of metadata', () => {
    test('the last update time is in nanoseconds since 1970, to the millisecond', async () => {
      const from = BigInt(Date.now() - 60_000) * 1_000_000n;
      const record = await written();
      const lut = await lutOf(record);
      assert.equal(lut % 1_000_000n, 0n);
      assert(lut > from && lut < from + 120_000_000_000n, String(lut));
      assert.equal(await passes(record, `93 01 91 42 cf ${hexOf(lut)}`), true);
      assert.equal(await passes(record, `93 04 91 42 cf ${hexOf(lut)}`), true);
      assert.equal(await passes(record, `93 04 91 42 cf ${hexOf(lut + 1n)}`), false);
      assert.equal(await passes(record, `93 05 91 42 cf ${hexOf(lut)}`), false);
      assert.equal(await passes(record, `93 05 91 42 cf ${hexOf(lut + 1n)}`), true);
    });

    test('a window of last update times takes its beginning and not its end, as asbackup asks', async () => {
      const record = await written();
      const lut = await lutOf(record);
      const window = (from: bigint, to: bigint) =>
        `93 10 93 04 91 42 cf ${hexOf(from)} 93 05 91 42 cf ${hexOf(to)}`;
      assert.equal(await passes(record, window(lut, lut + 1n)), true);
      assert.equal(await passes(record, window(lut - 1n, lut)), false);
      assert.equal(await passes(record, window(lut + 1n, lut + 9n)), false);
    });

    test('the time since the update is in milliseconds', async () => {
      const record = await written();
      assert.equal(await passes(record, '93 05 91 43 ce 05f5e100'), true);
      assert.equal(await passes(record, '93 05 91 43 00'), false);
      const since = BigInt(`0x${(await evaluated(record, '91 43')).split(':')[1]}`);
      assert(since >= 0n && since < 60_000n, `${since} ms`);
    });

    test('update time plus time since is the server clock', async () => {
      const record = await written();
      const now = BigInt(
        `0x${(await evaluated(record, '93 14 91 42 93 16 91 43 ce 000f4240')).split(':')[1]}`,
      );
      assert.equal(now % 1_000_000n, 0n);
      assert(now >= (await lutOf(record)));
      const ours = BigInt(Date.now()) * 1_000_000n;
      assert(now > ours - 60_000_000_000n && now < ours + 60_000_000_000n);
    });

    test('a record that never expires has the expiry -1', async () => {
      const forever = await written();
      assert.equal(await passes(forever, '93 01 91 44 ff'), true);
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
      assert.equal(await passes(record, '93 01 91 44 ff'), false);
    });

    test('the set is a string, empty when there is none', async () => {
      const record = await written();
      const name = (set: string) =>
        `93 01 91 46 ${(0xa1 + set.length).toString(16)} 03 ${utf8(set).toString('hex')}`;
      assert.equal(await passes(record, name(record.set)), true);
      assert.equal(await passes(record, name('other')), false);
      assert.equal(await passes(record, `93 11 ${name('other')} ${name(record.set)}`), true);
      const [namespace, , digest] = subject.fresh().fields;
      const setless = { ...record, fields: [namespace!, digest!] };
      await wire.call(putOf(setless, [int('a', 1)]));
      assert.equal(await passes(setless, name('')), true);
      assert.equal(await evaluated(setless, '91 46'), '3:');
      await wire.call(removeOf(setless));
    });

    test('whether there is a key, and which', async () => {
      const without = await written();
      assert.equal(await passes(without, '91 47'), false);
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }));
      assert.equal(await passes(record, '91 47'), true);
      const key = record.keyField.subarray(6).toString('hex');
      assert.equal(await passes(record, `93 01 92 50 02 cf ${key}`), true);
      assert.equal(await passes(record, '93 01 92 50 02 00'), false);
      assert.equal(await passes(record, '93 01 92 50 03 a2 03 78'), false, 'of another type');
      assert.equal(await passes(without, '93 01 92 50 02 00'), false);
    });

    test('a record is no tombstone', async () => {
      assert.equal(await passes(await written(), '91 48'), false);
    });

    test('the remainder of the digest is that of its last four bytes, little-endian', async () => {
      const record = await written();
      const rest = record.digest.readUInt32LE(16) % 4;
      for (let i = 0; i < 4; i++) assert.equal(await passes(record, `93 01 92 40 04 0${i}`), i === rest);
    });

    test('the size is a multiple of 16 that grows with the record', async () => {
      const [small, large] = [await written(), await written(op(2, 'a', 4, Buffer.alloc(1000)))];
      const sizes = [];
      for (const record of [small, large])
        sizes.push(Number(`0x${(await evaluated(record, '91 4a')).split(':')[1]}`));
      assert(sizes.every((s) => s % 16 === 0));
      assert(sizes[0]! >= 32 && sizes[0]! <= 96 && sizes[1]! - sizes[0]! >= 976, String(sizes));
      assert.equal(await passes(large, '93 04 91 4a cd 03e8'), true);
      assert.equal(await passes(small, '93 04 91 4a cd 03e8'), false);
    });
  });

  describe('of bins', () => {
    test('each comparison, of integers', async () => {
      const record = await written(int('a', 5));
      const holds = { '01': [5], '02': [4, 6], '03': [4], '04': [4, 5], '05': [6], '06': [5, 6] };
      for (const [operation, values] of Object.entries(holds))
        for (const value of [4, 5, 6])
          assert.deepEqual(
            [operation, value, await passes(record, `93 ${operation} 93 51 02 a1 61 0${value}`)],
            [operation, value, values.includes(value)],
          );
    });

    test('strings, blobs, floats and booleans compare with their like', async () => {
      const record = await written(
        str('s', 'b'),
        op(2, 'b', 4, hex('01ff')),
        float('f', 1.5),
        op(2, 't', 17, hex('01')),
      );
      assert.equal(await passes(record, '93 01 93 51 03 a1 73 a2 03 62'), true);
      assert.equal(await passes(record, '93 03 93 51 03 a1 73 a2 03 61'), true);
      assert.equal(await passes(record, '93 05 93 51 03 a1 73 a2 03 61'), false);
      assert.equal(await passes(record, '93 01 93 51 06 a1 62 a3 04 01ff'), true);
      assert.equal(await passes(record, '93 05 93 51 06 a1 62 a3 04 0200'), true);
      assert.equal(await passes(record, '93 03 93 51 07 a1 66 cb 3ff0000000000000'), true);
      assert.equal(await passes(record, '93 01 93 51 01 a1 74 c3'), true);
      assert.equal(await passes(record, '93 51 01 a1 74'), true, 'a boolean bin is a condition');
    });

    test('the type of a bin, 0 when it is missing', async () => {
      const record = await written(int('a', 1), str('s', 'x'), float('f', 1));
      for (const [name, type] of [
        ['a', 1],
        ['s', 3],
        ['f', 2],
        ['x', 0],
      ] as const)
        assert.equal(await passes(record, `93 01 92 52 a1 ${utf8(name).toString('hex')} 0${type}`), true);
    });

    test('and, or, not and exclusive', async () => {
      const record = await written();
      for (const [expression, expected] of [
        ['93 10 c3 c3', true],
        ['93 10 c3 c2', false],
        ['94 10 c3 c3 c3', true],
        ['93 11 c2 c3', true],
        ['93 11 c2 c2', false],
        ['92 12 c2', true],
        ['92 12 c3', false],
        ['93 13 c3 c2', true],
        ['93 13 c3 c3', false],
        ['94 13 c3 c3 c3', false],
      ] as const)
        assert.deepEqual([expression, await passes(record, expression)], [expression, expected]);
    });

    test('arithmetic', async () => {
      const record = await written(int('a', 7), float('f', 1.5));
      assert.equal(await evaluated(record, '93 14 93 51 02 a1 61 03'), '1:000000000000000a');
      assert.equal(await evaluated(record, '93 15 93 51 02 a1 61 0a'), '1:fffffffffffffffd');
      assert.equal(await evaluated(record, '93 16 93 51 02 a1 61 03'), '1:0000000000000015');
      assert.equal(await evaluated(record, '93 17 93 51 02 a1 61 02'), '1:0000000000000003');
      assert.equal(await evaluated(record, '93 1a 93 51 02 a1 61 04'), '1:0000000000000003');
      assert.equal(await evaluated(record, '93 14 93 51 07 a1 66 cb 3ff0000000000000'), '2:4004000000000000');
    });

    test('a value read has its type', async () => {
      const record = await written(
        int('a', 7),
        str('s', 'xy'),
        op(2, 'l', 20, hex('9101')),
        op(2, 't', 17, hex('01')),
      );
      assert.equal(await evaluated(record, '93 51 02 a1 61'), '1:0000000000000007');
      assert.equal(await evaluated(record, '93 51 03 a1 73'), '3:7879');
      assert.equal(await evaluated(record, '93 51 04 a1 6c'), '20:9101');
      assert.equal(await evaluated(record, '93 01 93 51 02 a1 61 07'), '17:01');
    });
  });

  describe('as an operation', () => {
    test('it sees what the operations before it wrote', async () => {
      const record = await written();
      const ops = [int('a', 5), expRead('e', '93 14 93 51 02 a1 61 01'), int('a', 9)];
      assert.deepEqual(seen(await wire.call(operateOf(record, ops))), [0, 2, '7 e 1:0000000000000006']);
    });

    test('it may have the name of a bin, which is read next to it', async () => {
      const record = await written();
      assert.deepEqual(seen(await wire.call(readOf(record, [read('a'), expRead('a', '91 45')]))), [
        0,
        1,
        '1 a 1:0000000000000001',
        '7 a 1:ffffffffffffffff',
      ]);
    });

    test('it writes a bin', async () => {
      const record = await written();
      const modify = (flags: string) => op(8, 'e', 4, hex(`92 93 14 93 51 02 a1 61 05 ${flags}`));
      assert.deepEqual(seen(await wire.call(operateOf(record, [modify('00'), read('e')]))), [
        0,
        2,
        '1 e 1:0000000000000006',
      ]);
    });

    test('nil removes a bin where that is allowed, is no failure with another flag, and nothing for a bin that is not there', async () => {
      for (const [bin, flags, code, left] of [
        ['a', '00', 26, true],
        ['a', '01', 6, true],
        ['a', '02', 0, true],
        ['a', '04', 0, false],
        ['a', '08', 0, true],
        ['a', '0c', 0, false],
        ['a', '10', 0, true],
        ['q', '00', 0, true],
        ['q', '02', 17, true],
        ['q', '04', 0, true],
      ] as const) {
        const record = await written(int('a', 1), int('b', 2));
        const reply = await wire.call(putOf(record, [op(8, bin, 4, hex(`92 c0 ${flags}`))]));
        assert.equal(reply.code, code, `${bin} ${flags}`);
        const { ops } = await wire.call(getOf(record));
        assert.equal(
          ops.some((o) => o.includes(' a ')),
          left,
          `${bin} ${flags}`,
        );
      }
    });

    test('it sees a list that was changed before it, and a bin that went', async () => {
      const record = await written(op(2, 'l', 20, hex('9101')), int('a', 1));
      const ops = [
        cdtModify('l', '92 01 02'),
        expRead('e', '93 51 04 a1 6c'),
        nil('a'),
        expRead('f', '92 52 a1 61'),
      ];
      assert.deepEqual(seen(await wire.call(operateOf(record, ops))).slice(2), [
        '4 l 1:0000000000000002',
        '7 e 20:920102',
        '7 f 1:0000000000000000',
      ]);
    });
  });
});

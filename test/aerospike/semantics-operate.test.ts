/** Several operations in one request: their order, what they answer, and what each kind does to a bin. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { getOf, operateOf, putOf, type RecordAddress, readOf, Subject, seen } from './subject.ts';
import {
  append,
  blob,
  CREATE_OR_REPLACE,
  cdtModify,
  cdtRead,
  DURABLE_DELETE,
  deleteAll,
  expRead,
  f64,
  float,
  GET_ALL,
  hex,
  incr,
  int,
  nil,
  op,
  prepend,
  READ,
  REPLACE_ONLY,
  RESPOND_ALL_OPS,
  read,
  str,
  touch,
  WRITE,
} from './wire-bytes.ts';

const ALL = { info2: WRITE | RESPOND_ALL_OPS };
const one = '0000000000000001';
const two = '0000000000000002';

describe('operations', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const written = async (...ops: readonly Uint8Array[]): Promise<RecordAddress> => {
    const record = subject.fresh();
    assert.equal((await wire.call(putOf(record, ops))).code, 0);
    return record;
  };
  const operate = async (record: RecordAddress, ops: readonly Uint8Array[], more = {}) =>
    seen(await wire.call(operateOf(record, ops, more)));
  const got = async (record: RecordAddress) => seen(await wire.call(getOf(record)));

  test('they happen in order: a read between two writes sees the first', async () => {
    const record = await written(int('a', 1));
    assert.deepEqual(await operate(record, [read('a'), int('a', 2), read('a'), incr('a', 5), read('a')]), [
      0,
      2,
      `1 a 1:${one}`,
      `1 a 1:${two}`,
      '1 a 1:0000000000000007',
    ]);
  });

  test('without the bit for all answers only reads that found something are answered', async () => {
    const record = await written(int('a', 1));
    assert.deepEqual(await operate(record, [int('b', 2), read('x'), read('a'), touch()]), [
      0,
      2,
      `1 a 1:${one}`,
    ]);
  });

  test('with the bit for all answers each operation but a touch has one, of type 0 when there is no value', async () => {
    const record = await written(int('a', 1));
    const ops = [int('b', 2), read('x'), read('a'), incr('a', 1), nil('b'), touch(), append('s', 'x')];
    assert.deepEqual(await operate(record, ops, ALL), [
      0,
      2,
      '2 b 0:',
      '1 x 0:',
      `1 a 1:${one}`,
      '5 a 0:',
      '2 b 0:',
      '9 s 0:',
    ]);
  });

  test('the bit for all answers holds for a request that only reads', async () => {
    const record = await written(int('a', 1));
    const reply = await wire.call(readOf(record, [read('x'), read('a')], { info2: RESPOND_ALL_OPS }));
    assert.deepEqual(seen(reply), [0, 1, '1 x 0:', `1 a 1:${one}`]);
  });

  test('a failing operation undoes those before it', async () => {
    const record = await written(int('a', 1), str('s', 'x'));
    assert.deepEqual(await operate(record, [int('a', 2), int('n', 9), incr('s', 1)]), [12, 1]);
    assert.deepEqual(await got(record), [0, 1, `1 a 1:${one}`, '1 s 3:78']);
  });

  test('a failing operation makes no record', async () => {
    const record = subject.fresh();
    assert.deepEqual(await operate(record, [str('s', 'x'), incr('s', 1)]), [12, 0]);
    assert.deepEqual(await got(record), [2, 0]);
  });

  describe('a read of all bins next to writes', () => {
    const allBins = { info1: READ | GET_ALL };

    test('answers the bins as they are at its place in the order', async () => {
      const after = await written(int('a', 1));
      assert.deepEqual(await operate(after, [int('b', 2), read('')], allBins), [
        0,
        2,
        `1 a 1:${one}`,
        `1 b 1:${two}`,
      ]);
      const before = await written(int('a', 1));
      assert.deepEqual(await operate(before, [read(''), int('b', 2)], allBins), [0, 2, `1 a 1:${one}`]);
    });

    test('goes with no other read, nor with the bit for all answers: 4', async () => {
      const record = await written(int('a', 1));
      const refused = [
        operateOf(record, [int('b', 2), read('a'), read('')], allBins),
        operateOf(record, [int('b', 2), read('a')], allBins),
        operateOf(record, [int('b', 2)], allBins),
        operateOf(record, [int('b', 2), read('')], { ...allBins, ...ALL }),
      ];
      for (const [i, request] of refused.entries())
        assert.deepEqual([i, ...seen(await wire.call(request))], [i, 4, 0]);
      assert.deepEqual(await got(record), [0, 1, `1 a 1:${one}`]);
    });

    test('answers nothing without its bit', async () => {
      const record = await written(int('a', 1));
      assert.deepEqual(await operate(record, [int('b', 2), read('')]), [0, 2]);
    });
  });

  test('the bits for reading and writing must be there for what is asked: 4', async () => {
    const record = await written(int('a', 1));
    assert.equal((await operate(record, [int('b', 2), read('a')], { info1: 0 }))[0], 4);
    assert.equal((await operate(record, [int('b', 2), read('a')], { info2: 0 }))[0], 4);
    assert.equal((await operate(record, [touch()], { info2: 0 }))[0], 4);
    assert.equal((await operate(record, [], { info2: 0 }))[0], 4);
    assert.deepEqual(await got(record), [0, 1, `1 a 1:${one}`]);
  });

  test('reading an expression has one flag, that it may fail: 4 for others', async () => {
    const record = await written(int('a', 1));
    for (const flags of [1, 2, 4, 8, 17])
      assert.deepEqual(
        await operate(record, [expRead('e', '91 45', flags)], { info2: 0 }),
        [4, 1],
        `${flags}`,
      );
  });

  test('an expression without a value answers 26, or nothing when it may fail', async () => {
    const record = await written(int('a', 1));
    const missingBin = '93 51 02 a1 78';
    assert.deepEqual(await operate(record, [expRead('e', missingBin)], { info2: 0 }), [26, 1]);
    assert.deepEqual(await operate(record, [expRead('e', missingBin, 16)], { info2: 0 }), [0, 1]);
  });

  test('a write and a read of a missing record make it and answer the read', async () => {
    const record = subject.fresh();
    assert.deepEqual(await operate(record, [read('a'), int('a', 1), read('a')]), [0, 1, `1 a 1:${one}`]);
  });

  test('reads alone of a missing record under the bit for writing make none', async () => {
    const record = subject.fresh();
    assert.deepEqual(await operate(record, [read('a')]), [2, 0]);
    assert.deepEqual(await got(record), [2, 0]);
  });

  describe('counting', () => {
    test('an integer grows by an integer, and wraps', async () => {
      const record = await written(int('a', 0x7fffffffffffffffn));
      assert.equal((await wire.call(putOf(record, [incr('a', 1)]))).code, 0);
      assert.deepEqual(await got(record), [0, 2, '1 a 1:8000000000000000']);
      await wire.call(putOf(record, [incr('a', -1)]));
      assert.deepEqual(await got(record), [0, 3, '1 a 1:7fffffffffffffff']);
    });

    test('a float grows by a float', async () => {
      const record = await written(float('a', 1.5));
      await wire.call(putOf(record, [op(5, 'a', 2, f64(0.25))]));
      assert.deepEqual(await got(record), [0, 2, '1 a 2:3ffc000000000000']);
    });

    test('a missing bin, or record, begins at 0', async () => {
      const record = subject.fresh();
      assert.deepEqual(seen(await wire.call(putOf(record, [incr('a', 2), op(5, 'f', 2, f64(0.5))]))), [0, 1]);
      assert.deepEqual(await got(record), [0, 1, `1 a 1:${two}`, '1 f 2:3fe0000000000000']);
    });

    test('an integer and a float do not mix, and nothing else counts: 12', async () => {
      const record = await written(int('i', 1), float('f', 1), str('s', '1'), blob('b', '01'));
      const wrong = [incr('f', 1), op(5, 'i', 2, f64(1)), incr('s', 1), incr('b', 1)];
      for (const [i, operation] of wrong.entries())
        assert.deepEqual([i, (await wire.call(putOf(record, [operation]))).code], [i, 12]);
      assert.equal((await wire.call(getOf(record))).generation, 1);
    });

    test('an amount that is no number is refused', async () => {
      const record = await written(int('i', 1));
      assert.equal((await wire.call(putOf(record, [op(5, 'i', 3, Buffer.from('1'))]))).code, 12);
      assert.equal((await wire.call(putOf(record, [op(5, 'i')]))).code, 4);
      assert.equal((await wire.call(putOf(record, [op(5, 'i', 1, Buffer.alloc(3))]))).code, 4);
    });
  });

  describe('appending', () => {
    test('strings and blobs grow at either end, and missing bins begin empty', async () => {
      const record = await written(str('s', 'b'), blob('b', '02'));
      const ops = [
        append('s', 'c'),
        prepend('s', 'a'),
        op(9, 'b', 4, Buffer.of(3)),
        op(10, 'b', 4, Buffer.of(1)),
      ];
      assert.equal((await wire.call(putOf(record, [...ops, append('n', 'x'), prepend('m', 'y')]))).code, 0);
      assert.deepEqual(await got(record), [0, 2, '1 s 3:616263', '1 b 4:010203', '1 n 3:78', '1 m 3:79']);
    });

    test('what has another type is not appended to: 12', async () => {
      const record = await written(int('i', 1), str('s', 'x'), blob('b', '01'));
      const wrong = [append('i', 'x'), op(9, 's', 4, Buffer.of(1)), append('b', 'x'), prepend('i', 'x')];
      for (const [i, operation] of wrong.entries())
        assert.deepEqual([i, (await wire.call(putOf(record, [operation]))).code], [i, 12]);
    });

    test('nothing is appended: 4', async () => {
      const record = await written(str('s', 'x'));
      assert.equal((await wire.call(putOf(record, [op(9, 's')]))).code, 4);
      assert.deepEqual(
        seen(await wire.call(putOf(record, [op(9, 's', 3)]))),
        [0, 2],
        'but an empty string is',
      );
    });

    test('an integer is no text to append', async () => {
      const record = await written(int('i', 1));
      assert.equal((await wire.call(putOf(record, [op(9, 'i', 1, Buffer.alloc(8))]))).code, 12);
    });
  });

  describe('deleting the record in between', () => {
    test('alone it removes the record and answers generation 0', async () => {
      const record = await written(int('a', 1));
      assert.deepEqual(seen(await wire.call(putOf(record, [deleteAll()]))), [0, 0]);
      assert.deepEqual(await got(record), [2, 0]);
    });

    test('of a missing record it answers 2', async () => {
      assert.deepEqual(seen(await wire.call(putOf(subject.fresh(), [deleteAll()]))), [2, 0]);
    });

    test('reads before it are answered', async () => {
      const record = await written(int('a', 1));
      assert.deepEqual(await operate(record, [read('a'), deleteAll()]), [0, 0, `1 a 1:${one}`]);
      assert.deepEqual(await got(record), [2, 0]);
    });

    test('with a write behind it the record lives on with that bin alone, and its generation counts on', async () => {
      const record = await written(int('a', 1), int('b', 1));
      assert.deepEqual(seen(await wire.call(putOf(record, [deleteAll(), int('c', 2)]))), [0, 2]);
      assert.deepEqual(await got(record), [0, 2, `1 c 1:${two}`]);
    });

    test('durably it is refused with 25', async () => {
      const record = await written(int('a', 1));
      assert.equal(
        (await wire.call(putOf(record, [deleteAll()], { info2: WRITE | DURABLE_DELETE }))).code,
        25,
      );
      assert.equal((await got(record))[0], 0);
    });
  });

  test('a write and the last update time, asked for in one request, tell when this very write was', async () => {
    const record = await written(int('a', 1));
    const before = BigInt(Date.now() - 60_000) * 1_000_000n;
    const reply = await wire.call(operateOf(record, [int('a', 2), expRead('lut', '91 42')]));
    const later = await wire.call(readOf(record, [expRead('lut', '91 42')]));
    assert.deepEqual(reply.ops, later.ops);
    const lut = BigInt(`0x${reply.ops[0]!.split(':')[1]}`);
    assert.equal(lut % 1_000_000n, 0n);
    assert(lut > before && lut < before + 120_000_000_000n, 'unix nanoseconds');
  });

  test('reads of expressions are not answered next to a read of all bins', async () => {
    const record = await written(int('a', 1));
    const reply = await wire.call(readOf(record, [expRead('x', '91 42')], { info1: READ | GET_ALL }));
    assert.deepEqual(seen(reply), [0, 1, `1 a 1:${one}`]);
  });

  describe('lists and maps', () => {
    test('an append makes the list and answers its length, also without the bit for all answers', async () => {
      const record = subject.fresh();
      assert.deepEqual(await operate(record, [cdtModify('l', '92 01 05'), cdtModify('l', '92 01 06')]), [
        0,
        1,
        `4 l 1:${one}`,
        `4 l 1:${two}`,
      ]);
      assert.deepEqual(await got(record), [0, 1, '1 l 20:920506']);
    });

    test('a put makes the map, ordered as its attributes say, and answers its size', async () => {
      const record = subject.fresh();
      assert.deepEqual(
        await operate(record, [
          cdtModify('u', '94 43 a2 03 61 01 00'),
          cdtModify('k', '94 43 a2 03 61 01 01'),
        ]),
        [0, 1, `4 u 1:${one}`, `4 k 1:${one}`],
      );
      assert.deepEqual(await got(record), [0, 1, '1 u 19:81a2036101', '1 k 19:82c70001c0a2036101']);
    });

    test('sizes, ranges and keys are read', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [op(2, 'l', 20, Buffer.from('93010203', 'hex'))]));
      await wire.call(putOf(record, [op(2, 'm', 19, Buffer.from('82a2036101a2036202', 'hex'))]));
      const ops = [
        cdtRead('l', '91 10'),
        cdtRead('l', '93 12 01 02'),
        cdtRead('m', '91 60'),
        cdtRead('m', '93 61 07 a2 03 62'),
        cdtRead('m', '93 61 08 a2 03 62'),
      ];
      assert.deepEqual(seen(await wire.call(readOf(record, ops))).slice(2), [
        '3 l 1:0000000000000003',
        '3 l 20:920203',
        `3 m 1:${two}`,
        `3 m 1:${two}`,
        // a pair is a map whose order is to be kept as it is
        '3 m 19:82c70008c0a2036202',
      ]);
    });

    test('a context leads to what is inside', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [op(2, 'm', 19, Buffer.from('81a203619101', 'hex'))]));
      // key "a" of the map, then append 2 to the list there
      const ops = [cdtModify('m', '93 cc ff 92 22 a2 03 61 92 01 02')];
      assert.deepEqual(await operate(record, ops), [0, 2, `4 m 1:${two}`]);
      assert.deepEqual(await got(record), [0, 2, '1 m 19:81a20361920102']);
    });

    test('reading a list that is missing answers nothing, or type 0 when every answer is wanted', async () => {
      const record = await written(int('a', 1));
      assert.deepEqual(seen(await wire.call(readOf(record, [cdtRead('l', '91 10')]))), [0, 1]);
      const all = await wire.call(readOf(record, [cdtRead('l', '91 10')], { info2: RESPOND_ALL_OPS }));
      assert.deepEqual(seen(all), [0, 1, '3 l 0:']);
    });

    test('list operations on what is none answer 12', async () => {
      const record = await written(int('a', 1));
      assert.equal((await wire.call(readOf(record, [cdtRead('a', '91 10')]))).code, 12);
      assert.equal((await wire.call(readOf(record, [cdtRead('a', '91 60')]))).code, 12);
      assert.equal((await wire.call(putOf(record, [cdtModify('a', '92 01 05')]))).code, 12);
      assert.equal((await wire.call(putOf(record, [cdtModify('a', '94 43 01 01 00')]))).code, 12);
    });

    test('an index beyond the list answers 26', async () => {
      const record = await written(op(2, 'l', 20, Buffer.from('9101', 'hex')));
      assert.equal((await wire.call(readOf(record, [cdtRead('l', '92 11 05')]))).code, 26);
    });

    test('an operation that does not exist, or is not well-formed, answers 4', async () => {
      const record = await written(op(2, 'l', 20, Buffer.from('9101', 'hex')));
      assert.equal((await wire.call(readOf(record, [cdtRead('l', '91 3f')]))).code, 4);
      assert.equal((await wire.call(readOf(record, [cdtRead('l', '93 12')]))).code, 4);
    });
  });

  test('an operation number that does not exist is refused with 4', async () => {
    const record = await written(int('a', 1));
    assert.equal((await wire.call(putOf(record, [op(6, 'a', 1, Buffer.alloc(8))]))).code, 4);
    assert.equal((await wire.call(putOf(record, [op(99, 'a', 1, Buffer.alloc(8))]))).code, 4);
  });

  test('a replacement may compute a bin, from the bins that it has written', async () => {
    const sum = (bin: string) => op(8, 'e', 4, hex(`92 93 14 93 51 02 a1 ${bin} 05 00`));
    const replace = { info3: CREATE_OR_REPLACE };
    const record = await written(int('a', 1));
    assert.deepEqual(await operate(record, [int('b', 2), sum('62')], { ...replace, info1: 0 }), [0, 2]);
    assert.deepEqual(await got(record), [0, 2, `1 b 1:${two}`, '1 e 1:0000000000000007']);
    assert.deepEqual(await operate(record, [int('a', 2), sum('62')], { ...replace, info1: 0 }), [26, 2]);
  });

  test('a replacement that writes nothing answers 2 and leaves the record as it is', async () => {
    for (const info3 of [CREATE_OR_REPLACE, REPLACE_ONLY]) {
      const record = await written(int('a', 1));
      assert.deepEqual(await operate(record, [read('a')], { info3 }), [2, 1]);
      assert.deepEqual(await got(record), [0, 1, `1 a 1:${one}`]);
    }
    assert.deepEqual(await operate(subject.fresh(), [read('a')], { info3: CREATE_OR_REPLACE }), [2, 0]);
  });

  test('a replacement does nothing else to bins: 4', async () => {
    const record = await written(str('s', 'x'), int('a', 1));
    const replace = { info3: CREATE_OR_REPLACE };
    const refused = [append('s', 'y'), incr('a', 1), touch(), cdtModify('l', '92 01 05'), deleteAll()];
    for (const [i, operation] of refused.entries())
      assert.deepEqual([i, ...(await operate(record, [int('b', 1), operation], replace))], [i, 4, 0]);
    assert.deepEqual(await operate(record, [int('b', 2), read('s'), read('b')], replace), [
      0,
      2,
      `1 b 1:${two}`,
    ]);
  });
});

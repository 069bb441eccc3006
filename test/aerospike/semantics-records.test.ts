/** Reading, writing and removing one record: what each request answers, and what is there afterwards. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import {
  existsOf,
  getOf,
  NAMESPACE,
  OTHER_NAMESPACE,
  operateOf,
  putOf,
  readOf,
  removeOf,
  Subject,
  seen,
} from './subject.ts';
import {
  blob,
  DELETE,
  expRead,
  field,
  float,
  frame,
  GET_ALL,
  int,
  MSG,
  message,
  messageBody,
  NO_BINS,
  nil,
  op,
  READ,
  read,
  str,
  touch,
  utf8,
  WRITE,
} from './wire-bytes.ts';

describe('one record', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  test('a record that is missing answers 2 to every request but a write, with neither generation nor expiry', async () => {
    const missing = subject.fresh();
    const requests = {
      get: getOf(missing),
      select: readOf(missing, [read('a')]),
      exists: existsOf(missing),
      remove: removeOf(missing),
      touch: putOf(missing, [touch()]),
    };
    for (const [name, request] of Object.entries(requests)) {
      const reply = await wire.call(request);
      assert.deepEqual([name, ...seen(reply), reply.voidTime], [name, 2, 0, 0]);
    }
  });

  test('a put creates the record with generation 1 and answers with metadata alone', async () => {
    const record = subject.fresh();
    const reply = await wire.call(putOf(record, [int('a', 5)]));
    assert.deepEqual(seen(reply), [0, 1]);
    assert.deepEqual([reply.voidTime, reply.fields.size, reply.info], [0, 0, [0, 0, 0]]);
  });

  test('a get answers all bins in the order in which they were written, and no field', async () => {
    const record = subject.fresh();
    await wire.call(
      putOf(record, [int('z', 1), str('a', 'x'), float('m', 1), blob('b', '00ff')], {
        fields: [record.keyField],
      }),
    );
    const reply = await wire.call(getOf(record));
    assert.deepEqual(seen(reply), [
      0,
      1,
      '1 z 1:0000000000000001',
      '1 a 3:78',
      '1 m 2:3ff0000000000000',
      '1 b 4:00ff',
    ]);
    assert.equal(reply.fields.size, 0);
  });

  test('a second put counts the generation up, leaves the other bins, and puts a new bin last', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2)]));
    assert.deepEqual(seen(await wire.call(putOf(record, [int('c', 4), int('a', 3)]))), [0, 2]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [
      0,
      2,
      '1 a 1:0000000000000003',
      '1 b 1:0000000000000002',
      '1 c 1:0000000000000004',
    ]);
  });

  test('exists answers the metadata and no bin', async () => {
    const record = subject.fresh();
    const written = await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const reply = await wire.call(existsOf(record));
    assert.deepEqual(seen(reply), [0, 1]);
    assert.notEqual(reply.voidTime, 0);
    assert.equal(reply.voidTime, written.voidTime);
  });

  test('a select answers the bins in the order asked for and says nothing of those that are missing', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2), int('c', 3)]));
    assert.deepEqual(seen(await wire.call(readOf(record, [read('c'), read('x'), read('a')]))), [
      0,
      1,
      '1 c 1:0000000000000003',
      '1 a 1:0000000000000001',
    ]);
    assert.deepEqual(seen(await wire.call(readOf(record, [read('x')]))), [0, 1]);
  });

  test('a read of the empty name without the bit for all bins answers nothing', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(readOf(record, [read('')]))), [0, 1]);
  });

  test('reads next to the bit for all bins are not answered twice', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2)]));
    const reply = await wire.call(readOf(record, [read('b')], { info1: READ | GET_ALL }));
    assert.deepEqual(seen(reply), [0, 1, '1 a 1:0000000000000001', '1 b 1:0000000000000002']);
  });

  test('a remove answers generation 0, and the next put starts again at 1', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const reply = await wire.call(removeOf(record));
    assert.deepEqual([...seen(reply), reply.voidTime], [0, 0, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
    assert.deepEqual(seen(await wire.call(putOf(record, [int('b', 1)]))), [0, 1]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 b 1:0000000000000001']);
  });

  test('a touch counts the generation up and leaves the bins', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(putOf(record, [touch()]))), [0, 2]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [0, 2, '1 a 1:0000000000000001']);
  });

  test('of a bin that is written twice in one request the last value stays', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2), str('a', 'last')]));
    assert.deepEqual(seen(await wire.call(getOf(record))), [
      0,
      1,
      '1 a 3:6c617374',
      '1 b 1:0000000000000002',
    ]);
  });

  test('a write without operations is refused with 4', async () => {
    const record = subject.fresh();
    assert.equal((await wire.call(putOf(record, []))).code, 4);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('a request that neither reads nor writes is refused with 4', async () => {
    const record = subject.fresh();
    assert.equal((await wire.call(message({ fields: record.fields }))).code, 4);
  });

  test('nothing but a removed bin makes no record', async () => {
    const record = subject.fresh();
    assert.deepEqual(seen(await wire.call(putOf(record, [nil('a')]))), [2, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('a bin is removed by a value of type 0', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2), int('c', 3)]));
    assert.deepEqual(seen(await wire.call(putOf(record, [nil('b')]))), [0, 2]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [
      0,
      2,
      '1 a 1:0000000000000001',
      '1 c 1:0000000000000003',
    ]);
  });

  test('removing a bin that is not there is a write like any other', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(putOf(record, [nil('x')]))), [0, 2]);
  });

  test('the record goes with its last bin, and the answer says generation 0', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1), int('b', 2)]));
    const reply = await wire.call(putOf(record, [nil('a'), nil('b')]));
    assert.deepEqual([...seen(reply), reply.voidTime], [0, 0, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('a write that removes a bin and makes another leaves the record alive', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(putOf(record, [nil('a'), int('b', 2)]))), [0, 2]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [0, 2, '1 b 1:0000000000000002']);
  });

  describe('limits', () => {
    test('a bin name of 15 bytes is taken, one of 16 refused with 21', async () => {
      const record = subject.fresh();
      assert.equal((await wire.call(putOf(record, [int('fifteen-bytes-x', 1)]))).code, 0);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 fifteen-bytes-x 1:0000000000000001']);
      assert.equal((await wire.call(putOf(record, [int('sixteen-bytes-xy', 1)]))).code, 21);
      assert.deepEqual(seen(await wire.call(readOf(record, [read('sixteen-bytes-xy')]))), [21, 1]);
      assert.deepEqual(
        seen(await wire.call(readOf(record, [expRead('sixteen-bytes-xy', '91 45')]))),
        [21, 1],
      );
      // the name of a touch is nobody's
      assert.equal((await wire.call(putOf(record, [op(11, 'sixteen-bytes-xy')]))).code, 0);
    });

    test('a record larger than 1 MiB is refused with 13, and what was there stays', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const large = op(2, 'a', 4, Buffer.alloc(1024 * 1024));
      assert.equal((await wire.call(putOf(record, [large]))).code, 13);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
      const fitting = op(2, 'a', 4, Buffer.alloc(1024 * 1024 - 128));
      assert.equal((await wire.call(putOf(record, [fitting]))).code, 0);
    });

    test('32,768 operations are refused with 4', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const ops = Array.from({ length: 32_768 }, () => read('a'));
      assert.equal((await wire.call(readOf(record, ops))).code, 0);
      assert.equal((await wire.call(readOf(record, [...ops, read('a')]))).code, 4);
    });
  });

  describe('a request that is not well-formed', () => {
    const broken: Record<string, (whole: Buffer) => Buffer> = {
      'with bytes behind its last operation': (whole) => Buffer.concat([whole, Buffer.alloc(1)]),
      'with an operation that ends early': (whole) => whole.subarray(0, -1),
      'that counts more operations than it has': (whole) => {
        whole[21]! += 1;
        return whole;
      },
      'that counts fewer fields than it has': (whole) => {
        whole[19]! -= 1;
        return whole;
      },
    };
    for (const [name, change] of Object.entries(broken)) {
      test(`${name} is refused with 4, and the connection goes on`, async () => {
        const record = subject.fresh();
        const own = await subject.connect();
        const whole = messageBody({ info2: WRITE, fields: record.fields, ops: [int('a', 1)] });
        assert.equal((await own.call(frame(MSG, change(whole)))).code, 4);
        assert.equal((await own.call(getOf(record))).code, 2);
      });
    }
  });

  test('a remove with bins to write is a remove', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    const request = message({ info2: WRITE | DELETE, fields: record.fields, ops: [int('a', 2)] });
    assert.deepEqual(seen(await wire.call(request)), [0, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('metadata alone is answered when the bit for no bins comes with the one for all', async () => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(existsOf(record, { info1: READ | GET_ALL | NO_BINS }))), [0, 1]);
  });

  test('a bin is the same bin in both namespaces only by name', async () => {
    const record = subject.fresh();
    const elsewhere = { ...record, fields: [field(0, utf8(OTHER_NAMESPACE)), ...record.fields.slice(1)] };
    await wire.call(putOf(record, [int('a', 1)]));
    assert.equal(NAMESPACE, 'test');
    assert.equal((await wire.call(getOf(elsewhere))).code, 2);
    assert.equal((await wire.call(operateOf(elsewhere, [read('a')], { info2: 0 }))).code, 2);
  });
});

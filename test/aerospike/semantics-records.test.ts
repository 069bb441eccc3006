/** Reading, writing and removing one record: what each request answers, and what is there afterwards. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
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
  CREATE_OR_REPLACE,
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
  REPLACE_ONLY,
  read,
  str,
  touch,
  u64,
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

  describe('its name', () => {
    test('without a digest a request is refused with 16, although it has the key', async () => {
      const record = subject.fresh();
      const [namespace, set] = record.fields;
      const reply = await wire.call(
        message({ info1: READ | GET_ALL, fields: [namespace!, set!, record.keyField] }),
      );
      assert.equal(reply.code, 16);
    });

    test('a digest of another length than 20 is refused with 4', async () => {
      const [namespace, set, digest] = subject.fresh().fields;
      assert(digest);
      for (const length of [19, 21]) {
        const bytes = Buffer.alloc(length, 7);
        const reply = await wire.call(
          message({ info1: READ | GET_ALL, fields: [namespace!, set!, field(4, bytes)] }),
        );
        assert.deepEqual([length, reply.code], [length, 4]);
      }
    });

    test('an unknown namespace is refused with 20, and so is none', async () => {
      const record = subject.fresh();
      const unknown = message({
        info1: READ | GET_ALL,
        fields: [field(0, utf8('nowhere')), ...record.fields.slice(1)],
      });
      assert.equal((await wire.call(unknown)).code, 20);
      assert.equal(
        (await wire.call(message({ info1: READ | GET_ALL, fields: record.fields.slice(1) }))).code,
        20,
      );
    });

    test('a set of 63 bytes is taken, one of 64 refused with 4', async () => {
      const digest = randomBytes(20);
      const longest = subject.set.padEnd(63, '.');
      assert.equal((await wire.call(putOf(subject.at(digest, longest), [int('a', 1)]))).code, 0);
      await wire.call(removeOf(subject.at(digest, longest)));
      assert.equal((await wire.call(putOf(subject.at(digest, `${longest}.`), [int('a', 1)]))).code, 4);
    });

    test('another set than the record was written with is refused with 4 on a write', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const other = subject.at(record.digest, `${subject.set}-other`);
      assert.equal((await wire.call(putOf(other, [int('a', 2)]))).code, 4);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });

    test('a record that was written without a set has none, and takes none later', async () => {
      const record = subject.fresh();
      const [namespace, , digest] = record.fields;
      const setless = { ...record, fields: [namespace!, digest!] };
      assert.deepEqual(seen(await wire.call(putOf(setless, [int('a', 1)]))), [0, 1]);
      assert.equal((await wire.call(putOf(record, [int('a', 2)]))).code, 4);
      assert.deepEqual(seen(await wire.call(getOf(setless))), [0, 1, '1 a 1:0000000000000001']);
      assert.equal((await wire.call(removeOf(setless))).code, 0);
    });

    test('an empty set field is no set', async () => {
      const record = subject.fresh();
      const [namespace, , digest] = record.fields;
      const setless = { ...record, fields: [namespace!, digest!] };
      const empty = { ...record, fields: [namespace!, field(1, Buffer.alloc(0)), digest!] };
      assert.deepEqual(seen(await wire.call(putOf(empty, [int('a', 1)]))), [0, 1]);
      assert.deepEqual(seen(await wire.call(putOf(setless, [int('a', 2)]))), [0, 2]);
      await wire.call(removeOf(empty));
    });

    test('another set is refused with 4 on a read and a remove, too; without one they find the record, a write does not', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const other = subject.at(record.digest, `${subject.set}-other`);
      for (const request of [getOf(other), existsOf(other), readOf(other, [read('a')])])
        assert.deepEqual(seen(await wire.call(request)), [4, 1]);
      assert.deepEqual(seen(await wire.call(removeOf(other))), [4, 0]);
      const [namespace, , digest] = record.fields;
      const setless = { ...record, fields: [namespace!, digest!] };
      assert.deepEqual(seen(await wire.call(getOf(setless))), [0, 1, '1 a 1:0000000000000001']);
      assert.deepEqual(seen(await wire.call(putOf(setless, [int('a', 2)]))), [4, 1]);
      assert.deepEqual(seen(await wire.call(removeOf(setless))), [0, 0]);
    });

    test('fields may come in any order, and unknown ones are passed over', async () => {
      const record = subject.fresh();
      const fields = [field(200, utf8('?')), ...record.fields.toReversed(), field(99, Buffer.alloc(0))];
      assert.equal((await wire.call(message({ info2: WRITE, fields, ops: [int('a', 1)] }))).code, 0);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });

    test('the digest is believed, whatever the key', async () => {
      const record = subject.at(randomBytes(20));
      assert.deepEqual(
        seen(await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }))),
        [0, 1],
      );
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });
  });

  describe('its key', () => {
    const other = field(2, utf8('\x03other'));

    test('another key than the stored one is refused with 19, for a read and a remove, too', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }));
      const requests = {
        put: putOf(record, [int('a', 2)], { fields: [other] }),
        replace: putOf(record, [int('a', 2)], { fields: [other], info3: CREATE_OR_REPLACE }),
        get: getOf(record, { fields: [other] }),
        remove: removeOf(record, { fields: [other] }),
      };
      for (const [name, request] of Object.entries(requests))
        assert.deepEqual([name, (await wire.call(request)).code], [name, 19]);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });

    for (const [name, more] of [
      ['a write', {}],
      ['a replacement', { info3: REPLACE_ONLY }],
    ] as const) {
      test(`${name} without the key keeps the stored one`, async () => {
        const record = subject.fresh();
        await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }));
        assert.equal((await wire.call(putOf(record, [int('a', 2)], more))).code, 0);
        assert.equal((await wire.call(getOf(record, { fields: [other] }))).code, 19);
      });
    }

    test('one that cannot be is refused with 16 by a write, and not looked at by a read that finds none', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      for (const key of [Buffer.alloc(0), Buffer.of(1, 5)]) {
        const fields = [field(2, key)];
        assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 2)], { fields }))), [16, 1]);
        assert.equal((await wire.call(getOf(record, { fields }))).code, 0);
      }
    });

    test('a key that comes with a later write is stored then', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      assert.equal((await wire.call(getOf(record, { fields: [other] }))).code, 0);
      await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }));
      assert.equal((await wire.call(getOf(record, { fields: [other] }))).code, 19);
    });
  });

  describe('flags and fields of a cluster that this server is not', () => {
    test('those of replicas, compression and expected size change nothing', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const expected = [0, 1, '1 a 1:0000000000000001'];
      for (const info1 of [0x04, 0x40, 0x80])
        assert.deepEqual(seen(await wire.call(getOf(record, { info1: READ | GET_ALL | info1 }))), expected);
      for (const info3 of [0x01, 0x02, 0x04, 0x80, 0xc0])
        assert.deepEqual(seen(await wire.call(getOf(record, { info3 }))), expected);
      for (const info3 of [0x01, 0x02, 0x04, 0x40])
        assert.equal((await wire.call(putOf(record, [int('a', 1)], { info3 }))).code, 0);
    });

    test('a linearized read is refused with 25', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      assert.equal((await wire.call(getOf(record, { info3: 0x40 }))).code, 25);
    });

    test('a transaction is refused with 25', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [int('a', 1)]));
      const fields = [field(5, Buffer.alloc(8, 1))];
      assert.equal((await wire.call(getOf(record, { fields }))).code, 25);
      assert.equal((await wire.call(putOf(record, [int('a', 2)], { fields }))).code, 25);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
    });

    test('a write from another cluster is one, and its time is not taken', async () => {
      const record = subject.fresh();
      const shipped = { info1: 0x10, fields: [field(14, u64(5))] };
      const lut = async () => (await wire.call(readOf(record, [expRead('e', '91 42')]))).ops[0]!;
      await wire.call(putOf(record, [int('a', 1)]));
      const before = await lut();
      assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 2)], shipped))), [0, 2]);
      assert((await lut()) >= before);
      assert.deepEqual(seen(await wire.call(removeOf(record, shipped))), [0, 0]);
    });
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

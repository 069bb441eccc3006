/** How a record is named: namespace, set, digest, key; and what else a request may say of its cluster. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { existsOf, getOf, putOf, readOf, removeOf, Subject, seen } from './subject.ts';
import {
  CREATE_OR_REPLACE,
  expRead,
  field,
  GET_ALL,
  int,
  message,
  READ,
  REPLACE_ONLY,
  read,
  u64,
  utf8,
  WRITE,
} from './wire-bytes.ts';

describe('a request for one record', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

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
});

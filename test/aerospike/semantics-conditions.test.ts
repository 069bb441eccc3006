/** Writes and removes that depend on what is there: flags, generations. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { getOf, operateOf, putOf, removeOf, Subject, seen } from './subject.ts';
import {
  CREATE_ONLY,
  CREATE_OR_REPLACE,
  DELETE,
  DURABLE_DELETE,
  GENERATION,
  GENERATION_GT,
  int,
  nil,
  REPLACE_ONLY,
  read,
  UPDATE_ONLY,
  WRITE,
} from './wire-bytes.ts';

describe('conditions of a write', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const existing = async (writes = 1) => {
    const record = subject.fresh();
    for (let i = 0; i < writes; i++) await wire.call(putOf(record, [int('a', 1), int('b', 2)]));
    return record;
  };

  test('an update only of a missing record answers 2 and makes none', async () => {
    const record = subject.fresh();
    assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 1)], { info3: UPDATE_ONLY }))), [2, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('an update only of an existing record leaves the other bins', async () => {
    const record = await existing();
    assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 3)], { info3: UPDATE_ONLY }))), [0, 2]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [
      0,
      2,
      '1 a 1:0000000000000003',
      '1 b 1:0000000000000002',
    ]);
  });

  test('a replace only of a missing record answers 2 and makes none', async () => {
    const record = subject.fresh();
    assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 1)], { info3: REPLACE_ONLY }))), [2, 0]);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  for (const [name, info3] of [
    ['a replace only', REPLACE_ONLY],
    ['a create or replace', CREATE_OR_REPLACE],
  ] as const) {
    test(`${name} of an existing record leaves none of its bins`, async () => {
      const record = await existing();
      assert.deepEqual(seen(await wire.call(putOf(record, [int('c', 3)], { info3 }))), [0, 2]);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 2, '1 c 1:0000000000000003']);
    });

    test(`${name} that removes a bin is refused with 4`, async () => {
      const record = await existing();
      assert.equal((await wire.call(putOf(record, [int('a', 3), nil('b')], { info3 }))).code, 4);
      assert.equal((await wire.call(getOf(record))).generation, 1);
    });
  }

  test('a create or replace of a missing record makes it', async () => {
    const record = subject.fresh();
    assert.deepEqual(
      seen(await wire.call(putOf(record, [int('a', 1)], { info3: CREATE_OR_REPLACE }))),
      [0, 1],
    );
    assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 a 1:0000000000000001']);
  });

  test('a create only of an existing record answers 5 with its generation and expiry', async () => {
    const record = subject.fresh();
    const create = putOf(record, [int('a', 1)], { info2: WRITE | CREATE_ONLY, ttl: 1000 });
    const created = await wire.call(create);
    assert.deepEqual(seen(created), [0, 1]);
    const reply = await wire.call(create);
    assert.deepEqual([...seen(reply), reply.voidTime], [5, 1, created.voidTime]);
  });

  test('a remove is not stopped by flags of writing', async () => {
    const record = await existing();
    assert.deepEqual(seen(await wire.call(removeOf(record, { info3: REPLACE_ONLY }))), [0, 0]);
  });

  describe('generation', () => {
    test('an equal generation writes, another answers 3 with the actual one', async () => {
      const record = await existing(3);
      const put = (generation: number) =>
        putOf(record, [int('a', 9)], { info2: WRITE | GENERATION, generation });
      assert.deepEqual(seen(await wire.call(put(2))), [3, 3]);
      assert.deepEqual(seen(await wire.call(put(4))), [3, 3]);
      assert.deepEqual(seen(await wire.call(put(0))), [3, 3]);
      assert.deepEqual(seen(await wire.call(put(3))), [0, 4]);
    });

    test('of a missing record generation 0 is equal, 5 is not', async () => {
      const record = subject.fresh();
      const put = (generation: number) =>
        putOf(record, [int('a', 1)], { info2: WRITE | GENERATION, generation });
      assert.deepEqual(seen(await wire.call(put(5))), [3, 0]);
      assert.equal((await wire.call(getOf(record))).code, 2);
      assert.deepEqual(seen(await wire.call(put(0))), [0, 1]);
    });

    test('a greater generation writes, and the record counts on from its own', async () => {
      const record = await existing(2);
      const put = (generation: number) =>
        putOf(record, [int('a', 9)], { info2: WRITE | GENERATION_GT, generation });
      assert.deepEqual(seen(await wire.call(put(1))), [3, 2]);
      assert.deepEqual(seen(await wire.call(put(2))), [3, 2]);
      assert.deepEqual(seen(await wire.call(put(100))), [0, 3]);
    });

    test('of a missing record any generation but 0 is greater', async () => {
      for (const [generation, seenThen] of [
        [0, [3, 0]],
        [1, [0, 1]],
        [77, [0, 1]],
      ] as const) {
        const put = putOf(subject.fresh(), [int('a', 1)], { info2: WRITE | GENERATION_GT, generation });
        assert.deepEqual([generation, seen(await wire.call(put))], [generation, seenThen]);
      }
    });

    test('a remove answers 3 for another generation, without telling it, and takes the record with an equal one', async () => {
      const record = await existing(2);
      const remove = (generation: number) =>
        removeOf(record, { info2: WRITE | DELETE | GENERATION, generation });
      assert.deepEqual(seen(await wire.call(remove(1))), [3, 0]);
      assert.deepEqual(seen(await wire.call(remove(2))), [0, 0]);
      assert.deepEqual(seen(await wire.call(remove(0))), [2, 0]);
    });

    test('a remove takes the record with a greater generation only', async () => {
      const record = await existing(2);
      const remove = (generation: number) =>
        removeOf(record, { info2: WRITE | DELETE | GENERATION_GT, generation });
      assert.deepEqual(seen(await wire.call(remove(2))), [3, 0]);
      assert.deepEqual(seen(await wire.call(remove(3))), [0, 0]);
    });

    test('a failed condition stops the reads of the same request', async () => {
      const record = await existing();
      const request = operateOf(record, [int('a', 9), read('b')], {
        info2: WRITE | GENERATION,
        generation: 7,
      });
      assert.deepEqual(seen(await wire.call(request)), [3, 1]);
    });

    test('a read does not look at the generation', async () => {
      const record = await existing();
      assert.equal((await wire.call(getOf(record, { info2: GENERATION, generation: 7 }))).code, 0);
    });

    test('65,535 is followed by 1', async () => {
      const record = subject.fresh();
      const block = Buffer.concat(Array.from({ length: 1000 }, () => putOf(record, [int('a', 1)])));
      let last = 0;
      for (let written = 0; written < 65_000; written += 1000) {
        wire.send(block);
        for (let i = 0; i < 1000; i++) last = (await wire.reply()).generation;
      }
      assert.equal(last, 65_000);
      for (let written = 65_000; written < 65_535; written++)
        last = (await wire.call(putOf(record, [int('a', 1)]))).generation;
      assert.equal(last, 65_535);
      assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 1)]))), [0, 1]);
      const put = putOf(record, [int('a', 2)], { info2: WRITE | GENERATION, generation: 1 });
      assert.deepEqual(seen(await wire.call(put)), [0, 2]);
    });
  });

  describe('durable deletes, which Community Edition has not', () => {
    test('a durable remove is refused with 25', async () => {
      const record = await existing();
      const reply = await wire.call(removeOf(record, { info2: WRITE | DELETE | DURABLE_DELETE }));
      assert.equal(reply.code, 25);
      assert.equal((await wire.call(getOf(record))).code, 0);
    });

    test('a durable remove of a missing record answers as one of an existing record', async () => {
      const reply = await wire.call(removeOf(subject.fresh(), { info2: WRITE | DELETE | DURABLE_DELETE }));
      assert.equal(reply.code, 25);
    });

    test('a durable write is taken as long as it removes nothing', async () => {
      const record = await existing();
      const durable = { info2: WRITE | DURABLE_DELETE };
      assert.deepEqual(seen(await wire.call(putOf(record, [int('a', 3)], durable))), [0, 2]);
      assert.deepEqual(seen(await wire.call(putOf(record, [nil('a')], durable))), [0, 3]);
      assert.equal((await wire.call(putOf(record, [nil('b')], durable))).code, 25);
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 3, '1 b 1:0000000000000002']);
    });
  });
});

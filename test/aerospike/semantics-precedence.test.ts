/** Which refusal a request gets that deserves several, and which conditions are not looked at. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { getOf, operateOf, putOf, type RecordAddress, removeOf, Subject, seen } from './subject.ts';
import {
  CREATE_ONLY,
  DELETE,
  DURABLE_DELETE,
  deleteAll,
  expRead,
  field,
  filter,
  GENERATION,
  GENERATION_GT,
  GET_ALL,
  incr,
  int,
  nil,
  READ,
  REPLACE_ONLY,
  read,
  str,
  touch,
  UPDATE_ONLY,
  utf8,
  WRITE,
} from './wire-bytes.ts';

const BAD_TTL = 0x80000000;
const FALSE = filter('c2');
/** No condition but a number. */
const MALFORMED = filter('91 42');
const OTHER_KEY = field(2, utf8('\x03other'));

describe('precedence', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());
  const existing = async (): Promise<RecordAddress> => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)], { fields: [record.keyField] }));
    return record;
  };
  const answers = async (request: Buffer, ...expected: readonly (number | string)[]) =>
    assert.deepEqual(seen(await wire.call(request)), expected);
  const unchanged = (record: RecordAddress) => answers(getOf(record), 0, 1, '1 a 1:0000000000000001');

  describe('of a write to an existing record', () => {
    // each request has the faults of all those below it
    const faults = {
      fields: [FALSE, OTHER_KEY],
      ttl: BAD_TTL,
      generation: 7,
    };
    test('first comes what is wrong with the operations: 4, without the generation', async () => {
      const record = await existing();
      await answers(putOf(record, [int('a', 2), touch()], { ...faults, info3: REPLACE_ONLY }), 4, 0);
      await answers(operateOf(record, [int('a', 2)], { ...faults, info1: READ | GET_ALL }), 4, 0);
    });

    test('then that it exists: 5', async () => {
      const record = await existing();
      await answers(
        putOf(record, [int('a', 2)], { ...faults, info2: WRITE | CREATE_ONLY | GENERATION }),
        5,
        1,
      );
    });

    test('then its generation: 3', async () => {
      const record = await existing();
      await answers(putOf(record, [int('a', 2)], { ...faults, info2: WRITE | GENERATION }), 3, 1);
    });

    test('then its set: 4', async () => {
      const record = await existing();
      const other = subject.at(record.digest, `${subject.set}-other`);
      await answers(putOf(other, [int('a', 2)], faults), 4, 1);
    });

    test('then the filter: 27', async () => {
      const record = await existing();
      await answers(putOf(record, [int('a', 2)], faults), 27, 1);
    });

    test('then the key: 19', async () => {
      const record = await existing();
      await answers(putOf(record, [int('a', 2)], { ...faults, fields: [OTHER_KEY] }), 19, 1);
    });

    test('then the time to live: 4, with the generation', async () => {
      const record = await existing();
      await answers(putOf(record, [str('a', 'x'), incr('a', 1)], { ...faults, fields: [] }), 4, 1);
      await unchanged(record);
    });

    test('last comes what an operation does not like: 12', async () => {
      const record = await existing();
      await answers(putOf(record, [str('a', 'x'), incr('a', 1)]), 12, 1);
      await unchanged(record);
    });
  });

  describe('of a write to a missing record', () => {
    test('that it is missing comes before anything but the operations', async () => {
      const more = { fields: [FALSE], ttl: BAD_TTL, info2: WRITE | GENERATION, generation: 7 };
      for (const info3 of [UPDATE_ONLY, REPLACE_ONLY]) {
        await answers(putOf(subject.fresh(), [int('a', 1)], { ...more, info3 }), 2, 0);
        await answers(putOf(subject.fresh(), [], { ...more, info3 }), 4, 0);
      }
    });

    test('a touch in any place needs the record to be there', async () => {
      for (const ops of [
        [touch(), int('a', 1)],
        [int('a', 1), touch()],
        [incr('a', 1), touch(), read('a')],
      ]) {
        const record = subject.fresh();
        await answers(
          operateOf(record, ops, { ttl: BAD_TTL, info2: WRITE | GENERATION, generation: 7 }),
          2,
          0,
        );
        await answers(getOf(record), 2, 0);
      }
    });

    test('its generation, 0, comes before its time to live and before having nothing to write', async () => {
      const more = { info2: WRITE | GENERATION, generation: 7, ttl: BAD_TTL };
      await answers(putOf(subject.fresh(), [int('a', 1)], more), 3, 0);
      await answers(putOf(subject.fresh(), [nil('a')], more), 3, 0);
      await answers(operateOf(subject.fresh(), [read('a')], more), 3, 0);
      await answers(putOf(subject.fresh(), [int('a', 1)], { ttl: BAD_TTL }), 4, 0);
    });

    test('a filter is not looked at, even when it is not well-formed', async () => {
      await answers(putOf(subject.fresh(), [int('a', 1)], { fields: [MALFORMED] }), 0, 1);
      await answers(getOf(subject.fresh(), { fields: [MALFORMED] }), 2, 0);
      await answers(getOf(await existing(), { fields: [MALFORMED] }), 4, 1);
    });
  });

  describe('of a remove', () => {
    test('the set comes first, then the generation, then the filter, then the key', async () => {
      const record = await existing();
      const other = subject.at(record.digest, `${subject.set}-other`);
      const all = { info2: WRITE | DELETE | GENERATION, generation: 7, fields: [FALSE, OTHER_KEY] };
      await answers(removeOf(other, all), 4, 0);
      await answers(removeOf(record, all), 3, 0);
      await answers(removeOf(record, { fields: [FALSE, OTHER_KEY] }), 27, 0);
      await answers(removeOf(record, { fields: [OTHER_KEY] }), 19, 0);
      await unchanged(record);
    });

    test('that it is to be durable comes before everything', async () => {
      const info2 = WRITE | DELETE | GENERATION | DURABLE_DELETE;
      await answers(removeOf(await existing(), { info2, generation: 7, fields: [FALSE] }), 25, 0);
    });

    test('whether the record is to be new is not asked', async () => {
      await answers(removeOf(await existing(), { info2: WRITE | DELETE | CREATE_ONLY }), 0, 0);
    });
  });

  describe('of two conditions on the generation', () => {
    test('the equal one counts', async () => {
      const info2 = WRITE | GENERATION | GENERATION_GT;
      await answers(putOf(await existing(), [int('a', 2)], { info2, generation: 1 }), 0, 2);
      await answers(putOf(await existing(), [int('a', 2)], { info2, generation: 2 }), 3, 1);
      await answers(putOf(subject.fresh(), [int('a', 2)], { info2, generation: 0 }), 0, 1);
    });
  });

  describe('durable deletes, which Community Edition has not', () => {
    const durable = { info2: WRITE | DURABLE_DELETE };

    test('are refused only where the record would go', async () => {
      const record = await existing();
      await answers(putOf(record, [deleteAll(), int('b', 2)], durable), 0, 2);
      await answers(getOf(record), 0, 2, '1 b 1:0000000000000002');
      await answers(putOf(record, [int('c', 3), deleteAll()], durable), 25, 2);
      await answers(putOf(subject.fresh(), [deleteAll()], durable), 2, 0);
    });

    test('come after what an operation does not like', async () => {
      await answers(putOf(await existing(), [str('s', 'x'), incr('s', 1), deleteAll()], durable), 12, 1);
    });
  });

  test('an expression that may fail is answered with type 0 next to a write', async () => {
    const record = await existing();
    const ops = [int('b', 2), expRead('e', '93 51 02 a1 78', 16)];
    await answers(operateOf(record, ops), 0, 2, '7 e 0:');
  });

  test('a read asks of set, filter and key in this order', async () => {
    const record = await existing();
    const other = subject.at(record.digest, `${subject.set}-other`);
    await answers(getOf(other, { fields: [FALSE, OTHER_KEY] }), 4, 1);
    await answers(getOf(record, { fields: [FALSE, OTHER_KEY] }), 27, 1);
    await answers(getOf(record, { fields: [OTHER_KEY] }), 19, 1);
  });
});

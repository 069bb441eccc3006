/** Time to live: what a write asks for, what it gets, and what is left of a record that has expired. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { existsOf, getOf, putOf, readOf, removeOf, Subject, seen } from './subject.ts';
import {
  CREATE_ONLY,
  CREATE_OR_REPLACE,
  expRead,
  filter,
  int,
  KEEP_TTL,
  NEVER_EXPIRE,
  read,
  touch,
  UPDATE_ONLY,
  WRITE,
} from './wire-bytes.ts';

const TEN_YEARS = 10 * 365 * 24 * 3600;
/** 2010-01-01, from which void times count. */
const EPOCH = 1_262_304_000;

describe('time to live', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  /** The server's second, from its own clock. */
  const nowSeconds = async (): Promise<number> => {
    const [text] = await wire.info('namespace/test');
    return Number(/(?:^|;)current_time=(\d+)/.exec(text!)![1]);
  };
  const voidTimeAfter = async (...ttls: readonly number[]): Promise<number> => {
    const record = subject.fresh();
    let voidTime = 0;
    for (const ttl of ttls) voidTime = (await wire.call(putOf(record, [int('a', 1)], { ttl }))).voidTime;
    assert.equal((await wire.call(existsOf(record))).voidTime, voidTime, 'read as it was answered');
    return voidTime;
  };

  test('a time to live counts from now', async () => {
    const before = await nowSeconds();
    const voidTime = await voidTimeAfter(1000);
    assert(
      voidTime >= before + 1000 && voidTime <= (await nowSeconds()) + 1001,
      `${voidTime}, now ${before}`,
    );
  });

  test('0 is what the namespace says, which here is never', async () => {
    assert.equal(await voidTimeAfter(0), 0);
    assert.equal(await voidTimeAfter(1000, 0), 0);
  });

  test('ffffffff is never', async () => {
    assert.equal(await voidTimeAfter(NEVER_EXPIRE), 0);
    assert.equal(await voidTimeAfter(1000, NEVER_EXPIRE), 0);
  });

  test('fffffffe keeps what the record has', async () => {
    const record = subject.fresh();
    const first = await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const second = await wire.call(putOf(record, [int('a', 2)], { ttl: KEEP_TTL }));
    assert.equal(second.voidTime, first.voidTime);
    assert.equal(await voidTimeAfter(NEVER_EXPIRE, KEEP_TTL), 0);
    const replaced = await wire.call(
      putOf(record, [int('a', 3)], { ttl: KEEP_TTL, info3: CREATE_OR_REPLACE }),
    );
    assert.equal(replaced.voidTime, first.voidTime);
  });

  test('fffffffe of a record that is missing is what the namespace says', async () => {
    assert.equal(await voidTimeAfter(KEEP_TTL), 0);
  });

  test('a later write may shorten it', async () => {
    const long = await voidTimeAfter(100_000);
    const shorter = await voidTimeAfter(100_000, 50);
    assert(shorter < long - 90_000);
  });

  test('ten years are taken, a second more is refused with 4', async () => {
    assert.notEqual(await voidTimeAfter(TEN_YEARS), 0);
    const record = subject.fresh();
    assert.equal((await wire.call(putOf(record, [int('a', 1)], { ttl: TEN_YEARS + 1 }))).code, 4);
    assert.equal((await wire.call(putOf(record, [int('a', 1)], { ttl: 0xfffffffd }))).code, 4);
    assert.equal((await wire.call(getOf(record))).code, 2);
  });

  test('a touch gives a new one', async () => {
    const record = subject.fresh();
    const { voidTime } = await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const touched = await wire.call(putOf(record, [touch()], { ttl: 5000 }));
    assert(touched.voidTime >= voidTime + 4000);
    assert.equal((await wire.call(getOf(record))).voidTime, touched.voidTime);
  });

  test('a read that never touches leaves it', async () => {
    const record = subject.fresh();
    const { voidTime } = await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const reply = await wire.call(getOf(record, { ttl: NEVER_EXPIRE }));
    assert.deepEqual([reply.code, reply.generation, reply.voidTime], [0, 1, voidTime]);
  });

  test('expressions tell the time of expiry in nanoseconds since 1970, and what is left in seconds', async () => {
    const record = subject.fresh();
    const { voidTime } = await wire.call(putOf(record, [int('a', 1)], { ttl: 1000 }));
    const reply = await wire.call(readOf(record, [expRead('v', '91 44'), expRead('t', '91 45')]));
    const [at, left] = reply.ops.map((o) => BigInt(`0x${o.split(':')[1]}`));
    assert.equal(at, (BigInt(voidTime) + BigInt(EPOCH)) * 1_000_000_000n);
    assert(left! >= 998n && left! <= 1000n, `${left} s left`);
    const forever = subject.fresh();
    await wire.call(putOf(forever, [int('a', 1)]));
    assert.deepEqual(seen(await wire.call(readOf(forever, [expRead('v', '91 44'), expRead('t', '91 45')]))), [
      0,
      1,
      '7 v 1:ffffffffffffffff',
      '7 t 1:ffffffffffffffff',
    ]);
  });

  test('a record is readable until the second after its last, and then it is gone for every request but a remove', async () => {
    const records = Array.from({ length: 6 }, () => subject.fresh());
    let voidTime = 0;
    for (const record of records) {
      await wire.call(putOf(record, [int('a', 1), int('b', 1)]));
      voidTime = (await wire.call(putOf(record, [int('a', 2)], { ttl: 1 }))).voidTime;
    }
    const [get, exists, remove, update, create, write] = records;
    assert(get && exists && remove && update && create && write);
    assert.equal((await wire.call(getOf(get))).code, 0);
    // to the server's own clock: in its last second the record is still there
    while ((await nowSeconds()) <= voidTime) await sleep(100);
    // the generation of the expired record may still be told, until its memory is given back
    assert.equal((await wire.call(getOf(get))).code, 2);
    assert.equal((await wire.call(existsOf(exists))).code, 2);
    assert.equal((await wire.call(readOf(exists, [read('a')], { fields: [filter('c3')] }))).code, 2);
    // a remove finds what nobody has taken away yet
    assert([0, 2].includes((await wire.call(removeOf(remove))).code));
    assert.equal((await wire.call(existsOf(remove))).code, 2);
    assert.equal((await wire.call(putOf(update, [int('a', 3)], { info3: UPDATE_ONLY }))).code, 2);
    assert.deepEqual(
      seen(await wire.call(putOf(create, [int('c', 3)], { info2: WRITE | CREATE_ONLY }))),
      [0, 1],
    );
    assert.deepEqual(seen(await wire.call(getOf(create))), [0, 1, '1 c 1:0000000000000003']);
    assert.deepEqual(seen(await wire.call(putOf(write, [int('c', 3)]))), [0, 1]);
    assert.deepEqual(seen(await wire.call(getOf(write))), [0, 1, '1 c 1:0000000000000003']);
  });
});

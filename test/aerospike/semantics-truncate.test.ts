/** Truncation: which records of a set it takes, which it leaves, and what is seen of it. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { scan } from './partition-scan.ts';
import { existsOf, getOf, NAMESPACE, putOf, type RecordAddress, readOf, Subject, seen } from './subject.ts';
import { expRead, int, partitionOf } from './wire-bytes.ts';

/** 2010-01-01 in milliseconds, from which update times count inside a server. */
const EPOCH_MS = 1_262_304_000_000n;

describe('truncation', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());
  const truncate = async (more = ''): Promise<string> =>
    (await wire.info(`truncate:namespace=${NAMESPACE};set=${subject.set}${more}`))[0]!;
  const lutOf = async (record: RecordAddress): Promise<bigint> => {
    const reply = await wire.call(readOf(record, [expRead('e', '91 42')]));
    return BigInt(`0x${reply.ops[0]!.split(':')[1]}`);
  };
  /** A record whose last update is in an earlier millisecond than anything that follows. */
  const written = async (): Promise<RecordAddress> => {
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    await sleep(3);
    return record;
  };

  test('the records of the set are gone at once for reads and scans, and those of other sets are not', async () => {
    const record = await written();
    const digest = Buffer.from(record.digest);
    digest[19]! ^= 1;
    const other = subject.at(digest, `${subject.set.slice(0, -1)}.`);
    await wire.call(putOf(other, [int('a', 2)]));
    assert.equal(await truncate(), 'ok');
    assert.equal((await wire.call(getOf(record))).code, 2);
    assert.equal((await wire.call(existsOf(record))).code, 2);
    const { records } = await scan(wire, { set: subject.set, partitions: [partitionOf(digest)] });
    assert.equal(records.length, 0);
    assert.equal((await wire.call(getOf(other))).code, 0);
    await wire.info(`truncate:namespace=${NAMESPACE};set=${other.set}`);
  });

  test('a record is written anew afterwards, with generation 1', async () => {
    const record = await written();
    assert.equal(await truncate(), 'ok');
    await sleep(3);
    assert.deepEqual(seen(await wire.call(putOf(record, [int('b', 2)]))), [0, 1]);
    assert.deepEqual(seen(await wire.call(getOf(record))), [0, 1, '1 b 1:0000000000000002']);
  });

  test('up to a time it takes what was last updated before it, and neither what was later nor at it', async () => {
    const [older, exact, newer] = [await written(), await written(), await written()];
    const lut = await lutOf(exact);
    assert((await lutOf(older)) < lut && lut < (await lutOf(newer)));
    assert.equal(await truncate(`;lut=${lut}`), 'ok');
    const codes = [];
    for (const record of [older, exact, newer]) codes.push((await wire.call(getOf(record))).code);
    assert.deepEqual(codes, [2, 0, 0]);
  });

  test('an update saves a record from a truncation up to a time before it', async () => {
    const record = await written();
    const before = await lutOf(record);
    await wire.call(putOf(record, [int('a', 2)]));
    assert.equal(await truncate(`;lut=${before + 1_000_000n}`), 'ok');
    assert.equal((await wire.call(getOf(record))).code, 0);
  });

  test('times in the future, before 2010, or that are none are refused', async () => {
    const record = await written();
    const future = BigInt(Date.now() + 3_600_000) * 1_000_000n;
    assert.equal(await truncate(`;lut=${future}`), 'ERROR:4:would truncate in the future');
    for (const lut of ['1', 'x', String(EPOCH_MS * 1_000_000n)])
      assert.deepEqual([lut, await truncate(`;lut=${lut}`)], [lut, 'ERROR:4:would truncate to 0']);
    assert.equal((await wire.call(getOf(record))).code, 0);
  });

  test('a set and a namespace must be named', async () => {
    assert.match((await wire.info('truncate:namespace=test'))[0]!, /^ERROR:4:/);
    assert.match((await wire.info('truncate:set=x'))[0]!, /^ERROR:20:/);
  });

  test('its time is seen with the set, in milliseconds since 2010, and in the list of truncations', async () => {
    const record = await written();
    const lut = await lutOf(record);
    const tid = async () =>
      Number(/(?:^|;)truncate:[^;]*committed_tid=(\d+)/.exec((await wire.info('smd-info'))[0]!)![1]);
    const before = await tid();
    assert.equal(await truncate(`;lut=${lut}`), 'ok');
    const ms = lut / 1_000_000n - EPOCH_MS;
    const [sets, list] = await wire.info(`sets/${NAMESPACE}/${subject.set}`, 'smd-show:module=truncate');
    assert.match(sets!, new RegExp(`:truncate_lut=${ms}:`));
    assert(list!.split(';').includes(`${NAMESPACE}|${subject.set}=${ms}`), list);
    assert((await tid()) > before);
  });

  test('an earlier time than the last changes nothing', async () => {
    const record = await written();
    const lut = await lutOf(record);
    assert.equal(await truncate(`;lut=${lut}`), 'ok');
    assert.equal(await truncate(`;lut=${lut - 1_000_000_000n}`), 'ok');
    const [sets] = await wire.info(`sets/${NAMESPACE}/${subject.set}`);
    assert.match(sets!, new RegExp(`:truncate_lut=${lut / 1_000_000n - EPOCH_MS}:`));
  });

  test('undone, it brings nothing back and is no longer listed', async () => {
    const record = await written();
    assert.equal(await truncate(), 'ok');
    assert.equal((await wire.info(`truncate-undo:namespace=${NAMESPACE};set=${subject.set}`))[0], 'ok');
    assert.equal((await wire.call(getOf(record))).code, 2);
    const [list] = await wire.info('smd-show:module=truncate');
    assert(!list!.includes(`|${subject.set}=`));
  });

  test('a whole namespace is truncated up to a time', async () => {
    const record = await written();
    // long before any record of a shared server
    const lut = (EPOCH_MS + 1000n) * 1_000_000n;
    assert.equal((await wire.info(`truncate-namespace:namespace=${NAMESPACE};lut=${lut}`))[0], 'ok');
    assert.equal((await wire.call(getOf(record))).code, 0);
    assert.match((await wire.info('truncate-namespace:lut=1'))[0]!, /^ERROR:20:/);
    await wire.info(`truncate-namespace-undo:namespace=${NAMESPACE}`);
  });
});

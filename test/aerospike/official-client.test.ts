/** The endpoint through the official client: what its users see. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import type { Key } from 'aerospike';
import { type Client, connectOfficialClient, loadOfficialClient } from './official-client.ts';
import { NAMESPACE, Subject } from './subject.ts';

const { aerospike, skip } = await loadOfficialClient();

describe('the official client', { skip }, async () => {
  assert(aerospike);
  const { exp, operations, lists, maps, policy, status } = aerospike;
  const subject = await Subject.open();
  const client: Client = await connectOfficialClient(aerospike, subject);
  after(async () => {
    client.close();
    await subject.close();
  });

  let keys = 0;
  const key = (): Key => new aerospike.Key(NAMESPACE, subject.set, `k${++keys}`);
  const fails = async (code: number, call: Promise<unknown>): Promise<void> => {
    await assert.rejects(call, (error: { readonly code?: number }) => {
      assert.equal(error.code, code);
      return true;
    });
  };
  const bins = async (k: Key) => (await client.get(k)).bins;

  test('connects and is connected', () => {
    assert(client.isConnected());
    assert.equal(client.getNodes().length >= 1, true);
  });

  describe('one record', () => {
    test('is put and got, with values of every type that it can hold', async () => {
      const k = key();
      const values = {
        int: 5,
        negative: -5,
        large: 2n ** 62n,
        float: 3.5,
        whole: new aerospike.Double(3),
        text: 'Zürich 東京',
        empty: '',
        yes: true,
        bytes: Buffer.from([0, 1, 255]),
        list: [1, 'a', null, [2.5], { x: 1 }],
        map: { b: 2, a: [1], c: { d: null } },
        point: new aerospike.GeoJSON.Point(0.5, -0.25),
      };
      await client.put(k, values);
      const record = await client.get(k);
      assert.deepEqual(
        { ...record.bins, point: JSON.parse(record.bins.point as string) },
        { ...values, whole: 3, point: { type: 'Point', coordinates: [0.5, -0.25] } },
      );
      assert.deepEqual([record.gen, record.ttl], [1, aerospike.ttl.NEVER_EXPIRE]);
    });

    test('that is missing is not found', async () => {
      const missing = key();
      await fails(status.ERR_RECORD_NOT_FOUND, client.get(missing));
      await fails(status.ERR_RECORD_NOT_FOUND, client.remove(missing));
      await fails(status.ERR_RECORD_NOT_FOUND, client.select(missing, ['a']));
      assert.equal(await client.exists(missing), false);
    });

    test('exists, gives the bins that are asked for, loses one, and goes', async () => {
      const k = key();
      await client.put(k, { a: 1, b: 2, c: 3 });
      assert.equal(await client.exists(k), true);
      assert.deepEqual((await client.select(k, ['a', 'c'])).bins, { a: 1, c: 3 });
      await client.put(k, { b: null });
      assert.deepEqual(await bins(k), { a: 1, c: 3 });
      await client.remove(k);
      assert.equal(await client.exists(k), false);
    });

    test('lives as long as it is told to', async () => {
      const k = key();
      await client.put(k, { a: 1 }, { ttl: 1000 });
      const { ttl } = await client.get(k);
      assert(ttl > 980 && ttl <= 1001, `${ttl}`);
      await client.operate(k, [operations.touch(5000)]);
      assert((await client.get(k)).ttl > 4900);
      await client.put(k, { a: 2 }, { ttl: aerospike.ttl.DONT_UPDATE });
      assert((await client.get(k)).ttl > 4900);
      await client.put(k, { a: 3 }, { ttl: aerospike.ttl.NEVER_EXPIRE });
      assert.equal((await client.get(k)).ttl, aerospike.ttl.NEVER_EXPIRE);
    });

    test('is written as its policy says', async () => {
      const k = key();
      const { exists, gen } = policy;
      const put = (value: number, more: object, meta = {}) =>
        client.put(k, { a: value }, meta, new aerospike.WritePolicy(more));
      await fails(status.ERR_RECORD_NOT_FOUND, put(1, { exists: exists.UPDATE }));
      await fails(status.ERR_RECORD_NOT_FOUND, put(1, { exists: exists.REPLACE }));
      await put(1, { exists: exists.CREATE });
      await fails(status.ERR_RECORD_EXISTS, put(2, { exists: exists.CREATE }));
      await fails(status.ERR_RECORD_GENERATION, put(2, { gen: gen.EQ }, { gen: 7 }));
      await put(2, { gen: gen.EQ }, { gen: 1 });
      await put(3, { gen: gen.GT }, { gen: 9 });
      await client.put(k, { b: 1 });
      await put(4, { exists: exists.CREATE_OR_REPLACE });
      const record = await client.get(k);
      assert.deepEqual([record.bins, record.gen], [{ a: 4 }, 5]);
    });

    test('has its key in a scan when that was sent', async () => {
      const [sent, unsent] = [key(), key()];
      const marker = { [`m${keys}`]: 1 };
      await client.put(sent, marker, {}, new aerospike.WritePolicy({ key: policy.key.SEND }));
      await client.put(unsent, marker, {}, new aerospike.WritePolicy({ key: policy.key.DIGEST }));
      const records = await client.scan(NAMESPACE, subject.set).results();
      const userKeys = records.filter((r) => `m${keys}` in r.bins).map((r) => r.key.key);
      assert.deepEqual(new Set(userKeys), new Set([sent.key, undefined]));
    });

    test('is filtered', async () => {
      const k = key();
      await client.put(k, { a: 5 });
      const filtered = (n: number) =>
        client.get(k, new aerospike.ReadPolicy({ filterExpression: exp.eq(exp.binInt('a'), exp.int(n)) }));
      assert.deepEqual((await filtered(5)).bins, { a: 5 });
      await fails(status.FILTERED_OUT, filtered(6));
    });

    test('is refused when it is too large or its namespace unknown', async () => {
      await fails(status.ERR_NAMESPACE_NOT_FOUND, client.put(new aerospike.Key('nowhere', 's', 1), { a: 1 }));
      await fails(status.ERR_RECORD_TOO_BIG, client.put(key(), { a: Buffer.alloc(1024 * 1024) }));
    });
  });

  describe('operations', () => {
    test('count, append, and read what they wrote', async () => {
      const k = key();
      await client.put(k, { n: 1, s: 'b' });
      const ops = [operations.incr('n', 5), operations.append('s', 'c'), operations.prepend('s', 'a')];
      const result = await client.operate(k, [...ops, operations.read('n'), operations.read('s')]);
      assert.deepEqual(result.bins, { n: 6, s: 'abc' });
      await fails(status.ERR_BIN_INCOMPATIBLE_TYPE, client.operate(k, [operations.incr('s', 1)]));
    });

    test('delete the record in between', async () => {
      const k = key();
      await client.put(k, { a: 1, b: 2 });
      await client.operate(k, [operations.delete(), operations.write('c', 3)]);
      assert.deepEqual(await bins(k), { c: 3 });
    });

    test('work on lists', async () => {
      const k = key();
      const result = await client.operate(k, [
        lists.append('l', 3),
        lists.appendItems('l', [1, 2]),
        lists.insert('l', 0, 9),
        lists.size('l'),
        lists.get('l', 1),
        lists.getRange('l', 1, 2),
        lists.remove('l', 0),
        lists.sort('l', lists.sortFlags.DEFAULT),
      ]);
      assert.deepEqual(await bins(k), { l: [1, 2, 3] });
      assert(result.bins);
      await fails(26, client.operate(k, [lists.get('l', 77)]));
    });

    test('work on maps', async () => {
      const k = key();
      await client.operate(k, [
        maps.put('m', 'b', 2),
        maps.putItems('m', { a: 1, c: 3 }),
        maps.increment('m', 'a', 10),
        maps.removeByKey('m', 'c'),
      ]);
      assert.deepEqual(await bins(k), { m: { a: 11, b: 2 } });
      const size = await client.operate(k, [maps.size('m')]);
      assert.deepEqual(size.bins, { m: 2 });
      const got = await client.operate(k, [maps.getByKey('m', 'a', maps.returnType.VALUE)]);
      assert.deepEqual(got.bins, { m: 11 });
    });

    test('read expressions', async () => {
      const k = key();
      await client.put(k, { a: 5 });
      const sum = exp.add(exp.binInt('a'), exp.int(1));
      const result = await client.operate(k, [exp.operations.read('e', sum, 0)]);
      assert.deepEqual(result.bins, { e: 6 });
    });
  });

  describe('batches', () => {
    test('read many records, and say which are missing', async () => {
      const [a, b, missing] = [key(), key(), key()];
      await client.put(a, { n: 1, x: 1 });
      await client.put(b, { n: 2 });
      const results = await client.batchRead([
        { key: a, readAllBins: true },
        { key: missing, readAllBins: true },
        { key: b, bins: ['n'] },
      ]);
      assert.deepEqual(
        results.map((r) => [r.status, r.record?.bins]),
        [
          [0, { n: 1, x: 1 }],
          [2, results[1]!.record?.bins],
          [0, { n: 2 }],
        ],
      );
    });

    test('write and remove many', async () => {
      const some = Array.from({ length: 30 }, key);
      const written = await client.batchWrite(
        some.map((k, i) => ({
          type: aerospike.batchType.BATCH_WRITE,
          key: k,
          ops: [operations.write('n', i), operations.incr('c', 1)],
        })),
      );
      assert(written.every((r) => r.status === 0));
      assert.deepEqual(await bins(some[7]!), { n: 7, c: 1 });
      const removed = await client.batchRemove([...some.slice(0, 3), key()]);
      assert.deepEqual(
        removed.map((r) => r.status),
        [0, 0, 0, 2],
      );
      assert.equal(await client.exists(some[0]!), false);
    });
  });

  describe('scans and queries', () => {
    const numbered = async (count: number) => {
      const marker = `m${++keys}`;
      for (let i = 0; i < count; i++) await client.put(key(), { [marker]: i, other: 'x' });
      return marker;
    };

    test('give every record of the set once', async () => {
      const marker = await numbered(50);
      const records = await client.scan(NAMESPACE, subject.set).results();
      const found = records.flatMap((r) => (marker in r.bins ? [r.bins[marker] as number] : []));
      assert.deepEqual(
        found.toSorted((a, b) => a - b),
        Array.from({ length: 50 }, (_, i) => i),
      );
    });

    test('give the bins that are asked for, or none', async () => {
      const marker = await numbered(3);
      const some = client.scan(NAMESPACE, subject.set);
      some.select(marker);
      assert.deepEqual(
        (await some.results()).flatMap((r) => Object.keys(r.bins)),
        [marker, marker, marker],
      );
      const none = client.scan(NAMESPACE, subject.set, { nobins: true } as object);
      assert(
        (await none.results()).every((r) => Object.keys(r.bins).length === 0 && r.key.digest !== undefined),
      );
    });

    test('a query of the primary index filters by expression', async () => {
      const marker = await numbered(20);
      const query = client.query(NAMESPACE, subject.set);
      const filterExpression = exp.ge(exp.binInt(marker), exp.int(15));
      const records = await query.results(new aerospike.QueryPolicy({ filterExpression }));
      assert.deepEqual(
        records.map((r) => r.bins[marker] as number).toSorted((a, b) => a - b),
        [15, 16, 17, 18, 19],
      );
    });

    test('a query goes on page by page', async () => {
      const marker = await numbered(25);
      const filterExpression = exp.ge(exp.binInt(marker), exp.int(0));
      const query = client.query(NAMESPACE, subject.set, { paginate: true, maxRecords: 10 } as object);
      const found: number[] = [];
      let pages = 0;
      do {
        const page = await query.results(new aerospike.QueryPolicy({ filterExpression }));
        found.push(...page.map((r) => r.bins[marker] as number));
        assert(page.length <= 10 && ++pages < 10);
      } while (query.hasNextPage());
      assert.deepEqual(
        found.toSorted((a, b) => a - b),
        Array.from({ length: 25 }, (_, i) => i),
      );
    });

    test('an empty set has no records', async () => {
      assert.deepEqual(await client.scan(NAMESPACE, `${subject.set}-none`).results(), []);
    });
  });

  describe('administration', () => {
    test('truncation takes the set', async () => {
      const k = key();
      await client.put(k, { a: 1 });
      await client.truncate(NAMESPACE, subject.set, 0);
      // the client asks again at once, and so may come before the truncation does
      for (let tries = 0; await client.exists(k); tries++) assert(tries < 100);
    });

    test('info is asked of any node', async () => {
      assert.match(await client.infoAny('status'), /^status\tok\n?$/);
    });

    test('a secondary index is defined and dropped', async () => {
      const index = `oc-${subject.set}`;
      await client.createIntegerIndex({ ns: NAMESPACE, set: subject.set, bin: 'a', index });
      assert(
        (await client.infoAny(`sindex-exists:namespace=${NAMESPACE};indexname=${index}`)).includes('true'),
      );
      await client.indexRemove(NAMESPACE, index);
    });
  });
});

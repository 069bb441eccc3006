/** What a filter lets pass, and what the server says afterwards of a scan that it has done. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { digestsOf, filledPartition, newTrid, type ScanParts, scan, scanCounts } from './partition-scan.ts';
import { NAMESPACE, putOf, type RecordAddress, removeOf, Subject } from './subject.ts';
import { expRead, hex, int, READ, read, str } from './wire-bytes.ts';

/** A scan does not count among the jobs when it says that it is short. */
const SHORT_QUERY = 0x04;

describe('filters and counts of a scan', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());
  const { set } = subject;

  const filled = (count: number, ops?: (i: number) => Buffer[]) => filledPartition(subject, wire, count, ops);
  const run = (parts: ScanParts) => scan(wire, { set, ...parts });

  test('a filter on bins lets the records pass for which it is true', async () => {
    const trid = newTrid();
    const { partition, digests } = await filled(10);
    const filter = hex('93 03 93 51 02 a1 61 06');
    const result = await run({ partitions: [partition], filter, trid });
    assert.deepEqual(digestsOf(result), digests.slice(7));
    assert.deepEqual(await scanCounts(wire, trid), {
      'recs-succeeded': 3,
      'recs-failed': 0,
      'recs-filtered-meta': 0,
      'recs-filtered-bins': 7,
    });
  });

  test('a filter on metadata is counted as one', async () => {
    const trid = newTrid();
    const { partition } = await filled(10);
    const result = await run({ partitions: [partition], filter: Buffer.of(0xc2), trid });
    assert.deepEqual([result.code, result.records.length], [0, 0]);
    assert.deepEqual(await scanCounts(wire, trid), {
      'recs-succeeded': 0,
      'recs-failed': 0,
      'recs-filtered-meta': 10,
      'recs-filtered-bins': 0,
    });
  });

  test('of a filter on both, what its metadata part already rejects is counted there', async () => {
    const trid = newTrid();
    const { partition, records } = subject.freshPartition(6);
    // two without expiry and with a, two with expiry and a, two with expiry and without
    for (const [i, record] of records.entries())
      await wire.call(putOf(record, [int(i < 4 ? 'a' : 'b', 1)], { ttl: i < 2 ? 0 : 1000 }));
    // expiry > 0 and a == 1
    const filter = hex('93 10 93 03 91 44 00 93 01 93 51 02 a1 61 01');
    const result = await run({ partitions: [partition], filter, trid });
    assert.equal(result.records.length, 2);
    assert.deepEqual(await scanCounts(wire, trid), {
      'recs-succeeded': 2,
      'recs-failed': 0,
      'recs-filtered-meta': 2,
      'recs-filtered-bins': 2,
    });
  });

  test('a record without the bin that the filter asks for is filtered out', async () => {
    const { partition, digests } = await filled(2, (i) => [int(i ? 'a' : 'b', 1)]);
    const filter = hex('93 01 93 51 02 a1 61 01');
    assert.deepEqual(digestsOf(await run({ partitions: [partition], filter })), [digests[1]]);
  });

  test('a record of which an operation fails is left out of a scan that says 0, and counted as failed', async () => {
    const trid = newTrid();
    const { partition, digests } = await filled(3, (i) => [i === 1 ? str('a', 'x') : int('a', i)]);
    const ops = [read('a'), expRead('e', '93 14 93 51 02 a1 61 01')];
    const result = await run({ partitions: [partition], ops, trid });
    assert.equal(result.code, 0);
    assert.deepEqual(digestsOf(result), [digests[0], digests[2]]);
    assert.deepEqual(await scanCounts(wire, trid), {
      'recs-succeeded': 2,
      'recs-failed': 1,
      'recs-filtered-meta': 0,
      'recs-filtered-bins': 0,
    });
  });

  test('a record of which an operation may fail counts as a success, with or without a value', async () => {
    const trid = newTrid();
    const { partition, digests } = await filled(3, (i) => [i === 1 ? str('a', 'x') : int('a', i)]);
    const ops = [expRead('e', '93 14 93 51 02 a1 61 01', 16)];
    const result = await run({ partitions: [partition], ops, trid });
    assert.deepEqual(digestsOf(result), [digests[0], digests[2]]);
    const counts = await scanCounts(wire, trid);
    assert.deepEqual([counts['recs-succeeded'], counts['recs-failed']], [3, 0]);
  });

  test('records of other sets are not counted', async () => {
    const trid = newTrid();
    const { partition, records } = await filled(2);
    const digest = Buffer.from(records[0]!.digest);
    digest[19]! ^= 1;
    const other: RecordAddress = subject.at(digest, `${set.slice(0, -1)}.`);
    await wire.call(putOf(other, [int('a', 1)]));
    await run({ partitions: [partition], trid });
    assert.equal((await scanCounts(wire, trid))['recs-succeeded'], 2);
    await wire.call(removeOf(other));
  });

  test('a short scan leaves no counts, nor does one that never was', async () => {
    const { partition } = await filled(1);
    const trid = newTrid();
    const short = await run({ partitions: [partition], info1: READ | SHORT_QUERY, trid });
    assert.equal(short.records.length, 1);
    for (const id of [trid, newTrid()])
      assert.deepEqual(await wire.info(`query-show:trid=${id}`), ['ERROR:2:job not found']);
  });

  test('the counts name the scan', async () => {
    const { partition, digests } = await filled(3);
    const trid = newTrid();
    await run({ partitions: [partition], trid });
    const [text] = await wire.info(`query-show:trid=${trid}`);
    const values = new Map(text!.split(':').map((part) => part.split('=', 2) as [string, string]));
    assert.deepEqual(
      ['trid', 'ns', 'set', 'n-pids-requested', 'n-keyds-requested', 'status', 'job-type'].map((k) =>
        values.get(k),
      ),
      [String(trid), NAMESPACE, set, '1', '0', 'done(ok)', 'basic'],
    );
    const resumed = newTrid();
    await run({ after: [digests[0]!], trid: resumed });
    assert.match(
      (await wire.info(`query-show:trid=${resumed}`))[0]!,
      /:n-pids-requested=1:n-keyds-requested=1:/,
    );
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageView } from '../../engine/aerospike/message.ts';
import { Graves } from '../../wal/capture/xdr/graves.ts';
import { Intake } from '../../wal/capture/xdr/intake.ts';
import { Owed } from '../../wal/capture/xdr/owed.ts';
import { clockOffsetOf, endGaps, withLosses } from '../../wal/capture/xdr/proof.ts';
import { Recent } from '../../wal/capture/xdr/recent.ts';
import type { SourceReading } from '../../wal/capture/xdr/source-reading.ts';
import { Unseen } from '../../wal/capture/xdr/unseen.ts';
import type { XdrGap } from '../../wal/capture/xdr/xdr-report.ts';
import {
  digestOf,
  newCaptureDir,
  openJournal,
  readVersions,
  remove,
  T0,
  textOf,
  write,
} from './xdr-support.ts';

test('when too many deletes are remembered, an unknown record that may be older than a forgotten one has a window', async (t) => {
  const dir = await newCaptureDir(t);
  const journal = await openJournal(dir, T0);
  const graves = new Graves(2);
  const intake = new Intake(journal, {
    graves,
    owed: new Owed(),
    recent: new Recent(),
    unseen: new Unseen(),
  });
  const view = new MessageView();
  const take = (frame: Buffer): void => {
    view.parseWhole(frame.subarray(8));
    assert.equal(intake.take(view, T0 + 50_000), 0);
  };
  for (const record of [1, 2, 3]) {
    take(write({ record, lutMs: T0 + 10 * record }));
    take(remove({ record, lutMs: T0 + 10 * record + 5 }));
  }
  assert.equal(graves.size, 2);
  // record 1 once more: nobody remembers that it was deleted at 15
  take(write({ record: 1, lutMs: T0 + 10 }));
  take(write({ record: 4, lutMs: T0 + 16 }));
  await journal.flush();
  await journal.close();
  assert.deepEqual((await readVersions(dir)).map(textOf).slice(6), [
    '1@15 g1 0 lut 15 (9,15] missed 0',
    '4@16 g1 0',
  ]);
});

test('graves that are old and stated are let go of, others stay', () => {
  const graves = new Graves();
  const grave = { generation: 1, writtenLutMs: 1, isLogged: true, loggedLutMs: 0 };
  for (const [record, lutMs] of [
    [1, 100],
    [2, 300],
  ] as const)
    graves.add('test', digestOf(record), { ...grave, lutMs, atMs: 0 });
  graves.prune(599_000, 200);
  assert.equal(graves.size, 2);
  graves.prune(601_000, 200);
  assert.equal(graves.get('test', digestOf(1)), undefined);
  assert.equal(graves.get('test', digestOf(2))?.lutMs, 300);
  assert.equal(graves.forgottenLutMs, 0);
});

test('of what was logged lately at least so many changes are remembered, and at most twice that', () => {
  const recent = new Recent(1000);
  for (let i = 0; i < 1001; i++) recent.add(digestOf(i), T0 + i, 1 + (i % 9));
  assert.ok(recent.has(digestOf(0), T0, 1));
  assert.ok(!recent.has(digestOf(0), T0, 2));
  assert.ok(!recent.has(digestOf(0), T0 + 1, 1));
  assert.ok(!recent.has(digestOf(1), T0, 1));
  for (let i = 1001; i < 2001; i++) recent.add(digestOf(i), T0 + i, 1);
  assert.ok(!recent.has(digestOf(0), T0, 1));
  assert.ok(recent.has(digestOf(2000), T0 + 2000, 1));
});

const reading = (...clocks: (readonly [number, number, number])[]): SourceReading =>
  clocks.map(([clockMs, askedMs, answeredMs], i) => ({
    node: `N${i}`,
    clusterKey: 'A',
    clusterSize: clocks.length,
    clockMs,
    askedMs,
    answeredMs,
    shipping: new Map(),
    truncations: new Map(),
  }));

test("the source's clock differs only when a whole second, asked for and answered, cannot be ours", () => {
  assert.equal(clockOffsetOf(reading([5000, 5400, 5450])), 0);
  assert.equal(clockOffsetOf(reading([5000, 4990, 5010])), 0);
  // ahead: at least from the answer to its second
  assert.equal(clockOffsetOf(reading([9000, 5400, 5450])), 3550);
  // behind: at least from the end of its second to the question
  assert.equal(clockOffsetOf(reading([1000, 5400, 5450])), -3401);
  // nodes that do not agree say nothing
  assert.equal(clockOffsetOf(reading([9000, 5400, 5450], [1000, 5400, 5450])), 0);
  assert.equal(clockOffsetOf(reading([9000, 5400, 5450], [7000, 5400, 5450])), 1550);
});

test('gaps are told once, end with the next proof, and the oldest become one', () => {
  let gaps: XdrGap[] = [];
  gaps = withLosses(gaps, [{ namespace: 'test', why: 'a' }], 10);
  gaps = withLosses(gaps, [{ namespace: 'test', why: 'a' }], 10);
  assert.deepEqual(gaps, [{ namespace: 'test', sinceMs: 10, untilMs: undefined, why: 'a' }]);
  gaps = endGaps(gaps, 20);
  for (let i = 0; i < 300; i++)
    gaps = endGaps(withLosses(gaps, [{ namespace: 'test', why: 'b' }], 100 + i), 101 + i);
  assert.equal(gaps.length, 256);
  assert.equal(gaps[0].sinceMs, 10);
  assert.equal(gaps.at(-1)?.untilMs, 400);
});

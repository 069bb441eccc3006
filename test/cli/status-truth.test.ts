/** What status says of real archives, by a clock that the test sets (R3: no green while a frontier stands still). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renderHoles } from '../../cli/render/gaps.ts';
import { renderStatus } from '../../cli/render/status.ts';
import { readStatus, type Status, type StatusOptions } from '../../cli/status.ts';
import { ManualClock } from '../../engine/clock.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { handover } from '../../restore/handover.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { createBase } from '../../snapshot/create.ts';
import { acknowledge, readAcknowledged, unacknowledge } from '../../wal/acknowledgements.ts';
import { Archive } from '../../wal/archive.ts';
import { LEASES_OBJECT, withLease } from '../../wal/lease.ts';
import { readVerifyResults, recordVerifyResult } from '../../wal/verify-results.ts';
import { Bench, key, refused } from '../promises-support.ts';
import { assertNarrow } from './run-pitr.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const look = async (archive: Archive, options: Partial<StatusOptions> = {}): Promise<Status> => {
  const status = await readStatus(archive, { dirs: [], maxLagMs: 10_000, ...options });
  assertNarrow(renderStatus(status).replaceAll(archive.url, 'file:archive'));
  assertNarrow(renderHoles(status.holes, [], status.nowMs));
  return status;
};

const codesOf = ({ problems }: Status): string[] =>
  problems.map((p) => ('stream' in p && p.stream !== undefined ? `${p.code} ${p.stream}` : p.code));

test('R3: a stream whose frontier stands still is named, however well the others move; a retired one is not asked', async (t) => {
  const bench = await Bench.open(t);
  const a = await bench.engine('a', '0-2047');
  const b = await bench.engine('b', '2048-4095');
  const shipA = await bench.archiver('a');
  const shipB = await bench.archiver('b');
  const archive = await bench.archive();
  const move = async (): Promise<void> => {
    bench.clock.step(1000);
    await a.seal();
    await shipA.archivePending();
  };
  await b.seal();
  await shipB.archivePending();
  await move();
  const well = await look(archive);
  assert.deepEqual([well.green, well.streams.map((s) => s.lagMs)], [true, [0, 1000]]);
  for (let i = 0; i < 12; i++) await move();
  const late = await look(archive);
  assert.deepEqual([late.green, codesOf(late), late.limitedBy], [false, ['lag b'], 'b']);
  assert.ok(late.maxEnd !== null && late.contiguousEnd !== null && late.maxEnd > late.contiguousEnd);

  await handover({
    from: b,
    to: a,
    partitions: PartitionSet.parse('2048-4095'),
    archive,
    fromArchiver: shipB,
  });
  bench.clock.step(HOUR);
  await move();
  const retired = await look(archive);
  assert.deepEqual([retired.green, codesOf(retired)], [true, []]);
  assert.deepEqual(
    retired.streams.map((s) => [s.stream, s.partitions, s.lagMs]),
    [
      ['a', '0-4095', 0],
      ['b', 'none', null],
    ],
  );
  // nobody archives any more
  bench.clock.step(HOUR);
  assert.deepEqual(codesOf(await look(archive)), ['lag a']);
});

test('a clock that is behind the archive is said, and is never taken for a lag that is small', async (t) => {
  const bench = await Bench.open(t);
  const a = await bench.engine('a');
  await a.put(key(1), { n: 1 });
  await a.seal();
  await (await bench.archiver('a')).archivePending();
  const at = async (offsetMs: number): Promise<Status> =>
    look(await Archive.open(bench.url, { clock: new ManualClock(bench.clock.nowMs() + offsetMs) }));
  assert.deepEqual(codesOf(await at(-1000)), []);
  const behind = await at(-HOUR);
  assert.deepEqual([behind.green, codesOf(behind)], [false, ['clock-skew a']]);
  assert.equal(behind.lagMs, -HOUR);
  assert.match(renderStatus(behind), /^Lag: +unknown/m);
  assert.deepEqual(codesOf(await at(HOUR)), ['lag a']);
});

test('A12 S4: a gap keeps status from being green until it is anchored and acknowledged, and acknowledging changes nothing else', async (t) => {
  const bench = await Bench.open(t);
  const a = await bench.engine('a', undefined, { spool: { policy: 'drop-with-gap', quotaBytes: 6000 } });
  const ship = await bench.archiver('a');
  const archive = await bench.archive();
  const write = async (n: number): Promise<void> => {
    for (let i = 0; i < n; i++) {
      bench.clock.step(1000);
      await a.put(key(i), { n: i, pad: 'x'.repeat(200) });
      if (i % 4 === 3) await a.sealApplied();
    }
    await a.sealApplied();
  };
  const acknowledgeAll = async (reason: string): Promise<void> => {
    const gaps = ship.head.gaps.map((gap) => ({ timeline: ship.head.timeline, stream: 'a', ...gap }));
    await acknowledge(archive, gaps, { by: 'ops@host', reason });
  };
  await write(8);
  await ship.archivePending();
  bench.clock.step(2 * DAY);
  await write(60);
  await ship.archivePending();
  const [gap] = ship.head.gaps;
  assert.equal(ship.head.gaps.length, 1);

  const open = await look(archive);
  assert.deepEqual(codesOf(open), ['lag', 'gap a'], 'its frontier moves, what is restorable does not');
  assert.deepEqual([open.holes[0].cause, open.holes[0].again], ['dropped by quota', null]);
  await acknowledgeAll('known');
  const openAcknowledged = await look(archive);
  assert.deepEqual(codesOf(openAcknowledged), ['lag', 'gap a'], 'nothing after it is restorable');

  const base = await anchorIfNeeded(ship);
  await a.sealApplied();
  await ship.archivePending();
  const anchored = await look(archive);
  assert.deepEqual([anchored.green, codesOf(anchored)], [true, []]);
  assert.deepEqual(anchored.holes[0].again, { fromTs: base?.endTs, anchor: base?.id });
  assert.equal(anchored.window?.fromTs, base?.endTs, 'the window starts after it');
  const { by, reason } = anchored.holes[0].acknowledged ?? {};
  assert.deepEqual([by, reason], ['ops@host', 'known']);

  // another range is another gap: one that has grown, or shrunk, is not covered
  const place = { timeline: ship.head.timeline, stream: 'a', lsnStart: gap.lsnStart, lsnEnd: gap.lsnEnd };
  assert.equal((await unacknowledge(archive, [place])).length, 1);
  for (const other of [
    { ...place, lsnEnd: place.lsnEnd - 1 },
    { ...place, lsnStart: place.lsnStart + 1 },
    { ...place, stream: 'b' },
    { ...place, timeline: 'other' },
  ])
    await acknowledge(archive, [{ ...other, cause: gap.cause }], { by: 'ops@host', reason: 'no' });
  const uncovered = await look(archive);
  assert.deepEqual([uncovered.green, codesOf(uncovered)], [false, ['gap a']]);
  assert.deepEqual(uncovered.ranges, anchored.ranges, 'what can be restored is the same');
  assert.deepEqual(uncovered.window, anchored.window);

  // wanted is more than there is since the gap: whoever acknowledges the gap knows
  const wanted = { windowMs: DAY };
  assert.deepEqual(codesOf(await look(archive, wanted)), ['gap a', 'window']);
  await acknowledgeAll('known again');
  assert.deepEqual(codesOf(await look(archive, wanted)), []);
  assert.equal((await readAcknowledged(archive)).length, 5);
  const [longest] = anchored.ranges;
  assert.ok(longest.toTs - longest.fromTs < DAY && archive.clock.nowMs() - longest.fromTs > DAY);

  // a gap that the catalog states is no damage
  const report = await verifyArchive(archive);
  assert.deepEqual(
    report.anomalies.map((x) => [x.class, x.harmless]),
    [['gap', true]],
  );

  // a fork has the hole of its parent, and whoever has acknowledged it there need not do it again
  const fork = { archive: bench.url, target: 'latest', workers: 0, clock: bench.clock };
  await restoreEngine(bench.path('fork'), 'fork', fork);
  const f = await bench.reopen('fork');
  bench.clock.step(1000);
  await f.seal();
  await (await bench.archiver('fork')).archivePending();
  const forked = await look(archive, wanted);
  assert.notEqual(forked.timeline, anchored.timeline);
  assert.deepEqual(
    [forked.green, forked.holes.length, forked.holes[0].timeline],
    [true, 1, anchored.timeline],
  );
  assert.equal(forked.window?.fromTs, base?.endTs, 'the window goes on over the fork');
});

test('S4: a time in which nobody owned some partitions is a hole of its own, with its cause', async (t) => {
  const bench = await Bench.open(t);
  const a = await bench.engine('a');
  const ship = await bench.archiver('a');
  const archive = await bench.archive();
  const move = async (): Promise<{ lsn: number; ts: number }> => {
    bench.clock.step(1000);
    await a.put(key(1), { n: 1 });
    const sealed = await a.sealApplied();
    await ship.archivePending();
    return sealed;
  };
  const { ts: leftTs } = await move();
  bench.clock.step(5000);
  const takenTs = bench.clock.nowMs();
  await archive.updateTimelines((all) => ({
    ...all,
    timelines: all.timelines.map((timeline) => ({
      ...timeline,
      ownership: timeline.ownership.flatMap((o) => [
        { ...o, partitions: '0-2047' },
        { ...o, partitions: '2048-4095', toTs: leftTs },
        { ...o, partitions: '2048-4095', epoch: 2, fromTs: takenTs },
      ]),
    })),
  }));
  await move();
  const open = await look(archive);
  assert.deepEqual(
    open.holes.map((h) => [h.stream, h.gap, h.afterTs, h.cause, h.again]),
    [[null, null, leftTs, 'partitions without owner', null]],
  );
  assert.deepEqual(codesOf(open), ['hole']);
  const base = await createBase(archive, bench.path('a'), await move());
  await move();
  const over = await look(archive);
  assert.deepEqual(
    over.holes.map((h) => [h.afterTs, h.untilTs, h.again?.anchor]),
    [[leftTs, base.endTs, base.id]],
  );
  assert.deepEqual(codesOf(over), ['hole'], 'no gap of a log, so nothing to acknowledge');
});

test('acknowledging needs a reason, of a length that can be kept', async (t) => {
  const bench = await Bench.open(t);
  await bench.engine('a');
  const archive = await bench.archive();
  const place = { timeline: 't', stream: 'a', lsnStart: 1, lsnEnd: 2, cause: 'lost' };
  for (const said of [
    { by: 'me', reason: ' ' },
    { by: 'me', reason: 'x'.repeat(501) },
    { by: '', reason: 'x' },
    { by: 'x'.repeat(201), reason: 'x' },
  ])
    await assert.rejects(acknowledge(archive, [place], said), refused('usage'));
  assert.deepEqual(await readAcknowledged(archive), []);
});

test('of verifications the newest and the newest good one are kept, and a history that does not grow', async (t) => {
  const bench = await Bench.open(t);
  await bench.engine('a');
  const archive = await bench.archive();
  const result = {
    durationMs: 1,
    version: '0.1.0',
    segments: 1,
    bytes: 1,
    versions: 1,
    snapshots: 0,
    states: { equal: 1, differs: 0, notChecked: 0 },
    harmless: {},
  };
  await recordVerifyResult(archive, { ...result, atMs: 1, ok: true, anomalies: {} });
  for (let i = 2; i <= 40; i++)
    await recordVerifyResult(archive, { ...result, atMs: i, ok: false, anomalies: { missing: i } });
  const { newestGood, history } = await readVerifyResults(archive);
  assert.deepEqual([newestGood?.atMs, history.length, history.at(-1)?.atMs], [1, 30, 40]);
  assert.ok(codesOf(await look(archive)).includes('verify-failed'));
  await recordVerifyResult(archive, { ...result, atMs: 41, ok: true, anomalies: {} });
  assert.ok(!codesOf(await look(archive)).includes('verify-failed'));

  // damage of what is only said of the archive hides nothing of it, and a later verification replaces it
  const damage = async (name: string): Promise<void> => {
    const { bytes, tag } = (await archive.store.readSwap(name))!;
    bytes[bytes.length - 10] ^= 1;
    await archive.store.swap(name, tag, bytes);
  };
  await damage('verify/results');
  const damaged = await look(archive);
  assert.ok(codesOf(damaged).includes('unreadable') && damaged.lastVerify === null);
  await recordVerifyResult(archive, { ...result, atMs: 42, ok: true, anomalies: {} });
  assert.deepEqual(
    (await readVerifyResults(archive)).history.map((r) => r.atMs),
    [42],
  );
  assert.ok(!codesOf(await look(archive)).includes('unreadable'));
  await withLease(archive, 'restore', () => damage(LEASES_OBJECT));
  const unleased = await look(archive);
  assert.ok(codesOf(unleased).includes('unreadable') && unleased.leases.length === 0);
});

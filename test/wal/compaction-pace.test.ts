import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CompactionPace } from '../../wal/compaction-pace.ts';
import type { Run } from '../../wal/segment.ts';

const runsOf = (count: number): Run[] =>
  Array.from({ length: count }, (_, i) => ({
    level: 0,
    lsnStart: 1 + i,
    lsnEnd: 2 + i,
    tsMin: i,
    tsMax: i,
    segments: [],
  }));

test('compaction rests while there is nothing to merge, to delete or to look at', () => {
  const pace = new CompactionPace({ fanout: 3, retireMs: 1000 });
  const [two, three] = [runsOf(2), runsOf(3)];
  const retired = [{ names: ['x'], sinceMs: 500, leases: null }];
  const isSettled = (runs: Run[], nowMs: number, monotonicMs: number): boolean =>
    pace.isSettled({ runs, retired }, nowMs, monotonicMs);
  assert.equal(isSettled(two, 0, 0), false, 'what a predecessor left has not been looked at');
  pace.settled({ runs: two }, 0);
  assert.equal(isSettled(two, 0, 1), true);
  assert.equal(isSettled(runsOf(1), 0, 1), true, 'another run, and no group');
  assert.equal(isSettled(three, 0, 1), false, 'a group');
  pace.settled({ runs: three }, 1);
  assert.equal(isSettled(three, 0, 2), true, 'a group that a full copy keeps apart');
  assert.equal(isSettled(runsOf(3), 0, 2), false, 'another group');
  assert.equal(isSettled(three, 1499, 2), true);
  assert.equal(isSettled(three, 1500, 2), false, 'what was replaced is due');
  assert.equal(isSettled(three, 0, 60_001), false, 'there may be a full copy since');
});

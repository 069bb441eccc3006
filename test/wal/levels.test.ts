/** Which runs are merged: the number of runs stays bounded, nothing is bridged that must stay apart. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { replaceRuns, runOf } from '../../wal/catalog.ts';
import { nextFullMerge, nextMerge } from '../../wal/levels.ts';
import type { Run } from '../../wal/segment.ts';

/** A run of LSNs `[from, to)`, whose versions have the ts of their LSN. */
const run = (level: number, from: number, to: number): Run => ({
  ...runOf(level, from, to, []),
  tsMin: from,
  tsMax: to - 1,
});

/** Seals one run after the other, with all merges that are due; calls `look` after each. */
const grow = (
  seals: number,
  rule: (n: number) => { fanout: number; borders: number[] },
  look: (runs: readonly Run[], n: number) => void,
): void => {
  let runs: Run[] = [];
  for (let n = 1; n <= seals; n++) {
    runs.push(run(0, n, n + 1));
    for (;;) {
      const choice = nextMerge(runs, rule(n));
      if (!choice) break;
      const last = choice.runs[choice.runs.length - 1];
      runs = replaceRuns(runs, choice.runs, run(choice.level, choice.runs[0].lsnStart, last.lsnEnd));
    }
    look(runs, n);
  }
};

describe('levels', () => {
  test('at most fanout - 1 runs of each level, and as many levels as the logarithm says', () => {
    for (const fanout of [2, 3, 8])
      grow(
        2000,
        () => ({ fanout, borders: [] }),
        (runs, n) => {
          const byLevel = Map.groupBy(runs, (r) => r.level);
          for (const [level, list] of byLevel)
            assert.ok(list.length < fanout, `${list.length} runs of level ${level} after ${n} seals`);
          const levels = Math.floor(Math.log(n) / Math.log(fanout) + 1e-9) + 1;
          assert.ok(runs.length <= (fanout - 1) * levels, `${runs.length} runs after ${n} seals`);
          assert.deepEqual(
            runs.map((r) => r.lsnStart),
            [1, ...runs.slice(0, -1).map((r) => r.lsnEnd)],
            'A1',
          );
        },
      );
  });

  test('what is before a full copy is one run, and no run goes across its end', () => {
    const copies = [100, 237, 800];
    grow(
      1000,
      (n) => ({ fanout: 4, borders: copies.filter((ts) => ts <= n) }),
      (runs, n) => {
        const ends = copies.filter((ts) => ts < n);
        for (const ts of ends)
          assert.ok(
            runs.every((r) => r.tsMax <= ts || r.tsMin > ts),
            `${ts} after ${n}`,
          );
        const before = runs.filter((r) => r.tsMax <= (ends.at(-1) ?? 0));
        assert.equal(before.length, ends.length);
        assert.ok(runs.length - before.length <= 3 * 6);
      },
    );
  });

  test('a gap and a run that is being merged are never bridged', () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ level: fc.nat(2), gap: fc.boolean(), busy: fc.boolean() }), { maxLength: 30 }),
        fc.integer({ min: 2, max: 5 }),
        (list, fanout) => {
          let lsn = 1;
          const busy = new Set<Run>();
          const runs = list.map(({ level, gap, busy: isBusy }) => {
            if (gap) lsn += 10;
            const r = run(level, lsn, lsn + 1);
            lsn++;
            if (isBusy) busy.add(r);
            return r;
          });
          const choices = [
            nextMerge(runs, { fanout, borders: [] }, busy),
            nextMerge(runs, { fanout, borders: [lsn] }, busy),
            busy.size === 0 ? nextFullMerge(runs) : undefined,
          ];
          for (const choice of choices) {
            if (!choice) continue;
            assert.ok(choice.runs.length > 1);
            assert.ok(choice.level > Math.max(...choice.runs.map((r) => r.level)));
            const at = runs.indexOf(choice.runs[0]);
            choice.runs.forEach((r, i) => {
              assert.equal(r, runs[at + i], 'neighbours');
              assert.ok(!busy.has(r));
              if (i > 0) assert.equal(r.lsnStart, choice.runs[i - 1].lsnEnd, 'no gap');
            });
          }
        },
      ),
    );
  });

  test('a full merge leaves one run for each stretch between gaps', () => {
    let runs = [run(2, 1, 5), run(1, 5, 6), run(0, 6, 7), run(0, 20, 21), run(0, 21, 22), run(0, 50, 51)];
    for (let choice = nextFullMerge(runs); choice; choice = nextFullMerge(runs)) {
      const last = choice.runs[choice.runs.length - 1];
      runs = replaceRuns(runs, choice.runs, run(choice.level, choice.runs[0].lsnStart, last.lsnEnd));
    }
    assert.deepEqual(
      runs.map((r) => [r.level, r.lsnStart, r.lsnEnd]),
      [
        [3, 1, 7],
        [1, 20, 22],
        [0, 50, 51],
      ],
    );
  });
});

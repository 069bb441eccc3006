/** Runs seeds as tests, and says at the end what they amounted to. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import type { Fault } from './scheduler.ts';
import { type SimulationResult, simulate } from './simulation.ts';

const SEEDS = 100;
/** Seeds of one test, so that the list of tests can be read. */
const GROUP = 20;
const FAULTS: readonly Fault[] = [
  'before',
  'after',
  'late',
  'twice',
  'again',
  'torn',
  'dropped',
  'damaged',
  'throttled',
  'cut',
  'asleep',
  'crashed',
];

/**
 * The seeds of `part` out of `parts`, so that files can share the work. PITR_SIM_SEEDS=n: the first n; PITR_SIM_SEED=k: that one
 * alone, in the first file; PITR_SIM_STEPS=n: steps with faults; PITR_SIM_TRACE=1: every step is printed.
 */
export const testSeeds = (part: number, parts: number): void => {
  const { PITR_SIM_SEED, PITR_SIM_SEEDS, PITR_SIM_STEPS, PITR_SIM_TRACE } = process.env;
  const options = {
    echo: PITR_SIM_TRACE === '1',
    ...(PITR_SIM_STEPS === undefined ? {} : { steps: Number(PITR_SIM_STEPS) }),
  };
  if (PITR_SIM_SEED !== undefined) {
    if (part === 0)
      test(`seed ${PITR_SIM_SEED}`, async (t) => {
        t.diagnostic(JSON.stringify(await simulate(Number(PITR_SIM_SEED), options)));
      });
    return;
  }
  const seeds = [...Array(Number(PITR_SIM_SEEDS ?? SEEDS)).keys()].filter((seed) => seed % parts === part);
  const results: SimulationResult[] = [];
  for (let i = 0; i < seeds.length; i += GROUP) {
    const group = seeds.slice(i, i + GROUP);
    test(`S1–S5 F1–F3 A1–A6 C1–C4: kills, power cuts and faults at every call, seeds ${group[0]} to ${group.at(-1)}`, async () => {
      for (const seed of group) results.push(await simulate(seed, options));
    });
  }
  if (seeds.length < GROUP * 2) return;
  test('the simulation did what it is for', (t) => {
    const total = (of: (r: SimulationResult) => number): number => results.reduce((n, r) => n + of(r), 0);
    const done = {
      steps: total((r) => r.steps),
      acknowledged: total((r) => r.acknowledged),
      restores: total((r) => r.restores),
      heads: total((r) => r.heads),
      snapshots: total((r) => r.snapshots),
      merges: total((r) => r.merges),
      fenced: total((r) => r.fenced),
      s3: total((r) => r.s3),
      kills: total((r) => r.kills),
      powerCuts: total((r) => r.powerCuts),
      ...Object.fromEntries(FAULTS.map((f) => [f, total((r) => r.faults.get(f) ?? 0)])),
    };
    const also = {
      deletions: total((r) => r.deletions),
      swept: total((r) => r.swept),
      orphans: total((r) => r.orphans),
    };
    t.diagnostic(`${results.length} seeds: ${JSON.stringify({ ...done, ...also })}`);
    for (const [what, count] of Object.entries(done))
      assert(count >= seeds.length / 10, `${what}: ${count} in ${seeds.length} seeds`);
    // memory: nobody lets work pile up without bounds
    assert(Math.max(...results.map((r) => r.waitingMax)) < 100);
    // a write that fails is tried again, and not for ever: that no one is tried too often is looked at where it is sent
    const tries = Math.max(...results.map((r) => r.triesMax));
    assert(tries > 2 && tries <= 8, `${tries} tries of one write`);
  });
};

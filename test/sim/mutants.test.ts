/** The simulation on broken ground: each way in which disk, store, locks or archive can lie must be found out within a few seeds. */
import { strict as assert } from 'node:assert';
import { test } from 'node:test';
import { Violation } from './scheduler.ts';
import { simulate } from './simulation.ts';
import type { Mutant } from './world.ts';

const SEEDS_MAX = 60;

const MUTANTS: readonly { readonly what: string; readonly mutant: Mutant }[] = [
  { what: 'S2: acknowledged before it is synced', mutant: { syncLies: true } },
  { what: 'a name that is never made durable', mutant: { syncDirLies: true } },
  { what: 'L7: the log is trimmed before it is archived', mutant: { archivedLies: true } },
  { what: 'L7: the log is trimmed before the store is flushed', mutant: { flushLies: true } },
  { what: 'A3: a head is published whoever has published since', mutant: { swapBlind: true } },
  { what: 'A4: a head is published before its segment', mutant: { createEarly: true } },
  { what: 'two writers in one directory', mutant: { locksLie: true } },
];

for (const { what, mutant } of MUTANTS)
  test(`it is found out: ${what}`, async (t) => {
    for (let seed = 0; seed < SEEDS_MAX; seed++) {
      try {
        await simulate(seed, { mutant });
      } catch (error) {
        assert(error instanceof Violation);
        t.diagnostic(`seed ${seed}: ${error.message.split('\n')[0].slice(0, 160)}`);
        return;
      }
    }
    assert.fail(`not within ${SEEDS_MAX} seeds`);
  });

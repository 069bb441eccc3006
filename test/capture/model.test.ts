/** Random work on a cluster is captured, restored at many instants and compared with a plain map. */
import { strict as assert } from 'node:assert';
import { after, test } from 'node:test';
import { loadOfficialClient } from '../aerospike/official-client.ts';
import { Child } from '../kill/child.ts';
import { runSeed, type Tally } from './model/run-seed.ts';

const { PITR_CAPTURE_SEED, PITR_CAPTURE_SEEDS, PITR_CAPTURE_MS } = process.env;

const SEEDS = 2;
const seeds =
  PITR_CAPTURE_SEED === undefined
    ? [...Array(Number(PITR_CAPTURE_SEEDS ?? SEEDS)).keys()]
    : [Number(PITR_CAPTURE_SEED)];

const { aerospike } = await loadOfficialClient();

after(() => Child.killAll());

const total: Tally = {};
for (const seed of seeds)
  test(`S1 S7 F1 F2 P1–P8: what a capture says of the past is so, or said not to be certain, seed ${seed}`, async (t) => {
    const tally = await runSeed(seed, { workMs: Number(PITR_CAPTURE_MS ?? 3000), lastChecks: 12, aerospike });
    t.diagnostic(JSON.stringify(tally));
    for (const [name, n] of Object.entries(tally)) total[name] = (total[name] ?? 0) + n;
  });

test('the model did what it is for', { skip: seeds.length === 0 && 'PITR_CAPTURE_SEEDS=n' }, (t) => {
  t.diagnostic(`${seeds.length} seeds: ${JSON.stringify(total)}`);
  assert.ok(total.checks >= seeds.length * 10 && total.writes > 0 && total.polls > 0);
});

import { test } from 'node:test';
import { runSeed } from './run-seed.ts';

/** PITR_SEED=k runs one seed, PITR_SEEDS=n the first n; the other half of them is in model-odd.test.ts. */
const one = process.env.PITR_SEED;
const count = Number(process.env.PITR_SEEDS ?? 200);
const seeds =
  one === undefined ? Array.from({ length: count }, (_, i) => i).filter((i) => i % 2 === 0) : [Number(one)];

for (const seed of seeds)
  test(`S1 S3 S4 S5 S6 S8 S10 F1 F2 F3: engines, archive and restores agree with the model, seed ${seed}`, async () => {
    await runSeed(seed);
  });

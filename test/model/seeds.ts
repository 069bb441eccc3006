import { test } from 'node:test';
import { runSeed } from './run-seed.ts';

const SEEDS = 100;

/**
 * One test for each seed of `part` out of `parts`, so that files can share the work: PITR_SEEDS=n takes the first n seeds,
 * PITR_SEED=k that one alone, in the first file.
 */
export const testSeeds = (part: number, parts: number): void => {
  const { PITR_SEED, PITR_SEEDS } = process.env;
  const all = PITR_SEED === undefined ? [...Array(Number(PITR_SEEDS ?? SEEDS)).keys()] : [];
  const mine = all.filter((seed) => seed % parts === part);
  if (PITR_SEED !== undefined && part === 0) mine.push(Number(PITR_SEED));
  for (const seed of mine)
    test(`S1 S3 S4 S5 S6 S8 S10 F1 F2 F3: engines, archive and restores agree with the model, seed ${seed}`, async () => {
      await runSeed(seed);
    });
};

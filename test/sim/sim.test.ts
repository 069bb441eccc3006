import { test } from 'node:test';
import { simulate } from './simulation.ts';

test('x', async () => {
  console.log(
    await simulate(Number(process.env.PITR_SIM_SEED ?? 1), { echo: process.env.PITR_SIM_TRACE === '1' }),
  );
});

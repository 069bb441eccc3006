import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { simulate } from './simulation.ts';

/** Of both kinds of archive. */
const SEEDS = [3, 12];

test('the same seed gives the same trace, also in another process; another seed gives another', async () => {
  const traces: string[] = [];
  const kinds = new Set<number>();
  for (const seed of SEEDS) {
    const { trace, ...counts } = await simulate(seed);
    const again = await simulate(seed);
    assert.deepEqual(again, { trace, ...counts }, `seed ${seed}`);
    kinds.add(counts.s3);
    traces.push(trace);
  }
  assert.equal(new Set(traces).size, SEEDS.length);
  assert.equal(kinds.size, 2);
  const script = `
    const { simulate } = await import(${JSON.stringify(new URL('./simulation.ts', import.meta.url).href)});
    for (const seed of ${JSON.stringify(SEEDS)}) console.log((await simulate(seed)).trace);`;
  const elsewhere = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  });
  assert.deepEqual(elsewhere.trim().split('\n'), traces);
});

test('outside a simulated process timers, time and random bytes are the runtime’s own', async () => {
  await simulate(1, { steps: 50 });
  const started = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert(performance.now() - started >= 4);
  assert(Math.abs(Date.now() - performance.timeOrigin - performance.now()) < 60_000);
  const { randomBytes } = await import('node:crypto');
  assert.notDeepEqual(randomBytes(16), randomBytes(16));
});

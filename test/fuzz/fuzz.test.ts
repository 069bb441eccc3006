import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Rng } from '../model/rng.ts';
import { closeDoor } from './door-target.ts';
import { execute, FINDINGS, fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

const SECONDS = Number(process.env.PITR_FUZZ_SECONDS ?? 25);
/** Without the flag the same inputs on every machine that is fast enough: what passes once passes again. */
const EXECS_MAX = process.env.PITR_FUZZ_SECONDS === undefined ? 7000 : Number.POSITIVE_INFINITY;
const SEED = Number(process.env.PITR_FUZZ_SEED ?? 1);
const ONLY = process.env.PITR_FUZZ;

after(closeDoor);

test('every seed of every decoder is accepted', async () => {
  for (const target of TARGETS)
    for (const [i, seed] of target.seeds.entries())
      assert.equal(await execute(target, seed), 'accepted', `${target.name}, seed ${i}`);
});

describe('what fuzzing has found once', () => {
  for (const name of readdirSync(FINDINGS).filter((n) => n.endsWith('.bin')))
    test(name, async () => {
      const target = TARGETS.find((t) => name.startsWith(`${t.name}-`));
      assert.ok(target, 'of a decoder that is gone');
      await execute(target, readFileSync(join(FINDINGS, name)));
    });
});

describe(`fuzzing for ${SECONDS} s (PITR_FUZZ_SECONDS), seed ${SEED} (PITR_FUZZ_SEED)`, () => {
  const targets = TARGETS.filter((t) => ONLY === undefined || t.name === ONLY);
  for (const target of targets)
    test(target.name, async () => {
      const { execs, accepted, findings } = await fuzz(
        target,
        { ms: (SECONDS * 1000) / targets.length, execsMax: EXECS_MAX },
        new Rng(SEED),
      );
      console.log(`fuzz ${target.name}: ${execs} execs, ${accepted} accepted`);
      for (const { file, error } of findings) console.log(file, error);
      assert.deepEqual(
        findings.map((f) => f.file),
        [],
      );
      // on a loaded machine a slow decoder may get few turns
      assert.ok(execs > 0);
    });
});

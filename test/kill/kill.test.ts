/**
 * Separate processes that write, archive, compact, take snapshots and restore, all at once on one database, and SIGKILL at random
 * moments: `PITR_KILLS` of them (default 120; thousands go on over one database after the other, with progress on stderr).
 * `PITR_KILL_SEED` repeats the choices of a run (not the scheduler's).
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Engine } from '../../wal/engine.ts';
import { Child } from './child.ts';
import { Tally } from './tally.ts';
import { World } from './world.ts';

const KILLS = Number(process.env.PITR_KILLS ?? 120);
const SEED = Number(process.env.PITR_KILL_SEED ?? Date.now() % 2 ** 31);
/** After this many a database is long enough: the next one starts empty. */
const KILLS_PER_DATABASE = 300;

test('S1 S2 S3 S8 A1 A2 N2 N6: nothing acknowledged is lost and everything goes on, whatever is killed', {
  timeout: 300_000 + KILLS * 2000,
}, async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'pitr-kill-'));
  const tally = new Tally();
  // most of the time of a short life goes into compiling the same files again
  process.env.NODE_COMPILE_CACHE = join(root, 'compile-cache');
  try {
    for (let round = 0; tally.kills < KILLS; round++) {
      const seed = SEED + round;
      const dir = join(root, `database-${round}`);
      const world = new World(dir, seed, tally, Math.min(KILLS, tally.kills + KILLS_PER_DATABASE));
      try {
        await Engine.init(world.engineDir, { archive: world.archiveUrl });
        await world.run();
        await world.finish();
      } catch (error) {
        throw new Error(`PITR_KILL_SEED=${seed}: ${(error as Error).message}\n${tally.summary()}`, {
          cause: error,
        });
      }
      await rm(dir, { recursive: true });
      if (KILLS > KILLS_PER_DATABASE) process.stderr.write(`${tally.summary()}\n`);
    }
    for (const line of tally.summary().split('\n')) t.diagnostic(line);
    // on a busy machine some roles get little of it, but each its part
    if (KILLS >= KILLS_PER_DATABASE)
      for (const [role, n] of Object.entries(tally.killed)) assert.ok(n >= 3, `only ${n} kills of ${role}`);
  } finally {
    await Child.killAll();
    await rm(root, { recursive: true, force: true });
  }
});

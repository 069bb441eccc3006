/** What the simulation left in its archive, restored into a real engine directory: LMDB and files that no scheduler owns. */
import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { restoreEngine } from '../../restore/restore.ts';
import { Archive } from '../../wal/archive.ts';
import { Engine } from '../../wal/engine.ts';
import type { Seen } from './history.ts';
import { simulate } from './simulation.ts';

const SEEDS = [1, 2, 5, 8, 13, 21];

test('S1: real restores of what the simulation archived are the map’s state', async () => {
  const root = await fs.mkdtemp(join(tmpdir(), 'pitr-sim-'));
  let restores = 0;
  try {
    for (const seed of SEEDS)
      await simulate(seed, {
        atEnd: async ({ bucket, history }) => {
          const archive = await Archive.open(bucket.direct());
          const end = history.contiguousEnd;
          const known = history.instants().filter((ts) => ts <= end);
          for (const ts of [known[known.length >> 1], end]) {
            const dir = join(root, `${seed}-${ts}`);
            const clock = { nowMs: () => ts };
            const { verification } = await restoreEngine(dir, 'r', {
              archive,
              target: String(ts),
              workers: 0,
              ttl: 'absolute',
              clock,
            });
            assert.equal(verification.target, 'equal');
            history.observe(ts, await stateOf(dir), `seed ${seed}: restore into a directory`);
            restores++;
          }
        },
      });
  } finally {
    await fs.rm(root, { recursive: true, force: true });
  }
  assert.equal(restores, SEEDS.length * 2);
});

const stateOf = async (dir: string): Promise<Map<string, Seen>> => {
  const state = new Map<string, Seen>();
  const engine = await Engine.open({ dir, sealMs: 0, door: false });
  try {
    for await (const r of engine.scan()) {
      // the key is an integer, stored as its eight bytes
      const key = Buffer.from(r.key?.bytes ?? []).readBigInt64BE();
      state.set(`${r.set}/${key}`, { value: String(r.bins.v), generation: r.generation, lut: r.lut });
    }
  } finally {
    await engine.close();
  }
  return state;
};

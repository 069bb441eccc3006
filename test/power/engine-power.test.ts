import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { IDENTITY_FILE, readIdentity, writeIdentity } from '../../engine/identity.ts';
import { Engine } from '../../wal/engine.ts';
import { MemoryFiles } from '../wal/memory-files.ts';
import { statesAfter } from './power-cut.ts';
import { powerRng, record, STATES_MAX } from './power-support.ts';

const KEYS = 6;
const keyOf = (n: number) => ({ namespace: 'test', set: 's', key: n });

/** The model: a plain map. */
type State = Map<number, number>;

const read = async (engine: Engine): Promise<State> => {
  const found: State = new Map();
  for (let n = 0; n < KEYS; n++) {
    const record = await engine.get(keyOf(n));
    if (record) found.set(n, record.bins.v as number);
  }
  return found;
};

test('S2 S3 E1 E6: an engine over its log after power cuts: the state after some operation, none acknowledged later', async () => {
  const rng = powerRng('engine');
  const dir = await mkdtemp(join(tmpdir(), 'pitr-power-'));
  try {
    const alive = join(dir, 'alive');
    await Engine.init(alive);
    // with an archive that never has anything, so that the log is never trimmed and an empty store will do
    await writeIdentity(alive, {
      ...(await readIdentity(alive)),
      archive: { url: 'file:/nowhere', id: 'a'.repeat(32) },
    });
    const files = new MemoryFiles();
    files.put(join(alive, IDENTITY_FILE), await readFile(join(alive, IDENTITY_FILE)));
    const engine = await Engine.open({ dir: alive, files, sealMs: 0, door: false });
    const states: State[] = [new Map()];
    let acknowledged = 0;
    const step = async (change: (state: State) => void, run: () => Promise<unknown>): Promise<void> => {
      const next = new Map(states[states.length - 1]);
      change(next);
      states.push(next);
      await run();
      acknowledged = states.length - 1;
    };
    const moments = await record(
      files,
      () => acknowledged,
      async () => {
        for (let v = 1; v <= 24; v++) {
          const key = rng.int(0, KEYS - 1);
          const pad = new Uint8Array(rng.pick([0, 600, 2000])).fill(v);
          const kind = rng.weighted({ put: 4, batch: 3, delete: 1, truncate: 1, seal: 2 });
          if (kind === 'put')
            await step(
              (s) => s.set(key, v),
              () => engine.put(keyOf(key), { v, pad }),
            );
          else if (kind === 'batch')
            await step(
              (s) => [0, 1, 2, 3].map((n) => s.set(n, v)),
              () => engine.batch([0, 1, 2, 3].map((n) => ({ op: 'put', key: keyOf(n), bins: { v, pad } }))),
            );
          else if (kind === 'delete')
            await step(
              (s) => s.delete(key),
              () => engine.delete(keyOf(key)),
            );
          else if (kind === 'truncate')
            await step(
              (s) => s.clear(),
              () => engine.truncate({ namespace: 'test' }),
            );
          else await engine.seal();
        }
      },
    );
    await engine.close();
    let tried = 0;
    // each costs an LMDB environment, so few of them: the log by itself has been through all
    for (const { cut, owed, when } of moments.filter((_, i) => i % 2 === 0 || STATES_MAX > 40)) {
      const possible = [...statesAfter(cut, 8, rng)];
      for (let n = 0; n < Math.max(1, STATES_MAX >> 6); n++) {
        const content = rng.pick(possible);
        const again = join(dir, `again-${tried++}`);
        await mkdir(again);
        const moved = new Map([...content].map(([path, bytes]) => [path.replace(alive, again), bytes]));
        const recovered = await Engine.open({
          dir: again,
          files: new MemoryFiles(moved),
          sealMs: 0,
          door: false,
        });
        const found = await read(recovered);
        const position = states.findIndex(
          (s, i) => i >= owed && s.size === found.size && [...s].every(([k, v]) => found.get(k) === v),
        );
        assert.ok(position >= 0, `${when}: ${JSON.stringify([...found])} after ${owed} were acknowledged`);
        await recovered.put(keyOf(0), { v: 1000 });
        assert.equal((await read(recovered)).get(0), 1000, 'it goes on');
        await recovered.close();
        await rm(again, { recursive: true });
      }
    }
    console.log(`engine: ${moments.length} moments, ${tried} states`);
    assert.ok(tried > 40);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

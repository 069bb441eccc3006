/** A record that is decided at once, as the server does it (E13), beside the engine's own writes. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ManualClock } from '../../engine/clock.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { encodeImage } from '../../engine/image.ts';
import { ParticleType } from '../../engine/particle.ts';
import { resolveKey } from '../../engine/record-key.ts';
import { state, stateHeaderBytes } from '../../engine/state-record.ts';
import { addToDigest } from '../../engine/store.ts';
import type { Decider } from '../../engine/write-op.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-decide-'));
after(() => rmSync(root, { recursive: true }));

const image = (set: string, text: string): Buffer =>
  encodeImage(
    { key: undefined, bins: new Map([['t', { type: ParticleType.string, bytes: Buffer.from(text) }]]) },
    stateHeaderBytes(set),
  );
const writes = (set: string, text: string, more: Partial<Decider> = {}): Decider => ({
  decide: () => image(set, text),
  voidTime: 0,
  generation: 0,
  lut: 0,
  ...more,
});
const idOf = (key: number, set = 's') => resolveKey({ namespace: 'n', set, key, storeKey: false });

/** The running digest, and that of the records that are there. */
const digests = async (engine: Engine): Promise<[string, string]> => {
  await engine.settled();
  const found = new ContentDigest(engine.identity.shards);
  engine.slice('n', 0, 2 ** 32, (key, _, bytes, start, end) => {
    addToDigest(found, Buffer.from(key), Buffer.from(bytes.subarray(start, end)), 1);
    return true;
  });
  return [JSON.stringify(engine.digests), JSON.stringify(found.toShards())];
};

test('decisions see each other and what the engine wrote, and are durable when committed', async () => {
  const dir = join(root, 'a');
  const engine = await Engine.open({ dir, sealMs: 0 });
  await engine.put({ namespace: 'n', set: 's', key: 1, storeKey: false }, { t: 'put' });
  const seen: (number | undefined)[] = [];
  const look = (key: number, then: Buffer | 'keep' | 'remove'): void =>
    engine.decide(idOf(key), {
      ...writes('s', ''),
      decide: (current) => {
        seen.push(current && state.generation(current));
        return then;
      },
    });
  look(1, image('s', 'one'));
  look(1, image('s', 'two'));
  look(1, 'keep');
  look(2, image('s', 'x'));
  look(2, 'remove');
  look(2, 'remove');
  look(3, 'keep');
  assert.deepEqual(seen, [1, 2, 3, undefined, 1, undefined, undefined]);
  // nobody else hears of it before it is durable; the one who decided does
  assert.equal((await engine.get({ namespace: 'n', set: 's', key: 1 }))?.generation, 1);
  assert.equal(state.generation(engine.newest(idOf(1)) as Buffer), 3);
  assert.ok(engine.committed());
  await engine.committed();
  assert.equal(engine.committed(), undefined);
  assert.equal((await engine.get({ namespace: 'n', set: 's', key: 1 }))?.generation, 3);
  assert.equal(engine.lastLsn, 5);
  assert.deepEqual(...(await digests(engine)));
  await engine.close();
  // start-up compares the digest with what a clock frame states
  const again = await Engine.open({ dir, sealMs: 0 });
  assert.deepEqual((await again.get({ namespace: 'n', set: 's', key: 1 }))?.bins, { t: 'two' });
  assert.equal(await again.get({ namespace: 'n', set: 's', key: 2 }), undefined);
  await again.close();
});

test('generation, void and update times are the ones decided, 65535 is followed by 1', async () => {
  const engine = await Engine.open({ dir: join(root, 'b'), sealMs: 0 });
  engine.decide(idOf(1), writes('s', 'x', { generation: 65_535, voidTime: 4_000_000_000, lut: 7 }));
  const first = engine.newest(idOf(1)) as Buffer;
  assert.deepEqual(
    [state.generation(first), state.voidTime(first), state.lut(first)],
    [65_535, 4_000_000_000, 7],
  );
  engine.decide(idOf(1), writes('s', 'y'));
  assert.equal(state.generation(engine.newest(idOf(1)) as Buffer), 1);
  await engine.close();
});

test('an expired record is absent, and the digest forgets it, also when another set takes its place', async () => {
  const clock = new ManualClock(1_700_000_000_000);
  const engine = await Engine.open({ dir: join(root, 'c'), sealMs: 0, clock });
  const { digest } = idOf(1);
  const other = resolveKey({ namespace: 'n', set: 'other', digest });
  engine.decide(idOf(1), writes('s', 'x', { voidTime: 1_700_000_001 }));
  clock.step(5000);
  assert.equal(engine.newest(idOf(1)), undefined);
  engine.decide(other, {
    ...writes('other', 'y'),
    decide: (current) => {
      assert.equal(current, undefined);
      return image('other', 'y');
    },
  });
  await engine.committed();
  assert.deepEqual(...(await digests(engine)));
  await engine.close();
});

test('what is decided after the engine has failed or closed is refused', async () => {
  const engine = await Engine.open({ dir: join(root, 'd'), sealMs: 0 });
  await engine.close();
  assert.throws(() => engine.decide(idOf(1), writes('s', 'x')), { id: 'engine-closed' });
  assert.throws(() => engine.newest(idOf(1)), { id: 'engine-closed' });
});

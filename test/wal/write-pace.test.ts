import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { Engine } from '../../wal/engine.ts';
import { WritePace } from '../../wal/write-pace.ts';
import { errnoError } from './memory-files.ts';

const blocksHere = { skip: process.platform !== 'linux' };

const inScratch = (what: string, body: (dir: string) => Promise<void>) =>
  test(what, blocksHere, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pitr-write-pace-'));
    try {
      await body(dir);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });

const keyOf = (n: number) => ({ namespace: 'test', set: 's', key: n });

interface Watched {
  readonly files: Files;
  /** Writes that blocked, and that went through the thread pool. */
  readonly count: { blocked: number; waited: number };
  /** Before each that blocks. */
  now: () => void;
}

/** Real files that are watched. */
const watched = (): Watched => {
  const count = { blocked: 0, waited: 0 };
  const it: Watched = {
    count,
    now: () => undefined,
    files: {
      ...nodeFiles,
      openSynced: async (path, start) => {
        const file = await nodeFiles.openSynced(path, start);
        return {
          append: async (bytes) => {
            count.waited++;
            await file.append(bytes);
          },
          appendNow: (bytes) => {
            it.now();
            const done = file.appendNow?.(bytes) ?? false;
            if (done) count.blocked++;
            return done;
          },
          close: () => file.close(),
        };
      },
    },
  };
  return it;
};

/** Writes one after the other until `enough`; a busy disk may take its time before a write is fast. Returns how many. */
const writeUntil = async (engine: Engine, enough: (n: number) => boolean): Promise<number> => {
  const end = performance.now() + 60_000;
  let n = 0;
  for (; !enough(n); n++) {
    assert.ok(performance.now() < end, 'no write was fast for a minute');
    await engine.put(keyOf(n), { n });
  }
  return n;
};

const block = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
};

inScratch('S2: writes that block are as durable as others, and fail as they do', async (dir) => {
  const disk = watched();
  const engine = await Engine.open({ dir, sealMs: 0, files: disk.files });
  const n = await writeUntil(engine, () => disk.count.blocked >= 20);
  disk.now = () => {
    throw errnoError('ENOSPC');
  };
  const isFull = (e: unknown): boolean => isPitrError(e, 'log-full') && e.facts.why === 'ENOSPC';
  const end = performance.now() + 60_000;
  let acknowledged = n;
  await assert.rejects(async () => {
    for (; performance.now() < end; acknowledged++)
      await engine.put(keyOf(acknowledged), { n: acknowledged });
  }, isFull);
  await assert.rejects(engine.put(keyOf(0), { n: -1 }), isFull);
  await engine.close();
  const again = await Engine.open({ dir, sealMs: 0 });
  for (let i = 0; i < acknowledged; i++) assert.equal((await again.get(keyOf(i)))?.bins.n, i);
  assert.equal(await again.get(keyOf(acknowledged)), undefined);
  await again.close();
});

inScratch('slow writes do not go on blocking', async (dir) => {
  const disk = watched();
  const engine = await Engine.open({ dir, sealMs: 0, files: disk.files });
  await writeUntil(engine, () => disk.count.blocked >= 1);
  let tried = 0;
  disk.now = () => {
    tried++;
    block(4);
  };
  const started = performance.now();
  const { waited } = disk.count;
  await writeUntil(engine, () => performance.now() - started > 1500 && disk.count.waited - waited > 20);
  const seconds = (performance.now() - started) / 1000;
  assert.ok(tried <= 10 * (seconds + 1), `blocked ${tried} times in ${seconds} s`);
  await engine.close();
});

inScratch('a writer that never rests leaves timers and sockets their turns', async (dir) => {
  const disk = watched();
  const engine = await Engine.open({ dir, sealMs: 0, files: disk.files });
  await writeUntil(engine, () => disk.count.blocked >= 1);
  const { blocked } = disk.count;
  let turns = 0;
  const turn = (): void => {
    turns++;
    next = setImmediate(turn);
  };
  let next = setImmediate(turn);
  let last = -1;
  let inOneTurn = 0;
  disk.now = () => {
    if (turns === last) inOneTurn++;
    last = turns;
  };
  await writeUntil(engine, () => disk.count.blocked >= blocked + 100);
  clearImmediate(next);
  assert.equal(inOneTurn, 0, 'writes that blocked without a turn between them');
  await engine.close();
});

inScratch('who writes in the same turn of the event loop shares a write that blocks', async (dir) => {
  const disk = watched();
  const engine = await Engine.open({ dir, sealMs: 0, files: disk.files });
  await writeUntil(engine, () => disk.count.blocked >= 1);
  const before = disk.count.blocked + disk.count.waited;
  // each in a step of its own, as requests from many sockets are
  const steps = Array.from({ length: 50 }, (_, n) =>
    new Promise((resolve) => setImmediate(resolve)).then(() => engine.put(keyOf(n), { n })),
  );
  await Promise.all(steps);
  assert.ok(disk.count.blocked + disk.count.waited - before <= 3);
  await engine.close();
});

test('pace: tried after a fast write, over after slow ones, again after a while', () => {
  const pace = new WritePace();
  assert.equal(pace.blocks, false);
  pace.waited(0, 12);
  assert.equal(pace.blocks, false, 'a slow disk is never blocked on');
  pace.waited(12, 12.2);
  assert.equal(pace.blocks, true);
  for (let t = 13; t < 113; t++) pace.blocked(t, t + 0.1);
  pace.blocked(113, 10_113);
  assert.equal(pace.blocks, true, 'one slow write is no slow disk');
  let slow = 0;
  for (let t = 10_113; pace.blocks; t += 5, slow++) pace.blocked(t, t + 5);
  assert.ok(slow <= 8, `${slow} slow writes`);
  const off = 10_113 + slow * 5;
  pace.waited(off, off + 0.2);
  assert.equal(pace.blocks, false, 'not at once');
  pace.waited(off + 1000, off + 1000.2);
  assert.equal(pace.blocks, true);
  for (let t = 0; t < 100_000; t++) pace.blocked(t, t + 0.31);
  assert.equal(pace.blocks, false, 'slower than the limit on average');
});

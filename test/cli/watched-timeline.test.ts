/** What an agent knows of a timeline of which others archive a part: nothing is asked of the archive, and nothing old is told as new. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { WatchedTimeline } from '../../cli/metrics/watched-timeline.ts';
import { ManualClock } from '../../engine/clock.ts';
import type { PitrError } from '../../engine/errors.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { PartitionSet } from '../../engine/partition.ts';
import type { StoreEvent } from '../../engine/store-observer.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-watched-'));
const clock = new ManualClock(1_800_000_000_000);
const told: StoreEvent[] = [];
let isAway = false;
const engines: Engine[] = [];
const archivers: Archiver[] = [];
const errors: PitrError[] = [];
let watched: WatchedTimeline;

before(async () => {
  const url = `file:${join(root, 'archive')}`;
  const store = new Proxy(openObjectStore(url), {
    get: (target, name) => {
      if (isAway && name === 'readSwap')
        return () => Promise.reject(Object.assign(new Error(), { code: 'EIO' }));
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  for (const [stream, partitions] of [
    ['a', '0-2047'],
    ['b', '2048-4095'],
  ] as const) {
    const dir = join(root, stream);
    await Engine.init(dir, { archive: url, stream, partitions: PartitionSet.parse(partitions), clock });
    engines.push(await Engine.open({ dir, sealMs: 0, clock }));
    archivers.push(await Archiver.open(dir, { store, clock, observe: (event) => told.push(event) }));
  }
  await ship(0);
  await ship(1);
  watched = new WatchedTimeline([archivers[0]!], {
    maxLagMs: 10_000,
    onError: (error) => errors.push(error),
  });
});
after(async () => {
  watched.close();
  await Promise.all([...archivers, ...engines].map((closable) => closable.close()));
  rmSync(root, { recursive: true, force: true });
});

const ship = async (i: number): Promise<void> => {
  await engines[i]!.seal();
  await archivers[i]!.archivePending();
};
const problems = async (): Promise<string[]> =>
  (await watched.status(clock.nowMs())).verdict.problems.map((p) =>
    p.code === 'lag' ? `lag of ${p.stream}` : p.code,
  );

test('before the first look nothing is known, and that is a problem', async () => {
  assert.deepEqual(await problems(), ['archive-away']);
});

test('asking makes no request; own streams count as of now, those of others as of the look', async () => {
  clock.step(1);
  await watched.lookAgain();
  told.length = 0;
  assert.deepEqual(await problems(), []);
  clock.step(20_000);
  assert.deepEqual(await problems(), ['lag of a'], 'of the other nothing newer is known');
  await ship(0);
  const requests = told.length;
  const { figures } = await watched.status(clock.nowMs());
  assert.equal(figures.streams.find((s) => s.stream === 'a')!.frontierTs, clock.nowMs(), 'the own head');
  assert.deepEqual(await problems(), []);
  assert.equal(told.length, requests);
  clock.step(1);
  await watched.lookAgain();
  assert.deepEqual(await problems(), ['lag of b'], 'the look has seen it');
  await ship(1);
  clock.step(1);
  await watched.lookAgain();
  assert.deepEqual(await problems(), []);
});

test('a look that fails is a problem and an error; what was seen before stays', async () => {
  isAway = true;
  await watched.lookAgain();
  assert.deepEqual([errors.length, errors[0]!.id], [1, 'io']);
  const { verdict } = await watched.status(clock.nowMs());
  assert.deepEqual(
    verdict.problems.map((p) => p.code),
    ['archive-away'],
  );
  assert.deepEqual([verdict.archive.isReachable, verdict.green, verdict.ranges.length], [false, false, 1]);
  isAway = false;
  clock.step(1);
  await watched.lookAgain();
  assert.deepEqual(await problems(), []);
});

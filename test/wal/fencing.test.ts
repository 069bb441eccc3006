/**
 * Two agents of one stream, the first of which stops at any of its calls of the object store, sleeps for an hour, and wakes up when
 * another one has the stream. `PITR_FENCING=all` runs every interleaving; else a part of them, chosen evenly.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PitrError } from '../../engine/errors.ts';
import { Archive } from '../../wal/archive.ts';
import { LEASES_OBJECT } from '../../wal/lease.ts';
import { FencingJudge } from './fencing-judge.ts';
import { FencingWorld, HOUR_MS } from './fencing-world.ts';
import type { Call } from './memory-store.ts';
import { type Moment, ScheduledStore } from './scheduled-store.ts';

const ALL = process.env.PITR_FENCING === 'all';

/** Where the second agent works: in the same directory as from another host, on a copy, or on a copy while the first has a writer. */
const PLACES = ['same', 'copy', 'diverged'] as const;
type Place = (typeof PLACES)[number];

const idOf = (error: unknown): string | undefined =>
  error === undefined ? undefined : error instanceof PitrError ? error.id : String((error as Error).stack);

/** How an agent may end that has lost its stream: what it looked for may be deleted by then. */
const LOSES: readonly (string | undefined)[] = ['fenced', 'cas-conflict', 'object-not-found', 'log-rolled-back'];

/** Three runs in the archive and what an earlier merge replaced, under a lease of somebody who died; two files wait. */
const withRuns = async (): Promise<FencingWorld> => {
  const world = await FencingWorld.make('/a');
  for (const fanout of [9, 2, 9, 9]) {
    await world.write('/a', 1);
    const store = new ScheduledStore(world.objects);
    assert.equal(await world.agent('/a', 'before', store, { fanout, retireMs: HOUR_MS }), undefined);
  }
  const archive = await Archive.open(world.objects);
  const nowMs = world.clock.nowMs();
  const lease = { id: 'aa', purpose: 'restore', ttlMs: 120_000, beats: 1, begunMs: nowMs, renewedMs: nowMs };
  await archive.swapDocument('leases', LEASES_OBJECT, undefined, { archive: archive.id, leases: [lease] });
  await world.write('/a', 2);
  return world;
};

/** The same, and a merge of three parts of which a killed agent has finished one and written a second. */
const withNote = async (): Promise<FencingWorld> => {
  const world = await withRuns();
  let creates = 0;
  let killed = (): void => undefined;
  const dead = new Promise<void>((resolve) => {
    killed = resolve;
  });
  const store: ScheduledStore = new ScheduledStore(world.objects, (call, names) => {
    if (call !== 'create' || !/\/L[1-9]\//.test(names[0]) || ++creates < 2) return;
    void store.stopAt({ call: store.calls - 1, when: 'after' }).then(killed);
  });
  void world.agent('/a', 'killed', store, { retireMs: HOUR_MS });
  await dead;
  return world.copy();
};

interface Outcome {
  readonly judge: FencingJudge;
  readonly first: string | undefined;
  readonly second: string | undefined;
}

/**
 * The first agent stops at `moment`. The second one takes the stream: with `other` it stops there, the first goes on to its end, then
 * the second; without, the first goes on between two rounds of the second. Undefined: a moment that does not come.
 */
const interleave = async (
  from: FencingWorld,
  place: Place,
  moment: Moment,
  other: Moment | undefined,
  prepare: (first: ScheduledStore) => void = () => undefined,
): Promise<Outcome | undefined> => {
  const world = from.copy();
  const judge = new FencingJudge(world);
  const a = new ScheduledStore(world.objects, judge.watchOf('first'));
  const b = new ScheduledStore(world.objects, judge.watchOf('second'));
  prepare(a);
  const stopped = a.stopAt(moment);
  const first = world.agent('/a', 'first', a);
  if (await Promise.race([stopped.then(() => false), first.then(() => true)])) return undefined;
  world.clock.step(HOUR_MS);
  const dir = place === 'same' ? '/a' : '/b';
  if (place !== 'same') world.copyDir('/a', '/b');
  await world.write(dir, 2);
  if (place === 'diverged') await world.write('/a', 2);
  const wake = async (): Promise<void> => {
    a.go();
    await first;
  };
  let second: Promise<unknown>;
  if (other) {
    const held = b.stopAt(other);
    second = world.agent(dir, 'second', b);
    const isHeld = await Promise.race([held.then(() => true), second.then(() => false)]);
    await wake();
    if (!isHeld) return undefined;
    b.go();
  } else second = world.agent(dir, 'second', b, {}, wake);
  const outcome = { judge, first: idOf(await first), second: idOf(await second) };
  await judge.end();
  const owner = judge.owner === 'first' ? outcome.first : outcome.second;
  const loser = judge.owner === 'first' ? outcome.second : outcome.first;
  assert.equal(owner, undefined, 'who has the stream is not disturbed');
  assert.ok(loser === undefined || LOSES.includes(loser), loser);
  // whoever comes next completes it
  const owned = judge.owner === 'first' ? '/a' : dir;
  await world.write(owned, 1);
  const next = new ScheduledStore(world.objects, judge.watchOf('next'));
  assert.equal(idOf(await world.agent(owned, 'next', next)), undefined, 'the next agent');
  await judge.end();
  assert.equal(judge.head.frontier.lsn, world.acknowledged.get(owned)?.at(-1)?.lsn);
  assert.equal(judge.hasNote, false);
  return outcome;
};

const momentsOf = (from: number, to: number): Moment[] =>
  Array.from({ length: to - from }, (_, n) => from + n).map((call) => (['before', 'after'] as const).map((when) => ({ call, when }))).flat();

interface CallMade {
  readonly call: Call;
  readonly name: string;
}

/** The calls of an agent that nobody disturbs. */
const callsOf = async (world: FencingWorld): Promise<CallMade[]> => {
  const mine = world.copy();
  const calls: CallMade[] = [];
  const store = new ScheduledStore(mine.objects, (call, [name]) => void calls.push({ call, name }));
  assert.equal(await mine.agent('/a', 'first', store), undefined);
  return calls;
};

const what = (place: Place, { call, when }: Moment, other?: Moment): string =>
  `${place}, first stopped ${when} call ${call}${other ? `, second ${other.when} call ${other.call}` : ''}`;

const tried = async (name: string, work: Promise<Outcome | undefined>): Promise<Outcome | undefined> =>
  work.catch((error) => {
    throw new Error(`${name}: ${error.stack}`, { cause: error });
  });

describe('fencing: an agent that slept for an hour', () => {
  for (const [state, make] of [['runs', withRuns], ['an unfinished merge', withNote]] as const)
    test(`at any call, above ${state}`, async (t) => {
      const world = await make();
      const calls = (await callsOf(world)).length;
      const endings = new Map<string, number>();
      const failures: string[] = [];
      let late = 0;
      for (const [i, moment] of momentsOf(0, calls).entries())
        for (const place of ALL ? PLACES : [PLACES[i % 3]]) {
          const name = what(place, moment);
          const done = await tried(name, interleave(world, place, moment, undefined)).catch((e) => void failures.push(e.message));
          if (!done) continue;
          const ending = `${done.judge.owner} ${done.first} ${done.second}`;
          endings.set(ending, (endings.get(ending) ?? 0) + 1);
          late += done.judge.orphans().length > 0 ? 1 : 0;
        }
      t.diagnostic(`${calls} calls; ${late} with orphans; ${JSON.stringify([...endings])}`);
      t.diagnostic(failures.map((f) => f.split('\n').slice(0, 12).join('\n')).slice(0,6).join('\n\n'));
      t.diagnostic(`${failures.length} failures`);
      assert.equal(failures.length, 0);
    });

  for (const [state, make] of [['runs', withRuns], ['an unfinished merge', withNote]] as const)
  test(`while it gives up a merge, above ${state}`, async (t) => {
    const world = await make();
    const calls = await callsOf(world);
    const reads = calls.flatMap(({ call, name }, n) => (call === 'read' && /\/L[1-9]\//.test(name) ? [n] : []));
    const failures: string[] = [];
    let n = 0;
    for (const damaged of reads)
      for (const moment of momentsOf(damaged + 1, damaged + 16)) {
        const place = PLACES[n++ % 3];
        const name = `read ${damaged} damaged, ${what(place, moment)}`;
        await tried(name, interleave(world, place, moment, undefined, (a) => { a.damagedCall = damaged; })).catch((e) => void failures.push(e.message));
      }
    t.diagnostic(`${n} tries`);
      t.diagnostic(failures.map((f) => f.split('\n').slice(0, 6).join('\n')).slice(0,30).join('\n\n'));
      t.diagnostic(`${failures.length} failures`);
      assert.equal(failures.length, 0);
  });
});

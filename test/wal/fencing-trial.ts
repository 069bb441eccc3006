/** One interleaving of two agents, and what it must come to. */
import assert from 'node:assert/strict';
import { PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { Archive } from '../../wal/archive.ts';
import { LEASES_OBJECT } from '../../wal/lease.ts';
import { FencingJudge } from './fencing-judge.ts';
import { FencingWorld, HOUR_MS } from './fencing-world.ts';
import type { Call } from './memory-store.ts';
import { type Moment, ScheduledStore } from './scheduled-store.ts';

/** What goes wrong with the calls of the first agent. */
export interface Trouble {
  /** This read gets bytes that are damaged. */
  readonly damaged?: number;
  /** This call has its effect, and gets no answer. */
  readonly unanswered?: number;
  /** This call gets no answer, and arrives later; `down` more after it fail. */
  readonly lost?: number;
  readonly down?: number;
}

/** Where the second agent works: in the same directory as from another host, on a copy, or on a copy while the first has a writer. */
export const PLACES = ['same', 'copy', 'diverged'] as const;
export type Place = (typeof PLACES)[number];

const idOf = (error: unknown): string | undefined =>
  error === undefined ? undefined : error instanceof PitrError ? error.id : String((error as Error).stack);

/** How an agent may end that has lost its stream: what it looked for may be deleted by then. */
const LOSES: readonly (string | undefined)[] = [
  'fenced',
  'cas-conflict',
  'object-not-found',
  'log-rolled-back',
];
/** And one whose own calls went wrong before it noticed. */
const PASSING: readonly string[] = ['io', 'object-corrupt', 'object-exists'];

export const isOfMerge = (name: string): boolean => /\/L[1-9]\//.test(name);

/** Three runs in the archive and what an earlier merge replaced, under a lease of somebody who died; two files wait. */
export const withRuns = async (): Promise<FencingWorld> => {
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
export const withNote = async (): Promise<FencingWorld> => {
  const world = await withRuns();
  let creates = 0;
  let killed = (): void => undefined;
  const dead = new Promise<void>((resolve) => {
    killed = resolve;
  });
  const store: ScheduledStore = new ScheduledStore(world.objects, (call, [name], _, n) => {
    if (call !== 'create' || !isOfMerge(name) || ++creates < 2) return;
    void store.stopAt({ call: n, when: 'after' }).then(killed);
  });
  void world.agent('/a', 'killed', store, { retireMs: HOUR_MS });
  await dead;
  return world.copy();
};

export interface Trial extends Trouble {
  readonly place: Place;
  readonly moment: Moment;
  readonly other?: Moment;
  /** Broken ground below the first agent. */
  readonly lies?: (store: ObjectStore) => ObjectStore;
}

export interface Outcome {
  readonly first: string | undefined;
  readonly second: string | undefined;
  /** Objects are left that nobody names. */
  readonly isLitter: boolean;
}

/**
 * The first agent stops at `moment`. The second one takes the stream: with `other` it stops there, the first goes on to its end, then
 * the second; without, the first goes on between two rounds of the second. Undefined: a moment that does not come.
 */
export const interleave = async (
  from: FencingWorld,
  { place, moment, other, lies = (store) => store, ...trouble }: Trial,
): Promise<Outcome | undefined> => {
  const world = from.copy();
  const judge = new FencingJudge(world);
  const a = troubled(new ScheduledStore(lies(world.objects), judge.watchOf('first')), trouble);
  const b = new ScheduledStore(world.objects, judge.watchOf('second'));
  const stopped = a.stopAt(moment);
  const first = world.agent('/a', 'first', a);
  if (await Promise.race([stopped.then(() => false), first.then(() => true)])) return undefined;
  world.clock.step(HOUR_MS);
  const dir = place === 'same' ? '/a' : '/b';
  if (place !== 'same') world.copyDir('/a', '/b');
  await world.write(dir, 2);
  if (place === 'diverged') await world.write('/a', 2);
  // what was lost arrives before the second one begins, or when it has the stream
  if (moment.when === 'before') await a.deliver();
  let isAwake = false;
  const wake = async (): Promise<void> => {
    if (isAwake) return;
    isAwake = true;
    await a.deliver();
    a.go();
    await first;
  };
  // one that merges nothing but what it takes over: it is listed when the first one wakes up, and not merged once more
  const merging = a.isTroubled ? { fanout: 9 } : {};
  let second: Promise<unknown>;
  if (other) {
    const held = b.stopAt(other);
    second = world.agent(dir, 'second', b, merging);
    await Promise.race([held, second]);
    await wake();
    b.go();
  } else second = world.agent(dir, 'second', b, merging, wake);
  await second;
  // also when the second one has failed before it came to that
  await wake();
  // it does not know for certain what it has published or created
  const isLossy = trouble.lost !== undefined || trouble.unanswered !== undefined;
  const outcome = { first: idOf(await first), second: idOf(await second) };
  await judge.end(isLossy);
  const isLitter = judge.orphans().length > 0;
  const isFirst = judge.owner === 'first';
  const owner = isFirst ? outcome.first : outcome.second;
  const loser = isFirst ? outcome.second : outcome.first;
  assert.equal(owner, undefined, 'who has the stream is not disturbed');
  const isHurt = a.isTroubled && !isFirst;
  assert.ok(loser === undefined || LOSES.includes(loser) || (isHurt && PASSING.includes(loser)), loser);
  // whoever comes next completes it
  const owned = isFirst ? '/a' : dir;
  await world.write(owned, 1);
  const next = new ScheduledStore(world.objects, judge.watchOf('next'));
  assert.equal(idOf(await world.agent(owned, 'next', next)), undefined, 'the next agent');
  await judge.end(isLossy, true);
  assert.equal(judge.head.frontier.lsn, world.acknowledged.get(owned)?.at(-1)?.lsn);
  assert.equal(judge.hasNote, false);
  return { ...outcome, isLitter };
};

export const momentsOf = (from: number, to: number): Moment[] =>
  Array.from({ length: to - from }, (_, n) => from + n).flatMap((call) =>
    (['before', 'after'] as const).map((when) => ({ call, when })),
  );

export interface CallMade {
  readonly call: Call;
  readonly name: string;
}

const troubled = (
  store: ScheduledStore,
  { damaged, unanswered, lost, down = 0 }: Trouble,
): ScheduledStore => {
  store.damagedCall = damaged;
  store.unansweredCall = unanswered;
  store.lostCall = lost;
  store.downCalls = down;
  return store;
};

/** The calls of an agent that nobody stops. */
export const callsOf = async (world: FencingWorld, trouble: Trouble = {}): Promise<CallMade[]> => {
  const mine = world.copy();
  const calls: CallMade[] = [];
  const store: ScheduledStore = new ScheduledStore(mine.objects, (call, [name], _, n) => {
    calls[n] = { call, name };
  });
  await mine.agent('/a', 'first', troubled(store, trouble));
  return calls;
};

export const nameOf = (t: Trial): string =>
  [
    t.place,
    ...(t.damaged === undefined ? [] : [`first's read ${t.damaged} damaged`]),
    ...(t.unanswered === undefined ? [] : [`first's call ${t.unanswered} has no answer`]),
    ...(t.lost === undefined ? [] : [`first's call ${t.lost} arrives late, ${t.down} more fail`]),
    `first stopped ${t.moment.when} call ${t.moment.call}`,
    ...(t.other ? [`second ${t.other.when} call ${t.other.call}`] : []),
  ].join(', ');

/**
 * Two agents of one stream, the first of which stops at any of its calls of the object store, sleeps for an hour, and wakes up when
 * another one has the stream. `PITR_FENCING=1000` runs so many interleavings of each kind, chosen evenly, `PITR_FENCING=all` every one.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { PitrError } from '../../engine/errors.ts';
import { Archive } from '../../wal/archive.ts';
import { LEASES_OBJECT } from '../../wal/lease.ts';
import { FencingJudge } from './fencing-judge.ts';
import { FencingWorld, HOUR_MS } from './fencing-world.ts';
import { type Call, WRITING_CALLS } from './memory-store.ts';
import { type Moment, ScheduledStore } from './scheduled-store.ts';

const ALL = process.env.PITR_FENCING === 'all';
/** Trials of each test. */
const TRIALS = Number(process.env.PITR_FENCING ?? 18);

/** Where the second agent works: in the same directory as from another host, on a copy, or on a copy while the first has a writer. */
const PLACES = ['same', 'copy', 'diverged'] as const;
type Place = (typeof PLACES)[number];

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

const isOfMerge = (name: string): boolean => /\/L[1-9]\//.test(name);

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
  const store: ScheduledStore = new ScheduledStore(world.objects, (call, [name], _, n) => {
    if (call !== 'create' || !isOfMerge(name) || ++creates < 2) return;
    void store.stopAt({ call: n, when: 'after' }).then(killed);
  });
  void world.agent('/a', 'killed', store, { retireMs: HOUR_MS });
  await dead;
  return world.copy();
};

interface Outcome {
  readonly first: string | undefined;
  readonly second: string | undefined;
  /** Objects are left that nobody names. */
  readonly isLitter: boolean;
}

/**
 * The first agent stops at `moment`. The second one takes the stream: with `other` it stops there, the first goes on to its end, then
 * the second; without, the first goes on between two rounds of the second. Undefined: a moment that does not come.
 */
const interleave = async (
  from: FencingWorld,
  { place, moment, other, ...trouble }: Trial,
): Promise<Outcome | undefined> => {
  const world = from.copy();
  const judge = new FencingJudge(world);
  const a = troubled(new ScheduledStore(world.objects, judge.watchOf('first')), trouble);
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
  let second: Promise<unknown>;
  if (other) {
    const held = b.stopAt(other);
    second = world.agent(dir, 'second', b);
    await Promise.race([held, second]);
    await wake();
    b.go();
  } else second = world.agent(dir, 'second', b, {}, wake);
  await second;
  // also when the second one has failed before it came to that
  await wake();
  const outcome = { first: idOf(await first), second: idOf(await second) };
  await judge.end(trouble.lost !== undefined);
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
  await judge.end(trouble.lost !== undefined, true);
  assert.equal(judge.head.frontier.lsn, world.acknowledged.get(owned)?.at(-1)?.lsn);
  assert.equal(judge.hasNote, false);
  return { ...outcome, isLitter };
};

const momentsOf = (from: number, to: number): Moment[] =>
  Array.from({ length: to - from }, (_, n) => from + n).flatMap((call) =>
    (['before', 'after'] as const).map((when) => ({ call, when })),
  );

interface CallMade {
  readonly call: Call;
  readonly name: string;
}

/** What goes wrong with the calls of the first agent. */
interface Trouble {
  /** This read gets bytes that are damaged. */
  readonly damaged?: number;
  /** This call gets no answer, and arrives later; `down` more after it fail. */
  readonly lost?: number;
  readonly down?: number;
}

const troubled = (store: ScheduledStore, { damaged, lost, down = 0 }: Trouble): ScheduledStore => {
  store.damagedCall = damaged;
  store.lostCall = lost;
  store.downCalls = down;
  return store;
};

/** The calls of an agent that nobody stops. */
const callsOf = async (world: FencingWorld, trouble: Trouble = {}): Promise<CallMade[]> => {
  const mine = world.copy();
  const calls: CallMade[] = [];
  const store: ScheduledStore = new ScheduledStore(mine.objects, (call, [name], _, n) => {
    calls[n] = { call, name };
  });
  await mine.agent('/a', 'first', troubled(store, trouble));
  return calls;
};

/** The moments before each deletion that follows the trouble: what was proven is old by the time that it happens. */
const beforeDeletions = async (world: FencingWorld, trouble: Trouble, from: number) =>
  (await callsOf(world, trouble))
    .flatMap((made, call) => (made?.call === 'delete' && call > from ? [call] : []))
    .slice(0, ALL ? undefined : 1)
    .map((call) => ({ ...trouble, moment: { call, when: 'before' } as const }));

/** What is tried: all of it, or some `count`, evenly. */
const chosen = <T>(all: readonly T[], count: number): T[] =>
  ALL || all.length <= count
    ? [...all]
    : Array.from({ length: count }, (_, i) => all[Math.floor(((i + 0.5) * all.length) / count)]);

interface Trial extends Trouble {
  readonly place: Place;
  readonly moment: Moment;
  readonly other?: Moment;
}

const nameOf = (t: Trial): string =>
  [
    t.place,
    ...(t.damaged === undefined ? [] : [`first's read ${t.damaged} damaged`]),
    ...(t.lost === undefined ? [] : [`first's call ${t.lost} arrives late, ${t.down} more fail`]),
    `first stopped ${t.moment.when} call ${t.moment.call}`,
    ...(t.other ? [`second ${t.other.when} call ${t.other.call}`] : []),
  ].join(', ');

/** Runs trials one after the other and says how they ended. */
const tryAll = async (
  t: TestContext,
  world: FencingWorld,
  trials: readonly Trial[],
): Promise<Map<string, number>> => {
  const endings = new Map<string, number>();
  const count = (what: string): void => void endings.set(what, (endings.get(what) ?? 0) + 1);
  for (const trial of trials) {
    const done = await interleave(world, trial).catch((error) => {
      throw new Error(`${nameOf(trial)}: ${error.stack}`, { cause: error });
    });
    count(
      done ? `first ${done.first ?? 'goes on'}, second ${done.second ?? 'goes on'}` : 'does not come to that',
    );
    if (done?.isLitter) count('with orphans');
  }
  t.diagnostic(`${trials.length} trials: ${JSON.stringify(Object.fromEntries(endings))}`);
  return endings;
};

/** Every place in turn. */
const placed = (trials: readonly Omit<Trial, 'place'>[]): Trial[] =>
  trials.flatMap((trial, i) =>
    ALL ? PLACES.map((place) => ({ ...trial, place })) : [{ ...trial, place: PLACES[i % PLACES.length] }],
  );

const STATES = [
  ['runs', withRuns],
  ['an unfinished merge', withNote],
] as const;

describe('fencing: an agent that slept for an hour', () => {
  for (const [state, make] of STATES) {
    test(`at any of its calls, above ${state}`, async (t) => {
      const world = await make();
      const calls = await callsOf(world);
      const moments = momentsOf(0, calls.length).map((moment) => ({ moment }));
      const endings = await tryAll(t, world, placed(chosen(moments, TRIALS * 1.5)));
      for (const how of ['first fenced, second goes on', 'first goes on, second fenced', 'with orphans'])
        assert.ok(endings.has(how), how);
    });

    test(`at any of its calls, while another sleeps as well, above ${state}`, async (t) => {
      const world = await make();
      const calls = await callsOf(world);
      const all = momentsOf(0, calls.length);
      const isOfNote = ({ call }: Moment): boolean => calls[call].name.startsWith('merges/');
      const pairsOf = (firsts: readonly Moment[], seconds: readonly Moment[]) =>
        firsts.flatMap((moment) => seconds.map((other) => ({ moment, other })));
      // both have the note of a merge in their hands
      const notes = chosen(pairsOf(all.filter(isOfNote), all.filter(isOfNote)), TRIALS / 2);
      await tryAll(t, world, placed([...notes, ...chosen(pairsOf(all, all), TRIALS / 2)]));
    });

    test(`while it gives up a merge of which a part came back damaged, above ${state}`, async (t) => {
      const world = await make();
      const calls = await callsOf(world);
      const reads = calls.flatMap(({ call, name }, n) => (call === 'read' && isOfMerge(name) ? [n] : []));
      // of what it has just written
      const isReadBack = (n: number): boolean =>
        calls.slice(0, n).some(({ call, name }) => call === 'create' && name === calls[n].name);
      const trials: Omit<Trial, 'place'>[] = [];
      for (const damaged of reads.filter((n, i) => ALL || isReadBack(n) || i % 4 === 0))
        trials.push(...(await beforeDeletions(world, { damaged }, damaged)));
      const others = reads.flatMap((damaged) =>
        momentsOf(damaged + 1, damaged + 9).map((moment) => ({ damaged, moment })),
      );
      trials.push(...chosen(others, TRIALS / 3));
      await tryAll(t, world, placed(trials));
    });

    test(`after a call of its own got lost and arrives meanwhile, above ${state}`, async (t) => {
      const world = await make();
      const calls = await callsOf(world);
      const writing = calls.flatMap(({ call }, n) => (WRITING_CALLS.has(call) ? [n] : []));
      const swapsOf = (what: string): number[] =>
        writing.filter((n) => calls[n].call === 'swap' && calls[n].name.startsWith(what));
      const trials: Omit<Trial, 'place'>[] = [];
      for (const lost of [...swapsOf('heads/'), ...chosen(swapsOf('merges/'), TRIALS / 3)])
        trials.push(...(await beforeDeletions(world, { lost, down: 3 }, lost + 3)));
      for (const lost of chosen(writing, TRIALS / 3))
        for (const down of ALL ? [0, 1, 2, 3] : [lost % 4])
          for (const moment of chosen(momentsOf(lost + down + 1, lost + down + 9), TRIALS / 18))
            trials.push({ lost, down, moment });
      await tryAll(t, world, placed(trials));
    });
  }
});

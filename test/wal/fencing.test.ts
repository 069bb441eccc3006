/**
 * Two agents of one stream, the first of which stops at any of its calls of the object store, sleeps for an hour, and wakes up when
 * another one has the stream. `PITR_FENCING=1000` runs so many interleavings of each kind, chosen evenly, `PITR_FENCING=all` every one.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import {
  callsOf,
  interleave,
  isOfMerge,
  momentsOf,
  nameOf,
  PLACES,
  type Trial,
  type Trouble,
  withNote,
  withRuns,
} from './fencing-trial.ts';
import type { FencingWorld } from './fencing-world.ts';
import { WRITING_CALLS } from './memory-store.ts';
import type { Moment } from './scheduled-store.ts';

const ALL = process.env.PITR_FENCING === 'all';
/** Trials of each test. */
const TRIALS = Number(process.env.PITR_FENCING ?? 14);

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
      const moments = momentsOf(0, calls.length);
      // what is created late nobody names
      const creates = moments.filter(({ call, when }) => calls[call].call === 'create' && when === 'before');
      const trials = [...creates, ...chosen(moments, TRIALS)].map((moment) => ({ moment }));
      // the first one claims the stream after all
      const late: Trial = { place: 'same', moment: { call: 1, when: 'after' } };
      const endings = await tryAll(t, world, [late, ...placed(trials)]);
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
      const answers = [...swapsOf('heads/'), ...swapsOf('merges/')].flatMap((unanswered) =>
        momentsOf(unanswered + 1, unanswered + 3).map((moment) => ({ unanswered, moment })),
      );
      const heads = swapsOf('heads/').flatMap((lost) =>
        momentsOf(lost + 1, lost + 6).map((moment) => ({ lost, down: 0, moment })),
      );
      trials.push(...chosen(answers, TRIALS / 2), ...chosen(heads, TRIALS / 2));
      for (const lost of chosen(writing, TRIALS / 3))
        for (const down of ALL ? [0, 1, 2, 3] : [lost % 4])
          for (const moment of chosen(momentsOf(lost + down + 1, lost + down + 9), TRIALS / 14))
            trials.push({ lost, down, moment });
      await tryAll(t, world, placed(trials));
    });
  }
});

/** S7 against its definition, on histories as a capture writes them: found late, out of order, in windows. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { MISSED_UNKNOWN } from '../../engine/commit-log.ts';
import { isPitrError } from '../../engine/errors.ts';
import { readWithDoubts } from '../../restore/read-at.ts';
import {
  planRestore,
  type RestoreOptions,
  type RestoreReport,
  restoreEngine,
  restoreJsonLines,
} from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { covers, type Found, FoundHistory, idOf, newestAt, SECOND, storedAt, T0 } from './found-history.ts';

const KEYS = ['a0', 'a1', 'b0', 'b1'] as const;
const setOf = (key: string): string => (key.startsWith('a') ? 's' : '');

type Step =
  | {
      readonly kind: 'find';
      readonly key: string;
      readonly isDelete: boolean;
      /** LUT after the frontier. */
      readonly lut: number;
      /** The window begins so much before the LUT, and ends so much after it. */
      readonly before: number;
      readonly after: number;
      readonly missed: number;
      /** What was missed came after so many ms before the LUT; 0: nobody knows. */
      readonly missedSince: number;
      readonly voidTime: number;
    }
  | {
      readonly kind: 'truncate';
      readonly set: string | null;
      readonly ahead: number;
      readonly cutoff: number;
      readonly window: { readonly before: number; readonly ms: number } | undefined;
    }
  | { readonly kind: 'define'; readonly name: string; readonly body: string | null; readonly ahead: number }
  | { readonly kind: 'state' | 'seal' | 'ship'; readonly ms: number }
  | { readonly kind: 'compact' | 'snapshot' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('find' as const),
      key: fc.constantFrom(...KEYS),
      isDelete: fc.boolean(),
      lut: fc.integer({ min: -6, max: 8 }),
      before: fc.constantFrom(0, 0, 0, 1, 2, 5),
      after: fc.constantFrom(0, 0, 0, 1, 4),
      missed: fc.constantFrom(0, 0, 0, 0, 1, 7, MISSED_UNKNOWN),
      missedSince: fc.constantFrom(0, 1, 2, 4, 9),
      voidTime: fc.constantFrom(0, 0, SECOND - 1, SECOND),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('truncate' as const),
      set: fc.constantFrom('s', '', null),
      ahead: fc.integer({ min: 1, max: 6 }),
      cutoff: fc.integer({ min: -6, max: 6 }),
      window: fc.option(
        fc.record({ before: fc.integer({ min: 0, max: 5 }), ms: fc.integer({ min: 0, max: 9 }) }),
        { nil: undefined },
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('define' as const),
      name: fc.constantFrom('x', 'y'),
      body: fc.constantFrom('one', 'two', null),
      ahead: fc.integer({ min: 1, max: 6 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('state' as const, 'seal' as const, 'ship' as const),
      ms: fc.integer({ min: 0, max: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('compact' as const, 'snapshot' as const) }) },
);

const act = async (history: FoundHistory, it: Step): Promise<void> => {
  const { frontier } = history;
  switch (it.kind) {
    case 'find': {
      const lutMs = frontier + it.lut;
      const [windowStartMs, windowEndMs] = [lutMs - it.before, lutMs + it.after];
      history.find({
        key: it.key,
        set: setOf(it.key),
        value: it.isDelete ? undefined : history.lsn,
        voidTime: it.isDelete ? 0 : it.voidTime,
        seen: {
          lutMs,
          windowStartMs,
          windowEndMs,
          missed: it.missed,
          missedAfterMs: it.missed === 0 || it.missedSince === 0 ? 0 : lutMs - it.missedSince,
        },
      });
      return;
    }
    case 'truncate': {
      const ts = frontier + it.ahead;
      const windowStartMs = ts - (it.window?.before ?? 0);
      const window = it.window && { windowStartMs, windowEndMs: windowStartMs + it.window.ms };
      history.truncate({ ts, set: it.set, cutoffLut: frontier + it.cutoff, ...window });
      return;
    }
    case 'define':
      history.define(it.name, it.body === null ? null : Buffer.from(it.body), frontier + it.ahead);
      return;
    case 'state':
      return history.state(frontier + it.ms);
    case 'seal':
      return history.seal(frontier + it.ms);
    case 'ship':
      await history.seal(frontier + it.ms);
      return history.ship();
    case 'compact':
      await history.archiver.compact({ full: true });
      return;
    case 'snapshot':
      if (history.archivedTs >= T0) await createSnapshot(history.archive, { kind: 'synthetic', workers: 0 });
      return;
    default:
      it satisfies never;
  }
};

/** S7 as it is written down: of each record why it is inexact at T. */
const inexactAt = ({ found, truncations }: FoundHistory, ts: number): Record<string, string[]> => {
  const inexact: Record<string, string[]> = {};
  const contains = (v: Found | undefined): boolean =>
    v !== undefined && v.seen.windowStartMs < ts && ts <= v.seen.windowEndMs;
  for (const key of KEYS) {
    const next = found
      .filter((v) => v.key === key && v.ts > ts)
      .sort((a, b) => a.ts - b.ts || a.lsn - b.lsn)
      .at(0);
    const chosen = newestAt(found, key, ts);
    const reasons = new Set<string>();
    // what was missed came in (after, LUT]: at T one of them may have been there if T is above it
    if (next && next.seen.missed > 0 && ts > next.seen.missedAfterMs) reasons.add('missed');
    if (contains(next) || contains(chosen)) reasons.add('window');
    // found late: the source had it by then
    if (next && next.seen.lutMs <= ts) reasons.add('window');
    if (chosen?.value !== undefined)
      for (const e of truncations) {
        if (e.windowStartMs === undefined || e.windowEndMs === undefined || !covers(e, chosen)) continue;
        const isInWindow = e.windowStartMs < ts && ts <= e.windowEndMs;
        const isOver = e.windowEndMs < ts && ts < e.ts;
        if (isInWindow || isOver) reasons.add('window');
      }
    if (reasons.size > 0) inexact[key] = [...reasons].sort();
  }
  return inexact;
};

interface Restored {
  readonly values: Record<string, number>;
  readonly inexact: Record<string, string[]>;
  readonly report: RestoreReport;
}

const linesIn = <T>(chunks: readonly Buffer[]): T[] =>
  Buffer.concat(chunks)
    .toString('utf8')
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));

const restored = async (
  { archive }: FoundHistory,
  ts: number,
  options: Partial<RestoreOptions> = {},
): Promise<Restored> => {
  const records: Buffer[] = [];
  const doubts: Buffer[] = [];
  const into = (list: Buffer[]) => async (chunk: Buffer) => {
    list.push(Buffer.from(chunk));
  };
  const report = await restoreJsonLines(into(records), {
    archive,
    target: String(ts),
    workers: 0,
    ttl: 'absolute',
    onInexact: into(doubts),
    ...options,
  });
  const keyOfDigest = new Map(KEYS.map((k) => [idOf(k, setOf(k)).digest.toString('hex'), k]));
  const values: Record<string, number> = {};
  for (const line of linesIn<{ key: string; bins: { n: number } }>(records)) values[line.key] = line.bins.n;
  const inexact: Record<string, string[]> = {};
  for (const line of linesIn<{ digest: string; key?: string; reasons: object[] }>(doubts)) {
    const key = keyOfDigest.get(line.digest) as string;
    assert.ok(line.key === undefined || line.key === key);
    const reasons = line.reasons.flatMap((r) => [
      ...('missed' in r ? ['missed'] : []),
      ...('window' in r ? ['window'] : []),
    ]);
    inexact[key] = [...new Set(reasons)].sort();
  }
  return { values, inexact, report };
};

const compare = async (history: FoundHistory, ts: number): Promise<void> => {
  const { found, truncations, definitions, archive } = history;
  const at = `at T0 + ${ts - T0}`;
  const { values, inexact, report } = await restored(history, ts);
  const expected: Record<string, number> = {};
  for (const [key, v] of storedAt(found, truncations, ts))
    if (v.voidTime === 0 || v.voidTime >= Math.floor(ts / 1000)) expected[key] = v.value as number;
  assert.deepEqual(values, expected, at);
  const doubts = inexactAt(history, ts);
  assert.deepEqual(inexact, doubts, at);
  const having = (reason: string): number => Object.values(doubts).filter((r) => r.includes(reason)).length;
  const counts = { records: Object.keys(doubts).length, missed: having('missed'), windows: having('window') };
  assert.deepEqual(report.inexact, counts, at);
  const { plan } = await planRestore({ archive, target: String(ts) });
  const inForce = new Map(
    definitions
      .filter((d) => d.ts <= ts)
      .sort((a, b) => a.ts - b.ts || a.lsn - b.lsn)
      .map((d) => [d.name, d.body?.toString()]),
  );
  for (const [name, body] of inForce) if (body === undefined) inForce.delete(name);
  assert.deepEqual(
    new Map(plan.state.definitions.map((d) => [d.name, Buffer.from(d.body as Uint8Array).toString()])),
    inForce,
    at,
  );
};

const RUNS = Number(process.env.PITR_EXACT_RUNS ?? 40);

describe('S7: exact or said', () => {
  test('S7: at every instant of a history that was found, restore gives the state, and says of each record whether it is certain', async (t) => {
    let checked = 0;
    let inexact = 0;
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
        const history = await FoundHistory.open();
        try {
          for (const it of steps) await act(history, it);
          await history.seal(history.frontier + 1);
          await history.ship();
          for (let ts = T0; ts <= history.archivedTs; ts++) {
            await compare(history, ts);
            checked++;
            if (Object.keys(inexactAt(history, ts)).length > 0) inexact++;
          }
          const { report } = await restored(history, history.archivedTs);
          if (report.verification.source === 'equal') compared++;
          const { anomalies, states } = await verifyArchive(history.archive, { workers: 0 });
          assert.deepEqual([anomalies, states.map((s) => s.result)], [[], ['equal']]);
          for (const { lsn, ts } of history.found) {
            const target = planRestore({ archive: history.archive, target: `lsn:main/${lsn}` });
            if (ts > history.archivedTs) await assert.rejects(target, (e) => isPitrError(e, 'target-future'));
            else assert.equal((await target).plan.target.ts, ts);
          }
        } finally {
          await history.close();
        }
      }),
      { numRuns: RUNS },
    );
    t.diagnostic(
      `${checked} instants, ${inexact} with inexact records; ${compared} of ${RUNS} compared with the source`,
    );
    assert.ok(inexact > 0 && compared > 0);
  });

  /** `a` is written at T0 + 1, then nobody looked until T0 + 9, when it had been written three times more; `b` was found to be gone. */
  const small = async (body: (history: FoundHistory) => Promise<void>): Promise<void> => {
    const history = await FoundHistory.open();
    const exact = (lutMs: number) => ({
      lutMs,
      windowStartMs: lutMs,
      windowEndMs: lutMs,
      missed: 0,
      missedAfterMs: 0,
    });
    try {
      history.find({ key: 'a0', set: 's', value: 1, voidTime: 0, seen: exact(T0 + 1) });
      history.find({ key: 'b0', set: '', value: 2, voidTime: 0, seen: exact(T0 + 2) });
      await history.seal(T0 + 4);
      history.find({ key: 'a0', set: 's', value: 3, voidTime: 0, seen: { ...exact(T0 + 9), missed: 2 } });
      const gone = { ...exact(T0 + 8), windowStartMs: T0 + 5 };
      history.find({ key: 'b0', set: '', value: undefined, voidTime: 0, seen: gone });
      await history.seal(T0 + 10);
      await history.ship();
      await body(history);
    } finally {
      await history.close();
    }
  };

  test('S7: a strict restore of an instant that is not certain is refused, and makes no engine and no line', async () => {
    await small(async (history) => {
      const { archive, dir, clock } = history;
      const lines: Buffer[] = [];
      const strict = { strict: true, archive, workers: 0, clock } as const;
      const isRefused = (e: unknown) =>
        isPitrError(e, 'inexact') &&
        isDeepStrictEqual([e.facts.records, e.facts.missed, e.facts.windows], [2, 1, 1]);
      const target = String(T0 + 7);
      await assert.rejects(
        restoreJsonLines(async (chunk) => void lines.push(chunk), { ...strict, target }),
        isRefused,
      );
      assert.equal(lines.length, 0);
      const into = join(dir, 'restored');
      await assert.rejects(restoreEngine(into, 'r', { ...strict, target }), isRefused);
      assert.ok(!(await fs.readdir(into)).includes('engine.json'));
      // the same restore, by who takes what there is, goes on with what was merged
      const report = await restoreEngine(into, 'r', { ...strict, target, strict: false });
      assert.deepEqual(report.inexact, { records: 2, missed: 1, windows: 1 });
      assert.ok(report.resumed);
      // only what is selected counts, and at T0 + 10 there is nothing that is not certain
      const selection = { sets: ['u'] };
      await restoreJsonLines(async () => undefined, { ...strict, target, selection });
      const latest = await restoreEngine(join(dir, 'latest'), 'r', { ...strict, target: 'latest' });
      assert.deepEqual(latest.inexact, { records: 0, missed: 0, windows: 0 });
    });
  });

  test('S7: one record is read with what is not certain of it', async () => {
    await small(async ({ archive }) => {
      const view = await ArchiveView.read(archive);
      const at = async (key: string, ts: number) => {
        const { record, inexact } = await readWithDoubts(
          view,
          { namespace: 'test', set: setOf(key), key },
          ts,
        );
        return [record?.bins.n, inexact?.reasons];
      };
      const iso = (ts: number): string => new Date(ts).toISOString();
      const missed = [{ by: 'next', at: iso(T0 + 9), missed: 2 }];
      const window = { after: iso(T0 + 5), until: iso(T0 + 8) };
      assert.deepEqual(await at('a0', T0 + 1), [1, missed]);
      assert.deepEqual(await at('a0', T0 + 8), [1, missed]);
      assert.deepEqual(await at('a0', T0 + 9), [3, undefined]);
      assert.deepEqual(await at('b0', T0 + 5), [2, undefined]);
      assert.deepEqual(await at('b0', T0 + 6), [2, [{ by: 'next', at: iso(T0 + 8), window }]]);
      assert.deepEqual(await at('b0', T0 + 8), [undefined, [{ by: 'chosen', at: iso(T0 + 8), window }]]);
      assert.deepEqual(await at('b0', T0 + 9), [undefined, undefined]);
    });
  });

  test('X4: the time before what was missed is exact, and a restore to it reads nothing of what came later', async () => {
    await small(async (history) => {
      const { archive } = history;
      for (const [lutMs, missedAfterMs] of [
        [T0 + 20, T0 + 14],
        [T0 + 30, T0 + 24],
      ]) {
        const seen = { lutMs, windowStartMs: lutMs, windowEndMs: lutMs, missed: 3, missedAfterMs };
        history.find({ key: 'a0', set: 's', value: lutMs - T0, voidTime: 0, seen });
        history.find({ key: 'a1', set: 's', value: lutMs - T0, voidTime: 0, seen });
        await history.seal(lutMs + 1);
        await history.ship();
      }
      const refs = history.archiver.head.runs.flatMap((r) => r.segments);
      assert.deepEqual(
        refs.map((r) => r.inexact),
        [
          { count: 2, fromTs: 0 },
          { count: 2, fromTs: T0 + 15 },
          { count: 2, fromTs: T0 + 25 },
        ],
      );
      for (let ts = T0; ts <= history.archivedTs; ts++) await compare(history, ts);
      const runsOf = async (ts: number): Promise<number> =>
        (await planRestore({ archive, target: String(ts) })).plan.state.runs.length;
      assert.deepEqual(await Promise.all([14, 15, 24, 25, 30].map((ms) => runsOf(T0 + ms))), [1, 2, 2, 3, 3]);
    });
  });

  test('S7: a synthetic snapshot keeps what is absent at its end and not certain to be so later', async () => {
    await small(async (history) => {
      const exact = (lutMs: number) => ({
        lutMs,
        windowStartMs: lutMs,
        windowEndMs: lutMs,
        missed: 0,
        missedAfterMs: 0,
      });
      const open = (lutMs: number, windowEndMs: number) => ({ ...exact(lutMs), windowEndMs });
      const gone = { value: undefined, voidTime: 0 };
      history.find({ key: 'a1', set: 's', value: 4, voidTime: 0, seen: exact(T0 + 11) });
      history.find({ key: 'b1', set: '', ...gone, seen: open(T0 + 12, T0 + 20) });
      history.find({ key: 'b0', set: '', ...gone, seen: open(T0 + 12, T0 + 14) });
      const window = { windowStartMs: T0 + 12, windowEndMs: T0 + 17 };
      history.truncate({ ts: T0 + 13, set: 's', cutoffLut: T0 + 12, ...window });
      // and definitions that are in force there
      history.define('x', Buffer.from([0, 255, 10]), T0 + 13);
      history.define('y', Buffer.from('two'), T0 + 12);
      history.define('y', null, T0 + 14);
      await history.seal(T0 + 14);
      await history.ship();
      await createSnapshot(history.archive, { kind: 'synthetic', workers: 0 });
      await history.seal(T0 + 25);
      await history.ship();
      const keys = async (ts: number): Promise<string[]> => {
        await compare(history, ts);
        return Object.keys((await restored(history, ts)).inexact);
      };
      assert.deepEqual((await keys(T0 + 14)).sort(), ['a0', 'a1', 'b0', 'b1']);
      assert.deepEqual((await keys(T0 + 17)).sort(), ['a0', 'a1', 'b1']);
      assert.deepEqual(await keys(T0 + 20), ['b1']);
      assert.deepEqual(await keys(T0 + 21), []);
      const { plan } = await planRestore({ archive: history.archive, target: String(T0 + 21) });
      assert.equal(plan.state.base?.endTs, T0 + 14);
      assert.deepEqual(
        plan.state.definitions.map((d) => [d.name, d.body]),
        [['x', Buffer.from([0, 255, 10])]],
      );
    });
  });

  test('S7: what is restored goes on as a history of its own, of which all is certain', async () => {
    await small(async (history) => {
      const { archive, dir, clock, url } = history;
      const seen = {
        lutMs: T0 + 12,
        windowStartMs: T0 + 11,
        windowEndMs: T0 + 1000,
        missed: 0,
        missedAfterMs: 0,
      };
      history.find({ key: 'a0', set: 's', value: 5, voidTime: 0, seen });
      await history.seal(T0 + 30);
      await history.ship();
      const forkTs = T0 + 20;
      const into = join(dir, 'restored');
      await restoreEngine(into, 'r', { archive, workers: 0, clock, target: String(forkTs) });
      clock.step(100);
      const engine = await Engine.open({ dir: into, sealMs: 0, clock });
      const archiver = await Archiver.open(into, { clock });
      try {
        const { ts } = await engine.put({ namespace: 'test', set: 's', key: 'a1' }, { n: 100 });
        await engine.seal();
        await archiver.archivePending();
        await createSnapshot(archive, { kind: 'synthetic', workers: 0, timeline: engine.identity.timeline });
        clock.step(10);
        await engine.seal();
        await archiver.archivePending();
        const branch = { archive: url, workers: 0, clock, timeline: engine.identity.timeline };
        const inexact = async (target: number) =>
          (await restoreJsonLines(async () => undefined, { ...branch, target: String(target) })).inexact
            .records;
        // of the parent a window reaches over all of these instants
        assert.deepEqual([await inexact(forkTs + 1), await inexact(ts), await inexact(ts + 10)], [0, 0, 0]);
        // up to the fork the history is the parent's
        assert.deepEqual([await inexact(forkTs - 1), await inexact(forkTs)], [1, 1]);
      } finally {
        await engine.close();
        await archiver.close();
      }
    });
  });

  test('A13, F1: what a log has from before a frontier that it stated is not archived', async () => {
    const seen = {
      lutMs: T0 + 19,
      windowStartMs: T0 + 19,
      windowEndMs: T0 + 19,
      missed: 0,
      missedAfterMs: 0,
    };
    const late: ((history: FoundHistory) => void)[] = [
      (history) => void history.find({ key: 'a1', set: 's', value: 1, voidTime: 0, seen }),
      (history) => history.define('x', null, T0 + 20),
    ];
    for (const log of late)
      await small(async (history) => {
        await history.state(T0 + 20);
        history.frontier = T0;
        log(history);
        await history.seal(T0 + 30);
        await assert.rejects(history.ship(), (e) => isPitrError(e, 'log-corrupt') && /F1/.test(e.message));
        assert.equal(history.archiver.head.frontier.ts, T0 + 10);
      });
  });

  test('A8: a file whose newest version, but not its oldest, is behind the archived frontier is not archived', async () => {
    await small(async (history) => {
      // as a capture would that was put back to an earlier state: LSN and file go on, time does not
      history.frontier = T0 + 4;
      const seen = (lutMs: number) => ({
        lutMs,
        windowStartMs: lutMs,
        windowEndMs: lutMs,
        missed: 0,
        missedAfterMs: 0,
      });
      history.find({ key: 'a1', set: 's', value: 1, voidTime: 0, seen: seen(T0 + 30) });
      history.find({ key: 'b1', set: '', value: 1, voidTime: 0, seen: seen(T0 + 6) });
      await history.seal(T0 + 40);
      await assert.rejects(history.ship(), (e) => isPitrError(e, 'log-rolled-back'));
    });
  });
});

/** What `pitr chain --cost` says, against what a store was really asked. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { costOf, modelPerSeal } from '../../cli/cost.ts';
import { renderCost } from '../../cli/render/cost.ts';
import { ManualClock } from '../../engine/clock.ts';
import { type RequestCounts, RequestTally } from '../../engine/request-tally.ts';
import { inspectChain } from '../../snapshot/chain.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { AskedCounter, recentlyAsked } from '../../wal/asked.ts';
import type { Head } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import { headOf, initEngine, inScratch, keyOf, openEngine, putSealed } from '../wal/archiver-support.ts';
import { type Call, MemoryStore } from '../wal/memory-store.ts';
import { assertNarrow } from './run-pitr.ts';

const DAY_MS = 86_400_000;
const PRICES = { put: 0.005, get: 0.0004, gb: 0.023 };

/** What a store was asked since its calls were forgotten last, as it is billed. */
const billed = (store: MemoryStore): Pick<RequestCounts, 'puts' | 'gets' | 'deletes'> => {
  const sum = (...calls: Call[]): number => calls.reduce((n, call) => n + store.countOf(call), 0);
  return {
    puts: sum('create', 'swap', 'list'),
    gets: sum('read', 'readSwap', 'size'),
    deletes: sum('delete'),
  };
};

const askedIn = ({ asked }: Head): Pick<RequestCounts, 'puts' | 'gets' | 'deletes'> => {
  assert.ok(asked);
  return { puts: asked.puts, gets: asked.gets, deletes: asked.deletes };
};

describe('requests', () => {
  inScratch(
    'are counted as the store saw them, over several agents; the swap that publishes is not among them yet',
    async (dir) => {
      const store = new MemoryStore();
      await initEngine(dir, store);
      store.calls.length = 0;
      let bytes = 0;
      for (const name of ['create', 'swap'] as const) {
        const call = store[name].bind(store) as (...args: unknown[]) => Promise<never>;
        store[name] = (...args: unknown[]) => {
          bytes += (args.at(-1) as Buffer).length;
          return call(...args);
        };
      }
      for (let agent = 0; agent < 3; agent++) {
        const engine = await openEngine(dir);
        const archiver = await Archiver.open(dir, { store, fanout: 3, retireMs: 0 });
        let failing = agent === 1;
        store.hook = (call, _, when) => {
          if (call !== 'create' || when !== 'before' || !failing) return;
          failing = false;
          throw new Error('a try that fails is billed, too');
        };
        for (let n = 0; n < 5; n++) {
          await putSealed(engine, n, n);
          await archiver.archivePending().catch(() => undefined);
          await archiver.compact();
        }
        await putSealed(engine, 9, 9);
        await archiver.archivePending();
        const { calls } = store;
        assert.equal(calls.at(-1)?.call, 'swap');
        const { puts, ...others } = billed(store);
        const head = await headOf(store, dir);
        // the look at it just now is not the agent's
        calls.length -= 2;
        assert.deepEqual(askedIn(head), { puts: puts - 1, ...others });
        assert.ok(head.asked && head.asked.sentBytes < bytes && head.asked.sentBytes > bytes / 2);
        await engine.close();
        await archiver.close();
      }
    },
  );

  inScratch('of merges on a thread count as those of merges beside it', async (dir) => {
    const origin = join(dir, 'origin');
    const url = `file:${join(origin, 'archive')}`;
    await Engine.init(join(origin, 'e'), { archive: url });
    const engine = await openEngine(join(origin, 'e'));
    const filler = await Archiver.open(join(origin, 'e'));
    for (let n = 1; n <= 4; n++) {
      await putSealed(engine, n, n);
      await filler.archivePending();
    }
    await engine.close();
    await filler.close();
    const asked: unknown[] = [];
    for (const threadBytes of [0, Number.POSITIVE_INFINITY]) {
      const at = join(dir, `${threadBytes}`);
      await cp(join(origin, 'archive'), join(at, 'archive'), { recursive: true });
      const archiver = await Archiver.open(join(origin, 'e'), {
        url: `file:${join(at, 'archive')}`,
        fanout: 4,
        threadBytes,
        retireMs: 0,
      });
      assert.equal(await archiver.compact(), 1);
      await archiver.close();
      asked.push(askedIn(archiver.head));
    }
    // a thread opens the archive for itself
    const [onThread, beside] = asked as RequestCounts[];
    assert.deepEqual(onThread, { ...beside, gets: beside.gets + 1 });
  });

  test('a day is what was asked in the last 12 to 24 hours', () => {
    const tally = new RequestTally();
    let nowMs = 1_800_000_000_000;
    const counter = new AskedCounter(undefined, tally, nowMs);
    // a day with a seal every hour, then one with a seal every six minutes
    for (let n = 0; n < 24 + 240; n++) {
      nowMs += n < 24 ? 3_600_000 : 360_000;
      tally.add({ puts: 2 });
      const asked = counter.at(nowMs);
      assert.ok(asked.earlier.length <= 2);
      const { counts, ms } = recentlyAsked(asked, nowMs);
      assert.ok(ms <= DAY_MS && (n < 12 || ms >= DAY_MS / 2), `${ms} after seal ${n}`);
      const seals = (counts.puts / 2) * (DAY_MS / ms);
      if (n === 23) assert.ok(seals > 21 && seals < 26, `${seals} a day`);
      if (n === 263) assert.ok(seals > 236 && seals < 242, `${seals} a day`);
    }
  });
});

describe('cost', () => {
  inScratch('the model of an interval is what an agent does', async (dir) => {
    const store = new MemoryStore();
    await initEngine(dir, store);
    const engine = await openEngine(dir);
    const fanout = 4;
    const archiver = await Archiver.open(dir, { store, fanout, retireMs: 0 });
    store.calls.length = 0;
    const seals = fanout ** 3;
    for (let n = 1; n <= seals; n++) {
      await putSealed(engine, n, n);
      await archiver.archivePending();
      await archiver.compact();
    }
    const seen = billed(store);
    const said = modelPerSeal(fanout);
    for (const kind of ['puts', 'gets', 'deletes'] as const) {
      const error = (said[kind] * seals) / seen[kind] - 1;
      assert.ok(Math.abs(error) < 0.02, `${kind}: ${said[kind] * seals} for ${seen[kind]}`);
    }
    await engine.close();
    await archiver.close();
  });

  inScratch('is requests by their prices, and storage; text fits into 80 columns', async (dir) => {
    const store = new MemoryStore();
    await initEngine(dir, store);
    const archive = await Archive.open(store);
    const none = costOf(await inspectChain(archive), { prices: PRICES, nowMs: Date.now() });
    assert.deepEqual(
      none.streams.map((s) => s.measuredMs),
      [null],
    );
    assert.match(renderCost(none), /No agent has counted/);
    const clock = new ManualClock(Date.now());
    const engine = await openEngine(dir);
    const archiver = await Archiver.open(dir, { store, clock, sealMs: 10_000 });
    await engine.put(keyOf(1), { n: 1 });
    await engine.seal();
    clock.step(3_600_000);
    await archiver.archivePending();
    await engine.close();
    await archiver.close();
    const { asked, runs } = await headOf(store, dir);
    const nowMs = clock.nowMs();
    const cost = costOf(await inspectChain(archive), { prices: PRICES, nowMs });
    assert.ok(asked);
    assert.deepEqual([cost.streams[0].sealMs, cost.streams[0].measuredMs], [10_000, 3_600_000]);
    assert.deepEqual([cost.perDay.puts, cost.perDay.gets], [asked.puts * 24, asked.gets * 24]);
    assert.equal(cost.storedBytes, runs[0].segments[0].bytes);
    const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-9, `${a} ${b}`);
    near(cost.perMonth.puts, asked.puts * 24 * 30 * 0.000005);
    near(cost.perMonth.gets, asked.gets * 24 * 30 * 0.0000004);
    near(cost.perMonth.storage, (cost.storedBytes / 2 ** 30) * 0.023);
    near(cost.perMonth.total, cost.perMonth.puts + cost.perMonth.gets + cost.perMonth.storage);
    const [second, ten] = cost.model.seals;
    assert.ok(Math.abs(second.perMonth.total / ten.perMonth.total - 10) < 1e-3);
    assert.deepEqual([ten.sealMs, ten.rpoMs], [10_000, 11_000]);
    assertNarrow(renderCost({ ...cost, url: 'file:/archive' }));
    const early = costOf(await inspectChain(archive), { prices: PRICES, nowMs: asked.sinceMs + 59_000 });
    assert.equal(early.streams[0].measuredMs, null);
    // an agent that has stopped asks for less and less
    const later = costOf(await inspectChain(archive), { prices: PRICES, nowMs: nowMs + 3 * 3_600_000 });
    near(later.perDay.puts, cost.perDay.puts / 4);
  });
});

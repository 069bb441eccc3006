/**
 * Two engines of one database, gaps in the log of either, base copies of one of them: what can be restored is exactly what a plain
 * list of writes and gaps says (S1, S4). `PITR_SEED` repeats a run.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { anchorIfNeeded } from '../../snapshot/anchor.ts';
import { createBase, createSnapshot } from '../../snapshot/create.ts';
import { deleteSnapshot } from '../../snapshot/snapshots.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import type { Archiver } from '../../wal/archiver.ts';
import type { Engine } from '../../wal/engine.ts';
import { Bench, key, refused } from '../promises-support.ts';

const SEEDS = process.env.PITR_SEED ? [Number(process.env.PITR_SEED)] : [1, 2, 3];
const KEYS = 40;
const PARTITIONS = { a: '0-2047', b: '2048-4095' } as const;

interface Side {
  readonly engine: Engine;
  readonly archiver: Archiver;
  /** Instants of which this stream's part is lost: after `afterTs`, before `untilTs`. */
  readonly lost: { readonly afterTs: number; readonly untilTs: number }[];
}

const randomOf = (seed: number): ((below: number) => number) => {
  let state = seed * 7919 + 1;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
};

const run = async (bench: Bench, seed: number): Promise<void> => {
  const random = randomOf(seed);
  const spool = { policy: 'drop-with-gap', quotaBytes: 6000 } as const;
  const sides: Side[] = [];
  for (const [stream, partitions] of Object.entries(PARTITIONS)) {
    const engine = await bench.engine(stream, partitions, { spool });
    sides.push({ engine, archiver: await bench.archiver(stream), lost: [] });
  }
  const startTs = bench.clock.nowMs();
  const writes: { ts: number; key: number; value: number | undefined }[] = [];
  const write = async (): Promise<void> => {
    bench.clock.step(1 + random(20));
    const n = random(KEYS);
    const value = random(5) === 0 ? undefined : random(1_000_000);
    for (const { engine } of sides) {
      try {
        const { ts } =
          value === undefined
            ? await engine.delete(key(n))
            : await engine.put(key(n), { n: value, pad: 'x'.repeat(200) });
        writes.push({ ts, key: n, value });
        return;
      } catch (error) {
        if (!refused('partition-not-owned')(error)) throw error;
      }
    }
    throw new Error(`nobody owns key ${n}`);
  };
  const sealAll = async (): Promise<void> => {
    for (const { engine } of sides) await engine.sealApplied();
    bench.clock.step(1);
  };
  /** An agent ships all the time, and looks now and then whether a base copy is due. */
  const ship = async (side: Side, anchors: boolean): Promise<void> => {
    await side.archiver.archivePending();
    const { gaps } = side.archiver.head;
    const base = anchors ? await anchorIfNeeded(side.archiver) : undefined;
    if (anchors)
      assert.equal(base !== undefined, gaps.length > side.lost.length, 'a copy after a gap, and only then');
    if (!base) return;
    assert.ok(base.partitions !== undefined);
    // several gaps since the last look are one hole, which the copy ends
    for (const gap of gaps.slice(side.lost.length))
      side.lost.push({ afterTs: gap.afterTs, untilTs: base.endTs });
  };
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 12; i++) await write();
    await sealAll();
    for (const side of sides) await ship(side, random(2) === 0);
    // the archive of one of them, or of both, is away: the log is over its quota soon
    const away = round % 2 === 1 ? (random(3) === 0 ? sides : [sides[random(2)]]) : [];
    for (let i = 0; away.length > 0 && i < 12; i++) {
      for (let j = 0; j < 4; j++) await write();
      await sealAll();
      for (const side of sides) if (!away.includes(side)) await ship(side, random(4) === 0);
    }
    for (const side of away) {
      const before = side.archiver.head.gaps.length;
      await ship(side, random(2) === 0);
      assert.ok(side.archiver.head.gaps.length > before, 'there is a gap');
    }
    // a copy of the whole state where there is one: what began with copies of parts begins with it from then on
    if (round === 2 && sides.every((x) => x.archiver.head.gaps.length === x.lost.length))
      await createSnapshot(await bench.archive(), { kind: 'synthetic' });
    if (random(2) === 0) await sides[random(2)].archiver.compact({ fanout: 2 });
  }
  // one of them is anchored while the other is not
  await sealAll();
  for (const side of sides) await ship(side, random(2) === 0);
  for (let i = 0; i < 6; i++) await write();
  await sealAll();
  for (const side of sides) await ship(side, true);
  await sealAll();
  for (const side of sides) await ship(side, true);
  const archive = await bench.archive();
  const view = await ArchiveView.read(archive);
  const endTs = Math.min(...sides.map((s) => s.archiver.head.frontier.ts));
  const lost = sides.flatMap((s) => s.lost);
  const isKnown = (ts: number): boolean =>
    ts >= startTs && ts <= endTs && lost.every((l) => ts <= l.afterTs || ts >= l.untilTs);
  const isInRange = (ts: number): boolean =>
    view.restorable.ranges.some((r) => r.fromTs <= ts && ts <= r.toTs);
  const instants = [
    ...lost.flatMap((l) => [l.afterTs, l.afterTs + 1, l.untilTs - 1, l.untilTs]),
    ...Array.from({ length: 60 }, () => startTs + random(endTs - startTs + 1)),
    endTs,
  ];
  for (const ts of instants)
    assert.equal(isInRange(ts), isKnown(ts), `S4 at ${ts - startTs} of ${JSON.stringify(view.restorable)}`);
  const stateAt = (ts: number): Record<string, unknown> => {
    const state = new Map<number, number>();
    for (const w of writes) {
      if (w.ts > ts) continue;
      if (w.value === undefined) state.delete(w.key);
      else state.set(w.key, w.value);
    }
    return Object.fromEntries(state);
  };
  let refusals = 0;
  for (const ts of instants.slice(0, lost.length * 4 + 16)) {
    if (isKnown(ts)) assert.deepEqual(await bench.valuesAt(ts), stateAt(ts), `S1 at ${ts - startTs}`);
    else {
      refusals++;
      await assert.rejects(bench.valuesAt(ts), refused('target-nodata'));
    }
  }
  assert.ok(lost.length >= 2 && refusals >= 2);
  assert.deepEqual(await bench.valuesAt(endTs), stateAt(endTs));
  // N3: a copy on which a range stands stays
  const newest = view.snapshots.filter((s) => s.partitions !== undefined).at(-1);
  await assert.rejects(deleteSnapshot(archive, newest?.id ?? ''), refused('snapshot-in-use'));
  // N5: the source's digests agree with what is put together from copies and logs
  const full = await createSnapshot(archive, { kind: 'synthetic' });
  assert.equal(full.records, Object.keys(stateAt(full.endTs)).length);
};

for (const seed of SEEDS)
  test(`S1 S4: gaps in either of two engines, seed ${seed}`, async (t) => run(await Bench.open(t), seed));

for (const streams of [['a'], ['a', 'b']] as const)
  test(`N5: what the source stated before a copy of a live engine was taken is not asked of the copy (${streams.length})`, async (t) => {
    const bench = await Bench.open(t);
    const engines: Engine[] = [];
    for (const stream of streams)
      engines.push(await bench.engine(stream, streams.length === 1 ? 'all' : PARTITIONS[stream]));
    const written: { ts: number; key: number; value: number }[] = [];
    const put = async (n: number, value: number): Promise<void> => {
      bench.clock.step(5);
      for (const engine of engines)
        await engine.put(key(n), { n: value }).then(
          ({ ts }) => written.push({ ts, key: n, value }),
          (error) => {
            if (!refused('partition-not-owned')(error)) throw error;
          },
        );
    };
    for (let n = 0; n < 20; n++) await put(n, 1);
    const [engine] = engines;
    for (const other of engines.slice(1)) await other.sealApplied();
    const sealed = await engine.sealApplied();
    for (let n = 0; n < 20; n++) await put(n, 2);
    // a scan waits until the store has everything, without a seal
    for await (const _ of engine.scan());
    const archive = await bench.archive();
    const base = await createBase(archive, engine.dir, sealed);
    assert.equal(base.partitions === undefined, streams.length === 1);
    assert.ok(base.endTs > sealed.ts);
    for (let n = 0; n < 20; n++) await put(n, 3);
    for (const [i, stream] of streams.entries()) {
      await engines[i].sealApplied();
      await (await bench.archiver(stream)).archivePending();
    }
    const made = await createSnapshot(archive, { kind: 'synthetic', ts: base.endTs });
    assert.equal(made.records, 20);
    const expected = written.filter((w) => w.ts <= base.endTs).map((w) => [w.key, w.value]);
    assert.deepEqual(await bench.valuesAt(base.endTs), Object.fromEntries(expected));
  });

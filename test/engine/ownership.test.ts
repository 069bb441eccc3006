import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { callDoor } from '../../engine/door.ts';
import type { AcquireOptions } from '../../engine/engine-types.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { STORE_DIR, Store, type StoreChange } from '../../engine/store.ts';
import { Engine } from '../../wal/engine.ts';
import { refused } from '../promises-support.ts';

describe('release and acquire', async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), 'pitr-ownership-'));
  const open: Engine[] = [];
  after(async () => {
    await Promise.allSettled(open.map((e) => e.close()));
    await fs.rm(dir, { recursive: true });
  });
  let n = 0;

  const reopen = async (path: string): Promise<Engine> => {
    const engine = await Engine.open({ dir: path, sealMs: 0 });
    open.push(engine);
    return engine;
  };
  const engineWith = async (records: number, partitions = PartitionSet.all, shards = 16): Promise<Engine> => {
    const path = join(dir, String(++n));
    // with an archive to which nobody ships, the log is kept
    await Engine.init(path, { archive: `file:${path}.archive`, partitions, shards });
    const engine = await reopen(path);
    for (let i = 0; i < records; i++) await engine.put(key(i), { n: i });
    return engine;
  };
  const key = (i: number) => ({ namespace: 'test', set: 's', key: i });
  const counted = (engine: Engine): number => engine.digests.reduce((sum, d) => sum + d.records, 0);
  const live = async (engine: Engine): Promise<number> => {
    let records = 0;
    for await (const _ of engine.scan()) records++;
    return records;
  };
  const rowsIn = async (path: string): Promise<{ key: Buffer; value: Buffer }[]> => {
    const store = Store.open(path, { readOnly: true });
    const rows = [...store.scan()];
    await store.close();
    return rows;
  };
  /** An engine with `records`, closed; its rows and the digest of its release. */
  const givenUp = async (records: number) => {
    const engine = await engineWith(records);
    await engine.sealApplied();
    const rows = await rowsIn(engine.dir);
    const { digests, ts } = await engine.release(PartitionSet.all, 'b');
    assert(digests);
    return { rows, digests, ts };
  };
  async function* rowsOf(
    rows: readonly StoreChange[],
    fault?: Error,
  ): AsyncGenerator<readonly StoreChange[]> {
    yield rows;
    if (fault) throw fault;
  }
  const taking = (load: AcquireOptions['load'], more: Partial<AcquireOptions> = {}): AcquireOptions => ({
    partitions: PartitionSet.all,
    peer: 'a',
    epoch: 2,
    afterTs: 0,
    load,
    ...more,
  });

  test('E8: A release that is repeated returns the position of the first, also after restart and from the log', async () => {
    const engine = await engineWith(20);
    const { dir: path } = engine;
    await engine.close();
    await fs.cp(join(path, STORE_DIR), `${path}.store`, { recursive: true });
    let now = await reopen(path);
    const some = PartitionSet.parse('0-999');
    const first = await now.release(some, 'b');
    await now.release(PartitionSet.parse('1000-1999'), 'c');
    assert.deepEqual(await now.release(some, 'b'), first);
    await assert.rejects(now.release(some, 'c'), refused('partition-not-owned'));
    await assert.rejects(now.release(PartitionSet.parse('0-998'), 'b'), refused('partition-not-owned'));
    const { lastLsn } = now;
    await now.close();
    now = await reopen(path);
    assert.deepEqual(await now.release(some, 'b'), first);
    await now.close();
    // a store from before the releases: the log tells it of them
    await fs.rm(join(path, STORE_DIR), { recursive: true });
    await fs.cp(`${path}.store`, join(path, STORE_DIR), { recursive: true });
    now = await reopen(path);
    assert.deepEqual(await now.release(some, 'b'), first);
    assert.equal(now.lastLsn, lastLsn);
    assert.equal(await live(now), counted(now));
  });

  test('E8: A release is forgotten when the partitions come back: the next one is another', async () => {
    const engine = await engineWith(5);
    const first = await engine.release(PartitionSet.all, 'b');
    await engine.acquire(taking(rowsOf([]), { peer: 'b', afterTs: first.ts }));
    const second = await engine.release(PartitionSet.all, 'b');
    assert(second.lsn > first.lsn && second.ts > first.ts);
    assert.deepEqual(
      second.digests?.map((d) => d.records),
      [0],
    );
  });

  test('E8: Of two releases at once to different streams one is refused, to the same stream both get one position', async () => {
    const engine = await engineWith(5);
    const low = PartitionSet.parse('0-2047');
    const [toB, toC] = await Promise.allSettled([engine.release(low, 'b'), engine.release(low, 'c')]);
    assert.equal(toB.status, 'fulfilled');
    assert(toC.status === 'rejected' && refused('partition-not-owned')(toC.reason));
    const high = PartitionSet.parse('2048-4095');
    const [one, two] = await Promise.all([engine.release(high, 'b'), engine.release(high, 'b')]);
    assert.deepEqual(one, two);
  });

  test('E8: An acquisition that is repeated, even while the first is at work, changes nothing', async () => {
    const { rows, digests } = await givenUp(10);
    const engine = await engineWith(0, PartitionSet.none);
    const slow = async function* () {
      yield* rowsOf(rows.slice(0, 5));
      await new Promise((resolve) => setTimeout(resolve, 50));
      yield rows.slice(5);
    };
    const [first, second] = await Promise.all([
      engine.acquire(taking(slow(), { digests })),
      engine.acquire(taking(rowsOf(rows), { digests })),
    ]);
    assert.equal(first.records, 10);
    assert.deepEqual(second, { ...first, records: 0 });
    await engine.put(key(1), { n: 'new' });
    await engine.delete(key(2));
    await engine.close();
    const again = await reopen(engine.dir);
    assert.deepEqual(await again.acquire(taking(rowsOf(rows), { digests })), second);
    assert.equal((await again.get(key(1)))?.bins.n, 'new');
    assert.deepEqual([await live(again), counted(again)], [9, 9]);
  });

  test('E8: What is owned in part, or was passed on since, is not acquired', async () => {
    const { rows } = await givenUp(10);
    const engine = await engineWith(0, PartitionSet.parse('0-99'));
    await assert.rejects(engine.acquire(taking(rowsOf(rows))), refused('ownership-conflict'));
    const rest = PartitionSet.parse('100-4095');
    const none = (): AcquireOptions => taking(rowsOf([]), { partitions: rest, afterTs: 1 });
    await engine.acquire(none());
    const passed = await engine.release(rest, 'c');
    await assert.rejects(engine.acquire(none()), refused('ownership-conflict'));
    await engine.acquire({ ...none(), peer: 'c', epoch: 4, afterTs: passed.ts });
  });

  test('E8: The epoch does not fall when an older hand-over is finished later', async () => {
    const engine = await engineWith(0, PartitionSet.none);
    await engine.acquire(taking(rowsOf([]), { partitions: PartitionSet.parse('0-9'), epoch: 5 }));
    await engine.acquire(taking(rowsOf([]), { partitions: PartitionSet.parse('10-19'), epoch: 3 }));
    assert.equal(engine.epoch, 5);
    await engine.close();
    assert.equal((await reopen(engine.dir)).epoch, 5);
  });

  test('E7 E10: An acquisition that fails leaves nothing, and no truncation counts what it had loaded', async () => {
    const { rows } = await givenUp(10);
    const engine = await engineWith(0, PartitionSet.none);
    const fail = () => engine.acquire(taking(rowsOf(rows, new Error('cut short'))));
    await assert.rejects(fail(), /cut short/);
    assert.equal((await engine.truncate({ namespace: 'test' })).records, 0);
    await assert.rejects(fail(), /cut short/);
    assert.deepEqual(await rowsIn(engine.dir), []);
    await engine.acquire(taking(rowsOf(rows.slice(0, 4))));
    assert.deepEqual([await live(engine), counted(engine)], [4, 4]);
  });

  test('E10: The replay of a truncation does not count rows of partitions that are not owned', async () => {
    const { rows } = await givenUp(10);
    const engine = await engineWith(0, PartitionSet.none);
    const { dir: path } = engine;
    await engine.close();
    await fs.cp(join(path, STORE_DIR), `${path}.store`, { recursive: true });
    const now = await reopen(path);
    await now.truncate({ namespace: 'test' });
    await now.close();
    // a store from before the truncation, with what an acquisition that was killed has left
    await fs.rm(join(path, STORE_DIR), { recursive: true });
    await fs.cp(`${path}.store`, join(path, STORE_DIR), { recursive: true });
    const store = Store.open(path);
    store.applySync(rows, undefined);
    await store.close();
    const again = await reopen(path);
    assert.equal(again.report.events, 1);
    assert.deepEqual([counted(again), await rowsIn(path)], [0, []]);
  });

  test('E9: Other records than those given up are refused and leave nothing; engines may differ in shards', async () => {
    const { rows, digests } = await givenUp(10);
    const engine = await engineWith(0, PartitionSet.none, 4);
    const changed = rows.map(({ key: k, value }) => ({ key: k, value: Buffer.from(value) }) as const);
    changed[3].value[changed[3].value.length - 1] ^= 1;
    for (const wrong of [rows.slice(1), changed, []])
      await assert.rejects(
        engine.acquire(taking(rowsOf(wrong), { digests })),
        refused('verification-failed'),
      );
    assert.deepEqual([engine.partitions.size, counted(engine), await rowsIn(engine.dir)], [0, 0, []]);
    const part = PartitionSet.parse('0-9');
    await assert.rejects(
      engine.acquire(taking(rowsOf(rows), { partitions: part })),
      refused('verification-failed'),
    );
    assert.equal((await engine.acquire(taking(rowsOf(rows), { digests }))).records, 10);
    assert.deepEqual([await live(engine), counted(engine)], [10, 10]);
  });

  test('A truncation with a cutoff that is no time is refused and changes nothing', async () => {
    const engine = await engineWith(3);
    const { lastLsn } = engine;
    for (const beforeMs of [Number.NaN, Number.POSITIVE_INFINITY, -1, 1.5, 'soon' as never])
      await assert.rejects(engine.truncate({ namespace: 'test', beforeMs }), refused('usage'));
    assert.deepEqual([engine.lastLsn, await live(engine)], [lastLsn, 3]);
  });

  test('The door refuses arguments that are not what a verb takes', async () => {
    const engine = await engineWith(3);
    const { lastLsn } = engine;
    const taken = { partitions: '0', peer: 'x', epoch: 2, afterTs: 0, file: '/nonexistent' };
    for (const [verb, args] of [
      ['mark', {}],
      ['mark', null],
      ['mark', { name: 7 }],
      ['seal', { apply: 'yes' }],
      ['truncate', null],
      ['truncate', { namespace: 'x', beforeMs: 'soon' }],
      ['truncate', { namespace: 'x', beforeMS: 1 }],
      ['release', {}],
      ['release', { partitions: '0-9999', peer: 'b' }],
      ['release', { partitions: 'none', peer: 'b' }],
      ['acquire', { ...taken, epoch: 'z' }],
      ['acquire', { ...taken, afterTs: -1 }],
      ['acquire', { ...taken, digests: [{ sum: 'x', records: 0 }] }],
    ] as const)
      await assert.rejects(
        callDoor(engine.dir, verb, args),
        refused('usage'),
        `${verb} ${JSON.stringify(args)}`,
      );
    assert.equal(engine.lastLsn, lastLsn);
    assert.equal(engine.partitions.size, 4096);
    const other = await engineWith(0, PartitionSet.none);
    await assert.rejects(callDoor(other.dir, 'acquire', taken), refused('io'));
  });

  test('A scan that goes on after the engine was closed is refused, and leaves no cursor behind', async () => {
    const engine = await engineWith(0);
    const ops = Array.from({ length: 12_000 }, (_, i) => ({
      op: 'put' as const,
      key: key(i),
      bins: { n: i },
    }));
    await engine.batch(ops);
    const records = engine.scan();
    assert.equal((await records.next()).done, false);
    // this one is between two turns of the event loop, for it finds nothing
    const searching = engine.scan({ set: 'other' }).next();
    const waiting = engine.scan();
    await Promise.all([
      engine.close(),
      assert.rejects(searching, refused('engine-closed')),
      assert.rejects(
        waiting.next().then(() => waiting.next()),
        refused('engine-closed'),
      ),
    ]);
    await assert.rejects(records.next(), refused('engine-closed'));
    assert.equal((await records.next()).done, true);
    await assert.rejects(engine.scan().next(), refused('engine-closed'));
  });
});

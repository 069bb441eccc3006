/** Large transactions of a store are written by a thread of their own: what is there afterwards is what a plain map says. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { isPitrError } from '../../engine/errors.ts';
import { encodeState, stateKey } from '../../engine/state-record.ts';
import { Store, type StoreChange, type StoreMeta } from '../../engine/store.ts';
import { StoreThread } from '../../engine/store-thread.ts';

const metaAt = (appliedLsn: number): StoreMeta => ({
  appliedLsn,
  lastTs: 1,
  epoch: 1,
  partitions: 'all',
  digests: [],
});

/** Keys of two namespaces; many have the same first word, so that their changes take turns in the order of words. */
const keyOf = (n: number): Buffer => {
  const sortKey = Buffer.alloc(20);
  sortKey.writeUInt32BE((n % 7) * 0x20000000, 0);
  sortKey.writeUInt32BE(n, 16);
  return stateKey(n % 3 === 0 ? 'a' : 'ab', sortKey);
};

const storedOf = (n: number): Buffer =>
  encodeState({ generation: 1, voidTime: 0, ts: 1, lsn: n, lut: 1 }, 's', Buffer.alloc(n % 97, n));

/** Enough for the thread; most keys are changed several times. */
const CHANGES = 5000;
const KEYS = 900;

const recordsOf = (store: Store): Map<string, string> =>
  new Map([...store.scan()].map(({ key, value }) => [key.toString('hex'), value.toString('hex')]));

describe('a store that writes with a thread', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'pitr-store-thread-'));
  });
  after(() => rm(dir, { recursive: true, force: true }));

  let n = 0;
  test('the last change of each record counts, over several transactions, and is there when it is opened again', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const at = join(dir, `e${n++}`);
        const model = new Map<string, string>();
        let random = seed >>> 0;
        const next = (below: number): number => {
          random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
          return Math.floor((random / 2 ** 32) * below);
        };
        let store = Store.open(at);
        for (let round = 1; round <= 3; round++) {
          // a small one in between goes the same way, after those before it
          const changes = Array.from({ length: round === 2 ? 70 : CHANGES }, (_, i): StoreChange => {
            const key = keyOf(next(KEYS));
            const value = next(4) === 0 ? undefined : storedOf(i);
            if (value) model.set(key.toString('hex'), value.toString('hex'));
            else model.delete(key.toString('hex'));
            return { key, value };
          });
          await store.apply(changes, metaAt(round));
          // its own reader sees it at once
          const some = keyOf(next(KEYS));
          assert.equal(store.get(some)?.toString('hex'), model.get(some.toString('hex')));
          assert.equal(store.meta()?.appliedLsn, round);
          if (round === 1) {
            assert.deepEqual(recordsOf(store), model);
            await store.flushed();
          }
        }
        assert.deepEqual(recordsOf(store), model);
        await store.close();
        store = Store.open(at, { readOnly: true });
        assert.deepEqual(recordsOf(store), model);
        assert.equal(store.meta()?.appliedLsn, 3);
        await store.close();
      }),
      { numRuns: 6 },
    );
  });

  test('a failure of the thread is an error with its id, and closing it afterwards ends', async () => {
    const file = join(dir, 'file');
    await writeFile(file, 'no directory');
    const thread = new StoreThread(file);
    const changes = [{ key: keyOf(1), value: storedOf(1) }];
    await assert.rejects(thread.apply(changes, metaAt(1)), (e) => isPitrError(e, 'store-corrupt'));
    await assert.rejects(thread.apply(changes, metaAt(1)), (e) => isPitrError(e, 'store-corrupt'));
    await thread.close();
  });

  test('a large transaction is not refused for what it might need: a truncation makes room', async () => {
    let free = Number.POSITIVE_INFINITY;
    const store = Store.open(join(dir, 'room'), { freeBytes: () => free });
    const changes = Array.from({ length: CHANGES }, (_, n) => ({ key: keyOf(n), value: storedOf(n) }));
    await store.apply(changes, metaAt(1));
    free = 4096;
    await store.apply(
      changes.map(({ key }) => ({ key, value: undefined })),
      metaAt(2),
    );
    assert.equal(recordsOf(store).size, 0);
    await store.close();
  });

  test('closing waits for the transaction that is under way', async () => {
    const at = join(dir, 'closing');
    const store = Store.open(at);
    const changes = Array.from({ length: CHANGES }, (_, n) => ({ key: keyOf(n), value: storedOf(n) }));
    const applied = store.apply(changes, metaAt(9));
    await store.close();
    await applied;
    const again = Store.open(at, { readOnly: true });
    assert.equal(again.meta()?.appliedLsn, 9);
    assert.equal(recordsOf(again).size, CHANGES);
    await again.close();
  });

  test('a thread that nobody closed keeps no process alive', async () => {
    const url = (name: string): string =>
      JSON.stringify(new URL(`../../engine/${name}`, import.meta.url).href);
    const script = `
      const { Store } = await import(${url('store.ts')});
      const { stateKey } = await import(${url('state-record.ts')});
      const store = Store.open(process.argv[1]);
      const changes = Array.from({ length: 5000 }, (_, n) => {
        const sortKey = Buffer.alloc(20);
        sortKey.writeUInt32BE(n, 0);
        return { key: stateKey('a', sortKey), value: Buffer.alloc(30) };
      });
      await store.apply(changes, { appliedLsn: 7, lastTs: 1, epoch: 1, partitions: 'all', digests: [] });`;
    const at = join(dir, 'left');
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, at], {
      timeout: 60_000,
    });
    const store = Store.open(at, { readOnly: true });
    assert.equal(store.meta()?.appliedLsn, 7);
    await store.close();
  });
});

import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { Archiver } from '../../wal/archiver.ts';
import {
  contentOf,
  copyDir,
  dense,
  headOf,
  initEngine,
  inScratch,
  keyOf,
  lsnsOf,
  openEngine,
  segmentNames,
} from './archiver-support.ts';
import { type Call, lost, MemoryStore, WRITING_CALLS } from './memory-store.ts';

/** An engine whose archive has three runs, with two more sealed files that wait: a round with fanout 2 ships and merges. */
const prepare = async (dir: string): Promise<{ store: MemoryStore; lastLsn: number }> => {
  const store = new MemoryStore();
  await initEngine(dir, store);
  const engine = await openEngine(dir);
  const archiver = await Archiver.open(dir, { store });
  for (let n = 1; n <= 5; n++) {
    await engine.batch([1, 2, 3].map((i) => ({ op: 'put', key: keyOf(n * i), bins: { n } })));
    if (n % 2 === 0) await engine.mark(`m${n}`);
    await engine.seal();
    if (n <= 3) await archiver.archivePending();
  }
  await archiver.close();
  const { lastLsn } = engine;
  await engine.close();
  return { store, lastLsn };
};

/** One life of an agent, which ends at the first error. */
const life = async (dir: string, store: MemoryStore): Promise<unknown> => {
  let archiver: Archiver | undefined;
  try {
    archiver = await Archiver.open(dir, { store, fanout: 2, retireMs: 0 });
    await archiver.archivePending();
    await archiver.compact();
    return undefined;
  } catch (error) {
    return error;
  } finally {
    await archiver?.close();
  }
};

const expectComplete = async (
  dir: string,
  store: MemoryStore,
  lastLsn: number,
  when: string,
): Promise<void> => {
  const head = await headOf(store, dir);
  assert.deepEqual(await lsnsOf(store, head), dense(lastLsn), when);
  assert.equal(head.frontier.lsn, lastLsn, when);
  assert.deepEqual(head.gaps, [], when);
  assert.equal(head.runs[0].lsnStart, 1, when);
  for (let i = 1; i < head.runs.length; i++)
    assert.equal(head.runs[i].lsnStart, head.runs[i - 1].lsnEnd, `A1: ${when}`);
  assert.deepEqual(
    head.marks.map((m) => m.name),
    ['m2', 'm4'],
    when,
  );
};

describe('archiver: a crash at any call of the object store', () => {
  inScratch(
    'leaves at most orphans, which change nothing; the next agent completes without gap or duplicate',
    async (dir) => {
      const origin = join(dir, 'origin');
      const { store, lastLsn } = await prepare(origin);
      const undisturbed = store.copy();
      await copyDir(origin, join(dir, 'whole'));
      assert.equal(await life(join(dir, 'whole'), undisturbed), undefined);
      const calls = undisturbed.calls.length;
      assert.ok(calls > 15, `${calls} calls`);
      const expected = await contentOf(undisturbed, await headOf(undisturbed, origin));
      let orphans = 0;
      for (let stop = 0; stop < calls; stop++)
        for (const when of ['before', 'after'] as const) {
          const what = `stopped ${when} call ${stop}`;
          const at = join(dir, 'e');
          await copyDir(origin, at);
          const mine = store.copy();
          const before = await headOf(mine, at);
          mine.calls.length = 0;
          // once one call has failed none succeeds any more: the process is gone
          mine.hook = (_, __, w) => {
            const n = mine.calls.length - 1;
            if (n > stop || (n === stop && w === when)) throw lost();
          };
          assert.ok(isPitrError(await life(at, mine), 'io'), what);
          mine.hook = () => undefined;
          const left = await headOf(mine, at);
          assert.ok(
            left.frontier.lsn >= before.frontier.lsn && left.frontier.ts >= before.frontier.ts,
            `A2: ${what}`,
          );
          assert.deepEqual(
            await lsnsOf(mine, left),
            dense(left.frontier.lsn),
            `${what}: what the head lists is there`,
          );
          const { stored, listed } = segmentNames(mine, left);
          orphans += stored.length > listed.length ? 1 : 0;
          assert.equal(await life(at, mine), undefined, what);
          await expectComplete(at, mine, lastLsn, what);
          const content = await contentOf(mine, await headOf(mine, at));
          assert.deepEqual(content.rows, expected.rows, what);
          await rm(at, { recursive: true });
        }
      assert.ok(orphans > 0, 'some crashes did leave an object that no head lists');
    },
  );

  inScratch(
    'a call that fails once, with or without effect, does not end the agent: its next round completes',
    async (dir) => {
      const origin = join(dir, 'origin');
      const { store, lastLsn } = await prepare(origin);
      for (const call of ['create', 'swap', 'readSwap', 'read', 'delete'] satisfies Call[])
        for (const when of ['before', 'after'] as const)
          for (const nth of [1, 2, 3]) {
            const what = `${call} ${nth} failed ${when} its effect`;
            const at = join(dir, 'e');
            await copyDir(origin, at);
            const mine = store.copy();
            const archiver = await Archiver.open(at, { store: mine, fanout: 2, retireMs: 0 });
            let seen = 0;
            mine.hook = (c, _, w) => {
              if (c === call && w === when && ++seen === nth) throw lost();
            };
            for (let round = 0; round < 4; round++)
              await archiver
                .archivePending()
                .then(() => archiver.compact())
                .catch((error) => assert.ok(isPitrError(error, 'io'), `${what}: ${error}`));
            mine.hook = () => undefined;
            await archiver.close();
            await expectComplete(at, mine, lastLsn, what);
            await rm(at, { recursive: true });
          }
    },
  );

  inScratch(
    'a swap of which neither the answer nor the reading back arrives is found out in the next round',
    async (dir) => {
      const e = join(dir, 'e');
      const { store, lastLsn } = await prepare(e);
      const archiver = await Archiver.open(e, { store, fanout: 2, retireMs: 0 });
      let down = false;
      store.hook = (call, _, when) => {
        if (call === 'swap' && when === 'after') down = true;
        if (down) throw lost();
      };
      await assert.rejects(archiver.archivePending(), (error) => isPitrError(error, 'io'));
      down = false;
      store.hook = () => undefined;
      await assert.rejects(archiver.archivePending(), (error) => isPitrError(error, 'cas-conflict'));
      await archiver.archivePending();
      await archiver.compact();
      await archiver.close();
      await expectComplete(e, store, lastLsn, 'after the silence');
    },
  );

  inScratch('an agent never changes an object: every name is created once', async (dir) => {
    const e = join(dir, 'e');
    const { store } = await prepare(e);
    const before = new Map(store.objects);
    store.calls.length = 0;
    await life(e, store);
    for (const [name, bytes] of before)
      if (store.objects.has(name)) assert.ok(store.objects.get(name)?.equals(bytes), name);
    const created = store.calls.filter((c) => c.call === 'create').map((c) => c.name);
    assert.equal(new Set(created).size, created.length);
    assert.equal(store.countOf('list'), 0);
    assert.ok(store.calls.some((c) => WRITING_CALLS.has(c.call)));
  });
});

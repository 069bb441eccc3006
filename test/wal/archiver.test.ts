import assert from 'node:assert/strict';
import { cp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ManualClock } from '../../engine/clock.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver, type ArchiverEvent } from '../../wal/archiver.ts';
import { logFilesIn } from '../../wal/log-file.ts';
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
  refuses,
  segmentNames,
} from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

describe('archiver: who may archive', () => {
  inScratch('a second agent of a stream is agent-busy; the first one goes on', async (dir) => {
    const store = new MemoryStore();
    await initEngine(join(dir, 'e'), store);
    const first = await Archiver.open(join(dir, 'e'), { store });
    await refuses('agent-busy', Archiver.open(join(dir, 'e'), { store }));
    await first.round();
    await first.close();
    await (await Archiver.open(join(dir, 'e'), { store })).close();
  });

  inScratch(
    'an engine without archive, and an archive that is another, are refused, and let go of the lock',
    async (dir) => {
      await refuses('not-an-engine', Archiver.open(join(dir, 'none')));
      const store = new MemoryStore();
      await initEngine(join(dir, 'e'), store);
      const other = new MemoryStore();
      await Archive.openOrCreate(other);
      await refuses('archive-mismatch', Archiver.open(join(dir, 'e'), { store: other }));
      await refuses('archive-not-found', Archiver.open(join(dir, 'e'), { store: new MemoryStore() }));
      assert.equal(other.swaps.size, 0);
      await (await Archiver.open(join(dir, 'e'), { store })).close();
      await (await openEngine(join(dir, 'plain'))).close();
      await refuses('usage', Archiver.open(join(dir, 'plain')));
    },
  );

  inScratch(
    'A3: an agent on a copy of the directory takes over; the old one is fenced and publishes nothing',
    async (dir) => {
      const store = new MemoryStore();
      const [a, b] = [join(dir, 'a'), join(dir, 'b')];
      await initEngine(a, store);
      const engine = await openEngine(a);
      await engine.put(keyOf(1), { n: 1 });
      await engine.seal();
      const old = await Archiver.open(a, { store });
      await old.archivePending();
      await copyDir(a, b);
      const taker = await Archiver.open(b, { store });
      await engine.put(keyOf(2), { n: 2 });
      await engine.seal();
      const before = await headOf(store, a);
      const error = await refuses('fenced', old.archivePending());
      assert.deepEqual([error.facts.mine, error.facts.current], [1, 2]);
      assert.deepEqual(await headOf(store, a), before);
      await Promise.all([old.close(), taker.close()]);
      await engine.close();
    },
  );
});

describe('archiver: shipping', () => {
  inScratch(
    'what is sealed is shipped once, in one segment for all that waits, and the engine may trim',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await initEngine(e, store);
      const engine = await openEngine(e);
      const archiver = await Archiver.open(e, { store });
      for (let n = 1; n <= 3; n++) {
        await engine.put(keyOf(n), { n });
        await engine.seal();
      }
      assert.equal(await archiver.archivePending(), 3);
      assert.equal(await archiver.archivePending(), 0);
      const head = await headOf(store, e);
      assert.equal(head.runs.length, 1);
      assert.deepEqual(await lsnsOf(store, head), [1, 2, 3]);
      // the store takes over from the log later, or when it is asked to
      await engine.sealApplied();
      await engine.put(keyOf(4), { n: 4 });
      await engine.seal();
      assert.equal(logFilesIn(await readdir(join(e, 'log'))).length, 1, 'the archived files are gone');
      await engine.delete(keyOf(1));
      assert.equal(
        await archiver.archivePending(),
        1,
        'the delete is not sealed: unsynced or open files are not shipped',
      );
      await engine.close();
      await archiver.close();
    },
  );

  inScratch('S4: a stream without changes states its frontier, without a segment', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const clock = new ManualClock(1_800_000_000_000);
    const archiver = await Archiver.open(e, { store, clock });
    await archiver.round();
    const before = archiver.head.frontier;
    clock.step(5000);
    await archiver.round();
    assert.equal(archiver.head.frontier.ts - before.ts, 5000);
    assert.deepEqual(archiver.head.runs, []);
    await archiver.close();
  });

  inScratch('a dead writer’s log is adopted: everything acknowledged is shipped', async (dir) => {
    const store = new MemoryStore();
    const [alive, dead] = [join(dir, 'alive'), join(dir, 'dead')];
    await initEngine(alive, store);
    const engine = await openEngine(alive);
    for (let n = 1; n <= 5; n++) await engine.put(keyOf(n), { n });
    await engine.mark('m');
    await copyDir(alive, dead);
    await engine.close();
    const seen: ArchiverEvent[] = [];
    const archiver = await Archiver.open(dead, { store, onEvent: (event) => seen.push(event) });
    await archiver.round();
    await archiver.close();
    // adopted is said when the log had something that the store had not
    assert.deepEqual(
      seen.map((s) => s.kind).filter((k) => k !== 'adopted'),
      ['archived'],
    );
    const head = await headOf(store, dead);
    assert.deepEqual(await lsnsOf(store, head), dense(6));
    assert.deepEqual(
      head.marks.map((m) => m.name),
      ['m'],
    );
  });

  inScratch('a living writer’s directory is not adopted', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    const engine = await openEngine(e);
    const archiver = await Archiver.open(e, { store });
    assert.equal(await archiver.adopt(), false);
    await engine.close();
    assert.equal(await archiver.adopt(), true);
    await archiver.close();
  });

  inScratch('without a writer the agent’s own seals do not wake it again and again', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await initEngine(e, store);
    // the log directory is there when the watch begins
    await (await openEngine(e)).close();
    const archiver = await Archiver.open(e, { store });
    archiver.start();
    await sleep(1500);
    await archiver.close();
    assert.ok(
      archiver.head.sequence >= 1 && archiver.head.sequence <= 4,
      `${archiver.head.sequence} files in 1.5 s`,
    );
  });
});

describe('archiver: damage', () => {
  /** An engine with three sealed files, none shipped: LSN 1, 2, 3. */
  const three = async (e: string, store: MemoryStore): Promise<void> => {
    await initEngine(e, store);
    const engine = await openEngine(e);
    for (let n = 1; n <= 3; n++) {
      await engine.put(keyOf(n), { n });
      await engine.seal();
    }
    await engine.close();
  };

  inScratch('a missing log file is a recorded gap, and limits what can be restored', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await three(e, store);
    await rm(join(e, 'log', '000000000002.wal'));
    const seen: ArchiverEvent[] = [];
    const archiver = await Archiver.open(e, { store, onEvent: (event) => seen.push(event) });
    assert.equal(await archiver.archivePending(), 2);
    assert.equal(await archiver.compact({ fanout: 2 }), 0, 'a run says that it has every LSN of its range');
    await archiver.close();
    const head = await headOf(store, e);
    assert.equal(head.gaps.length, 1);
    const [gap] = head.gaps;
    assert.deepEqual([gap.lsnStart, gap.lsnEnd], [2, 3]);
    assert.deepEqual(await lsnsOf(store, head), [1, 3]);
    assert.deepEqual(seen.filter((s) => s.kind === 'gap').length, 1);
    const view = await ArchiveView.read(await Archive.open(store));
    assert.equal(view.restorable.contiguousEnd, gap.afterTs);
    assert.equal(view.restorable.maxEnd, head.frontier.ts);
    assert.ok(gap.afterTs < gap.untilTs && gap.untilTs <= head.frontier.ts);
    const archive = await Archive.open(store);
    await refuses(
      'target-future',
      restoreEngine(join(dir, 'r'), undefined, { archive, target: String(gap.untilTs), workers: 0 }),
    );
    const report = await restoreEngine(join(dir, 'r'), undefined, { archive, target: 'latest', workers: 0 });
    assert.deepEqual([report.records, report.verification.source], [1, 'equal']);
  });

  inScratch(
    'a round ships what is sealed and whole even when the engine does not open any more, and says so',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await three(e, store);
      await rm(join(e, 'log', '000000000002.wal'));
      const archiver = await Archiver.open(e, { store });
      await refuses('log-corrupt', archiver.round());
      assert.equal(archiver.head.frontier.lsn, 3);
      await archiver.close();
    },
  );

  inScratch('a file under another’s name is refused, not shipped again and again', async (dir) => {
    const store = new MemoryStore();
    const e = join(dir, 'e');
    await three(e, store);
    const archiver = await Archiver.open(e, { store });
    await archiver.archivePending();
    await cp(join(e, 'log', '000000000003.wal'), join(e, 'log', '000000000009.wal'));
    await refuses('log-corrupt', archiver.archivePending());
    assert.equal(archiver.head.frontier.lsn, 3);
    await archiver.close();
  });
});

describe('archiver: compaction', () => {
  inScratch(
    'every version and event is kept, the runs stay few, and what was replaced is deleted',
    async (dir) => {
      const store = new MemoryStore();
      const e = join(dir, 'e');
      await initEngine(e, store);
      const engine = await openEngine(e);
      const clock = new ManualClock(Date.now());
      const fanout = 3;
      const archiver = await Archiver.open(e, { store, fanout, retireMs: 0, clock });
      let longest = 0;
      for (let n = 1; n <= 40; n++) {
        await engine.batch([
          { op: 'put', key: keyOf(n), bins: { n } },
          { op: 'put', key: keyOf(n % 7), bins: { n } },
        ]);
        if (n % 5 === 0) await engine.delete(keyOf(n - 1));
        if (n % 10 === 0) await engine.mark(`m${n}`);
        if (n === 20) await engine.truncate({ namespace: 'test', set: 'odd' });
        await engine.seal();
        await archiver.archivePending();
        await archiver.compact();
        longest = Math.max(longest, archiver.head.runs.length);
      }
      const last = engine.lastLsn;
      const head = await headOf(store, e);
      assert.deepEqual(await lsnsOf(store, head), dense(last));
      const { events } = await contentOf(store, head);
      assert.deepEqual(
        events.flatMap((x) => (x.kind === 'mark' ? [x.name] : x.kind === 'truncate' ? ['truncate'] : [])),
        ['m10', 'm20', 'truncate', 'm30', 'm40'],
      );
      const levels = Math.max(...head.runs.map((r) => r.level)) + 1;
      assert.ok(longest <= fanout * levels, `${longest} runs with ${levels} levels`);
      for (let i = 1; i < head.runs.length; i++)
        assert.equal(head.runs[i].lsnStart, head.runs[i - 1].lsnEnd, 'A1');
      const { stored, listed } = segmentNames(store, head);
      assert.deepEqual(stored, listed, 'nothing but what the catalog lists is left');
      const archive = await Archive.open(store);
      store.calls.length = 0;
      const report = await restoreEngine(join(dir, 'r'), undefined, {
        archive,
        target: 'latest',
        workers: 0,
      });
      assert.equal(report.verification.source, 'equal');
      assert.equal(store.countOf('list'), 0, 'a restore never lists');
      await engine.close();
      await archiver.close();
    },
  );
});

/** An archiver hears of every sealed file at once; what it looks for each second is only for what no system tells. */
import assert from 'node:assert/strict';
import { mock } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Archiver } from '../../wal/archiver.ts';
import { headOf, initEngine, inScratch, openEngine, putSealed } from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

inScratch(
  'each sealed file is shipped without a look, also of an engine that is opened later',
  async (dir) => {
    // nobody looks
    mock.timers.enable({ apis: ['setInterval'] });
    try {
      const store = new MemoryStore();
      await initEngine(dir, store);
      const archiver = await Archiver.open(dir, { store, sealMs: 0 });
      archiver.start();
      await archiver.archivePending();
      const engine = await openEngine(dir);
      for (let n = 1; n <= 8; n++) {
        await putSealed(engine, n, n);
        for (const until = Date.now() + 10_000; (await headOf(store, dir)).frontier.lsn < n; await sleep(5))
          assert.ok(Date.now() < until, `file ${n} is shipped`);
      }
      await engine.close();
      await archiver.close();
    } finally {
      mock.timers.reset();
    }
  },
);

/** How often a command waits for the archive: requests that need nobody's answer go out together. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { readStatus } from '../../cli/status.ts';
import { DirectoryStore } from '../../engine/directory-store.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { readAt } from '../../restore/read-at.ts';
import { resolveTarget } from '../../restore/target.ts';
import { inspectChain } from '../../snapshot/chain.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-round-trips-'));
const archiveDir = join(root, 'archive');
after(() => rmSync(root, { recursive: true }));

const keyOf = (key: number) => ({ namespace: 'test', set: 's', key });

/** Turns without a new request after which nobody can be about to make one. */
const QUIET_TURNS = 20;

/** Answers all requests that are there at once, when no more come: so many round trips are waited for. */
class Rounds {
  requests = 0;
  rounds = 0;
  #waiting: (() => void)[] = [];
  #running = 0;

  readonly store: ObjectStore;

  constructor(dir: string) {
    const store = new DirectoryStore({ dir });
    this.store = new Proxy(store, {
      get: (_, name) => {
        const value: unknown = Reflect.get(store, name, store);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]) => {
          this.requests++;
          await new Promise<void>((resolve) => this.#waiting.push(resolve));
          this.#running++;
          try {
            return await value.apply(store, args);
          } finally {
            this.#running--;
          }
        };
      },
    });
  }

  async during<T>(work: (store: ObjectStore) => Promise<T>): Promise<T> {
    let isDone = false;
    const result = work(this.store).finally(() => {
      isDone = true;
    });
    for (let quiet = 0, seen = -1; !isDone; await turn()) {
      quiet = this.#running === 0 && this.requests === seen ? quiet + 1 : 0;
      seen = this.requests;
      if (quiet < QUIET_TURNS || this.#waiting.length === 0) continue;
      this.rounds++;
      for (const go of this.#waiting.splice(0)) go();
    }
    return result;
  }
}

before(async () => {
  const dir = join(root, 'data');
  await Engine.init(dir, { archive: `file:${archiveDir}` });
  for (let run = 0; run < 6; run++) {
    const engine = await Engine.open({ dir, sealMs: 0 });
    for (let i = 0; i < 20; i++) await engine.put(keyOf(i), { value: run });
    await engine.close();
    const archiver = await Archiver.open(dir);
    await archiver.archivePending();
    if (run === 1 || run > 3)
      await createSnapshot(archiver.archive, { kind: run === 1 ? 'synthetic' : 'incremental' });
    await archiver.close();
  }
});

const view = async (store: ObjectStore): Promise<ArchiveView> => ArchiveView.read(await Archive.open(store));

test('an archive is seen after three round trips and four requests', async () => {
  const rounds = new Rounds(archiveDir);
  const { snapshots } = await rounds.during(view);
  assert.equal(snapshots.length, 3);
  assert.deepEqual([rounds.rounds, rounds.requests], [3, 4]);
});

test('status takes as many round trips, however many runs there are', async () => {
  const rounds = new Rounds(archiveDir);
  const status = await rounds.during(async (store) =>
    readStatus(await Archive.open(store), { dirs: [], maxLagMs: 1e9 }),
  );
  assert.equal(status.streams[0].runs, 6);
  // the table of leases is absent here: whether the archive is, is asked once more beside it
  assert.equal(rounds.rounds, 3);
});

test('chain takes one more for all manifests', async () => {
  const rounds = new Rounds(archiveDir);
  const { timelines } = await rounds.during(async (store) => inspectChain(await Archive.open(store)));
  assert.equal(timelines[0].snapshots.length, 3);
  assert.deepEqual([rounds.rounds, rounds.requests], [4, 7]);
});

test('a record at an instant takes three more: the base, the ends of its segments and of the runs after it', async () => {
  const rounds = new Rounds(archiveDir);
  const record = await rounds.during(async (store) => {
    const seen = await view(store);
    const { ts } = await resolveTarget(seen, 'latest', Date.now());
    return readAt(seen, keyOf(7), ts);
  });
  assert.equal(record?.bins.value, 5);
  assert.equal(rounds.rounds, 6);
});

/** A record that is written again before its last change is durable, for ever: what is in the store is let go of. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Change } from '../../engine/change.ts';
import { systemClock } from '../../engine/clock.ts';
import { CommitLoop } from '../../engine/commit-loop.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { resolveKey } from '../../engine/record-key.ts';
import { encodeState } from '../../engine/state-record.ts';
import { Store } from '../../engine/store.ts';
import { LocalLog } from '../../wal/local-log.ts';

const dir = mkdtempSync(join(tmpdir(), 'pitr-chain-'));
after(() => rmSync(dir, { recursive: true }));

/** `held`: what every write to the log waits for. */
const open = async (name: string, held: () => Promise<void> = async () => undefined) => {
  const at = join(dir, name);
  const files: Files = {
    ...nodeFiles,
    openSynced: async (path, bytes) => {
      const file = await nodeFiles.openSynced(path, bytes);
      return {
        append: async (b) => {
          await held();
          await file.append(b);
        },
        close: () => file.close(),
      };
    },
  };
  const store = Store.open(at);
  const { log } = await LocalLog.open({
    dir: at,
    engineId: '01'.repeat(16),
    stream: 's',
    timeline: 't',
    afterLsn: 0,
    epoch: 1,
    replay: () => undefined,
    files,
  });
  const loop = new CommitLoop({
    log,
    store,
    clock: systemClock,
    digest: new ContentDigest(1),
    epoch: 1,
    lastLsn: 0,
    lastTs: 0,
    sealBytes: 2 ** 30,
    metaOf: (appliedLsn, lastTs, digest) => ({
      appliedLsn,
      lastTs,
      epoch: 1,
      partitions: 'all',
      digests: digest.toShards(),
    }),
  });
  const close = async (): Promise<void> => {
    await log.close();
    await store.close();
  };
  return { loop, close };
};

test('of a record that is always being written only what is not in the store is kept', async () => {
  let began = Promise.withResolvers<void>();
  let goesOn = Promise.withResolvers<void>();
  const { loop, close } = await open('hot', () => {
    began.resolve();
    return goesOn.promise;
  });
  const id = resolveKey({ namespace: 'n', set: 's', key: 1 });
  const write = (): Change => {
    const ts = loop.nextTs();
    const change = new Change(
      id,
      ts,
      encodeState({ generation: 1, voidTime: 0, ts, lsn: 0, lut: ts }, 's', Buffer.of(1)),
    );
    change.lsn = loop.nextLsn();
    loop.stage(change);
    return change;
  };
  let newest = write();
  const first = loop.commit();
  for (let round = 0; round < 20; round++) {
    // the newest was taken by the log, and is not durable yet
    await began.promise;
    const drained = loop.drain();
    newest = write();
    began = Promise.withResolvers();
    goesOn.resolve();
    goesOn = Promise.withResolvers();
    await drained;
  }
  await first;
  let kept = 0;
  for (let change: Change | undefined = newest; change; change = change.previous) kept++;
  assert.ok(kept <= 3, `${kept} changes of one record are kept`);
  goesOn.resolve();
  await loop.commit();
  await loop.drain();
  await close();
});

test('what was staged and not committed is no reason to wait for ever', async () => {
  const { loop, close } = await open('staged');
  const id = resolveKey({ namespace: 'n', set: 's', key: 1 });
  const change = new Change(id, loop.nextTs(), undefined);
  change.lsn = loop.nextLsn();
  loop.stage(change);
  await loop.drain();
  assert.equal(loop.appliedLsn, change.lsn);
  await close();
});

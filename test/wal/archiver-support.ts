/** An engine directory with an archive in memory, and what the archive has of it in plain form. */
import assert from 'node:assert/strict';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { readIdentity, writeIdentity } from '../../engine/identity.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { Archive } from '../../wal/archive.ts';
import type { Head } from '../../wal/catalog.ts';
import { Engine } from '../../wal/engine.ts';
import type { ArchiveEvent } from '../../wal/event.ts';
import { withEngine } from '../../wal/timeline.ts';
import type { MemoryStore } from './memory-store.ts';
import { type Row, rowOf } from './segment-support.ts';

export const inScratch = (what: string, body: (dir: string) => Promise<void>): void => {
  test(what, async () => {
    const dir = await mkdtemp(join(tmpdir(), 'pitr-archiver-'));
    try {
      await body(dir);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
};

export const keyOf = (n: number) => ({ namespace: 'test', set: n % 2 ? 'odd' : '', key: n });

/** The error of this id with which `promise` must fail. */
export const refuses = async (id: ErrorId, promise: Promise<unknown>): Promise<PitrError> => {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof PitrError, `${error}`);
    assert.equal(error.id, id, error.message);
    return error;
  }
  throw new Error(`no ${id}`);
};

/** A new engine directory whose archive is `store`. */
export const initEngine = async (dir: string, store: ObjectStore): Promise<void> => {
  await Engine.init(dir);
  const archive = await Archive.openOrCreate(store);
  const identity = { ...(await readIdentity(dir)), archive: { url: 'memory:', id: archive.id } };
  await writeIdentity(dir, identity);
  await archive.updateTimelines((all) => withEngine(all, identity, identity.createdMs));
};

export const openEngine = (dir: string): Promise<Engine> => Engine.open({ dir, sealMs: 0, lockWaitMs: 0 });

export const headOf = async (store: ObjectStore, dir: string): Promise<Head> => {
  const { timeline, stream } = await readIdentity(dir);
  const head = await (await Archive.open(store)).head(timeline, stream);
  if (!head) throw new Error('no head');
  return head.value;
};

/** All versions that the catalog lists, by LSN, and all events in order. */
export const contentOf = async (
  store: ObjectStore,
  head: Head,
): Promise<{ rows: Row[]; events: ArchiveEvent[] }> => {
  const archive = await Archive.open(store);
  const rows: Row[] = [];
  const events: ArchiveEvent[] = [];
  for (const run of head.runs) {
    for (const ref of run.segments) {
      const reader = await archive.reader(ref);
      for (const handle of await reader.blocks()) {
        const block = reader.decode((await reader.readBlocks([handle]))[0]);
        for (let i = 0; i < block.rows; i++) rows.push(rowOf(reader, block, i));
      }
    }
    events.push(...(await archive.events(run.segments)));
  }
  return { rows: rows.sort((a, b) => a.lsn - b.lsn), events };
};

/** LSNs of everything that the catalog lists, sorted: dense and without duplicates when nothing is wrong. */
export const lsnsOf = async (store: ObjectStore, head: Head): Promise<number[]> => {
  const { rows, events } = await contentOf(store, head);
  return [...rows, ...events.filter((e) => e.kind !== 'clock')].map((x) => x.lsn).sort((a, b) => a - b);
};

/** LSNs 1…`last`. */
export const dense = (last: number): number[] => Array.from({ length: last }, (_, i) => i + 1);

/** Names of the segment objects in the store, and of those that the head lists. */
export const segmentNames = (store: MemoryStore, head: Head): { stored: string[]; listed: string[] } => ({
  stored: [...store.objects.keys()].filter((n) => n.startsWith('segments/')).sort(),
  listed: head.runs.flatMap((r) => r.segments.map((s) => s.name)).sort(),
});

/** What a SIGKILL leaves of an open engine's directory: a copy, with locks of nobody. */
export const copyDir = async (from: string, to: string): Promise<void> => {
  await cp(from, to, {
    recursive: true,
    // a socket cannot be copied, and opening a lock file in the process that holds it would drop the lock
    filter: (path) => !/\.(sock|lock)$/.test(path),
  });
};

/** Writes keys `from` … `to`, each in a sealed file of its own. */
export const putSealed = async (engine: Engine, from: number, to: number): Promise<void> => {
  for (let n = from; n <= to; n++) {
    await engine.put(keyOf(n), { n });
    await engine.seal();
  }
};

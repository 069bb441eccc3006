/** The database that a benchmark makes: jobs that fill it, archive it, and say how large the archive is. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchOp } from '../../engine/engine-types.ts';
import { createSnapshot } from '../../snapshot/create.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import type { JobContext } from './child.ts';
import { jobOf } from './isolate.ts';
import { timed } from './measure.ts';
import { type Change, Workload } from './workload.ts';

export const NAMESPACE = 'bench';
export const SET = 'core';
/** Name of the one bin. */
export const BIN = 'value';
/** Changes in one batch, as the workload has it; and of the load, which is not what is measured. */
export const BATCH = 100;
const LOAD_BATCH = 1000;

export const engineDir = (dir: string): string => join(dir, 'engine');
export const archiveUrl = (dir: string): string => `file:${join(dir, 'archive')}`;

/** Which database: where, how large, from which seed. */
export interface DatabaseArgs {
  readonly dir: string;
  readonly records: number;
  readonly seed: number;
}

export const keyOf = (key: number): { namespace: string; set: string; key: number } => ({
  namespace: NAMESPACE,
  set: SET,
  key,
});

export const opOf = (workload: Workload, { kind, key, version }: Change): BatchOp =>
  kind === 'delete'
    ? { op: 'delete', key: keyOf(key) }
    : { op: 'put', key: keyOf(key), bins: { [BIN]: workload.value(key, version) } };

export interface Built {
  readonly loadSeconds: number;
  readonly changeSeconds: number;
  readonly changeCpuSeconds: number;
  /** The instant, ms, that has the first half of the changes and nothing of the second. */
  readonly targetTs: number;
  readonly changesBefore: number;
}

/** Loads the records, then makes the changes, each batch durable before the next begins. */
export const buildJob = jobOf(import.meta.url, 'build');
export const build = async (args: DatabaseArgs & { readonly changes: number }): Promise<Built> => {
  const { dir, records, seed, changes } = args;
  const workload = new Workload(records, seed);
  const engine = await Engine.open({ dir: engineDir(dir) });
  try {
    const load = await timed(() => loadRecords(engine, workload));
    const half = Math.floor(changes / 2);
    const first = await timed(() => makeChanges(engine, workload, half));
    // the next batch gets a later ts
    while (Date.now() <= first.value) await sleep(1);
    const second = await timed(() => makeChanges(engine, workload, changes));
    return {
      loadSeconds: load.seconds,
      changeSeconds: first.seconds + second.seconds,
      changeCpuSeconds: first.cpuSeconds + second.cpuSeconds,
      targetTs: first.value,
      changesBefore: half,
    };
  } finally {
    await engine.close();
  }
};

export const loadRecords = async (engine: Engine, workload: Workload): Promise<void> => {
  for (let at = 0; at < workload.records; at += LOAD_BATCH)
    await engine.batch(
      Array.from({ length: Math.min(LOAD_BATCH, workload.records - at) }, (_, i) =>
        opOf(workload, { kind: 'insert', key: at + i, version: 0 }),
      ),
    );
};

/** Goes on until there were `changes`; returns the ts of the last batch. `onBatch` is called before each. */
export const makeChanges = async (
  engine: Engine,
  workload: Workload,
  changes: number,
  options: {
    readonly batchSize?: number;
    readonly onBatch?: () => Promise<void> | void;
    readonly inFlight?: number;
  } = {},
): Promise<number> => {
  const { batchSize = BATCH, onBatch, inFlight = 1 } = options;
  let ts = 0;
  while (workload.changes < changes) {
    // the engine decides them in the order of the calls
    const batches: ReturnType<Engine['batch']>[] = [];
    while (batches.length < inFlight && workload.changes < changes) {
      await onBatch?.();
      const batch = workload.nextBatch(Math.min(batchSize, changes - workload.changes));
      batches.push(engine.batch(batch.map((change) => opOf(workload, change))));
    }
    for (const outcomes of await Promise.all(batches)) ts = outcomes.at(-1)?.ts ?? ts;
  }
  return ts;
};

/** Archives until it is told to stop, then what is left. */
export const agentJob = jobOf(import.meta.url, 'agent');
export const agent = async ({ dir }: { readonly dir: string }, context: JobContext): Promise<object> => {
  const archiver = await Archiver.open(engineDir(dir));
  archiver.start();
  context.ready();
  await context.stopped;
  await archiver.round();
  await archiver.close();
  return {};
};

/** A snapshot by reference, and away with what compaction has replaced: nobody reads it any more. */
export const tidyJob = jobOf(import.meta.url, 'tidy');
export const tidy = async ({ dir }: { readonly dir: string }): Promise<object> => {
  const archiver = await Archiver.open(engineDir(dir), { retireMs: 0 });
  try {
    await createSnapshot(archiver.archive, { kind: 'full' });
    // objects that were replaced in this very millisecond are not old enough
    await sleep(5);
    await archiver.compact();
  } finally {
    await archiver.close();
  }
  return {};
};

/** All bytes below the archive's directory, MB (10^6). */
export const archiveMB = (dir: string): number =>
  readdirSync(join(dir, 'archive'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((bytes, entry) => bytes + statSync(join(entry.parentPath, entry.name)).size, 0) / 1e6;

/** Makes a snapshot of the kind, and says how long it took; opening the archive is not counted. */
export const snapshotJob = jobOf(import.meta.url, 'snapshot');
export const snapshot = async (args: {
  readonly dir: string;
  readonly kind: 'full' | 'synthetic';
}): Promise<{ seconds: number; cpuSeconds: number; records: number }> => {
  const archive = await Archive.open(archiveUrl(args.dir));
  const { seconds, cpuSeconds, value } = await timed(() => createSnapshot(archive, { kind: args.kind }));
  return { seconds, cpuSeconds, records: value.records };
};

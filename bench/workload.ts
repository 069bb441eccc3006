/**
 * The workload of `core`: records with integer keys and values of 200 bytes (48 random bytes, repeated), a snapshot by reference,
 * then changes in batches of 100: 80 % updates to 32 random bytes and a constant filler up to 200 bytes, 10 % inserts,
 * 10 % deletes. The agent archives beside the writer, as it would. A mark lies after the first half of the changes.
 */
import { randomBytes, randomFillSync } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { BatchOp } from '../engine/engine-types.ts';
import { createSnapshot } from '../snapshot/create.ts';
import { Archive } from '../wal/archive.ts';
import { Archiver } from '../wal/archiver.ts';
import { Engine } from '../wal/engine.ts';

export interface CoreWorkload {
  readonly archive: string;
  readonly engineDir: string;
  /** Recovery target: the instant after the first half of the changes. */
  readonly target: string;
  /** Records that exist at the target. */
  readonly recordsAtTarget: number;
}

export interface CoreOptions {
  readonly records: number;
  readonly changes: number;
}

export const MARK = 'half';
const NAMESPACE = 'bench';
const VALUE_BYTES = 200;
const BASE_BATCH = 1000;
const CHANGE_BATCH = 100;
/** Batches that wait for their commit together: the writer of a benchmark is not one client. */
const BATCHES_AT_ONCE = 8;

/** 48 random bytes, repeated. */
const baseValue = (): Buffer => {
  const value = Buffer.allocUnsafe(VALUE_BYTES);
  randomFillSync(value, 0, 48);
  for (let at = 48; at < VALUE_BYTES; at += 48) value.copy(value, at, 0, Math.min(48, VALUE_BYTES - at));
  return value;
};

/** 32 random bytes and a constant filler. */
const changedValue = (): Buffer => {
  const value = Buffer.alloc(VALUE_BYTES, 0x2e);
  randomFillSync(value, 0, 32);
  return value;
};

const put = (key: number, value: Buffer): BatchOp => ({
  op: 'put',
  key: { namespace: NAMESPACE, set: 's', key },
  bins: { v: value },
});

/** Keys that exist, each reachable by a random index. */
class LiveKeys {
  readonly #keys: number[];
  #next: number;

  constructor(count: number) {
    this.#keys = Array.from({ length: count }, (_, i) => i);
    this.#next = count;
  }

  get size(): number {
    return this.#keys.length;
  }

  any(): number {
    return this.#keys[this.#index()];
  }

  insert(): number {
    this.#keys.push(this.#next);
    return this.#next++;
  }

  remove(): number {
    const at = this.#index();
    const key = this.#keys[at];
    const last = this.#keys.pop() as number;
    if (at < this.#keys.length) this.#keys[at] = last;
    return key;
  }

  #index(): number {
    return randomBytes(6).readUIntBE(0, 6) % this.#keys.length;
  }
}

/** Writes the workload below `dir`, which must be empty or absent, archives all of it and closes the engine. */
export const buildCore = async (dir: string, options: CoreOptions): Promise<CoreWorkload> => {
  const { records, changes } = options;
  const engineDir = join(dir, 'engine');
  const archive = `file:${join(dir, 'archive')}`;
  await mkdir(dir, { recursive: true });
  await Engine.init(engineDir, { archive });
  const engine = await Engine.open({ dir: engineDir });
  const agent = await Archiver.open(engineDir);
  agent.start();
  const live = new LiveKeys(records);
  let waiting: Promise<unknown>[] = [];
  const batch = async (ops: BatchOp[]): Promise<void> => {
    waiting.push(engine.batch(ops));
    if (waiting.length >= BATCHES_AT_ONCE) await settle();
  };
  const settle = async (): Promise<void> => {
    await Promise.all(waiting);
    waiting = [];
  };
  for (let at = 0; at < records; at += BASE_BATCH)
    await batch(
      Array.from({ length: Math.min(BASE_BATCH, records - at) }, (_, i) => put(at + i, baseValue())),
    );
  await settle();
  await engine.seal();
  await agent.archivePending();
  await createSnapshot(await Archive.open(archive), { kind: 'full', label: 'base' });
  let recordsAtTarget = 0;
  for (let at = 0; at < changes; at += CHANGE_BATCH) {
    if (at === changes / 2) {
      await settle();
      await engine.mark(MARK);
      recordsAtTarget = live.size;
    }
    await batch(
      Array.from({ length: CHANGE_BATCH }, (_, i): BatchOp => {
        if (i % 10 < 8) return put(live.any(), changedValue());
        if (i % 10 === 8) return put(live.insert(), baseValue());
        return { op: 'delete', key: { namespace: NAMESPACE, set: 's', key: live.remove() } };
      }),
    );
  }
  await settle();
  await engine.close();
  await agent.archivePending();
  await agent.compact();
  await agent.close();
  return { archive, engineDir, target: `mark:${MARK}`, recordsAtTarget };
};

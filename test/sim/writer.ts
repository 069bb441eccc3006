/** A process that opens an engine and writes: several writers at once, each with records of its own. */

import type { BatchOp } from '../../engine/engine-types.ts';
import { isPitrError } from '../../engine/errors.ts';
import { type RecordKey, resolveKey } from '../../engine/record-key.ts';
import { Engine } from '../../wal/engine.ts';
import type { Rng } from '../model/rng.ts';
import type { Operation, Seen } from './history.ts';
import { type Process, Violation } from './scheduler.ts';
import type { Node, World } from './world.ts';

const KEYS = 6;
const NAMESPACE = 'test';

/** The set of a record is the name of its writer, so that a truncation is an operation of one writer. */
const recordKey = (key: string): RecordKey => {
  const [set, n] = key.split('/');
  return { namespace: NAMESPACE, set, key: Number(n) };
};

/** Keys of a writer that lie in the engine's partitions. */
const keysFor = (node: Node, writer: string): string[] => {
  const keys: string[] = [];
  for (let n = 0; keys.length < KEYS; n++)
    if (node.partitions.has(resolveKey(recordKey(`${writer}/${n}`)).partition)) keys.push(`${writer}/${n}`);
  return keys;
};

const binsOf = (value: string): Record<string, string> => {
  const pad = value.length * 37;
  return { v: value, pad: 'x'.repeat(pad % 300) };
};

const seenIn = async (engine: Engine, key: string): Promise<Seen | undefined> => {
  const record = await engine.get(recordKey(key));
  return record && { value: String(record.bins.v), generation: record.generation, lut: record.lut };
};

export class WriterProcess {
  readonly #world: World;
  readonly #node: Node;
  readonly #rng: Rng;
  readonly #keys: ReadonlyMap<string, readonly string[]>;
  #numbers = 0;

  constructor(world: World, node: Node) {
    this.#world = world;
    this.#node = node;
    this.#rng = world.fork();
    const names = Array.from({ length: world.writers }, (_, i) => `${node.stream}w${i}`);
    this.#keys = new Map(names.map((name) => [name, keysFor(node, name)]));
  }

  /** One life after the other, until the world stops or the process is killed. */
  async main(process: Process): Promise<void> {
    const world = this.#world;
    while (!world.stopping) {
      const engine = await this.#open(process);
      if (!engine) {
        await process.sleep(this.#rng.int(20, 300));
        continue;
      }
      try {
        await this.#check(engine);
        const untilMs = world.scheduler.nowMs + this.#rng.int(1_000, 20_000);
        let failed = false;
        const isOver = (): boolean => failed || world.stopping || world.scheduler.nowMs > untilMs;
        await settled(
          [...this.#keys].map(([name, keys]) =>
            this.#write(engine, process, name, keys, isOver).catch((error) => {
              failed = true;
              throw error;
            }),
          ),
        );
      } catch (error) {
        world.tolerate(error, process, [], 0);
      }
      await engine.close().catch((error) => world.tolerate(error, process, [], 0));
    }
  }

  async #open(process: Process): Promise<Engine | undefined> {
    try {
      return await Engine.open({
        dir: this.#node.dir,
        clock: this.#world.clockOf(process),
        sealMs: this.#rng.pick([100, 400, 1000]),
        sealBytes: this.#rng.pick([1024, 32 * 1024 * 1024]),
        door: false,
        ...this.#world.machineOf(process, this.#node.host),
      });
    } catch (error) {
      this.#world.tolerate(error, process, ['engine-busy'], 0);
      return undefined;
    }
  }

  /** S2 and S3 at the first moment after a crash. */
  async #check(engine: Engine): Promise<void> {
    const now = new Map<string, Seen>();
    for (const key of [...this.#keys.values()].flat()) {
      const seen = await seenIn(engine, key);
      if (seen) now.set(key, seen);
    }
    this.#world.history.reopened(this.#node.stream, now, Math.max(engine.report.lastTs, 0));
  }

  async #write(
    engine: Engine,
    process: Process,
    writer: string,
    keys: readonly string[],
    isOver: () => boolean,
  ): Promise<void> {
    const rng = this.#rng;
    while (!isOver()) {
      switch (
        rng.weighted({ put: 8, batch: 4, several: 3, delete: 2, truncate: 0.4, mark: 0.8, wrong: 1, get: 2 })
      ) {
        case 'put':
          await this.#put(engine, writer, [rng.pick(keys)]);
          break;
        case 'batch':
          await this.#put(
            engine,
            writer,
            keys.filter(() => rng.chance(0.4)),
          );
          break;
        case 'several':
          // asked without waiting: they are logged in this order, and become durable together or not
          await settled(
            Array.from({ length: rng.int(2, 5) }, () => this.#put(engine, writer, [rng.pick(keys)])),
          );
          break;
        case 'delete':
          await this.#delete(engine, writer, rng.pick(keys));
          break;
        case 'truncate':
          await this.#truncate(engine, writer);
          break;
        case 'mark':
          await this.#mark(engine, writer);
          break;
        case 'wrong':
          await this.#wrong(engine, rng.pick(keys));
          break;
        case 'get':
          await this.#get(engine, rng.pick(keys));
          break;
      }
      if (rng.chance(this.#world.rest.chance)) await process.sleep(rng.int(0, this.#world.rest.msMax));
    }
  }

  async #put(engine: Engine, writer: string, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const { history } = this.#world;
    const value = `${writer}.${this.#numbers++}`;
    // in a batch of several one may be a delete
    const gone = keys.length > 1 ? keys.find((k) => history.newest(k) && this.#rng.chance(0.3)) : undefined;
    const before = keys.map((key) => history.newest(key));
    const operation = this.#asked(
      writer,
      `${keys.length > 1 ? 'batch' : 'put'} ${value} ${keys.join()}`,
      keys.map((key) => ({ key, value: key === gone ? undefined : value })),
    );
    const ops = keys.map(
      (key): BatchOp =>
        key === gone
          ? { op: 'delete', key: recordKey(key) }
          : { op: 'put', key: recordKey(key), bins: binsOf(value), mode: 'replace' },
    );
    const outcomes = await engine.batch(ops);
    for (const [i, o] of outcomes.entries()) {
      const { key, value: written, generation } = operation.changes[i];
      if (written !== undefined && o.generation !== generation)
        throw new Violation(`${operation.what}: generation ${o.generation} of ${key}, not ${generation}`);
      if (o.found !== (before[i] !== undefined))
        throw new Violation(`${operation.what}: found is ${o.found} for ${key}`);
      if (o.ts !== outcomes[0].ts) throw new Violation(`S3: ${operation.what} has two instants`);
    }
    history.acknowledge(
      operation,
      outcomes.map((o) => o.lsn),
      outcomes[0].ts,
    );
  }

  async #delete(engine: Engine, writer: string, key: string): Promise<void> {
    if (!this.#world.history.newest(key)) return;
    const operation = this.#asked(writer, `delete ${key}`, [{ key, value: undefined }]);
    const { found, lsn, ts } = await engine.delete(recordKey(key));
    if (!found) throw new Violation(`S2: ${key} was acknowledged, and a delete does not find it`);
    this.#world.history.acknowledge(operation, [lsn], ts);
  }

  async #truncate(engine: Engine, writer: string): Promise<void> {
    const { history } = this.#world;
    const keys = history.keysOf(writer);
    const operation = this.#asked(
      writer,
      `truncate ${writer}`,
      keys.map((key) => ({ key, value: undefined })),
    );
    const there = keys.filter((key, i) => history.newest(key) === undefined && operation.changes[i]).length;
    const { lsn, ts, records } = await engine.truncate({ namespace: NAMESPACE, set: writer });
    if (records > there) throw new Violation(`${operation.what} removed ${records} records of ${there}`);
    history.acknowledge(operation, [lsn], ts);
  }

  async #mark(engine: Engine, writer: string): Promise<void> {
    const mark = await engine.mark(`${writer}.${this.#numbers++}`);
    this.#world.history.marked(this.#node.stream, mark);
  }

  /** A write that expects another generation leaves nothing behind. */
  async #wrong(engine: Engine, key: string): Promise<void> {
    const generation = (this.#world.history.newest(key)?.generation ?? 0) + 7;
    try {
      await engine.put(recordKey(key), { v: 'wrong' }, { generation });
    } catch (error) {
      if (isPitrError(error, 'generation-mismatch')) return;
      throw error;
    }
    throw new Violation(`a write of ${key} that expects generation ${generation} was taken`);
  }

  async #get(engine: Engine, key: string): Promise<void> {
    const seen = await seenIn(engine, key);
    const readable = this.#world.history.readable(key);
    if (!readable.includes(seen?.value))
      throw new Violation(`S2: ${key} reads as ${seen?.value}, durable is one of ${readable.join()}`);
  }

  #asked(
    writer: string,
    what: string,
    changes: readonly { key: string; value: string | undefined }[],
  ): Operation {
    return this.#world.history.asked(this.#node.stream, writer, what, changes);
  }
}

/** Waits for all; the first failure counts. */
const settled = async (work: readonly Promise<void>[]): Promise<void> => {
  const results = await Promise.allSettled(work);
  const failed = results.find((r) => r.status === 'rejected');
  if (failed) throw failed.reason;
};

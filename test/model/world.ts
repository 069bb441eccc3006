/** Three engines on one archive, and the model beside them. Every step is done to both, and their answers are compared. */
import { strict as assert } from 'node:assert';
import { cpSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { ManualClock } from '../../engine/clock.ts';
import type { EngineRecord } from '../../engine/engine-record.ts';
import type { BatchOp } from '../../engine/engine-types.ts';
import { PitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import type { RecordKey } from '../../engine/record-key.ts';
import { particle, type Value } from '../../engine/value.ts';
import { handover } from '../../restore/handover.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { Model, type StateLines } from './model.ts';
import { idOf, lineOf, type ModelKey, type ModelOp } from './rules.ts';

export interface Node {
  readonly stream: string;
  dir: string;
  engine: Engine;
  archiver: Archiver;
}

export interface WorldOptions {
  readonly dir: string;
  readonly startMs: number;
  readonly shards: number;
  readonly fanout: number;
  readonly retireMs: number;
}

const RANGES = { a: [0, 1365], b: [1366, 2730], c: [2731, 4095] } as const;

export const lineOfRecord = (r: EngineRecord): string =>
  lineOf({
    namespace: r.namespace,
    set: r.set,
    digest: r.digest.toString('hex'),
    generation: r.generation,
    voidTime: r.voidTime,
    lut: r.lut,
    key: r.key,
    bins: r.particles,
  });

export const scanLines = async (engine: Engine): Promise<StateLines> => {
  const lines: StateLines = new Map();
  for await (const r of engine.scan()) {
    const id = idOf({ namespace: r.namespace, digest: r.digest.toString('hex') });
    assert(!lines.has(id), `${id} came twice in a scan`);
    lines.set(id, lineOfRecord(r));
  }
  return lines;
};

/** The few lines in which two states differ, so that a failure can be read. */
export const assertSameState = (actual: StateLines, expected: StateLines, where: string): void => {
  const wrong: string[] = [];
  for (const [id, line] of expected)
    if (actual.get(id) !== line)
      wrong.push(`expected ${line}\n     got ${actual.get(id) ?? `nothing for ${id}`}`);
  for (const [id, line] of actual) if (!expected.has(id)) wrong.push(`expected nothing\n     got ${line}`);
  if (wrong.length > 0) {
    const rest = wrong.length > 5 ? `\n… and ${wrong.length - 5} more` : '';
    assert.fail(`${where}: ${wrong.length} records differ\n${wrong.slice(0, 5).join('\n')}${rest}`);
  }
};

/** The id of the error that `work` ends with, or undefined when it succeeds. Anything but a PitrError goes on. */
export const errorIdOf = async (work: Promise<unknown>): Promise<string | undefined> => {
  try {
    await work;
    return undefined;
  } catch (error) {
    if (error instanceof PitrError) return error.id;
    throw error;
  }
};

const recordKeyOf = (key: ModelKey, storeKey: boolean): RecordKey => {
  const { namespace, set } = key;
  if (!key.key) return { namespace, set, digest: Buffer.from(key.digest, 'hex') };
  const { type, bytes } = key.key;
  const name =
    type === 1
      ? Buffer.from(bytes).readBigInt64BE()
      : type === 3
        ? Buffer.from(bytes).toString('utf8')
        : bytes;
  return { namespace, set, key: name, storeKey };
};

export const batchOpOf = (op: ModelOp): BatchOp => {
  const generation = op.generation === undefined ? {} : { generation: op.generation };
  if (op.op === 'delete') return { op: 'delete', key: recordKeyOf(op.key, true), ...generation };
  const ttl = op.ttl === undefined ? {} : { ttl: op.ttl };
  if (op.op === 'touch') return { op: 'touch', key: recordKeyOf(op.key, true), ...generation, ...ttl };
  const bins: Record<string, Value | null> = Object.create(null);
  for (const [name, value] of op.bins) bins[name] = value && particle(value.type, value.bytes);
  return { op: 'put', key: recordKeyOf(op.key, op.storeKey), bins, mode: op.mode, ...generation, ...ttl };
};

export class World {
  readonly clock: ManualClock;
  readonly model: Model;
  readonly nodes: Node[] = [];
  readonly archiveUrl: string;
  readonly startTs: number;
  archive!: Archive;
  readonly #options: WorldOptions;
  #directories = 0;

  private constructor(options: WorldOptions, clock = new ManualClock(options.startMs), model = new Model()) {
    this.#options = options;
    this.clock = clock;
    this.model = model;
    this.startTs = options.startMs;
    this.archiveUrl = `file:${join(options.dir, 'archive')}`;
  }

  static async open(options: WorldOptions): Promise<World> {
    const world = new World(options);
    const { clock } = world;
    for (const [stream, [first, last]] of Object.entries(RANGES)) {
      const dir = world.newDir(stream);
      await Engine.init(dir, {
        archive: world.archiveUrl,
        stream,
        partitions: PartitionSet.of([{ start: first, end: last + 1 }]),
        shards: options.shards,
        clock,
      });
      world.model.addStream(stream, [[first, last]], options.startMs);
      world.nodes.push({
        stream,
        dir,
        engine: await world.#openEngine(dir),
        archiver: await world.#openArchiver(dir),
      });
    }
    world.archive = await Archive.open(world.archiveUrl, { clock });
    return world;
  }

  /** The same place and clock with the one engine of a fork. */
  forked(model: Model, node: Node): World {
    const world = new World(this.#options, this.clock, model);
    world.nodes.push(node);
    world.archive = this.archive;
    return world;
  }

  get timeline(): string {
    return this.nodes[0].engine.identity.timeline;
  }

  newDir(name: string): string {
    return join(this.#options.dir, `${name}${++this.#directories}`);
  }

  node(stream: string): Node {
    const node = this.nodes.find((n) => n.stream === stream);
    assert(node, `no engine has stream ${stream}`);
    return node;
  }

  ownerOf(key: ModelKey): Node {
    return this.node(this.model.ownerOf(key.partition) as string);
  }

  /** One operation as itself, several as a batch. The model says beforehand what must come out. */
  async write(node: Node, ops: readonly ModelOp[]): Promise<void> {
    const { model, clock } = this;
    const nowMs = clock.nowMs();
    const refusal = ops.some((o) => model.ownerOf(o.key.partition) !== node.stream)
      ? 'partition-not-owned'
      : model.refusal(ops, model.nextTs(node.stream, nowMs));
    const lastLsn = node.engine.lastLsn;
    if (refusal !== 'partition-not-owned') model.attempted(node.stream, nowMs);
    if (refusal !== undefined) {
      const id = await errorIdOf(this.#send(node, ops));
      assert.equal(id, refusal, `a write to ${node.stream} must be refused`);
      assert.equal(node.engine.lastLsn, lastLsn, 'S3: a refused write leaves no trace in the log');
      return;
    }
    const outcomes = await this.#send(node, ops);
    model.acknowledge(node.stream, ops, outcomes, nowMs);
  }

  /** Writes that do not wait for each other: they share a sync, and must still be one order. */
  async burst(node: Node, ops: readonly ModelOp[]): Promise<void> {
    const nowMs = this.clock.nowMs();
    const sent = await Promise.allSettled(ops.map((op) => this.#send(node, [op])));
    this.model.attempted(node.stream, nowMs);
    sent.forEach((result, i) => {
      const refusal = this.model.refusal([ops[i]], this.model.nextTs(node.stream, nowMs));
      if (result.status === 'fulfilled') {
        assert.equal(refusal, undefined, `write ${i} of a burst must be refused`);
        this.model.acknowledge(node.stream, [ops[i]], result.value, nowMs);
      } else {
        assert(result.reason instanceof PitrError, String(result.reason));
        assert.equal(result.reason.id, refusal, `write ${i} of a burst`);
      }
    });
  }

  async checkRead(key: ModelKey): Promise<void> {
    const found = await this.ownerOf(key).engine.get(recordKeyOf(key, true));
    const expected = this.model.get(key, this.clock.nowMs());
    assert.equal(
      found && lineOfRecord(found),
      expected && lineOf(expected),
      'a read of what was acknowledged',
    );
  }

  async checkScan(node: Node): Promise<void> {
    const expected = this.model.currentLines(node.stream, this.clock.nowMs());
    assertSameState(await scanLines(node.engine), expected, `scan of ${node.stream}`);
  }

  async truncate(node: Node, event: { namespace: string; set: string | null; beforeMs: number | undefined }) {
    const { namespace, set, beforeMs } = event;
    const answer = await node.engine.truncate({
      namespace,
      ...(set === null ? {} : { set }),
      ...(beforeMs === undefined ? {} : { beforeMs }),
    });
    this.model.truncated(node.stream, event, answer, this.clock.nowMs());
  }

  async mark(node: Node, name: string): Promise<void> {
    this.model.marked(node.stream, await node.engine.mark(name), this.clock.nowMs());
  }

  async seal(node: Node): Promise<void> {
    const frontier = await node.engine.seal();
    this.model.sealed(node.stream, this.clock.nowMs(), frontier);
  }

  async archiveRound(node: Node): Promise<void> {
    await node.archiver.archivePending();
    this.model.published(node.stream, node.archiver.head.frontier);
  }

  async restart(node: Node): Promise<void> {
    await node.engine.close();
    this.model.sealed(node.stream, this.clock.nowMs());
    node.engine = await this.#openEngine(node.dir);
  }

  /**
   * What is on disk at this instant goes on in another directory, as after a kill -9: neither seal nor flush has run. The copy
   * is one synchronous step, during which the store can finish at most the one commit that is under way.
   */
  async crash(node: Node): Promise<void> {
    const dir = this.newDir(node.stream);
    cpSync(node.dir, dir, {
      recursive: true,
      filter: (path) => !path.endsWith('.sock') && !path.includes('.lock'),
    });
    await Promise.all([node.engine.close(), node.archiver.close()]);
    await fs.rm(node.dir, { recursive: true });
    this.model.crashed(node.stream);
    node.dir = dir;
    node.engine = await this.#openEngine(dir);
    node.archiver = await this.#openArchiver(dir);
    assert.equal(
      node.engine.lastLsn,
      this.model.stream(node.stream).lastLsn,
      'S2: what was acknowledged is there',
    );
    await this.checkScan(node);
  }

  /** Another agent takes the stream: it must go on where the published head is. */
  async replaceArchiver(node: Node): Promise<void> {
    await node.archiver.close();
    node.archiver = await this.#openArchiver(node.dir);
  }

  async handover(from: Node, to: Node, first: number, last: number): Promise<void> {
    const partitions = PartitionSet.of([{ start: first, end: last + 1 }]);
    const owned = new Set(this.model.partitionsOf(from.stream));
    const moved = Array.from({ length: last + 1 - first }, (_, i) => first + i);
    const nowMs = this.clock.nowMs();
    const options = { from: from.engine, to: to.engine, partitions, archive: this.archive };
    if (!moved.every((p) => owned.has(p))) {
      assert.equal(
        await errorIdOf(handover({ ...options, fromArchiver: from.archiver })),
        'partition-not-owned',
      );
      return;
    }
    const done = await handover({ ...options, fromArchiver: from.archiver });
    const { model } = this;
    model.handedOver(
      moved,
      { stream: from.stream, ...done.released },
      { stream: to.stream, ...done.acquired },
      nowMs,
    );
    // it had to seal and ship the old owner's log
    model.sealed(from.stream, nowMs);
    model.published(from.stream, from.archiver.head.frontier);
    await this.checkScan(from);
    await this.checkScan(to);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.nodes.flatMap((n) => [n.engine.close(), n.archiver.close()]));
  }

  async #send(node: Node, ops: readonly ModelOp[]) {
    if (ops.length > 1) return node.engine.batch(ops.map(batchOpOf));
    const op = batchOpOf(ops[0]);
    if (op.op === 'put') return [await node.engine.put(op.key, op.bins, op)];
    if (op.op === 'delete') return [await node.engine.delete(op.key, op)];
    return [await node.engine.touch(op.key, op)];
  }

  #openEngine(dir: string): Promise<Engine> {
    return Engine.open({ dir, sealMs: 0, clock: this.clock });
  }

  #openArchiver(dir: string): Promise<Archiver> {
    const { fanout, retireMs } = this.#options;
    return Archiver.open(dir, { clock: this.clock, fanout, retireMs });
  }
}

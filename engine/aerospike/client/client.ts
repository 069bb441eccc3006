import { PitrError } from '../../errors.ts';
import type { Particle } from '../../particle.ts';
import { digestOf } from '../../partition.ts';
import { ResultCode } from '../result-code.ts';
import { type BatchBounds, batched, DEFAULT_BATCH_BOUNDS } from './batch-call.ts';
import { type ClientOptions, type Settings, settingsOf } from './client-options.ts';
import { Cluster } from './cluster.ts';
import type { ClusterNode } from './cluster-node.ts';
import {
  deleteCommand,
  operateCommand,
  type PutOptions,
  putCommand,
  type ReadOptions,
  type RecordCommand,
  readCommand,
  touchCommand,
  type WireKey,
  type WriteOptions,
} from './command.ts';
import type { CommandResults } from './command-results.ts';
import { CommandRun, type Transport } from './command-run.ts';
import { pipelined } from './lane.ts';
import { RateLimit } from './rate-limit.ts';
import type { AerospikeRecord, Bin, WireOp } from './record.ts';
import type { RowBatch } from './row-batch.ts';
import { type RowAnswer, RowCall } from './row-call.ts';
import { Scan, type ScanOptions } from './scan.ts';
import { sleep } from './timing.ts';

/** Generation and void time (s since 1970, 0 never) of a record. */
export interface RecordHeader {
  readonly generation: number;
  readonly voidTimeS: number;
}

export interface RunOptions {
  /** For all of them, with all attempts; with a rate, for as many as it lets pass at once. Default the client's. */
  readonly timeoutMs?: number;
}

/**
 * A client that reads and writes records of a cluster as bytes and loses nothing of them.
 *
 *     const client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1' }] });
 *     const key = wireKeyOf('test', 'demo', integerKey);
 *     await client.put(key, [{ name: 'a', type: ParticleType.integer, bytes }], { mode: 'replace', ttl: 'never' });
 *     for await (const block of client.scan({ namespace: 'test', set: 'demo' })) …
 *     await client.close();
 */
export class AerospikeClient {
  readonly #settings: Settings;
  readonly #cluster: Cluster;
  readonly #rate: RateLimit;

  private constructor(settings: Settings) {
    this.#settings = settings;
    this.#cluster = new Cluster(settings);
    this.#rate = new RateLimit(settings.rate);
  }

  /** @throws aerospike-unreachable, aerospike-login, aerospike-unsupported, wire-malformed */
  static async connect(options: ClientOptions): Promise<AerospikeClient> {
    if (options.hosts.length === 0) throw new PitrError('usage', { what: 'no host to connect to' });
    const client = new AerospikeClient(settingsOf(options));
    await client.#cluster.start();
    return client;
  }

  /** Ends everything; what is under way ends with `aerospike-closed` (N7). */
  close(): Promise<void> {
    return this.#cluster.close();
  }

  get nodes(): readonly ClusterNode[] {
    return this.#cluster.nodes;
  }

  get namespaces(): readonly string[] {
    return this.#cluster.map.namespaces;
  }

  /** The one key that every node states; undefined while they differ or change. */
  get clusterKey(): string | undefined {
    const keys = new Set(this.nodes.map((node) => node.clusterKey));
    return keys.size === 1 ? [...keys][0] : undefined;
  }

  /** The master of a partition; undefined: nobody claims it. */
  ownerOf(namespace: string, partition: number): ClusterNode | undefined {
    return this.#cluster.ownerOf(namespace, partition);
  }

  /** Looks at every node now instead of with the next tick. */
  tend(): Promise<void> {
    return this.#cluster.tend();
  }

  /** Asks one node; values by command, failures among them. @throws aerospike-…, wire-malformed */
  info(node: ClusterNode, commands: readonly string[]): Promise<Map<string, string>> {
    return node.info(commands, this.#settings.commandTimeoutMs);
  }

  /** Asks every node; answers by node id. @throws when one of them does not answer */
  async infoAll(commands: readonly string[]): Promise<Map<string, Map<string, string>>> {
    const answers = await Promise.all(
      this.nodes.map(async (node) => [node.id, await this.info(node, commands)] as const),
    );
    return new Map(answers);
  }

  /** Undefined: there is no such record. @throws aerospike-result (code 27: the filter is false) and others */
  async get(key: WireKey, options?: ReadOptions & RunOptions): Promise<AerospikeRecord | undefined> {
    const results = await this.#one(readCommand(key, options), options, true);
    return results.record(0);
  }

  /** Undefined: there is no such record. */
  async exists(key: WireKey, options?: RunOptions): Promise<RecordHeader | undefined> {
    const results = await this.#one(readCommand(key, { bins: 'none' }), options, true);
    return results.code(0) === ResultCode.ok ? headerOf(results) : undefined;
  }

  /** @throws aerospike-result, with `inDoubt` where it may have been done all the same; and others */
  async put(key: WireKey, bins: readonly Bin[], options?: PutOptions & RunOptions): Promise<RecordHeader> {
    return headerOf(await this.#one(putCommand(key, bins, options), options, false));
  }

  /** False: there was no such record. */
  async delete(key: WireKey, options?: WriteOptions & RunOptions): Promise<boolean> {
    const results = await this.#one(deleteCommand(key, options), options, true);
    return results.code(0) === ResultCode.ok;
  }

  /** Undefined: there is no such record. */
  async touch(key: WireKey, options?: WriteOptions & RunOptions): Promise<RecordHeader | undefined> {
    const results = await this.#one(touchCommand(key, options), options, true);
    return results.code(0) === ResultCode.ok ? headerOf(results) : undefined;
  }

  /** Ops in order; `answers` has one for each, with type 0 for what has no value. */
  async operate(
    key: WireKey,
    ops: readonly WireOp[],
    options?: PutOptions & RunOptions,
  ): Promise<RecordHeader & { readonly answers: readonly Bin[] }> {
    const results = await this.#one(operateCommand(key, ops, options), options, false);
    return { ...headerOf(results), answers: results.answers(0) };
  }

  /** Many commands, pipelined on a few sockets; what came of each by its place, failures among it. @throws aerospike-closed */
  runAll(commands: readonly RecordCommand[], options?: RunOptions): Promise<CommandResults> {
    return this.#sliced(commands, pipelined, options);
  }

  /** Many commands, many in one request; each is on its own: there is no transaction. @throws aerospike-closed */
  batch(
    commands: readonly RecordCommand[],
    options: RunOptions & Partial<BatchBounds> = {},
  ): Promise<CommandResults> {
    return this.#sliced(commands, batched(this.#settings, { ...DEFAULT_BATCH_BOUNDS, ...options }), options);
  }

  /**
   * Sends rows that were written as bytes, each of which may be done twice; {@link RowBatch.codes} then says what came of each, and
   * {@link RowBatch.failure} why there is no answer. With a rate it waits afterwards. @throws aerospike-closed
   */
  async sendRows(batch: RowBatch, onAnswer?: RowAnswer): Promise<void> {
    this.#cluster.assertOpen('the rows were sent');
    await new RowCall(batch, this.#cluster, this.#settings, onAnswer).finish();
    if (!this.#rate.isSet) return;
    const { timing } = this.#settings;
    const waitMs = this.#rate.spend(batch.rows, batch.used, timing.nowMs());
    if (waitMs > 0) await sleep(timing, waitMs, this.#cluster.signal);
  }

  /** @throws usage; the rest while it is iterated: see {@link Scan} */
  scan(options: ScanOptions): Scan {
    return new Scan(this.#cluster, this.#settings, this.#rate, options);
  }

  async #sliced(
    commands: readonly RecordCommand[],
    transport: Transport,
    options: RunOptions | undefined,
  ): Promise<CommandResults> {
    this.#cluster.assertOpen('the commands were sent');
    const run = new CommandRun(commands, this.#cluster, this.#settings, transport, this.#timeoutMs(options));
    if (!this.#rate.isSet) return run.finish();
    const { timing } = this.#settings;
    for (let start = 0; start < commands.length; ) {
      const { end, bytes } = this.#portion(commands, start);
      await run.finish(start, end);
      const waitMs = this.#rate.spend(end - start, bytes, timing.nowMs());
      if (waitMs > 0) await sleep(timing, waitMs, this.#cluster.signal);
      this.#cluster.assertOpen('the commands were sent');
      start = end;
    }
    return run.results;
  }

  /** As many commands as the rate lets pass at once, at least one. */
  #portion(commands: readonly RecordCommand[], start: number): { end: number; bytes: number } {
    let bytes = 0;
    let end = start;
    do bytes += commands[end++].ops.reduce((n, { bytes: b }) => n + b.length, 0);
    while (end < commands.length && !this.#rate.isMuch(end - start, bytes));
    return { end, bytes };
  }

  async #one(
    command: RecordCommand,
    options: RunOptions | undefined,
    mayBeMissing: boolean,
  ): Promise<CommandResults> {
    this.#cluster.assertOpen('the command was sent');
    const run = new CommandRun([command], this.#cluster, this.#settings, pipelined, this.#timeoutMs(options));
    const results = await run.finish();
    const code = results.code(0);
    if (code === ResultCode.ok || (mayBeMissing && code === ResultCode.notFound)) return results;
    throw results.failure(0) ?? new PitrError('internal', { what: 'a command without an end' });
  }

  #timeoutMs(options: RunOptions | undefined): number {
    return options?.timeoutMs ?? this.#settings.commandTimeoutMs;
  }
}

const headerOf = (results: CommandResults): RecordHeader => ({
  generation: results.generation(0),
  voidTimeS: results.voidTimeS(0),
});

/** The key of a record that is named by set and user key; `isStored`: writes store the user key with it. */
export const wireKeyOf = (namespace: string, set: string, key: Particle, isStored = false): WireKey => ({
  namespace,
  set,
  digest: digestOf(set, key.type, key.bytes),
  ...(isStored ? { key } : {}),
});

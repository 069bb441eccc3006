import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import type { WireKey } from '../../engine/aerospike/client/command.ts';
import type { Bin } from '../../engine/aerospike/client/record.ts';
import { systemTiming, type Timing } from '../../engine/aerospike/client/timing.ts';
import {
  AerospikeServer,
  type AerospikeServerOptions,
} from '../../engine/aerospike/server/aerospike-server.ts';
import { Faults } from '../../engine/aerospike/server/faults.ts';
import { ManualClock } from '../../engine/clock.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { PARTITIONS, PartitionSet } from '../../engine/partition.ts';
import { Poller, type PollerOptions } from '../../wal/capture/aerospike/poller.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { Engine } from '../../wal/engine.ts';
import { type LogContent, readLog } from './log-state.ts';

export const NAMESPACE = 'test';
/** When the clocks of worlds begin. */
export const START_MS = 1_795_000_000_000;

export interface WorldOptions {
  readonly server?: Partial<AerospikeServerOptions>;
  readonly client?: Partial<ClientOptions>;
  readonly poller?: PollerOptions;
  readonly sets?: readonly string[] | null;
  readonly namespaces?: readonly string[];
  readonly partitions?: string;
}

/** A cluster whose clock a test moves, a capture directory, and a poller between them. */
export class World {
  readonly clock: ManualClock;
  readonly faults: Faults;
  readonly server: AerospikeServer;
  readonly client: AerospikeClient;
  readonly dir: string;
  readonly #root: string;
  readonly #engine: Engine;
  readonly #options: WorldOptions;
  journal!: Journal;
  poller!: Poller;

  private constructor(parts: {
    clock: ManualClock;
    faults: Faults;
    server: AerospikeServer;
    client: AerospikeClient;
    root: string;
    engine: Engine;
    options: WorldOptions;
  }) {
    this.clock = parts.clock;
    this.faults = parts.faults;
    this.server = parts.server;
    this.client = parts.client;
    this.#root = parts.root;
    this.#engine = parts.engine;
    this.#options = parts.options;
    this.dir = join(parts.root, 'capture');
  }

  static async open(options: WorldOptions = {}): Promise<World> {
    const root = await mkdtemp(join(tmpdir(), 'pitr-capture-'));
    const clock = new ManualClock(START_MS);
    const faults = new Faults();
    const wrong = faults.clockOf(clock);
    await Engine.init(join(root, 'engine'), { clock: wrong });
    const engine = await Engine.open({ dir: join(root, 'engine'), clock: wrong });
    const server = await AerospikeServer.listen({
      engine,
      port: 0,
      faults,
      clock: wrong,
      namespaces: options.namespaces ?? [NAMESPACE],
      ...options.server,
    });
    // each node a range: its scans are cheaper than those of every third partition
    const { nodes } = server.cluster;
    const size = Math.ceil(PARTITIONS / nodes.length);
    for (const node of nodes.keys()) {
      const range = { start: node * size, end: Math.min(PARTITIONS, (node + 1) * size) };
      server.cluster.move(PartitionSet.of([range]), node, clock.nowMs());
    }
    const { port } = server.addresses[0];
    const client = await AerospikeClient.connect({
      hosts: [{ host: '127.0.0.1', port }],
      tendIntervalMs: 50,
      backoff: { firstMs: 5, maxMs: 40 },
      attemptsMax: 3,
      ...options.client,
    });
    const world = new World({ clock, faults, server, client, root, engine, options });
    await initCapture(
      world.dir,
      {
        kind: 'aerospike',
        url: `aerospike://127.0.0.1:${port}`,
        namespaces: options.namespaces ?? [NAMESPACE],
        sets: options.sets ?? null,
      },
      {
        archive: `file:${join(root, 'archive')}`,
        ...(options.partitions ? { partitions: PartitionSet.parse(options.partitions) } : {}),
      },
    );
    await world.reopen();
    return world;
  }

  /** Our clock beside the server's: as many ms pass on both, unless the server's is set. */
  get timing(): Timing {
    return { ...systemTiming, nowMs: () => this.clock.nowMs() };
  }

  /** As after a restart of the capture. */
  async reopen(poller = this.#options.poller): Promise<void> {
    await this.journal?.close();
    this.journal = await Journal.open(this.dir);
    this.renew(poller);
  }

  /** Another poller of the same journal, as after a failure. */
  renew(poller = this.#options.poller): void {
    this.poller = new Poller(this.client, this.journal, { timing: this.timing, ...poller });
  }

  /** A base copy of nothing. */
  async begin(): Promise<void> {
    const { clockMs } = await this.poller.prepare();
    await this.journal.loaded(new ContentDigest(this.journal.identity.shards), clockMs);
    this.poller.copied();
    this.clock.step(10);
  }

  key(n: number, set = 's', namespace = NAMESPACE): WireKey {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(n));
    return wireKeyOf(namespace, set, { type: 1, bytes });
  }

  async put(n: number, value: number, set = 's', ttl: 'never' | number = 'never'): Promise<void> {
    await this.client.put(this.key(n, set), [intBin('a', value)], { ttl });
    this.clock.step(1);
  }

  async info(command: string): Promise<string[]> {
    return [...(await this.client.infoAll([command])).values()].map((said) => said.get(command) ?? '');
  }

  log(): Promise<LogContent> {
    return readLog(this.dir);
  }

  async close(): Promise<void> {
    await this.client.close();
    await this.server.close();
    await this.#engine.close();
    await this.journal.close();
    await rm(this.#root, { recursive: true, force: true });
  }
}

export const intBin = (name: string, n: number): Bin => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return { name, type: 1, bytes };
};

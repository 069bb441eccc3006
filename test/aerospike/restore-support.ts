/** An archive of an embedded engine, a target cluster, and what is in it by requests made by hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { Faults } from '../../engine/aerospike/server/faults.ts';
import { systemClock } from '../../engine/clock.ts';
import { type ClusterRestoreOptions, restoreCluster } from '../../restore/aerospike/restore-cluster.ts';
import { defaultStateDir } from '../../restore/aerospike/restore-state.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { type OwnServer, REAL } from './client-support.ts';
import { scan } from './partition-scan.ts';
import { NAMESPACE } from './subject.ts';
import type { Reply } from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

/** A source engine that is served and archived. */
export class Source {
  readonly dir = mkdtempSync(join(tmpdir(), 'pitr-restore-cluster-'));
  readonly engineDir = join(this.dir, 'source');
  readonly archive = `file:${join(this.dir, 'archive')}`;
  #engine: Engine | undefined;
  #server: AerospikeServer | undefined;
  #wire: WireConnection | undefined;

  static async open(namespaces: readonly string[] = [NAMESPACE, 'bar']): Promise<Source> {
    const source = new Source();
    await Engine.init(source.engineDir, { archive: source.archive });
    source.#engine = await Engine.open({ dir: source.engineDir });
    source.#server = await AerospikeServer.listen({
      engine: source.#engine,
      port: 0,
      namespaces,
    });
    source.#wire = await WireConnection.open('127.0.0.1', source.#server.addresses[0]!.port);
    return source;
  }

  get engine(): Engine {
    return this.#engine!;
  }

  get wire(): WireConnection {
    return this.#wire!;
  }

  /** An instant that lies between what was done before and what is done after. */
  async instant(): Promise<string> {
    await sleep(3);
    const now = Date.now();
    await sleep(3);
    return String(now);
  }

  /** Ends the source and archives all that it has. */
  async archived(): Promise<void> {
    this.#wire?.close();
    await this.#server?.close();
    await this.#engine?.close();
    const archiver = await Archiver.open(this.engineDir);
    await archiver.archivePending();
    await archiver.close();
  }

  close(): void {
    rmSync(this.dir, { recursive: true });
  }
}

/** Our own server, whose clock can be wrong. */
const wrongableServer = async (
  nodes: number,
  namespaces: readonly string[] = [NAMESPACE, 'bar'],
): Promise<OwnServer> => {
  const dir = mkdtempSync(join(tmpdir(), 'pitr-restore-target-'));
  const faults = new Faults();
  const clock = faults.clockOf(systemClock);
  const engine = await Engine.open({ dir, clock });
  const server = await AerospikeServer.listen({
    engine,
    port: 0,
    faults,
    clock,
    nodes,
    namespaces,
  });
  return {
    server,
    faults,
    port: server.addresses[0]!.port,
    close: async () => {
      await server.close();
      await engine.close();
      rmSync(dir, { recursive: true });
    },
  };
};

/** A cluster to restore into: our endpoint in this process, or the server of PITR_TEST_AEROSPIKE. */
export class Target {
  readonly host: string;
  readonly port: number;
  readonly wire: WireConnection;
  readonly own: OwnServer | undefined;

  private constructor(host: string, port: number, wire: WireConnection, own: OwnServer | undefined) {
    this.host = host;
    this.port = port;
    this.wire = wire;
    this.own = own;
  }

  static async open(nodes = 1, namespaces?: readonly string[]): Promise<Target> {
    const isOurs = REAL === undefined || nodes > 1 || namespaces !== undefined;
    const own = isOurs ? await wrongableServer(nodes, namespaces) : undefined;
    const [host = '127.0.0.1', port = `${own?.port}`] = own ? [] : (REAL?.split(':') ?? []);
    return new Target(host, Number(port), await WireConnection.open(host, Number(port)), own);
  }

  get url(): string {
    return `aerospike://${this.host}:${this.port}`;
  }

  /** Records of a set by digest: generation, void time, stored key, and bins in their order. */
  async state(set: string, namespace = NAMESPACE): Promise<Map<string, string>> {
    const state = new Map<string, string>();
    const servers = this.own ? this.own.server.addresses : [{ host: this.host, port: this.port }];
    for (const { host, port } of servers) {
      const wire = await WireConnection.open(host, port);
      for (let from = 0; from < 4096; from += 1024) {
        const partitions = Array.from({ length: 1024 }, (_, i) => from + i);
        const { records } = await scan(wire, { namespace, set, partitions });
        for (const r of records) state.set(r.fields.get(4)!.toString('hex'), stateOf(r));
      }
      wire.close();
    }
    return state;
  }

  async close(): Promise<void> {
    this.wire.close();
    await this.own?.close();
  }
}

const stateOf = ({ fields, ops }: Reply): string =>
  `${fields.get(2)?.toString('hex') ?? '-'} | ${ops.join(' | ')}`;

export type Options = Partial<ClusterRestoreOptions> & { readonly target: string };

/** Restores from the source into the target, with short waits, in this thread. */
export const restoreInto = (source: Source, target: Target, options: Options) =>
  restoreCluster({
    archive: source.archive,
    client: {
      hosts: [{ host: target.host, port: target.port }],
      tendIntervalMs: 50,
      backoff: { firstMs: 5, maxMs: 40 },
    },
    place: target.url,
    workers: 0,
    stateDir: (wanted) => defaultStateDir(source.dir, wanted),
    ...options,
  });

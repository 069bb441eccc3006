import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { type Clock, systemClock } from '../../clock.ts';
import type { EngineCore } from '../../engine-core.ts';
import { PitrError } from '../../errors.ts';
import type { Files } from '../../files.ts';
import type { HostPort } from '../cluster-text.ts';
import { ClusterMap, type NodeAddress } from './cluster-map.ts';
import { Connection, type Host } from './connection.ts';
import { Database } from './database.ts';
import { Definitions } from './definitions.ts';
import type { Faults } from './faults.ts';
import type { Login } from './login.ts';
import { Namespace, type NamespaceSettings } from './namespace.ts';

/** Bytes of requests that have arrived in part and of answers that are not read, over all connections: then the largest goes. */
const HELD_BYTES_MAX = 48 * 1024 * 1024;
/** And when each has to do with less. */
const PRESSED_BYTES = 16 * 1024 * 1024;
const REQUEST_BYTES_MAX = 16 * 1024 * 1024;
/** Over all nodes. */
const CONNECTIONS_MAX = 15_000;
/** Descriptors that are left to log, store and archive: without one the log cannot go on. */
const DESCRIPTORS_KEPT = 256;
/** How long a peer may leave a request half sent, or an answer unread. */
const STALL_MS = 60_000;

export interface AerospikeServerOptions {
  readonly engine: EngineCore;
  /** Where the first node listens; port 0: any. Default 127.0.0.1:3000. */
  readonly host?: string;
  readonly port?: number;
  /** Nodes, at ports that follow the first one's. Default 1. */
  readonly nodes?: number;
  /** Namespaces by name, or with settings. Default `test`. */
  readonly namespaces?: readonly (string | (Partial<NamespaceSettings> & { readonly name: string }))[];
  readonly clusterName?: string;
  /** Certificate and key, and with `ca` those whose clients are let in. */
  readonly tls?: TlsOptions & { readonly name?: string };
  readonly login?: Login;
  /** The engine's clock. */
  readonly clock?: Clock;
  readonly files?: Files;
  /** For tests: what the server does wrong, and the info commands that say so. */
  readonly faults?: Faults;
  readonly requestBytesMax?: number;
  readonly stallMs?: number;
  /** What went wrong in a connection and is no fault of its peer. */
  readonly onError?: (error: unknown) => void;
}

/** As the server has it by default. */
const RECORD_BYTES_MAX = 1024 * 1024;

/**
 * An engine on Aerospike's wire protocol.
 *
 * ```ts
 * const server = await AerospikeServer.listen({ engine, port: 3000, namespaces: ['test'] });
 * await server.close();
 * ```
 */
export class AerospikeServer {
  readonly database: Database;
  readonly cluster: ClusterMap;
  readonly #options: AerospikeServerOptions;
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Connection>();
  /** Of all peers, also those whose TLS handshake is not done: they have no connection. */
  readonly #sockets = new Set<Socket>();
  readonly #connectionsMax = connectionsMax();
  #heldBytes = 0;
  #sweep: NodeJS.Timeout | undefined;

  private constructor(options: AerospikeServerOptions, database: Database, cluster: ClusterMap) {
    this.#options = options;
    this.database = database;
    this.cluster = cluster;
  }

  /** Resolves when all nodes listen. @throws io when an address cannot be had, object-corrupt */
  static async listen(options: AerospikeServerOptions): Promise<AerospikeServer> {
    const { engine, faults } = options;
    const definitions = await Definitions.open(engine.dir, (d) => engine.define(d), options.files);
    const clock = options.clock ?? systemClock;
    const namespaces = (options.namespaces ?? ['test']).map((n) => new Namespace(settingsOf(n)));
    const database = new Database({ engine, definitions, faults, namespaces, clock });
    const nodes = Array.from(
      { length: options.nodes ?? 1 },
      (_, i): NodeAddress => ({ id: nodeIdOf(engine, i), address: { host: '', port: 0 } }),
    );
    const server = new AerospikeServer(options, database, new ClusterMap(nodes));
    try {
      for (const index of nodes.keys()) await server.#open(index);
    } catch (error) {
      await server.close();
      throw error;
    }
    const stallMs = options.stallMs ?? STALL_MS;
    server.#sweep = setInterval(() => server.#dropStalled(stallMs), Math.max(10, stallMs / 4)).unref();
    return server;
  }

  /** Where the nodes listen. */
  get addresses(): HostPort[] {
    return this.cluster.nodes.map(({ address }) => address);
  }

  get connections(): number {
    return this.#connections.size;
  }

  async #open(index: number): Promise<void> {
    const { tls } = this.#options;
    const host = this.#options.host ?? '127.0.0.1';
    const first = this.#options.port ?? 3000;
    const port = first === 0 ? 0 : first + index;
    const connect = (socket: Socket): void => this.#connect(socket, index);
    // a peer that has sent its last request still reads the answers
    const allowHalfOpen = true;
    const handshakeTimeout = this.#options.stallMs ?? STALL_MS;
    const server = tls
      ? createTlsServer({ handshakeTimeout, ...tls, ...mutual(tls), allowHalfOpen }, connect)
      : createServer({ allowHalfOpen }, connect);
    // a handshake that fails, or takes too long, is only told: its socket stays
    server.on('tlsClientError', (_, socket: Socket) => socket.destroy());
    server.on('connection', (socket: Socket) => {
      if (this.#sockets.size >= this.#connectionsMax) {
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) =>
        reject(new PitrError('io', { op: 'listen on', path: `${host}:${port}`, why: cause.code }, { cause })),
      );
      server.listen({ host, port }, resolve);
    });
    const bound = server.address();
    const boundPort = typeof bound === 'object' && bound ? bound.port : port;
    this.cluster.nodes[index].address = { host, port: boundPort };
  }

  #connect(socket: Socket, node: number): void {
    const { login, onError } = this.#options;
    const host: Host = {
      database: this.database,
      login,
      requestBytesMax: this.#options.requestBytesMax ?? REQUEST_BYTES_MAX,
      infoContext: () => ({
        database: this.database,
        cluster: this.cluster,
        node,
        clusterName: this.#options.clusterName ?? 'pitr',
        tlsName: this.#options.tls ? (this.#options.tls.name ?? 'pitr') : '',
        connections: this.connections,
        restart: () => this.restart(),
      }),
      masters: (partition) => this.cluster.masterOf(partition) === node,
      holds: (bytes) => {
        this.#heldBytes += bytes;
        if (bytes > 0 && this.#heldBytes > HELD_BYTES_MAX) this.#dropLargest();
      },
      isPressed: () => this.#heldBytes > PRESSED_BYTES,
      onError: onError ?? (() => undefined),
    };
    const connection = new Connection(socket, host);
    this.#connections.add(connection);
    socket.on('close', () => this.#connections.delete(connection));
  }

  /** Too much is in memory for others who do not go on: who holds most goes. */
  #dropLargest(): void {
    let largest: Connection | undefined;
    for (const connection of this.#connections)
      if (connection.held > (largest?.held ?? 0)) largest = connection;
    largest?.destroy();
  }

  #dropStalled(ms: number): void {
    for (const connection of this.#connections) if (connection.isStalled(ms)) connection.destroy();
  }

  /** What clients see of a cold restart, for tests: connections break, uptime and counters begin anew, removed records may be back. */
  async restart(): Promise<number> {
    const risen = this.database.restart();
    await this.database.engine.committed();
    this.cluster.rebalance(this.database.nowMs());
    // the one that asked gets its answer first
    setTimeout(() => this.dropConnections(), RESTART_MS);
    return risen;
  }

  /** Breaks every connection, as a node does that dies; new ones are taken. */
  dropConnections(): void {
    for (const connection of this.#connections) connection.destroy();
  }

  /** Takes no more connections, answers what has arrived, and ends. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    const closed = this.#servers.map((s) => new Promise((resolve) => s.close(resolve)));
    for (const connection of this.#connections) connection.end();
    const late = setTimeout(() => {
      this.dropConnections();
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_MS);
    await Promise.all(closed);
    clearTimeout(late);
  }
}

const RESTART_MS = 50;
/** As many as the process's open files allow. */
const connectionsMax = (): number => {
  let limits = '';
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    // a system that does not say it: descriptors are its administrator's matter
  }
  const files = Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  return Math.min(CONNECTIONS_MAX, files - Math.min(DESCRIPTORS_KEPT, Math.floor(files / 2)));
};

/** How long connections may take to end at close. */
const CLOSE_MS = 2000;

const mutual = (tls: TlsOptions): TlsOptions =>
  tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true };

const settingsOf = (
  n: string | (Partial<NamespaceSettings> & { readonly name: string }),
): NamespaceSettings => ({
  defaultTtlS: 0,
  recordBytesMax: RECORD_BYTES_MAX,
  ...(typeof n === 'string' ? { name: n } : n),
});

/** The same after a restart: 13 hex digits of the engine's id, and the node's number. */
const nodeIdOf = (engine: EngineCore, index: number): string =>
  `${engine.identity.engineId.slice(0, 13)}${(0xa0 + index).toString(16)}`.toUpperCase();

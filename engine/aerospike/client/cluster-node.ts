import { PitrError } from '../../errors.ts';
import { type NamespaceReplicas, type Peer, parsePeers, parseReplicas } from '../cluster-text.ts';
import { parseInfoError } from '../info.ts';
import { malformed } from '../malformed.ts';
import type { Settings } from './client-options.ts';
import { type Address, addressText, Connection } from './connection.ts';
import { ConnectionPool } from './connection-pool.ts';
import { askInfo, infoValue } from './exchange.ts';
import { Lane } from './lane.ts';
import { type Credentials, NodeLogin } from './login.ts';

const NODE_ID_LENGTH_MAX = 31;
/** The oldest server that answers what the client asks: scans by partition, batches of any command, an account of each query. */
const BUILD_MIN = [6, 0, 0, 0];

/** `8.1.2.0` is at least `[8, 1, 2, 0]`. What follows a dash does not count. */
export const isBuildAtLeast = (build: string, least: readonly number[]): boolean => {
  const numbers = build.split('-')[0].split('.').map(Number);
  for (const [i, n] of least.entries()) {
    const mine = numbers[i] ?? 0;
    if (mine !== n) return mine > n;
  }
  return true;
};

/** A node of the cluster: its sockets, its login, and what it last said of itself. */
export class ClusterNode {
  readonly id: string;
  readonly build: string;
  readonly address: Address;
  readonly pool: ConnectionPool;
  readonly lanes: readonly Lane[];
  state: 'new' | 'active' | 'gone' = 'new';
  /** Tends that failed in a row. */
  failures = 0;
  peers: readonly Peer[] = [];
  /** As it last stated it; undefined while it says that the cluster is not stable. */
  clusterKey: string | undefined;
  #peersGeneration = '';
  #partitionGeneration = '';
  readonly #settings: Settings;
  /** Asks of its own, so that a tend never waits for commands. */
  #tendConnection: Connection | undefined;
  readonly #open: () => Promise<Connection>;

  constructor(
    facts: { readonly id: string; readonly build: string; readonly address: Address },
    settings: Settings,
    open: () => Promise<Connection>,
    first: Connection,
  ) {
    this.id = facts.id;
    this.build = facts.build;
    this.address = facts.address;
    this.#settings = settings;
    this.#open = open;
    this.#tendConnection = first;
    this.pool = new ConnectionPool(settings, open);
    this.lanes = Array.from({ length: settings.lanes }, () => new Lane(this, settings));
  }

  get isUsable(): boolean {
    return this.state === 'active';
  }

  /** For messages. */
  get name(): string {
    return `${this.id} (${addressText(this.address)})`;
  }

  /**
   * Asks what has changed. Returns its replicas when these are new.
   * @throws aerospike-…; wire-malformed; the node then counts as not answering
   */
  async tend(): Promise<readonly NamespaceReplicas[] | undefined> {
    const said = await this.#ask(['node', 'peers-generation', 'partition-generation', 'cluster-stable:']);
    const id = infoValue(said, 'node', this.name);
    if (id !== this.id) {
      this.state = 'gone';
      throw malformed(`node ${this.name} says that it is ${id.slice(0, NODE_ID_LENGTH_MAX)}`);
    }
    const key = said.get('cluster-stable:');
    this.clusterKey = key !== undefined && !parseInfoError(key) ? key : undefined;
    const peersGeneration = infoValue(said, 'peers-generation', this.name);
    if (peersGeneration !== this.#peersGeneration) await this.#readPeers();
    const partitionGeneration = infoValue(said, 'partition-generation', this.name);
    // -1: it does not know yet
    if (partitionGeneration === this.#partitionGeneration || partitionGeneration.startsWith('-')) return;
    return this.#readReplicas();
  }

  async #readPeers(): Promise<void> {
    const { tls, useAlternateServices } = this.#settings;
    const command = `peers-${tls ? 'tls' : 'clear'}-${useAlternateServices ? 'alt' : 'std'}`;
    const said = await this.#ask([command]);
    const peers = parsePeers(infoValue(said, command, this.name));
    this.peers = peers.peers;
    this.#peersGeneration = `${peers.generation}`;
  }

  async #readReplicas(): Promise<readonly NamespaceReplicas[]> {
    // the generation comes with them, so that a change between two questions is not taken for known
    const said = await this.#ask(['partition-generation', 'replicas']);
    const replicas = parseReplicas(infoValue(said, 'replicas', this.name));
    this.#partitionGeneration = infoValue(said, 'partition-generation', this.name);
    return replicas;
  }

  async #ask(commands: readonly string[]): Promise<Map<string, string>> {
    const { timing, connectTimeoutMs } = this.#settings;
    if (!this.#tendConnection?.isOpen) this.#tendConnection = await this.#open();
    if (this.state === 'gone') this.#tendConnection.destroy();
    return askInfo(this.#tendConnection, commands, { timing, timeoutMs: connectTimeoutMs });
  }

  /** On a socket of the pool. @throws aerospike-…, wire-malformed */
  async info(commands: readonly string[], timeoutMs: number): Promise<Map<string, string>> {
    const connection = await this.pool.acquire(timeoutMs);
    try {
      return await askInfo(connection, commands, { timing: this.#settings.timing, timeoutMs });
    } finally {
      this.pool.release(connection);
    }
  }

  /** Ends all of its sockets; what waits ends with `error`. */
  close(
    error: PitrError = new PitrError('aerospike-connection-lost', { node: this.name, why: 'the node left' }),
  ): void {
    this.state = 'gone';
    this.#tendConnection?.destroy(error);
    this.pool.close(error);
    for (const lane of this.lanes) lane.close(error);
  }
}

/** Connects to an address and asks who is there. @throws aerospike-…, wire-malformed */
export const meetNode = async (
  address: Address,
  settings: Settings,
  credentials: Credentials | undefined,
  signal: AbortSignal,
): Promise<ClusterNode> => {
  const { timing, connectTimeoutMs: timeoutMs, tls, clusterName } = settings;
  const login = credentials && new NodeLogin(credentials, settings);
  const open = async (): Promise<Connection> => {
    const connection = await Connection.open(address, { tls, timeoutMs, timing, signal });
    const closed = (): void =>
      connection.destroy(new PitrError('aerospike-closed', { what: `${addressText(address)} answered` }));
    signal.addEventListener('abort', closed);
    try {
      await login?.authenticate(connection);
    } catch (error) {
      connection.destroy();
      throw error;
    } finally {
      signal.removeEventListener('abort', closed);
    }
    return connection;
  };
  const connection = await open();
  const text = addressText(address);
  try {
    const commands = ['node', 'build', 'partition-generation', ...(clusterName ? ['cluster-name'] : [])];
    const said = await askInfo(connection, commands, { timing, timeoutMs });
    const id = infoValue(said, 'node', text);
    const build = infoValue(said, 'build', text);
    if (id === '' || id.length > NODE_ID_LENGTH_MAX)
      throw malformed(`"${id.slice(0, NODE_ID_LENGTH_MAX)}" as the name of a node`);
    if (!isBuildAtLeast(build, BUILD_MIN))
      throw new PitrError('aerospike-unsupported', {
        node: text,
        build: build.slice(0, 40),
        what: 'pitr',
        needed: BUILD_MIN.slice(0, 2).join('.'),
      });
    if (infoValue(said, 'partition-generation', text).startsWith('-'))
      throw new PitrError('aerospike-unreachable', {
        hosts: text,
        why: 'it does not know its partitions yet',
      });
    if (clusterName !== undefined && infoValue(said, 'cluster-name', text) !== clusterName)
      throw new PitrError('aerospike-unreachable', { hosts: text, why: `its cluster is not ${clusterName}` });
    return new ClusterNode({ id, build, address }, settings, open, connection);
  } catch (error) {
    connection.destroy();
    throw error;
  }
};

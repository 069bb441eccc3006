import { PitrError } from '../../errors.ts';
import { partitionOf } from '../../partition.ts';
import type { Peer } from '../cluster-text.ts';
import type { Settings } from './client-options.ts';
import { type ClusterNode, meetNode } from './cluster-node.ts';
import { type Address, addressText } from './connection.ts';
import { Credentials } from './login.ts';
import { PartitionMap } from './partition-map.ts';
import { sleep } from './timing.ts';

/** Tends that may fail in a row before a node is given up. */
const NODE_FAILURES_MAX = 5;
/** Tends after which a peer that could not be met is tried again: one that does not answer would hold up each of them. */
const PEER_PAUSE_TENDS = 5;
/** Peers whose failure is remembered. */
const PEERS_MAX = 1024;
const DEFAULT_PORT = 3000;

/** The nodes of the cluster, found through seeds and each other, and watched. */
export class Cluster {
  readonly map = new PartitionMap();
  readonly #settings: Settings;
  readonly #credentials: Credentials | undefined;
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #notBeforeMs = new Map<string, number>();
  readonly #closing = new AbortController();
  #tending: Promise<void> | undefined;
  #loop: Promise<void> | undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#credentials = settings.login && new Credentials(settings.login);
  }

  /** @throws aerospike-unreachable, or what the only seed answered: aerospike-login, aerospike-unsupported, … */
  async start(): Promise<void> {
    try {
      await this.#meetSeeds();
      await this.tend();
      if (this.nodes.length === 0) throw new PitrError('aerospike-unreachable', this.#why('no node stayed'));
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#loop = this.#tendLoop();
  }

  /** Those that get commands. */
  get nodes(): ClusterNode[] {
    return [...this.#nodes.values()].filter((n) => n.isUsable);
  }

  get signal(): AbortSignal {
    return this.#closing.signal;
  }

  node(id: string): ClusterNode | undefined {
    const node = this.#nodes.get(id);
    return node?.isUsable ? node : undefined;
  }

  ownerOf(namespace: string, partition: number): ClusterNode | undefined {
    const node = this.map.ownerOf(namespace, partition);
    return node?.isUsable ? node : undefined;
  }

  ownerOfDigest(namespace: string, digest: Uint8Array): ClusterNode | undefined {
    return this.ownerOf(namespace, partitionOf(digest));
  }

  assertOpen(what: string): void {
    if (this.signal.aborted) throw new PitrError('aerospike-closed', { what });
  }

  /** Looks at every node now, or joins who is at it. Never throws: what fails is the node's state. */
  tend(): Promise<void> {
    this.#tending ??= this.#tendOnce().finally(() => {
      this.#tending = undefined;
    });
    return this.#tending;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    const error = new PitrError('aerospike-closed', { what: 'the cluster answered' });
    for (const node of this.#nodes.values()) node.close(error);
    this.#nodes.clear();
    await this.#loop;
    await this.#tending;
  }

  async #tendLoop(): Promise<void> {
    while (!this.signal.aborted) {
      await sleep(this.#settings.timing, this.#settings.tendIntervalMs, this.signal);
      if (!this.signal.aborted) await this.tend();
    }
  }

  async #tendOnce(): Promise<void> {
    if (this.#nodes.size === 0) await this.#meetSeeds().catch(() => undefined);
    // a node that was met says whom else there is: again until nobody is new
    const tended = new Set<ClusterNode>();
    for (;;) {
      const now = [...this.#nodes.values()].filter((n) => !tended.has(n));
      if (now.length === 0 || this.signal.aborted) break;
      for (const node of now) tended.add(node);
      await Promise.all(now.map((node) => this.#tendNode(node)));
      await this.#meetPeers();
    }
    this.#removeGone();
  }

  async #tendNode(node: ClusterNode): Promise<void> {
    node.pool.reap();
    try {
      const replicas = await node.tend();
      if (this.signal.aborted) return;
      if (replicas) this.map.update(node, replicas);
      node.failures = 0;
      node.state = 'active';
    } catch {
      if (node.state === 'new') node.state = 'gone';
      else if (++node.failures >= NODE_FAILURES_MAX) node.state = 'gone';
    }
  }

  /** Meets every peer that is named and not known. */
  async #meetPeers(): Promise<void> {
    const nowMs = this.#settings.timing.nowMs();
    const strangers = new Map<string, Peer>();
    for (const node of this.nodes)
      for (const peer of node.peers)
        if (!this.#nodes.has(peer.node) && nowMs >= (this.#notBeforeMs.get(peer.node) ?? nowMs))
          strangers.set(peer.node, peer);
    await Promise.all([...strangers.values()].map((peer) => this.#meetPeer(peer)));
  }

  async #meetPeer(peer: Peer): Promise<void> {
    for (const { host, port } of peer.addresses) {
      try {
        const node = await this.#meet({ host, port, tlsName: peer.tlsName });
        if (node.id === peer.node) {
          this.#notBeforeMs.delete(peer.node);
          this.#add(node);
          return;
        }
        node.close();
      } catch {
        // the next address, and later all of them again, as long as somebody names it
      }
    }
    const { timing, tendIntervalMs } = this.#settings;
    if (this.#notBeforeMs.size < PEERS_MAX)
      this.#notBeforeMs.set(peer.node, timing.nowMs() + PEER_PAUSE_TENDS * tendIntervalMs);
  }

  /** @throws when no seed answers */
  async #meetSeeds(): Promise<void> {
    const failures: unknown[] = [];
    for (const seed of this.#settings.hosts) {
      try {
        const { host, port = DEFAULT_PORT, tlsName = '' } = seed;
        this.#add(await this.#meet({ host, port, tlsName }));
        return;
      } catch (error) {
        failures.push(error);
      }
    }
    this.assertOpen('a node answered');
    const [only] = failures;
    if (failures.length === 1 && only instanceof PitrError && SEED_ERRORS.has(only.id)) throw only;
    const why = failures.map((e) => (e instanceof Error ? e.message : `${e}`)).join('; ');
    throw new PitrError('aerospike-unreachable', this.#why(why), { cause: failures.at(-1) });
  }

  #why(why: string): { hosts: string; why: string } {
    const hosts = this.#settings.hosts.map(({ host, port = DEFAULT_PORT }) =>
      addressText({ host, port, tlsName: '' }),
    );
    return { hosts: hosts.join(', '), why };
  }

  #meet(address: Address): Promise<ClusterNode> {
    return meetNode(address, this.#settings, this.#credentials, this.signal);
  }

  #add(node: ClusterNode): void {
    if (this.signal.aborted || this.#nodes.has(node.id)) node.close();
    else this.#nodes.set(node.id, node);
  }

  #removeGone(): void {
    const active = this.nodes;
    for (const node of this.#nodes.values()) {
      const isNamed = active.some((n) => n !== node && n.peers.some((p) => p.node === node.id));
      const isAlone = !active.some((n) => n !== node);
      if (node.state === 'gone' || (!isNamed && !isAlone && !this.map.owns(node))) {
        this.#nodes.delete(node.id);
        this.map.drop(node);
        node.close();
      }
    }
  }
}

/** What a lone seed says that its caller should hear as it is. */
const SEED_ERRORS = new Set<string>(['aerospike-login', 'aerospike-unsupported', 'wire-malformed']);

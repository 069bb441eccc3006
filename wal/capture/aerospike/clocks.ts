import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import type { ClusterNode } from '../../../engine/aerospike/client/cluster-node.ts';
import type { WireKey } from '../../../engine/aerospike/client/command.ts';
import type { Timing } from '../../../engine/aerospike/client/timing.ts';
import { PitrError } from '../../../engine/errors.ts';
import type { Journal } from '../journal.ts';
import type { Look } from './look.ts';
import { type NodeTime, readNodeTime, ServerTime } from './server-time.ts';

/** Reads the nodes' clocks, each by a record that the node is master of where there is one. */
export class Clocks {
  readonly #client: AerospikeClient;
  readonly #journal: Journal;
  readonly #timing: Timing;
  readonly #namespaces: readonly string[];
  readonly #partitions: readonly number[];
  /** By node. */
  readonly #anchors = new Map<string, WireKey>();

  constructor(client: AerospikeClient, journal: Journal, timing: Timing, partitions: readonly number[]) {
    this.#client = client;
    this.#journal = journal;
    this.#timing = timing;
    this.#namespaces = journal.source.namespaces;
    this.#partitions = partitions;
  }

  /** After `look`, in which the clocks' whole seconds are. @throws aerospike-… */
  async read(look: Look): Promise<ServerTime> {
    const nodes = new Map<string, NodeTime>();
    const asked = this.#owners();
    await Promise.all(
      this.#client.nodes.map(async (node) => {
        const said = look.nodes.get(node.id);
        // one that came meanwhile: the next look has it
        if (!said) return;
        const floor = { ms: said.floorMs, askedAtMs: said.askedAtMs };
        const anchor = asked.has(node.id) ? this.#anchorOf(node) : undefined;
        const time = await readNodeTime(this.#client, this.#timing, anchor, floor);
        if (time.uncertainMs > 1) this.#anchors.delete(node.id);
        nodes.set(node.id, time);
      }),
    );
    if (nodes.size === 0)
      throw new PitrError('aerospike-unreachable', { hosts: 'the cluster', why: 'no node is left' });
    return new ServerTime(nodes, asked, this.#timing);
  }

  /** Nodes that are master of something that this capture is about. */
  #owners(): Set<string> {
    const ids = new Set<string>();
    for (const namespace of this.#namespaces)
      for (const partition of this.#partitions) {
        const owner = this.#client.ownerOf(namespace, partition);
        if (owner) ids.add(owner.id);
      }
    return ids;
  }

  /** A record that a node is master of and that never expires. */
  #anchorOf(node: ClusterNode): WireKey | undefined {
    const known = this.#anchors.get(node.id);
    if (known) return known;
    const { index } = this.#journal;
    const begin = Math.floor(this.#timing.nowMs()) % this.#partitions.length;
    for (const namespace of this.#namespaces) {
      const id = this.#journal.namespaceId(namespace);
      for (let i = 0; i < this.#partitions.length; i++) {
        const partition = this.#partitions[(begin + i) % this.#partitions.length];
        if (index.count(id, partition) === 0 || this.#client.ownerOf(namespace, partition) !== node) continue;
        const rows = index.partition(id, partition);
        for (let row = 0; row < rows.length; row++) {
          if (rows.voidTimeS(row) !== 0) continue;
          const anchor = { namespace, set: this.#journal.setName(rows.set(row)), digest: rows.digest(row) };
          this.#anchors.set(node.id, anchor);
          return anchor;
        }
      }
    }
    return undefined;
  }
}

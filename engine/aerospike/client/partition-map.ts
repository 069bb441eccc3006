import { PARTITIONS } from '../../partition.ts';
import type { NamespaceReplicas } from '../cluster-text.ts';
import type { ClusterNode } from './cluster-node.ts';

interface Masters {
  readonly nodes: (ClusterNode | undefined)[];
  readonly regimes: Uint32Array;
}

/** Which node is master of a partition, by what the nodes themselves claim. */
export class PartitionMap {
  readonly #namespaces = new Map<string, Masters>();

  get namespaces(): string[] {
    return [...this.#namespaces.keys()];
  }

  has(namespace: string): boolean {
    return this.#namespaces.has(namespace);
  }

  ownerOf(namespace: string, partition: number): ClusterNode | undefined {
    return this.#namespaces.get(namespace)?.nodes[partition];
  }

  /** Takes over what `node` says of itself. */
  update(node: ClusterNode, replicas: readonly NamespaceReplicas[]): void {
    const named = new Set(replicas.map((r) => r.namespace));
    for (const [namespace, masters] of this.#namespaces)
      if (!named.has(namespace)) this.#forget(node, masters);
    for (const { namespace, regime, masks } of replicas) {
      const master = masks[0];
      if (!master) continue;
      const { nodes, regimes } = this.#mastersOf(namespace);
      for (let p = 0; p < PARTITIONS; p++) {
        if (master[p] === 0) {
          if (nodes[p] === node) nodes[p] = undefined;
        } else if (regime >= regimes[p] || nodes[p] === undefined) {
          nodes[p] = node;
          regimes[p] = regime;
        }
      }
    }
  }

  /** `node` owns nothing any more. */
  drop(node: ClusterNode): void {
    for (const masters of this.#namespaces.values()) this.#forget(node, masters);
  }

  owns(node: ClusterNode): boolean {
    return [...this.#namespaces.values()].some(({ nodes }) => nodes.includes(node));
  }

  #forget(node: ClusterNode, { nodes }: Masters): void {
    for (let p = 0; p < PARTITIONS; p++) if (nodes[p] === node) nodes[p] = undefined;
  }

  #mastersOf(namespace: string): Masters {
    let masters = this.#namespaces.get(namespace);
    if (!masters) {
      masters = {
        nodes: new Array<ClusterNode | undefined>(PARTITIONS).fill(undefined),
        regimes: new Uint32Array(PARTITIONS),
      };
      this.#namespaces.set(namespace, masters);
    }
    return masters;
  }
}

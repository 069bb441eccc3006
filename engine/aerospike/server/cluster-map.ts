import { PARTITIONS, type PartitionSet } from '../../partition.ts';
import type { HostPort } from '../cluster-text.ts';

/** One node as others see it. */
export interface NodeAddress {
  /** Upper-case hex. */
  readonly id: string;
  address: HostPort;
}

/** Which node has which partitions. Every change raises the generation, which clients look at. */
export class ClusterMap {
  readonly nodes: readonly NodeAddress[];
  readonly #masters = new Uint8Array(PARTITIONS);
  #generation = 1;
  #movedMs = 0;

  constructor(nodes: readonly NodeAddress[]) {
    this.nodes = nodes;
    for (let p = 0; p < PARTITIONS; p++) this.#masters[p] = p % nodes.length;
  }

  get generation(): number {
    return this.#generation;
  }

  /** When partitions moved last, ms since 1970; 0: never. */
  get movedMs(): number {
    return this.#movedMs;
  }

  /** Stands for the nodes and what they have: another one after each change. */
  get clusterKey(): string {
    return (0x5052_4954_0000 + this.#generation).toString(16).toUpperCase();
  }

  /** Index of the node that has a partition. */
  masterOf(partition: number): number {
    return this.#masters[partition];
  }

  /** One byte for each partition, 1 where the node has it. */
  maskOf(node: number): Uint8Array {
    return this.#masters.map((master) => (master === node ? 1 : 0));
  }

  /** Clients look again who has what; nothing has moved. */
  rebalance(nowMs: number): void {
    this.#generation++;
    this.#movedMs = nowMs;
  }

  /** Gives partitions to a node. */
  move(partitions: PartitionSet, node: number, nowMs: number): void {
    for (const { start, end } of partitions.ranges) this.#masters.fill(node, start, end);
    this.rebalance(nowMs);
  }
}

import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import type { ClusterNode } from '../../../engine/aerospike/client/cluster-node.ts';
import { infoValue } from '../../../engine/aerospike/client/exchange.ts';
import { SERVER_EPOCH_MS } from '../../../engine/aerospike/epoch.ts';
import { parseInfoError, parseParameters } from '../../../engine/aerospike/info.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import type { Clock } from '../../../engine/clock.ts';
import { PitrError } from '../../../engine/errors.ts';

/** Counters of a node for a DC and a namespace that begin at 0 with the node. */
export const COUNTERS = [
  'success',
  'recoveries',
  'abandoned',
  'not_found',
  'hot_keys',
  'filtered_out',
] as const;
export type Counters = Readonly<Record<(typeof COUNTERS)[number], number>>;

/** What a node says of shipping a namespace. */
export interface ShippingReading {
  /** What is still to be shipped: each must be 0. */
  readonly waiting: Readonly<Record<'lag' | 'in_queue' | 'in_progress' | 'recoveries_pending', number>>;
  /** All that is sent again, added up. */
  readonly retries: number;
  readonly counters: Counters;
  /** Records of which the node is master. */
  readonly objects: number;
}

export interface NodeReading {
  readonly node: string;
  /** The same before and after everything else; undefined: not stable. */
  readonly clusterKey: string | undefined;
  readonly clusterSize: number;
  /** Its clock before anything else was read: the start of the second, ms since 1970. */
  readonly clockMs: number;
  /** Ours around that. */
  readonly askedMs: number;
  readonly answeredMs: number;
  readonly shipping: ReadonlyMap<string, ShippingReading>;
  /** Cutoff LUT, ms since 1970, by `namespace` or `namespace|set`. */
  readonly truncations: ReadonlyMap<string, number>;
}

/** All nodes of the source at one time. */
export type SourceReading = readonly NodeReading[];

const number = (values: ReadonlyMap<string, string>, name: string, what: string): number => {
  const text = values.get(name);
  if (text === undefined || !/^\d{1,16}$/.test(text))
    throw new PitrError('aerospike-info', {
      node: what,
      command: name,
      text: `"${text ?? ''}" is no number`,
    });
  return Number(text);
};

/** @throws aerospike-unsupported from a Community node, aerospike-info and others when a node does not answer all of it */
export const readSource = async (
  client: AerospikeClient,
  dc: string,
  namespaces: readonly string[],
  clock: Clock,
): Promise<SourceReading> => {
  if (client.nodes.length === 0)
    throw new PitrError('aerospike-unreachable', { hosts: 'the source', why: 'no node answers' });
  return Promise.all(client.nodes.map((node) => readNode(client, node, dc, namespaces, clock)));
};

const STABLE = 'cluster-stable:';
const TRUNCATIONS = 'smd-show:module=truncate';

const readNode = async (
  client: AerospikeClient,
  node: ClusterNode,
  dc: string,
  namespaces: readonly string[],
  clock: Clock,
): Promise<NodeReading> => {
  const askedMs = clock.nowMs();
  const first = await client.info(node, [...namespaces.map((n) => `namespace/${n}`), STABLE]);
  const answeredMs = clock.nowMs();
  const then = await client.info(node, [TRUNCATIONS, ...namespaces.map((n) => statsCommand(dc, n)), STABLE]);
  const shipping = new Map<string, ShippingReading>();
  let clockMs = Number.POSITIVE_INFINITY;
  let clusterSize = 0;
  for (const namespace of namespaces) {
    const facts = parseParameters(infoValue(first, `namespace/${namespace}`, node.name));
    clockMs = Math.min(clockMs, SERVER_EPOCH_MS + number(facts, 'current_time', node.name) * 1000);
    clusterSize = number(facts, 'ns_cluster_size', node.name);
    const stats = statsOf(then, statsCommand(dc, namespace), node);
    shipping.set(namespace, shippingOf(stats, number(facts, 'master_objects', node.name), node.name));
  }
  const [before, after] = [first.get(STABLE), then.get(STABLE)];
  const isStable = before !== undefined && before === after && !parseInfoError(before);
  return {
    node: node.id,
    clusterKey: isStable ? before : undefined,
    clusterSize,
    clockMs,
    askedMs,
    answeredMs,
    shipping,
    truncations: parseTruncations(infoValue(then, TRUNCATIONS, node.name)),
  };
};

const statsCommand = (dc: string, namespace: string): string =>
  `get-stats:context=xdr;dc=${dc};namespace=${namespace}`;

const statsOf = (
  said: ReadonlyMap<string, string>,
  command: string,
  node: ClusterNode,
): ReadonlyMap<string, string> => {
  const error = parseInfoError(said.get(command) ?? '');
  if (error?.code === ResultCode.enterpriseOnly)
    throw new PitrError('aerospike-unsupported', {
      node: node.name,
      build: `${node.build} Community Edition`,
      what: 'XDR',
      needed: 'Enterprise Edition',
    });
  return parseParameters(infoValue(said, command, node.name));
};

const shippingOf = (stats: ReadonlyMap<string, string>, objects: number, node: string): ShippingReading => {
  let retries = 0;
  for (const name of stats.keys()) if (name.startsWith('retry_')) retries += number(stats, name, node);
  const counters = Object.fromEntries(
    // older servers have not all of them
    COUNTERS.map((name) => [name, stats.has(name) ? number(stats, name, node) : 0]),
  ) as Counters;
  return {
    waiting: {
      lag: number(stats, 'lag', node),
      in_queue: number(stats, 'in_queue', node),
      in_progress: number(stats, 'in_progress', node),
      recoveries_pending: number(stats, 'recoveries_pending', node),
    },
    retries,
    counters,
    objects,
  };
};

/** `namespace|set=LUT;namespace=LUT`, LUT in ms since 2010. What is not like that is no truncation. */
const parseTruncations = (text: string): Map<string, number> => {
  const truncations = new Map<string, number>();
  for (const part of text.split(';')) {
    const m = /^(.+)=(\d{1,13})$/s.exec(part);
    if (m) truncations.set(m[1], SERVER_EPOCH_MS + Number(m[2]));
  }
  return truncations;
};

import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import { infoValue } from '../../../engine/aerospike/client/exchange.ts';
import type { Timing } from '../../../engine/aerospike/client/timing.ts';
import { SERVER_EPOCH_MS } from '../../../engine/aerospike/epoch.ts';
import { parseInfoError, parseParameters } from '../../../engine/aerospike/info.ts';
import { PitrError } from '../../../engine/errors.ts';
import { type Cutoffs, cutoffsOfSets, parseChangeCounters, parseCutoffs } from './definitions.ts';

/** What one node says of itself. */
export interface NodeLook {
  readonly uptimeS: number;
  readonly clusterKey: string;
  readonly cpuPercent: number | undefined;
  /** Its clock, whole seconds, ms since 1970. */
  readonly floorMs: number;
  readonly askedAtMs: number;
  readonly evicted: number;
  /** Why what it has is not all there is, or not for long. */
  readonly unsettled: readonly string[];
}

/** What all nodes say of themselves. */
export interface Look {
  readonly nodes: ReadonlyMap<string, NodeLook>;
  readonly cutoffs: Cutoffs;
  /** By module, all nodes' counters: different when anything changed. Undefined: nobody knows whether something changed. */
  readonly counters: ReadonlyMap<string, string> | undefined;
  /** Namespaces of which records are on a device. */
  readonly onDevice: ReadonlySet<string>;
}

const UNSETTLED: Readonly<Record<string, string>> = {
  migrate_tx_partitions_remaining: 'partitions to send',
  migrate_rx_partitions_remaining: 'partitions to receive',
  migrate_tx_partitions_active: 'partitions being sent',
  migrate_rx_partitions_active: 'partitions being received',
  unavailable_partitions: 'unavailable partitions',
  dead_partitions: 'dead partitions',
};

/** Asks every node. `before`: truncations are asked for only when they may be others than then. @throws aerospike-… */
export const lookAt = async (
  client: AerospikeClient,
  timing: Timing,
  namespaces: readonly string[],
  before: Look | undefined,
): Promise<Look> => {
  const askedAtMs = timing.nowMs();
  const said = await client.infoAll([
    'statistics',
    'smd-info',
    ...namespaces.map((namespace) => `namespace/${namespace}`),
  ]);
  const nodes = new Map<string, NodeLook>();
  const onDevice = new Set<string>();
  const moduleCounters = new Map<string, string>();
  let hasCounters = true;
  for (const [id, answers] of said) {
    const parts = namespaces.map((namespace) =>
      parseParameters(answerTo(answers, `namespace/${namespace}`, id)),
    );
    for (const [i, values] of parts.entries())
      if ((values.get('storage-engine') ?? 'device') !== 'memory') onDevice.add(namespaces[i]);
    nodes.set(
      id,
      nodeLook(parseParameters(answerTo(answers, 'statistics', id)), parts, namespaces, askedAtMs),
    );
    const counters = parseChangeCounters(answers.get('smd-info') ?? '');
    hasCounters &&= counters !== undefined;
    for (const [module, counter] of counters ?? [])
      moduleCounters.set(module, `${moduleCounters.get(module) ?? ''} ${counter}`);
  }
  const counters = hasCounters ? moduleCounters : undefined;
  const isKnown =
    counters && before?.counters && counters.get('truncate') === before.counters.get('truncate');
  const cutoffs = isKnown ? before.cutoffs : await askCutoffs(client, namespaces);
  return { nodes, cutoffs, counters, onDevice };
};

const nodeLook = (
  statistics: ReadonlyMap<string, string>,
  parts: readonly ReadonlyMap<string, string>[],
  namespaces: readonly string[],
  askedAtMs: number,
): NodeLook => {
  const unsettled: string[] = [];
  for (const [i, values] of parts.entries())
    for (const [key, what] of Object.entries(UNSETTLED)) {
      const n = Number(values.get(key) ?? 0);
      if (n > 0) unsettled.push(`${n} ${what} of ${namespaces[i]}`);
    }
  const cpu = statistics.get('process_cpu_pct');
  return {
    uptimeS: Number(statistics.get('uptime') ?? 0),
    clusterKey: statistics.get('cluster_key') ?? '',
    cpuPercent: cpu === undefined ? undefined : Number(cpu),
    floorMs: Number(parts[0]?.get('current_time') ?? 0) * 1000 + SERVER_EPOCH_MS,
    askedAtMs,
    evicted: parts.reduce((n, values) => n + Number(values.get('evicted_objects') ?? 0), 0),
    unsettled,
  };
};

/** The newest that any node has: a node may hear later than others. */
export const askCutoffs = async (
  client: AerospikeClient,
  namespaces: readonly string[],
): Promise<Map<string, number>> => {
  const command = 'smd-show:module=truncate';
  const cutoffs = new Map<string, number>();
  const add = (found: Cutoffs): void => {
    for (const [key, ms] of found)
      if (namespaces.includes(key.split('|', 1)[0])) cutoffs.set(key, Math.max(ms, cutoffs.get(key) ?? 0));
  };
  let isSaid = true;
  for (const answers of (await client.infoAll([command])).values()) {
    const text = answers.get(command) ?? '';
    isSaid &&= parseInfoError(text) === undefined;
    add(parseCutoffs(text));
  }
  if (isSaid) return cutoffs;
  // builds without it
  const commands = namespaces.flatMap((namespace) => [`sets/${namespace}`, `namespace/${namespace}`]);
  for (const [id, answers] of await client.infoAll(commands))
    for (const namespace of namespaces) {
      const values = parseParameters(answerTo(answers, `namespace/${namespace}`, id));
      add(cutoffsOfSets(namespace, answers.get(`sets/${namespace}`) ?? '', values.get('truncate_lut')));
    }
  return cutoffs;
};

/** @throws aerospike-info */
export const answerTo = (answers: ReadonlyMap<string, string>, command: string, node: string): string => {
  const value = infoValue(answers, command, node);
  if (value === 'type=unknown')
    throw new PitrError('aerospike-info', { node, command, text: 'there is no such namespace' });
  return value;
};

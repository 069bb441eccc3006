import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { SERVER_EPOCH_S } from '../../engine/aerospike/epoch.ts';
import { parseInfoError, parseParameters } from '../../engine/aerospike/info.ts';
import { isPitrError, PitrError } from '../../engine/errors.ts';

/** A namespace as its nodes state it; of numbers that are each node's own the sum. */
export interface NamespaceFacts {
  readonly name: string;
  readonly objects: number;
  /** Records without a set, about; replicas count. */
  readonly withoutSet: number;
  /** Records of each set, replicas count; only sets that a node remembers. */
  readonly sets: ReadonlyMap<string, number>;
  /** 0: nothing is removed when its time is over, and times to live are refused unless the next one says otherwise. */
  readonly nsupPeriodS: number;
  readonly allowsTtlWithoutNsup: boolean;
  readonly recordBytesMax: number | undefined;
  readonly isStopped: boolean;
  readonly isClockSkewed: boolean;
  readonly isStronglyConsistent: boolean;
  readonly replicationFactor: number;
  readonly migrations: number;
  readonly missingPartitions: number;
  readonly nowS: number;
}

/** What a cluster says of itself before anything is done to it. */
export interface ClusterFacts {
  readonly nodes: readonly string[];
  readonly builds: readonly string[];
  readonly isCommunity: boolean;
  /** The furthest of the nodes' clocks, s since 1970. */
  readonly nowS: number;
  /** 0: no bound. */
  readonly batchRowsMax: number;
  readonly namespaces: ReadonlyMap<string, NamespaceFacts>;
}

/** Asks every node. @throws aerospike-info and others */
export const readFacts = async (client: AerospikeClient): Promise<ClusterFacts> => {
  const { namespaces } = client;
  const commands = [
    'edition',
    'get-config:context=service',
    ...namespaces.flatMap((name) => [`namespace/${name}`, `sets/${name}`]),
  ];
  const answers = [...(await askAll(client, commands)).values()];
  const said = (answer: ReadonlyMap<string, string>, command: string): string => {
    const value = answer.get(command) ?? '';
    const error = parseInfoError(value);
    if (error) throw new PitrError('aerospike-info', { node: 'a node', command, ...error });
    return value;
  };
  const facts = namespaces.map((name) =>
    namespaceFacts(
      name,
      answers.map((a) => parseParameters(said(a, `namespace/${name}`))),
      answers.map((a) => said(a, `sets/${name}`)),
    ),
  );
  const limits = answers
    .map((a) => Number(parseParameters(said(a, 'get-config:context=service')).get('batch-max-requests') ?? 0))
    .filter((n) => n > 0);
  return {
    nodes: client.nodes.map((n) => n.name),
    builds: [...new Set(client.nodes.map((n) => n.build))],
    isCommunity: answers.some((a) => !/enterprise|federal/i.test(a.get('edition') ?? '')),
    nowS: Math.max(...facts.map((f) => f.nowS)),
    batchRowsMax: limits.length === 0 ? 0 : Math.min(...limits),
    namespaces: new Map(facts.map((f) => [f.name, f])),
  };
};

const ATTEMPTS_MAX = 5;

/** Questions change nothing, so they are asked again where a socket was lost. */
const askAll = async (
  client: AerospikeClient,
  commands: readonly string[],
): Promise<Map<string, Map<string, string>>> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await client.infoAll(commands);
    } catch (error) {
      if (attempt === ATTEMPTS_MAX || !isPitrError(error, 'aerospike-connection-lost')) throw error;
      await client.tend();
    }
  }
};

const namespaceFacts = (
  name: string,
  nodes: readonly ReadonlyMap<string, string>[],
  sets: readonly string[],
): NamespaceFacts => {
  const sum = (key: string): number => nodes.reduce((n, s) => n + Number(s.get(key) ?? 0), 0);
  const any = (key: string): boolean => nodes.some((s) => s.get(key) === 'true');
  const all = (key: string): boolean => nodes.every((s) => s.get(key) === 'true');
  const least = (...keys: readonly string[]): number | undefined => {
    const found = keys.flatMap((key) => nodes.map((s) => sizeOf(s.get(key)))).filter((n) => n !== undefined);
    return found.length === 0 ? undefined : Math.min(...found);
  };
  const objects = new Map<string, number>();
  for (const text of sets)
    for (const [set, count] of parseSets(text, name)) objects.set(set, (objects.get(set) ?? 0) + count);
  return {
    name,
    objects: sum('master_objects'),
    // like the counts of sets, those of replicas too
    withoutSet: Math.max(0, sum('objects') - [...objects.values()].reduce((n, count) => n + count, 0)),
    sets: objects,
    nsupPeriodS: Math.min(...nodes.map((s) => Number(s.get('nsup-period') ?? 0))),
    allowsTtlWithoutNsup: all('allow-ttl-without-nsup'),
    recordBytesMax: least('max-record-size', 'storage-engine.max-record-size'),
    isStopped: any('stop_writes'),
    isClockSkewed: any('clock_skew_stop_writes'),
    isStronglyConsistent: any('strong-consistency'),
    replicationFactor: Math.max(...nodes.map((s) => Number(s.get('replication-factor') ?? 1))),
    migrations: sum('migrate_tx_partitions_remaining') + sum('migrate_rx_partitions_remaining'),
    missingPartitions: sum('unavailable_partitions') + sum('dead_partitions'),
    nowS: SERVER_EPOCH_S + Math.max(...nodes.map((s) => Number(s.get('current_time') ?? 0))),
  };
};

/** `1048576`, `1M`. 0 and what is no number: no bound. */
const sizeOf = (text: string | undefined): number | undefined => {
  const m = /^(\d{1,15})([KMG]?)$/i.exec(text ?? '');
  if (!m) return undefined;
  const size = Number(m[1]) * 1024 ** ['', 'K', 'M', 'G'].indexOf(m[2].toUpperCase());
  return size > 0 ? size : undefined;
};

/** `ns=N:set=S:objects=5:…;`. A set's name may have a colon, what follows it has not. */
const parseSets = (text: string, namespace: string): [set: string, objects: number][] =>
  text
    .split(/;(?=ns=|$)/)
    .map((line) => /^ns=([^:]*):set=(.*):objects=(\d+):/s.exec(line))
    .filter((m) => m !== null)
    .filter((m) => m[1] === namespace)
    .map((m) => [m[2], Number(m[3])]);

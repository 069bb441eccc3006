import { WORDS_PER_PARTITION } from '../../page.ts';
import { PARTITIONS } from '../../partition.ts';
import { SERVER_EPOCH_MS, SERVER_EPOCH_S } from '../epoch.ts';
import { infoError } from '../info.ts';
import { ResultCode } from '../result-code.ts';
import type { InfoContext, InfoHandler, InfoTable } from './info-commands.ts';
import type { Namespace } from './namespace.ts';
import { formatJob } from './query-jobs.ts';

const pairs = (values: Readonly<Record<string, string | number | boolean>>, separator = ';'): string =>
  Object.entries(values)
    .map(([key, value]) => `${key}=${value}`)
    .join(separator);

/** Counters that clients and backup tools add up, whether or not they have moved. */
const COUNTERS = [
  'client_delete_success',
  'client_lang_delete_success',
  'from_proxy_delete_success',
  'from_proxy_lang_delete_success',
  'xdr_client_delete_success',
  'xdr_from_proxy_delete_success',
  'batch_sub_delete_success',
  'batch_sub_lang_delete_success',
  'from_proxy_batch_sub_delete_success',
  'from_proxy_batch_sub_lang_delete_success',
  'udf_sub_lang_delete_success',
  'deleted_last_bin',
  'client_write_success',
  'client_lang_write_success',
  'from_proxy_write_success',
  'batch_sub_write_success',
  'xdr_client_write_success',
  'xdr_from_proxy_write_success',
  'ops_sub_write_success',
  'udf_sub_lang_write_success',
  'migrate_record_receives',
  'client_read_success',
  'expired_objects',
  'evicted_objects',
];

const truncateLutOf = ({ database }: InfoContext, namespace: string, set: string): number => {
  const found = database.definitions.truncations.find((t) => t.namespace === namespace && t.set === set);
  return found ? found.lutMs - SERVER_EPOCH_MS : 0;
};

const namespaceStatistics = async (context: InfoContext, namespace: Namespace): Promise<string> => {
  const { database, cluster } = context;
  const sets = await namespace.sets(database.engine, database.nowMs());
  const all = [...sets.values()].reduce((n, records) => n + records, 0);
  // each node counts the records of its own partitions, which are equal parts
  const objects = cluster.nodes.length === 1 ? all : await objectsOf(context, namespace);
  return pairs({
    ns_cluster_size: cluster.nodes.length,
    effective_replication_factor: 1,
    objects,
    master_objects: objects,
    prole_objects: 0,
    non_replica_objects: 0,
    tombstones: 0,
    master_tombstones: 0,
    prole_tombstones: 0,
    non_expirable_objects: 0,
    ...Object.fromEntries(COUNTERS.map((name) => [name, 0])),
    ...Object.fromEntries(namespace.counters),
    truncate_lut: truncateLutOf(context, namespace.name, ''),
    truncating: false,
    current_time: Math.floor(database.nowMs() / 1000) - SERVER_EPOCH_S,
    stop_writes: database.engine.failure !== null,
    clock_skew_stop_writes: false,
    hwm_breached: false,
    unavailable_partitions: 0,
    dead_partitions: 0,
    migrate_rx_partitions_active: 0,
    migrate_tx_partitions_active: 0,
    migrate_rx_partitions_remaining: 0,
    migrate_tx_partitions_remaining: database.faults?.migrating ?? 0,
    migrate_signals_remaining: 0,
    'replication-factor': 1,
    'default-ttl': namespace.settings.defaultTtlS,
    'nsup-period': 0,
    'allow-ttl-without-nsup': true,
    'strong-consistency': false,
    'conflict-resolution-policy': 'generation',
    'max-record-size': namespace.settings.recordBytesMax,
    'storage-engine': 'device',
    'single-query-threads': 1,
  });
};

/** Records of the partitions that the asked node has. */
const objectsOf = async (context: InfoContext, namespace: Namespace): Promise<number> =>
  (await recordsByPartition(context, namespace)).reduce(
    (n, records, partition) => n + (context.cluster.masterOf(partition) === context.node ? records : 0),
    0,
  );

/** The last count of each namespace: good until a record comes or goes, whichever node is asked. */
const counts = new WeakMap<Namespace, { readonly changes: number; readonly records: Promise<Uint32Array> }>();

const recordsByPartition = (context: InfoContext, namespace: Namespace): Promise<Uint32Array> => {
  const { changes } = namespace;
  const known = counts.get(namespace);
  if (known?.changes === changes) return known.records;
  const records = countRecords(context, namespace);
  counts.set(namespace, { changes, records });
  records.catch(() => counts.delete(namespace));
  return records;
};

const countRecords = async ({ database }: InfoContext, { name }: Namespace): Promise<Uint32Array> => {
  const records = new Uint32Array(PARTITIONS);
  const { engine } = database;
  await engine.settled();
  for (let partition = 0; partition < PARTITIONS; partition += PARTITIONS_AT_ONCE) {
    const from = partition * WORDS_PER_PARTITION;
    engine.slice(name, from, from + PARTITIONS_AT_ONCE * WORDS_PER_PARTITION, (key, at) => {
      records[(key[at] << 4) | (key[at + 1] >> 4)]++;
      return true;
    });
    await new Promise(setImmediate);
  }
  return records;
};

/** Read between two turns of the event loop. */
const PARTITIONS_AT_ONCE = 64;

const namespaceInfo: InfoHandler = (context, { argument, parameters }) => {
  const name = parameters.get('namespace') ?? parameters.get('id') ?? argument;
  const namespace = context.database.namespaces.get(name);
  return namespace ? namespaceStatistics(context, namespace) : 'type=unknown';
};

const setInfo: InfoHandler = async (context, { argument, parameters }) => {
  const [argumentNamespace, ...rest] = argument.split('/');
  const namespaceName = parameters.get('namespace') ?? (parameters.size > 0 ? '' : argumentNamespace);
  const wanted = parameters.get('set') ?? (parameters.size > 0 ? '' : rest.join('/'));
  const { database } = context;
  if (namespaceName !== '' && !database.namespaces.has(namespaceName)) return 'ns_type=unknown';
  const lines: string[] = [];
  for (const namespace of database.namespaces.values()) {
    if (namespaceName !== '' && namespace.name !== namespaceName) continue;
    for (const [set, objects] of await namespace.sets(database.engine, database.nowMs())) {
      if (set === '' || (wanted !== '' && set !== wanted)) continue;
      const line = setLine(context, namespace.name, set, objects);
      lines.push(wanted === '' ? `ns=${namespace.name}:set=${set}:${line}` : line);
    }
  }
  return lines.map((line) => `${line};`).join('');
};

const setLine = (context: InfoContext, namespace: string, set: string, objects: number): string =>
  pairs(
    {
      objects,
      tombstones: 0,
      data_used_bytes: 0,
      truncate_lut: truncateLutOf(context, namespace, set),
      sindexes: context.database.definitions.indexes.filter((i) => i.namespace === namespace && i.set === set)
        .length,
      index_populating: false,
      truncating: false,
      'default-read-touch-ttl-pct': 0,
      'default-ttl': 0,
      'disable-eviction': false,
      'enable-index': false,
      'stop-writes-count': 0,
      'stop-writes-size': 0,
    },
    ':',
  );

const partitionInfo: InfoHandler = async (context) => {
  const { database, cluster, node } = context;
  const lines = [
    'namespace:partition:state:n_replicas:replica:succession:n_dupl:working_master:proxy_dst:emigrates:lead_emigrates:immigrates:records:tombstones:regime:tree_id:version:final_version',
  ];
  for (const namespace of database.namespaces.values()) {
    const records = await recordsByPartition(context, namespace);
    for (let p = 0; p < PARTITIONS; p++) {
      const isMine = cluster.masterOf(p) === node;
      const master = cluster.nodes[cluster.masterOf(p)].id;
      const state = !database.hasPartition(p) ? 'D' : isMine ? 'S' : 'A';
      const version = isMine ? `${cluster.clusterKey}.0.m` : '';
      lines.push(
        `${namespace.name}:${p}:${state}:1:${isMine ? 0 : 1}:${master}:0:${master}:0:0:0:0:${isMine ? records[p] : 0}:0:0:0:${version}:${version}`,
      );
    }
  }
  return lines.join(';');
};

const queryShow: InfoHandler = ({ database }, { argument, parameters }) => {
  const now = database.nowMs();
  if (argument === '')
    return database.jobs
      .all()
      .map((job) => formatJob(job, now))
      .join(';');
  if (tridOf(parameters) === undefined) return infoError(ResultCode.parameter, 'bad id');
  const job = jobOf(database.jobs, parameters);
  return job ? formatJob(job, now) : infoError(ResultCode.notFound, 'job not found');
};

/** Hex with 0x, or decimal. */
const tridOf = (parameters: ReadonlyMap<string, string>): bigint | undefined => {
  const trid = parameters.get('trid') ?? parameters.get('id') ?? '';
  return /^(0x[\da-f]{1,16}|\d{1,20})$/i.test(trid) ? BigInt(trid) : undefined;
};

const jobOf = (jobs: InfoContext['database']['jobs'], parameters: ReadonlyMap<string, string>) => {
  const trid = tridOf(parameters);
  return trid === undefined ? undefined : jobs.find(trid);
};

/** What there is: namespaces, sets, partitions, scans, counters. */
export const CONTENT_COMMANDS: InfoTable = {
  namespaces: ({ database }) => [...database.namespaces.keys()].join(';'),
  namespace: namespaceInfo,
  sets: setInfo,
  'partition-info': partitionInfo,
  'query-show': queryShow,
  'query-abort': ({ database }, { parameters }) => {
    const job = jobOf(database.jobs, parameters);
    return job && database.jobs.abort(job.trid) ? 'ok' : infoError(ResultCode.notFound, 'job not active');
  },
  statistics: async (context) => {
    const { database, cluster, connections } = context;
    const now = database.nowMs();
    let objects = 0;
    for (const namespace of database.namespaces.values()) objects += await objectsOf(context, namespace);
    const { user, system } = process.cpuUsage();
    return pairs({
      // since it began; a server says it of the last moments
      process_cpu_pct: Math.round((user + system) / 10_000 / process.uptime()),
      cluster_size: cluster.nodes.length,
      cluster_key: cluster.clusterKey,
      cluster_generation: cluster.generation,
      cluster_principal: cluster.nodes[0].id,
      cluster_is_member: true,
      cluster_integrity: true,
      cluster_clock_skew_ms: 0,
      uptime: Math.floor((now - database.startedMs) / 1000),
      time_since_rebalance: Math.floor((now - (cluster.movedMs || database.startedMs)) / 1000),
      objects,
      tombstones: 0,
      client_connections: connections,
      queries_active: database.jobs.active,
      migrate_partitions_remaining: database.faults?.migrating ?? 0,
      failed_best_practices: false,
    });
  },
  'get-config': ({ database }, { parameters }) => {
    const context = parameters.get('context') ?? 'service';
    if (context === 'service')
      return pairs({
        'proto-fd-max': 15_000,
        'query-threads-limit': 64,
        'query-max-done': 100,
        'batch-max-requests': 0,
        // asrestore asks how many batches it may have under way
        'batch-index-threads': 1,
      });
    if (context !== 'namespace') return '';
    const namespace = database.namespaces.get(parameters.get('namespace') ?? parameters.get('id') ?? '');
    if (!namespace) return infoError(ResultCode.badNamespace, 'unknown namespace');
    const { defaultTtlS, recordBytesMax } = namespace.settings;
    return pairs({
      'replication-factor': 1,
      'default-ttl': defaultTtlS,
      'nsup-period': 0,
      'allow-ttl-without-nsup': true,
      'max-record-size': recordBytesMax,
      'strong-consistency': false,
      'conflict-resolution-policy': 'generation',
    });
  },
};

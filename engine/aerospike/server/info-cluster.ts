import { formatAddresses, formatPeers, formatReplicas } from '../cluster-text.ts';
import { infoError } from '../info.ts';
import { ResultCode } from '../result-code.ts';
import type { InfoContext, InfoTable } from './info-commands.ts';

/** The release whose behaviour is served: clients tell from it what they may ask for. */
export const SERVED_BUILD = '8.1.2.0';
const EDITION = 'Aerospike Community Edition';

const FEATURES = [
  'batch-any',
  'batch-index',
  'cdt-index',
  'cdt-list',
  'cdt-map',
  'cluster-stable',
  'float',
  'geo',
  'peers',
  'pipelining',
  'pquery',
  'pscans',
  'query-show',
  'relaxed-sc',
  'replicas',
  'replicas-all',
  'replicas-master',
  'replicas-max',
  'sindex-exists',
  'truncate-namespace',
  'udf',
];

const peers = ({ cluster, node, tlsName }: InfoContext, isTls: boolean): string => {
  const others = isTls === (tlsName !== '') ? cluster.nodes.filter((_, i) => i !== node) : [];
  return formatPeers({
    generation: cluster.nodes.length - 1,
    defaultPort: 3000,
    peers: others.map(({ id, address }) => ({ node: id, tlsName, addresses: [address] })),
  });
};

const service = ({ cluster, node, tlsName }: InfoContext, isTls: boolean): string =>
  isTls === (tlsName !== '') ? formatAddresses([cluster.nodes[node].address]) : '';

const replicas = ({ database, cluster, node }: InfoContext): string => {
  const mask = cluster.maskOf(node).map((is, partition) => (database.engine.owns(partition) ? is : 0));
  return formatReplicas(
    [...database.namespaces.keys()].map((namespace) => ({
      namespace,
      regime: 0,
      replicationFactor: 1,
      masks: [mask],
    })),
  );
};

/** As the Community Edition, which has no TLS. */
const noTls = infoError(ResultCode.enterpriseOnly, 'enterprise only');

/** Who and where: what clients ask when they connect, and every second. */
export const CLUSTER_COMMANDS: InfoTable = {
  node: ({ cluster, node }) => cluster.nodes[node].id,
  build: () => SERVED_BUILD,
  edition: () => EDITION,
  version: () => `${EDITION} build ${SERVED_BUILD}`,
  release: () =>
    `edition=${EDITION};version=${SERVED_BUILD};os=${process.platform};arch=${process.arch};sha=pitr`,
  build_os: () => process.platform,
  features: () => FEATURES.join(';'),
  status: () => 'ok',
  'cluster-name': ({ clusterName }) => clusterName,
  'partition-generation': ({ cluster }) => `${cluster.generation}`,
  'peers-generation': ({ cluster }) => `${cluster.nodes.length - 1}`,
  'rebalance-generation': ({ cluster }) => `${cluster.generation}`,
  'cluster-stable': ({ database, cluster }, { parameters }) => {
    const namespace = parameters.get('namespace');
    if (namespace !== undefined && !database.namespaces.has(namespace))
      return infoError(ResultCode.badNamespace, 'unknown namespace');
    const size = parameters.get('size');
    if (size !== undefined && Number(size) !== cluster.nodes.length)
      return infoError(ResultCode.clusterKeyMismatch, 'cluster not specified size');
    return cluster.clusterKey;
  },
  replicas,
  'replicas-all': replicas,
  'replicas-master': replicas,
  service: (c) => service(c, c.tlsName !== ''),
  'service-clear-std': (c) => service(c, false),
  'service-clear-alt': () => '',
  'service-tls-std': (c) => (c.tlsName === '' ? noTls : service(c, true)),
  'service-tls-alt': ({ tlsName }) => (tlsName === '' ? noTls : ''),
  services: ({ cluster, node }) =>
    cluster.nodes
      .filter((_, i) => i !== node)
      .map(({ address }) => formatAddresses([address]))
      .join(';'),
  'services-alumni': () => '',
  'peers-clear-std': (c) => peers(c, false),
  'peers-clear-alt': (c) => peers(c, false),
  'peers-tls-std': (c) => (c.tlsName === '' ? noTls : peers(c, true)),
  'peers-tls-alt': (c) => (c.tlsName === '' ? noTls : peers(c, true)),
  'alumni-clear-std': (c) => peers(c, false),
  'user-agent-set': () => 'ok',
  'user-agents': () => '',
  logs: () => '',
  'health-outliers': () => '',
  'health-stats': () => '',
};

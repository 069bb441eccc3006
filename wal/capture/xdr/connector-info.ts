import { formatPeers, formatReplicas } from '../../../engine/aerospike/cluster-text.ts';
import { infoError, infoReply, parseInfoRequest } from '../../../engine/aerospike/info.ts';
import { ResultCode } from '../../../engine/aerospike/result-code.ts';
import { PARTITIONS } from '../../../engine/partition.ts';

/** As a server of that release would answer who takes it for one. */
const BUILD = '8.1.2.0';
const FEATURES = 'pscans;query-show;batch-any;pquery';

export interface ConnectorFacts {
  /** 16 hex digits: the same after a restart. */
  readonly nodeId: string;
  readonly port: number;
  readonly namespaces: readonly string[];
}

/** A node alone, that has every partition: what a source finds that looks for a cluster and not for a connector. */
export const answerConnectorInfo = (body: Buffer, facts: ConnectorFacts): Buffer =>
  infoReply(
    parseInfoRequest(body).map(({ raw, name }) => ({
      raw,
      value: answerTo(name, facts) ?? infoError(ResultCode.parameter, 'unrecognized command'),
    })),
  );

const answerTo = (command: string, { nodeId, port, namespaces }: ConnectorFacts): string | undefined => {
  switch (command) {
    case 'node':
      return nodeId;
    case 'build':
      return BUILD;
    case 'features':
      return FEATURES;
    case 'status':
      return 'ok';
    case 'partition-generation':
    case 'peers-generation':
      return '1';
    case 'peers-clear-std':
    case 'peers-clear-alt':
      return formatPeers({ generation: 1, defaultPort: port, peers: [] });
    case 'service-clear-std':
    case 'service-clear-alt':
      return '';
    case 'cluster-name':
      return 'pitr';
    case 'namespaces':
      return namespaces.join(';');
    case 'replicas':
      return formatReplicas(
        namespaces.map((namespace) => ({
          namespace,
          regime: 0,
          replicationFactor: 1,
          masks: [new Uint8Array(PARTITIONS).fill(1)],
        })),
      );
    default:
      return undefined;
  }
};

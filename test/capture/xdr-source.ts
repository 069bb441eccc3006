/** The info side of an Enterprise cluster, by script: texts as the reference and public captures have them. No Enterprise server was at hand. */
import type { TestContext } from 'node:test';
import { bitmap, ScriptedPeer } from '../aerospike/scripted-peer.ts';
import { T0 } from './xdr-support.ts';

const EPOCH_S = 1_262_304_000;

export interface NodeState {
  clusterKey: string;
  clusterSize: number;
  /** Its clock, ms since 1970. */
  nowMs: number;
  objects: number;
  truncations: string;
  /** What differs from {@link QUIET}. */
  stats: Record<string, number>;
  /** What differs from {@link EXACT}. */
  config: Record<string, string>;
  connector: string;
  filter: string;
}

/** A public sample of the answer, all at rest. */
const QUIET = {
  lag: 0,
  in_queue: 0,
  in_progress: 0,
  success: 695,
  abandoned: 0,
  not_found: 0,
  filtered_out: 0,
  retry_no_node: 0,
  retry_conn_reset: 0,
  retry_dest: 0,
  recoveries: 2048,
  recoveries_pending: 0,
  hot_keys: 0,
  bytes_shipped: 676_929,
  uncompressed_pct: '1.222',
  compression_ratio: '0.769',
  nodes: 2,
  throughput: 0,
  latency_ms: 2,
  lap_us: 1983,
};

const EXACT = {
  enabled: 'true',
  'bin-policy': 'all',
  'delay-ms': '0',
  forward: 'true',
  'hot-key-ms': '100',
  'ignore-expunges': 'false',
  'ignored-bins': '',
  'ignored-sets': '',
  'max-throughput': '100000',
  'ship-nsup-deletes': 'true',
  'ship-only-specified-sets': 'false',
  'ship-versions-policy': 'all',
  'shipped-bins': '',
  'shipped-sets': '',
  'transaction-queue-limit': '16384',
  'write-policy': 'auto',
};

const pairs = (values: Record<string, string | number>): string =>
  Object.entries(values)
    .map(([k, v]) => `${k}=${v}`)
    .join(';');

/** A node of the source; what it says follows `state`, which a test changes. */
export class SourceNode {
  readonly peer: ScriptedPeer;
  readonly state: NodeState;

  private constructor(peer: ScriptedPeer, state: NodeState) {
    this.peer = peer;
    this.state = state;
  }

  static async open(
    t: TestContext,
    id: string,
    owns: (p: number) => boolean = () => true,
  ): Promise<SourceNode> {
    const state: NodeState = {
      clusterKey: 'AB12',
      clusterSize: 1,
      nowMs: T0 + 100_000,
      objects: 0,
      truncations: '',
      stats: {},
      config: {},
      connector: 'true',
      filter: 'null',
    };
    const { 'cluster-stable:': _, ...info } = ScriptedPeer.infoOf(id, owns);
    const peer = await ScriptedPeer.open({
      info: { ...info, replicas: `test:0,1,${bitmap(owns)}` },
      onInfo: (command) => SourceNode.#answer(state, command),
    });
    t.after(() => peer.close());
    return new SourceNode(peer, state);
  }

  static #answer(state: NodeState, command: string): string | undefined {
    switch (command) {
      case 'cluster-stable:':
        return state.clusterKey;
      case 'namespace/test':
        return pairs({
          ns_cluster_size: state.clusterSize,
          objects: state.objects,
          master_objects: state.objects,
          current_time: Math.floor(state.nowMs / 1000) - EPOCH_S,
        });
      case 'smd-show:module=truncate':
        return state.truncations;
      case 'get-stats:context=xdr;dc=pitr;namespace=test':
        return pairs({ ...QUIET, ...state.stats });
      case 'get-config:context=xdr;dc=pitr':
        return `auth-mode=none;connector=${state.connector};max-recoveries-interleaved=0;namespaces=test;node-address-port=127.0.0.1:3400`;
      case 'get-config:context=xdr;dc=pitr;namespace=test':
        return pairs({ ...EXACT, ...state.config });
      case 'xdr-get-filter:dc=pitr;namespace=test':
        return `namespace=test:exp=${state.filter}`;
      default:
        return undefined;
    }
  }
}

import { PitrError } from '../../errors.ts';
import { type InfoCommand, infoError } from '../info.ts';
import { ResultCode } from '../result-code.ts';
import type { ClusterMap } from './cluster-map.ts';
import type { Database } from './database.ts';
import { engineRefusal } from './engine-refusal.ts';
import { ADMIN_COMMANDS } from './info-admin.ts';
import { CLUSTER_COMMANDS } from './info-cluster.ts';
import { CONTENT_COMMANDS } from './info-content.ts';
import { FAULT_COMMANDS } from './info-faults.ts';

/** What info commands are answered from. */
export interface InfoContext {
  readonly database: Database;
  readonly cluster: ClusterMap;
  /** Which node was asked. */
  readonly node: number;
  readonly clusterName: string;
  /** Name in the certificate; '' without TLS. */
  readonly tlsName: string;
  readonly connections: number;
  /** As after a restart: other connections end, counters begin anew. Only for servers that are tested against. */
  readonly restart: () => Promise<number>;
}

export type InfoHandler = (context: InfoContext, command: InfoCommand) => string | Promise<string>;
export type InfoTable = Readonly<Record<string, InfoHandler>>;

/** Of the Enterprise Edition. */
const ENTERPRISE = [
  'feature-key',
  'rack-ids',
  'racks',
  'roster',
  'roster-set',
  'quiesce',
  'quiesce-undo',
  'recluster',
  'revive',
  'xdr-dc-state',
  'masking',
];

const enterpriseOnly: InfoHandler = () => infoError(ResultCode.enterpriseOnly, 'enterprise only');

const TABLE: ReadonlyMap<string, InfoHandler> = new Map([
  ...Object.entries(CLUSTER_COMMANDS),
  ...Object.entries(CONTENT_COMMANDS),
  ...Object.entries(ADMIN_COMMANDS),
  ...ENTERPRISE.map((name) => [name, enterpriseOnly] as const),
]);

/** What an empty request asks for. */
export const SUMMARY = [
  'version',
  'edition',
  'build',
  'node',
  'service',
  'services',
  'statistics',
  'features',
  'partition-generation',
];

/** The value of one command's answer: failures are values, too. */
export const answerInfo = async (context: InfoContext, command: InfoCommand): Promise<string> => {
  const handler =
    TABLE.get(command.name) ?? (context.database.faults ? FAULT_COMMANDS[command.name] : undefined);
  if (!handler) return infoError(ResultCode.parameter, 'unrecognized command');
  try {
    return await handler(context, command);
  } catch (error) {
    const code = error instanceof PitrError ? engineRefusal(error) : undefined;
    if (code === undefined) throw error;
    return infoError(code, (error as PitrError).message);
  }
};

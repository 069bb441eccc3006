import type { Backoff } from './backoff.ts';
import { DEFAULT_BACKOFF } from './backoff.ts';
import type { Rate } from './rate-limit.ts';
import { systemTiming, type Timing } from './timing.ts';

/** Where to begin. Default port 3000. */
export interface SeedHost {
  readonly host: string;
  readonly port?: number;
  /** The name in its certificate; default that of {@link TlsOptions.name}. */
  readonly tlsName?: string;
}

/** PEM text throughout. */
export interface TlsOptions {
  /** Who signed the servers' certificates; default those that Node trusts. */
  readonly ca?: string | Buffer;
  /** Certificate and key of the client, for clusters that ask for them. */
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** The name that certificates must carry; default what discovery says, else the host. */
  readonly name?: string;
}

/** `external`: by LDAP, only over TLS. `pki`: the certificate says who the client is. */
export type Login =
  | { readonly mode?: 'internal' | 'external'; readonly user: string; readonly password: string }
  | { readonly mode: 'pki' };

export interface ClientOptions {
  readonly hosts: readonly SeedHost[];
  /** A node of a cluster with another name is not taken. */
  readonly clusterName?: string;
  readonly login?: Login;
  /** A login may be answered with "security is not supported" (Community Edition) and the client goes on without. Default false. */
  readonly allowNoSecurity?: boolean;
  readonly tls?: TlsOptions;
  /** Nodes are reached at their alternate addresses. */
  readonly useAlternateServices?: boolean;
  /** To a socket that is ready, login included. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** A socket with a question on it may be silent that long. Default 30,000. */
  readonly socketTimeoutMs?: number;
  /** For a command with all of its attempts, unless it has its own. Default 10,000. */
  readonly commandTimeoutMs?: number;
  readonly tendIntervalMs?: number;
  /** Sockets to a node. Default 32. */
  readonly socketsMax?: number;
  /** A socket that is idle for longer is closed: less than the server's `proto-fd-idle-ms`. Default 55,000. */
  readonly idleMsMax?: number;
  /** Sockets to a node that many commands share. Default 2. */
  readonly lanes?: number;
  /** Attempts for one command, and rounds of a scan without progress. Default 8. */
  readonly attemptsMax?: number;
  readonly backoff?: Backoff;
  /** Of everything that the client reads by scans and writes or reads by `runAll` and `batch`. */
  readonly rate?: Rate;
  readonly timing?: Timing;
  /** [0, 1): waits and the numbers of queries are drawn from it. */
  readonly random?: () => number;
}

export type Settings = Required<Omit<ClientOptions, 'clusterName' | 'login' | 'tls'>> &
  Pick<ClientOptions, 'clusterName' | 'login' | 'tls'>;

export const settingsOf = (o: ClientOptions): Settings => ({
  hosts: o.hosts,
  clusterName: o.clusterName,
  login: o.login,
  tls: o.tls,
  allowNoSecurity: o.allowNoSecurity ?? false,
  useAlternateServices: o.useAlternateServices ?? false,
  connectTimeoutMs: o.connectTimeoutMs ?? 5000,
  socketTimeoutMs: o.socketTimeoutMs ?? 30_000,
  commandTimeoutMs: o.commandTimeoutMs ?? 10_000,
  tendIntervalMs: o.tendIntervalMs ?? 1000,
  socketsMax: o.socketsMax ?? 32,
  idleMsMax: o.idleMsMax ?? 55_000,
  lanes: o.lanes ?? 2,
  attemptsMax: o.attemptsMax ?? 8,
  backoff: o.backoff ?? DEFAULT_BACKOFF,
  rate: o.rate ?? {},
  timing: o.timing ?? systemTiming,
  random: o.random ?? Math.random,
});

import { PitrError } from '../../errors.ts';
import { parseAddresses } from '../cluster-text.ts';
import type { ClientOptions, Login, SeedHost } from './client-options.ts';

const SCHEME = 'aerospike://';
const DEFAULT_PORT = 3000;

/** What stands behind `?`. */
const PARAMETERS = [
  'tls',
  'tls-name',
  'tls-ca',
  'tls-cert',
  'tls-key',
  'auth',
  'cluster-name',
  'alternate',
] as const;
const FILES = ['tls-ca', 'tls-cert', 'tls-key'] as const;
type Parameter = (typeof PARAMETERS)[number];

/** Where a cluster is and how it is reached, without secrets. */
export interface ClusterUrl {
  readonly hosts: readonly SeedHost[];
  readonly user: string | undefined;
  readonly parameters: Readonly<Partial<Record<Parameter, string>>>;
}

export const isClusterUrl = (text: string): boolean => text.startsWith(SCHEME);

/**
 * Reads `aerospike://[user@]host[:port][,host[:port]…][?tls=true&tls-name=…&tls-ca=FILE&tls-cert=FILE&tls-key=FILE
 * &auth=internal|external|pki&cluster-name=…&alternate=true]`. @throws usage
 */
export const parseClusterUrl = (text: string): ClusterUrl => {
  const refuse = (what: string, hint = 'write aerospike://HOST:PORT, more hosts behind commas'): never => {
    throw new PitrError('usage', { what: `${what} in the cluster's URL`, hint });
  };
  if (!isClusterUrl(text)) return refuse('no aerospike://');
  const [place, query = ''] = cut(text.slice(SCHEME.length), '?');
  const at = place.lastIndexOf('@');
  const user = at < 0 ? undefined : decoded(place.slice(0, at));
  if (user?.includes(':'))
    refuse('a password', 'leave it out and set PITR_AEROSPIKE_PASSWORD: command lines are seen by others');
  let hosts: SeedHost[] = [];
  try {
    hosts = parseAddresses(place.slice(at + 1).replace(/\/$/, ''), DEFAULT_PORT);
  } catch {
    // said below
  }
  if (hosts.length === 0) refuse(`no host and port: "${place.slice(at + 1)}"`);
  const parameters: Partial<Record<Parameter, string>> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    const known = PARAMETERS.find((p) => p === name);
    if (!known) return refuse(`unknown "${name}"`, `known are ${PARAMETERS.join(', ')}`);
    parameters[known] = value;
  }
  for (const name of ['tls', 'alternate'] as const)
    if (!['true', 'false', undefined].includes(parameters[name]))
      refuse(`${name}=${parameters[name]}`, 'true or false');
  if (!['internal', 'external', 'pki', undefined].includes(parameters.auth))
    refuse(`auth=${parameters.auth}`, 'internal, external or pki');
  return { hosts, user, parameters };
};

/** The URL with what names the cluster only: hosts, sorted, so that it stands for the same place. */
export const clusterPlace = ({ hosts }: ClusterUrl): string =>
  SCHEME +
  hosts
    .map(({ host, port = DEFAULT_PORT }) => `${host.includes(':') ? `[${host}]` : host}:${port}`)
    .sort()
    .join(',');

/** The URL as a directory keeps it: all that says how the cluster is reached, files by the paths that `absolute` makes of theirs. */
export const keptClusterUrl = (url: ClusterUrl, absolute: (path: string) => string): string => {
  const { user, parameters } = url;
  const query = new URLSearchParams(
    Object.entries(parameters).map(([name, value]): [string, string] => [
      name,
      FILES.some((file) => file === name) ? absolute(value) : value,
    ]),
  );
  const at = user === undefined ? '' : `${encodeURIComponent(user)}@`;
  return `${SCHEME}${at}${clusterPlace(url).slice(SCHEME.length)}${query.size === 0 ? '' : `?${query}`}`;
};

/** Environment variables with what a URL must not show. */
export const USER_VARIABLE = 'PITR_AEROSPIKE_USER';
export const PASSWORD_VARIABLE = 'PITR_AEROSPIKE_PASSWORD';

/**
 * Options of a client. The user of the URL counts before that of the environment; the password is the environment's alone.
 * @throws usage; what `readFile` throws
 */
export const clientOptionsOf = (
  url: ClusterUrl,
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => Buffer,
): Omit<ClientOptions, 'timing' | 'random'> => {
  const { parameters: p } = url;
  const pem = (path: string | undefined): string | undefined =>
    path === undefined ? undefined : readFile(path).toString('utf8');
  const ca = pem(p['tls-ca']);
  const cert = pem(p['tls-cert']);
  const key = pem(p['tls-key']);
  const name = p['tls-name'];
  const isTls = p.tls === undefined ? (name ?? ca ?? cert ?? key) !== undefined : p.tls === 'true';
  const login = loginOf(url, env);
  return {
    hosts: url.hosts,
    ...(login ? { login } : {}),
    ...(isTls
      ? {
          tls: {
            ...(name === undefined ? {} : { name }),
            ...(ca === undefined ? {} : { ca }),
            ...(cert === undefined ? {} : { cert }),
            ...(key === undefined ? {} : { key }),
          },
        }
      : {}),
    ...(p['cluster-name'] === undefined ? {} : { clusterName: p['cluster-name'] }),
    ...(p.alternate === 'true' ? { useAlternateServices: true } : {}),
  };
};

const loginOf = (
  { user: named, parameters: { auth = 'internal' } }: ClusterUrl,
  env: Readonly<Record<string, string | undefined>>,
): Login | undefined => {
  if (auth === 'pki') return { mode: 'pki' };
  const user = named ?? env[USER_VARIABLE];
  if (user === undefined || user === '') return undefined;
  const password = env[PASSWORD_VARIABLE];
  if (password === undefined)
    throw new PitrError('usage', {
      what: `there is no password for user ${user}`,
      hint: `set ${PASSWORD_VARIABLE}`,
    });
  return { mode: auth === 'external' ? 'external' : 'internal', user, password };
};

const cut = (text: string, at: string): [string, string?] => {
  const index = text.indexOf(at);
  return index < 0 ? [text] : [text.slice(0, index), text.slice(index + 1)];
};

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

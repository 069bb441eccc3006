import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import { parseInfoError, parseParameters } from '../../../engine/aerospike/info.ts';

/** What the configuration of the source takes away. */
export interface ConfigFindings {
  /** Sentences. */
  readonly inexact: readonly string[];
  /** Namespaces whose updates may lack bins. */
  readonly partial: ReadonlySet<string>;
}

type Config = ReadonlyMap<string, string>;

/** A setting of a namespace in a DC, and what another value than this one means. */
interface Need {
  readonly setting: string;
  readonly value: string;
  readonly meaning: string;
  /** What a server has that does not know the setting; undefined: its absence means nothing. */
  readonly absent?: string;
}

const NEEDS: readonly Need[] = [
  {
    setting: 'ship-versions-policy',
    value: 'all',
    absent: 'latest (the server is older than the setting)',
    meaning: 'versions that follow each other quickly are not all shipped',
  },
  { setting: 'bin-policy', value: 'all', absent: 'unknown', meaning: 'updates that lack bins are refused' },
  {
    setting: 'ship-nsup-deletes',
    value: 'true',
    absent: 'unknown',
    meaning: 'evicted records stay until their void time',
  },
  {
    setting: 'ignore-expunges',
    value: 'false',
    absent: 'unknown',
    meaning: 'deletes that are not durable are not shipped',
  },
  { setting: 'ship-only-specified-sets', value: 'false', meaning: 'other sets are not shipped' },
  { setting: 'forward', value: 'true', meaning: 'writes that came by XDR are not shipped' },
  { setting: 'enabled', value: 'true', meaning: 'the namespace is not shipped' },
];

/** Lists that must be empty. */
const LISTS: readonly (readonly [string, string])[] = [
  ['ignored-sets', 'sets are not shipped'],
  ['ignored-bins', 'bins are not shipped'],
  ['shipped-bins', 'other bins are not shipped'],
];

const dcCommand = (dc: string): string => `get-config:context=xdr;dc=${dc}`;
const configCommand = (dc: string, namespace: string): string => `${dcCommand(dc)};namespace=${namespace}`;
const filterCommand = (dc: string, namespace: string): string =>
  `xdr-get-filter:dc=${dc};namespace=${namespace}`;

/** Asks every node. @throws when one does not answer */
export const readConfig = async (
  client: AerospikeClient,
  dc: string,
  namespaces: readonly string[],
): Promise<ConfigFindings> => {
  const commands = [
    dcCommand(dc),
    ...namespaces.flatMap((n) => [configCommand(dc, n), filterCommand(dc, n)]),
  ];
  // the same on all nodes, as a rule: each sentence once
  const inexact = new Set<string>();
  const partial = new Set<string>();
  for (const said of (await client.infoAll(commands)).values()) {
    const ofDc = configOf(said.get(dcCommand(dc)));
    if (typeof ofDc === 'string') inexact.add(`${dc}: its configuration cannot be read: ${ofDc}`);
    else if (ofDc.get('connector') !== 'true')
      inexact.add(`${dc}: connector is ${ofDc.get('connector') ?? 'unknown'}, not true`);
    for (const namespace of namespaces) {
      const config = configOf(said.get(configCommand(dc, namespace)));
      if (typeof config === 'string') {
        inexact.add(`${namespace}: its configuration cannot be read: ${config}`);
        partial.add(namespace);
        continue;
      }
      for (const sentence of findingsOf(config)) inexact.add(`${namespace}: ${sentence}`);
      if (config.get('bin-policy') !== 'all') partial.add(namespace);
      if (hasFilter(said.get(filterCommand(dc, namespace))))
        inexact.add(`${namespace}: a filter is set: records that it rejects are not shipped`);
    }
  }
  return { inexact: [...inexact], partial };
};

const configOf = (value: string | undefined): Config | string => {
  const error = value === undefined ? { text: 'no answer' } : parseInfoError(value);
  return error ? error.text || 'refused' : parseParameters(value ?? '');
};

const findingsOf = (config: Config): string[] => [
  ...NEEDS.flatMap(({ setting, value, absent, meaning }) => {
    const has = config.get(setting) ?? absent;
    return has === undefined || has === value ? [] : [`${setting} is ${has}, not ${value}: ${meaning}`];
  }),
  ...LISTS.flatMap(([list, meaning]) => {
    const has = config.get(list) ?? '';
    return has === '' || has === 'null' ? [] : [`${list} is ${has}: ${meaning}`];
  }),
];

const hasFilter = (value: string | undefined): boolean => {
  const exp = /(?:^|[:;])exp=([^:;]*)/.exec(value ?? '')?.[1] ?? '';
  return exp !== '' && exp !== 'null';
};

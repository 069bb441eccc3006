import { createHash } from 'node:crypto';
import { SERVER_EPOCH_MS } from '../../../engine/aerospike/epoch.ts';
import { parseParameters } from '../../../engine/aerospike/info.ts';
import type { FoundDefinition } from '../journal.ts';

/** A namespace, or with its set behind a bar one of its sets → cutoff, ms since 1970. */
export type Cutoffs = ReadonlyMap<string, number>;

/** `smd-show:module=truncate`: `namespace|set=ms since 2010`, or without set. */
export const parseCutoffs = (text: string): Map<string, number> => {
  const cutoffs = new Map<string, number>();
  for (const entry of text.split(';')) {
    // a set's name may hold what else ends a key
    const equals = entry.lastIndexOf('=');
    const ms = entry.slice(equals + 1);
    if (equals > 0 && /^\d{1,15}$/.test(ms))
      cutoffs.set(entry.slice(0, equals), Number(ms) + SERVER_EPOCH_MS);
  }
  return cutoffs;
};

/** Where there is no `smd-show`: `truncate_lut` of `sets/NAMESPACE` and of the namespace. */
export const cutoffsOfSets = (
  namespace: string,
  sets: string,
  namespaceLut: string | undefined,
): Map<string, number> => {
  const cutoffs = new Map<string, number>();
  const add = (key: string, lut: string | undefined): void => {
    if (lut !== undefined && /^[1-9]\d{0,14}$/.test(lut)) cutoffs.set(key, Number(lut) + SERVER_EPOCH_MS);
  };
  add(namespace, namespaceLut);
  for (const line of sets.split(';')) {
    const values = parseParameters(line, ':');
    const set = values.get('set');
    if (set) add(`${namespace}|${set}`, values.get('truncate_lut'));
  }
  return cutoffs;
};

/** `smd-info`: module → how often it has changed. Undefined: this build does not say. */
export const parseChangeCounters = (text: string): ReadonlyMap<string, string> | undefined => {
  const counters = new Map<string, string>();
  for (const part of text.split(';')) {
    const m = /^(\w+):.*committed_tid=(\d+)/.exec(part);
    if (m) counters.set(m[1], m[2]);
  }
  return counters.size > 0 ? counters : undefined;
};

/** `sindex-list:namespace=…;b64=true` → a definition for each index; its body is the entry as it came. */
export const parseIndexes = (text: string): FoundDefinition[] =>
  text.split(';').flatMap((entry) => {
    const values = parseParameters(entry, ':');
    const name = values.get('indexname');
    return name === undefined
      ? []
      : [{ what: 'sindex' as const, namespace: values.get('ns') ?? '', name, body: Buffer.from(entry) }];
  });

/** `udf-list` → name and hash of each module. */
export const parseModules = (text: string): { readonly name: string; readonly hash: string }[] =>
  text.split(';').flatMap((entry) => {
    const values = parseParameters(entry, ',');
    const name = values.get('filename');
    return name === undefined ? [] : [{ name, hash: values.get('hash') ?? '' }];
  });

/** `udf-get` → the module; undefined: it is there no more. */
export const parseModule = (text: string): Buffer | undefined => {
  const content = /(?:^|;)content=([A-Za-z0-9+/=\s]*)(?:;|$)/.exec(text)?.[1];
  return content === undefined ? undefined : Buffer.from(content, 'base64');
};

/** The same for definitions that are the same: whether an index is built yet is not part of it. */
export const fingerprintOf = ({ what, body }: FoundDefinition): string => {
  const text = body ?? Buffer.alloc(0);
  const lasting =
    what === 'udf'
      ? text
      : Buffer.from(
          Buffer.from(text)
            .toString('utf8')
            .replace(/:state=[^:]*/, ''),
        );
  return createHash('sha1').update(lasting).digest('base64');
};

export const keyOf = ({
  what,
  namespace,
  name,
}: Pick<FoundDefinition, 'what' | 'namespace' | 'name'>): string => JSON.stringify([what, namespace, name]);

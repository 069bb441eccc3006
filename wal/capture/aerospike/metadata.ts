import type { AerospikeClient } from '../../../engine/aerospike/client/client.ts';
import type { FoundDefinition, Journal } from '../journal.ts';
import { takeCensus } from './census.ts';
import {
  type Cutoffs,
  fingerprintOf,
  keyOf,
  parseIndexes,
  parseModule,
  parseModules,
} from './definitions.ts';
import { answerTo } from './look.ts';
import type { Scope } from './scope.ts';

/** Cutoffs that were not there, or are later than they were. */
export const newCutoffs = (known: Readonly<Record<string, number>>, now: Cutoffs): [string, number][] =>
  [...now].filter(([key, ms]) => (Object.hasOwn(known, key) ? known[key] : 0) < ms);

/** Namespace and set of a cutoff; undefined: all sets. */
const placeOf = (key: string): readonly [namespace: string, set: string | undefined] => {
  const bar = key.indexOf('|');
  return bar < 0 ? [key, undefined] : [key.slice(0, bar), key.slice(bar + 1)];
};

/** Logs truncations (P7). `lookedMs`: not later than the last look that did not have them. The caller flushes. */
export const tellCutoffs = (
  scopes: readonly Scope[],
  found: readonly [string, number][],
  lookedMs: number,
): void => {
  for (const [key, cutoffLut] of found) {
    const [namespace, set = null] = placeOf(key);
    const scope = scopes.find((s) => s.namespace === namespace);
    if (!scope) continue;
    const endMs = scope.time.latestMs();
    // not from the cutoff: only the last of several truncations is known, and an earlier one may have hidden as much
    const when = { startMs: Math.min(lookedMs, endMs), endMs };
    scope.journal.truncated({ namespace, set, cutoffLut, when });
    scope.findings.truncations++;
  }
};

/** Compares what the cutoffs are about. The index knows of them. @throws aerospike-… */
export const compareTruncated = async (
  scopes: readonly Scope[],
  found: readonly [string, number][],
): Promise<void> => {
  for (const { state, time, journal } of scopes)
    state.calendar.rebuild(journal.index, state.id, state.groups, Math.floor(time.ms / 1000));
  for (const [key] of found) {
    const [namespace, set] = placeOf(key);
    const scope = scopes.find((s) => s.namespace === namespace);
    if (scope) await takeCensus(scope, scope.journal.partitions, set);
  }
};

/** From one node: metadata are the same on all, or will be, and the counters of all are watched. @throws aerospike-… */
export const readDefinitions = async (
  client: AerospikeClient,
  namespaces: readonly string[],
): Promise<FoundDefinition[]> => {
  const [node] = client.nodes;
  const lists = namespaces.map((namespace) => `sindex-list:namespace=${namespace};b64=true`);
  const said = await client.info(node, [...lists, 'udf-list']);
  const found = lists.flatMap((command) => parseIndexes(answerTo(said, command, node.id)));
  for (const { name } of parseModules(answerTo(said, 'udf-list', node.id))) {
    const command = `udf-get:filename=${name}`;
    const body = parseModule((await client.info(node, [command])).get(command) ?? '');
    if (body) found.push({ what: 'udf', namespace: null, name, body });
  }
  return found;
};

/** Logs definitions that are new, others than they were, or gone, at `ts`; returns the fingerprints of all. */
export const tellDefinitions = (
  journal: Journal,
  known: Readonly<Record<string, string>>,
  definitions: readonly FoundDefinition[],
  ts: number,
): { readonly now: Record<string, string>; readonly told: number } => {
  const now: Record<string, string> = {};
  let told = 0;
  const tell = (definition: FoundDefinition): void => {
    journal.defined(definition, ts);
    told++;
  };
  for (const definition of definitions) {
    const key = keyOf(definition);
    now[key] = fingerprintOf(definition);
    if (!Object.hasOwn(known, key) || known[key] !== now[key]) tell(definition);
  }
  for (const key of Object.keys(known)) {
    if (Object.hasOwn(now, key)) continue;
    const [what, namespace, name] = JSON.parse(key) as ['sindex' | 'udf', string | null, string];
    tell({ what, namespace, name, body: null });
  }
  return { now, told };
};

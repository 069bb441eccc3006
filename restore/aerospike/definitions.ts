import type { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { parseInfoError, parseParameters } from '../../engine/aerospike/info.ts';
import { PitrError } from '../../engine/errors.ts';
import { type ArchiveEvent, compareEvents, type DefinitionEvent } from '../../wal/event.ts';
import { renamed, type Selection } from '../selection.ts';
import type { Scope } from './cluster-job.ts';

/** A secondary index by the fields that a server lists and takes: `ns`, `indexname`, `set`, `bin`, `type`, `indextype`, `context`, `exp`. */
export interface IndexDefinition {
  readonly what: 'sindex';
  readonly namespace: string;
  readonly name: string;
  readonly fields: Readonly<Record<string, string>>;
}

export interface UdfDefinition {
  readonly what: 'udf';
  readonly name: string;
  readonly content: Uint8Array;
}

export type Definition = IndexDefinition | UdfDefinition;

/** What has to be done to a definition of the target. `differs`: it is there under this name and is another one. */
export interface DefinitionStep {
  readonly definition: Definition;
  readonly step: 'equal' | 'missing' | 'differs';
}

/** What came of it. */
export interface DefinitionResult {
  readonly what: Definition['what'];
  readonly namespace: string | undefined;
  readonly name: string;
  readonly result: 'equal' | 'created' | 'replaced' | 'differs' | 'refused';
  readonly why?: string;
}

/** Fields of an index that make it what it is; a state, for one, is not among them. */
const INDEX_FIELDS = ['set', 'bin', 'type', 'indextype', 'context', 'exp'] as const;

/**
 * Definitions in force: of each name the last event, unless that removes it; under the names that namespaces and sets get. Indexes
 * outside of what is in question are left out; modules belong to the whole cluster, and come unless namespaces or sets are chosen.
 */
export const definitionsOf = (
  events: readonly ArchiveEvent[],
  selection: Selection,
  scopes: readonly Scope[],
): Definition[] => {
  const last = new Map<string, DefinitionEvent>();
  for (const e of events.filter((e): e is DefinitionEvent => e.kind === 'definition').sort(compareEvents))
    last.set(`${e.what}\0${e.namespace ?? ''}\0${e.name}`, e);
  const { renameNamespaces, renameSets } = selection;
  const definitions: Definition[] = [];
  for (const { what, name, namespace, body } of last.values()) {
    if (body === null) continue;
    if (what === 'udf') {
      if (!isChosen(selection)) definitions.push({ what, name, content: body });
      continue;
    }
    const fields = fieldsOf(Buffer.from(body).toString('utf8'));
    const set = fields.set;
    if (namespace === null || !isSelected(selection, namespace, set)) continue;
    const newNamespace = renamed(renameNamespaces, namespace);
    const newSet = set === undefined ? undefined : renamed(renameSets, set);
    if (!scopes.some((s) => s.namespace === newNamespace)) continue;
    definitions.push({
      what,
      name,
      namespace: newNamespace,
      fields: { ...fields, ...(newSet === undefined ? {} : { set: newSet }) },
    });
  }
  return definitions;
};

const isChosen = ({ namespaces, sets, digests }: Selection): boolean =>
  (namespaces ?? sets ?? digests) !== undefined;

const isSelected = (
  { namespaces, sets, digests }: Selection,
  namespace: string,
  set: string | undefined,
): boolean =>
  digests === undefined &&
  (namespaces?.includes(namespace) ?? true) &&
  (sets === undefined || (set !== undefined && sets.includes(set)));

/** `ns=…:indexname=…:…`, what has no value left out. A value holds no colon: names may not, the rest is base64. */
const fieldsOf = (text: string): Record<string, string> => {
  const fields: Record<string, string> = {};
  for (const [name, value] of parseParameters(text, ':')) {
    // in capitals, for a set of that name is one
    const isNothing = value === '' || value === 'NULL' || (name !== 'set' && value === 'null');
    if (!isNothing && (INDEX_FIELDS as readonly string[]).includes(name)) fields[name] = value;
  }
  return fields;
};

/** Compares with what the target has. @throws aerospike-info */
export const compareDefinitions = async (
  client: AerospikeClient,
  definitions: readonly Definition[],
): Promise<DefinitionStep[]> => {
  if (definitions.length === 0) return [];
  const there = await targetIndexes(client);
  const modules = await targetModules(client);
  const steps: DefinitionStep[] = [];
  for (const definition of definitions) {
    let step: DefinitionStep['step'] = 'missing';
    if (definition.what === 'sindex') {
      const found = there.get(`${definition.namespace}\0${definition.name}`);
      if (found) step = sameIndex(found, definition.fields) ? 'equal' : 'differs';
    } else if (modules.has(definition.name)) {
      const content = await moduleContent(client, definition.name);
      step = content && Buffer.compare(content, definition.content) === 0 ? 'equal' : 'differs';
    }
    steps.push({ definition, step });
  }
  return steps;
};

const sameIndex = (a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean =>
  INDEX_FIELDS.every((name) => normal(name, a[name]) === normal(name, b[name]));

/** What a server leaves out or writes in another case means the same. */
const normal = (name: string, value: string | undefined): string => {
  const text = value ?? (name === 'indextype' ? 'default' : '');
  return name === 'type' || name === 'indextype' ? text.toLowerCase() : text;
};

const ask = async (client: AerospikeClient, command: string): Promise<string> => {
  const [node] = client.nodes;
  if (!node) throw new PitrError('aerospike-unreachable', { hosts: 'the cluster', why: 'no node is left' });
  return (await client.info(node, [command])).get(command) ?? '';
};

const targetIndexes = async (client: AerospikeClient): Promise<Map<string, Record<string, string>>> => {
  const text = await ask(client, 'sindex-list:b64=true');
  const found = new Map<string, Record<string, string>>();
  if (parseInfoError(text)) return found;
  for (const line of text.split(';').filter((l) => l !== '')) {
    const all = parseParameters(line, ':');
    found.set(`${all.get('ns')}\0${all.get('indexname')}`, fieldsOf(line));
  }
  return found;
};

const targetModules = async (client: AerospikeClient): Promise<Set<string>> => {
  const text = await ask(client, 'udf-list');
  return new Set([...text.matchAll(/filename=([^,;]+),/g)].map((m) => m[1]));
};

const moduleContent = async (client: AerospikeClient, name: string): Promise<Buffer | undefined> => {
  const content = parseParameters(await ask(client, `udf-get:filename=${name}`)).get('content');
  return content === undefined ? undefined : Buffer.from(content, 'base64');
};

/** Makes what is missing, and with `replace` what differs. One that fails does not keep the others from being made. */
export const applyDefinitions = async (
  client: AerospikeClient,
  steps: readonly DefinitionStep[],
  replace: boolean,
): Promise<DefinitionResult[]> => {
  const results: DefinitionResult[] = [];
  for (const { definition, step } of steps) {
    const { what, name } = definition;
    const namespace = what === 'sindex' ? definition.namespace : undefined;
    const of = { what, namespace, name };
    if (step === 'equal' || (step === 'differs' && !replace)) {
      results.push({ ...of, result: step });
      continue;
    }
    const why = await make(client, definition, step === 'differs');
    results.push(
      why === undefined
        ? { ...of, result: step === 'missing' ? 'created' : 'replaced' }
        : { ...of, result: 'refused', why },
    );
  }
  return results;
};

/** Undefined: it is made. */
const make = async (
  client: AerospikeClient,
  definition: Definition,
  isThere: boolean,
): Promise<string | undefined> => {
  if (definition.what === 'udf') {
    const content = Buffer.from(definition.content).toString('base64');
    return failureOf(
      await ask(
        client,
        `udf-put:filename=${definition.name};content=${content};content-len=${content.length};udf-type=LUA;`,
      ),
    );
  }
  const { namespace, name, fields } = definition;
  if (Object.values({ name, ...fields }).some((value) => /[;:\n]/.test(value)))
    return 'it has a name that a server does not take';
  if (isThere) {
    const failure = failureOf(await ask(client, `sindex-delete:namespace=${namespace};indexname=${name}`));
    if (failure !== undefined) return failure;
  }
  const parts = Object.entries({ namespace, indexname: name, ...fields }).map(([k, v]) => `${k}=${v}`);
  return failureOf(await ask(client, `sindex-create:${parts.join(';')}`));
};

const failureOf = (answer: string): string | undefined => {
  if (answer.toLowerCase() === 'ok') return undefined;
  const error = parseInfoError(answer);
  return error ? error.text || `code ${error.code}` : answer || 'no answer';
};

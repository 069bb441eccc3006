import { DIGEST_BYTES } from '../../partition.ts';
import { RecordId } from '../../record-key.ts';
import { state } from '../../state-record.ts';
import { SERVER_EPOCH_MS, toWireVoidTime } from '../epoch.ts';
import { type InfoCommand, infoError } from '../info.ts';
import { ResultCode } from '../result-code.ts';
import { type IndexDefinition, indexText, udfHash } from './definitions.ts';
import type { InfoContext, InfoHandler, InfoTable } from './info-commands.ts';

const parameterError = (text: string): string => infoError(ResultCode.parameter, text);

const NAME_BYTES_MAX = 63;
const isName = (text: string | undefined): text is string =>
  text !== undefined &&
  text !== '' &&
  Buffer.byteLength(text) <= NAME_BYTES_MAX &&
  !/[;:\0\ufffd]/.test(text);

/** Lut as it is sent, ns since 1970 → ms, or why not. */
const cutoffOf = (parameters: ReadonlyMap<string, string>, nowMs: number): number | string | undefined => {
  const lut = parameters.get('lut');
  if (lut === undefined || lut === '') return undefined;
  if (!/^\d{1,19}$/.test(lut)) return parameterError('would truncate to 0');
  const ms = Number(BigInt(lut) / 1_000_000n);
  if (ms > nowMs) return parameterError('would truncate in the future');
  return ms <= SERVER_EPOCH_MS ? parameterError('would truncate to 0') : ms;
};

const truncate = async (
  { database }: InfoContext,
  parameters: ReadonlyMap<string, string>,
  set: string,
): Promise<string> => {
  const name = parameters.get('namespace') ?? '';
  if (name === '') return infoError(ResultCode.badNamespace, 'missing namespace');
  const namespace = database.namespaces.get(name);
  // as the server has it
  if (!namespace) return 'ok';
  const cutoff = cutoffOf(parameters, database.nowMs());
  if (typeof cutoff === 'string') return cutoff;
  const earlier = database.definitions.truncations.find((t) => t.namespace === name && t.set === set);
  // an earlier time than the last changes nothing
  if (cutoff !== undefined && earlier && earlier.lutMs >= cutoff) return 'ok';
  await database.faults?.graveyard?.keepAll(database.engine, name, set, cutoff ?? database.nowMs());
  const done = await database.engine.truncate({
    namespace: name,
    ...(set === '' ? {} : { set }),
    ...(cutoff === undefined ? {} : { beforeMs: cutoff }),
  });
  namespace.forgetSets();
  await database.definitions.addTruncation({ namespace: name, set, lutMs: cutoff ?? done.ts });
  return 'ok';
};

const createIndex: InfoHandler = async ({ database }, { parameters }) => {
  const get = (key: string): string => parameters.get(key) ?? '';
  const namespace = parameters.get('namespace') ?? get('ns');
  // of older clients: bin and type in one
  const [oldBin, oldType] = get('indexdata').split(',');
  const indexType = (get('indextype') || 'default').toLowerCase();
  const index: IndexDefinition = {
    namespace,
    set: get('set'),
    name: get('indexname'),
    bin: parameters.get('bin') ?? oldBin,
    type: (parameters.get('type') ?? oldType ?? '').toLowerCase(),
    indexType,
    context: get('context'),
    expression: get('exp'),
  };
  const refusal = indexRefusal(index);
  if (refusal) return parameterError(refusal);
  if (!database.namespaces.has(namespace))
    return infoError(ResultCode.badNamespace, `unknown namespace ${namespace}`);
  const done = await database.definitions.addIndex(index);
  if (done === 'taken') return infoError(ResultCode.indexFound, 'index already exists');
  return done === 'full' ? infoError(ResultCode.indexCountMax, 'too many indexes') : 'ok';
};

const INDEX_TYPES = ['default', 'list', 'mapkeys', 'mapvalues', 'set'];
const VALUE_TYPES = ['numeric', 'string', 'blob', 'geo2dsphere'];

const indexRefusal = ({
  name,
  set,
  bin,
  type,
  indexType,
  expression,
}: IndexDefinition): string | undefined => {
  if (!isName(name)) return "missing or bad 'indexname'";
  if (set !== '' && !isName(set)) return "bad 'set'";
  if (!INDEX_TYPES.includes(indexType)) return "bad 'indextype'";
  if (indexType === 'set') return undefined;
  if (bin === '' && expression === '') return "missing 'bin' or 'exp'";
  if (Buffer.byteLength(bin) > 15) return 'bin name too long';
  return VALUE_TYPES.includes(type) ? undefined : "bad 'type'";
};

const listIndexes: InfoHandler = ({ database }, { argument, parameters }) => {
  const namespace =
    parameters.get('namespace') ?? parameters.get('ns') ?? (parameters.size > 0 ? '' : argument);
  if (namespace !== '' && !database.namespaces.has(namespace))
    return infoError(ResultCode.badNamespace, `unknown namespace ${namespace}`);
  return database.definitions.indexes
    .filter((i) => namespace === '' || i.namespace === namespace)
    .map(indexText)
    .join(';');
};

/** Namespace and name of the index that a command is about. */
const namedIndex = ({ argument, parameters }: InfoCommand): readonly [namespace: string, name: string] => {
  const [namespace, name] = argument.split('/');
  if (parameters.size === 0) return [namespace, name ?? ''];
  return [parameters.get('namespace') ?? parameters.get('ns') ?? '', parameters.get('indexname') ?? ''];
};

const findIndex = (context: InfoContext, command: InfoCommand): IndexDefinition | undefined => {
  const [namespace, name] = namedIndex(command);
  return context.database.definitions.indexes.find((i) => i.namespace === namespace && i.name === name);
};

const noIndex = infoError(ResultCode.indexNotFound, 'no index');

const indexStatistics: InfoHandler = (context, command) => {
  if (command.argument === '') return listIndexes(context, command);
  const index = findIndex(context, command);
  // defined and not built
  return index
    ? 'entries=0;used_bytes=0;entries_per_bval=0;entries_per_rec=0;load_pct=100;load_time=0;stat_gc_recs=0'
    : noIndex;
};

const putUdf: InfoHandler = async ({ database }, { parameters }) => {
  const name = parameters.get('filename');
  const content = parameters.get('content') ?? '';
  const type = (parameters.get('udf-type') ?? 'LUA').toUpperCase();
  if (!isName(name) || name.includes('/')) return 'error=invalid_filename';
  if (content === '' || !/^[A-Za-z0-9+/]+={0,2}$/.test(content) || content.length % 4 !== 0)
    return 'error=invalid_base64_content';
  if (type !== 'LUA') return 'error=invalid_udf_type';
  return (await database.definitions.putUdf({ name, type, content })) ? 'ok' : 'error=too_large';
};

const removeUdf: InfoHandler = async ({ database }, { parameters }) => {
  const name = parameters.get('filename') ?? '';
  // as the server has it: nothing to remove is no failure
  await database.definitions.removeUdf(name);
  return name === '' ? 'error=invalid_filename' : 'ok';
};

const showMetadata: InfoHandler = ({ database }, { parameters }) => {
  const { definitions } = database;
  switch (parameters.get('module')) {
    case 'truncate':
      return definitions.truncations
        .map((t) => `${t.namespace}${t.set === '' ? '' : `|${t.set}`}=${t.lutMs - SERVER_EPOCH_MS}`)
        .join(';');
    case 'sindex':
      return definitions.indexes.map((i) => `${i.namespace}|${i.set}|${i.name}=${i.bin},${i.type}`).join(';');
    case 'UDF':
      return definitions.udfs.map((u) => `${u.name}=${udfHash(u)}`).join(';');
    case 'evict':
      return '';
    default:
      return parameterError('unknown module');
  }
};

const recordMetadata: InfoHandler = ({ database }, { parameters }) => {
  const namespace = parameters.get('namespace') ?? '';
  const digest = Buffer.from(parameters.get('keyd') ?? '', 'hex');
  if (!database.namespaces.has(namespace)) return infoError(ResultCode.badNamespace, 'unknown namespace');
  if (digest.length !== DIGEST_BYTES) return parameterError('bad keyd');
  const value = database.engine.newest(new RecordId({ namespace, digest }, '', digest, undefined));
  if (!value) return infoError(ResultCode.notFound, 'record not found');
  return [
    `generation=${state.generation(value)}`,
    `void-time=${toWireVoidTime(state.voidTime(value))}`,
    `last-update-time=${state.lut(value) - SERVER_EPOCH_MS}`,
    `set=${state.set(value)}`,
  ].join(':');
};

const moduleLine = (name: string, changes: number, keys: number): string =>
  `${name}:committed_key=1,committed_tid=${changes},n_keys=${keys},state=pr`;

/** What changes more than one record, and definitions. */
export const ADMIN_COMMANDS: InfoTable = {
  truncate: (context, { parameters }) => {
    const set = parameters.get('set');
    if (parameters.has('namespace') && !isName(set)) return parameterError('missing or bad set name');
    return truncate(context, parameters, set ?? '');
  },
  'truncate-namespace': (context, { parameters }) => truncate(context, parameters, ''),
  'truncate-undo': async ({ database }, { parameters }) => {
    await database.definitions.removeTruncation(
      parameters.get('namespace') ?? '',
      parameters.get('set') ?? '',
    );
    return 'ok';
  },
  'truncate-namespace-undo': async ({ database }, { parameters }) => {
    await database.definitions.removeTruncation(parameters.get('namespace') ?? '', '');
    return 'ok';
  },
  'sindex-create': createIndex,
  'sindex-list': listIndexes,
  'sindex-exists': (context, command) => `${findIndex(context, command) !== undefined}`,
  'sindex-stat': indexStatistics,
  sindex: indexStatistics,
  'sindex-delete': async ({ database }, command) => {
    // as the server has it: nothing to remove is no failure
    await database.definitions.removeIndex(...namedIndex(command));
    return 'ok';
  },
  'udf-list': ({ database }) =>
    database.definitions.udfs.map((u) => `filename=${u.name},hash=${udfHash(u)},type=${u.type};`).join(''),
  'udf-get': ({ database }, { parameters }) => {
    const udf = database.definitions.udfs.find((u) => u.name === parameters.get('filename'));
    return udf ? `type=${udf.type};content=${udf.content};` : 'error=not_found';
  },
  'udf-put': putUdf,
  'udf-remove': removeUdf,
  'smd-info': ({ database }) => {
    const { definitions: d } = database;
    return [
      moduleLine('evict', 0, 0),
      moduleLine('sindex', d.changes('sindex'), d.indexes.length),
      moduleLine('truncate', d.changes('truncate'), d.truncations.length),
      moduleLine('UDF', d.changes('UDF'), d.udfs.length),
    ].join(';');
  },
  'smd-show': showMetadata,
  'debug-record-meta': recordMetadata,
};

import type { EngineRecord } from '../../engine/engine-record.ts';
import { type JsonValue, toJson } from '../../engine/value.ts';
import { renderFields } from './table.ts';
import { formatInstant } from './units.ts';

/** A record as JSON: the fields of a line of `restore --json-lines`, and the partition. */
export interface RecordData {
  readonly namespace: string;
  readonly set: string;
  readonly digest: string;
  readonly partition: number;
  readonly key?: JsonValue;
  readonly generation: number;
  readonly lastUpdate: string;
  readonly expires: string | null;
  readonly bins: Readonly<Record<string, JsonValue>>;
}

export const recordData = (record: EngineRecord): RecordData => ({
  namespace: record.namespace,
  set: record.set,
  digest: record.digest.toString('hex'),
  partition: record.partition,
  ...(record.key === undefined ? {} : { key: toJson(record.key) }),
  generation: record.generation,
  lastUpdate: new Date(record.lut).toISOString(),
  expires: record.voidTime === 0 ? null : new Date(record.voidTime * 1000).toISOString(),
  bins: Object.fromEntries([...record.particles].map(([name, p]) => [name, toJson(p)])),
});

/** Metadata, then the bins as JSON, whatever is in them. */
export const renderRecord = (record: RecordData, asOf: string, nowMs: number): string => {
  const instant = (iso: string): string => formatInstant(Date.parse(iso), nowMs);
  const { namespace, set, key, digest, partition, generation, lastUpdate, expires, bins } = record;
  const head = renderFields([
    ['Record', `${namespace}/${set}/${key === undefined ? `digest:${digest}` : shownKey(key)}`],
    ['As of', asOf],
    ['Digest', `${digest}, partition ${partition}`],
    ['Generation', `${generation}`],
    ['Updated', instant(lastUpdate)],
    ['Expires', expires === null ? 'never' : instant(expires)],
  ]);
  const names = Object.entries(bins).map(([name, value]) => [`  ${name}`, JSON.stringify(value)] as const);
  return `${head}\n\nBins:\n${renderFields(names)}`;
};

/** A string that looks like an integer is shown as it must be typed. */
const shownKey = (key: JsonValue): string => {
  if (typeof key === 'string') return /^-?\d+$|^(str|int|hex|digest):/.test(key) ? `str:${key}` : key;
  if (typeof key === 'object' && key !== null) {
    if ('$int' in key) return `${key.$int}`;
    if ('$blob' in key) return `hex:${Buffer.from(`${key.$blob}`, 'base64').toString('hex')}`;
  }
  return JSON.stringify(key);
};

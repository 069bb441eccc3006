/** Records and operations as the model has them, and what an operation does to a record: rules that are written here once more. */
import { createHash } from 'node:crypto';

export interface Bytes {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** A record as the test names it. */
export interface ModelKey {
  readonly namespace: string;
  readonly set: string;
  /** Undefined: only the digest is known. */
  readonly key: Bytes | undefined;
  /** 40 hex digits. */
  readonly digest: string;
  readonly partition: number;
}

export type ModelOp =
  | {
      readonly op: 'put';
      readonly key: ModelKey;
      readonly bins: ReadonlyMap<string, Bytes | null>;
      readonly mode: 'update' | 'update-only' | 'create' | 'replace' | 'replace-only';
      readonly ttl: number | 'never' | 'keep' | undefined;
      readonly generation: number | undefined;
      readonly storeKey: boolean;
    }
  | { readonly op: 'delete'; readonly key: ModelKey; readonly generation: number | undefined }
  | {
      readonly op: 'touch';
      readonly key: ModelKey;
      readonly ttl: number | 'never' | 'keep' | undefined;
      readonly generation: number | undefined;
    };

export interface ModelRecord {
  readonly namespace: string;
  readonly set: string;
  readonly digest: string;
  readonly partition: number;
  readonly generation: number;
  readonly voidTime: number;
  readonly lut: number;
  readonly key: Bytes | undefined;
  readonly bins: ReadonlyMap<string, Bytes>;
}

/** What one operation came to; `nothing`: there was nothing and there is nothing, so no version is logged. */
export type Change = {
  readonly record: ModelRecord | undefined;
  readonly found: boolean;
  readonly nothing: boolean;
};

export const digestOf = (set: string, key: Bytes): Buffer =>
  createHash('ripemd160').update(set, 'utf8').update(Uint8Array.of(key.type)).update(key.bytes).digest();

export const partitionOf = (digest: Uint8Array): number => (digest[0] + 256 * digest[1]) % 4096;

const shown = (b: Bytes): string =>
  `${b.type}:${b.bytes.length > 48 ? createHash('sha1').update(b.bytes).digest('hex') : Buffer.from(b.bytes).toString('hex')}`;

/** One line that says everything about a record: two records are the same when their lines are. */
export const lineOf = (r: Omit<ModelRecord, 'partition'>): string => {
  const bins = [...r.bins].map(([name, b]) => `${name}=${shown(b)}`).sort();
  const key = r.key ? shown(r.key) : 'none';
  return `${r.namespace}/${r.set}/${r.digest} gen ${r.generation} void ${r.voidTime} lut ${r.lut} key ${key} bins ${bins.join(' ')}`;
};

export const idOf = (r: { namespace: string; digest: string }): string => `${r.namespace}/${r.digest}`;

/** A record is there through the whole second of its void time. */
export const expired = (voidTime: number, atMs: number): boolean =>
  voidTime !== 0 && voidTime < Math.floor(atMs / 1000);

/** How a restore treats what is left of a record's life (S10). */
export interface TtlRule {
  readonly mode: 'absolute' | 'remaining' | 'never';
  readonly restoredAtMs: number;
}

export const voidTimeAfterRestore = (voidTime: number, targetTs: number, rule: TtlRule): number => {
  if (voidTime === 0 || rule.mode === 'never') return 0;
  if (rule.mode === 'absolute') return voidTime;
  return voidTime - Math.floor(targetTs / 1000) + Math.floor(rule.restoredAtMs / 1000);
};

/** What one operation does to what is stored, or the id of the error with which it is refused. */
export const decide = (op: ModelOp, stored: ModelRecord | undefined, ts: number): string | Change => {
  const alive = stored && !expired(stored.voidTime, ts) ? stored : undefined;
  const found = alive !== undefined;
  if (op.generation !== undefined && op.generation !== (alive?.generation ?? 0)) return 'generation-mismatch';
  if (op.op === 'delete') return { record: undefined, found, nothing: stored === undefined };
  if (op.op === 'touch' && !alive) return 'record-not-found';
  if (op.op === 'put') {
    if (alive && op.mode === 'create') return 'record-exists';
    if (!alive && (op.mode === 'update-only' || op.mode === 'replace-only')) return 'record-not-found';
  }
  const keeps =
    op.op === 'touch' || op.mode === 'update' || op.mode === 'update-only' || op.mode === 'create';
  const bins = new Map(keeps ? (alive?.bins ?? []) : []);
  if (op.op === 'put')
    for (const [name, value] of op.bins) {
      if (value) bins.set(name, value);
      else bins.delete(name);
    }
  // a record without bins is no record
  if (bins.size === 0) return { record: undefined, found, nothing: stored === undefined };
  const last = alive?.generation ?? 0;
  const { namespace, set, digest, partition } = op.key;
  const key = (op.op === 'put' && op.storeKey ? op.key.key : undefined) ?? alive?.key;
  const voidTime =
    op.ttl === 'keep'
      ? (alive?.voidTime ?? 0)
      : typeof op.ttl === 'number'
        ? Math.floor(ts / 1000) + op.ttl
        : 0;
  const generation = last === 65535 ? 1 : last + 1;
  const record = { namespace, set, digest, partition, generation, voidTime, lut: ts, key, bins };
  return { record, found, nothing: false };
};

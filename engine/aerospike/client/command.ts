import { PitrError } from '../../errors.ts';
import type { Particle } from '../../particle.ts';
import { DIGEST_BYTES } from '../../partition.ts';
import { Info1, Info2, Info3, TTL_SECONDS_MAX, WireTtl } from '../bits.ts';
import { isReadOp, OpId } from '../operation.ts';
import type { Name } from './name.ts';
import { type Bin, LUT_OP, readOp, TOUCH_OP, type WireOp, writeOp } from './record.ts';

/** Which record. The digest is taken as it is, never made anew from the key: a cluster may hold records whose key does not match. */
export interface WireKey {
  readonly namespace: string;
  /** '' for none. A record that has a set is refused (code 4) to who leaves it out. */
  readonly set: Name;
  /** 20 bytes. */
  readonly digest: Uint8Array;
  /** Stored with the record by writes that carry it; compared with the stored one by every command that does (code 19). */
  readonly key?: Particle;
}

/** One command for one record, as it goes out: alone, pipelined or as a row of a batch. */
export interface RecordCommand extends WireKey {
  readonly info1: number;
  readonly info2: number;
  readonly info3: number;
  readonly generation: number;
  readonly recordTtl: number;
  readonly ops: readonly WireOp[];
  readonly filter: Uint8Array | undefined;
  /** May be repeated when its end is unclear (N6). */
  readonly idempotent: boolean;
}

/** Of every command. */
export interface CommandOptions {
  /** An expression (its bytes): where it is false the answer is code 27. A missing record is created all the same. */
  readonly filter?: Uint8Array;
}

export interface ReadOptions extends CommandOptions {
  /** Default all. `none`: generation and void time only. */
  readonly bins?: 'all' | 'none' | readonly Name[];
  /** Also asks for last update. Not together with all bins: a server answers one or the other. */
  readonly withLut?: boolean;
}

/** `default`: what namespace or set say. `keep`: as it was. Numbers: seconds from now, 1 to ten years. */
export type Ttl = 'default' | 'never' | 'keep' | number;

export interface WriteOptions extends CommandOptions {
  readonly ttl?: Ttl;
  /** The record must be at this generation, else code 3. */
  readonly generation?: number;
  /** The record's generation must be less than this one, else code 3. */
  readonly generationBelow?: number;
  /** Doing it twice is as good as once, so it may be repeated when nobody knows whether it was done. Default false (N6). */
  readonly idempotent?: boolean;
  /** Enterprise: leaves a tombstone. */
  readonly durableDelete?: boolean;
}

/**
 * `update`: bins that are not named stay. `create`: only a new record, else code 5. `replace`: new or not, only these bins are left.
 * `updateOnly`, `replaceOnly`: only a record that is there, else code 2.
 */
export type PutMode = 'update' | 'create' | 'replace' | 'updateOnly' | 'replaceOnly';

export interface PutOptions extends WriteOptions {
  readonly mode?: PutMode;
}

const MODE_INFO2: Record<PutMode, number> = {
  update: 0,
  create: Info2.createOnly,
  replace: 0,
  updateOnly: 0,
  replaceOnly: 0,
};
const MODE_INFO3: Record<PutMode, number> = {
  update: 0,
  create: 0,
  replace: Info3.createOrReplace,
  updateOnly: Info3.updateOnly,
  replaceOnly: Info3.replaceOnly,
};

const command = (
  key: WireKey,
  infos: readonly [info1: number, info2: number, info3: number],
  ops: readonly WireOp[],
  { filter, ttl = 'default', generation, generationBelow, idempotent, durableDelete }: WriteOptions,
): RecordCommand => {
  if (key.digest.length !== DIGEST_BYTES)
    throw new PitrError('bad-record', { what: `a digest of ${key.digest.length} bytes` });
  return {
    namespace: key.namespace,
    set: key.set,
    digest: key.digest,
    key: key.key,
    info1: infos[0],
    info2:
      infos[1] |
      (generation === undefined ? 0 : Info2.generation) |
      (generationBelow === undefined ? 0 : Info2.generationGreater) |
      (durableDelete ? Info2.durableDelete : 0),
    info3: infos[2],
    generation: generation ?? generationBelow ?? 0,
    recordTtl: wireTtl(ttl),
    ops,
    filter,
    idempotent: idempotent ?? infos[1] === 0,
  };
};

const wireTtl = (ttl: Ttl): number => {
  if (ttl === 'default') return WireTtl.namespaceDefault;
  if (ttl === 'never') return WireTtl.never;
  if (ttl === 'keep') return WireTtl.keep;
  if (!Number.isInteger(ttl) || ttl < 1 || ttl > TTL_SECONDS_MAX)
    throw new PitrError('bad-record', {
      what: `a time to live of ${ttl} s`,
      hint: `whole seconds, 1 to ${TTL_SECONDS_MAX}, or default, never, keep`,
    });
  return ttl;
};

export const readCommand = (key: WireKey, { bins = 'all', withLut, filter }: ReadOptions = {}) => {
  if (withLut && bins === 'all')
    throw new PitrError('usage', {
      what: 'last update cannot be read together with all bins',
      hint: 'name the bins, or read it with bins: none and then the record on the condition that it is still that',
    });
  const wanted = Array.isArray(bins) ? bins.map(readOp) : [];
  const ops = withLut ? [...wanted, LUT_OP] : wanted;
  const info1 =
    Info1.read |
    (bins === 'all' ? Info1.getAll : 0) |
    // ops are answered only without this bit
    (bins === 'none' && !withLut ? Info1.noBins : 0);
  return command(key, [info1, 0, 0], ops, { filter });
};

/** Writes bins as bytes. */
export const putCommand = (key: WireKey, bins: readonly Bin[], options: PutOptions = {}): RecordCommand => {
  const mode = options.mode ?? 'update';
  const ops = bins.map((bin) => writeOp(bin.name, bin));
  return command(key, [0, Info2.write | MODE_INFO2[mode], MODE_INFO3[mode]], ops, options);
};

export const deleteCommand = (key: WireKey, options: WriteOptions = {}): RecordCommand =>
  command(key, [0, Info2.write | Info2.delete, 0], [], options);

/** A new void time, and nothing else. */
export const touchCommand = (key: WireKey, options: WriteOptions = {}): RecordCommand =>
  command(key, [0, Info2.write, 0], [TOUCH_OP], options);

/** Any ops in this order; each is answered, in order, what has no answer with a null. */
export const operateCommand = (
  key: WireKey,
  ops: readonly WireOp[],
  options: PutOptions = {},
): RecordCommand => {
  const mode = options.mode ?? 'update';
  const reads = ops.some((o) => isReadOp(o.op) || RESULT_OPS.has(o.op));
  const writes = ops.some((o) => !isReadOp(o.op));
  const info1 = reads || !writes ? Info1.read : 0;
  const info2 = (writes ? Info2.write | MODE_INFO2[mode] : 0) | Info2.respondAllOps;
  return command(key, [info1, info2, writes ? MODE_INFO3[mode] : 0], ops, {
    ...options,
    idempotent: options.idempotent ?? !writes,
  });
};

/** Ops that write and have a result. */
const RESULT_OPS = new Set<number>([OpId.cdtModify, OpId.bitsModify, OpId.hllModify, OpId.expModify]);

export const isWrite = (c: RecordCommand): boolean => (c.info2 & Info2.write) !== 0;

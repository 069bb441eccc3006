import { PitrError } from './errors.ts';
import { decodeImage, encodeImage, hasSameBins } from './image.ts';
import { assertBinName, assertParticle, MAX_BINS, type Particle } from './particle.ts';
import type { RecordId } from './record-key.ts';
import { isExpired, state, stateHeaderBytes, writeStateHeader } from './state-record.ts';

/** How a write treats what is there: as the server's write policies (aerospike-wire.md 4.1). */
export type WriteMode = 'update' | 'update-only' | 'create' | 'replace' | 'replace-only';

/** Seconds to live; or never (the default), or as it is. */
export type Ttl = number | 'never' | 'keep';

export interface WriteOptions {
  readonly mode?: WriteMode;
  readonly ttl?: Ttl;
  /** The record must be at this generation; 0 = it must not exist. */
  readonly generation?: number;
}

export type WriteOp =
  | {
      readonly op: 'put';
      readonly id: RecordId;
      readonly bins: ReadonlyMap<string, Particle | null>;
      readonly options: WriteOptions;
    }
  | { readonly op: 'delete'; readonly id: RecordId; readonly options: Pick<WriteOptions, 'generation'> }
  | {
      readonly op: 'touch';
      readonly id: RecordId;
      readonly options: Pick<WriteOptions, 'generation' | 'ttl'>;
    };

/**
 * Decides what becomes of one record, from what it is: an atomic read-modify-write. Used again for the next record, so it says in
 * fields what only some decisions need.
 */
export interface Decider {
  /**
   * `current` is the newest value as the store holds it, undefined when the record is absent or expired; it holds only during the call,
   * in which the engine is not read. Returns the new image with `stateHeaderBytes(set)` left free before it, or what else is to happen.
   */
  decide(current: Buffer | undefined, ts: number): Buffer | 'keep' | 'remove';
  /** Of the new image: seconds since 1970, 0 never. */
  readonly voidTime: number;
  /** Generation and last-update time of the new image; 0: the next one, and now. */
  readonly generation: number;
  readonly lut: number;
}

/** The value that a decision makes of the one that is there; undefined: removed; 'keep': as it was. */
export const decided = (
  decider: Decider,
  id: RecordId,
  stored: Buffer | undefined,
  ts: number,
): Buffer | undefined | 'keep' => {
  const current = stored && !isExpired(state.voidTime(stored), ts) ? stored : undefined;
  const value = decider.decide(current, ts);
  if (value === 'keep') return value;
  if (value === 'remove') return undefined;
  const generation = decider.generation || nextGeneration(current ? state.generation(current) : 0);
  const { voidTime } = decider;
  return writeStateHeader(value, { generation, voidTime, ts, lsn: 0, lut: decider.lut || ts }, id.set);
};

/** 65535 is followed by 1. */
export const nextGeneration = (generation: number): number =>
  generation >= GENERATION_MAX ? 1 : generation + 1;

/** What an operation comes to. */
export interface WriteResult {
  /** The record afterwards, as the store holds it, its LSN 0; undefined: it is gone. */
  readonly value: Buffer | undefined;
  /** There was a record that had not expired. */
  readonly found: boolean;
  /** Nothing was there and nothing is: no version is logged. */
  readonly nothing: boolean;
}

const TTL_SECONDS_MAX = 10 * 365 * 24 * 3600;
const GENERATION_MAX = 65535;

/**
 * What `op` makes of the current value (undefined = absent), at time `ts`. Changes nothing itself.
 * @throws record-not-found, record-exists, generation-mismatch, bad-record
 */
export const applyOp = (op: WriteOp, stored: Buffer | undefined, ts: number): WriteResult => {
  const current = stored && !isExpired(state.voidTime(stored), ts) ? stored : undefined;
  const generation = current ? state.generation(current) : 0;
  const { id } = op;
  const expected = op.options.generation;
  if (expected !== undefined && expected !== generation)
    throw new PitrError('generation-mismatch', { key: id.text, actual: generation, expected });
  if (current && state.set(current) !== id.set)
    throw new PitrError('bad-record', { what: `${id.text} is stored in set "${state.set(current)}"` });
  const found = current !== undefined;
  const put = (value: Buffer, ttl: Ttl | undefined): WriteResult => {
    const header = {
      generation: nextGeneration(generation),
      voidTime: voidTimeOf(ttl, current, ts),
      ts,
      lsn: 0,
      lut: ts,
    };
    return { value: writeStateHeader(value, header, id.set), found, nothing: false };
  };
  switch (op.op) {
    case 'delete':
      return { value: undefined, found, nothing: stored === undefined };
    case 'touch':
      if (!current) throw new PitrError('record-not-found', { key: id.text });
      return put(Buffer.from(current), op.options.ttl);
    case 'put': {
      const value = putImage(op, current);
      if (value === undefined) return { value, found, nothing: stored === undefined };
      return put(value, op.options.ttl);
    }
    default:
      return op satisfies never;
  }
};

/** The image after a put, with room for the header of the value before it; undefined when no bin is left. */
const putImage = (op: Extract<WriteOp, { op: 'put' }>, current: Buffer | undefined): Buffer | undefined => {
  const { id, options } = op;
  const mode = options.mode ?? 'update';
  if (current && mode === 'create') throw new PitrError('record-exists', { key: id.text });
  if (!current && (mode === 'update-only' || mode === 'replace-only'))
    throw new PitrError('record-not-found', { key: id.text });
  let removes = false;
  for (const [name, particle] of op.bins) {
    if (particle === null) {
      removes = true;
      continue;
    }
    assertBinName(name);
    assertParticle(particle, name);
  }
  const before = stateHeaderBytes(id.set);
  let key = id.storedKey;
  let bins = op.bins;
  // what a record had is taken apart only when something of it stays
  const replaces =
    !current || (key !== undefined && (!mode.startsWith('update') || hasSameBins(current, before, bins)));
  if (removes || !replaces) {
    const old = current && decodeImage(state.image(current));
    key ??= old?.key;
    const merged = new Map(old && mode.startsWith('update') ? old.bins : []);
    for (const [name, particle] of op.bins)
      if (particle === null) merged.delete(name);
      else merged.set(name, particle);
    bins = merged;
  }
  if (bins.size > MAX_BINS)
    throw new PitrError('bad-record', { what: `${bins.size} bins; at most ${MAX_BINS}` });
  // a record lives as long as it has a bin, as on the server
  return bins.size === 0
    ? undefined
    : encodeImage({ key, bins: bins as ReadonlyMap<string, Particle> }, before);
};

const voidTimeOf = (ttl: Ttl | undefined, current: Buffer | undefined, ts: number): number => {
  if (ttl === undefined || ttl === 'never') return 0;
  if (ttl === 'keep') return current ? state.voidTime(current) : 0;
  if (!Number.isInteger(ttl) || ttl < 1 || ttl > TTL_SECONDS_MAX)
    throw new PitrError('bad-record', {
      what: `ttl ${ttl} s`,
      hint: 'give whole seconds from 1 to ten years, never or keep',
    });
  return Math.floor(ts / 1000) + ttl;
};

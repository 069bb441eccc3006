import { PitrError } from './errors.ts';
import { decodeImage, encodeImage } from './image.ts';
import { assertBinName, assertParticle, MAX_BINS, type Particle } from './particle.ts';
import { isExpired, state } from './state-record.ts';

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

/** A record named by its parts, checked. */
export interface RecordId {
  readonly namespace: string;
  readonly set: string;
  readonly digest: Buffer;
  readonly storedKey: Particle | undefined;
  readonly partition: number;
  readonly storeKey: Buffer;
  readonly w0: number;
  /** For messages. */
  readonly text: string;
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

/** The state after an operation; image undefined: the record is gone. */
export interface WriteResult {
  readonly generation: number;
  readonly voidTime: number;
  readonly image: Buffer | undefined;
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
  switch (op.op) {
    case 'delete':
      return { generation: 0, voidTime: 0, image: undefined, nothing: stored === undefined };
    case 'touch': {
      if (!current) throw new PitrError('record-not-found', { key: id.text });
      const image = Buffer.from(state.image(current));
      return {
        generation: next(generation),
        voidTime: voidTimeOf(op.options.ttl, current, ts),
        image,
        nothing: false,
      };
    }
    case 'put': {
      const image = putImage(op, current);
      if (image === undefined) return { generation: 0, voidTime: 0, image, nothing: stored === undefined };
      return {
        generation: next(generation),
        voidTime: voidTimeOf(op.options.ttl, current, ts),
        image,
        nothing: false,
      };
    }
    default:
      return op satisfies never;
  }
};

const next = (generation: number): number => (generation >= GENERATION_MAX ? 1 : generation + 1);

const putImage = (op: Extract<WriteOp, { op: 'put' }>, current: Buffer | undefined): Buffer | undefined => {
  const { id, options } = op;
  const mode = options.mode ?? 'update';
  if (current && mode === 'create') throw new PitrError('record-exists', { key: id.text });
  if (!current && (mode === 'update-only' || mode === 'replace-only'))
    throw new PitrError('record-not-found', { key: id.text });
  const old = current && decodeImage(state.image(current));
  const merged = new Map<string, Particle>(old && mode.startsWith('update') ? old.bins : []);
  for (const [name, particle] of op.bins) {
    if (particle === null) {
      merged.delete(name);
      continue;
    }
    assertBinName(name);
    assertParticle(particle, name);
    merged.set(name, particle);
  }
  if (merged.size > MAX_BINS)
    throw new PitrError('bad-record', { what: `${merged.size} bins; at most ${MAX_BINS}` });
  // a record lives as long as it has a bin, as on the server
  if (merged.size === 0) return undefined;
  return encodeImage({ key: id.storedKey ?? old?.key, bins: merged });
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

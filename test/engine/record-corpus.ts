/**
 * Whole records that every path through pitr must carry bit for bit: each particle alone, all of them together, names and
 * keys of every kind, and the largest record that a server takes.
 */
import { ParticleType as T } from '../../engine/particle.ts';
import { binNameCorpus, type CorpusParticle, canonicalParticles } from './particle-corpus.ts';

export interface CorpusBin {
  readonly name: Uint8Array;
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface CorpusRecord {
  readonly name: string;
  /** False for a record without a set. */
  readonly inSet: boolean;
  /** Stored with it; absent for a record that is known by its digest alone. */
  readonly key?: { readonly type: number; readonly bytes: Uint8Array };
  /** 0 for never. */
  readonly ttlSeconds: number;
  readonly bins: readonly CorpusBin[];
}

const utf8 = (value: string): Uint8Array => new Uint8Array(Buffer.from(value, 'utf8'));
const int = (value: number): Uint8Array => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(value));
  return new Uint8Array(bytes);
};
const bin = (
  name: string | Uint8Array,
  { type, bytes }: Pick<CorpusParticle, 'type' | 'bytes'>,
): CorpusBin => ({
  name: typeof name === 'string' ? utf8(name) : name,
  type,
  bytes,
});
const one = { type: T.integer, bytes: int(1) };
const record = (name: string, more: Partial<CorpusRecord> = {}): CorpusRecord => ({
  name,
  inSet: true,
  ttlSeconds: 0,
  bins: [bin('a', one)],
  ...more,
});

/** Leaves a server room for what it stores of a record besides this one value, in blocks of 16 bytes. */
const LARGEST_VALUE_BYTES = 1024 * 1024 - 256;

export const recordCorpus: readonly CorpusRecord[] = [
  ...canonicalParticles.map((particle) => record(particle.name, { bins: [bin('v', particle)] })),
  record('all particles in one', { bins: canonicalParticles.map((p, i) => bin(`p${i}`, p)) }),

  record('bin names of 15 bytes and less', { bins: binNameCorpus.map((name) => bin(name, one)) }),
  record('a bin without a name', { bins: [bin('', one)] }),
  record('a bin whose name is not UTF-8', { bins: [bin(Uint8Array.of(0xff, 0xfe), one)] }),
  record('bins that differ by case and by a space', { bins: ['a', 'A', 'a ', ' a'].map((n) => bin(n, one)) }),
  record('300 bins', {
    bins: Array.from({ length: 300 }, (_, i) => bin(`b${i}`, { ...one, bytes: int(i) })),
  }),

  record('without a set', { inSet: false }),
  record('without a set, with a key', { inSet: false, key: { type: T.string, bytes: utf8('k') } }),
  record('with an integer key', { key: { type: T.integer, bytes: int(-5) } }),
  record('with a string key', { key: { type: T.string, bytes: utf8('Zürich') } }),
  record('with an empty string key', { key: { type: T.string, bytes: utf8('') } }),
  record('with a string key that is not UTF-8', {
    key: { type: T.string, bytes: Uint8Array.of(0xff, 0, 0xfe) },
  }),
  record('with a blob key', { key: { type: T.blob, bytes: Uint8Array.of(0, 1, 0xff) } }),
  record('with a key of 1,000 bytes', { key: { type: T.string, bytes: utf8('k'.repeat(1000)) } }),

  record('that lives a day', { ttlSeconds: 86_400 }),
  record('that lives ten years', { ttlSeconds: 315_360_000 }),

  record('of almost 1 MiB', {
    bins: [bin('a', { type: T.blob, bytes: new Uint8Array(LARGEST_VALUE_BYTES).fill(7) })],
  }),
  record('of almost 1 MiB, in many values', {
    bins: Array.from({ length: 10 }, (_, i) =>
      bin(`b${i}`, { type: T.string, bytes: utf8('x'.repeat(LARGEST_VALUE_BYTES / 10 - 16)) }),
    ),
  }),
];

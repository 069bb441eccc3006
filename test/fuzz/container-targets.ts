/**
 * Lists, maps and expressions of the protocol:
 *
 *   cdt-stored      what a client writes as a list or map
 *   cdt-operation   an operation on a bin: u16 bytes of the bin, the bin, the operation
 *   expression      a filter or the expression of a read, evaluated
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { normalizeParticle } from '../../engine/aerospike/cdt/normalize.ts';
import { cdtModify, cdtRead } from '../../engine/aerospike/cdt/operations.ts';
import { type ExpressionRecord, parseExpression } from '../../engine/aerospike/expression/expression.ts';
import { Refusal } from '../../engine/aerospike/refusal.ts';
import { PitrError } from '../../engine/errors.ts';
import { type Particle, ParticleType } from '../../engine/particle.ts';
import { guidedTrial, plainTrial, type Trial } from '../aerospike/cdt-arbitrary.ts';
import { expression } from '../aerospike/expression-arbitrary.ts';
import { mayHaveStrayExtension, rawParticle } from '../aerospike/loose.ts';
import { pack } from '../aerospike/packed.ts';
import type { Target } from './fuzz.ts';

const refused: (why: Refusal) => never = (why) => {
  throw new PitrError('bad-record', { what: why.message });
};

/** A list or map by its first byte. */
const particle = (bytes: Buffer): Particle => ({
  type: bytes.length > 0 && (bytes[0]! < 0x90 || bytes[0]! >= 0xde) ? ParticleType.map : ParticleType.list,
  bytes,
});

const isStored = (p: Particle): boolean => {
  const stored = normalizeParticle(p.type, p.bytes);
  return !(stored instanceof Refusal) && Buffer.compare(stored, p.bytes) === 0;
};

const framed = ({ bin, value }: Trial): Buffer => {
  const bytes = bin === undefined ? Buffer.alloc(0) : pack(bin);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes, value]);
};

const operate = (input: Buffer): void => {
  if (input.length < 2) refused(new Refusal(4, 'no bin'));
  const length = input.readUInt16BE(0);
  const bytes = input.subarray(2, 2 + length);
  const bin = length === 0 ? undefined : particle(bytes);
  const op = input.subarray(2 + length);
  const before = Buffer.from(input);
  const answer = cdtRead(bin, op);
  const outcome = cdtModify(bin, op);
  assert.deepEqual(input, before);
  if (outcome instanceof Refusal) {
    if (answer instanceof Refusal) refused(outcome);
    return;
  }
  // What is stored stays canonical; what came in from elsewhere need not be.
  if (bin !== undefined && (mayHaveStrayExtension(bin.bytes) || !isStored(bin))) return;
  const after = outcome.particle;
  if (after && !mayHaveStrayExtension(after.bytes)) assert.ok(isStored(after));
};

const INT: Particle = { type: ParticleType.integer, bytes: Buffer.from('0000000000000003', 'hex') };
const BINS = new Map<string, Particle>([
  ['i', INT],
  ['f', { type: ParticleType.float, bytes: Buffer.from('3ff8000000000000', 'hex') }],
  ['s', { type: ParticleType.string, bytes: Buffer.from('hello') }],
  ['l', { type: ParticleType.list, bytes: Buffer.from('9401a2036103c0', 'hex') }],
  ['m', { type: ParticleType.map, bytes: Buffer.from('82c70001c0a2036101', 'hex') }],
]);

const RECORD: ExpressionRecord = {
  digest: Buffer.alloc(20, 7),
  lut: 1_700_000_000_000,
  voidTime: 0,
  set: 'demo',
  key: INT,
  storedBytes: 100,
  now: 1_700_000_001_000,
  bin: (name) => BINS.get(name),
};

const evaluate = (input: Buffer): void => {
  let parsed: ReturnType<typeof parseExpression>;
  try {
    parsed = parseExpression(input);
  } catch (error) {
    if (error instanceof Refusal) refused(error);
    throw error;
  }
  const before = parsed.decideByMetadata(RECORD);
  const verdict = parsed.decide(RECORD);
  if (before !== 'unknown') assert.equal(verdict, before);
  const value = parsed.value(RECORD);
  assert.deepEqual(parsed.value(RECORD), value);
};

export const containerTargets: readonly Target[] = [
  {
    name: 'cdt-stored',
    refusals: ['bad-record'],
    seeds: fc
      .sample(rawParticle(false), { seed: 1, numRuns: 100 })
      .filter(({ type, bytes }) => particle(bytes).type === type)
      .map(({ bytes }) => bytes)
      .filter((bytes) => !(normalizeParticle(particle(bytes).type, bytes) instanceof Refusal)),
    run: (input) => {
      const { type, bytes } = particle(input);
      const stored = normalizeParticle(type, bytes);
      if (stored instanceof Refusal) refused(stored);
      assert.ok(stored.length <= bytes.length);
      assert.ok(mayHaveStrayExtension(stored) || isStored({ type, bytes: stored }));
    },
  },
  {
    name: 'cdt-operation',
    refusals: ['bad-record'],
    seeds: [plainTrial, guidedTrial]
      .flatMap((trial) => fc.sample(trial, { seed: 1, numRuns: 200 }))
      .map(framed)
      .filter((input) => {
        try {
          operate(input);
          return true;
        } catch {
          return false;
        }
      }),
    run: operate,
  },
  {
    name: 'expression',
    refusals: ['bad-record'],
    seeds: fc
      .sample(expression, { seed: 1, numRuns: 200 })
      .map(pack)
      .filter((input) => {
        try {
          parseExpression(input);
          return true;
        } catch {
          return false;
        }
      }),
    run: evaluate,
  },
];

/** Expressions against a real server, as expression reads of one record (see cdt-server.test.ts). */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { elementParticle } from '../../engine/aerospike/cdt/answer.ts';
import {
  type ExpressionRecord,
  expressionRead,
  parseExpressionOp,
} from '../../engine/aerospike/expression/expression.ts';
import { Refusal } from '../../engine/aerospike/refusal.ts';
import type { Particle } from '../../engine/particle.ts';
import { BINS, expression, nonsense, regularExpression } from './expression-arbitrary.ts';
import { type Packable, pack } from './packed.ts';
import { ADDRESS, digestOf, type Op, RawServer, SKIP } from './raw-server.ts';

const seed = Number(process.env.PITR_TEST_SEED ?? 1);
const numRuns = Number(process.env.PITR_TEST_RUNS ?? 2000);
const BATCH = 200;
const SET = 'pitr-exp';
const KEY = 'k';

const show = (type: number, bytes: Uint8Array): string =>
  type === 0 ? '-' : `${type}:${Buffer.from(bytes).toString('hex')}`;

const particle = (v: Packable): Particle | undefined => {
  const bytes = pack(v);
  return elementParticle({ bytes, at: 0, end: bytes.length });
};

const bins = new Map<string, Particle>();
for (const [name, , value] of BINS) {
  const p = particle(value);
  if (p) bins.set(name, p);
}

describe('expressions against a real server', { skip: SKIP }, () => {
  let server: RawServer;
  let record: ExpressionRecord;

  const read = async (values: readonly Uint8Array[]) =>
    server.ask(
      values.map((value) => ({
        info: [1, 0, 0] as const,
        set: SET,
        key: KEY,
        ops: [{ op: 7, type: 4, name: 'r', value }],
      })),
    );

  before(async () => {
    server = await RawServer.open(ADDRESS!);
    const writes: Op[] = [{ op: 14, type: 0, name: '', value: Buffer.alloc(0) }];
    for (const [name, { type, bytes }] of bins) writes.push({ op: 2, type, name, value: bytes });
    const [written] = await server.ask([{ info: [0, 1, 0], set: SET, key: KEY, ops: writes }]);
    assert.equal(written!.code, 0);
    const metadata = await read([66, 68, 74].map((code) => Buffer.of(0x92, 0x91, code, 0)));
    const [lut, voidTime, size] = metadata.map(({ ops }) => ops[0]!.value.readBigInt64BE());
    assert.equal(voidTime, -1n, 'the namespace has no default-ttl');
    record = {
      digest: digestOf(SET, KEY),
      lut: Number(lut! / 1_000_000n),
      voidTime: 0,
      set: SET,
      key: undefined,
      storedBytes: Number(size),
      now: Date.now(),
      bin: (name) => bins.get(name),
    };
  });
  after(() => server.close());

  const ours = (value: Uint8Array): string => {
    try {
      const result = expressionRead(parseExpressionOp(value), record);
      if (result instanceof Refusal) return `code ${result.code}`;
      return result === undefined ? '-' : show(result.type, result.bytes);
    } catch (error) {
      if (error instanceof Refusal) return `code ${error.code}`;
      throw error;
    }
  };

  for (const [name, arbitrary] of [
    ['well-typed expressions', expression],
    ['anything', nonsense],
    ['regular expressions', regularExpression],
  ] as const)
    test(name, async () => {
      console.log(`seed ${seed} (PITR_TEST_SEED), ${numRuns} runs (PITR_TEST_RUNS)`);
      const values = fc.sample(arbitrary, { seed, numRuns }).map((e) => pack({ list: [e, 0] }));
      const differences: string[] = [];
      for (let i = 0; i < values.length; i += BATCH) {
        const batch = values.slice(i, i + BATCH);
        for (const [j, { code, ops }] of (await read(batch)).entries()) {
          const expected = code === 0 ? show(ops[0]!.type, ops[0]!.value) : `code ${code}`;
          const actual = ours(batch[j]!);
          if (actual !== expected)
            differences.push(`${batch[j]!.toString('hex')}\n server ${expected}\n pitr   ${actual}`);
        }
      }
      assert.equal(differences.length, 0, differences.slice(0, 5).join('\n'));
    });
});

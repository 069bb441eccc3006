/**
 * The same requests, made at random, to a real server and to ours: they answer alike. For what the tables of the other tests
 * have not thought of; needs PITR_TEST_AEROSPIKE. Lists and maps have such a test of their own.
 */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { newTrid, scan, scanCounts } from './partition-scan.ts';
import { bits, expressions, readOp, shown, step, writing } from './request-arbitrary.ts';
import { addressOf, type RecordAddress, Subject } from './subject.ts';
import {
  BATCH,
  field,
  GET_ALL,
  hex,
  int,
  message,
  NO_BINS,
  READ,
  RESPOND_ALL_OPS,
  type Reply,
  str,
  u16,
  u32,
  WRITE,
} from './wire-bytes.ts';
import type { WireConnection } from './wire-connection.ts';

const skip = !process.env.PITR_TEST_AEROSPIKE && 'needs PITR_TEST_AEROSPIKE=host:port';
const seed = Number(process.env.PITR_TEST_SEED ?? 1);
const numRuns = Number(process.env.PITR_TEST_RUNS ?? 150);

/** What must be alike: all but times. */
const answer = (r: Reply) => [r.code, r.generation, r.voidTime === 0 ? 'never' : 'expires', ...r.ops, r.row];

describe('a real server and ours', { skip }, async () => {
  const real = await Subject.open();
  const ours = await Subject.openOurs();
  const wires = [await real.connect(), await ours.connect()] as const;
  after(async () => {
    await ours.close();
    await real.close();
  });
  let runs = 0;
  const freshRecords = (): RecordAddress[] =>
    Array.from({ length: 3 }, () => addressOf(real.fresh().digest, real.set));
  const alike = async (name: string, ask: (wire: WireConnection) => Promise<unknown>, context: string) => {
    const [expected, got] = [await ask(wires[0]), await ask(wires[1])];
    assert.deepEqual(got, expected, `${name}: ours (actual), real (expected), after\n${context}`);
  };

  test('answer single requests alike', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
        runs++;
        const records = freshRecords();
        for (const [i, { record, parts }] of steps.entries()) {
          const request = message({
            ...parts,
            fields: [...records[record]!.fields, ...(parts.fields ?? [])],
          });
          await alike(
            'one request',
            async (wire) => answer(await wire.call(request)),
            shown(steps.slice(0, i + 1)),
          );
        }
      }),
      { numRuns, seed },
    );
    assert(runs >= numRuns);
  });

  test('answer batches alike', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 8 }),
        fc.constantFrom(0x0d, 0x0d, 0x05, 0x09, 0x01),
        async (steps, flags) => {
          const records = freshRecords();
          for (const r of records.slice(1))
            for (const wire of wires)
              await wire.call(message({ info2: WRITE, fields: r.fields, ops: [int('a', 1), str('b', 'x')] }));
          // rows of one record may be done in any order, unless they only read
          const seenRecords = new Set<number>();
          const rows = steps.filter(({ record, kind }) => {
            if (kind === 'read' && !seenRecords.has(record)) return true;
            if (seenRecords.has(record)) return false;
            seenRecords.add(record);
            return true;
          });
          const written = new Set(rows.filter((r) => r.kind !== 'read').map((r) => r.record));
          const kept = rows.filter((r) => r.kind !== 'read' || !written.has(r.record));
          const bytes = kept.map(({ record, parts }, index) => {
            const fields = [...records[record]!.fields.slice(0, 2), ...(parts.fields ?? [])];
            const ops = parts.ops ?? [];
            return Buffer.concat([
              u32(index),
              records[record]!.digest,
              Uint8Array.of(0x0e, parts.info1 ?? 0, parts.info2 ?? 0, parts.info3 ?? 0),
              u16(parts.generation ?? 0),
              u32(parts.ttl ?? 0),
              u16(fields.length),
              u16(ops.length),
              ...fields,
              ...ops,
            ]);
          });
          const body = Buffer.concat([u32(kept.length), Uint8Array.of(flags), ...bytes]);
          const request = message({ info1: BATCH, fields: [field(41, body)] });
          const ask = async (wire: WireConnection) => {
            const replies = (await wire.frames(request)).flat();
            const last = replies.pop()!;
            // of several failing rows any may be told
            return [replies.toSorted((a, b) => a.row - b.row).map(answer), last.code === 0];
          };
          await alike(`batch with flags ${flags}`, ask, shown(kept));
          for (const r of records)
            await alike(
              'afterwards',
              async (wire) => answer(await wire.call(message({ info1: READ | GET_ALL, fields: r.fields }))),
              shown(kept),
            );
        },
      ),
      { numRuns, seed },
    );
  });

  test('answer scans alike', async () => {
    const scanning = fc.record({
      writes: fc.array(writing, { minLength: 1, maxLength: 8 }),
      ops: fc.array(readOp, { maxLength: 3 }),
      expression: fc.option(fc.constantFrom(...expressions), { nil: undefined }),
      info1: bits(NO_BINS, GET_ALL).map((b) => b | READ),
      info2: bits(RESPOND_ALL_OPS, 0x40),
      maxRecords: fc.option(fc.constantFrom(1, 2, 5), { nil: undefined }),
    });
    await fc.assert(
      fc.asyncProperty(scanning, async ({ writes, expression, ...parts }) => {
        const { partition, records } = real.freshPartition(writes.length);
        for (const [i, { parts: written }] of writes.entries())
          for (const wire of wires)
            await wire.call(
              message({ ...written, fields: [...records[i]!.fields, ...(written.fields ?? [])] }),
            );
        const ask = async (wire: WireConnection) => {
          const trid = newTrid();
          const result = await scan(wire, {
            ...parts,
            trid,
            set: real.set,
            partitions: [partition],
            ...(expression && { filter: hex(expression) }),
          } as Parameters<typeof scan>[1]);
          const counts = result.refused || parts.maxRecords ? {} : await scanCounts(wire, trid);
          const found = result.records.map((r) => [
            answer(r),
            r.info[0],
            [...r.fields].map(([id, data]) => `${id}:${data.toString('hex')}`),
          ]);
          return [result.code, result.refused, found, counts];
        };
        const flags = JSON.stringify({ ...parts, expression, ops: parts.ops.map((o) => o.toString('hex')) });
        await alike('scan', ask, `${shown(writes.map((w, record) => ({ record, ...w })))}\n${flags}`);
      }),
      { numRuns, seed },
    );
  });
});

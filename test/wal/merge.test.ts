import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PARTITIONS, type PartitionRange } from '../../engine/partition.ts';
import { Merge } from '../../wal/merge.ts';
import { RunWriter } from '../../wal/run-writer.ts';
import type { SegmentReader } from '../../wal/segment-reader.ts';
import { SegmentReader as Reader } from '../../wal/segment-reader.ts';
import { MemoryStore } from './memory-store.ts';
import {
  ARCHIVE,
  arbitraryRows,
  compareRows,
  encodeSegment,
  openBytes,
  type Row,
  readAll,
  rowOf,
} from './segment-support.ts';

const STREAMS = [
  { epoch: 1, stream: 'a' },
  { epoch: 1, stream: 'b' },
  { epoch: 2, stream: 'a' },
  { epoch: 10, stream: 'a' },
];

let segments = 0;

/** Names are used once, here as in an archive: a merge tells its inputs apart by them. */
const open = async (rows: readonly Row[]): Promise<SegmentReader> => {
  const { bytes, ref } = encodeSegment(rows);
  return openBytes(bytes, { ...ref, name: `segment-${segments++}` });
};

/** Rows in the order of a merge, and which of them it called the first of its record. */
const merged = async (
  runs: readonly (readonly SegmentReader[])[],
  range?: PartitionRange,
): Promise<{ rows: Row[]; first: boolean[] }> => {
  const rows: Row[] = [];
  const first: boolean[] = [];
  const merge = new Merge(runs, range);
  let drains = 0;
  await merge.run({
    row: (cursor, isFirst) => {
      rows.push(rowOf(cursor.reader, cursor.block, cursor.row));
      first.push(isFirst);
      return rows.length % 3 === 0;
    },
    drain: async () => {
      drains++;
    },
  });
  assert.equal(
    drains,
    Math.floor(rows.length / 3) + 1,
    'a drain after each row that asked, and one at the end',
  );
  return { rows, first };
};

const sameRecord = (a: Row | undefined, b: Row): boolean =>
  a !== undefined && a.namespace === b.namespace && a.digest === b.digest;

/** Rows dealt out to runs; a row may be dealt to two, as after an unclear answer. */
const dealt = fc
  .tuple(
    arbitraryRows({ streams: STREAMS, largeBytes: 50_000 }, 120),
    fc.array(fc.tuple(fc.nat(5), fc.option(fc.nat(5), { freq: 6 })), { minLength: 120, maxLength: 120 }),
  )
  .map(([rows, to]) => {
    const runs: Row[][] = Array.from({ length: 6 }, () => []);
    rows.forEach((row, i) => {
      const [one, other] = to[i];
      runs[one].push(row);
      if (other !== null && other !== one) runs[other].push(row);
    });
    return runs;
  });

describe('merge', () => {
  test('S1: a merge is sorting: any rows, streams, epochs, namespaces, duplicates', async () => {
    await fc.assert(
      fc.asyncProperty(dealt, async (runs) => {
        const expected = runs.flat().sort(compareRows);
        const { rows, first } = await merged(await Promise.all(runs.map(async (r) => [await open(r)])));
        assert.deepEqual(rows, expected);
        assert.deepEqual(
          first,
          expected.map((r, i) => !sameRecord(expected[i - 1], r)),
        );
      }),
      { numRuns: 150 },
    );
  });

  test('ranges of partitions after one another are the whole', async () => {
    const borders = fc.uniqueArray(fc.oneof(fc.nat(PARTITIONS), fc.constantFrom(0, 1, 2, 4095)), {
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(dealt, borders, async (runs, cuts) => {
        const readers = await Promise.all(runs.map(async (r) => [await open(r)]));
        const whole = await merged(readers);
        const edges = [0, ...cuts.filter((c) => c > 0 && c < PARTITIONS).sort((a, b) => a - b), PARTITIONS];
        const parts: Row[] = [];
        let firsts = 0;
        for (let i = 0; i + 1 < edges.length; i++) {
          const part = await merged(readers, { start: edges[i], end: edges[i + 1] });
          parts.push(...part.rows);
          firsts += part.first.filter(Boolean).length;
        }
        // a range has all namespaces, so the parts are in order within each of them only
        assert.deepEqual(parts.sort(compareRows), whole.rows);
        assert.equal(firsts, whole.first.filter(Boolean).length);
      }),
      { numRuns: 80 },
    );
  });

  test('a run of several segments, cut between records, is the same run', async () => {
    await fc.assert(
      fc.asyncProperty(dealt, fc.array(fc.nat(120), { maxLength: 4 }), async (runs, at) => {
        const cutRuns = runs.map((rows) => {
          const sorted = [...rows].sort(compareRows);
          const cuts = at.filter((c) => c > 0 && c < sorted.length && !sameRecord(sorted[c - 1], sorted[c]));
          const edges = [0, ...new Set(cuts.sort((a, b) => a - b)), sorted.length];
          return edges.slice(1).map((end, i) => sorted.slice(edges[i], end));
        });
        const readers = await Promise.all(cutRuns.map((parts) => Promise.all(parts.map(open))));
        assert.deepEqual((await merged(readers)).rows, runs.flat().sort(compareRows));
      }),
      { numRuns: 80 },
    );
  });

  test('what a merge writes is what it read: segments of an output run hold the same versions', async () => {
    await fc.assert(
      fc.asyncProperty(dealt, async (runs) => {
        const store = new MemoryStore();
        const merge = new Merge(await Promise.all(runs.map(async (r) => [await open(r)])));
        let names = 0;
        const streams = merge.sources.map((s) => ({ ...s, lsnStart: 1, lsnEnd: 2 ** 40 }));
        const writer = new RunWriter(
          {
            store,
            archive: ARCHIVE,
            timeline: '0'.repeat(16),
            level: 1,
            generation: 1,
            streams,
            namespaces: merge.namespaces,
            nameOf: () => `out-${names++}`,
          },
          merge.sources,
          [],
        );
        await merge.run({
          row: (cursor) => writer.append(cursor, cursor.block.voidTime[cursor.row]),
          drain: () => writer.flush(),
        });
        const out: Row[] = [];
        for (const ref of await writer.finish())
          out.push(...(await readAll(await Reader.open(store, ref, ARCHIVE))).rows);
        assert.deepEqual(out, runs.flat().sort(compareRows));
      }),
      { numRuns: 80 },
    );
  });

  test('no run, and runs without rows, end at once', async () => {
    assert.deepEqual((await merged([])).rows, []);
    assert.deepEqual((await merged([[await open([])], [await open([])]])).rows, []);
  });

  test('an input that cannot be read ends the merge with its error', async () => {
    const rows = Array.from(
      { length: 5 },
      (_, i): Row => ({
        namespace: 'a',
        set: '',
        digest: Buffer.alloc(20, i).toString('hex'),
        ts: 1,
        lsn: i + 1,
        epoch: 1,
        stream: 'a',
        generation: 1,
        voidTime: 0,
        image: '00',
        batchMore: false,
        extension: undefined,
      }),
    );
    const { bytes, ref } = encodeSegment(rows);
    const damaged = Buffer.from(bytes);
    damaged[20 + bytes.readUInt32LE(12) + 30] ^= 1;
    await assert.rejects(merged([[await open(rows)], [await openBytes(damaged, ref)]]), /corrupt/);
  });
});

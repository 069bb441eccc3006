/** Merges of runs that are read from a store which answers late, in any order, or not at all. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { Merge } from '../../wal/merge.ts';
import { SegmentReader } from '../../wal/segment-reader.ts';
import { MemoryStore } from './memory-store.ts';
import { ARCHIVE, compareRows, encodeSegment, type Row, rowOf } from './segment-support.ts';

const IMAGE_BYTES = 60_000;
const MIB = 1024 * 1024;
/** G6: for all runs together, and for each run two fetches; blocks are not cut. */
const AHEAD_BYTES = 8 * MIB;
const RUN_BYTES = 2 * MIB + 600_000;

/** Bytes that do not become less by compression, the same for the same text. */
const noise = (text: string, bytes: number): string =>
  createHash('shake256', { outputLength: bytes }).update(text).digest('hex');

const rowsOf = (run: number, count: number): Row[] =>
  Array.from({ length: count }, (_, i) => ({
    namespace: 'test',
    set: 's',
    digest: noise(`${run % 2} ${i}`, 20),
    ts: 1_700_000_000_000 + run,
    lsn: run * 1000 + i + 1,
    epoch: 1,
    stream: 'main',
    generation: 1,
    voidTime: 0,
    image: noise(`${run} ${i}`, IMAGE_BYTES),
    batchMore: false,
    extension: undefined,
  }));

/** One long run, and three short ones; half of the keys are in two runs. */
const RUNS = [rowsOf(0, 350), rowsOf(1, 40), rowsOf(2, 40), rowsOf(3, 3)];
const ENCODED = RUNS.map((rows) => encodeSegment(rows));
const EXPECTED = RUNS.flat().sort(compareRows);
const idOf = ({ lsn, digest, image }: Row): string => `${lsn} ${digest} ${image?.slice(-40)}`;

interface Read {
  readonly name: string;
  readonly start: number;
  readonly bytes: number;
}

class LateStore extends MemoryStore {
  /** Every ranged read that has begun, once the segments are open. */
  readonly begun: Read[] = [];
  pending = 0;
  pendingMax = 0;
  isOpen = false;
  /** Waits, or throws what the reader shall see. */
  late: (read: Read) => Promise<void> = async () => undefined;

  override async read(name: string, range: { start: number; end?: number } = { start: 0 }): Promise<Buffer> {
    if (!this.isOpen) return super.read(name, range);
    const read = { name, start: range.start, bytes: (range.end ?? 0) - range.start };
    this.begun.push(read);
    this.pendingMax = Math.max(this.pendingMax, ++this.pending);
    try {
      await this.late(read);
      return await super.read(name, range);
    } finally {
      this.pending--;
    }
  }
}

const opened = async (
  change: (bytes: Buffer, run: number) => void = () => undefined,
): Promise<{ store: LateStore; runs: SegmentReader[][] }> => {
  const store = new LateStore();
  const runs: SegmentReader[][] = [];
  for (const [i, { bytes, ref }] of ENCODED.entries()) {
    const name = `run-${i}`;
    const own = Buffer.from(bytes);
    change(own, i);
    store.objects.set(name, own);
    runs.push([await SegmentReader.open(store, { ...ref, name }, ARCHIVE)]);
  }
  store.isOpen = true;
  return { store, runs };
};

const merge = async (
  runs: readonly (readonly SegmentReader[])[],
  onRow: (rows: number) => void = () => undefined,
  into: string[] = [],
): Promise<string[]> => {
  await new Merge(runs).run({
    row: ({ reader, block, row }) => {
      into.push(idOf(rowOf(reader, block, row)));
      onRow(into.length);
      return false;
    },
    drain: async () => undefined,
  });
  return into;
};

/** Numbers below `limit`, by a seed. */
const random = (seed: number): ((limit: number) => number) => {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
};

describe('reading ahead', () => {
  test('the rows are the same in whatever order the answers come', async () => {
    for (const seed of [1, 2, 3]) {
      const { store, runs } = await opened();
      const next = random(seed);
      store.late = async () => {
        for (let turns = next(40); turns > 0; turns--) await turn();
      };
      assert.deepEqual(await merge(runs), EXPECTED.map(idOf), `seed ${seed}`);
    }
  });

  test('reads of all runs, and several of a long one, are on their way before any is answered', async () => {
    const { store, runs } = await opened();
    let answer = (): void => undefined;
    const answered = new Promise<void>((resolve) => {
      answer = resolve;
    });
    store.late = () => answered;
    const rows = merge(runs);
    for (let i = 0; i < 20; i++) await turn();
    assert.deepEqual(
      [...new Set(store.begun.map((r) => r.name))].sort(),
      RUNS.map((_, i) => `run-${i}`),
    );
    assert.ok(store.begun.filter((r) => r.name === 'run-0').length >= 6, `${store.begun.length} reads`);
    for (const { bytes } of store.begun) assert.ok(bytes <= MIB + 300_000, `one read of ${bytes} bytes`);
    answer();
    assert.deepEqual(await rows, EXPECTED.map(idOf));
  });

  test('G6: what is on its way or waits to be merged stays within the bound', async () => {
    const { store, runs } = await opened();
    let merged = 0;
    let most = 0;
    let begun = 0;
    let midway = 0;
    store.late = async ({ bytes }) => {
      begun += bytes;
      most = Math.max(most, begun - merged * IMAGE_BYTES);
    };
    await merge(runs, (rows) => {
      merged = rows;
      if (rows === EXPECTED.length >> 1) midway = begun - merged * IMAGE_BYTES;
    });
    assert.ok(begun > 20 * MIB, 'more than the bound was read');
    assert.ok(most <= AHEAD_BYTES + runs.length * RUN_BYTES, `${most} bytes`);
    assert.ok(most > AHEAD_BYTES / 2, `${most} bytes: the room is used`);
    assert.ok(midway > AHEAD_BYTES / 2, `${midway} bytes: and used again`);
  });

  test('a read ahead that fails is told when the merge gets there, with its own error, and only once', async () => {
    const { store, runs } = await opened();
    const away = new PitrError('io', { op: 'read', path: 'run-0', why: 'ECONNRESET' });
    let reads = 0;
    store.late = async ({ name }) => {
      // this one and all after it
      if (name === 'run-0' && ++reads > 3) throw away;
    };
    const rows: string[] = [];
    await assert.rejects(merge(runs, undefined, rows), (error) => error === away);
    assert.deepEqual(rows, EXPECTED.map(idOf).slice(0, rows.length));
    assert.ok(rows.length > 10, `${rows.length} rows before it`);
    // a rejection that nobody handles would end this process
    for (let i = 0; i < 20; i++) await turn();
  });

  test('a merge that is given up leaves reads behind that may fail', async () => {
    const { store, runs } = await opened();
    store.late = async ({ name, start }) => {
      if (name !== 'run-0' || start < MIB) return;
      for (let i = 0; i < 50; i++) await turn();
      throw new PitrError('object-not-found', { name });
    };
    const enough = new Error('enough');
    const ended = merge(runs, () => {
      throw enough;
    });
    await assert.rejects(ended, (error) => error === enough);
    assert.ok(store.pending > 0, 'reads are still on their way');
    for (let i = 0; i < 60; i++) await turn();
    assert.equal(store.pending, 0);
  });

  test('damage in a block that was read ahead is found', async () => {
    const { runs } = await opened((bytes, run) => {
      if (run === 0) bytes[9 * MIB] ^= 1;
    });
    const rows: string[] = [];
    await assert.rejects(merge(runs, undefined, rows), (error) => isPitrError(error, 'object-corrupt'));
    assert.ok(rows.length > 100 && rows.length < EXPECTED.length, `${rows.length} rows before it`);
    assert.deepEqual(rows, EXPECTED.map(idOf).slice(0, rows.length));
  });
});

describe('block tables', () => {
  // all in partition 0, in order
  const digestOf = (i: number): string => `0000${i.toString(16).padStart(8, '0')}${noise(`${i}`, 14)}`;
  const [row] = rowsOf(5, 1);
  const many = Array.from({ length: 60_000 }, (_, i) => ({
    ...row,
    digest: digestOf(i),
    lsn: i + 1,
    image: 'c0ffee',
  }));
  const { bytes, ref } = encodeSegment(many);

  const open = async (): Promise<{ store: LateStore; reader: SegmentReader }> => {
    const store = new LateStore();
    store.objects.set(ref.name, bytes);
    const reader = await SegmentReader.open(store, ref, ARCHIVE);
    store.isOpen = true;
    return { store, reader };
  };

  test('are read once, and again when the first read failed', async () => {
    const { store, reader } = await open();
    let fails = true;
    store.late = async () => {
      if (fails) throw new PitrError('io', { op: 'read', path: ref.name, why: 'ECONNRESET' });
    };
    await assert.rejects(reader.blocks(), (error) => isPitrError(error, 'io'));
    fails = false;
    const all = await reader.blocks();
    assert.deepEqual([store.begun.length, all.length > 10], [2, true]);
    assert.deepEqual(await reader.blocks(), all);
    assert.equal(store.begun.length, 2);
  });

  test('come with their filter in one read', async () => {
    const { store, reader } = await open();
    const [found] = await reader.candidates('test', Buffer.from(digestOf(4711), 'hex'));
    assert.ok(found);
    assert.equal(store.begun.length, 1);
    const block = reader.decode((await reader.readBlocks([found]))[0]);
    assert.ok(Array.from({ length: block.rows }, (_, i) => block.lsn(i)).includes(4712));
  });
});

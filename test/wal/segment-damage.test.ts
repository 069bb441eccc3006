import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { crc32, zstdCompressSync } from 'node:zlib';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { sortKeyOf } from '../../engine/partition.ts';
import { Block, decodeStored, encodeStored } from '../../wal/block.ts';
import { decodeEnvelope, encodeEnvelope, unpackBytes } from '../../wal/envelope.ts';
import type { ArchiveEvent } from '../../wal/event.ts';
import { FOOTER_BYTES, SEGMENT_VERSION, type SegmentRef } from '../../wal/segment.ts';
import { SegmentReader } from '../../wal/segment-reader.ts';
import { MemoryStore } from './memory-store.ts';
import {
  ARCHIVE,
  compareRows,
  encodeSegment,
  OTHER_ARCHIVE,
  openBytes,
  type Row,
  readAll,
  rowOf,
} from './segment-support.ts';

const row = (i: number, fields: Partial<Row> = {}): Row => ({
  namespace: i % 2 ? 'test' : 'other',
  set: i % 3 ? 's' : '',
  digest: Buffer.alloc(20, i * 41).toString('hex'),
  ts: 100 + i,
  lsn: i + 1,
  epoch: 1,
  stream: 'main',
  generation: i,
  voidTime: 0,
  image: i === 3 ? undefined : Buffer.from(`image ${i}`).toString('hex'),
  batchMore: false,
  extension: undefined,
  ...fields,
});
const ROWS = Array.from({ length: 6 }, (_, i) => row(i));
const EVENTS: ArchiveEvent[] = [{ kind: 'mark', stream: 'main', epoch: 1, lsn: 9, ts: 200, name: 'm' }];

/** What every path of the reader gives: all blocks, events, and a lookup of each key. */
const everything = async (bytes: Buffer, ref: SegmentRef): Promise<unknown> => {
  const reader = await openBytes(bytes, ref);
  const looked: Row[] = [];
  for (const { namespace, digest } of ROWS)
    for (const handle of await reader.candidates(namespace, sortKeyOf(Buffer.from(digest, 'hex')))) {
      const block = reader.decode((await reader.readBlocks([handle]))[0]);
      for (let i = 0; i < block.rows; i++) looked.push(rowOf(reader, block, i));
    }
  return { ...(await readAll(reader)), looked };
};

const refusedWith = async (bytes: Buffer, ref: SegmentRef): Promise<PitrError | undefined> => {
  try {
    await everything(bytes, ref);
    return undefined;
  } catch (error) {
    if (error instanceof PitrError) return error;
    throw error;
  }
};

describe('segment: damage', () => {
  test('S9: every flipped bit is refused, or changes nothing that is read', async () => {
    const { bytes, ref } = encodeSegment(ROWS, EVENTS);
    const whole = await everything(bytes, ref);
    let refused = 0;
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      try {
        assert.deepEqual(await everything(damaged, ref), whole, `bit ${bit} changed what is read`);
      } catch (error) {
        if (!(error instanceof PitrError)) throw error;
        assert.ok(['object-corrupt', 'format-version'].includes(error.id), `bit ${bit}: ${error.id}`);
        refused++;
      }
    }
    // only the header at the front, which nothing but header() reads, and the envelope's copy of it may be damaged unseen
    assert.ok(refused > bytes.length * 8 * 0.7, `${refused} of ${bytes.length * 8}`);
  });

  test('every flipped bit of the header is refused by header()', async () => {
    const { bytes, ref } = encodeSegment(ROWS, EVENTS);
    const headerBytes = 20 + bytes.readUInt32LE(12);
    for (let bit = 0; bit < headerBytes * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      const reader = await openBytes(damaged, ref);
      await assert.rejects(reader.header(), PitrError, `bit ${bit}`);
    }
  });

  test('a cut at every byte is refused, also when the catalog says that size', async () => {
    const { bytes, ref } = encodeSegment(ROWS, EVENTS);
    for (let cut = 0; cut < bytes.length; cut++) {
      const torn = bytes.subarray(0, cut);
      assert.equal((await refusedWith(torn, ref))?.id, 'object-corrupt', `cut at ${cut}`);
      assert.equal((await refusedWith(torn, { ...ref, bytes: cut }))?.id, 'object-corrupt', `cut at ${cut}`);
    }
    const longer = Buffer.concat([bytes, Buffer.alloc(1)]);
    assert.equal((await refusedWith(longer, ref))?.id, 'object-corrupt');
    assert.equal((await refusedWith(longer, { ...ref, bytes: longer.length }))?.id, 'object-corrupt');
  });

  test('a segment that is cut after it was opened is refused when the missing part is read', async () => {
    const rows = Array.from({ length: 3000 }, (_, i) =>
      row(i, { image: createHash('shake256', { outputLength: 900 }).update(String(i)).digest('hex') }),
    );
    const { bytes, ref } = encodeSegment(
      rows.map((r, i) => ({ ...r, digest: Buffer.from(`${i}`.padStart(20)).toString('hex') })),
    );
    const store = new MemoryStore();
    store.objects.set(ref.name, bytes);
    const reader = await SegmentReader.open(store, ref, ARCHIVE);
    const [first] = await reader.blocks();
    store.objects.set(ref.name, bytes.subarray(0, first.offset + 10));
    await assert.rejects(reader.readBlocks([first]), (e) => isPitrError(e, 'object-corrupt'));
  });
});

describe('segment: the wrong object', () => {
  test('another archive’s segment is archive-mismatch', async () => {
    const { bytes, ref } = encodeSegment(ROWS, EVENTS);
    const store = new MemoryStore();
    store.objects.set(ref.name, bytes);
    await assert.rejects(
      SegmentReader.open(store, ref, OTHER_ARCHIVE),
      (e) => isPitrError(e, 'archive-mismatch') && e.facts.actual === ARCHIVE,
    );
  });

  test('another segment’s bytes under this name are refused, of the same size too', async () => {
    const one = encodeSegment([row(0)], EVENTS);
    const other = encodeSegment([row(0, { ts: 101 })], EVENTS);
    const same = { ...one.ref, bytes: other.bytes.length };
    const error = await refusedWith(other.bytes, same);
    assert.equal(error?.id, 'object-corrupt');
    assert.equal(error?.facts.why, 'it is not the segment that the catalog lists');
  });

  test('an absent object is object-not-found', async () => {
    const { ref } = encodeSegment(ROWS);
    await assert.rejects(SegmentReader.open(new MemoryStore(), ref, ARCHIVE), (e) =>
      isPitrError(e, 'object-not-found'),
    );
  });

  test('a future format version is refused by name', async () => {
    const { bytes, ref } = encodeSegment(ROWS);
    const at = bytes.length - FOOTER_BYTES;
    bytes.writeUInt16LE(SEGMENT_VERSION + 1, at + 24);
    bytes.writeUInt32LE(crc32(bytes.subarray(at, at + 28)), at + 28);
    const error = await refusedWith(bytes, ref);
    assert.equal(error?.id, 'format-version');
    assert.deepEqual([error?.facts.version, error?.facts.supported], [SEGMENT_VERSION + 1, SEGMENT_VERSION]);
  });
});

describe('lengths are bounded before anything is allocated', () => {
  /** A stored block with any header that its checksums do not contradict. */
  const crafted = (packed: Buffer, rawBytes: number, rawCrc = 0): Buffer => {
    const head = Buffer.alloc(16);
    head.writeUInt32LE(packed.length, 0);
    head.writeUInt32LE(rawBytes, 4);
    head.writeUInt32LE(crc32(packed), 8);
    head.writeUInt32LE(rawCrc, 12);
    return Buffer.concat([head, packed]);
  };
  const why = (run: () => unknown): string => {
    try {
      run();
    } catch (error) {
      if (error instanceof PitrError) return String(error.facts.why);
      throw error;
    }
    throw new Error('it was accepted');
  };

  test('a block header that claims 4 GiB', () => {
    const small = zstdCompressSync(Buffer.alloc(10));
    const before = process.memoryUsage().arrayBuffers;
    assert.equal(
      why(() => decodeStored(crafted(small, 0xffffffff), 'x')),
      'block of 4294967295 bytes is over the limit',
    );
    assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
  });

  test('a zstd frame that grows far beyond what its header claims', () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * 1024 * 1024));
    assert.ok(bomb.length < 10_000);
    assert.equal(
      why(() => decodeStored(crafted(bomb, 1000), 'x')),
      'zstd frame',
    );
    assert.equal(
      why(() => decodeStored(crafted(zstdCompressSync(Buffer.alloc(10)), 1000), 'x')),
      'checksum of the plain bytes',
    );
  });

  test('both checksums count: of the stored bytes, and of what they come to', () => {
    const raw = Buffer.from('plain bytes');
    const packed = zstdCompressSync(raw);
    assert.deepEqual(Buffer.from(decodeStored(crafted(packed, raw.length, crc32(raw)), 'x')), raw);
    assert.equal(
      why(() => decodeStored(crafted(packed, raw.length, crc32(raw) ^ 1), 'x')),
      'checksum of the plain bytes',
    );
    const stored = crafted(packed, raw.length, crc32(raw));
    stored[8] ^= 1;
    assert.equal(
      why(() => decodeStored(stored, 'x')),
      'checksum of the stored bytes',
    );
  });

  test('a block that claims 4 G rows, none, or more heap than it has', () => {
    for (const [rows, heap] of [
      [0xffffffff, 0],
      [0, 0],
      [1, 0xffffffff],
      [2, 10],
    ]) {
      const raw = Buffer.alloc(16 + 52);
      raw.writeUInt32LE(rows, 0);
      raw.writeUInt32LE(heap, 4);
      assert.equal(
        why(() => new Block(decodeStored(encodeStored(raw), 'x'))),
        'row count and size disagree',
      );
    }
    assert.equal(
      why(() => new Block(decodeStored(encodeStored(Buffer.alloc(7)), 'x'))),
      'shorter than its header',
    );
  });

  test('msgpack that counts 2^25 elements in five bytes, or nests without end', () => {
    const before = process.memoryUsage().heapUsed;
    for (const bytes of [
      Buffer.from('dd01ffffff', 'hex'),
      Buffer.from('df01ffffff', 'hex'),
      Buffer.concat([Buffer.alloc(100_000, 0x91), Buffer.of(0xc0)]),
    ])
      assert.match(
        why(() => unpackBytes(bytes, 'x')),
        /truncated|nested too deep/,
      );
    assert.ok(process.memoryUsage().heapUsed - before < 64 * 1024 * 1024);
  });

  test('an envelope that claims 4 GiB', () => {
    const bytes = encodeEnvelope('PITRTEST', 1, { a: 1 });
    assert.deepEqual(decodeEnvelope(bytes, 'PITRTEST', 1, 'x').body, { a: 1 });
    bytes.writeUInt32LE(0xffffffff, 12);
    assert.equal(
      why(() => decodeEnvelope(bytes, 'PITRTEST', 1, 'x')),
      'header is truncated',
    );
  });
});

test('rows of the sample are in sort order only after sorting, so that the tests above see the sort', () => {
  assert.notDeepEqual([...ROWS].sort(compareRows), ROWS);
});

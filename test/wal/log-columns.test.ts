/** The archiver's columns against the plain versions they were made of. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { LogVersion } from '../../engine/commit-log.ts';
import type { PitrError } from '../../engine/errors.ts';
import { sortKeyOf } from '../../engine/partition.ts';
import { FLAG } from '../../wal/block.ts';
import { LogColumns } from '../../wal/log-columns.ts';
import { decodeFrame, FRAME } from '../../wal/log-format.ts';
import { sortedRows } from '../../wal/log-order.ts';
import { segmentOfLog } from '../../wal/log-segment.ts';
import { segmentRefOf } from '../../wal/segment-writer.ts';
import { SeedTable, VersionDigest } from '../../wal/version-digest.ts';
import { columnsOf, version } from './log-support.ts';
import { ARCHIVE, openBytes, readAll } from './segment-support.ts';

const byteOrder = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const versions: fc.Arbitrary<LogVersion[]> = fc
  .array(
    fc.record({
      namespace: fc.constantFrom('a', 'test', 'é'),
      set: fc.constantFrom('', 's', 'cities'),
      digest: fc.oneof(
        // equal in the first 32 bits, and equal altogether
        fc
          .constantFrom('00'.repeat(20), `${'00'.repeat(19)}01`, 'ff'.repeat(20))
          .map((h) => Buffer.from(h, 'hex')),
        fc.uint8Array({ minLength: 20, maxLength: 20 }).map((b) => Buffer.from(b)),
      ),
      image: fc.option(
        fc.uint8Array({ maxLength: 200 }).map((b) => Buffer.from(b)),
        { nil: undefined },
      ),
      voidTime: fc.integer({ min: 0, max: 0xffffffff }),
      generation: fc.integer({ min: 0, max: 65535 }),
      batchMore: fc.boolean(),
      step: fc.integer({ min: -2, max: 2 }),
      seen: fc.option(
        fc.record({
          lutMs: fc.integer({ min: 0, max: 1_600_000_000_000 }),
          windowStartMs: fc.integer({ min: 0, max: 2 ** 40 }),
          windowMs: fc.integer({ min: 0, max: 2 ** 40 }),
          missed: fc.integer({ min: 0, max: 0xffffffff }),
          missedSince: fc.integer({ min: 1, max: 2 ** 40 }),
          late: fc.boolean(),
        }),
        { nil: undefined },
      ),
    }),
    { maxLength: 120 },
  )
  .map((list) => {
    let ts = 1_700_000_000_000;
    return list.map(({ step, seen, ...v }, i) => {
      ts += step;
      const version = { ...v, ts, lsn: 2 ** 33 + i };
      if (!seen) return version;
      const { windowMs, missedSince, ...rest } = seen;
      const missedAfterMs = seen.missed === 0 ? 0 : Math.max(0, seen.lutMs - missedSince);
      return { ...version, seen: { ...rest, missedAfterMs, windowEndMs: seen.windowStartMs + windowMs } };
    });
  });

/** The order of the format, on objects. */
const compare = (a: LogVersion, b: LogVersion): number =>
  byteOrder(a.namespace, b.namespace) ||
  Buffer.compare(sortKeyOf(a.digest), sortKeyOf(b.digest)) ||
  b.ts - a.ts ||
  b.lsn - a.lsn;

describe('log columns', () => {
  test('a level-0 segment has the versions of the log, each as it was, in the order of the format', async () => {
    await fc.assert(
      fc.asyncProperty(versions, async (list) => {
        const streams = [
          { epoch: 1, stream: 'main', lsnStart: 2 ** 33, lsnEnd: 2 ** 33 + 50 },
          { epoch: 2, stream: 'main', lsnStart: 2 ** 33 + 50, lsnEnd: 2 ** 34 },
        ];
        const finished = segmentOfLog(
          { versions: columnsOf(list), events: [], streams },
          { archive: ARCHIVE, timeline: 't', generation: 1 },
        );
        const reader = await openBytes(finished.bytes, segmentRefOf('segment', finished));
        const { rows } = await readAll(reader);
        const expected = [...list].sort(compare).map((v) => ({
          namespace: v.namespace,
          set: v.set,
          digest: Buffer.from(v.digest).toString('hex'),
          ts: v.ts,
          lsn: v.lsn,
          epoch: v.lsn < 2 ** 33 + 50 ? 1 : 2,
          stream: 'main',
          generation: v.generation,
          voidTime: v.voidTime,
          image: v.image && Buffer.from(v.image).toString('hex'),
          batchMore: v.batchMore,
          extension: v.seen && {
            lut: v.seen.lutMs,
            startMs: v.seen.windowStartMs,
            endMs: v.seen.windowEndMs,
            missed: v.seen.missed,
            missedAfterMs: v.seen.missedAfterMs,
          },
        }));
        assert.deepEqual(rows, expected);
        // what the log's rows came to, and what is read from the file, bit by bit
        const digest = new VersionDigest();
        const late: boolean[] = [];
        const seeds = new SeedTable(reader.properties);
        for (const handle of await reader.blocks()) {
          const block = reader.decode((await reader.readBlocks([handle]))[0]);
          for (let i = 0; i < block.rows; i++) {
            digest.addRow(block, i, seeds.of(block.namespace, block.set[i], block.source[i]));
            late.push((block.flags[i] & FLAG.late) !== 0);
          }
        }
        assert.equal(`${digest}`, reader.properties.digest);
        assert.deepEqual(
          late,
          [...list].sort(compare).map((v) => v.seen?.late ?? false),
        );
      }),
      { numRuns: 150 },
    );
  });

  test('a record with very many versions is in order, newest first', () => {
    const list = Array.from({ length: 5000 }, (_, i) =>
      version(i + 1, {
        namespace: 'n',
        set: '',
        digest: Buffer.alloc(20, i % 3),
        ts: 1_700_000_000_000 + (i >> 4),
      }),
    );
    const order = sortedRows(columnsOf(list), Uint32Array.of(0));
    assert.deepEqual(
      Array.from(order, (i) => list[i].lsn),
      [...list].sort(compare).map((v) => v.lsn),
    );
  });

  test('a frame that is cut anywhere, or goes on from another LSN, is refused', () => {
    const columns = columnsOf([version(1), version(2), version(7)].slice(0, 2));
    const whole = columns.files[0].subarray(25);
    const refused = (bytes: Buffer, lsn: number): string | undefined => {
      const c = new LogColumns();
      c.beginFile(bytes);
      try {
        c.append(bytes, lsn, (why) => new Error(why) as never);
        return undefined;
      } catch (error) {
        return (error as Error).message;
      }
    };
    assert.equal(refused(whole, 1), undefined);
    assert.match(refused(whole, 2) ?? '', /LSN 1 where 2 is due/);
    const first = columns.imageEnd[0] - 25;
    for (let end = 1; end < whole.length; end++)
      if (end === first) assert.equal(refused(whole.subarray(0, end), 1), undefined);
      else assert.match(refused(whole.subarray(0, end), 1) ?? '', /past its frame/, `cut at ${end}`);
  });

  test('flags and extensions of a version that do not fit are refused, by the archiver as at start-up', () => {
    const seen = { lutMs: 5, windowStartMs: 3, windowEndMs: 5, missed: 2, missedAfterMs: 4, late: true };
    const whole = Buffer.from(
      columnsOf([version(1, { set: '', namespace: 'n', seen })]).files[0].subarray(24),
    );
    // type · flags, LSN, ts … digest · name · no set · bytes · extension
    const [flagsAt, bytesAt, extensionAt] = [1, 1 + 39 + 2 + 1, 1 + 39 + 2 + 1 + 4];
    const refusals = (change: (b: Buffer) => void): (string | undefined)[] => {
      const bytes = Buffer.from(whole);
      change(bytes);
      const attempt = (read: (bad: (why: string) => PitrError) => void): string | undefined => {
        try {
          read((why) => new Error(why) as never);
          return undefined;
        } catch (error) {
          return (error as Error).message;
        }
      };
      const columns = new LogColumns();
      columns.beginFile(bytes);
      const frame = { offset: 0, bytes: 0, type: FRAME.commits, syncedBytes: 0, payload: bytes.subarray(1) };
      return [
        attempt((bad) => columns.append(bytes.subarray(1), 1, bad)),
        attempt((bad) => decodeFrame(frame, () => undefined, bad)),
      ];
    };
    const both = (change: (b: Buffer) => void, why: RegExp): void => {
      for (const said of refusals(change)) assert.match(said ?? 'nothing', why);
    };
    assert.deepEqual(
      refusals(() => undefined),
      [undefined, undefined],
    );
    both((b) => b.writeUInt8(4, flagsAt), /a version with flags 4/);
    both((b) => b.writeUInt8(16 | 12, flagsAt), /a version with flags 28/);
    both((b) => b.writeUInt8(13, flagsAt), /a version with flags 13 and 46 bytes/);
    both((b) => b.writeUInt8(1, flagsAt), /a version with flags 1/);
    both((b) => b.writeUInt32LE(b.readUInt32LE(bytesAt) + 1, bytesAt), /past its frame/);
    both((b) => b.writeUInt8(1, extensionAt + 6), /over 2\^48/);
    both((b) => b.writeUInt8(1, extensionAt + 15), /over 2\^48/);
    both((b) => b.writeUInt8(1, extensionAt + 34), /over 2\^48/);
    both((b) => b.writeUInt8(0xff, extensionAt + 5), /counts before its LUT/);
    both((b) => b.writeUInt8(6, extensionAt + 8), /ends before it starts/);
    both((b) => b.writeUInt8(0, extensionAt + 24), /after which nothing/);
    both((b) => b.writeUInt8(5, extensionAt + 28), /after which nothing/);
  });
});

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { backoffMs } from '../../engine/aerospike/client/backoff.ts';
import { BlockQueue } from '../../engine/aerospike/client/block-queue.ts';
import {
  deleteCommand,
  operateCommand,
  putCommand,
  readCommand,
  touchCommand,
} from '../../engine/aerospike/client/command.ts';
import { writeBatch, writeCommand, writePage } from '../../engine/aerospike/client/command-writer.ts';
import { nameAt } from '../../engine/aerospike/client/name.ts';
import { parseQueryAccount } from '../../engine/aerospike/client/query-account.ts';
import { RateLimit } from '../../engine/aerospike/client/rate-limit.ts';
import { LUT_OP, readOp, writeOp } from '../../engine/aerospike/client/record.ts';
import { BlockBuilder } from '../../engine/aerospike/client/record-block.ts';
import { ScanPage } from '../../engine/aerospike/client/scan-page.ts';
import { PageSize } from '../../engine/aerospike/client/scan-plan.ts';
import { MessageWriter } from '../../engine/aerospike/message-writer.ts';
import { partitionOf } from '../../engine/partition.ts';
import { intBin, isError } from './client-support.ts';
import { bytes, DIGEST_HEX, GET, PUT, SCANNED } from './golden-bytes.ts';
import { statusFrame } from './scripted-peer.ts';

const KEY = { namespace: 'test', set: 'demo', digest: bytes(DIGEST_HEX) };
const written = (write: (w: MessageWriter) => void): string => {
  const w = new MessageWriter();
  write(w);
  return w.take().toString('hex');
};

describe('what is sent is what the reference says', () => {
  const of = (c: Parameters<typeof writeCommand>[1], timeoutMs = 0) =>
    written((w) => writeCommand(w, c, timeoutMs));
  const place = `00000005 00 74657374  00000005 01 64656d6f  00000015 04 ${DIGEST_HEX}`;
  const frame = (body: string): string => {
    const b = bytes(body);
    return `0203${b.length.toString(16).padStart(12, '0')}${b.toString('hex')}`;
  };

  test('put and get', () => {
    assert.equal(of(putCommand(KEY, [intBin('a', 1)]), 1000), PUT.toString('hex'));
    assert.equal(of(readCommand(KEY, { filter: bytes('93049142cf0000000000000001') })), GET.toString('hex'));
  });

  test('header bits of every command', () => {
    const bits = (c: Parameters<typeof writeCommand>[1]): string => of(c).slice(18, 26);
    const put = (mode: 'update' | 'create' | 'replace' | 'updateOnly' | 'replaceOnly', more = {}) =>
      bits(putCommand(KEY, [intBin('a', 1)], { mode, ...more }));
    assert.deepEqual(
      [put('update'), put('create'), put('replace'), put('updateOnly'), put('replaceOnly')],
      ['00010000', '00210000', '00011000', '00010800', '00012000'],
    );
    assert.equal(put('replace', { generation: 3 }), '00051000');
    assert.equal(put('replace', { generationBelow: 3 }), '00091000');
    assert.equal(bits(deleteCommand(KEY)), '00030000');
    assert.equal(bits(deleteCommand(KEY, { durableDelete: true })), '00130000');
    assert.equal(bits(readCommand(KEY)), '03000000');
    assert.equal(bits(readCommand(KEY, { bins: 'none' })), '21000000');
    assert.equal(bits(readCommand(KEY, { bins: ['a'] })), '01000000');
    assert.equal(bits(readCommand(KEY, { bins: 'none', withLut: true })), '01000000');
    assert.equal(bits(touchCommand(KEY)), '00010000');
    assert.equal(bits(operateCommand(KEY, [readOp('a')])), '01800000');
    assert.equal(bits(operateCommand(KEY, [readOp('a'), writeOp('a', intBin('', 1))])), '01810000');
    assert.equal(bits(operateCommand(KEY, [writeOp('a', intBin('', 1))], { mode: 'replace' })), '00811000');
  });

  test('times to live, the stored key, last update', () => {
    const ttl = (value: 'default' | 'never' | 'keep' | number) =>
      of(touchCommand(KEY, { ttl: value })).slice(36, 44);
    assert.deepEqual(
      [ttl('default'), ttl('never'), ttl('keep'), ttl(60)],
      ['00000000', 'ffffffff', 'fffffffe', '0000003c'],
    );
    assert.equal(
      of(readCommand({ ...KEY, key: intBin('', 7) }, { bins: 'none', withLut: true })),
      frame(`16 01 00 00 00 00 00000000 00000000 00000000 0004 0001 ${place}
        0000000a 02 01 0000000000000007  00000008 07 04 00 00 92 91 42 00`),
    );
  });

  test('a batch: whole rows, rows that repeat, bounds', () => {
    const second = bytes('0000000000000000000000000000000000000002');
    const commands = [
      readCommand(KEY),
      readCommand({ ...KEY, digest: second }),
      deleteCommand({ ...KEY, digest: second }, { generation: 5 }),
    ];
    const row = '00000005 00 74657374  00000005 01 64656d6f';
    assert.equal(
      written((w) => writeBatch(w, commands, [0, 1, 2], 0, { rowsMax: 9, bytesMax: 9999 }, 1000)),
      frame(`16 08 00 00 00 00 00000000 00000000 000003e8 0001 0000
        0000008f 29 00000003 0d
        00000000 ${DIGEST_HEX} 0e 03 00 00 0000 00000000 0002 0000 ${row}
        00000001 ${second.toString('hex')} 01
        00000002 ${second.toString('hex')} 0e 00 07 00 0005 00000000 0002 0000 ${row}`),
    );
    const w = new MessageWriter();
    assert.equal(writeBatch(w, commands, [0, 1, 2], 0, { rowsMax: 2, bytesMax: 9999 }, 0), 2);
    assert.equal(writeBatch(w, commands, [0, 1, 2], 1, { rowsMax: 9, bytesMax: 1 }, 0), 2);
  });

  test('a page: the example of the specification', () => {
    const after = bytes(`3412${'ab'.repeat(18)}`);
    const page = written((w) =>
      writePage(w, {
        namespace: 'test',
        set: '',
        info1: 1,
        info2: 0,
        ops: [],
        filter: undefined,
        queryId: 42n,
        partitions: [
          { partition: 1, after: undefined },
          { partition: 0x234, after },
        ],
        recordsMax: 2,
        recordsPerSecond: 0,
        socketTimeoutMs: 30_000,
      }),
    );
    assert.equal(
      page,
      frame(`16 01 00 04 00 00 00000000 ffffffff 00000000 0006 0000
        00000005 00 74657374  00000005 09 00007530  00000009 07 000000000000002a
        00000003 0b 0100  00000015 0c ${after.toString('hex')}  00000009 0d 0000000000000002`),
    );
  });

  test('names that are not UTF-8 stay bytes', () => {
    const name = (hex: string) => nameAt(bytes(hex), 0, hex.length / 2);
    assert.equal(name('6162'), 'ab');
    assert.equal(name('c3a9'), 'é');
    assert.deepEqual(name('61ff'), bytes('61ff'));
  });
});

describe('the account of a query', () => {
  const line = (set: string, succeeded = 7, failed = 0) =>
    `trid=42:ns=test:set=${set}:sindex-name=:n-pids-requested=1:n-keyds-requested=0:rps=0:active-threads=0:status=done(ok):job-progress=100.00:run-time=1:time-since-done=0:recs-throttled=0:recs-filtered-meta=3:recs-filtered-bins=4:recs-succeeded=${succeeded}:recs-failed=${failed}:from=127.0.0.1+1:job-type=basic:net-io-bytes=1:net-io-time=0:socket-timeout=30000`;
  const parse = (value: string) => parseQueryAccount(value, 'query-show', 'A1');
  const account = { status: 'done(ok)', succeeded: 7, failed: 0, filteredMeta: 3, filteredBins: 4 };

  test('is read from the right: a set may be called anything', () => {
    assert.deepEqual(parse(line('demo')), account);
    assert.deepEqual(parse(line('x:recs-failed=9:recs-succeeded=9:y')), account);
    assert.deepEqual(parse(line('demo', 1, 2))?.failed, 2);
  });
  test('of a query that is not known, or of a server that says something else', () => {
    assert.equal(parse('ERROR:2:job not found'), undefined);
    for (const value of ['', 'ERROR:4:unrecognized command', 'trid=42:ns=test'])
      assert.throws(() => parse(value), isError('aerospike-info'));
  });
});

describe('a page as it arrives', () => {
  const digest = bytes(DIGEST_HEX);
  const partition = partitionOf(digest);
  const chunk = SCANNED.subarray(8, 8 + SCANNED.readUIntBE(2, 6));
  const page = (...partitions: number[]) =>
    new ScanPage(partitions.map((p) => ({ partition: p, after: undefined })));

  test('a record, a partition that is elsewhere, the end', () => {
    const p = page(partition, 7);
    const block = p.frame(3, chunk);
    assert.deepEqual([block?.length, p.records, p.code], [1, 1, undefined]);
    assert.deepEqual([p.isUnavailable(7), p.isUnavailable(partition)], [true, false]);
    assert.deepEqual([p.lastOf(partition), p.lastOf(7)], [digest, undefined]);
    assert.equal(p.frame(3, statusFrame(0, 1).subarray(8)), undefined);
    assert.equal(p.code, 0);
    assert.throws(() => p.frame(3, chunk), isError('wire-malformed'));
  });
  test('N2: the same digest again, one that is not below its point, one that nobody asked for', () => {
    const twice = page(partition, 7);
    twice.frame(3, chunk);
    assert.throws(() => twice.frame(3, chunk), isError('wire-malformed'));
    const below = Buffer.from(digest);
    below[19]--;
    const after = new ScanPage([{ partition, after: below }]);
    assert.throws(() => after.frame(3, chunk), isError('wire-malformed'));
    const above = Buffer.from(digest);
    above[19]++;
    assert.equal(
      new ScanPage([
        { partition, after: above },
        { partition: 7, after: undefined },
      ]).frame(3, chunk)?.length,
      1,
    );
    assert.throws(() => page(1, 7).frame(3, chunk), isError('wire-malformed'));
    assert.throws(() => page(partition).frame(3, chunk), isError('wire-malformed'));
    assert.throws(() => page(partition, 7).frame(1, chunk), isError('wire-malformed'));
  });
});

describe('sizes, waits and rates', () => {
  test('pages grow by eight at most, to the bytes that are wanted; and shrink', () => {
    const size = new PageSize(1_000_000);
    assert.deepEqual([size.partitions, size.records], [16, 256]);
    size.learn(16, 0, 0, false);
    assert.deepEqual([size.partitions, size.records], [128, 256]);
    size.learn(128, 100, 10_000, false);
    // 100 bytes each: 2,048 records are eight times as many; of these 0.8 fit into so many partitions
    assert.deepEqual([size.partitions, size.records], [1024, 2048]);
    size.learn(1024, 2048, 204_800, true);
    assert.deepEqual([size.partitions, size.records], [512, 10_000]);
    size.learn(512, 10, 10_000_000, true);
    assert.deepEqual([size.partitions, size.records], [256, 1]);
    size.shrink();
    size.shrink();
    size.shrink();
    assert.deepEqual([size.partitions, size.records], [1, 1]);
  });
  test('waits double, half of each is drawn, up to the bound', () => {
    const b = { firstMs: 10, maxMs: 100 };
    const waits = (random: number) => [1, 2, 3, 4, 5, 60].map((n) => backoffMs(b, n, () => random));
    assert.deepEqual(waits(0), [5, 10, 20, 40, 50, 50]);
    assert.deepEqual(waits(1), [10, 20, 40, 80, 100, 100]);
  });
  test('a rate is paid for after it has passed', () => {
    const rate = new RateLimit({ recordsPerSecond: 1000, bytesPerSecond: 1_000_000 });
    // a tenth of a second is credit
    assert.equal(rate.spend(100, 0, 5000), 0);
    assert.equal(rate.spend(50, 0, 5000), 50);
    assert.equal(rate.spend(0, 100_000, 5050), 100);
    assert.equal(rate.spend(0, 0, 5050), 0);
    assert.equal(rate.spend(100, 1, 9000), 0);
    assert.equal(new RateLimit({}).spend(1e9, 1e9, 0), 0);
  });
});

describe('between sockets and the consumer', () => {
  const block = (size: number) => new BlockBuilder().take(Buffer.alloc(size));
  test('N3, N4: room is reserved, marks are passed when the consumer comes back, an error comes last', async () => {
    const queue = new BlockQueue(100);
    const events: string[] = [];
    await queue.reserve(40);
    queue.push(block(40));
    queue.mark(() => events.push('mark'));
    queue.unreserve(40);
    const room = queue.reserve(40).then(() => events.push('room'));
    await new Promise(setImmediate);
    assert.deepEqual(events, []);
    await queue.next();
    await room;
    assert.deepEqual(events, ['room']);
    queue.end(new Error('the last'));
    await assert.rejects(queue.next(), /the last/);
    assert.deepEqual(events, ['room', 'mark']);
    queue.push(block(101));
    assert.equal(queue.isFull, true);
  });
});
test('an op that asks for last update is the one of the reference', () => {
  assert.equal(Buffer.from(LUT_OP.bytes).toString('hex'), '92914200');
});

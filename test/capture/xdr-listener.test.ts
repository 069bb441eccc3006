import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { connect as tlsConnect } from 'node:tls';
import { ManualClock } from '../../engine/clock.ts';
import { isPitrError } from '../../engine/errors.ts';
import { type Files, nodeFiles, type SyncedFile } from '../../engine/files.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { writeArchived } from '../../wal/archived.ts';
import { Archiver } from '../../wal/archiver.ts';
import type { Journal } from '../../wal/capture/journal.ts';
import { XdrListener, type XdrListenerOptions } from '../../wal/capture/xdr/listener.ts';
import { field, hex, int, message, nil, op, read, str, u64, utf8 } from '../aerospike/wire-bytes.ts';
import { compressedFrame, header } from './xdr-frames.ts';
import {
  answer,
  digestOf,
  imageHex,
  lutField,
  newCaptureDir,
  openJournal,
  readVersions,
  remove,
  Shipper,
  T0,
  textOf,
  until,
  write,
} from './xdr-support.ts';

interface Opened {
  readonly dir: string;
  readonly journal: Journal;
  readonly listener: XdrListener;
  readonly clock: ManualClock;
  readonly peer: () => Promise<Shipper>;
  readonly close: () => Promise<void>;
}

const open = async (
  t: TestContext,
  options: Partial<XdrListenerOptions> & {
    readonly source?: { namespaces?: string[]; sets?: string[] | null };
    readonly dir?: string;
    readonly quotaBytes?: number;
  } = {},
): Promise<Opened> => {
  const dir = options.dir ?? (await newCaptureDir(t, options.source));
  const { quotaBytes } = options;
  const journal = await openJournal(dir, T0, {
    ...(quotaBytes ? { spool: { quotaBytes, policy: 'block' } } : {}),
    ...(options.files ? { files: options.files } : {}),
  });
  const clock = new ManualClock(T0 + 1_000_000);
  const listener = await XdrListener.start({ port: 0, clock, ...options, journal });
  const peers: Shipper[] = [];
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= (async () => {
      for (const shipper of peers) shipper.close();
      await listener.close();
      await journal.close();
    })();
    return closed;
  };
  t.after(close);
  const peer = async (): Promise<Shipper> => {
    const shipper = await Shipper.open(listener.address.port);
    peers.push(shipper);
    return shipper;
  };
  return { dir, journal, listener, clock, peer, close };
};

const logOf = async (dir: string): Promise<string[]> => (await readVersions(dir)).map(textOf);

test('the worked example of the specification: a write and a delete, byte by byte', async (t) => {
  const { dir, peer } = await open(t);
  const shipper = await peer();
  const digest = '00112233445566778899aabbccddeeff00112233';
  shipper.send(
    hex(`02030000000000 5c 16 10 11 10 00 00 00000003 00000e10 00000000 0004 0001
         00000005 00 74657374 00000002 01 73 00000015 04 ${digest} 00000009 0e 00000165e8b6f07b
         0000000d 02 01 00 01 61 000000000000002a`),
  );
  assert.equal((await shipper.bytes(30)).toString('hex'), answer(0));
  shipper.send(
    hex(`02030000000000 4b 16 10 03 00 00 00 00000004 00000000 00000000 0004 0000
         00000005 00 74657374 00000002 01 73 00000015 04 ${digest} 00000009 0e 00000165e8b6f3e8`),
  );
  assert.equal((await shipper.bytes(30)).toString('hex'), answer(0));
  const [first, second, ...others] = await readVersions(dir);
  assert.deepEqual(others, []);
  assert.equal(first.ts, 1_700_000_000_123);
  assert.equal(first.set, 's');
  assert.equal(first.generation, 3);
  assert.equal(Buffer.from(first.digest).toString('hex'), digest);
  assert.equal(
    Buffer.from(first.image ?? []).toString('hex'),
    '0001016101082a'.replace('2a', '000000000000002a'),
  );
  // floor of our clock, and what remained
  assert.equal(first.voidTime, 1_700_001_000 + 3600);
  assert.equal(first.seen?.missed, 2);
  assert.equal(second.ts, 1_700_000_001_000);
  assert.equal(second.image, undefined);
  assert.equal(second.seen, undefined);
});

test('X3: key, set and particles of every kind come as they were sent', async (t) => {
  const { dir, peer } = await open(t);
  const shipper = await peer();
  const big = Buffer.alloc(200_000, 7);
  const frame = message({
    info1: 0x10,
    info2: 0x01,
    generation: 1,
    ttl: 0xffffffff,
    fields: [
      lutField(T0 + 5),
      field(2, Buffer.concat([Uint8Array.of(3), utf8('kéy')])),
      field(4, digestOf(1)),
      field(0, utf8('test')),
    ],
    // one bin has a LUT of its own, which is read over
    ops: [
      op(2, 'f', 2, hex('8000000000000000')),
      op(2, Buffer.from([0xff, 0xfe]), 3, hex('00ff00')),
      op(2, 'big', 4, big),
      hex(`0000000f 02 01 01 02 6c31 0000000000000001 ff`),
      op(2, 'm', 19, hex('81 01 02')),
    ],
  });
  assert.deepEqual(await shipper.ship(frame), [0]);
  const [v] = await readVersions(dir);
  assert.equal(v.set, '');
  assert.equal(
    Buffer.from(v.image ?? []).toString('hex'),
    [
      '06',
      '03 6bc3a979',
      '05',
      '01 66 02 08 8000000000000000',
      '02 fffe 03 03 00ff00',
      `03 626967 04 c09a0c ${big.toString('hex')}`,
      '02 6c31 01 01 ff',
      '01 6d 13 03 810102',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
});

test('X2: answers are in the order of the requests, refusals among them', async (t) => {
  const { peer, listener } = await open(t);
  const shipper = await peer();
  const frames: Buffer[] = [];
  const expected: number[] = [];
  for (let i = 0; i < 3000; i++) {
    const isRefused = i % 7 === 3;
    frames.push(
      isRefused
        ? message({ info1: 0x10, info2: 0x01, generation: 1, fields: [], ops: [int('v', 1)] })
        : write({ record: i, lutMs: T0 + 10 + i }),
    );
    expected.push(isRefused ? 4 : 0);
  }
  const bytes = Buffer.concat(frames);
  // in pieces that cut frames anywhere
  for (let at = 0; at < bytes.length; at += 7919) shipper.socket.write(bytes.subarray(at, at + 7919));
  assert.deepEqual(await shipper.codes(3000), expected);
  assert.equal(listener.report().counts.versions, expected.filter((c) => c === 0).length);
});

test('X4: what is sent again logs nothing, also over another connection and after a restart', async (t) => {
  const { dir, peer, close } = await open(t);
  const [a, b] = [await peer(), await peer()];
  const frames = [
    write({ record: 1, lutMs: T0 + 10, ttlS: 50, value: 1 }),
    write({ record: 1, lutMs: T0 + 20, ttlS: 50, generation: 2, value: 2 }),
    write({ record: 2, lutMs: T0 + 15, value: 3 }),
    remove({ record: 2, lutMs: T0 + 25 }),
    write({ record: 2, lutMs: T0 + 35, value: 4 }),
  ];
  assert.deepEqual(await a.ship(...frames), [0, 0, 0, 0, 0]);
  const logged = await logOf(dir);
  assert.deepEqual(logged, ['1@10 g1 1', '1@20 g2 2', '2@15 g1 3', '2@25 deleted', '2@35 g1 4']);
  for (const frame of [...frames].reverse()) await b.ship(frame);
  assert.deepEqual(await a.ship(...frames, ...frames), new Array(10).fill(0));
  assert.deepEqual(await logOf(dir), logged);
  await close();
  const again = await open(t, { dir });
  assert.deepEqual(await (await again.peer()).ship(...frames), [0, 0, 0, 0, 0]);
  assert.deepEqual(await logOf(dir), logged);
  assert.equal(again.listener.report().unseen, 0);
});

test('a write that comes after its delete does not bring the record back', async (t) => {
  const { dir, peer, close } = await open(t);
  const shipper = await peer();
  await shipper.ship(write({ record: 1, lutMs: T0 + 10 }), remove({ record: 1, lutMs: T0 + 30 }));
  await shipper.ship(write({ record: 1, lutMs: T0 + 20, generation: 2 }));
  assert.deepEqual(await logOf(dir), ['1@10 g1 0', '1@30 deleted']);
  await close();
  // deletes are remembered over a restart
  const again = await open(t, { dir });
  await (await again.peer()).ship(write({ record: 1, lutMs: T0 + 20, generation: 2 }));
  assert.deepEqual(await logOf(dir), ['1@10 g1 0', '1@30 deleted']);
  assert.equal(again.listener.report().counts.older, 1);
});

test('a delete that overtook its write: both are logged, each at its LUT', async (t) => {
  const { dir, peer, listener } = await open(t);
  const shipper = await peer();
  await shipper.ship(remove({ record: 1, lutMs: T0 + 30 }));
  assert.deepEqual(await logOf(dir), []);
  await shipper.ship(write({ record: 1, lutMs: T0 + 20, value: 9 }), write({ record: 1, lutMs: T0 + 10 }));
  assert.deepEqual(await logOf(dir), ['1@20 g1 9', '1@30 deleted']);
  assert.equal(listener.report().counts.older, 1);
  assert.equal(listener.report().counts.unknownDeletes, 1);
});

test('X9: a change that was never seen and comes after a later one is a gap; one that is sent again is none', async (t) => {
  const { dir, peer, listener, close } = await open(t);
  const [first, gone, second] = [
    write({ record: 1, lutMs: T0 + 10 }),
    remove({ record: 1, lutMs: T0 + 20 }),
    write({ record: 1, lutMs: T0 + 3000, value: 2 }),
  ];
  await (await peer()).ship(second, gone, first, second);
  assert.deepEqual(await logOf(dir), ['1@3000 g1 2']);
  assert.equal(listener.report().unseen, 2);
  const [gap, ...others] = listener.unseen.gaps;
  assert.deepEqual([gap.namespace, gap.sinceMs, gap.untilMs], ['test', T0 + 9, T0 + 3000]);
  assert.deepEqual(others, []);
  await close();
  const again = await open(t, { dir });
  assert.deepEqual(again.listener.unseen.gaps, [gap]);
});

test('versions of one ms are told apart by their generation; deleted and written again in one ms is a new record', async (t) => {
  const { dir, peer } = await open(t);
  const shipper = await peer();
  const lutMs = T0 + 10;
  await shipper.ship(
    write({ record: 1, lutMs, generation: 1 }),
    write({ record: 1, lutMs, generation: 3, value: 3 }),
    write({ record: 1, lutMs, generation: 2, value: 2 }),
    remove({ record: 1, lutMs }),
    write({ record: 1, lutMs, generation: 3, value: 3 }),
    write({ record: 1, lutMs, generation: 1, value: 7 }),
    remove({ record: 1, lutMs }),
  );
  assert.deepEqual(await logOf(dir), [
    '1@10 g1 0',
    '1@10 g3 3 lut 10 (10,10] missed 1',
    '1@10 deleted',
    '1@10 g1 7',
  ]);
});

test('what was not seen before a version is said: generations that jump or fall', async (t) => {
  const { dir, peer } = await open(t);
  await (await peer()).ship(
    write({ record: 1, lutMs: T0 + 10, generation: 4 }),
    write({ record: 1, lutMs: T0 + 20, generation: 9 }),
    write({ record: 1, lutMs: T0 + 30, generation: 2 }),
  );
  assert.deepEqual(await logOf(dir), [
    '1@10 g4 0 lut 10 (10,10] missed 3',
    '1@20 g9 0 lut 20 (20,20] missed 4',
    '1@30 g2 0 lut 30 (30,30] missed 2',
  ]);
});

test('monitors of transactions, other namespaces and other sets are acknowledged and not logged', async (t) => {
  const { dir, peer, listener } = await open(t, { source: { sets: ['s'] } });
  const codes = await (await peer()).ship(
    write({ record: 1, lutMs: T0 + 10, set: '<ERO~MRT' }),
    write({ record: 2, lutMs: T0 + 10, namespace: 'other' }),
    write({ record: 3, lutMs: T0 + 10, set: 't' }),
    remove({ record: 3, lutMs: T0 + 20, set: 't' }),
    write({ record: 4, lutMs: T0 + 10 }),
  );
  assert.deepEqual(codes, [0, 0, 0, 0, 0]);
  assert.deepEqual(await logOf(dir), ['4@10 g1 0']);
  const { counts } = listener.report();
  assert.equal(counts.monitors, 1);
  assert.equal(counts.leftOut, 3);
});

test('X3: what is not the whole image of a record is refused with a reason, and never logged', async (t) => {
  const { dir, peer, listener } = await open(t);
  const shipper = await peer();
  const fields = (record: number): Buffer[] => [
    field(0, utf8('test')),
    field(4, digestOf(record)),
    lutField(T0 + 10),
  ];
  const whole = { info1: 0x10, info2: 0x01, info3: 0, generation: 1, ttl: 0xffffffff };
  const one = [int('v', 1)];
  const cases: readonly (readonly [string, number, Buffer])[] = [
    ['a client writes', 22, message({ ...whole, info1: 0, fields: fields(1), ops: one })],
    ['a client reads', 22, message({ info1: 0x03, fields: fields(1) })],
    ['it reads', 16, message({ ...whole, info1: 0x11, fields: fields(1), ops: [read('v')] })],
    ['update only', 16, message({ ...whole, info3: 0x08, fields: fields(1), ops: one })],
    ['a condition', 16, message({ ...whole, info2: 0x05, fields: fields(1), ops: one })],
    ['no bins', 16, message({ ...whole, fields: fields(1) })],
    ['it adds', 16, message({ ...whole, fields: fields(1), ops: [op(5, 'v', 1, u64(1))] })],
    ['it removes a bin', 16, message({ ...whole, fields: fields(1), ops: [str('a', 'x'), nil('v')] })],
    ['keeps its ttl', 16, message({ ...whole, ttl: 0xfffffffe, fields: fields(1), ops: one })],
    ['a delete with ops', 4, message({ ...whole, info2: 0x03, fields: fields(1), ops: one })],
    ['generation 0', 4, message({ ...whole, generation: 0, fields: fields(1), ops: one })],
    ['generation 65536', 4, message({ ...whole, generation: 65_536, fields: fields(1), ops: one })],
    ['no digest', 4, message({ ...whole, fields: [field(0, utf8('test')), lutField(T0)], ops: one })],
    ['no namespace', 4, message({ ...whole, fields: fields(1).slice(1), ops: one })],
    ['no LUT', 4, message({ ...whole, fields: fields(1).slice(0, 2), ops: one })],
    [
      'a set that is no text',
      4,
      message({ ...whole, fields: [...fields(1), field(1, hex('ff'))], ops: one }),
    ],
    ['a short message', 4, Buffer.concat([header(3, 5), Buffer.alloc(5)])],
    [
      'a field that is longer than the message',
      4,
      Buffer.concat([
        header(3, 27),
        hex('16 10 11 10 00 00 00000001 ffffffff 00000000 0001 0000 ffffffff 00'),
      ]),
    ],
  ];
  for (const [what, code, frame] of cases) assert.deepEqual(await shipper.ship(frame), [code], what);
  assert.deepEqual(await logOf(dir), []);
  const { counts, refusals } = listener.report();
  assert.equal(counts.refused, cases.length);
  assert.equal(
    refusals.reduce((n, r) => n + r.count, 0),
    cases.length,
  );
  assert.ok(refusals.some((r) => /removes a bin/.test(r.why) && r.code === 16));
});

test('X8: a change that was refused is owed until the record comes again, also over a restart', async (t) => {
  const { dir, peer, listener, close } = await open(t);
  const shipper = await peer();
  const partial = message({
    info1: 0x10,
    info2: 0x01,
    generation: 2,
    ttl: 0xffffffff,
    fields: [field(0, utf8('test')), field(4, digestOf(1)), lutField(T0 + 20)],
    ops: [nil('v')],
  });
  assert.deepEqual(await shipper.ship(partial), [16]);
  assert.equal(listener.report().owed.records, 1);
  await close();
  const again = await open(t, { dir });
  assert.equal(again.listener.report().owed.first[0].lutMs, T0 + 20);
  const other = await again.peer();
  await other.ship(write({ record: 1, lutMs: T0 + 19, set: '' }));
  assert.equal(again.listener.report().owed.records, 1);
  await other.ship(write({ record: 1, lutMs: T0 + 20, set: '', generation: 2 }));
  assert.equal(again.listener.report().owed.records, 0);
});

test('updates are refused while the policy of bins is not known to ship all', async (t) => {
  const { peer, listener } = await open(t);
  const shipper = await peer();
  const update = message({
    info1: 0x10,
    info2: 0x01,
    generation: 1,
    ttl: 0xffffffff,
    fields: [field(0, utf8('test')), field(4, digestOf(1)), lutField(T0 + 20)],
    ops: [int('v', 1)],
  });
  listener.intake.trustUpdates('test', false);
  assert.deepEqual(await shipper.ship(update, write({ record: 2, lutMs: T0 + 20 })), [16, 0]);
  listener.intake.trustUpdates('test', true);
  assert.deepEqual(await shipper.ship(update), [0]);
  assert.equal(listener.report().owed.records, 0);
});

test('a void time is that of the clock and what remains, and does not wander when an update keeps it', async (t) => {
  const { dir, peer, clock } = await open(t);
  const shipper = await peer();
  await shipper.ship(write({ record: 1, lutMs: T0 + 10, ttlS: 100 }));
  // a second later 99 are left; the message came just after the next second began
  clock.step(2000);
  await shipper.ship(write({ record: 1, lutMs: T0 + 1010, ttlS: 99, generation: 2 }));
  await shipper.ship(write({ record: 1, lutMs: T0 + 1020, ttlS: 300, generation: 3 }));
  await shipper.ship(write({ record: 1, lutMs: T0 + 1030, generation: 4 }));
  const at = Math.floor((T0 + 1_000_000) / 1000);
  assert.deepEqual(
    (await readVersions(dir)).map((v) => v.voidTime),
    [at + 100, at + 100, at + 302, 0],
  );
});

test('a delete that does not say when has a window from the last version on', async (t) => {
  const { dir, peer, listener, clock } = await open(t);
  const shipper = await peer();
  const noLut = message({
    info1: 0x10,
    info2: 0x03,
    fields: [field(0, utf8('test')), field(1, utf8('s')), field(4, digestOf(1))],
  });
  assert.deepEqual(await shipper.ship(write({ record: 1, lutMs: T0 + 10 }), noLut), [0, 0]);
  const now = clock.nowMs() - T0;
  assert.deepEqual(await logOf(dir), ['1@10 g1 0', `1@${now} deleted lut ${now} (10,${now}] missed 0`]);
  assert.equal(listener.report().counts.deletesWithoutLut, 1);
});

test('X6: with no room for more log everything is answered with 11 at once; when the archive has caught up, it is taken', async (t) => {
  const { peer, listener, journal, dir } = await open(t, { quotaBytes: 20_000 });
  const shipper = await peer();
  let i = 0;
  let last: number[] = [0];
  while (last[0] === 0 && i < 2000) last = await shipper.ship(write({ record: i, lutMs: T0 + 10 + i++ }));
  assert.equal(last[0], 11);
  assert.match(listener.report().retryWhy ?? '', /no room/);
  const before = (await readVersions(dir)).length;
  assert.deepEqual(await shipper.ship(write({ record: 5000, lutMs: T0 + 5000 })), [11]);
  assert.equal((await readVersions(dir)).length, before);
  assert.equal(listener.isQuiet(60_000), false);
  // everything up to here is in the archive now
  await writeArchived(dir, { lsn: journal.lastLsn, sequence: 1 });
  await until(async () => (await shipper.ship(write({ record: 5000, lutMs: T0 + 5000 })))[0] === 0, 'room');
  assert.equal(listener.report().retryWhy, undefined);
});

test('X6: a closing listener answers 11 to what arrives, in order, and ends', async (t) => {
  const { peer, listener, dir } = await open(t);
  const shipper = await peer();
  assert.deepEqual(await shipper.ship(write({ record: 1, lutMs: T0 + 10 })), [0]);
  const closing = listener.close();
  shipper.send(write({ record: 2, lutMs: T0 + 20 }));
  await closing;
  await shipper.closed();
  const codes = await shipper.codes(1);
  assert.ok(codes.length === 0 || codes[0] === 11, `${codes}`);
  assert.deepEqual(await logOf(dir), ['1@10 g1 0']);
});

/** Files whose appends to the log wait for `before`, which may throw. */
const gated = (before: () => Promise<void>): Files =>
  Object.assign(Object.create(nodeFiles) as Files, {
    openSynced: async (path: string, bytes: number): Promise<SyncedFile> => {
      const file = await nodeFiles.openSynced(path, bytes);
      return {
        append: async (content) => {
          await before();
          await file.append(content);
        },
        close: () => file.close(),
      };
    },
  });

test('X1: after a log that could not be written nothing is acknowledged any more', async (t) => {
  const errors: unknown[] = [];
  let isFull = false;
  const files = gated(async () => {
    if (isFull) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
  });
  const { dir, peer, listener } = await open(t, { onError: (e) => errors.push(e), files });
  const shipper = await peer();
  assert.deepEqual(await shipper.ship(write({ record: 1, lutMs: T0 + 10 })), [0]);
  isFull = true;
  assert.deepEqual(
    await shipper.ship(write({ record: 2, lutMs: T0 + 20 }), write({ record: 3, lutMs: T0 + 20 })),
    [11, 11],
  );
  isFull = false;
  assert.deepEqual(await shipper.ship(write({ record: 2, lutMs: T0 + 20 })), [11]);
  assert.deepEqual(
    errors.map((e) => isPitrError(e, 'log-full')),
    [true],
  );
  assert.match(listener.report().retryWhy ?? '', /ENOSPC/);
  assert.deepEqual(await logOf(dir), ['1@10 g1 0']);
});

test('X1: no answer comes before the sync, and what arrives meanwhile shares the next', async (t) => {
  let appends = 0;
  let isHolding = false;
  let begun: () => void = () => undefined;
  let release: () => void = () => undefined;
  const isBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const files = gated(async () => {
    appends++;
    if (!isHolding) return;
    begun();
    await held;
  });
  const { peer } = await open(t, { files });
  const [a, b, c] = [await peer(), await peer(), await peer()];
  assert.deepEqual(await a.ship(write({ record: 1, lutMs: T0 + 10 })), [0]);
  isHolding = true;
  appends = 0;
  a.send(write({ record: 2, lutMs: T0 + 20 }));
  await isBegun;
  for (let i = 0; i < 10; i++) {
    b.send(write({ record: 10 + i, lutMs: T0 + 30 + i }));
    c.send(write({ record: 30 + i, lutMs: T0 + 30 + i }));
  }
  // long enough for an answer that does not wait, and for all of them to arrive
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual([a.waiting, b.waiting, c.waiting], [0, 0, 0]);
  isHolding = false;
  release();
  assert.deepEqual(await a.codes(1), [0]);
  assert.deepEqual(await b.codes(10), new Array(10).fill(0));
  assert.deepEqual(await c.codes(10), new Array(10).fill(0));
  assert.ok(appends <= 4, `${appends} appends for what shares one`);
});

test('who asks for a node is told of one, and security is off', async (t) => {
  const { peer } = await open(t);
  const shipper = await peer();
  const asked = utf8('build\nnode\npeers-clear-std\nnamespaces\nnonsense\n');
  shipper.send(Buffer.concat([header(1, asked.length), asked]));
  const length = (await shipper.bytes(8)).readUIntBE(2, 6);
  const lines = (await shipper.bytes(length)).toString().split('\n');
  assert.equal(lines[0], 'build\t8.1.2.0');
  assert.match(lines[1], /^node\t[0-9A-F]{16}$/);
  assert.match(lines[2], /^peers-clear-std\t1,\d+,\[\]$/);
  assert.equal(lines[3], 'namespaces\ttest');
  assert.equal(lines[4], 'nonsense\tERROR:4:unrecognized command');
  shipper.send(Buffer.concat([header(2, 16), hex('00 00 14 00'), Buffer.alloc(12)]));
  assert.equal(
    (await shipper.bytes(24)).toString('hex'),
    `0202000000000010 0034 ${'00'.repeat(14)}`.replaceAll(' ', ''),
  );
});

test('over TLS, with certificates on both sides, the same is taken; without one nothing is', async (t) => {
  const file = (name: string): Promise<Buffer> =>
    readFile(join(import.meta.dirname, '..', 'aerospike', 'tls', name));
  const [ca, cert, key] = await Promise.all(['ca.pem', 'server.pem', 'server.key'].map(file));
  const { listener, dir } = await open(t, { tls: { ca, cert, key } });
  const { port } = listener.address;
  const mine = { cert: await file('client.pem'), key: await file('client.key') };
  const [good, bad] = [mine, {}].map((own) =>
    Shipper.over(tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...own })),
  );
  t.after(() => good.close());
  assert.deepEqual(await good.ship(write({ record: 1, lutMs: T0 + 10 })), [0]);
  bad.send(write({ record: 2, lutMs: T0 + 10 }));
  await bad.closed();
  assert.deepEqual(await logOf(dir), ['1@10 g1 0']);
});

test('compressed messages are read as those within them', async (t) => {
  const { dir, peer } = await open(t);
  const codes = await (await peer()).ship(
    compressedFrame(write({ record: 1, lutMs: T0 + 10, value: 5 })),
    Buffer.concat([header(4, 20), Buffer.alloc(20, 1)]),
    write({ record: 2, lutMs: T0 + 11 }),
  );
  assert.deepEqual(codes, [0, 4, 0]);
  const [first] = await readVersions(dir);
  assert.equal(Buffer.from(first.image ?? []).toString('hex'), imageHex(5));
});

test('X7: frames that cannot be told apart, half messages, silence and too many peers end at themselves', async (t) => {
  const { listener, peer } = await open(t, { stallMs: 200, connectionsMax: 4 });
  const mute = await peer();
  const [garbage, half, silent] = [await peer(), await peer(), await peer()];
  const surplus = await peer();
  await surplus.closed();
  garbage.send(write({ record: 1, lutMs: T0 + 10 }), hex('03 03 000000000016'), Buffer.alloc(22));
  assert.deepEqual(await garbage.codes(1), [0]);
  await garbage.closed();
  const huge = await peer();
  huge.send(hex('02 03 ffffffffffff'));
  await huge.closed();
  half.send(write({ record: 2, lutMs: T0 + 10 }).subarray(0, 60));
  await Promise.all([half.closed(), silent.closed(), mute.closed()]);
  await until(() => listener.report().connections === 0, 'all are gone');
  const other = await peer();
  assert.deepEqual(await other.ship(write({ record: 3, lutMs: T0 + 10 })), [0]);
  // between its messages a peer may be silent
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.deepEqual(await other.ship(write({ record: 4, lutMs: T0 + 10 })), [0]);
});

test('what is logged is sealed for the archiver although no frontier moves', async (t) => {
  const { dir, journal, peer } = await open(t);
  const shipper = await peer();
  await shipper.ship(write({ record: 1, lutMs: T0 + 10 }));
  assert.equal(journal.isSealed, false);
  await until(() => journal.isSealed, 'the log is sealed');
  assert.equal(journal.frontierTs, T0);
  const archiver = await Archiver.open(dir);
  t.after(() => archiver.close());
  await archiver.round();
  assert.deepEqual([archiver.head.frontier.ts, archiver.head.frontier.lsn], [T0, 1]);
  await shipper.ship(write({ record: 2, lutMs: T0 + 20 }), remove({ record: 1, lutMs: T0 + 30 }));
  await until(() => journal.isSealed, 'the log is sealed again');
  await archiver.round();
  assert.deepEqual([archiver.head.frontier.ts, archiver.head.frontier.lsn], [T0, 3]);
});

test('partitions are not handed over: what was acknowledged is not shipped to the next owner', async (t) => {
  const { journal } = await open(t);
  assert.throws(
    () => journal.release(PartitionSet.parse('0-9'), 'other'),
    (error) => isPitrError(error, 'usage'),
  );
});

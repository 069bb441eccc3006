/** Peers that are clumsy or worse: the server stays up, within its memory, and serves others meanwhile. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Endpoint } from './endpoint.ts';
import {
  digestOf,
  field,
  frame,
  GET_ALL,
  hex,
  int,
  message,
  op,
  PARTITION_DONE,
  READ,
  u64,
  utf8,
  WRITE,
} from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

/** What peers may make the server hold beside what it has when nobody asks: its code, and the cache of its store. */
const ANONYMOUS_BYTES_MAX = 256 * 1024 * 1024;

let endpoint: Endpoint;
let idleBytes: number;
let wire: WireConnection;
before(async () => {
  endpoint = await Endpoint.start({ stallMs: 1000 });
  wire = await open();
  await othersAreServed();
  idleBytes = endpoint.anonymousBytes;
});
after(() => endpoint.close());

const open = (): Promise<WireConnection> => WireConnection.open('127.0.0.1', endpoint.port);
const raw = async (port = endpoint.port): Promise<Socket> => {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.on('error', () => undefined);
  return socket;
};
const fields = (key: number): Buffer[] => [
  field(0, utf8('test')),
  field(1, utf8('s')),
  field(4, digestOf('s', 1, u64(key))),
];
const put = (key: number, ops: readonly Buffer[]): Buffer =>
  message({ info2: WRITE, fields: fields(key), ops });
const get = (key: number): Buffer => message({ info1: READ | GET_ALL, fields: fields(key) });
const othersAreServed = async (): Promise<void> => {
  assert.equal((await wire.call(put(0, [int('a', 1)]))).code, 0);
  assert.deepEqual((await wire.call(get(0))).ops, ['1 a 1:0000000000000001']);
};
const isWithinMemory = ({ anonymousBytes } = endpoint): void => {
  const bytes = anonymousBytes - idleBytes;
  assert.ok(bytes < ANONYMOUS_BYTES_MAX, `${Math.round(bytes / 2 ** 20)} MiB`);
};
/** Waits for what must come, or for the test's own end. */
const until = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) {
    assert.equal(endpoint.hasEnded, false, 'the server ended');
    await sleep(20);
  }
};

test('10,000 requests in one piece are answered in order', async () => {
  const own = await open();
  const requests: Buffer[] = [];
  for (let i = 0; i < 5000; i++) requests.push(put(7, [int('a', i)]), get(7));
  own.send(Buffer.concat(requests));
  for (let i = 0; i < 5000; i++) {
    assert.deepEqual([(await own.reply()).generation], [i + 1]);
    assert.deepEqual((await own.reply()).ops, [`1 a 1:${u64(i).toString('hex')}`]);
  }
  own.close();
});

test('2,000 connections are open at a time, most of them with half a request, and those that finish it are answered', async () => {
  const sockets = await Promise.all(Array.from({ length: 2000 }, () => raw()));
  const request = put(1, [int('a', 1)]);
  for (const socket of sockets) socket.write(request.subarray(0, 50));
  await othersAreServed();
  isWithinMemory();
  const finishing = sockets.slice(0, 100);
  const answers = finishing.map((socket) => once(socket, 'data') as Promise<[Buffer]>);
  for (const socket of finishing) socket.write(request.subarray(50));
  for (const [answer] of await Promise.all(answers)) assert.equal(answer[13], 0);
  // those that stay half are left: the stall of this server is a second
  const closed = sockets.slice(100, 200).map((socket) => once(socket, 'close'));
  await Promise.all(closed);
  for (const socket of sockets) socket.destroy();
  await othersAreServed();
});

test('frames too large, of no type or no version end their connection before anything is held for them', async () => {
  for (const bytes of ['0203ffffffffffff', '0203000008000001', '0209000000000000', '4745', '160300']) {
    const socket = await raw();
    const closed = once(socket, 'close');
    socket.resume();
    socket.write(Buffer.from(bytes, 'hex'));
    await closed;
  }
  await othersAreServed();
});

test('headers without end are each refused, and the peer waits for its answers', async () => {
  const socket = await raw();
  let answered = 0;
  socket.on('data', (chunk: Buffer) => {
    answered += chunk.length;
  });
  const empty = Buffer.concat(Array.from({ length: 50_000 }, () => frame(3, Buffer.alloc(0))));
  socket.write(empty);
  await until(() => answered === 50_000 * 30);
  socket.destroy();
  await othersAreServed();
});

test('large requests that come in part from many are not all held', async () => {
  const sockets = await Promise.all(Array.from({ length: 40 }, () => raw()));
  let closed = 0;
  for (const socket of sockets)
    socket.on('close', () => {
      closed++;
    });
  const head = Buffer.from('0203000000ffffff', 'hex');
  for (const socket of sockets) socket.write(Buffer.concat([head, Buffer.alloc(12 * 1024 * 1024)]));
  await until(() => closed > 0);
  await othersAreServed();
  isWithinMemory();
  for (const socket of sockets) socket.destroy();
});

describe('readers that stop', () => {
  before(async () => {
    for (let key = 100; key < 200; key++)
      assert.equal((await wire.call(put(key, [op(2, 'b', 4, Buffer.alloc(200_000, key))]))).code, 0);
  });

  test('of pipelined reads: the server holds little, and answers the rest when they go on', async () => {
    const socket = await raw();
    socket.pause();
    const requests = Buffer.concat(Array.from({ length: 2000 }, (_, i) => get(100 + (i % 100))));
    socket.write(requests);
    await sleep(300);
    await othersAreServed();
    isWithinMemory();
    let bytes = 0;
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
    });
    socket.resume();
    const each = 8 + 22 + 4 + 4 + 1 + 200_000;
    await until(() => bytes === 2000 * each);
    socket.destroy();
  });

  test('of scans, 64 at a time: others are served, and a 65th is refused with 22', async (t) => {
    // one that has patience
    const patient = await Endpoint.start();
    t.after(() => patient.close());
    const other = await WireConnection.open('127.0.0.1', patient.port);
    for (let key = 0; key < 100; key++)
      assert.equal((await other.call(put(key, [op(2, 'b', 4, Buffer.alloc(200_000, key))]))).code, 0);
    const partitions = Buffer.alloc(8192);
    for (let p = 0; p < 4096; p++) partitions.writeUInt16LE(p, 2 * p);
    const scan = (n: number): Buffer =>
      message({
        info1: READ,
        info3: PARTITION_DONE,
        fields: [field(0, utf8('test')), field(7, u64(n)), field(11, partitions)],
      });
    const sockets = await Promise.all(Array.from({ length: 64 }, () => raw(patient.port)));
    for (const [i, socket] of sockets.entries()) {
      socket.pause();
      socket.write(scan(i + 1));
    }
    const active = async (): Promise<number> =>
      (await other.info('query-show'))[0].split(';').filter((line) => line.includes('status=active')).length;
    while ((await active()) < 64) await sleep(20);
    assert.equal((await other.call(scan(1000))).code, 22);
    assert.equal((await other.call(get(1))).code, 0);
    isWithinMemory(patient);
    // whoever goes makes room
    for (const socket of sockets) socket.destroy();
    while ((await active()) > 0) await sleep(20);
    other.close();
  });

  test('of pipelined reads, 120 of them: those who hold most are left, others are served', async () => {
    const sockets = await Promise.all(Array.from({ length: 120 }, () => raw()));
    for (const socket of sockets) {
      socket.pause();
      socket.write(Buffer.concat(Array.from({ length: 40 }, (_, i) => get(100 + i))));
    }
    await othersAreServed();
    // whose socket is paused does not hear that it was closed: but the server tells
    const connections = async (): Promise<number> =>
      Number(/client_connections=(\d+)/.exec((await wire.info('statistics'))[0])?.[1]);
    while ((await connections()) === 121) await sleep(20);
    isWithinMemory();
    await othersAreServed();
    for (const socket of sockets) socket.destroy();
  });

  test('for good: the server leaves them', async () => {
    const socket = await raw();
    socket.pause();
    socket.write(Buffer.concat(Array.from({ length: 2000 }, (_, i) => get(100 + (i % 100)))));
    const connections = async (): Promise<number> =>
      Number(/client_connections=(\d+)/.exec((await wire.info('statistics'))[0])?.[1]);
    while ((await connections()) > 1) await sleep(50);
    socket.destroy();
  });
});

describe('work that would hold up everybody is refused with 16', () => {
  test('a regular expression of many states on a long string', async () => {
    const text = randomBytes(20_000).map((byte) => 97 + (byte & 1));
    assert.equal((await wire.call(put(77, [op(2, 's', 3, text)]))).code, 0);
    const pattern = utf8('(a|b)*a(a|b){3000}c');
    const filter = Buffer.concat([
      hex('94 07 01'),
      Uint8Array.of(0xa0 + pattern.length),
      pattern,
      hex('93 51 03 a1 73'),
    ]);
    const asked = message({ info1: READ | GET_ALL, fields: [...fields(77), field(43, filter)] });
    wire.send(asked);
    assert.equal((await wire.reply()).code, 16);
    const partitions = Buffer.alloc(8192);
    for (let p = 0; p < 4096; p++) partitions.writeUInt16LE(p, 2 * p);
    const scanFields = [
      field(0, utf8('test')),
      field(1, utf8('s')),
      field(11, partitions),
      field(43, filter),
    ];
    const frames = await wire.frames(
      message({ info1: READ | GET_ALL, info3: PARTITION_DONE, fields: scanFields }),
    );
    assert.equal(frames.flat().at(-1)?.code, 16, 'a scan ends with it, and leaves nothing out silently');
    await othersAreServed();
  });

  test('hundreds of operations on a large list', async () => {
    const list = Buffer.concat([hex('dc ff ff'), Buffer.alloc(65_535, 5)]);
    assert.equal((await wire.call(put(78, [op(2, 'l', 20, list)]))).code, 0);
    // get by rank
    const ask = op(3, 'l', 4, hex('93 15 07 64'));
    const many = (n: number): Buffer =>
      message({ info1: READ, fields: fields(78), ops: Array.from({ length: n }, () => ask) });
    assert.equal((await wire.call(many(3))).code, 0);
    assert.equal((await wire.call(many(300))).code, 16);
    await othersAreServed();
  });
});

test('peers that go in the middle of anything disturb nobody', async () => {
  const request = put(3, [op(2, 'b', 4, Buffer.alloc(50_000))]);
  for (let i = 0; i < 50; i++) {
    const socket = await raw();
    socket.write(Buffer.concat([request, request.subarray(0, 1 + i * 900)]));
    if (i % 2 === 0) socket.resetAndDestroy();
    else socket.destroy();
  }
  await othersAreServed();
  isWithinMemory();
});

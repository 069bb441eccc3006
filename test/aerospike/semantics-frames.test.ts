/** Frames and connections: pipelining, compression, any chunking, and peers that are clumsy or worse. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { deflateSync } from 'node:zlib';
import { existsOf, getOf, putOf, Subject, seen } from './subject.ts';
import { COMPRESSED, frame, hex, int, MSG, message, op, READ, u32, u64, utf8 } from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

describe('frames', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  /** That the server still answers others. */
  const others = async () => assert.equal((await wire.info('status'))[0], 'ok');

  describe('pipelined', () => {
    test('500 writes in one piece are answered in order', async () => {
      const record = subject.fresh();
      wire.send(Buffer.concat(Array.from({ length: 500 }, (_, i) => putOf(record, [int('a', i)]))));
      const generations = [];
      for (let i = 0; i < 500; i++) generations.push((await wire.reply()).generation);
      assert.deepEqual(
        generations,
        Array.from({ length: 500 }, (_, i) => i + 1),
      );
      assert.deepEqual(seen(await wire.call(getOf(record))), [0, 500, '1 a 1:00000000000001f3']);
    });

    test('reads behind writes of the same connection see them', async () => {
      const records = Array.from({ length: 50 }, () => subject.fresh());
      wire.send(Buffer.concat(records.flatMap((r, i) => [putOf(r, [int('a', i)]), getOf(r)])));
      for (let i = 0; i < 50; i++) {
        assert.deepEqual(seen(await wire.reply()), [0, 1]);
        assert.deepEqual(seen(await wire.reply()), [0, 1, `1 a 1:${u64(i).toString('hex')}`]);
      }
    });

    test('commands in text and messages are answered in the order in which they came', async () => {
      const record = subject.fresh();
      wire.send(Buffer.concat([putOf(record, [int('a', 1)]), frame(1, utf8('status\n')), existsOf(record)]));
      assert.deepEqual(seen(await wire.reply()), [0, 1]);
      assert.equal((await wire.receive())!.body.toString(), 'status\tok\n');
      assert.deepEqual(seen(await wire.reply()), [0, 1]);
    });
  });

  test('a message may come byte by byte', async () => {
    const record = subject.fresh();
    for (const byte of putOf(record, [int('a', 1)])) {
      wire.send(Uint8Array.of(byte));
      await sleep(0);
    }
    assert.deepEqual(seen(await wire.reply()), [0, 1]);
  });

  describe('compressed', () => {
    const compressed = (whole: Buffer, size = whole.length): Buffer =>
      frame(COMPRESSED, Buffer.concat([u64(size), deflateSync(whole)]));

    /** Community Edition has no compression, refuses such a request with 25, and goes on. */
    const lacking = async (): Promise<boolean> =>
      subject.foreign && (await wire.call(compressed(existsOf(subject.fresh())))).code === 25;

    test('a request is answered like any other, and plainly', async (t) => {
      if (await lacking()) return t.skip('this server has no compression');
      const record = subject.fresh();
      const put = putOf(record, [op(2, 'a', 4, Buffer.alloc(100_000, 7))]);
      assert.deepEqual(seen(await wire.call(compressed(put))), [0, 1]);
      assert.deepEqual(seen(await wire.call(compressed(getOf(record)))), [
        0,
        1,
        `1 a 4:${Buffer.alloc(100_000, 7).toString('hex')}`,
      ]);
    });

    test('among others it keeps its place', async (t) => {
      if (await lacking()) return t.skip('this server has no compression');
      const record = subject.fresh();
      wire.send(
        Buffer.concat([
          putOf(record, [int('a', 1)]),
          compressed(putOf(record, [int('a', 2)])),
          getOf(record),
        ]),
      );
      assert.deepEqual(seen(await wire.reply()), [0, 1]);
      assert.deepEqual(seen(await wire.reply()), [0, 2]);
      assert.deepEqual(seen(await wire.reply()), [0, 2, '1 a 1:0000000000000002']);
    });

    const broken: Record<string, () => Buffer> = {
      'whose size is not the one told': () => compressed(existsOf(subject.fresh()), 30),
      'that is no zlib stream': () => frame(COMPRESSED, Buffer.concat([u64(100), Buffer.alloc(50, 0x55)])),
      'that ends early': () => {
        const whole = existsOf(subject.fresh());
        return frame(COMPRESSED, Buffer.concat([u64(whole.length), deflateSync(whole).subarray(0, -8)]));
      },
      'that claims 2^60 bytes': () => compressed(existsOf(subject.fresh()), 2 ** 60),
    };
    for (const [name, bytes] of Object.entries(broken)) {
      test(`one ${name} is refused or ends its connection, and no other`, async () => {
        const own = await WireConnection.open(subject.host, subject.port);
        own.send(bytes());
        const received = await own.receive();
        if (received) assert.notEqual(received.body[5], 0);
        own.close();
        await others();
      });
    }
  });

  describe('broken', () => {
    const ending: Record<string, Buffer> = {
      'of another version': hex('0103000000000016'),
      'of a type that does not exist': hex('0209000000000000'),
      'larger than 128 MiB': hex('0203000008000001'),
      'larger than can be': hex('0203ffffffffffff'),
    };
    for (const [name, bytes] of Object.entries(ending)) {
      test(`a frame ${name} ends its connection, and no other`, async () => {
        const own = await WireConnection.open(subject.host, subject.port);
        own.send(Buffer.concat([bytes, Buffer.alloc(64)]));
        assert.equal(await own.receive(), undefined);
        own.close();
        await others();
      });
    }

    const refused: Record<string, Buffer> = {
      'shorter than its header': frame(MSG, Buffer.alloc(10)),
      'whose header claims another size': frame(MSG, Buffer.alloc(22)),
      'with a field that claims 4 GiB': message({
        info1: READ,
        fields: [Buffer.concat([u32(0xffffffff), hex('00')])],
      }),
      'with a field of no byte': message({ info1: READ, fields: [u32(0)] }),
      'with an operation whose name is longer than it': message({
        info1: READ,
        fields: subject.fresh().fields,
        ops: [hex('00000005 01 00 00 ff 61')],
      }),
      'with an operation that claims 4 GiB': message({
        info1: READ,
        fields: subject.fresh().fields,
        ops: [hex('ffffffff 01 00 00 01 61')],
      }),
    };
    for (const [name, bytes] of Object.entries(refused)) {
      test(`a message ${name} is refused or ends its connection, and no other`, async () => {
        const own = await WireConnection.open(subject.host, subject.port);
        own.send(bytes);
        const received = await own.receive();
        if (received) assert.notEqual(received.body[5], 0);
        own.close();
        await others();
      });
    }

    test('half a message and then the end ends its connection', async () => {
      const own = await WireConnection.open(subject.host, subject.port);
      own.send(putOf(subject.fresh(), [int('a', 1)]).subarray(0, 40));
      own.end();
      assert.equal(await own.receive(), undefined);
      own.close();
      await others();
    });

    test('a peer that goes while its replies are on their way disturbs nobody', async () => {
      const record = subject.fresh();
      await wire.call(putOf(record, [op(2, 'a', 4, Buffer.alloc(500_000))]));
      for (let i = 0; i < 5; i++) {
        const own = await WireConnection.open(subject.host, subject.port);
        own.send(Buffer.concat(Array.from({ length: 20 }, () => getOf(record))));
        await own.receive();
        own.close();
      }
      await others();
    });
  });

  test('200 connections are open at a time, and each is answered', async () => {
    const connections = await Promise.all(
      Array.from({ length: 200 }, () => WireConnection.open(subject.host, subject.port)),
    );
    const record = subject.fresh();
    await wire.call(putOf(record, [int('a', 1)]));
    const codes = await Promise.all(connections.map(async (c) => (await c.call(existsOf(record))).code));
    assert(codes.every((code) => code === 0));
    for (const connection of connections) connection.close();
  });

  test('a login is answered with 51, as by a server without security, or 52', async () => {
    const own = await subject.connect();
    own.send(frame(2, Buffer.concat([hex('00 00 14 00'), Buffer.alloc(12)])));
    const reply = await own.receive();
    assert.equal(reply?.type, 2);
    assert.equal(reply.body.length, 16);
    assert([51, 52].includes(reply.body[1]!), `${reply.body[1]}`);
  });
});

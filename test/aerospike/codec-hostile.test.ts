import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { BatchView } from '../../engine/aerospike/batch.ts';
import { inflateBody } from '../../engine/aerospike/compressed.ts';
import { FieldId } from '../../engine/aerospike/field.ts';
import { parseInfoRequest } from '../../engine/aerospike/info.ts';
import { MessageView } from '../../engine/aerospike/message.ts';
import { queryPartitions } from '../../engine/aerospike/partition-query.ts';
import { FrameReader } from '../../engine/aerospike/proto.ts';
import { parseSecurity } from '../../engine/aerospike/security.ts';
import { PitrError } from '../../engine/errors.ts';
import { BATCH, bytes, compressedPut, DIGEST_HEX, GET, GOT, LOGIN, PUT, SCANNED } from './golden-bytes.ts';

const isMalformed = (error: unknown): boolean => error instanceof PitrError && error.id === 'wire-malformed';
const refused = (body: () => unknown): void => assert.throws(body, isMalformed);

/** Reads a body to its last byte, as the one who gets it would. */
const readAll = (type: number, body: Buffer): void => {
  if (type === 1) parseInfoRequest(body);
  else if (type === 2) parseSecurity(body);
  else {
    const m = new MessageView();
    const batch = new BatchView();
    const data = type === 4 ? inflateBody(body) : body;
    for (let at = 0; at < data.length; ) {
      at = m.parse(data, at);
      while (m.nextOp()) Buffer.from(m.opValue);
      const rows = m.field(FieldId.batch);
      if (!rows) continue;
      batch.parse(rows);
      while (batch.next()) while (batch.row.nextOp()) Buffer.from(batch.row.opValue);
    }
  }
};
const ALL = { PUT, GET, GOT, SCANNED, BATCH, LOGIN, compressed: compressedPut() };

describe('a stream in any chunks gives the same frames', () => {
  const stream = Buffer.concat([
    PUT,
    bytes('02 01 000000000000'),
    Buffer.concat([bytes('02 03 000000030d40'), Buffer.alloc(200_000, 1)]),
    SCANNED,
    LOGIN,
  ]);
  const whole = (() => {
    const reader = new FrameReader();
    reader.push(stream);
    const frames: string[] = [];
    while (reader.next()) frames.push(`${reader.type} ${reader.body.toString('hex')}`);
    return frames;
  })();

  test('cut at drawn places, taken at once or later (fast-check prints its seed)', () => {
    assert.equal(whole.length, 6);
    const cuts = fc.array(fc.oneof(fc.nat(300), fc.nat(stream.length)), { maxLength: 40 });
    fc.assert(
      fc.property(cuts, fc.boolean(), (places, later) => {
        const reader = new FrameReader();
        const frames: string[] = [];
        const drain = (): void => {
          while (reader.next()) frames.push(`${reader.type} ${reader.body.toString('hex')}`);
        };
        let at = 0;
        for (const cut of [...places, stream.length].sort((a, b) => a - b)) {
          reader.push(stream.subarray(at, cut));
          at = cut;
          if (!later) drain();
        }
        drain();
        assert.deepEqual(frames, whole);
        assert.ok(reader.isBetweenFrames);
      }),
      { numRuns: 200 },
    );
  });

  test('one byte at a time', () => {
    const reader = new FrameReader();
    const small = Buffer.concat([PUT, SCANNED, LOGIN]);
    let frames = 0;
    for (const byte of small) {
      reader.push(Buffer.of(byte));
      while (reader.next()) frames++;
    }
    assert.equal(frames, 4);
    reader.push(PUT.subarray(0, 3));
    assert.equal(reader.next(), false);
    assert.equal(reader.isBetweenFrames, false);
  });

  test('a body within one chunk is not copied (A2)', () => {
    const reader = new FrameReader();
    const chunk = Buffer.from(PUT);
    reader.push(chunk);
    assert.ok(reader.next());
    chunk[chunk.length - 1] = 9;
    assert.equal(reader.body.at(-1), 9);
  });
});

describe('what is cut or changed is refused, or read; nothing else happens (A4)', () => {
  for (const [name, frame] of Object.entries(ALL)) {
    const body = frame.subarray(8, 8 + frame.readUInt32BE(4));
    test(`${name}, cut at every byte`, () => {
      for (let cut = 1; cut < body.length; cut++) {
        // a scan's chunk may be cut between two messages
        if (name === 'SCANNED' && cut === body.length - 22) continue;
        refused(() => readAll(frame[1], body.subarray(0, cut)));
      }
    });

    test(`${name}, every bit changed`, () => {
      let reads = 0;
      for (let at = 0; at < body.length; at++)
        for (let bit = 0; bit < 8; bit++) {
          const changed = Buffer.from(body);
          changed[at] ^= 1 << bit;
          try {
            readAll(frame[1], changed);
            reads++;
          } catch (error) {
            if (!isMalformed(error)) throw error;
          }
        }
      // most of the bytes are values, in which nothing can be wrong; a compressed one has a checksum, and five bits of padding
      assert.ok(name === 'compressed' ? reads === 5 : reads > 0, `${reads} were read`);
    });
  }

  test('a byte too many', () => {
    const m = new MessageView();
    refused(() => m.parseWhole(Buffer.concat([PUT.subarray(8), Buffer.of(0)])));
    refused(() => parseSecurity(Buffer.concat([LOGIN.subarray(8), Buffer.of(0)])));
    const rows = BATCH.subarray(8 + 22 + 5);
    refused(() => {
      const batch = new BatchView();
      batch.parse(Buffer.concat([rows, Buffer.of(0)]));
      while (batch.next());
    });
  });
});

describe('bounds hold before anything is allocated (A1)', () => {
  const header = (hex: string): FrameReader => {
    const reader = new FrameReader();
    reader.push(bytes(hex));
    return reader;
  };

  test('a header of another version, type or size is refused at its bytes', () => {
    refused(() => header('03').next());
    refused(() => header('47 45 54 20 2f').next());
    refused(() => header('02 05 000000000000').next());
    refused(() => header('02 00 000000000000').next());
    refused(() => header('02 03 ffffffffffff').next());
    refused(() => header('02 03 000008000001').next());
    assert.equal(header('02 03 000008000000').next(), false);
    const small = new FrameReader({ bodyBytesMax: 100 });
    small.push(bytes('02 01 000000000065'));
    refused(() => small.next());
  });

  test('a header that promises 128 MiB does not take them', () => {
    const before = process.memoryUsage().arrayBuffers;
    const readers = Array.from({ length: 100 }, () => header('02 03 000008000000 00'));
    for (const reader of readers) assert.equal(reader.next(), false);
    const taken = process.memoryUsage().arrayBuffers - before;
    assert.ok(taken < 100 * 128 * 1024, `${taken} bytes for 100 peers`);
    assert.ok(readers.every((r) => r.buffered === 1));
  });

  test('a compressed frame may not hold more than it says, nor say more than the bound', () => {
    const bomb = deflateSync(Buffer.alloc(50_000_000));
    const of = (size: number, stream: Buffer): Buffer => {
      const head = Buffer.alloc(8);
      head.writeBigUInt64BE(BigInt(size));
      return Buffer.concat([head, stream]);
    };
    refused(() => inflateBody(of(1000, bomb)));
    refused(() => inflateBody(of(50_000_000, bomb)));
    refused(() => inflateBody(of(2 ** 40, bomb)));
    refused(() => inflateBody(of(PUT.length, deflateSync(PUT)), 50));
    refused(() => inflateBody(of(PUT.length + 1, deflateSync(PUT))));
    // a frame of info inside
    const info = bytes('02 01 000000000000');
    refused(() => inflateBody(of(info.length, deflateSync(info))));
    assert.equal(inflateBody(of(PUT.length, deflateSync(PUT))).length, PUT.length - 8);
  });

  test('rows and commands are counted first', () => {
    const batch = new BatchView();
    refused(() => batch.parse(bytes('ffffffff 00')));
    refused(() => batch.parse(bytes('00000001 00')));
    batch.parse(bytes('00000000 00'));
    assert.equal(batch.next(), false);
    // the first row repeats nothing
    batch.parse(bytes(`00000001 00 00000000 ${DIGEST_HEX} 01`));
    refused(() => batch.next());
    refused(() => parseInfoRequest(Buffer.from('x\n'.repeat(1025))));
  });

  test('a scan names each partition once, and some', () => {
    const scan = (fields: string, n: number): MessageView => {
      const m = new MessageView();
      m.parseWhole(bytes(`16 01 00 04 00 00 00000000 00000000 00000000 000${n} 0000 ${fields}`));
      return m;
    };
    const code = (fields: string, n: number): unknown => {
      try {
        return queryPartitions(scan(fields, n));
      } catch (error) {
        assert.ok(isMalformed(error));
        return (error as PitrError).facts.result;
      }
    };
    assert.equal(code('', 0), 16);
    assert.equal(code('00000005 0b 0100 0100', 1), 4);
    assert.equal(code('00000003 0b 0010', 1), 4);
    assert.equal(code('00000002 0b 00', 1), 4);
    // a digest stands for its partition: b7f4… is of 0x4b7
    assert.equal(code(`00000003 0b b704 00000015 0c ${DIGEST_HEX}`, 2), 4);
    assert.equal((code(`00000003 0b b604 00000015 0c ${DIGEST_HEX}`, 2) as unknown[]).length, 2);
  });
});

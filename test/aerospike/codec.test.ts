import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  BatchView,
  beginBatch,
  endBatch,
  writeBatchRepeat,
  writeBatchRow,
} from '../../engine/aerospike/batch.ts';
import { Info1, Info2, Info3 } from '../../engine/aerospike/bits.ts';
import {
  formatAddresses,
  formatPeers,
  formatReplicas,
  parsePeers,
  parseReplicas,
} from '../../engine/aerospike/cluster-text.ts';
import { deflateFrame, inflateBody } from '../../engine/aerospike/compressed.ts';
import { fromWireVoidTime, toWireVoidTime } from '../../engine/aerospike/epoch.ts';
import { FieldId } from '../../engine/aerospike/field.ts';
import {
  infoReply,
  infoRequest,
  parseInfoError,
  parseInfoReply,
  parseInfoRequest,
} from '../../engine/aerospike/info.ts';
import { MessageView } from '../../engine/aerospike/message.ts';
import { MessageWriter } from '../../engine/aerospike/message-writer.ts';
import { OpId } from '../../engine/aerospike/operation.ts';
import { queryPartitions, writeQueryPartitions } from '../../engine/aerospike/partition-query.ts';
import { FrameReader, ProtoType } from '../../engine/aerospike/proto.ts';
import {
  parseSecurity,
  SecurityCommand,
  SecurityField,
  securityFrame,
} from '../../engine/aerospike/security.ts';
import { digestOf } from '../../engine/partition.ts';
import { BATCH, bytes, compressedPut, DIGEST_HEX, GET, GOT, LOGIN, PUT, SCANNED } from './golden-bytes.ts';

const DIGEST = bytes(DIGEST_HEX);
const ONE = bytes('0000000000000001');

const framesOf = (stream: Buffer): { type: number; body: Buffer }[] => {
  const reader = new FrameReader();
  reader.push(stream);
  const frames = [];
  while (reader.next()) frames.push({ type: reader.type, body: reader.body });
  assert.ok(reader.isBetweenFrames);
  return frames;
};
const bodyOf = (frame: Buffer): Buffer => framesOf(frame)[0].body;
const hex = (b: Uint8Array | undefined): string | undefined => b && Buffer.from(b).toString('hex');
const messageOf = (frame: Buffer): MessageView => {
  const view = new MessageView();
  view.parseWhole(bodyOf(frame));
  return view;
};
const opsOf = (m: MessageView): string[] => {
  const ops = [];
  while (m.nextOp()) ops.push(`${m.op}/${m.opType}/${m.opName}/${hex(m.opValue)}`);
  return ops;
};

test('a reader that gives chunks back leaves bodies that were kept as they are', () => {
  const reader = new FrameReader({ ownsChunks: true });
  const kept: Buffer[] = [];
  // two whole frames in a chunk, and one that goes on in the next
  const chunk = (): Buffer => {
    const stream = Buffer.concat(Array.from({ length: 20_000 / PUT.length + 2 }, () => PUT));
    const own = Buffer.from(new ArrayBuffer(20_000));
    stream.copy(own, 0, 0, 20_000);
    return own;
  };
  reader.push(chunk());
  let frames = 0;
  while (reader.next()) if (frames++ < 2) kept.push(reader.keep());
  reader.push(Buffer.from(PUT.subarray(20_000 % PUT.length)));
  assert.ok(reader.next());
  kept.push(reader.keep());
  // one of which nothing is kept is gone at once
  const gone = chunk();
  reader.push(gone);
  while (reader.next());
  assert.equal(gone.length, 0);
  assert.deepEqual(
    kept.map((body) => hex(body)),
    Array.from(kept, () => hex(bodyOf(PUT))),
  );
});

describe('bytes from the reference are read as what they are', () => {
  test('a write', () => {
    const m = messageOf(PUT);
    assert.deepEqual([m.info1, m.info2, m.info3, m.info4, m.result], [0, Info2.write, 0, 0, 0]);
    assert.deepEqual([m.generation, m.recordTtl, m.transactionTtl], [0, 0, 1000]);
    assert.equal(m.fieldText(FieldId.namespace), 'test');
    assert.equal(m.fieldText(FieldId.set), 'demo');
    assert.equal(hex(m.field(FieldId.digest)), DIGEST_HEX);
    assert.equal(m.has(FieldId.key), false);
    assert.deepEqual(opsOf(m), ['2/1/a/0000000000000001']);
    m.rewindOps();
    assert.equal(opsOf(m).length, 1);
  });

  test('a read with a filter, and its answer', () => {
    const get = messageOf(GET);
    assert.equal(get.info1, Info1.read | Info1.getAll);
    assert.equal(hex(get.field(FieldId.filter)), '93049142cf0000000000000001');
    const got = messageOf(GOT);
    assert.deepEqual([got.result, got.generation, got.recordTtl], [0, 3, 500_000_000]);
    // 2010 and 500 million seconds
    assert.equal(fromWireVoidTime(got.recordTtl), 1_762_304_000);
    assert.deepEqual(opsOf(got), ['1/1/a/0000000000000001', '1/3/name/68656c6c6f']);
  });

  test('the answer to a scan: a record, a partition that is elsewhere, the end', () => {
    const [chunk, last] = framesOf(SCANNED);
    const m = new MessageView();
    const at = m.parse(chunk.body, 0);
    assert.equal(hex(m.field(FieldId.key)), '010000000000000001');
    assert.equal(opsOf(m).length, 1);
    assert.equal(m.parse(chunk.body, at), chunk.body.length);
    assert.deepEqual([m.info3, m.result, m.generation], [Info3.partitionDone, 11, 7]);
    assert.equal(m.has(FieldId.key), false);
    m.parseWhole(last.body);
    assert.equal(m.info3, Info3.last);
  });

  test('a batch whose second row repeats the first', () => {
    const m = messageOf(BATCH);
    const batch = new BatchView();
    batch.parse(m.field(FieldId.batch)!);
    assert.deepEqual([batch.count, batch.flags], [3, 0x0d]);
    const rows = [];
    while (batch.next()) {
      const { row, bytes: b, digestStart } = batch;
      rows.push([
        batch.index,
        b.toString('hex', digestStart, digestStart + 20),
        batch.isRepeat,
        [row.info1, row.info2, row.info3, row.generation, row.recordTtl, row.fieldText(FieldId.set)],
      ]);
    }
    assert.deepEqual(rows, [
      [0, DIGEST_HEX, false, [3, 0, 0, 0, 0, 'demo']],
      [1, '0000000000000000000000000000000000000002', true, [3, 0, 0, 0, 0, 'demo']],
      [2, '0000000000000000000000000000000000000003', false, [0, 0x83, 0, 5, 0, 'demo']],
    ]);
  });

  test('a compressed write', () => {
    const [frame] = framesOf(compressedPut());
    assert.equal(frame.type, ProtoType.compressed);
    assert.equal(hex(inflateBody(frame.body)), hex(PUT.subarray(8)));
  });

  test('a login', () => {
    const { command, result, fields } = parseSecurity(bodyOf(LOGIN));
    assert.deepEqual([command, result], [SecurityCommand.login, 0]);
    assert.equal(fields.get(SecurityField.user)?.toString(), 'joe');
    assert.equal(fields.get(SecurityField.credential)?.toString(), 'abcd');
  });

  test('info: old and new arguments; empty lines and a last one without end are none', () => {
    const commands = parseInfoRequest(
      Buffer.from(
        'node\n\nsets/test/demo\ntruncate:namespace=test;set=a:b;x\nsindex-create:context=AA==;bin=b\nbuild',
      ),
    );
    assert.deepEqual(
      commands.map((c) => [c.name, c.argument, [...c.parameters]]),
      [
        ['node', '', []],
        ['sets', 'test/demo', []],
        [
          'truncate',
          'namespace=test;set=a:b;x',
          [
            ['namespace', 'test'],
            ['set', 'a:b'],
            ['x', ''],
          ],
        ],
        [
          'sindex-create',
          'context=AA==;bin=b',
          [
            ['context', 'AA=='],
            ['bin', 'b'],
          ],
        ],
      ],
    );
  });

  test('info: an answer is cut at its first tab; what failed is told from what did not', () => {
    const body = Buffer.from(
      'node\tB2\nsets\tns=a\tb\nx\tERROR:4:unrecognized command\nudf\terror=not_found\n',
    );
    const values = parseInfoReply(body);
    assert.equal(values.get('node'), 'B2');
    assert.equal(values.get('sets'), 'ns=a\tb');
    assert.deepEqual(parseInfoError(values.get('x')!), { code: 4, text: 'unrecognized command' });
    assert.deepEqual(parseInfoError(values.get('udf')!), { code: undefined, text: 'not_found' });
    assert.deepEqual(parseInfoError('ERROR::blank'), { code: undefined, text: 'blank' });
    assert.equal(parseInfoError('errors=0'), undefined);
    assert.equal(parseInfoError('B2'), undefined);
  });

  test('peers and replicas as a live server has them', () => {
    assert.deepEqual(parsePeers('0,3000,[]'), { generation: 0, defaultPort: 3000, peers: [] });
    assert.deepEqual(parsePeers('7,3000,[[B1,,[10.0.0.1:3100,[::1]:3200]],[B2,name,[host]]]').peers, [
      {
        node: 'B1',
        tlsName: '',
        addresses: [
          { host: '10.0.0.1', port: 3100 },
          { host: '::1', port: 3200 },
        ],
      },
      { node: 'B2', tlsName: 'name', addresses: [{ host: 'host', port: 3000 }] },
    ]);
    const all = `${'/'.repeat(682)}8=`;
    const [one] = parseReplicas(`test:0,1,${all};`);
    assert.deepEqual([one.namespace, one.regime, one.replicationFactor], ['test', 0, 1]);
    assert.equal(
      one.masks[0].reduce((n, x) => n + x),
      4096,
    );
    // partition 0 is the highest bit of the first byte, 4095 the lowest of the last
    const [few] = parseReplicas(`test:0,1,gA${'A'.repeat(679)}AE=`);
    assert.deepEqual([few.masks[0][0], few.masks[0][1], few.masks[0][4095]], [1, 0, 1]);
  });
});

describe('what is written is what the reference has', () => {
  test('a write, in a frame after another', () => {
    const w = new MessageWriter();
    for (let n = 0; n < 2; n++) {
      w.beginFrame();
      w.beginMessage({ info2: Info2.write, transactionTtl: 1000 });
      w.fieldText(FieldId.namespace, 'test');
      w.fieldText(FieldId.set, 'demo');
      w.field(FieldId.digest, digestOf('demo', 1, ONE));
      w.opOf(OpId.write, 'a', { type: 1, bytes: ONE });
      w.endMessage();
      w.endFrame();
    }
    assert.equal(hex(w.take()), hex(Buffer.concat([PUT, PUT])));
  });

  test('the answer to a scan', () => {
    const w = new MessageWriter();
    w.beginFrame();
    w.beginMessage({ generation: 1 });
    w.fieldText(FieldId.namespace, 'test');
    w.field(FieldId.digest, DIGEST);
    w.fieldText(FieldId.set, 'demo');
    w.fieldKey(FieldId.key, 1, ONE);
    const name = Buffer.from('xa');
    w.op(OpId.read, 1, name, 1, 2, ONE, 0, 8);
    w.endMessage();
    w.beginMessage({ generation: 99 });
    w.dropMessage();
    w.beginMessage({ info3: Info3.partitionDone, result: 11, generation: 7 });
    w.endMessage();
    w.endFrame();
    w.status(0, 0, 0, Info3.last);
    assert.equal(hex(w.take()), hex(SCANNED));
  });

  test('a batch', () => {
    const w = new MessageWriter();
    const body = (): void => {
      w.fieldText(FieldId.namespace, 'test');
      w.fieldText(FieldId.set, 'demo');
    };
    w.beginFrame();
    w.beginMessage({ info1: Info1.batch, transactionTtl: 1000 });
    const begun = beginBatch(w, 0x0d);
    const head = { info1: 3, info2: 0, info3: 0, generation: 0, recordTtl: 0 };
    writeBatchRow(w, 0, DIGEST, head, body);
    writeBatchRepeat(w, 1, bytes('0000000000000000000000000000000000000002'));
    endBatch(w, begun, 2);
    w.endMessage();
    w.endFrame();
    const batch = new BatchView();
    batch.parse(messageOf(w.take()).field(FieldId.batch)!);
    assert.equal(batch.next() && batch.row.info1, 3);
    assert.equal(batch.row.fieldText(FieldId.set), 'demo');
    assert.equal(batch.next() && batch.isRepeat, true);
    assert.equal(batch.next(), false);
  });

  test('a frame of more than the first buffer holds, after one that was taken', () => {
    const w = new MessageWriter();
    w.status(2, 0, 0);
    assert.equal(hex(w.take()), `0203000000000016160000000002${'00'.repeat(16)}`);
    const value = Buffer.alloc(1_000_000, 7);
    w.status(0, 1, 0);
    w.beginFrame();
    w.beginMessage({ generation: 5 });
    for (let n = 0; n < 3; n++) w.opOf(OpId.read, 'b', { type: 4, bytes: value });
    w.endMessage();
    w.endFrame();
    w.status(0, 2, 0);
    const frames = framesOf(w.take());
    const m = new MessageView();
    m.parseWhole(frames[1].body);
    assert.equal(m.generation, 5);
    let n = 0;
    for (; m.nextOp(); n++) assert.ok(m.opValue.equals(value));
    assert.deepEqual([frames.length, n], [3, 3]);
  });

  test('a login, info, a compressed frame', () => {
    const login = securityFrame(SecurityCommand.login, [
      [SecurityField.user, Buffer.from('joe')],
      [SecurityField.credential, Buffer.from('abcd')],
    ]);
    assert.equal(hex(login), hex(LOGIN));
    assert.equal(infoRequest(['node', 'build']).toString('latin1'), '\x02\x01\0\0\0\0\0\x0bnode\nbuild\n');
    const raw = bytes('6e ff');
    assert.equal(hex(infoReply([{ raw, value: 'é' }])), '02010000000000066eff09c3a90a');
    const frame = deflateFrame(PUT);
    const [{ type, body }] = framesOf(frame);
    assert.equal(type, ProtoType.compressed);
    assert.equal(hex(inflateBody(body)), hex(PUT.subarray(8)));
  });

  test('peers, replicas, times, partitions of a scan: there and back', () => {
    const mask = new Uint8Array(4096);
    mask[0] = 1;
    mask[4095] = 1;
    const text = formatReplicas([{ namespace: 'test', regime: 0, replicationFactor: 1, masks: [mask] }]);
    assert.equal(text, `test:0,1,gA${'A'.repeat(679)}AE=`);
    const peers = '7,3000,[[B1,,[10.0.0.1:3100,[::1]:3200]],[B2,name,[host:1]]]';
    assert.equal(formatPeers(parsePeers(peers)), peers);
    assert.equal(formatAddresses([{ host: '127.0.0.1', port: 3000 }]), '127.0.0.1:3000');
    assert.deepEqual([toWireVoidTime(0), toWireVoidTime(1_762_304_000)], [0, 500_000_000]);
    const w = new MessageWriter();
    w.beginFrame();
    w.beginMessage();
    writeQueryPartitions(w, [
      { partition: 258, after: undefined },
      { partition: 0x4b7, after: DIGEST },
    ]);
    w.endMessage();
    w.endFrame();
    const m = messageOf(w.take());
    assert.equal(hex(m.field(FieldId.partitions)), '0201');
    assert.deepEqual(
      queryPartitions(m).map((p) => [p.partition, hex(p.after)]),
      [
        [258, undefined],
        [0x4b7, DIGEST_HEX],
      ],
    );
  });
});

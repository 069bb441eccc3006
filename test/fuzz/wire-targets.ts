/** Decoders of engine/aerospike/. What is read is written again and read: it must be the same. */
import assert from 'node:assert/strict';
import { BatchView } from '../../engine/aerospike/batch.ts';
import {
  formatPeers,
  formatReplicas,
  parsePeers,
  parseReplicas,
} from '../../engine/aerospike/cluster-text.ts';
import { inflateBody } from '../../engine/aerospike/compressed.ts';
import { FieldId } from '../../engine/aerospike/field.ts';
import { infoReply, parseInfoError, parseInfoReply, parseInfoRequest } from '../../engine/aerospike/info.ts';
import { MessageView } from '../../engine/aerospike/message.ts';
import { MessageWriter } from '../../engine/aerospike/message-writer.ts';
import type { OpId } from '../../engine/aerospike/operation.ts';
import { queryPartitions } from '../../engine/aerospike/partition-query.ts';
import { FrameReader } from '../../engine/aerospike/proto.ts';
import { parseSecurity, securityFrame } from '../../engine/aerospike/security.ts';
import { decodeDefinitions, encodeDefinitions } from '../../engine/aerospike/server/definitions.ts';
import {
  BATCH,
  bytes,
  compressedPut,
  DIGEST_HEX,
  GET,
  GOT,
  LOGIN,
  PUT,
  SCANNED,
} from '../aerospike/golden-bytes.ts';
import type { Target } from './fuzz.ts';

const DEFINITIONS = {
  version: 1 as const,
  indexes: [
    {
      namespace: 'n',
      set: '',
      name: 'i',
      bin: 'b',
      type: 'string',
      indexType: 'list',
      context: '',
      expression: '',
    },
  ],
  udfs: [{ name: 'f', type: 'LUA', content: 'AAAA' }],
  truncations: [{ namespace: 'n', set: 's', lutMs: 5 }],
  changes: { sindex: 1, UDF: 2, truncate: 3 },
};

const refusals = ['wire-malformed'] as const;
const body = (frame: Buffer): Buffer => frame.subarray(8, 8 + frame.readUInt32BE(4));

const FIELD_IDS = Object.values(FieldId);

/** Fields that are known, and ops, of a message. */
const contentOf = (m: MessageView): string[] => {
  const content = FIELD_IDS.map((id) => `${id} ${m.field(id)?.toString('hex')}`);
  m.rewindOps();
  while (m.nextOp())
    content.push(
      `${m.op} ${m.opType} ${m.bytes.toString('hex', m.opNameStart, m.opNameEnd)} ${m.opValue.toString('hex')}`,
    );
  return content;
};

const written = (m: MessageView): Buffer => {
  const w = new MessageWriter();
  w.beginMessage(m);
  for (const id of FIELD_IDS) {
    const data = m.field(id);
    if (data) w.field(id, data);
  }
  m.rewindOps();
  while (m.nextOp())
    w.op(m.op as OpId, m.opType, m.bytes, m.opNameStart, m.opNameEnd, m.bytes, m.opValueStart, m.opValueEnd);
  w.endMessage();
  return w.take();
};

const textTarget = <T>(
  name: string,
  seeds: readonly string[],
  parse: (t: string) => T,
  print: (v: T) => string,
): Target => ({
  name,
  refusals,
  seeds: seeds.map((s) => Buffer.from(s)),
  run: (input) => {
    const value = parse(input.toString());
    assert.deepEqual(parse(print(value)), value);
  },
});

export const wireTargets: readonly Target[] = [
  {
    name: 'wire-stream',
    refusals,
    seeds: [Buffer.concat([PUT, SCANNED, LOGIN]), GET, BATCH, compressedPut()],
    run: (input) => {
      const whole = new FrameReader({ bodyBytesMax: 1 << 20 });
      whole.push(input);
      const frames: Buffer[] = [];
      while (whole.next()) frames.push(whole.body);
      const pieces = new FrameReader({ bodyBytesMax: 1 << 20 });
      let n = 0;
      for (let at = 0; at < input.length; at += 7) {
        pieces.push(input.subarray(at, at + 7));
        while (pieces.next()) assert.ok(pieces.body.equals(frames[n++]));
      }
      assert.equal(n, frames.length);
    },
  },
  {
    name: 'wire-message',
    refusals,
    seeds: [PUT, GET, GOT, SCANNED, BATCH].map(body),
    run: (input) => {
      const m = new MessageView();
      const batch = new BatchView();
      for (let at = 0; at < input.length; ) {
        at = m.parse(input, at);
        const content = contentOf(m);
        const again = new MessageView();
        again.parseWhole(written(m));
        assert.deepEqual(contentOf(again), content);
        const rows = m.field(FieldId.batch);
        if (!rows) continue;
        batch.parse(rows);
        while (batch.next()) contentOf(batch.row);
      }
    },
  },
  {
    name: 'wire-scan',
    refusals,
    seeds: [
      bytes('16 01 00 04 00 00 00000000 00000000 00000000 0001 0000 00000005 0b 0000 ff0f'),
      bytes(`16 01 00 04 00 00 00000000 00000000 00000000 0001 0000 00000015 0c ${DIGEST_HEX}`),
    ],
    run: (input) => {
      const m = new MessageView();
      m.parseWhole(input);
      for (const { partition } of queryPartitions(m)) assert.ok(partition >= 0 && partition < 4096);
    },
  },
  {
    name: 'wire-compressed',
    refusals,
    seeds: [body(compressedPut())],
    run: (input) => assert.ok(inflateBody(input, 1 << 20).length <= 1 << 20),
  },
  {
    name: 'wire-security',
    refusals,
    seeds: [body(LOGIN)],
    run: (input) => {
      const message = parseSecurity(input);
      const frame = securityFrame(message.command, [...message.fields], message.result);
      assert.deepEqual(parseSecurity(frame.subarray(8)), message);
    },
  },
  {
    name: 'wire-info',
    refusals,
    seeds: ['node\nbuild\n', 'sets/test/demo\n', 'truncate:namespace=test;set=a;lut=5\n'].map((s) =>
      Buffer.from(s),
    ),
    run: (input) => {
      const commands = parseInfoRequest(input);
      const reply = infoReply(commands.map(({ raw }) => ({ raw, value: 'v' }))).subarray(8);
      let at = 0;
      for (const { raw } of commands) {
        assert.ok(reply.subarray(at, at + raw.length).equals(raw));
        at += raw.length + 3;
      }
      for (const value of parseInfoReply(input).values()) parseInfoError(value);
    },
  },
  {
    name: 'definitions',
    refusals: ['object-corrupt', 'format-version'],
    seeds: [Buffer.from(encodeDefinitions(DEFINITIONS))],
    tree: {
      parse: (input) => JSON.parse(input.toString()),
      print: (tree) => {
        if (typeof tree !== 'object' || tree === null) return Buffer.from(JSON.stringify(tree) ?? 'null');
        const { crc32: _, ...content } = tree as typeof DEFINITIONS & { crc32?: string };
        return Buffer.from(encodeDefinitions(content));
      },
    },
    run: (input) => {
      const content = decodeDefinitions(input.toString(), 'x');
      assert.deepEqual(decodeDefinitions(encodeDefinitions(content), 'x'), content);
    },
  },
  textTarget(
    'wire-peers',
    ['0,3000,[]', '7,3000,[[B1,,[10.0.0.1:3100,[::1]:3200]],[B2,name,[host]]]'],
    parsePeers,
    formatPeers,
  ),
  textTarget('wire-replicas', [`test:0,1,gA${'A'.repeat(679)}AE=;b:1,2`], parseReplicas, formatReplicas),
];

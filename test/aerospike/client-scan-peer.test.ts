/** Scans of a node whose answers are written by hand: what no server does on request. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import type { ScanOptions } from '../../engine/aerospike/client/scan.ts';
import { PartitionSet, partitionOf } from '../../engine/partition.ts';
import { collect, isError, NAMESPACE, QUICK } from './client-support.ts';
import { bytes, DIGEST_HEX } from './golden-bytes.ts';
import { bitmap, frameOf, ScriptedPeer, statusFrame } from './scripted-peer.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const o of opened.splice(0).reverse()) await o.close();
});

const PARTITION = partitionOf(bytes(DIGEST_HEX));
const ONE = PartitionSet.of([{ start: PARTITION, end: PARTITION + 1 }]);
const RECORD = frameOf(
  3,
  bytes(`16 00 00 00 00 00 00000001 00000000 00000000 0002 0000
    00000005 00 74657374 00000015 04 ${DIGEST_HEX}`),
);
const END = statusFrame(0, 1);
const account = (succeeded: number, failed = 0, status = 'done(ok)'): string =>
  `trid=1:ns=test:set=:status=${status}:job-progress=1:recs-filtered-meta=0:recs-filtered-bins=0:recs-succeeded=${succeeded}:recs-failed=${failed}:from=x`;

interface Node {
  readonly peer: ScriptedPeer;
  readonly client: AerospikeClient;
  /** Queries, in order. */
  readonly queries: Buffer[];
}

/** A node that answers query n with `answer(n)` and then says `show(n)` of it, both counted from 1. */
const nodeOf = async (
  answer: (n: number) => Buffer | undefined,
  show: (n: number) => string,
  options = {},
): Promise<Node> => {
  const queries: Buffer[] = [];
  const peer = await ScriptedPeer.open({
    info: ScriptedPeer.infoOf('A1', () => true),
    onInfo: (command) => (command.startsWith('query-show:trid=') ? show(queries.length) : undefined),
    onFrame: (frame) => {
      queries.push(frame);
      return answer(queries.length);
    },
  });
  opened.push(peer);
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port: peer.port }],
    ...QUICK,
    attemptsMax: 3,
    ...options,
  });
  opened.push(client);
  return { peer, client, queries };
};
const scan = ({ client }: Node, more: Partial<ScanOptions> = {}) =>
  client.scan({ namespace: NAMESPACE, partitions: ONE, ...more });
const whole = Buffer.concat([RECORD, END]);

test('one record, verified', async () => {
  const node = await nodeOf(
    () => whole,
    () => account(1),
  );
  const [record, ...more] = await collect(scan(node));
  assert.deepEqual([record.digest.toString('hex'), record.set, more.length], [DIGEST_HEX, '', 0]);
  assert.equal(node.queries.length, 1);
});

test('a record that was counted and never came, or not counted: read again, from the same point', async () => {
  for (const wrong of [account(2), account(0), account(1, 1), 'ERROR:2:job not found']) {
    const node = await nodeOf(
      () => whole,
      (n) => (n < 3 ? wrong : account(1)),
    );
    const one = scan(node);
    assert.equal((await collect(one)).length, 3, wrong);
    assert.equal(one.totals.records, 1);
    // from its start: in field 11, and not by a digest in field 12
    for (const query of node.queries) assert.match(query.toString('hex'), /000000030bb704(?!.*150c)/);
    const never = await nodeOf(
      () => whole,
      () => wrong,
    );
    const lost = scan(never);
    await assert.rejects(
      collect(lost),
      isError('aerospike-scan-incomplete', { partitions: `${PARTITION}`, namespace: NAMESPACE }),
    );
    assert.deepEqual(lost.points(), [{ partition: PARTITION, after: undefined }]);
    assert.equal(never.queries.length, 3);
  }
});

test('codes at the end: what passes is asked again, what does not is the answer', async () => {
  for (const code of [7, 9, 11, 14, 18, 22]) {
    const node = await nodeOf(
      (n) => (n < 3 ? statusFrame(code, 1) : whole),
      () => account(1),
    );
    assert.equal((await collect(scan(node))).length, 1, `${code}`);
  }
  for (const code of [1, 4, 15, 16, 20, 81]) {
    const node = await nodeOf(
      () => statusFrame(code, 1),
      () => account(0),
    );
    await assert.rejects(collect(scan(node)), isError('aerospike-result', { code }));
    assert.equal(node.queries.length, 1);
  }
});

test('N1: a partition that is elsewhere is not done, whatever the end says', async () => {
  const elsewhere = statusFrame(11, 4, PARTITION);
  const node = await nodeOf(
    (n) => (n < 3 ? Buffer.concat([elsewhere, END]) : whole),
    (n) => account(n < 3 ? 0 : 1),
  );
  assert.equal((await collect(scan(node))).length, 1);
  assert.equal(node.queries.length, 3);
});

test('what does not belong into the answer ends the scan', async () => {
  const wrong = [
    statusFrame(11, 4, PARTITION + 1),
    statusFrame(0),
    Buffer.concat([RECORD, RECORD]),
    Buffer.concat([END, END]),
    frameOf(1, Buffer.from('x\ty\n')),
  ];
  for (const frames of wrong) {
    const node = await nodeOf(
      () => frames,
      () => account(0),
    );
    await assert.rejects(collect(scan(node)), isError('wire-malformed'));
  }
});

test('a node that is silent for long is waited for while it says that it works', async () => {
  let asked = 0;
  const node = await nodeOf(
    () => undefined,
    () => {
      if (++asked === 3) node.peer.sendAll(whole);
      return account(1, 0, 'active(ok)');
    },
    { socketTimeoutMs: 60 },
  );
  assert.equal((await collect(scan(node))).length, 1);
  assert.equal(node.queries.length, 1);
  assert.ok(asked >= 3, `${asked} questions`);
});

test('a node that lost the partition while it answered may have answered from a replica: not done', async () => {
  const node = await nodeOf(
    (n) => {
      const others = bitmap((p) => p !== PARTITION || n > 1);
      node.peer.script = {
        ...node.peer.script,
        info: {
          ...node.peer.script.info,
          'partition-generation': `${n + 1}`,
          replicas: `test:0,1,${others}`,
        },
      };
      return n > 1 ? whole : undefined;
    },
    () => account(1),
    { tendIntervalMs: 60_000 },
  );
  const records = collect(scan(node));
  // the answer comes when the client knows
  while (node.queries.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  await node.client.tend();
  assert.equal(node.client.ownerOf(NAMESPACE, PARTITION), undefined);
  node.peer.sendAll(whole);
  node.peer.script = {
    ...node.peer.script,
    info: {
      ...node.peer.script.info,
      'partition-generation': '9',
      replicas: `test:0,1,${bitmap(() => true)}`,
    },
  };
  assert.equal((await records).length, 2);
  assert.equal(node.queries.length, 2);
});

test('a filter, a rate and the namespace are passed on; an old node cannot read by expressions', async () => {
  const node = await nodeOf(
    () => whole,
    () => account(1),
  );
  await collect(scan(node, { filter: bytes('c3'), recordsPerSecond: 77, set: 'demo', bins: 'none' }));
  const query = node.queries[0].toString('hex');
  for (const part of [
    '000000022bc3',
    '000000050a0000004d',
    '000000050164656d6f',
    '000000050074657374',
    '16210004',
  ])
    assert.ok(query.includes(part), part);
  node.peer.script = { ...node.peer.script, info: { ...node.peer.script.info, build: '8.1.1.0' } };
  const old = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port: node.peer.port }],
    ...QUICK,
  });
  opened.push(old);
  await assert.rejects(
    collect(old.scan({ namespace: NAMESPACE, withLut: true })),
    isError('aerospike-unsupported', { build: '8.1.1.0' }),
  );
});

/** What a server that is there to be tested against can be told to do wrong, and several nodes over which partitions move. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Endpoint } from './endpoint.ts';
import {
  DELETE,
  digestOf,
  expRead,
  field,
  GET_ALL,
  int,
  message,
  PARTITION_DONE,
  partitionOf,
  READ,
  type Reply,
  u64,
  utf8,
  WRITE,
} from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

const digest = (key: number): Buffer => digestOf('s', 1, u64(key));
const fields = (key: number): Buffer[] => [
  field(0, utf8('test')),
  field(1, utf8('s')),
  field(4, digest(key)),
];
const put = (key: number): Buffer => message({ info2: WRITE, fields: fields(key), ops: [int('a', key)] });
const get = (key: number): Buffer => message({ info1: READ | GET_ALL, fields: fields(key) });
const remove = (key: number): Buffer => message({ info2: WRITE | DELETE, fields: fields(key) });
const lut = (key: number): Buffer =>
  message({ info1: READ, fields: fields(key), ops: [expRead('l', '91 42')] });
const scanOf = (partitions: readonly number[], trid = 0): Buffer => {
  const pids = Buffer.alloc(2 * partitions.length);
  for (const [i, p] of partitions.entries()) pids.writeUInt16LE(p, 2 * i);
  return message({
    info1: READ,
    info3: PARTITION_DONE,
    fields: [field(0, utf8('test')), ...(trid ? [field(7, u64(trid))] : []), field(11, pids)],
  });
};
const ALL = Array.from({ length: 4096 }, (_, p) => p);
const KEYS = 300;

describe('faults', () => {
  let endpoint: Endpoint;
  let wire: WireConnection;
  before(async () => {
    endpoint = await Endpoint.start({ faults: true });
    wire = await open();
    for (let key = 0; key < KEYS; key++) assert.equal((await wire.call(put(key))).code, 0);
  });
  after(() => endpoint.close());
  const open = (): Promise<WireConnection> => WireConnection.open('127.0.0.1', endpoint.port);
  const fault = async (text: string, by = wire): Promise<void> => {
    assert.deepEqual(await by.info(`pitr-fault:${text}`), ['ok']);
  };
  const scanned = async (partitions = ALL, trid = 0, by = wire): Promise<Reply[]> =>
    (await by.frames(scanOf(partitions, trid))).flat();

  test('a server that was not made for it does not know of them', async (t) => {
    const plain = await Endpoint.start();
    t.after(() => plain.close());
    const own = await WireConnection.open('127.0.0.1', plain.port);
    for (const command of ['pitr-fault:burst=1', 'pitr-restart', 'pitr-move:node=A;partitions=0'])
      assert.deepEqual(await own.info(command), ['ERROR:4:unrecognized command']);
    own.close();
  });

  test('partitions that are unavailable: 11 for a record, and said in a scan', async () => {
    const partition = partitionOf(digest(1));
    await fault(`unavailable=${partition}`);
    assert.equal((await wire.call(get(1))).code, 11);
    assert.equal((await wire.call(put(1))).code, 11);
    const replies = await scanned();
    const done = replies.filter((r) => (r.info[2] & PARTITION_DONE) !== 0);
    assert.deepEqual(
      done.map((r) => [r.code, r.generation]),
      [[11, partition]],
    );
    assert.ok(!replies.some((r) => r.fields.get(4)?.equals(digest(1))));
    await fault('unavailable=none');
    assert.equal((await wire.call(get(1))).code, 0);
    assert.equal((await scanned()).length, KEYS + 1);
  });

  test('a burst of a code that passes', async () => {
    await fault('burst=3;burst-code=18');
    const codes = [];
    for (let n = 0; n < 5; n++) codes.push((await wire.call(get(2))).code);
    assert.deepEqual(codes, [18, 18, 18, 0, 0]);
  });

  test('records that a scan skips without a word, but for its account', async () => {
    await fault('failed-records=5');
    const replies = await scanned(ALL, 77);
    assert.deepEqual([replies.length - 1, replies.at(-1)?.code], [KEYS - 5, 0]);
    const [show] = await wire.info('query-show:trid=77');
    assert.match(show, new RegExp(`:recs-succeeded=${KEYS - 5}:recs-failed=5:`));
  });

  test('chunks as small as a record', async () => {
    await fault('chunk-bytes=1');
    const frames = await wire.frames(scanOf(ALL));
    assert.equal(frames.length, KEYS + 1);
    assert.ok(frames.every((f) => f.length === 1));
    await fault('chunk-bytes=0');
    assert.ok((await wire.frames(scanOf(ALL))).length < 10);
  });

  test('a connection that breaks within an answer, and one that trickles', async () => {
    await fault('drop-after-bytes=5000');
    const own = await open();
    await assert.rejects(own.frames(scanOf(ALL)), /closed the connection/);
    const other = await open();
    await fault('drop-after-bytes=0', other);
    await fault('trickle-bytes=1000;trickle-ms=1', other);
    assert.equal((await scanned(ALL, 0, other)).length, KEYS + 1);
    await fault('trickle-bytes=0', other);
    other.close();
    wire = await open();
  });

  test('the last generation is followed by 1', async () => {
    await fault('generation=65535');
    assert.equal((await wire.call(put(3))).generation, 65_535);
    assert.equal((await wire.call(put(3))).generation, 1);
  });

  test('a clock that goes back: new records are older than those before, others keep their time', async () => {
    const timeOf = async (key: number): Promise<bigint> =>
      BigInt(`0x${(await wire.call(lut(key))).ops[0].split(':')[1]}`);
    const before = await timeOf(4);
    await fault('clock-step-ms=-60000');
    assert.equal((await wire.call(put(4))).generation, 2);
    assert.equal(await timeOf(4), before);
    assert.equal((await wire.call(put(1000))).code, 0);
    assert.ok((await timeOf(1000)) < before - 30_000_000_000n);
    await fault('clock-step-ms=0');
    assert.equal((await wire.call(remove(1000))).code, 0);
  });

  test('a restart after which removed and truncated records are back, as they were', async () => {
    await fault('resurrect=1');
    const old = [await wire.call(get(5)), await wire.call(lut(5))];
    const [before] = await wire.info('statistics');
    assert.equal((await wire.call(remove(5))).code, 0);
    assert.equal((await wire.call(remove(6))).code, 0);
    assert.equal((await wire.call(put(6))).generation, 1);
    await wire.info('truncate:namespace=test;set=s');
    assert.equal((await wire.call(get(7))).code, 2);
    await sleep(2);
    assert.equal((await wire.call(put(8))).generation, 1);
    const [risen] = await wire.info('pitr-restart');
    assert.ok(Number(risen) >= KEYS - 2, risen);
    assert.equal(await wire.receive(), undefined, 'connections break');
    wire = await open();
    assert.deepEqual([await wire.call(get(5)), await wire.call(lut(5))], old);
    assert.equal((await wire.call(get(7))).code, 0);
    // what was written since is not touched
    assert.equal((await wire.call(get(8))).generation, 1);
    const keyOf = (text: string): string | undefined => /cluster_key=(\w+)/.exec(text)?.[1];
    assert.notEqual(keyOf((await wire.info('statistics'))[0]), keyOf(before));
  });
});

describe('three nodes', () => {
  let endpoint: Endpoint;
  const wires: WireConnection[] = [];
  before(async () => {
    endpoint = await Endpoint.start({ nodes: 3, faults: true });
    for (const port of endpoint.ports) wires.push(await WireConnection.open('127.0.0.1', port));
    for (let key = 0; key < KEYS; key++) assert.equal((await wires[key % 3].call(put(key))).code, 0);
  });
  after(() => endpoint.close());

  /** Node index by partition, from what each says of its replicas. */
  const masters = async (): Promise<number[]> => {
    const found = new Array<number>(4096).fill(-1);
    for (const [node, wire] of wires.entries()) {
      const bitmap = Buffer.from((await wire.info('replicas'))[0].split(',')[2], 'base64');
      for (let p = 0; p < 4096; p++)
        if ((bitmap[p >> 3] & (0x80 >> (p & 7))) !== 0) {
          assert.equal(found[p], -1, `partition ${p} has one master`);
          found[p] = node;
        }
    }
    assert.ok(found.every((node) => node >= 0));
    return found;
  };

  test('each has a part of the partitions, scans it, and knows the others', async () => {
    const map = await masters();
    let records = 0;
    const ids = await Promise.all(wires.map(async (w) => (await w.info('node'))[0]));
    assert.equal(new Set(ids).size, 3);
    for (const [node, wire] of wires.entries()) {
      const replies = (await wire.frames(scanOf(ALL))).flat();
      const away = replies.filter((r) => (r.info[2] & PARTITION_DONE) !== 0);
      assert.deepEqual(
        away.map((r) => r.generation).sort((a, b) => a - b),
        ALL.filter((p) => map[p] !== node),
      );
      records += replies.filter((r) => r.fields.has(4)).length;
      const [peers, objects] = await wire.info('peers-clear-std', 'namespace/test');
      for (const id of ids) assert.equal(peers.includes(id), id !== ids[node]);
      assert.match(objects, /^ns_cluster_size=3;/);
    }
    assert.equal(records, KEYS);
  });

  test('partitions move: the generation rises everywhere, the map says so, and the new master scans them', async () => {
    const generation = async (): Promise<number[]> =>
      Promise.all(wires.map(async (w) => Number((await w.info('partition-generation'))[0])));
    const before = await generation();
    const [id] = await wires[2].info('node');
    assert.deepEqual(await wires[0].info(`pitr-move:node=${id};partitions=0-999`), ['ok']);
    assert.deepEqual(
      await generation(),
      before.map((g) => g + 1),
    );
    const map = await masters();
    assert.ok(map.slice(0, 1000).every((node) => node === 2));
    const moved = (await wires[2].frames(scanOf(ALL.slice(0, 1000)))).flat();
    assert.ok(moved.every((r) => (r.info[2] & PARTITION_DONE) === 0));
    // a record is had from each: the one that has not its partition asks the one that has
    for (const wire of wires) assert.equal((await wire.call(get(1))).code, 0);
    assert.match((await wires[1].info('pitr-move:node=ZZ;partitions=0'))[0], /^ERROR:4:/);
  });
});

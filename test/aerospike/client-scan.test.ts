import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { putCommand } from '../../engine/aerospike/client/command.ts';
import { readOp } from '../../engine/aerospike/client/record.ts';
import { PartitionSet, partitionOf } from '../../engine/partition.ts';
import {
  Bench,
  binTexts,
  collect,
  digestsOf,
  intBin,
  isError,
  NAMESPACE,
  type OwnServer,
  ownServer,
  QUICK,
  until,
} from './client-support.ts';
import { TcpProxy } from './tcp-proxy.ts';

const RECORDS = 3000;
let bench: Bench;
let digests: string[];

before(async () => {
  bench = await Bench.open();
  const keys = Array.from({ length: RECORDS }, (_, i) => bench.key(i, i % 2 === 0));
  digests = digestsOf(keys);
  const written = await bench.client.runAll(
    keys.map((key, i) =>
      putCommand(key, [intBin('n', i), { name: 's', type: 3, bytes: Buffer.from(`v${i}`) }]),
    ),
  );
  assert.deepEqual(written.failed(), []);
});
after(() => bench.close());

const isBelow = (a: Buffer, b: Buffer): boolean => Buffer.compare(a, b) < 0;

describe('a scan', () => {
  test('gives every record of the set once, whole, and is verified', async () => {
    const scan = bench.client.scan({ namespace: NAMESPACE, set: bench.set });
    const records = await collect(scan);
    assert.deepEqual(digestsOf(records), digests);
    assert.equal(scan.totals.records, RECORDS);
    assert.deepEqual(scan.points(), []);
    const [zero] = records.filter((r) => r.digest.equals(bench.key(0).digest));
    assert.deepEqual(binTexts(zero.bins), ['n 1 0000000000000000', 's 3 7630']);
    assert.deepEqual(
      [zero.namespace, zero.set, zero.key?.type, zero.generation],
      [NAMESPACE, bench.set, 1, 1],
    );
    const [one] = records.filter((r) => r.digest.equals(bench.key(1).digest));
    assert.equal(one.key, undefined);
  });

  test('N2: within a partition digests descend, over all pages', async () => {
    const last = new Map<number, Buffer>();
    const scan = bench.client.scan({ namespace: NAMESPACE, set: bench.set, pageBytes: 4000 });
    for await (const block of scan)
      for (let i = 0; i < block.length; i++) {
        const at = block.digestStart(i);
        const digest = Buffer.from(block.bytes.subarray(at, at + 20));
        const before = last.get(block.partition(i));
        assert.ok(before === undefined || isBelow(digest, before));
        last.set(block.partition(i), digest);
      }
    assert.ok(scan.totals.pages > 20, `${scan.totals.pages} pages`);
    assert.equal(scan.totals.records, RECORDS);
  });

  test('columns say what the records are, without an object for each', async () => {
    let records = 0;
    for await (const block of bench.client.scan({ namespace: NAMESPACE, set: bench.set }))
      for (let i = 0; i < block.length; i++, records++) {
        const record = block.record(i);
        const { bytes } = block;
        assert.equal(bytes.toString('utf8', block.setStart(i), block.setEnd(i)), record.set);
        assert.equal(block.generation(i), record.generation);
        assert.equal(block.voidTimeS(i), record.voidTimeS);
        const keyHex = bytes.toString('hex', block.keyStart(i), block.keyEnd(i));
        assert.equal(keyHex, record.key ? `01${Buffer.from(record.key.bytes).toString('hex')}` : '');
        const bins: string[] = [];
        for (block.rewindBins(i); block.nextBin(); )
          bins.push(
            `${bytes.toString('latin1', block.binNameStart, block.binNameEnd)} ${block.binType} ${bytes.toString('hex', block.binStart, block.binEnd)}`,
          );
        assert.deepEqual(bins.sort(), binTexts(record.bins));
      }
    assert.equal(records, RECORDS);
  });

  test('of chosen partitions gives these', async () => {
    const partitions = PartitionSet.parse('0-99,2000,4095');
    const scan = bench.client.scan({ namespace: NAMESPACE, set: bench.set, partitions });
    const wanted = digests.filter((d) => partitions.has(partitionOf(Buffer.from(d, 'hex'))));
    assert.ok(wanted.length > 20);
    assert.deepEqual(digestsOf(await collect(scan)), wanted);
  });

  test('without bins: digest, set and key; with a projection: the bins named', async () => {
    const bare = await collect(bench.client.scan({ namespace: NAMESPACE, set: bench.set, bins: 'none' }));
    assert.deepEqual(digestsOf(bare), digests);
    assert.ok(bare.every((r) => r.bins.length === 0 && r.set === bench.set));
    const some = await collect(
      bench.client.scan({ namespace: NAMESPACE, set: bench.set, ops: [readOp('s'), readOp('none')] }),
    );
    assert.deepEqual(digestsOf(some), digests);
    assert.ok(some.every((r) => r.bins.length === 1 && r.bins[0].name === 's'));
  });

  test('N3: stopped anywhere, it goes on from its points and leaves nothing out', async () => {
    const found = new Set<string>();
    let points: readonly { partition: number; after: Buffer | undefined }[] | undefined;
    let isDone = false;
    for (let turn = 1; !isDone; turn++) {
      const scan = bench.client.scan({
        namespace: NAMESPACE,
        set: bench.set,
        pageBytes: 8000,
        ...(points ? { partitions: points } : {}),
      });
      let blocks = 0;
      isDone = true;
      for await (const block of scan) {
        for (const record of block.records()) found.add(record.digest.toString('hex'));
        if (++blocks < 3 * turn) continue;
        isDone = false;
        break;
      }
      points = scan.points();
      assert.ok(turn < 100);
    }
    assert.deepEqual([...found].sort(), digests);
  });

  test("an unknown set has no records; an unknown namespace is the server's code 20", async () => {
    assert.deepEqual(await collect(bench.client.scan({ namespace: NAMESPACE, set: 'never-written' })), []);
    await assert.rejects(
      collect(bench.client.scan({ namespace: 'nothing' })),
      isError('aerospike-result', { code: 20 }),
    );
  });

  test('refuses what cannot be', async () => {
    const at = bench.key(1).digest as Buffer;
    const scanOf = (partitions: readonly { partition: number; after: Buffer | undefined }[]) =>
      bench.client.scan({ namespace: NAMESPACE, partitions });
    const wrong = (partitionOf(at) + 1) % 4096;
    assert.throws(() => scanOf([{ partition: wrong, after: at }]), isError('usage'));
    assert.throws(() => scanOf([{ partition: 4096, after: undefined }]), isError('usage'));
    assert.throws(
      () => scanOf([1, 1].map((partition) => ({ partition, after: undefined }))),
      isError('usage'),
    );
    assert.throws(
      () => bench.client.scan({ namespace: NAMESPACE, bins: 'none', ops: [readOp('s')] }),
      isError('usage'),
    );
  });

  test('a signal ends it', async () => {
    const stop = new AbortController();
    const scan = bench.client.scan({
      namespace: NAMESPACE,
      set: bench.set,
      pageBytes: 4000,
      signal: stop.signal,
    });
    await assert.rejects(async () => {
      for await (const _ of scan) stop.abort();
    }, isError('interrupted'));
  });

  test('one query for all partitions counts what a filter rejects', async (t) => {
    const lacks = await bench.lacksExpressions();
    if (lacks) return t.skip(lacks);
    const filter = Buffer.from('c2', 'hex');
    const scan = bench.client.scan({ namespace: NAMESPACE, set: bench.set, filter, isPaged: false });
    assert.deepEqual(await collect(scan), []);
    assert.deepEqual([scan.totals.records, scan.totals.filteredMeta], [0, RECORDS]);
  });

  test('last update comes with a projection', async (t) => {
    const lacks = await bench.lacksExpressions();
    if (lacks) return t.skip(lacks);
    const scan = bench.client.scan({
      namespace: NAMESPACE,
      set: bench.set,
      ops: [readOp('n')],
      withLut: true,
    });
    const records = await collect(scan);
    assert.deepEqual(digestsOf(records), digests);
    assert.ok(records.every((r) => r.bins.length === 1 && Math.abs(r.lutMs! - Date.now()) < 600_000));
  });
});

describe('a scan of a cluster with faults', () => {
  let own: OwnServer;
  let client: AerospikeClient;
  let wanted: string[];
  const set = 'faults';

  before(async () => {
    own = await ownServer({ nodes: 3 });
    client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: own.port }], ...QUICK });
    const keys = Array.from({ length: 2000 }, (_, i) => ({ ...bench.key(i), set }));
    wanted = digestsOf(keys);
    const written = await client.batch(keys.map((key, i) => putCommand(key, [intBin('n', i)])));
    assert.deepEqual(written.failed(), []);
  });
  after(async () => {
    await client.close();
    await own.close();
  });
  const scan = (options = {}) => client.scan({ namespace: NAMESPACE, set, ...options });
  const distinct = (records: readonly { readonly digest: Buffer }[]): string[] => [
    ...new Set(digestsOf(records)),
  ];

  test('three nodes are found, each is asked for its own', async () => {
    assert.equal(client.nodes.length, 3);
    const owners = new Set(Array.from({ length: 4096 }, (_, p) => client.ownerOf(NAMESPACE, p)?.id));
    assert.equal(owners.size, 3);
    assert.deepEqual(digestsOf(await collect(scan())), wanted);
  });

  test('N1: unavailable partitions are waited for, and end the scan with their numbers when they stay', async () => {
    own.faults.unavailable.add(7).add(4000);
    const records = collect(scan());
    setTimeout(() => own.faults.unavailable.clear(), 60);
    assert.deepEqual(distinct(await records), wanted);
    own.faults.unavailable.add(7).add(4000);
    const again = scan();
    await assert.rejects(collect(again), isError('aerospike-scan-incomplete', { partitions: '7,4000' }));
    own.faults.unavailable.clear();
    assert.deepEqual(
      again.points().map((p) => p.partition),
      [7, 4000],
    );
  });

  test('partitions that move while it runs are read where they are', async () => {
    const records: Buffer[] = [];
    let turn = 0;
    for await (const block of scan({ pageBytes: 3000 })) {
      for (const { digest } of block.records()) records.push(digest);
      if (++turn % 10 === 0)
        own.server.cluster.move(PartitionSet.of([{ start: turn * 7, end: turn * 7 + 900 }]), turn % 3, 0);
    }
    assert.ok(turn > 20);
    assert.deepEqual(distinct(records.map((digest) => ({ digest }))), wanted);
  });

  test('a record that the server left out is noticed, and read with the next attempt', async () => {
    own.faults.failedRecords = 1;
    const ok = scan();
    assert.deepEqual(distinct(await collect(ok)), wanted);
    // one partition of which every record fails: the scan ends with its number, everything else is read
    const [bad] = wanted;
    const partition = partitionOf(Buffer.from(bad, 'hex'));
    const one = scan({ partitions: PartitionSet.of([{ start: partition, end: partition + 1 }]) });
    own.faults.failedRecords = 1000;
    await assert.rejects(collect(one), isError('aerospike-scan-incomplete', { partitions: `${partition}` }));
    assert.equal(one.points().length, 1);
    own.faults.failedRecords = 0;
  });

  test('bursts of retryable codes', async () => {
    for (const code of [9, 11, 14, 18]) {
      own.faults.burst = 5;
      own.faults.burstCode = code;
      assert.deepEqual(distinct(await collect(scan())), wanted);
      own.faults.burst = 0;
    }
  });

  test('connections that break anywhere: nothing is left out', async () => {
    const single = await ownServer();
    const through = await TcpProxy.open({ host: '127.0.0.1', port: single.port });
    const other = await AerospikeClient.connect({
      hosts: [{ host: '127.0.0.1', port: through.port }],
      ...QUICK,
    });
    try {
      const keys = Array.from({ length: 1000 }, (_, i) => ({ ...bench.key(i), set }));
      assert.deepEqual((await other.batch(keys.map((k, i) => putCommand(k, [intBin('n', i)])))).failed(), []);
      through.dropAll();
      await until(() => other.nodes.length === 1);
      through.faults.dropAfterBytes = [10, 3000, 20_000, 100, 15_000];
      const records = await collect(other.scan({ namespace: NAMESPACE, set, pageBytes: 16_000 }));
      assert.deepEqual(distinct(records), digestsOf(keys));
      assert.ok(through.drops >= 3, `${through.drops} drops`);
    } finally {
      await other.close();
      await through.close();
      await single.close();
    }
  });
});

describe('a consumer that is slow', () => {
  test('N4: pages wait for it and sockets do not: bounded, and nothing is lost', async () => {
    const { client } = bench;
    const set = `${bench.set}-l`;
    const blob = { name: 'b', type: 4, bytes: Buffer.alloc(100_000, 1) };
    const keys = Array.from({ length: 800 }, (_, i) => wireKeyOf(NAMESPACE, set, intBin('', i)));
    const written = await client.runAll(keys.map((k) => putCommand(k, [blob])));
    assert.equal(written.failure(0), undefined);
    assert.deepEqual(written.failed(), []);
    const scan = client.scan({ namespace: NAMESPACE, set, pageBytes: 1_000_000 });
    let records = 0;
    let ahead = 0;
    for await (const block of scan) {
      records += block.length;
      await new Promise((resolve) => setTimeout(resolve, 5));
      ahead = Math.max(ahead, scan.totals.bytes - records * 100_000);
    }
    assert.equal(records, 800);
    // of 80 MB: the first page asks for up to 256 records, since nobody knows their size yet, and pages of one megabyte follow
    assert.ok(ahead < 40_000_000, `${ahead} bytes ahead`);
    await client.infoAll([`truncate:namespace=${NAMESPACE};set=${set}`]);
  });
});

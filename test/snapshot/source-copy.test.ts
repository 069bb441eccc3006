/** A live cluster is copied in one pass: N12 to N16 of snapshot/README.md. */
import { strict as assert } from 'node:assert';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AerospikeClient } from '../../engine/aerospike/client/client.ts';
import { putCommand } from '../../engine/aerospike/client/command.ts';
import type { Bin } from '../../engine/aerospike/client/record.ts';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { contentHash, seedOf } from '../../engine/content-digest.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { PartitionSet, partitionOf } from '../../engine/partition.ts';
import { readAt } from '../../restore/read-at.ts';
import { restoreEngine, restoreJsonLines } from '../../restore/restore.ts';
import { verifyArchive } from '../../restore/verify-archive.ts';
import { listBegun } from '../../snapshot/begun.ts';
import { listSnapshots, readSnapshot } from '../../snapshot/snapshots.ts';
import {
  type CopySourceOptions,
  copySource,
  needsCopy,
  publishCopy,
  type SourceCopy,
} from '../../snapshot/source-copy.ts';
import { ArchiveView } from '../../snapshot/view.ts';
import { Archive } from '../../wal/archive.ts';
import { Archiver } from '../../wal/archiver.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { Engine } from '../../wal/engine.ts';
import { type OwnServer, ownServer, QUICK } from '../aerospike/client-support.ts';
import { checkCorpusRecord, corpusAddress, writeCorpusRecord } from '../aerospike/corpus-on-the-wire.ts';
import { addressOf, getOf, NAMESPACE, OTHER_NAMESPACE, putOf } from '../aerospike/subject.ts';
import { TcpProxy } from '../aerospike/tcp-proxy.ts';
import { digestOf, int } from '../aerospike/wire-bytes.ts';
import { WireConnection } from '../aerospike/wire-connection.ts';
import { recordCorpus } from '../engine/record-corpus.ts';
import { refuses } from '../wal/archiver-support.ts';

const RECORDS = Number(process.env.PITR_COPY_RECORDS ?? 2000);
/** Of one partition: more than a range may have, and than a segment. */
const LARGE_RECORDS = 600;
const BLOB: Bin = { name: 'b', type: 4, bytes: Buffer.alloc(2048, 0xab) };
const SETS = ['', 'a', 'b', 'left out'];
const CORPUS = 'corpus';
/** Small: everything happens that happens with many records. */
const RANGE_BYTES = 64 * 1024;

/** Record n of the plain ones: set, digest, and the image that README of the engine says it has: no key, one bin "n", an integer. */
const plain = (n: number) => {
  const set = SETS[n % SETS.length] as string;
  const image = Buffer.from('0001016e0108', 'hex');
  const value = Buffer.alloc(8);
  value.writeBigInt64BE(BigInt(n));
  return { set, digest: digestOf(set, 3, Buffer.from(`plain ${n}`)), image: Buffer.concat([image, value]) };
};

const number = (n: number): Bin => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64BE(BigInt(n));
  return { name: 'n', type: 1, bytes };
};

/** Digests of partition 7, with a bin of some size. */
const largeDigest = (n: number): Buffer => {
  const digest = Buffer.alloc(20, 0xa5);
  digest.writeUInt16LE(7 | ((n % 16) << 12), 0);
  digest.writeUInt32BE(Math.imul(n + 1, 0x9e3779b1) >>> 0, 2);
  return digest;
};

describe('the copy of a live cluster', () => {
  let dir = '';
  let own: OwnServer;
  let wire: WireConnection;
  const open: { close(): unknown }[] = [];
  const voidTimes: number[] = [];
  const corpusAt = recordCorpus.map((record, i) => corpusAddress(CORPUS, record, i));
  let total = 0;

  before(async () => {
    dir = await fs.mkdtemp(join(tmpdir(), 'pitr-source-'));
    own = await ownServer({ nodes: 3, namespaces: [NAMESPACE, OTHER_NAMESPACE] });
    wire = await WireConnection.open('127.0.0.1', own.port);
    for (const [i, record] of recordCorpus.entries())
      voidTimes.push(await writeCorpusRecord(wire, corpusAt[i]!, record));
    const client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: own.port }] });
    const put = (digest: Buffer, set: string, bins: readonly Bin[]) =>
      putCommand({ namespace: NAMESPACE, set, digest }, bins, { ttl: 'never' });
    const plains = Array.from({ length: RECORDS }, (_, n) => put(plain(n).digest, plain(n).set, [number(n)]));
    const large = Array.from({ length: LARGE_RECORDS }, (_, n) =>
      put(largeDigest(n), 'large', [number(n), BLOB]),
    );
    // some have a past
    for (const commands of [plains, plains.filter((_, n) => n % 10 === 0), large])
      assert.deepEqual((await client.runAll(commands)).failed(), []);
    await client.close();
    total = recordCorpus.length + RECORDS + LARGE_RECORDS;
  });

  after(async () => {
    for (const each of open.toReversed()) await each.close();
    wire.close();
    await own.close();
    await fs.rm(dir, { recursive: true, force: true });
  });

  let serial = 0;
  const capture = async (
    options: {
      archive?: string;
      partitions?: string;
      sets?: readonly string[] | null;
      namespaces?: string[];
    } = {},
  ): Promise<{ journal: Journal; archive: Archive; path: string; url: string }> => {
    const path = join(dir, `capture-${++serial}`);
    const url = options.archive ?? `file:${join(dir, `archive-${serial}`)}`;
    const source = {
      kind: 'aerospike',
      url: 'aerospike://127.0.0.1:3000',
      namespaces: options.namespaces ?? [NAMESPACE],
      sets: options.sets ?? null,
    } as const;
    await initCapture(path, source, {
      archive: url,
      stream: `s${serial}`,
      ...(options.partitions ? { partitions: PartitionSet.parse(options.partitions) } : {}),
    });
    const journal = await Journal.open(path);
    return { journal, archive: await Archive.open(url), path, url };
  };

  const optionsFor = (more: Partial<CopySourceOptions> = {}): CopySourceOptions => ({
    client: { hosts: [{ host: '127.0.0.1', port: own.port }], ...QUICK },
    clockMs: Date.now(),
    workers: 0,
    rangeBytes: RANGE_BYTES,
    ...more,
  });

  /** States a frontier, ships it, publishes the copy. */
  const publish = async (
    { journal, archive, path }: { journal: Journal; archive: Archive; path: string },
    copy: SourceCopy,
  ) => {
    const endTs = Date.now();
    assert.equal(await journal.state(endTs), true);
    const archiver = await Archiver.open(path, { adopt: false });
    try {
      return await publishCopy(archive, journal, copy, endTs, async (ts) => {
        await archiver.archivePending();
        assert.ok(archiver.head.frontier.ts >= ts);
      });
    } finally {
      await archiver.close();
    }
  };

  /** Every record of a restore, by digest. */
  const linesOf = async (
    url: string,
  ): Promise<Map<string, { namespace: string; set: string; bins: { n: unknown } }>> => {
    const chunks: Buffer[] = [];
    await restoreJsonLines(async (text) => void chunks.push(Buffer.from(text)), {
      archive: url,
      target: 'latest',
      workers: 0,
    });
    const records = Buffer.concat(chunks)
      .toString('utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    return new Map(records.map((r) => [`${r.namespace}/${r.digest}`, r]));
  };

  test('by threads, from three nodes: every record byte for byte, with what changed before the frontier', async () => {
    const c = await capture();
    const { journal, archive, url } = c;
    try {
      assert.equal(await needsCopy(archive, journal), true);
      let seen = 0;
      const options = optionsFor({ workers: 2, onProgress: (records) => (seen = records) });
      const copy = await copySource(archive, journal, options);
      assert.deepEqual(
        [copy.records, copy.read.records, copy.repeated, copy.leftOut.records, seen],
        [total, total, 0, 0, total],
      );
      assert.equal(
        (await ArchiveView.read(archive)).restorable.ranges.length,
        0,
        'nothing yet to begin with',
      );
      // what the poll would find
      const changed = plain(1);
      const image = Buffer.from('000101780108000000000000002a', 'hex');
      const lut = Date.now();
      assert.ok(
        journal.found({
          namespace: NAMESPACE,
          ...changed,
          generation: 2,
          voidTimeS: 0,
          lut,
          foundMs: lut,
          image,
        }),
      );
      assert.ok(
        journal.gone({ namespace: NAMESPACE, ...plain(2), when: { startMs: options.clockMs, endMs: lut } }),
      );
      // also in the partition that is in pieces, in the first of them and in the last
      for (let n = 0; n < LARGE_RECORDS; n += 50) {
        const more = { set: 'large', digest: largeDigest(n), generation: 2, voidTimeS: 0, lut, foundMs: lut };
        assert.ok(journal.found({ namespace: NAMESPACE, ...more, image }));
      }
      const entry = await publish(c, copy);
      assert.equal(await needsCopy(archive, journal), false);
      const manifest = await readSnapshot(archive, entry);
      assert.deepEqual(
        [manifest.startTs, manifest.logAfterTs, manifest.partitions, manifest.positions, manifest.records],
        [options.clockMs, options.clockMs, undefined, { [journal.identity.stream]: 0 }, total],
      );
      const pieces = manifest.segments.filter((s) => s.partitions.start === 7 && s.partitions.end === 8);
      assert.ok(pieces.length > 1, 'a partition in pieces');
      assert.ok(manifest.segments.length > pieces.length + 3, 'and others of many partitions');
      const { ranges } = (await ArchiveView.read(archive)).restorable;
      assert.deepEqual(
        ranges.map((r) => r.fromTs),
        [entry.endTs],
      );
      await refuses(
        'target-nodata',
        restoreJsonLines(async () => undefined, {
          archive: url,
          target: String(entry.endTs - 1),
          workers: 0,
        }),
      );

      // pieces of one partition are neighbours in a run, for whoever reads it
      const verified = await verifyArchive(archive, { orphans: true, workers: 0 });
      assert.deepEqual([verified.anomalies, verified.states[0]?.result], [[], 'equal']);
      const view = await ArchiveView.read(archive);
      for (const n of [1, 101, 301, 501]) {
        const record = await readAt(
          view,
          { namespace: NAMESPACE, set: 'large', digest: largeDigest(n) },
          entry.endTs,
        );
        assert.equal(record?.generation, 1, `record ${n} of them`);
      }

      const restored = join(dir, 'restored');
      const report = await restoreEngine(restored, 'restored', {
        archive: url,
        target: String(entry.endTs),
        workers: 0,
        ttl: 'absolute',
      });
      assert.deepEqual([report.records, report.verification.source], [total - 1, 'equal']);
      const engine = await Engine.open({ dir: restored });
      const server = await AerospikeServer.listen({ engine, port: 0, namespaces: [NAMESPACE] });
      const back = await WireConnection.open('127.0.0.1', server.addresses[0]!.port);
      open.push({
        close: async () => {
          back.close();
          await server.close();
          await engine.close();
        },
      });
      for (const [i, record] of recordCorpus.entries())
        await checkCorpusRecord(back, corpusAt[i]!, record, { voidTime: voidTimes[i]!, generation: 1 });
      const now = await back.call(getOf(addressOf(changed.digest, changed.set)));
      assert.deepEqual([now.generation, now.ops.length], [2, 1]);
      assert.match(String(now.ops[0]), /x 1:000000000000002a$/);
      assert.equal((await back.call(getOf(addressOf(plain(2).digest, plain(2).set)))).code, 2);
    } finally {
      await journal.close();
    }
  });

  test('rows of the index are what was written; sets that are left out are in it and in no segment', async () => {
    const c = await capture({
      sets: ['', 'a', 'b', CORPUS, 'large'],
      namespaces: [NAMESPACE, OTHER_NAMESPACE],
    });
    const { journal, archive } = c;
    try {
      // a row that no copy has, of an earlier one
      const stale = Buffer.alloc(60, 0xee);
      stale[0] = 0;
      stale[1] = 0x50;
      journal.load(OTHER_NAMESPACE, [{ partition: 5, rows: stale }]);
      const options = optionsFor();
      const copy = await copySource(archive, journal, options);
      const id = journal.namespaceId(NAMESPACE);
      assert.deepEqual(
        [journal.index.countAll(id), journal.index.countAll(journal.namespaceId(OTHER_NAMESPACE))],
        [total, 0],
      );
      const leftOut = Array.from({ length: RECORDS }, (_, n) => plain(n)).filter(
        (r) => r.set === 'left out',
      ).length;
      assert.equal(copy.records, total - leftOut);
      assert.equal(
        journal.index.meta()?.digests.reduce((n, d) => n + d.records, 0),
        total - leftOut,
      );
      for (let n = 0; n < RECORDS; n++) {
        const { set, digest, image } = plain(n);
        const rows = journal.index.partition(id, partitionOf(digest));
        const row = rows.find(sortKey(digest));
        assert.ok(row >= 0, `record ${n}`);
        // offsets as README.md of wal/capture has them
        const bytes = rows.bytes.subarray(row * 60, row * 60 + 60);
        const expected = Buffer.alloc(60);
        sortKey(digest).copy(expected);
        expected.writeUInt16LE(n % 10 === 0 ? 2 : 1, 20);
        expected[22] = set === 'left out' ? 3 : 1;
        expected.writeUInt32LE(journal.setId(NAMESPACE, set), 24);
        expected.writeUIntLE(options.clockMs, 32, 6);
        expected.writeUIntLE(options.clockMs, 38, 6);
        const w = (at: number): number => sortKey(digest).readUInt32BE(at);
        const hash = contentHash(
          seedOf(NAMESPACE, set),
          w(0),
          w(4),
          w(8),
          w(12),
          w(16),
          image,
          0,
          image.length,
        );
        hash.forEach((word, lane) => {
          expected.writeUInt32LE(word, 44 + lane * 4);
        });
        assert.equal(bytes.toString('hex'), expected.toString('hex'), `record ${n}`);
      }
      // the poll after it knows them all
      const { digest, set, image } = plain(11);
      const known = { namespace: NAMESPACE, set, digest, generation: 1, voidTimeS: 0, image };
      assert.equal(journal.found({ ...known, lut: options.clockMs - 5, foundMs: options.clockMs }), false);
    } finally {
      await journal.close();
    }
  });

  test('partitions of one cluster by two captures side by side: restorable when both are there', async () => {
    const url = `file:${join(dir, 'shared')}`;
    const one = await capture({ archive: url, partitions: '0-1000' });
    const two = await capture({ archive: url, partitions: '1001-4095' });
    try {
      const copies = [
        await copySource(one.archive, one.journal, optionsFor()),
        await copySource(two.archive, two.journal, optionsFor()),
      ] as const;
      // the one begun first is published last: N16
      const second = await publish(two, copies[1]);
      assert.equal(second.partitions, '1001-4095');
      assert.equal((await ArchiveView.read(one.archive)).restorable.ranges.length, 0);
      await publish(one, copies[0]);
      await two.journal.state(Date.now());
      const archiver = await Archiver.open(two.path, { adopt: false });
      await archiver.archivePending();
      await archiver.close();
      assert.equal(copies[0].records + copies[1].records, total);
      const records = await linesOf(url);
      assert.equal(records.size, total);
    } finally {
      await one.journal.close();
      await two.journal.close();
    }
  });

  test('killed in the middle: it begins again, and nothing is left of the first one', async () => {
    const { journal: first, path, url } = await capture();
    const store = openObjectStore(url);
    let creates = 4;
    // the process ends at a create: nothing that it would do after that is done
    const dying: ObjectStore = new Proxy(store, {
      get: (target, name) => {
        const found = Reflect.get(target, name);
        if (typeof found !== 'function') return found;
        return (...args: unknown[]) => {
          if (name === 'create' && String(args[0]).startsWith('segments/')) creates--;
          if (creates <= 0) return Promise.reject(new Error('killed'));
          return Reflect.apply(found, target, args);
        };
      },
    });
    const archive = await Archive.open(url);
    await assert.rejects(copySource(await Archive.open(dying), first, optionsFor()));
    await first.close();
    const [begun] = await listBegun(archive);
    assert.equal(begun?.state, 'working');
    const left = (await store.list('segments/')).length;
    assert.ok(left > 0);

    const journal = await Journal.open(path);
    try {
      assert.equal(await needsCopy(archive, journal), true);
      const copy = await copySource(archive, journal, optionsFor());
      assert.equal(await needsCopy(archive, journal), true, 'not before it is published');
      const entry = await publish({ journal, archive, path }, copy);
      assert.notEqual(entry.id, begun?.id);
      const { segments } = await readSnapshot(archive, entry);
      const stored = (await store.list('segments/'))
        .map((o) => o.name)
        .filter((n) => n.includes('/snapshots-'));
      assert.deepEqual(stored.sort(), segments.map((s) => s.name).sort());
      assert.deepEqual(await listBegun(archive), []);
      assert.equal((await linesOf(url)).size, total);
    } finally {
      await journal.close();
    }
  });

  test('sockets that break and pages that come again: each record once; a partition that stays away ends it, until it is back', async () => {
    const single = await ownServer({ namespaces: [NAMESPACE] });
    const proxy = await TcpProxy.open({ host: '127.0.0.1', port: single.port });
    const direct = await WireConnection.open('127.0.0.1', single.port);
    const c = await capture();
    const { journal, archive, url } = c;
    try {
      for (let n = 0; n < 1000; n++) await direct.call(putOf(addressOf(plain(n).digest, 's'), [int('n', n)]));
      const client = { hosts: [{ host: '127.0.0.1', port: proxy.port }], ...QUICK, tendIntervalMs: 60_000 };
      single.faults.unavailable.add(partitionOf(plain(0).digest));
      const error = await refuses(
        'aerospike-scan-incomplete',
        copySource(archive, journal, optionsFor({ client: { ...client, attemptsMax: 2 }, workers: 2 })),
      );
      assert.equal(error.facts.partitions, String(partitionOf(plain(0).digest)));
      assert.equal((await archive.store.list('segments/')).length, 0, 'what it had made is deleted');
      single.faults.unavailable.clear();
      // after the info of meeting the node: in the middle of pages
      proxy.faults.dropAfterBytes = [1e9, 1e9, 3000, 9000, 12_000, 30_000, 21_000, 7000];
      const copy = await copySource(archive, journal, optionsFor({ client, clockMs: Date.now() }));
      assert.ok(proxy.drops > 0, 'sockets broke');
      assert.ok(copy.repeated > 0, 'records came again');
      assert.deepEqual([copy.records, copy.read.records], [1000, 1000 + copy.repeated]);
      await publish(c, copy);
      const records = await linesOf(url);
      assert.deepEqual(
        [...records.values()].map((r) => Number(r.bins.n)).sort((a, b) => a - b),
        Array.from({ length: 1000 }, (_, n) => n),
      );
    } finally {
      await journal.close();
      direct.close();
      await proxy.close();
      await single.close();
    }
  });

  test('it can be stopped; and one whose agent has lost the stream is not published', async () => {
    const c = await capture();
    const { journal, archive } = c;
    try {
      const stop = new AbortController();
      await refuses(
        'interrupted',
        copySource(
          archive,
          journal,
          optionsFor({ signal: stop.signal, workers: 1, onProgress: () => stop.abort() }),
        ),
      );
      assert.deepEqual(await listBegun(archive), [], 'nothing of it is left');
      const copy = await copySource(archive, journal, optionsFor());
      const endTs = Date.now();
      await journal.state(endTs);
      await assert.rejects(
        publishCopy(archive, journal, copy, endTs, async () => {
          throw new Error('fenced');
        }),
        /fenced/,
      );
      assert.deepEqual(await listSnapshots(archive), []);
      await refuses(
        'usage',
        publishCopy(archive, journal, copy, endTs + 1, async () => undefined),
      );
      await refuses('usage', copySource(archive, journal, optionsFor({ clockMs: endTs - 1 })));
      // also one that another copy has overtaken
      await copySource(archive, journal, optionsFor({ clockMs: endTs })).then(async (newer) => {
        await publish({ ...c, journal }, newer);
      });
      await refuses(
        'cas-conflict',
        publishCopy(archive, journal, copy, journal.frontierTs, async () => undefined),
      );
    } finally {
      await journal.close();
    }
  });

  /** Partition bits to the front, nibble by nibble (engine/partition.ts says how). */
  const sortKey = (digest: Buffer): Buffer => {
    const h = digest.toString('hex');
    return Buffer.from(`${h[3]}${h[0]}${h[1]}${h[2]}${h.slice(4)}`, 'hex');
  };
});

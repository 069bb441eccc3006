/** The corpus of records goes from a cluster into the archive, by the base copy or by polls, and from there into another cluster, byte for byte. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ClusterRun } from '../../cli/capture/cluster-run.ts';
import { restoreCluster } from '../../restore/aerospike/restore-cluster.ts';
import { Archiver } from '../../wal/archiver.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { checkCorpusRecord, corpusAddress, writeCorpusRecord } from '../aerospike/corpus-on-the-wire.ts';
import { Endpoint } from '../aerospike/endpoint.ts';
import { addressOf, getOf, putOf, type RecordAddress } from '../aerospike/subject.ts';
import { digestOf, int, u64 } from '../aerospike/wire-bytes.ts';
import { WireConnection } from '../aerospike/wire-connection.ts';
import { recordCorpus } from '../engine/record-corpus.ts';

const WAYS = ['copied', 'polled'] as const;

describe('the corpus goes through a capture', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-capture-corpus-'));
  const url = `file:${join(dir, 'archive')}`;
  const written = new Map<string, { readonly at: RecordAddress; readonly voidTime: number }>();
  const open: { close(): unknown }[] = [];
  let target: WireConnection;
  after(async () => {
    for (const each of open.toReversed()) await each.close();
    await rm(dir, { recursive: true });
  });

  const serve = async (nodes: number): Promise<{ endpoint: Endpoint; wire: WireConnection }> => {
    const endpoint = await Endpoint.start({ nodes });
    const wire = await WireConnection.open('127.0.0.1', endpoint.port);
    open.push(endpoint, wire);
    return { endpoint, wire };
  };

  before(async () => {
    const source = await serve(3);
    const write = async (way: string): Promise<void> => {
      for (const [i, record] of recordCorpus.entries()) {
        const at = corpusAddress(way, record, i);
        written.set(`${way} ${i}`, { at, voidTime: await writeCorpusRecord(source.wire, at, record) });
      }
    };
    // whose clock is read to the ms
    const anchors = Array.from({ length: 40 }, (_, i) => addressOf(digestOf('clock', 1, u64(i)), 'clock'));
    for (const at of anchors) await source.wire.call(putOf(at, [int('a', 1)]));
    await write('copied');
    const hosts = [{ host: '127.0.0.1', port: source.endpoint.port }];
    const captureDir = join(dir, 'capture');
    await initCapture(
      captureDir,
      { kind: 'aerospike', url: `aerospike://127.0.0.1:${hosts[0].port}`, namespaces: ['test'], sets: null },
      { archive: url },
    );
    const archiver = await Archiver.open(captureDir, { adopt: false });
    const journal = await Journal.open(captureDir);
    const failures: unknown[] = [];
    const quiet = (): void => undefined;
    const run = new ClusterRun({
      journal,
      archiver,
      client: { hosts },
      pollMs: 50,
      groups: 16,
      events: {
        copying: quiet,
        copied: quiet,
        copyAgain: (why) => failures.push(why),
        gap: (why) => failures.push(why),
        baseCopy: quiet,
        polled: quiet,
        failed: (error) => failures.push(error),
      },
    });
    await run.once();
    await write('polled');
    await run.once();
    assert.deepEqual(failures, []);
    assert.equal(journal.tally.missed, 0);
    await archiver.archivePending();
    await journal.close();
    await archiver.close();
    // the one that is asked for a scan has all partitions
    const other = await serve(1);
    target = other.wire;
    const report = await restoreCluster({
      archive: url,
      target: 'latest',
      ttl: 'absolute',
      strict: true,
      workers: 0,
      client: { hosts: [{ host: '127.0.0.1', port: other.endpoint.port }] },
      place: `aerospike://127.0.0.1:${other.endpoint.port}`,
      mode: 'add',
      stateDir: () => join(dir, 'restoring'),
    });
    assert.deepEqual([report.verification.target, report.verification.source], ['equal', 'equal']);
    assert.equal(report.tally.written, WAYS.length * recordCorpus.length + anchors.length);
  });

  for (const way of WAYS)
    for (const [i, record] of recordCorpus.entries())
      test(`${way}: ${record.name}`, async () => {
        const { at, voidTime } = written.get(`${way} ${i}`)!;
        const got = (await target.call(getOf(at))).voidTime;
        // a client says how long a record is to live, not until when: the server's second may have passed
        assert.ok(
          Math.abs(got - voidTime) <= 1 && (got === 0) === (voidTime === 0),
          `${got}, not ${voidTime}`,
        );
        await checkCorpusRecord(target, at, record, { voidTime: got, generation: 1 });
      });
});

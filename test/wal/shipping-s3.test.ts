/** An agent that was away catches up over a real server with latency; its requests are counted as they arrive there. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { RequestCounts } from '../../engine/request-tally.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { restoreEngine } from '../../restore/restore.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import type { Message } from '../s3/http.ts';
import { startProvider } from '../s3/provider.ts';
import { dense, keyOf, lsnsOf, putSealed } from './archiver-support.ts';

const provider = await startProvider();
const { gate, faults } = provider;
const root = mkdtempSync(join(tmpdir(), 'pitr-shipping-s3-'));
after(async () => {
  await provider.close();
  rmSync(root, { recursive: true });
});

/** Every request takes some time longer. */
const slowly = (): void => {
  faults.planned = new Array(10_000).fill('slow');
};

/** As a provider would bill what arrived, by method and query. */
const billed = (messages: readonly Message[]): Pick<RequestCounts, 'puts' | 'gets' | 'deletes'> => {
  const counts = { puts: 0, gets: 0, deletes: 0 };
  for (const { method, url } of messages) {
    const isList = method === 'GET' && url.includes('list-type');
    const isFree = method === 'DELETE' || (method === 'POST' && /[?&]delete/.test(url));
    if (isFree) counts.deletes++;
    else if (isList || method === 'PUT' || method === 'POST') counts.puts++;
    else counts.gets++;
  }
  return counts;
};

const onlyCounts = ({ puts, gets, deletes }: RequestCounts) => ({ puts, gets, deletes });

test('an agent that was away catches up side by side, and every request is counted', async () => {
  const dir = join(root, 'e');
  const url = provider.url();
  await Engine.init(dir, { archive: url });
  const engine = await Engine.open({ dir, sealMs: 0 });
  const files = 24;
  await putSealed(engine, 1, files);
  gate.messages.length = 0;
  slowly();
  const archiver = await Archiver.open(dir, { ship: { segmentVersions: 1 }, fanout: 4, retireMs: 0 });
  assert.equal(await archiver.archivePending(), files);
  const puts = (part: string): number =>
    gate.messages.filter((m) => m.method === 'PUT' && m.url.includes(part)).length;
  assert.equal(puts('/segments/'), files);
  // one takes the stream
  const swaps = puts('/heads/') - 1;
  assert.ok(swaps <= files, `${swaps} swaps for ${files} segments`);
  assert.deepEqual(await lsnsOf(archiver.archive.store, archiver.head), dense(files));
  await archiver.compact();
  await putSealed(engine, 1, 1);
  await archiver.archivePending();
  const { tally } = archiver.archive.store;
  assert.ok(tally);
  assert.deepEqual(onlyCounts(tally.counts), billed(gate.messages));
  const { asked } = archiver.head;
  assert.ok(asked);
  assert.deepEqual(onlyCounts(asked), { ...onlyCounts(tally.counts), puts: tally.counts.puts - 1 });
  faults.planned = [];
  await engine.put(keyOf(1), { n: 'last' });
  await engine.close();
  await archiver.finish();
  await archiver.close();
  const report = await restoreEngine(join(root, 'r'), 'r', { archive: url, target: 'latest', workers: 0 });
  assert.deepEqual([report.records, report.verification.source], [files, 'equal']);
});

test('parts of large objects, pages of listings and tries that failed are requests, too', async () => {
  const store = new S3Store({ url: provider.url({ 'part-size': '5' }) });
  gate.messages.length = 0;
  await store.create('a/large', Buffer.alloc(11 * 1024 * 1024, 1));
  await store.create('a/small', Buffer.from('x'));
  gate.quirks = { pageKeys: 1 };
  assert.equal((await store.list('a/')).length, 2);
  gate.quirks = {};
  assert.equal((await store.read('a/small')).toString(), 'x');
  assert.equal(await store.size('a/none'), undefined);
  faults.planned = ['error500After', 'slowDown'];
  await store.delete(['a/large', 'a/small']);
  const { counts } = store.tally;
  // what the proxy refused by itself did not come through
  assert.deepEqual(onlyCounts(counts), { ...billed(gate.messages), deletes: 3 });
  assert.ok(counts.puts >= 2 + 1 + 3 + 1 + 1 + 2, `${counts.puts}`);
  assert.ok(counts.sentBytes > 11 * 1024 * 1024 && counts.sentBytes < 12 * 1024 * 1024);
});

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ContentDigest } from '../../engine/content-digest.ts';
import { isPitrError } from '../../engine/errors.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { encodeState, stateKeyOf } from '../../engine/state-record.ts';
import type { StoreChange } from '../../engine/store.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { check, readLog, SHARDS, stateAt } from './journal-support.ts';

const T0 = 1_700_000_000_000;
const MOVED = PartitionSet.parse('0-2047');
const source = {
  kind: 'aerospike',
  url: 'aerospike://127.0.0.1:1',
  namespaces: ['test'],
  sets: null,
} as const;

let dir = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pitr-capture-handover-'));
});
after(() => rm(dir, { recursive: true }));

const open = async (name: string, partitions: PartitionSet, archive = 'archive'): Promise<Journal> => {
  await initCapture(join(dir, name), source, {
    archive: `file:${join(dir, archive)}`,
    stream: name,
    partitions,
    shards: SHARDS,
  });
  const journal = await Journal.open(join(dir, name));
  if (journal.frontierTs === 0) await journal.loaded(new ContentDigest(SHARDS), T0);
  return journal;
};

/** Record `i` lies in partition 100 · i. */
const digestOf = (i: number): Buffer => {
  const digest = Buffer.alloc(20, i);
  digest.writeUInt16LE(i * 100, 0);
  return digest;
};

/** Its image has one bin with `n`. */
const found = (journal: Journal, i: number, n: number, lut: number): boolean => {
  const image = Buffer.from('000101760108000000000000000000', 'hex').subarray(0, 14);
  image.writeUInt32BE(n, 10);
  return journal.found({
    namespace: 'test',
    set: i % 2 ? 's' : '',
    digest: digestOf(i),
    generation: n,
    voidTimeS: 0,
    lut,
    foundMs: lut,
    image,
  });
};

/** Record `i` is found to be gone since it was seen at `startMs`. */
const gone = (journal: Journal, i: number, startMs: number, endMs: number): boolean => {
  return journal.gone({
    namespace: 'test',
    set: i % 2 ? 's' : '',
    digest: digestOf(i),
    when: { startMs, endMs },
  });
};

/** What an archive has of the partitions at `ts`, as the hand-over writes it. */
async function* stateOf(name: string, ts: number): AsyncGenerator<StoreChange[]> {
  const mask = MOVED.toMask();
  const logged = (await readLog(join(dir, name))).filter((e) => e.kind === 'version');
  for (const v of stateAt(logged, ts).values()) {
    const digest = Buffer.from(v.digest);
    if (mask[digest.readUInt16LE(0) & 0xfff] === 0) continue;
    const { ts: at, lsn, voidTime, generation } = v;
    const header = { generation, voidTime, ts: at, lsn, lut: v.seen?.lutMs ?? at };
    yield [{ key: stateKeyOf('test', digest), value: encodeState(header, v.set, v.image as Uint8Array) }];
  }
}

test('C7: partitions that are handed over are whole on both sides, and what changes meanwhile is the new owner’s', async () => {
  const a = await open('a', PartitionSet.all);
  const b = await open('b', PartitionSet.none);
  for (let i = 1; i <= 40; i++) found(a, i, 1, T0 + i);
  await a.state(T0 + 100);
  a.aim(T0 + 200);
  // above the frontier that is aimed at, and logged before anybody asks for a hand-over
  found(a, 3, 2, T0 + 210);
  const releasing = a.release(MOVED, 'b');
  assert.equal(found(a, 4, 2, T0 + 220), true, 'this is not the last poll yet');
  await a.state(T0 + 200);
  assert.ok(
    a.partitions.equals(PartitionSet.all),
    'what was logged above the frontier is not part of it yet',
  );
  a.aim(T0 + 300);
  assert.ok(a.giving.equals(MOVED));
  assert.equal(found(a, 5, 2, T0 + 320), false, 'it is the next owner’s to find');
  assert.equal(found(a, 30, 2, T0 + 320), true, 'partitions that stay go on');
  assert.equal(gone(a, 6, T0 + 310, T0 + 330), false, 'it was there at the frontier');
  assert.equal(gone(a, 7, T0 + 250, T0 + 330), true, 'it may have gone before the frontier');
  await a.state(T0 + 300);
  const release = await releasing;
  assert.equal(release.ts, T0 + 300);
  assert.equal(a.partitions.toString(), '2048-4095');
  assert.equal(a.index.countAll(0), 20);
  const seventh = (await readLog(join(dir, 'a'))).flatMap((e) =>
    e.kind === 'version' && !e.version.image ? [e.version] : [],
  );
  assert.deepEqual(
    seventh.map(({ ts, seen }) => [ts - T0, (seen?.windowStartMs ?? 0) - T0, (seen?.windowEndMs ?? 0) - T0]),
    [[300, 250, 330]],
  );
  assert.deepEqual(await a.release(MOVED, 'b'), release, 'asked again, it says the same');

  const wanted = { partitions: MOVED, peer: 'a', epoch: 2, afterTs: release.ts };
  const acquire = (digests = release.digests): ReturnType<Journal['acquire']> =>
    b.acquire({ ...wanted, load: stateOf('a', release.ts), ...(digests ? { digests } : {}) });
  const other = acquire([{ sum: '00'.repeat(16), records: 19 }]);
  const refused = assert.rejects(other, (error) => isPitrError(error, 'verification-failed'));
  await b.state(T0 + 310);
  await refused;
  const acquiring = acquire();
  await b.state(T0 + 250).catch(() => undefined);
  await b.state(T0 + 320);
  const { records } = await acquiring;
  assert.equal(records, 19);
  assert.deepEqual(b.lookFrom(), { ms: release.ts, heldIn: '0-2047' });
  assert.equal(b.lookFrom(), undefined);
  assert.equal(found(b, 1, 1, T0 + 1), false, 'what came over is known');
  assert.equal(found(b, 3, 2, T0 + 210), false, 'also what the old owner had logged above its frontier');
  assert.equal(found(b, 5, 2, T0 + 320), true, 'what it had left out is found');
  await b.state(T0 + 400);
  // as after a kill: from the log alone
  await b.close();
  const again = await open('b', PartitionSet.none);
  assert.equal(again.partitions.toString(), '0-2047');
  assert.equal(again.index.countAll(0), 19);
  assert.equal((await again.acquire({ ...wanted, load: stateOf('a', 0) })).records, 0, 'H1');
  await again.close();
  await a.close();
  await check(join(dir, 'a'));
});

test('C7: a release waits for the truncations before it', async () => {
  const a = await open('c', PartitionSet.all, 'other');
  for (let i = 1; i <= 40; i++) found(a, i, 1, T0 + i);
  await a.state(T0 + 100);
  const truncate = (set: string | null, at: number): number =>
    a.truncated({ namespace: 'test', set, cutoffLut: at, when: { startMs: at, endMs: at + 50 } });
  assert.equal(truncate('s', T0 + 150), 20);
  const releasing = a.release(MOVED, 'd');
  a.aim(T0 + 180);
  await a.state(T0 + 180);
  assert.ok(a.partitions.equals(PartitionSet.all), 'the truncation is above this frontier');
  a.aim(T0 + 220);
  assert.ok(a.giving.equals(MOVED));
  assert.equal(truncate('', T0 + 190), 20);
  await a.state(T0 + 220);
  assert.ok(a.partitions.equals(PartitionSet.all), 'that of another set was found in this poll');
  a.aim(T0 + 250);
  await a.state(T0 + 250);
  const release = await releasing;
  assert.equal(release.digests?.[0].records, 0);
  await a.state(T0 + 300);
  await a.close();
  await check(join(dir, 'c'));
  const again = await open('c', PartitionSet.all, 'other');
  assert.equal(again.index.countAll(0), 0);
  await again.close();
});

test('C7: a release that is asked for in the poll of another waits for a poll of its own', async () => {
  const a = await open('e', PartitionSet.all, 'archive-e');
  for (let i = 1; i <= 40; i++) found(a, i, 1, T0 + i);
  await a.state(T0 + 100);
  a.release(PartitionSet.parse('0-2047'), 'b').catch(() => undefined);
  a.aim(T0 + 200);
  found(a, 30, 2, T0 + 220);
  const releasing = a.release(PartitionSet.parse('2048-4095'), 'c');
  releasing.catch(() => undefined);
  await a.state(T0 + 200);
  await a.close();
  await check(join(dir, 'e'));
});

test('C7: an owner that is killed after its acquisition was logged, and before the index has it, looks all the same', async () => {
  const b = await open('k', PartitionSet.none, 'archive-k');
  b.namespaceId('test');
  await b.flush();
  const load = async function* () {
    for (let i = 1; i <= 5; i++)
      yield [
        {
          key: stateKeyOf('test', digestOf(i)),
          value: encodeState(
            { generation: 1, voidTime: 0, ts: T0 + i, lsn: i, lut: T0 + i },
            'moved',
            Buffer.from('0000', 'hex'),
          ),
        },
      ];
  };
  const acquiring = b.acquire({
    partitions: PartitionSet.parse('0-2047'),
    peer: 'a',
    epoch: 2,
    afterTs: T0 + 50,
    load: load(),
  });
  const acquired = acquiring.catch((error: unknown) => error);
  const { index } = b;
  const apply = index.apply.bind(index);
  let n = 0;
  index.apply = (...args) => {
    if (n++ > 1) throw new Error('killed');
    return apply(...args);
  };
  await b.state(T0 + 100).catch(() => undefined);
  await acquired;
  await b.close();
  const again = await Journal.open(join(dir, 'k'));
  const row = again.row('test', digestOf(1));
  assert.equal(row && again.setName(row.set(0)), 'moved');
  assert.equal(again.partitions.toString(), '0-2047');
  assert.deepEqual(again.lookFrom(), { ms: T0 + 50, heldIn: 'none' });
  await again.close();
});

test('C7: a delete at the frontier of a release says of what was missed no more than can be', async () => {
  const a = await open('i', PartitionSet.all, 'archive-i');
  found(a, 1, 1, T0 + 1);
  await a.state(T0 + 100);
  a.release(PartitionSet.all, 'b').catch(() => undefined);
  a.aim(T0 + 200);
  a.gone({
    namespace: 'test',
    set: 's',
    digest: digestOf(1),
    when: { startMs: T0 + 150, endMs: T0 + 250 },
    missed: 1,
    missedAfterMs: T0 + 210,
    wasSeen: true,
  });
  await a.state(T0 + 200);
  await a.close();
  await check(join(dir, 'i'));
  const again = await Journal.open(join(dir, 'i'));
  await again.close();
});

test('C7: a release does not wait for what other partitions are ahead by', async () => {
  const a = await open('h', PartitionSet.all, 'archive-h');
  found(a, 1, 1, T0 + 1);
  await a.state(T0 + 100);
  const releasing = a.release(PartitionSet.parse('0-1000'), 'b');
  for (let k = 2; k < 5; k++) {
    a.aim(T0 + k * 100);
    // of a node whose clock is ahead
    found(a, 39, k, T0 + k * 100 + 300);
    await a.state(T0 + k * 100);
  }
  assert.equal((await releasing).ts, T0 + 200);
  await a.close();
});

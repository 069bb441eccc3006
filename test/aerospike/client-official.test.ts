/** What the official client writes is what ours reads, and the other way round, for values that both can express. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import {
  binTexts,
  collect,
  digestsOf,
  freshSet,
  hexBin,
  intBin,
  NAMESPACE,
  QUICK,
  REAL,
  u64,
} from './client-support.ts';

const official = await import('aerospike').then(
  (m) => m.default,
  () => undefined,
);

/** The policy that has the key stored. */
const KEY_SEND = 1;

/** Bins by name: how JavaScript has them, and the particle that stands for it. */
const VALUES: readonly (readonly [name: string, value: unknown, type: number, hex: string])[] = [
  ['int', 42, 1, '000000000000002a'],
  ['neg', -1, 1, 'ffffffffffffffff'],
  ['big', 9223372036854775807n, 1, '7fffffffffffffff'],
  ['float', 3.5, 2, '400c000000000000'],
  ['text', 'grüß', 3, '6772c3bcc39f'],
  ['empty', '', 3, ''],
  ['blob', Buffer.from('00ff', 'hex'), 4, '00ff'],
  ['yes', true, 17, '01'],
  ['list', [1, 'a', [2.5], null], 20, '9401a2036191cb4004000000000000c0'],
  // the official client writes maps ordered by key: the marker counts as an entry
  ['map', { a: 1, b: [true] }, 19, '83c70001c0a2036101a2036291c3'],
];

describe('the official client and ours', {
  skip: official === undefined && 'the npm package aerospike cannot be loaded',
}, () => {
  let server: ChildProcess | undefined;
  let dir: string | undefined;
  let ours: AerospikeClient;
  let theirs: Awaited<ReturnType<NonNullable<typeof official>['connect']>>;
  const set = freshSet();
  const key = (n: number) => wireKeyOf(NAMESPACE, set, { type: 1, bytes: u64(n) }, true);

  before(async () => {
    let address = REAL;
    if (address === undefined) {
      // the official client blocks the process that it connects from
      dir = await mkdtemp(join(tmpdir(), 'pitr-official-'));
      server = fork(new URL('server-process.ts', import.meta.url), [JSON.stringify({ dir })]);
      const [{ addresses }] = await once(server, 'message');
      address = `127.0.0.1:${addresses[0].port}`;
    }
    const [host, port] = address.split(':');
    ours = await AerospikeClient.connect({ hosts: [{ host, port: Number(port) }], ...QUICK });
    theirs = await official!.connect({ hosts: [{ addr: host, port: Number(port) }], log: { level: 0 } });
  });
  after(async () => {
    await ours?.infoAll([`truncate:namespace=${NAMESPACE};set=${set}`]);
    await theirs?.close();
    await ours?.close();
    if (server) {
      server.kill();
      await once(server, 'exit');
    }
    if (dir) await rm(dir, { recursive: true, force: true });
  });

  test('theirs writes, ours reads the particles', async () => {
    for (const [i, [name, value, type, hex]] of VALUES.entries()) {
      const theirKey = new official!.Key(NAMESPACE, set, i);
      await theirs.put(theirKey, { [name]: value as never }, { ttl: 1000 }, { key: KEY_SEND } as never);
      const record = await ours.get(wireKeyOf(NAMESPACE, set, { type: 1, bytes: u64(i) }));
      assert.deepEqual(binTexts(record!.bins), binTexts([hexBin(name, type, hex)]), name);
      assert.equal(record!.generation, 1);
      assert.ok(Math.abs(record!.voidTimeS - Date.now() / 1000 - 1000) < 60);
    }
  });

  test('ours writes the particles, theirs reads the values', async () => {
    for (const [i, [name, value, type, hex]] of VALUES.entries()) {
      const n = 1000 + i;
      await ours.put(key(n), [hexBin(name, type, hex)], { ttl: 'never' });
      const record = await theirs.get(new official!.Key(NAMESPACE, set, n));
      assert.deepEqual(record.bins[name], value, name);
      assert.equal(record.gen, 1);
    }
  });

  test('both name a record by the same digest, with keys of every kind', async () => {
    const keys = [
      [5, { type: 1, bytes: u64(5) }],
      ['a key', { type: 3, bytes: Buffer.from('a key') }],
      [Buffer.from('00ff', 'hex'), { type: 4, bytes: Buffer.from('00ff', 'hex') }],
    ] as const;
    for (const [value, particle] of keys) {
      await theirs.put(new official!.Key(NAMESPACE, set, value), { k: 1 });
      assert.ok(await ours.exists(wireKeyOf(NAMESPACE, set, particle)));
    }
  });

  test('both scan the same records, and see each other delete', async () => {
    for (let n = 2000; n < 2300; n++) await ours.put(key(n), [intBin('n', n)]);
    await theirs.remove(new official!.Key(NAMESPACE, set, 2000));
    await ours.delete(key(2001));
    assert.equal(await ours.get(key(2000)), undefined);
    assert.equal(await theirs.exists(new official!.Key(NAMESPACE, set, 2001)), false);
    const seen: { digest: Buffer }[] = [];
    await new Promise<void>((resolve, reject) => {
      const stream = theirs.scan(NAMESPACE, set).foreach();
      stream.on('data', (record) => seen.push({ digest: record.key.digest as Buffer }));
      stream.on('error', reject);
      stream.on('end', () => resolve());
    });
    const records = await collect(ours.scan({ namespace: NAMESPACE, set }));
    assert.ok(records.length >= 298);
    assert.deepEqual(digestsOf(records), digestsOf(seen));
    const [stored] = records.filter((r) => r.digest.equals(Buffer.from(key(2100).digest)));
    assert.deepEqual(Buffer.from(stored.key!.bytes), u64(2100));
  });
});

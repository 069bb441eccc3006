import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { deleteCommand, putCommand, readCommand } from '../../engine/aerospike/client/command.ts';
import type { Rate } from '../../engine/aerospike/client/rate-limit.ts';
import { LUT_OP, readOp, removeBinOp, writeOp } from '../../engine/aerospike/client/record.ts';
import { ParticleType } from '../../engine/particle.ts';
import { canonicalParticles } from '../engine/particle-corpus.ts';
import { Bench, binTexts, hexBin, intBin, isError, NAMESPACE, u64 } from './client-support.ts';

let bench: Bench;
before(async () => {
  bench = await Bench.open();
});
after(() => bench.close());

/** `[opcode 5 lt, [66 last_update], ns]` and its like, as in the reference. */
const lutBelow = (ns: bigint): Buffer => Buffer.concat([Buffer.from('93059142cf', 'hex'), u64(ns)]);
const NEVER = Buffer.from('c2', 'hex');

describe('single records', () => {
  test('a record that is not there: undefined, undefined, false', async () => {
    const key = bench.key(1);
    assert.equal(await bench.client.get(key), undefined);
    assert.equal(await bench.client.exists(key), undefined);
    assert.equal(await bench.client.touch(key), undefined);
    assert.equal(await bench.client.delete(key), false);
  });

  test('what was put comes back: header, bins, and nothing that was not asked for', async () => {
    const key = bench.key(2, true);
    const bins = [intBin('a', -7), hexBin('f', ParticleType.float, '8000000000000000')];
    assert.deepEqual(await bench.client.put(key, bins, { ttl: 'never' }), { generation: 1, voidTimeS: 0 });
    const got = await bench.client.get(key);
    assert.deepEqual(binTexts(got!.bins), ['a 1 fffffffffffffff9', 'f 2 8000000000000000']);
    assert.deepEqual([got!.generation, got!.voidTimeS, got!.lutMs], [1, 0, undefined]);
    assert.deepEqual(await bench.client.exists(key), { generation: 1, voidTimeS: 0 });
    const some = await bench.client.get(key, { bins: ['f'] });
    assert.deepEqual(binTexts(some!.bins), ['f 2 8000000000000000']);
    assert.deepEqual((await bench.client.get(key, { bins: 'none' }))!.bins, []);
    assert.equal(await bench.client.delete(key), true);
    assert.equal(await bench.client.get(key), undefined);
  });

  test('modes: create, replace, updateOnly, replaceOnly', async () => {
    const { client } = bench;
    const key = bench.key(3);
    const put = (mode: 'create' | 'replace' | 'update' | 'updateOnly' | 'replaceOnly', name: string) =>
      client.put(key, [intBin(name, 1)], { mode });
    await assert.rejects(put('updateOnly', 'a'), isError('aerospike-result', { code: 2 }));
    await assert.rejects(put('replaceOnly', 'a'), isError('aerospike-result', { code: 2 }));
    assert.equal((await put('create', 'a')).generation, 1);
    await assert.rejects(put('create', 'b'), isError('aerospike-result', { code: 5, inDoubt: false }));
    await put('update', 'b');
    await put('updateOnly', 'c');
    assert.equal((await client.get(key))!.bins.length, 3);
    await put('replaceOnly', 'd');
    assert.deepEqual(binTexts((await client.get(key))!.bins), ['d 1 0000000000000001']);
    assert.equal((await put('replace', 'e')).generation, 5);
  });

  test('generations: equal, or below', async () => {
    const { client } = bench;
    const key = bench.key(4);
    await client.put(key, [intBin('a', 1)]);
    await assert.rejects(
      client.put(key, [intBin('a', 2)], { generation: 9 }),
      isError('aerospike-result', { code: 3 }),
    );
    assert.equal((await client.put(key, [intBin('a', 2)], { generation: 1 })).generation, 2);
    await assert.rejects(
      client.put(key, [intBin('a', 3)], { generationBelow: 2 }),
      isError('aerospike-result', { code: 3 }),
    );
    assert.equal((await client.put(key, [intBin('a', 3)], { generationBelow: 3 })).generation, 3);
    await assert.rejects(client.delete(key, { generation: 1 }), isError('aerospike-result', { code: 3 }));
  });

  test('times to live: seconds from now, kept, never; what no server takes is refused here', async () => {
    const { client } = bench;
    const key = bench.key(5);
    const { voidTimeS } = await client.put(key, [intBin('a', 1)], { ttl: 1000 });
    const inS = voidTimeS - Date.now() / 1000;
    assert.ok(inS > 900 && inS < 1100, `${inS}`);
    assert.equal((await client.put(key, [intBin('a', 2)], { ttl: 'keep' })).voidTimeS, voidTimeS);
    assert.equal((await client.touch(key, { ttl: 'never' }))!.voidTimeS, 0);
    for (const ttl of [0, -1, 1.5, 10 * 365 * 86_400 + 1])
      await assert.rejects(client.put(key, [intBin('a', 2)], { ttl }), isError('bad-record'));
  });

  test('a filter that is false refuses; last update ties an image to its moment', async (t) => {
    const lacks = await bench.lacksExpressions();
    if (lacks) return t.skip(lacks);
    const { client } = bench;
    const key = bench.key(6);
    await client.put(key, [intBin('a', 1)]);
    await assert.rejects(client.get(key, { filter: NEVER }), isError('aerospike-result', { code: 27 }));
    const { lutMs } = (await client.get(key, { bins: ['a'], withLut: true }))!;
    assert.ok(Math.abs(lutMs! - Date.now()) < 60_000);
    const isOlder = lutBelow(BigInt(lutMs!) * 1_000_000n);
    await assert.rejects(client.delete(key, { filter: isOlder }), isError('aerospike-result', { code: 27 }));
    assert.equal(await client.delete(key, { filter: lutBelow(BigInt(lutMs! + 1) * 1_000_000n) }), true);
    assert.throws(() => readCommand(key, { withLut: true }), isError('usage'));
    const written = await client.operate(key, [writeOp('a', { type: 1, bytes: u64(9) }), LUT_OP]);
    assert.deepEqual(
      written.answers.map(({ name, type }) => `${name} ${type}`),
      ['a 0', ' 1'],
    );
  });

  test('operate answers each op in order', async () => {
    const { client } = bench;
    const key = bench.key(7);
    await client.put(key, [intBin('a', 1), intBin('b', 2)]);
    const { generation, answers } = await client.operate(key, [
      readOp('a'),
      writeOp('a', { type: 1, bytes: u64(9) }),
      readOp('a'),
      removeBinOp('b'),
      readOp('b'),
    ]);
    assert.equal(generation, 2);
    assert.deepEqual(
      answers.map(({ name, type }) => `${name} ${type}`),
      ['a 1', 'a 0', 'a 1', 'b 0', 'b 0'],
    );
    assert.deepEqual([...answers[2].bytes], [...u64(9)]);
  });

  test('every particle of the corpus, and names that are not UTF-8, come back byte for byte', async () => {
    const { client } = bench;
    const name = Buffer.from('ff41fe', 'hex');
    // the server makes GeoJSON's cells itself, and takes no bytes for HLL that are not one
    const own: number[] = [ParticleType.geojson, ParticleType.hll];
    const particles = canonicalParticles.filter((p) => !own.includes(p.type) && p.bytes.length < 500_000);
    assert.ok(particles.length > 50);
    const keys = particles.map((_, i) => bench.key(1000 + i));
    const puts = particles.map(({ type, bytes }, i) => putCommand(keys[i], [{ name, type, bytes }]));
    const written = await client.runAll(puts);
    assert.deepEqual(
      written.failed().map((i) => `${particles[i].name}: ${written.code(i)}`),
      [],
    );
    const read = await client.runAll(keys.map((key) => readCommand(key)));
    for (const [i, { type, bytes, name: what }] of particles.entries()) {
      const [bin] = read.record(i)!.bins;
      assert.deepEqual(Buffer.from(bin.name as Uint8Array), name, what);
      assert.equal(bin.type, type, what);
      assert.equal(Buffer.from(bin.bytes).toString('hex'), Buffer.from(bytes).toString('hex'), what);
    }
  });

  test('a digest that does not belong to the key is kept, and the key with it', async () => {
    const { client } = bench;
    const real = bench.key(8);
    const digest = Buffer.from(real.digest);
    digest[19] ^= 1;
    const key = { ...real, digest, key: { type: ParticleType.string, bytes: Buffer.from('other') } };
    await client.put(key, [intBin('a', 1)]);
    assert.equal(await client.get(real), undefined);
    assert.equal((await client.get({ ...key, key: undefined }))!.generation, 1);
    const stranger = { ...key, key: { type: ParticleType.string, bytes: Buffer.from('third') } };
    await assert.rejects(client.get(stranger), isError('aerospike-result', { code: 19 }));
  });

  test('refusals have the code of the server', async () => {
    const { client } = bench;
    const key = bench.key(9);
    await assert.rejects(
      client.put(key, [intBin('a-name-of-16-byt', 1)]),
      isError('aerospike-result', { code: 21 }),
    );
    await assert.rejects(client.put(key, []), isError('aerospike-result', { code: 4 }));
    await assert.rejects(
      client.get(wireKeyOf('nothing', 's', { type: 1, bytes: u64(1) })),
      isError('aerospike-unowned'),
    );
    assert.throws(() => readCommand({ ...key, digest: Buffer.alloc(19) }), isError('bad-record'));
  });
});

describe('many commands', () => {
  test('pipelined: as many as are wanted, each with its own result, in any mixture', async () => {
    const { client } = bench;
    const count = 5000;
    const keys = Array.from({ length: count }, (_, i) => bench.key(10_000 + i));
    const written = await client.runAll(keys.map((key, i) => putCommand(key, [intBin('n', i)])));
    assert.equal(written.length, count);
    assert.deepEqual(written.failed(), []);
    const mixed = await client.runAll(
      keys.map((key, i) =>
        i % 3 === 0 ? readCommand(key) : i % 3 === 1 ? deleteCommand(key) : readCommand(bench.key(-i)),
      ),
    );
    for (let i = 0; i < count; i++) {
      assert.equal(mixed.code(i), i % 3 === 2 ? 2 : 0);
      if (i % 3 === 0) assert.deepEqual(binTexts(mixed.record(i)!.bins), binTexts([intBin('n', i)]));
    }
    assert.equal(mixed.record(2), undefined);
    assert.equal(mixed.failure(0), undefined);
    assert.equal(mixed.failure(2)?.id, 'aerospike-result');
  });

  test('a record larger than a chunk among small ones', async () => {
    const { client } = bench;
    const large = { name: 'l', type: ParticleType.blob, bytes: Buffer.alloc(700_000, 7) };
    const keys = Array.from({ length: 40 }, (_, i) => bench.key(30_000 + i));
    const written = await client.runAll(
      keys.map((key, i) => putCommand(key, i % 8 === 0 ? [large] : [intBin('n', i)])),
    );
    assert.deepEqual(written.failed(), []);
    const read = await client.runAll(keys.map((key) => readCommand(key)));
    for (let i = 0; i < keys.length; i++) {
      const [bin] = read.record(i)!.bins;
      assert.deepEqual(Buffer.from(bin.bytes), i % 8 === 0 ? large.bytes : u64(i));
    }
  });

  test('a batch writes, reads and deletes; rows have results by their place', async () => {
    const { client } = bench;
    const keys = Array.from({ length: 1500 }, (_, i) => bench.key(40_000 + i, i % 2 === 0));
    const written = await client.batch(
      keys.map((key, i) => putCommand(key, [intBin('n', i)], { mode: 'replace' })),
    );
    assert.deepEqual(written.failed(), []);
    assert.equal(written.generation(3), 1);
    const read = await client.batch(
      keys.map((key, i) =>
        i === 6
          ? readCommand(bench.key(-6))
          : i % 2 === 0
            ? readCommand(key)
            : readCommand({ ...key, key: undefined }, { bins: 'none' }),
      ),
    );
    assert.equal(read.code(6), 2);
    for (let i = 0; i < keys.length; i++) {
      if (i === 6) continue;
      assert.equal(read.code(i), 0);
      assert.deepEqual(binTexts(read.record(i)!.bins), i % 2 === 0 ? binTexts([intBin('n', i)]) : []);
    }
    const gone = await client.batch(
      keys.map((key) => deleteCommand(key)),
      { rowsMax: 7, concurrency: 3 },
    );
    assert.deepEqual(gone.failed(), []);
    assert.equal(await client.exists(keys[9]), undefined);
  });

  test('rows of a batch have filters of their own, and answer with last update', async (t) => {
    const lacks = await bench.lacksExpressions();
    if (lacks) return t.skip(lacks);
    const { client } = bench;
    const keys = [0, 1, 2].map((i) => bench.key(50_000 + i));
    await client.batch(keys.map((key) => putCommand(key, [intBin('n', 1)])));
    const read = await client.batch([
      readCommand(keys[0], { filter: NEVER }),
      readCommand(keys[1], { bins: ['n'], withLut: true }),
      readCommand(keys[2], { bins: 'none', withLut: true }),
    ]);
    assert.deepEqual(
      [0, 1, 2].map((i) => read.code(i)),
      [27, 0, 0],
    );
    for (const i of [1, 2]) assert.ok(Math.abs(read.record(i)!.lutMs! - Date.now()) < 60_000);
    assert.deepEqual([read.record(1)!.bins.length, read.record(2)!.bins.length], [1, 0]);
  });

  test('a batch that names a namespace of nobody fails for that row', async () => {
    const results = await bench.client.batch(
      [readCommand(bench.key(1)), readCommand(wireKeyOf('nothing', 's', { type: 1, bytes: u64(1) }))],
      { timeoutMs: 300 },
    );
    assert.equal(results.code(0), 2);
    assert.equal(results.failure(1)?.id, 'aerospike-unowned');
  });

  test('a rate of records and of bytes holds for what is written and for what is scanned', async (t) => {
    const connect = async (rate: Rate): Promise<AerospikeClient> => {
      const client = await AerospikeClient.connect({ hosts: [bench], ...fast, rate });
      t.after(() => client.close());
      return client;
    };
    // a clock that only waits move, so that it shows how long was waited
    let nowMs = 0;
    const timing = {
      nowMs: () => nowMs,
      after: (ms: number, run: () => void) => {
        const atMs = nowMs + ms;
        const timer = setTimeout(() => {
          nowMs = Math.max(nowMs, atMs);
          run();
        }, ms / 50);
        return () => clearTimeout(timer);
      },
    };
    const fast = {
      timing,
      commandTimeoutMs: 1e6,
      socketTimeoutMs: 1e6,
      connectTimeoutMs: 1e6,
      tendIntervalMs: 1e7,
    };
    const keys = Array.from({ length: 400 }, (_, i) => bench.key(60_000 + i));
    const puts = keys.map((k) => putCommand(k, [intBin('n', 1)]));
    for (const rate of [{ recordsPerSecond: 200 }, { bytesPerSecond: 1600 }]) {
      const client = await connect(rate);
      const beginMs = nowMs;
      assert.deepEqual((await client.batch(puts)).failed(), []);
      // 400 records of 8 bytes: two seconds, of which a tenth of one was credit
      assert.ok(nowMs - beginMs >= 1890 && nowMs - beginMs <= 2000, `${nowMs - beginMs} ms`);
    }
    const set = `${bench.set}-r`;
    const own = Array.from({ length: 500 }, (_, i) => wireKeyOf(NAMESPACE, set, intBin('', i)));
    assert.deepEqual(
      (await bench.client.batch(own.map((k) => putCommand(k, [intBin('n', 1)])))).failed(),
      [],
    );
    const client = await connect({ recordsPerSecond: 100 });
    const beginMs = nowMs;
    let records = 0;
    for await (const block of client.scan({ namespace: NAMESPACE, set, pageBytes: 3000 }))
      records += block.length;
    assert.equal(records, 500);
    // what comes with the last page is not waited for
    assert.ok(nowMs - beginMs >= 2300 && nowMs - beginMs <= 5000, `${nowMs - beginMs} ms`);
    await client.infoAll([`truncate:namespace=${NAMESPACE};set=${set}`]);
  });

  test('nothing to do is done', async () => {
    assert.equal((await bench.client.runAll([])).length, 0);
    assert.equal((await bench.client.batch([])).length, 0);
  });
});

test('info: one node, all nodes, failures as values', async () => {
  const { client } = bench;
  const [node] = client.nodes;
  const said = await client.info(node, ['build', `namespace/${NAMESPACE}`, 'no-such-command']);
  assert.match(said.get('build')!, /^\d+\.\d+/);
  assert.match(said.get(`namespace/${NAMESPACE}`)!, /objects=\d+/);
  assert.match(said.get('no-such-command')!, /^ERROR/);
  const all = await client.infoAll(['node']);
  assert.deepEqual(
    [...all].map(([id, values]) => id === values.get('node')),
    client.nodes.map(() => true),
  );
  assert.ok(client.namespaces.includes(NAMESPACE));
  assert.ok(client.clusterKey);
});

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import type { WireKey } from '../../engine/aerospike/client/command.ts';
import { putCommand, readCommand } from '../../engine/aerospike/client/command.ts';
import {
  binTexts,
  collect,
  digestsOf,
  freshSet,
  intBin,
  isError,
  NAMESPACE,
  type OwnServer,
  ownServer,
  QUICK,
  u64,
} from './client-support.ts';
import { ScriptedPeer, statusFrame } from './scripted-peer.ts';
import { type ProxyFaults, TcpProxy } from './tcp-proxy.ts';

let own: OwnServer;
const opened: { close(): Promise<void> }[] = [];
before(async () => {
  own = await ownServer();
});
afterEach(async () => {
  for (const o of opened.splice(0).reverse()) await o.close();
  own.faults.burst = 0;
});
after(() => own.close());

/** A client whose sockets all go through a proxy; the cluster is tended once, so that faults hit commands. */
const through = async (
  faults: ProxyFaults = {},
  options: Partial<ClientOptions> = {},
): Promise<{ proxy: TcpProxy; client: AerospikeClient }> => {
  const proxy = await TcpProxy.open({ host: '127.0.0.1', port: own.port }, faults);
  opened.push(proxy);
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port: proxy.port }],
    ...QUICK,
    tendIntervalMs: 60_000,
    lanes: 1,
    ...options,
  });
  opened.push(client);
  return { proxy, client };
};
const keysOf = (count: number, set = freshSet()): WireKey[] =>
  Array.from({ length: count }, (_, i) => wireKeyOf(NAMESPACE, set, { type: 1, bytes: u64(i) }));

describe('answers in any pieces', () => {
  test('are the same answers: pipelined, batches, scans (fast-check prints its seed)', async () => {
    const set = freshSet();
    const keys = keysOf(120, set);
    const { proxy, client } = await through();
    assert.deepEqual((await client.runAll(keys.map((k, i) => putCommand(k, [intBin('n', i)])))).failed(), []);
    const texts = keys.map((_, i) => binTexts([intBin('n', i)])[0]);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 }),
        async (sizes) => {
          proxy.faults.chunkBytes = sizes;
          const reads = keys.map((k) => readCommand(k));
          for (const results of [await client.runAll(reads), await client.batch(reads)])
            assert.deepEqual(
              keys.map((_, i) => binTexts(results.record(i)!.bins)[0]),
              texts,
            );
          const scanned = await collect(client.scan({ namespace: NAMESPACE, set }));
          assert.deepEqual(digestsOf(scanned), digestsOf(keys));
        },
      ),
      { numRuns: 12 },
    );
  });
});

describe('sockets that break', () => {
  test('N6: writes on their way are in doubt, unless they may be repeated; what was not sent is sent', async () => {
    const count = 4000;
    const { proxy, client } = await through();
    // each answer has 30 bytes: some are on their way, some not sent yet
    proxy.faults.dropAfterBytes = [30 * 100 + 7];
    const keys = keysOf(count);
    const results = await client.runAll(keys.map((k) => putCommand(k, [intBin('n', 1)], { mode: 'create' })));
    const failed = results.failed();
    assert.equal(proxy.drops, 1);
    assert.ok(failed.length > 0 && failed.length <= 1024, `${failed.length} in doubt`);
    for (const i of failed) {
      assert.equal(results.isInDoubt(i), true);
      assert.equal(results.failure(i)?.id, 'aerospike-connection-lost');
      assert.equal(results.failure(i)?.facts.inDoubt, true);
    }
    // every one that has an answer is there
    const read = await client.runAll(keys.map((k) => readCommand(k, { bins: 'none' })));
    for (let i = 0; i < count; i++) if (results.code(i) === 0) assert.equal(read.code(i), 0);
  });

  test('idempotent writes and reads are repeated until they are done', async () => {
    const { proxy, client } = await through();
    proxy.faults.dropAfterBytes = [500, 31, 2000, 1];
    const keys = keysOf(500);
    const results = await client.runAll(
      keys.map((k, i) => putCommand(k, [intBin('n', i)], { mode: 'replace', idempotent: true })),
    );
    assert.deepEqual(results.failed(), []);
    assert.equal(proxy.drops, 4);
    proxy.dropAll();
    proxy.faults.dropAfterBytes = [700, 10, 900];
    const read = await client.batch(
      keys.map((k) => readCommand(k)),
      { rowsMax: 50 },
    );
    assert.deepEqual(read.failed(), []);
    assert.equal(proxy.drops, 7);
    assert.deepEqual(binTexts(read.record(499)!.bins), binTexts([intBin('n', 499)]));
  });

  test('a batch of writes that breaks is in doubt row by row', async () => {
    const { proxy, client } = await through();
    proxy.faults.dropAfterBytes = [100];
    const results = await client.batch(keysOf(50).map((k) => putCommand(k, [intBin('n', 1)])));
    const failed = results.failed();
    assert.ok(failed.length > 0 && failed.every((i) => results.isInDoubt(i)));
  });
});

describe('silence and slowness', () => {
  test('a silent socket is given up; reads say timeout in the end, writes that they are in doubt', async () => {
    const { proxy, client } = await through(
      {},
      { socketTimeoutMs: 80, connectTimeoutMs: 100, attemptsMax: 2 },
    );
    const [key] = keysOf(1);
    proxy.faults.isSilent = true;
    await assert.rejects(client.get(key), isError('aerospike-timeout'));
    await assert.rejects(client.put(key, [intBin('n', 1)]), isError('aerospike-timeout', { inDoubt: true }));
    const results = await client.batch([readCommand(key)]);
    assert.equal(results.failure(0)?.id, 'aerospike-timeout');
    await assert.rejects(
      collect(client.scan({ namespace: NAMESPACE })),
      isError('aerospike-scan-incomplete'),
    );
  });

  test("N5: an answer that comes too late is nobody else's", async () => {
    const { proxy, client } = await through();
    const keys = keysOf(40);
    assert.deepEqual((await client.runAll(keys.map((k, i) => putCommand(k, [intBin('n', i)])))).failed(), []);
    proxy.faults.delayMs = 400;
    const late = Promise.allSettled(keys.slice(0, 20).map((k) => client.get(k, { timeoutMs: 60 })));
    const timed = await client.runAll(
      keys.map((k) => readCommand(k)),
      { timeoutMs: 60 },
    );
    for (const one of await late)
      assert.throws(() => {
        if (one.status === 'rejected') throw one.reason;
      }, isError('aerospike-timeout'));
    proxy.faults.delayMs = 0;
    const read = await client.runAll(keys.map((k) => readCommand(k)));
    for (let i = 0; i < 40; i++) assert.deepEqual(binTexts(read.record(i)!.bins), binTexts([intBin('n', i)]));
    // what came after its time has not changed what was said
    for (let i = 0; i < 40; i++) assert.equal(timed.failure(i)?.id, 'aerospike-timeout');
  });

  test('what was not sent in time says so and is not in doubt', async () => {
    const { client } = await through();
    const results = await client.runAll(
      keysOf(3).map((k) => putCommand(k, [intBin('n', 1)])),
      { timeoutMs: 0 },
    );
    for (const i of [0, 1, 2]) {
      assert.equal(results.failure(i)?.id, 'aerospike-timeout');
      assert.equal(results.isInDoubt(i), false);
    }
  });
});

describe('codes of the server', () => {
  /** Answers of single commands get this code, so many times. */
  const answering = (code: number, times: number): ProxyFaults => {
    let left = times;
    return {
      onFrame: (frame) => {
        if (left > 0) {
          left--;
          frame[13] = code;
        }
        return frame;
      },
    };
  };
  test('11, 14 and 18 are repeated, also for writes', async () => {
    for (const code of [11, 14, 18]) {
      const { client } = await through(answering(code, 3));
      const [key] = keysOf(1);
      await client.put(key, [intBin('n', 1)]);
      assert.equal((await client.get(key))?.bins.length, 1);
    }
  });
  test('7 and 9 leave a write in doubt, a read is repeated', async () => {
    for (const code of [7, 9]) {
      const { client } = await through(answering(code, 1));
      const [key] = keysOf(1);
      await assert.rejects(
        client.put(key, [intBin('n', 1)]),
        isError('aerospike-result', { code, inDoubt: true }),
      );
      const again = await through(answering(code, 1));
      assert.equal((await again.client.get(key))?.bins.length, 1);
    }
  });
  test('attempts end: the last code is the answer', async () => {
    const { client } = await through(answering(18, 1000), { attemptsMax: 3 });
    await assert.rejects(client.get(keysOf(1)[0]), isError('aerospike-result', { code: 18 }));
  });
  test('a burst in the middle of a batch', async () => {
    const { client } = await through();
    own.faults.burst = 30;
    own.faults.burstCode = 14;
    const results = await client.batch(keysOf(100).map((k) => putCommand(k, [intBin('n', 1)])));
    assert.deepEqual(results.failed(), []);
  });
});

describe('a peer that breaks the protocol', () => {
  const peer = async (onFrame: (frame: Buffer) => Buffer | undefined): Promise<AerospikeClient> => {
    const scripted = await ScriptedPeer.open({ info: ScriptedPeer.infoOf('A1', () => true), onFrame });
    opened.push(scripted);
    const client = await AerospikeClient.connect({
      hosts: [{ host: '127.0.0.1', port: scripted.port }],
      ...QUICK,
      attemptsMax: 2,
    });
    opened.push(client);
    return client;
  };
  const [key] = keysOf(1);

  test('answers of another type, cut messages, bytes after the message', async () => {
    const wrong = [
      Buffer.from([2, 1, 0, 0, 0, 0, 0, 0]),
      Buffer.from([2, 3, 0, 0, 0, 0, 0, 1, 22]),
      (() => {
        const frame = Buffer.concat([statusFrame(0), Buffer.from([0])]);
        frame[7]++;
        return frame;
      })(),
      Buffer.from([9, 9]),
    ];
    for (const [i, bytes] of wrong.entries()) {
      const client = await peer(() => bytes);
      await assert.rejects(client.get(key), isError('wire-malformed'));
      // the third one is a whole answer to its row, and only then something else
      if (i !== 2) assert.equal((await client.batch([readCommand(key)])).failure(0)?.id, 'wire-malformed');
      await assert.rejects(collect(client.scan({ namespace: NAMESPACE })), isError('wire-malformed'));
    }
  });

  test('N5: one answer too many ends the socket, and the client goes on with another', async () => {
    let times = 0;
    const client = await peer(() =>
      ++times === 1 ? Buffer.concat([statusFrame(2), statusFrame(2), statusFrame(2)]) : statusFrame(2),
    );
    assert.equal(await client.get(key), undefined);
    assert.equal(await client.get(key), undefined);
    assert.equal(times, 2);
  });

  test('a batch row that was not asked for, or none', async () => {
    const row = statusFrame(0);
    row.writeUInt32BE(77, 8 + 14);
    const odd = await peer(() => Buffer.concat([row, statusFrame(0, 1)]));
    assert.equal((await odd.batch([readCommand(key)])).failure(0)?.id, 'wire-malformed');
    const none = await peer(() => statusFrame(0, 1));
    assert.equal((await none.batch([readCommand(key)])).failure(0)?.id, 'wire-malformed');
    const refused = await peer(() => statusFrame(151, 1));
    assert.equal((await refused.batch([readCommand(key)])).code(0), 151);
  });
});

describe('sockets of a node', () => {
  test('are bounded: more requests wait for a free one', async () => {
    const { proxy, client } = await through({ delayMs: 5 }, { socketsMax: 3 });
    const keys = keysOf(400);
    const results = await client.batch(
      keys.map((k) => putCommand(k, [intBin('n', 1)])),
      {
        rowsMax: 10,
        concurrency: 20,
      },
    );
    assert.deepEqual(results.failed(), []);
    // and one for tending
    assert.ok(proxy.connections <= 4, `${proxy.connections} sockets`);
  });

  test('that are idle for too long are closed', async () => {
    const { proxy, client } = await through({}, { idleMsMax: 30, tendIntervalMs: 10 });
    const keys = keysOf(200);
    await client.batch(
      keys.map((k) => putCommand(k, [intBin('n', 1)])),
      { rowsMax: 10, concurrency: 8 },
    );
    // each side of the proxy counts; the tend's own stays
    while (proxy.open > 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal((await client.get(keys[0]))?.bins.length, 1);
  });
});

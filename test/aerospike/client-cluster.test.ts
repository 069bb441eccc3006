import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import { isBuildAtLeast } from '../../engine/aerospike/client/cluster-node.ts';
import { partitionOf } from '../../engine/partition.ts';
import { isError, NAMESPACE, QUICK, u64, until } from './client-support.ts';
import { bytes } from './golden-bytes.ts';
import { bitmap, type Script, ScriptedPeer, statusFrame } from './scripted-peer.ts';

const peers: ScriptedPeer[] = [];
const clients: AerospikeClient[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  for (const peer of peers.splice(0)) await peer.close();
});

const open = async (script: Script): Promise<ScriptedPeer> => {
  const peer = await ScriptedPeer.open(script);
  peers.push(peer);
  return peer;
};
const node = (id: string, owns: (p: number) => boolean, more: Record<string, string> = {}) =>
  open({ info: { ...ScriptedPeer.infoOf(id, owns), ...more } });
const say = (peer: ScriptedPeer, more: Record<string, string>): void => {
  peer.script = { ...peer.script, info: { ...peer.script.info, ...more } };
};
/** `generation` and who else there is, as a node says it. */
const names = (
  peer: ScriptedPeer,
  generation: number,
  others: readonly (readonly [string, number])[],
): void =>
  say(peer, {
    'peers-generation': `${generation}`,
    'peers-clear-std': `${generation},3000,[${others.map(([id, port]) => `[${id},,[127.0.0.1:${port}]]`).join(',')}]`,
  });
const owns = (peer: ScriptedPeer, generation: number, which: (p: number) => boolean, regime = 0): void =>
  say(peer, { 'partition-generation': `${generation}`, replicas: `test:${regime},1,${bitmap(which)}` });
const connect = async (port: number, options: Partial<ClientOptions> = {}): Promise<AerospikeClient> => {
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port }],
    ...QUICK,
    ...options,
  });
  clients.push(client);
  return client;
};
const ids = (client: AerospikeClient): string[] => client.nodes.map((n) => n.id).sort();
const owner = (client: AerospikeClient, p: number): string | undefined => client.ownerOf(NAMESPACE, p)?.id;
const isEven = (p: number): boolean => p % 2 === 0;
const isOdd = (p: number): boolean => p % 2 === 1;

describe('nodes are found through a seed and its peers', () => {
  test('a chain of three; each owns what its bitmap says', async () => {
    const c = await node('C3', (p) => p >= 4000);
    const b = await node('B2', (p) => isOdd(p) && p < 4000);
    const a = await node('A1', (p) => isEven(p) && p < 4000);
    names(a, 1, [['B2', b.port]]);
    names(b, 1, [['C3', c.port]]);
    const client = await connect(a.port);
    assert.deepEqual(ids(client), ['A1', 'B2', 'C3']);
    assert.deepEqual(
      [0, 1, 3998, 3999, 4000, 4095].map((p) => owner(client, p)),
      ['A1', 'B2', 'A1', 'B2', 'C3', 'C3'],
    );
    assert.deepEqual(client.namespaces, ['test']);
    assert.equal(client.clusterKey, 'AB12');
    assert.equal(client.ownerOf('other', 0), undefined);
  });

  test('alternate addresses are asked for when they are wanted', async () => {
    const b = await node('B2', isOdd);
    const a = await node('A1', isEven, { 'peers-clear-alt': `0,3000,[[B2,,[127.0.0.1:${b.port}]]]` });
    say(b, { 'peers-clear-alt': '0,3000,[]' });
    assert.deepEqual(ids(await connect(a.port, { useAlternateServices: true })), ['A1', 'B2']);
    assert.ok(!a.asked.includes('peers-clear-std'));
  });

  test('a peer behind several addresses, the first of which are of somebody else', async () => {
    const b = await node('B2', isOdd);
    const x = await node('X9', isOdd);
    const a = await node('A1', isEven);
    say(a, {
      'peers-generation': '1',
      'peers-clear-std': `1,${b.port},[[B2,,[127.0.0.1:1,127.0.0.1:${x.port},127.0.0.1]]]`,
    });
    assert.deepEqual(ids(await connect(a.port)), ['A1', 'B2']);
    await until(() => x.open === 0);
  });

  test('the second seed is taken when the first is not there', async () => {
    const a = await node('A1', () => true);
    const client = await connect(0, {
      hosts: [
        { host: '127.0.0.1', port: 1 },
        { host: '127.0.0.1', port: a.port },
      ],
    });
    assert.deepEqual(ids(client), ['A1']);
  });
});

describe('what is not taken', () => {
  const refuses = async (info: Record<string, string>, id: string, options: Partial<ClientOptions> = {}) => {
    const a = await node('A1', () => true, info);
    await assert.rejects(connect(a.port, { connectTimeoutMs: 200, ...options }), isError(id));
    await until(() => a.open === 0);
  };
  test('a node that does not know its partitions yet', () =>
    refuses({ 'partition-generation': '-1' }, 'aerospike-unreachable'));
  test('an old build', () => refuses({ build: '5.7.0.9' }, 'aerospike-unsupported'));
  test('another cluster', () =>
    refuses({ 'cluster-name': 'theirs' }, 'aerospike-unreachable', { clusterName: 'ours' }));
  test('a name of 32 characters', () => refuses({ node: 'x'.repeat(32) }, 'wire-malformed'));
  test('a bitmap that is cut', () => refuses({ replicas: 'test:0,1,AAAA' }, 'aerospike-unreachable'));
  test('peers that cannot be read', () =>
    refuses({ 'peers-clear-std': '1,3000,[[B2' }, 'aerospike-unreachable'));
  test('nobody there, no host, a name that resolves to nothing', async () => {
    await assert.rejects(connect(1), isError('aerospike-unreachable'));
    await assert.rejects(connect(0, { hosts: [] }), isError('usage'));
    await assert.rejects(
      connect(0, { hosts: [{ host: 'no-such-host.invalid' }], connectTimeoutMs: 3000 }),
      isError('aerospike-unreachable'),
    );
  });
  test('somebody who does not speak the protocol, or not at all', async () => {
    const talkers = [
      Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      Buffer.alloc(0),
      bytes('02 01 00 00 08 00 00 01'),
    ];
    for (const [i, text] of talkers.entries()) {
      const server = createServer((socket) =>
        socket
          .on('error', () => {})
          .resume()
          .write(text),
      );
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const address = server.address();
      const port = typeof address === 'object' && address ? address.port : 0;
      await assert.rejects(
        connect(port, { connectTimeoutMs: 100 }),
        isError(i === 1 ? 'aerospike-unreachable' : 'wire-malformed'),
      );
      await new Promise((resolve) => server.close(resolve));
    }
  });
  test('builds are compared by their numbers', () => {
    for (const [build, least] of [
      ['8.1.2.0', true],
      ['8.10.0.1', true],
      ['8.1.2.0-5-gabc', true],
      ['8.1.1.9', false],
      ['7.9', false],
      ['x', false],
    ] as const)
      assert.equal(isBuildAtLeast(build, [8, 1, 2, 0]), least, build);
  });
});

describe('the cluster changes while it is watched', () => {
  test('a node joins, takes partitions, and leaves again', async () => {
    const a = await node('A1', () => true);
    const client = await connect(a.port);
    const b = await node('B2', isOdd);
    names(b, 1, [['A1', a.port]]);
    names(a, 1, [['B2', b.port]]);
    await until(() => ids(client).length === 2);
    owns(a, 2, isEven);
    await until(() => owner(client, 1) === 'B2');
    assert.equal(owner(client, 0), 'A1');
    owns(a, 3, () => true);
    owns(b, 2, () => false);
    names(a, 2, []);
    await until(() => ids(client).length === 1);
    assert.equal(owner(client, 1), 'A1');
    await until(() => b.open === 0);
  });

  test('a node that dies loses its partitions, and has them again when it is back', async () => {
    const b = await node('B2', isOdd);
    const a = await node('A1', isEven);
    names(a, 1, [['B2', b.port]]);
    const client = await connect(a.port, { tendIntervalMs: 10 });
    assert.equal(owner(client, 1), 'B2');
    const { port } = b;
    await b.close();
    await until(() => ids(client).length === 1);
    assert.equal(owner(client, 1), undefined);
    const back = await open({ info: ScriptedPeer.infoOf('B2', isOdd) });
    names(a, 2, [['B2', back.port]]);
    await until(() => owner(client, 1) === 'B2');
    assert.notEqual(port, 0);
  });

  test('another node at the same address is another node', async () => {
    const b = await node('B2', isOdd);
    const a = await node('A1', isEven);
    names(a, 1, [['B2', b.port]]);
    const client = await connect(a.port);
    say(b, { node: 'B7' });
    names(a, 2, [['B7', b.port]]);
    await until(() => ids(client).join() === 'A1,B7');
    assert.equal(owner(client, 1), 'B7');
  });

  test('when everybody is gone the seeds are asked again', async () => {
    const a = await node('A1', () => true);
    const client = await connect(a.port, { tendIntervalMs: 10 });
    const { port } = a;
    await a.close();
    await until(() => ids(client).length === 0);
    const key = wireKeyOf(NAMESPACE, 's', { type: 1, bytes: u64(1) });
    await assert.rejects(client.get(key, { timeoutMs: 100 }), isError('aerospike-unowned'));
    await a.listen(port);
    await until(() => ids(client).length === 1);
  });

  test('a claim of an older regime does not count; who drops a partition does not own it', async () => {
    const b = await node('B2', isOdd);
    const a = await node('A1', isEven);
    names(a, 1, [['B2', b.port]]);
    const client = await connect(a.port);
    owns(a, 2, () => true, 5);
    await until(() => owner(client, 1) === 'A1');
    owns(b, 2, () => true, 4);
    await client.tend();
    await client.tend();
    assert.equal(owner(client, 1), 'A1');
    owns(b, 3, () => true, 5);
    await until(() => owner(client, 1) === 'B2');
    owns(b, 4, () => false, 6);
    await until(() => owner(client, 1) === undefined);
  });

  test('N5: a socket on which something is said twice is not used again', async () => {
    const a = await node('A1', () => true);
    const client = await connect(a.port, { tendIntervalMs: 60_000 });
    const [one] = client.nodes;
    await client.info(one, ['build']);
    const { connections } = a;
    a.repeats = 2;
    for (const command of ['build', 'node', 'cluster-stable:'])
      assert.equal((await client.info(one, [command])).get(command), a.script.info[command]);
    assert.equal(a.connections, connections + 2);
  });

  test('a command that meets "unavailable" goes to the new owner', async () => {
    const key = wireKeyOf(NAMESPACE, 's', { type: 1, bytes: u64(1) });
    const partition = partitionOf(key.digest);
    let moved = 0;
    const b = await open({
      info: ScriptedPeer.infoOf('B2', () => false),
      // generation 9, never expires, one bin
      onFrame: () =>
        bytes(
          '02 03 000000000027 16 00 00 00 00 00 00000009 00000000 00000000 0000 0001 0000000d 01 01 00 01 61 0000000000000001',
        ),
    });
    const a = await open({
      info: ScriptedPeer.infoOf('A1', () => true),
      onFrame: () => {
        moved++;
        owns(a, 2, (p) => p !== partition);
        owns(b, 2, (p) => p === partition);
        return statusFrame(11);
      },
    });
    names(a, 1, [['B2', b.port]]);
    const client = await connect(a.port, { tendIntervalMs: 60_000 });
    const record = await client.get(key);
    assert.deepEqual([record?.generation, record?.bins.length, moved], [9, 1, 1]);
  });
});

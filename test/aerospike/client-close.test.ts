import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { putCommand, readCommand } from '../../engine/aerospike/client/command.ts';
import {
  collect,
  freshSet,
  intBin,
  isError,
  NAMESPACE,
  ownServer,
  QUICK,
  u64,
  until,
} from './client-support.ts';
import { TcpProxy } from './tcp-proxy.ts';

/** Sockets and timers of this process, by kind. */
const resources = (): string => {
  const counts = new Map<string, number>();
  for (const kind of process.getActiveResourcesInfo())
    if (kind === 'TCPSocketWrap' || kind === 'Timeout' || kind === 'TLSWrap' || kind === 'GetAddrInfoReqWrap')
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return JSON.stringify([...counts].sort());
};
const keysOf = (count: number) => {
  const set = freshSet();
  return Array.from({ length: count }, (_, i) => wireKeyOf(NAMESPACE, set, { type: 1, bytes: u64(i) }));
};

test('N7: after close nothing is left, whatever was under way', async () => {
  const own = await ownServer({ nodes: 3 });
  const before = resources();
  const client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: own.port }], ...QUICK });
  const keys = keysOf(3000);
  await client.batch(keys.map((k) => putCommand(k, [intBin('n', 1)])));
  const underWay = [
    client.runAll(keys.map((k) => readCommand(k))),
    client.batch(keys.map((k) => readCommand(k))),
    collect(client.scan({ namespace: NAMESPACE, pageBytes: 2000 })),
    client.infoAll(['node']),
    client.get(keys[0]),
    client.tend(),
  ].map((promise) =>
    promise.then(
      () => 'done',
      (error) => error.id ?? error,
    ),
  );
  await client.close();
  for (const end of await Promise.all(underWay))
    assert.ok(end === 'done' || end === 'aerospike-closed', `${end}`);
  await until(() => own.server.connections === 0);
  await until(() => resources() === before);
  await client.close();
  await assert.rejects(client.get(keys[0]), isError('aerospike-closed'));
  await assert.rejects(client.batch([readCommand(keys[0])]), isError('aerospike-closed'));
  await assert.rejects(collect(client.scan({ namespace: NAMESPACE })), isError('aerospike-closed'));
  await own.close();
});

test('N7: also when the cluster is silent, and when it was never reached', async () => {
  const own = await ownServer();
  const proxy = await TcpProxy.open({ host: '127.0.0.1', port: own.port });
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port: proxy.port }],
    ...QUICK,
    tendIntervalMs: 5,
  });
  proxy.faults.isSilent = true;
  const [key] = keysOf(1);
  const waiting = client.get(key).then(
    () => 'done',
    (error) => error.id,
  );
  const scanning = collect(client.scan({ namespace: NAMESPACE })).then(
    () => 'done',
    (error) => error.id,
  );
  await new Promise((resolve) => setTimeout(resolve, 30));
  await client.close();
  assert.deepEqual(await Promise.all([waiting, scanning]), ['aerospike-closed', 'aerospike-closed']);
  await until(() => proxy.open === 0);
  await assert.rejects(
    AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: proxy.port }], connectTimeoutMs: 50 }),
    isError('aerospike-unreachable'),
  );
  await until(() => proxy.open === 0);
  await proxy.close();
  await own.close();
});

test('a scan that is left early gives its sockets back', async () => {
  const own = await ownServer();
  const client = await AerospikeClient.connect({ hosts: [{ host: '127.0.0.1', port: own.port }], ...QUICK });
  const keys = keysOf(2000);
  await client.batch(keys.map((k) => putCommand(k, [intBin('n', 1)])));
  for (let i = 0; i < 5; i++)
    for await (const _ of client.scan({ namespace: NAMESPACE, pageBytes: 2000 })) break;
  // the tend's own, and those of the batch and the last scan, which may be used again
  await until(() => own.server.connections <= 4);
  await client.close();
  await own.close();
});

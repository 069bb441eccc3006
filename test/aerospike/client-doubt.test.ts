/** How commands and scans end when a node is silent or lost in the middle: in time, and in doubt where something may have been done. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import type { ClientOptions } from '../../engine/aerospike/client/client-options.ts';
import { putCommand } from '../../engine/aerospike/client/command.ts';
import { intBin, isError, NAMESPACE, QUICK, u64 } from './client-support.ts';
import { type Script, ScriptedPeer, statusFrame } from './scripted-peer.ts';

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const o of opened.splice(0).reverse()) await o.close();
});

const clientOf = async (script: Partial<Script>, options: Partial<ClientOptions> = {}) => {
  const peer = await ScriptedPeer.open({ info: ScriptedPeer.infoOf('A1', () => true), ...script });
  opened.push(peer);
  const client = await AerospikeClient.connect({
    hosts: [{ host: '127.0.0.1', port: peer.port }],
    ...QUICK,
    tendIntervalMs: 60_000,
    ...options,
  });
  opened.push(client);
  return { client, peer };
};
const key = wireKeyOf(NAMESPACE, 's', { type: 1, bytes: u64(1) });

describe('a write that may have been done stays in doubt', () => {
  const firsts = {
    'the socket was lost': (socket: { destroy(): void }) => {
      socket.destroy();
      return undefined;
    },
    'the server timed out (9)': () => statusFrame(9),
  };
  for (const [what, first] of Object.entries(firsts))
    test(`${what}, and every later attempt was refused`, async () => {
      let frames = 0;
      const onFrame: Script['onFrame'] = (_, socket) => (++frames === 1 ? first(socket) : statusFrame(14));
      const { client } = await clientOf({ onFrame }, { attemptsMax: 3 });
      const put = putCommand(key, [intBin('n', 1)], { idempotent: true });
      const results = await client.runAll([put]);
      assert.equal(frames, 3);
      assert.equal(results.code(0), 14);
      assert.equal(results.isInDoubt(0), true);
      assert.equal(results.failure(0)?.facts.inDoubt, true);
    });

  test('and is not once it was answered', async () => {
    let frames = 0;
    const { client } = await clientOf({ onFrame: () => statusFrame(++frames === 1 ? 9 : 0) });
    const results = await client.runAll([putCommand(key, [intBin('n', 1)], { idempotent: true })]);
    assert.equal(results.code(0), 0);
    assert.equal(results.isInDoubt(0), false);
  });
});

test('a command that waits for a socket ends with its own time', async () => {
  // the pool's only socket is a batch's, which nobody answers
  const { client } = await clientOf(
    { onFrame: () => undefined },
    { lanes: 1, socketsMax: 1, connectTimeoutMs: 60_000 },
  );
  const batch = client.batch([putCommand(key, [intBin('n', 1)])], { timeoutMs: 60_000 });
  await assert.rejects(client.get(key, { timeoutMs: 50 }), isError('aerospike-timeout'));
  await client.close();
  await batch.catch(() => undefined);
});

test('a scan that is stopped does not wait for the account of its page', async () => {
  const stop = new AbortController();
  const asked = await clientOf(
    {
      onFrame: () => statusFrame(0, 1),
      onInfo: (command) => {
        if (!command.startsWith('query-show')) return undefined;
        // this one is not answered
        asked.peer.repeats = 0;
        setImmediate(() => stop.abort());
        return undefined;
      },
    },
    { socketTimeoutMs: 60_000 },
  );
  const scan = asked.client.scan({ namespace: NAMESPACE, signal: stop.signal });
  await assert.rejects(async () => {
    for await (const _ of scan);
  }, isError('interrupted'));
});

/** Polls of a server that somebody else runs (`PITR_TEST_AEROSPIKE=host:port`, its namespace `bar`): what it says is what the model of it says. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeClient, wireKeyOf } from '../../engine/aerospike/client/client.ts';
import { LUT_OP, lutMsAt, writeOp } from '../../engine/aerospike/client/record.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { partitionOf } from '../../engine/partition.ts';
import { Poller } from '../../wal/capture/aerospike/poller.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal } from '../../wal/capture/journal.ts';
import { readLog, textOf } from './log-state.ts';
import { intBin } from './world.ts';

const REAL = process.env.PITR_TEST_AEROSPIKE;
const NAMESPACE = 'bar';

test('a real server', { skip: REAL === undefined && 'no server is given' }, async (t) => {
  const [host, port] = (REAL ?? '').split(':');
  const client = await AerospikeClient.connect({ hosts: [{ host, port: Number(port) }] });
  const root = await mkdtemp(join(tmpdir(), 'pitr-real-'));
  const set = `poll-${randomBytes(4).toString('hex')}`;
  const dir = join(root, 'capture');
  const key = (n: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64BE(BigInt(n));
    return wireKeyOf(NAMESPACE, set, { type: 1, bytes }, n % 2 === 0);
  };
  const info = async (command: string): Promise<string> =>
    [...(await client.info(client.nodes[0], [command])).values()][0];
  await initCapture(
    dir,
    { kind: 'aerospike', url: `aerospike://${REAL}`, namespaces: [NAMESPACE], sets: [set] },
    { archive: `file:${join(root, 'archive')}` },
  );
  const journal = await Journal.open(dir);
  t.after(async () => {
    await info(`truncate:namespace=${NAMESPACE};set=${set}`);
    await info(`sindex-delete:namespace=${NAMESPACE};indexname=${set}`);
    await info(`udf-remove:filename=${set}.lua;`);
    await client.close();
    await journal.close();
    await rm(root, { recursive: true, force: true });
  });
  const poller = new Poller(client, journal, { sweepMs: 1e12 });
  // both clocks are of one machine when the server is here
  const isLocal = host === '127.0.0.1';
  const preparedMs = Date.now();
  const { clockMs } = await poller.prepare();
  assert(!isLocal || (clockMs > preparedMs - 1002 && clockMs <= Date.now()), `${clockMs}, not ${preparedMs}`);
  await journal.loaded(new ContentDigest(journal.identity.shards), clockMs);
  // whatever else is in the namespace is found now, and is of other sets
  await sleep(10);
  const luts = new Map<number, number>();
  const put = async (n: number, value: number, ttl: 'never' | number = 'never'): Promise<void> => {
    const { answers } = await client.operate(key(n), [writeOp('a', intBin('a', value)), LUT_OP], { ttl });
    luts.set(n, lutMsAt(Buffer.from(answers[1].bytes), 0));
  };
  for (let n = 0; n < 100; n++) await put(n, n);
  const first = await poller.poll();
  assert.deepEqual([first.versions, first.missed, first.unrepresentable], [100, 0, 0]);
  // the copy ended within the second that the clock said then
  await sleep(1100);
  // from here on by the clock of a record
  const polledMs = Date.now();
  const second = await poller.poll();
  assert.deepEqual(
    [second.isClockExact, second.versions, second.countsOff, second.isStated],
    [true, 0, 0, true],
  );
  assert(!isLocal || (second.serverMs >= polledMs - 1 && second.serverMs <= Date.now()));
  let { versions } = await readLog(dir);
  for (const [n, lutMs] of luts) {
    const found = versions.filter((v) => Buffer.from(v.digest).equals(Buffer.from(key(n).digest)));
    assert.equal(found.length, 1);
    assert.equal(found[0].seen?.lutMs ?? found[0].ts, lutMs);
    const keyText = n % 2 === 0 ? `1:${n.toString(16).padStart(16, '0')}` : '';
    assert.equal(textOf(found[0].image!), `${keyText} a:1:${n.toString(16).padStart(16, '0')}`);
  }
  const read = versions.length;
  for (let i = 0; i < 3; i++) await put(1, 1000 + i);
  await client.delete(key(2));
  await client.delete(key(3));
  await put(3, 7);
  await put(4, 4, 1);
  const strange = { ...key(5), set: Buffer.from([0xff, 0xfe]), digest: Buffer.alloc(20, 7), key: undefined };
  await client.put(strange, [intBin('a', 1)]);
  await info(`sindex-create:namespace=${NAMESPACE};set=${set};indexname=${set};bin=a;type=numeric`);
  const lua = Buffer.from('function f(r) return 1 end\n').toString('base64');
  assert.equal(
    await info(`udf-put:filename=${set}.lua;content=${lua};content-len=${lua.length};udf-type=LUA;`),
    'ok',
  );
  const third = await poller.poll();
  assert.deepEqual([third.versions, third.missed, third.deleted, third.unrepresentable], [4, 2, 1, 1]);
  assert(third.definitions >= 2 && third.countsOff >= 1);
  await client.delete(strange);
  await sleep(2200);
  const fourth = await poller.poll();
  assert.deepEqual([fourth.versions, fourth.deleted, fourth.unrepresentable], [0, 0, 0]);
  assert.equal(await info(`truncate:namespace=${NAMESPACE};set=${set}`), 'ok');
  await sleep(5);
  await put(50, 5);
  const fifth = await poller.poll();
  assert.deepEqual([fifth.truncations, fifth.versions, fifth.deleted], [1, 1, 0]);
  const sixth = await poller.poll();
  assert.deepEqual([sixth.countsOff, sixth.versions, sixth.isStated], [0, 0, true]);
  ({ versions } = await readLog(dir));
  const shown = versions
    .slice(read)
    .map((v) => [partitionOf(v.digest), v.image !== undefined, v.seen?.missed ?? 0]);
  assert.equal(shown.length, 5);
  await poller.poll();
});

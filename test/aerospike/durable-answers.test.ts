/** V1, V7: what is answered is durable, and what happens to answers when the log cannot be written. Real files whose log can be held. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { AerospikeServer } from '../../engine/aerospike/server/aerospike-server.ts';
import { type Files, nodeFiles } from '../../engine/files.ts';
import { PartitionSet } from '../../engine/partition.ts';
import { Engine } from '../../wal/engine.ts';
import { errnoError } from '../wal/memory-files.ts';
import {
  digestOf,
  field,
  GET_ALL,
  int,
  message,
  partitionOf,
  READ,
  u32,
  u64,
  utf8,
  WRITE,
} from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

const root = mkdtempSync(join(tmpdir(), 'pitr-durable-'));
after(() => rmSync(root, { recursive: true }));

/** Appends to the log wait while it is held, or fail. */
const log = { held: undefined as Promise<void> | undefined, fails: false };
let letGo = (): void => undefined;
const files: Files = {
  ...nodeFiles,
  openSynced: async (path, bytes) => {
    const file = await nodeFiles.openSynced(path, bytes);
    return {
      append: async (data) => {
        await log.held;
        if (log.fails) throw errnoError('ENOSPC');
        await file.append(data);
      },
      close: () => file.close(),
    };
  },
};
const hold = (): (() => void) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  log.held = promise;
  letGo = () => {
    log.held = undefined;
    resolve();
  };
  return letGo;
};

let engine: Engine;
let server: AerospikeServer;
let dirs = 0;
const open = (): Promise<WireConnection> => WireConnection.open('127.0.0.1', server.addresses[0].port);
beforeEach(async () => {
  log.held = undefined;
  log.fails = false;
  engine = await Engine.open({ dir: join(root, `${dirs++}`), sealMs: 0, files });
  server = await AerospikeServer.listen({ engine, port: 0 });
});
afterEach(async () => {
  log.fails = false;
  letGo();
  await server.close();
  await engine.close().catch(() => undefined);
});

const fields = (key: number): Buffer[] => [
  field(0, utf8('test')),
  field(1, utf8('s')),
  field(4, digestOf('s', 1, u64(key))),
];
const put = (key: number, value: number): Buffer =>
  message({ info2: WRITE, fields: fields(key), ops: [int('a', value)] });
const get = (key: number): Buffer => message({ info1: READ | GET_ALL, fields: fields(key) });
const value = (n: number): string[] => [`1 a 1:${u64(n).toString('hex')}`];
/** Whether an answer comes while the log is held. */
const isSilent = async (answer: Promise<unknown>): Promise<boolean> =>
  (await Promise.race([answer.then(() => 'answered'), sleep(150)])) === undefined;

test('a write is answered when its log is synced, and whoever reads it meanwhile waits for that, too', async () => {
  const [writer, reader, other] = [await open(), await open(), await open()];
  assert.equal((await writer.call(put(1, 1))).code, 0);
  assert.equal((await writer.call(put(2, 1))).code, 0);
  const release = hold();
  const written = writer.call(put(1, 2));
  assert.ok(await isSilent(written));
  const read = reader.call(get(1));
  assert.ok(await isSilent(read));
  const batch = message({
    info1: 0x08,
    fields: [
      field(
        41,
        Buffer.concat([
          u32(1),
          Buffer.of(0x0d),
          u32(0),
          digestOf('s', 1, u64(1)),
          Buffer.from('000300020000', 'hex'),
          field(0, utf8('test')),
          field(1, utf8('s')),
        ]),
      ),
    ],
  });
  const rows = other.frames(batch);
  assert.ok(await isSilent(rows));
  release();
  assert.equal((await written).generation, 2);
  assert.deepEqual((await read).ops, value(2));
  assert.deepEqual((await rows)[0][0].ops, value(2));
  for (const w of [writer, reader, other]) w.close();
});

test('a log that cannot be written: no write is answered that waited for it, later ones get 8, reads go on with what is durable', async () => {
  const [writer, reader] = [await open(), await open()];
  assert.equal((await writer.call(put(1, 1))).code, 0);
  const release = hold();
  const pending = Promise.allSettled([writer.call(put(1, 2)), reader.call(get(1))]);
  await sleep(50);
  log.fails = true;
  release();
  const [write, read] = await pending;
  assert.equal(write.status, 'rejected', 'in doubt: the connection ends');
  // it may have read what never became durable: then it is not told either
  if (read.status === 'fulfilled') assert.deepEqual(read.value.ops, value(1));
  const later = await open();
  assert.equal((await later.call(put(1, 3))).code, 8);
  assert.equal((await later.call(put(9, 3))).code, 8);
  assert.deepEqual((await later.call(get(1))).ops, value(1));
  assert.equal((await later.call(get(9))).code, 2);
  const [stop, truncate] = await later.info('namespace/test', 'truncate:namespace=test;set=s');
  assert.match(stop, /stop_writes=true/);
  assert.match(truncate, /^ERROR:8:/);
  later.close();
});

test('a partition that another engine owns answers 11, and is no part of the map', async () => {
  const key = 3;
  const partition = partitionOf(digestOf('s', 1, u64(key)));
  const wire = await open();
  assert.equal((await wire.call(put(key, 1))).code, 0);
  await engine.release(PartitionSet.of([{ start: partition, end: partition + 1 }]), 'elsewhere');
  assert.equal((await wire.call(get(key))).code, 11);
  assert.equal((await wire.call(put(key, 2))).code, 11);
  const bitmap = Buffer.from((await wire.info('replicas'))[0].split(',')[2], 'base64');
  assert.equal(bitmap[partition >> 3] & (0x80 >> (partition & 7)), 0);
  assert.equal(
    bitmap.reduce((n, byte) => n + byte.toString(2).replaceAll('0', '').length, 0),
    4095,
  );
  wire.close();
});

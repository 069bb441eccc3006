/** What a store tells its observer, and that it is the same store all the same. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { types } from 'node:util';
import { PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { observedStore } from '../../engine/observed-store.ts';
import { openObjectStore } from '../../engine/open-object-store.ts';
import { RequestPacer } from '../../engine/request-pacer.ts';
import { S3Failure } from '../../engine/s3-failure.ts';
import { parseS3Url } from '../../engine/s3-options.ts';
import { S3Requests } from '../../engine/s3-requests.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { RemoteObserver, type StoreEvent } from '../../engine/store-observer.ts';
import type { Timing } from '../../engine/timing.ts';
import { Archiver } from '../../wal/archiver.ts';
import { Engine } from '../../wal/engine.ts';
import { bytesOf, objectStoreConformance, rejectsWith } from './object-store-conformance.ts';

const { isProxy } = types;

const scratch = async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pitr-observed-'));
  return { dir, dispose: () => rm(dir, { recursive: true, force: true }) };
};

objectStoreConformance(
  'an observed store',
  async () => {
    const { dir, dispose } = await scratch();
    return { store: openObjectStore(`file:${dir}`, () => undefined), dispose };
  },
  async () => {
    const { dir, dispose } = await scratch();
    await writeFile(join(dir, 'file'), '');
    return { store: openObjectStore(`file:${join(dir, 'file')}`, () => undefined), dispose };
  },
  { increments: 5, swaps: 20 },
);

test('a store that nobody observes is the store itself, and one that somebody does has all that it has', () => {
  const plain = openObjectStore('s3://bucket/x');
  assert.ok(plain instanceof S3Store && !isProxy(plain));
  assert.ok(!isProxy(openObjectStore('file:/tmp/x')));
  const observed = openObjectStore('s3://bucket/x', () => undefined);
  assert.ok(isProxy(observed) && observed instanceof S3Store);
  assert.deepEqual([observed.url, observed.options.bucket], ['s3://bucket/x', 'bucket']);
  class Odd extends S3Store {
    readonly #own = 1;
    get more(): number {
      return this.#own;
    }
    evenMore(): number {
      return this.#own + 1;
    }
  }
  const odd = observedStore(new Odd({ url: 's3://bucket/x' }), () => undefined);
  assert.ok(odd instanceof Odd);
  const { evenMore } = odd;
  assert.deepEqual([odd.more, evenMore()], [1, 2]);
});

test('each request is told once, with its time, its bytes and the id of its error', async () => {
  const { dir, dispose } = await scratch();
  let nowMs = 0;
  const told: StoreEvent[] = [];
  const inner = openObjectStore(`file:${dir}`);
  const stubborn: ObjectStore = new Proxy(inner, {
    get: (store, name) => {
      nowMs += 3;
      if (name === 'delete')
        return async () => [
          { name: 'a', cause: new PitrError('io', { op: 'delete', path: 'a', why: 'EPERM' }) },
          { name: 'b', cause: new Error('?') },
        ];
      const method: unknown = Reflect.get(store, name);
      return typeof method === 'function' ? method.bind(store) : method;
    },
  });
  const store = observedStore(
    stubborn,
    (event) => told.push(event),
    () => nowMs,
  );
  const next = (): object => {
    assert.equal(told.length, 1, JSON.stringify(told));
    const { kind, ...rest } = told.pop() as StoreEvent & { kind: 'request' };
    assert.equal(kind, 'request');
    return rest;
  };
  const plain = { ms: 3, sentBytes: 0, receivedBytes: 0, errors: [] };
  try {
    await store.create('a/b', bytesOf('12345'));
    assert.deepEqual(next(), { ...plain, request: 'create', sentBytes: 5 });
    await rejectsWith('object-exists', store.create('a/b', bytesOf('1')));
    assert.deepEqual(next(), { ...plain, request: 'create', sentBytes: 1, errors: ['object-exists'] });
    await store.read('a/b', { start: 1, end: 3 });
    assert.deepEqual(next(), { ...plain, request: 'read', receivedBytes: 2 });
    await rejectsWith('object-not-found', store.read('nothing'));
    assert.deepEqual(next(), { ...plain, request: 'read', errors: ['object-not-found'] });
    assert.equal(await store.size('a/b'), 5);
    assert.deepEqual(next(), { ...plain, request: 'size' });
    await store.list('');
    assert.deepEqual(next(), { ...plain, request: 'list' });
    assert.equal(await store.readSwap('s'), undefined);
    assert.deepEqual(next(), { ...plain, request: 'read-swap' });
    await store.swap('s', undefined, bytesOf('123'));
    assert.deepEqual(next(), { ...plain, request: 'swap', sentBytes: 3 });
    await store.readSwap('s');
    assert.deepEqual(next(), { ...plain, request: 'read-swap', receivedBytes: 3 });
    assert.equal((await store.delete(['a', 'b'])).length, 2);
    assert.deepEqual(next(), { ...plain, request: 'delete', errors: ['io', 'internal'] });
  } finally {
    await dispose();
  }
});

/** Time that passes only in pauses; deadlines never come. */
const jumping = () => {
  let nowMs = 1000;
  const timing: Timing = {
    nowMs: () => nowMs,
    pause: async (ms, signal) => {
      if (signal) await new Promise((_, reject) => signal.addEventListener('abort', reject));
      nowMs += ms;
    },
    random: () => 1,
  };
  return { timing, pass: (ms: number) => (nowMs += ms) };
};

describe('below a request to a bucket', () => {
  test('tries, retries by cause, and the pause between them are told', async () => {
    const told: StoreEvent[] = [];
    const { timing } = jumping();
    const requests = new S3Requests(parseS3Url('s3://bucket?endpoint=http://127.0.0.1:9'), timing, (event) =>
      told.push(event),
    );
    const answers = [new S3Failure('throttled', 'SlowDown', ''), new S3Failure('away', 'reset', ''), 'done'];
    const run = async (): Promise<string> => {
      const answer = answers.shift()!;
      if (answer instanceof S3Failure) throw answer;
      return answer as string;
    };
    assert.equal(await requests.send({ run }), 'done');
    const flight = (change: 1 | -1) => ({ kind: 'flight', change }) as const;
    assert.deepEqual(told, [
      flight(1),
      flight(-1),
      { kind: 'try', failure: 'throttled' },
      { kind: 'retry', cause: 'throttled' },
      { kind: 'wait', reason: 'retry', ms: 500 },
      flight(1),
      flight(-1),
      { kind: 'try', failure: 'away' },
      { kind: 'retry', cause: 'away' },
      { kind: 'wait', reason: 'retry', ms: 200 },
      flight(1),
      flight(-1),
      { kind: 'try', failure: null },
    ]);
    told.length = 0;
    await assert.rejects(
      requests.send({ run: async () => Promise.reject(new S3Failure('denied', '?', '')) }),
    );
    assert.deepEqual(
      told.slice(2),
      [{ kind: 'try', failure: 'denied' }],
      'what does not pass is not tried again',
    );
  });

  test('waits for a place and for bandwidth are told, and what is in flight never exceeds the limit', async () => {
    const told: StoreEvent[] = [];
    const { timing, pass } = jumping();
    const pacer = new RequestPacer({ requestsMax: 2, bytesPerSecond: 1000 }, timing, (event) =>
      told.push(event),
    );
    const ends: (() => void)[] = [];
    const requests = [1, 2, 3].map(() => pacer.run(() => new Promise<void>((resolve) => ends.push(resolve))));
    await new Promise(setImmediate);
    pass(70);
    ends.shift()!();
    await new Promise(setImmediate);
    for (const end of ends) end();
    await Promise.all(requests);
    let inFlight = 0;
    for (const event of told) {
      if (event.kind !== 'flight') continue;
      inFlight += event.change;
      assert.ok(inFlight >= 0 && inFlight <= 2);
    }
    assert.equal(inFlight, 0);
    assert.deepEqual(
      told.filter((e) => e.kind === 'wait'),
      [{ kind: 'wait', reason: 'place', ms: 70 }],
    );
    told.length = 0;
    await pacer.pass(500);
    await pacer.pass(100);
    assert.deepEqual(told, [{ kind: 'wait', reason: 'bandwidth', ms: 500 }]);
  });
});

test('a thread that ends in the middle of requests leaves none in flight', () => {
  const told: StoreEvent[] = [];
  const remote = new RemoteObserver((event) => told.push(event));
  for (const change of [1, 1, -1, 1] as const) remote.heard({ kind: 'flight', change });
  remote.ended();
  assert.deepEqual(
    told.map((e) => (e.kind === 'flight' ? e.change : 0)),
    [1, 1, -1, 1, -1, -1],
  );
});

test('an archiver tells of all of its requests, those of its merging thread included', async () => {
  const { dir, dispose } = await scratch();
  const told: StoreEvent[] = [];
  try {
    const data = join(dir, 'data');
    await Engine.init(data, { archive: `file:${join(dir, 'archive')}` });
    const archiver = await Archiver.open(data, {
      fanout: 2,
      threadBytes: 0,
      observe: (event) => told.push(event),
    });
    const engine = await Engine.open({ dir: data, sealMs: 0 });
    for (let i = 0; i < 2; i++) {
      await engine.put({ namespace: 'test', set: 's', key: i }, { value: i });
      await engine.seal();
      await archiver.archivePending();
    }
    assert.equal(await archiver.compact(), 1);
    await engine.close();
    await archiver.close();
    const created = told.filter((e) => e.kind === 'request' && e.request === 'create');
    const segments = (await readdir(join(dir, 'archive'), { recursive: true })).filter((n) =>
      n.endsWith('.seg'),
    );
    assert.equal(segments.length, 3, 'two seals and what they were merged to');
    assert.equal(created.length, 3);
  } finally {
    await dispose();
  }
});

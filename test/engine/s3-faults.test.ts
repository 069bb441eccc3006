/** Each fault at each operation, at the first request and at the second: the right result or a typed error, never a wrong answer. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type ErrorId, isPitrError, PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { S3Store } from '../../engine/s3-store.ts';
import { FAULTS, type Fault } from '../s3/faults.ts';
import { hasty, startProvider } from '../s3/provider.ts';
import { bytesOf, collected } from './object-store-conformance.ts';

const MIB = 1024 * 1024;
const SEED = Number(process.env.PITR_FAULT_SEED ?? 1);
const provider = await startProvider(SEED);
const { faults } = provider;
after(() => provider.close());

const storeAt = (url: string) => new S3Store({ url, timing: hasty });

/** A store that has seen its provider keep conditions, so that what comes next are the requests of the operation alone. */
const open = async (more: Record<string, string> = {}): Promise<ObjectStore> => {
  const url = provider.url({ timeout: '0.4', 'part-size': '5', ...more });
  const store = storeAt(url);
  await store.create('warm', bytesOf(''));
  return store;
};

/** Passes on every error but the one that there should be. */
const failsWith = async (id: ErrorId, promise: Promise<unknown>): Promise<void> => {
  const error = await promise.then(
    () => undefined,
    (thrown) => thrown,
  );
  assert.notEqual(error, undefined, `no ${id}`);
  if (!isPitrError(error, id)) throw error;
};

/** Runs `body` while `planned` happens to its requests, and nothing afterwards. */
const during = async (planned: (Fault | 'none')[], body: () => Promise<void>): Promise<void> => {
  faults.planned = planned;
  try {
    await body();
  } finally {
    faults.planned = [];
  }
};

const large = Buffer.alloc(11 * MIB, 'abcdefg');
/** What an upload in parts makes of these is seen at its single requests, too. */
const LIKE_OTHERS: readonly Fault[] = [
  'error500',
  'slowDown',
  'drop',
  'cutBody',
  'slow',
  'lateDuplicate',
  'flipAnswer',
  'hang',
];

interface Operation {
  readonly what: string;
  /** What is there before, without faults. */
  prepare?(store: ObjectStore): Promise<unknown>;
  run(store: ObjectStore): Promise<void>;
  /** What must be true afterwards, seen without faults. */
  check(store: ObjectStore): Promise<void>;
  /** Requests that it takes. */
  readonly requests: number;
  /** Faults that nobody at this place can notice, or that need not be tried here. */
  readonly without?: readonly Fault[];
}

const textOf = async (store: ObjectStore, name: string): Promise<string> => `${await store.read(name)}`;

const OPERATIONS: readonly Operation[] = [
  {
    what: 'create',
    requests: 1,
    run: (store) => store.create('a', bytesOf('mine')),
    check: async (store) => assert.equal(await textOf(store, 'a'), 'mine'),
  },
  {
    what: 'create of what exists',
    requests: 2,
    prepare: (store) => store.create('a', bytesOf('first')),
    run: (store) => failsWith('object-exists', store.create('a', bytesOf('second'))),
    check: async (store) => assert.equal(await textOf(store, 'a'), 'first'),
  },
  {
    what: 'create in parts',
    requests: 7,
    run: (store) => store.create('large', large),
    check: async (store) => assert.ok(large.equals(await store.read('large'))),
    without: LIKE_OTHERS,
  },
  {
    what: 'swap',
    requests: 3,
    prepare: (store) => store.swap('head', undefined, bytesOf('0')),
    run: async (store) => {
      const now = await store.readSwap('head');
      // the tag that a swap gives is as good as one that was read, whatever became of its answer
      const tag = await store.swap('head', now?.tag, bytesOf('1'));
      await store.swap('head', tag, bytesOf('2'));
    },
    check: async (store) => assert.equal(`${(await store.readSwap('head'))?.bytes}`, '2'),
  },
  {
    what: 'first swap',
    requests: 1,
    run: async (store) => void (await store.swap('head', undefined, bytesOf('7'))),
    check: async (store) => assert.equal(`${(await store.readSwap('head'))?.bytes}`, '7'),
  },
  {
    what: 'swap by an old tag',
    requests: 3,
    prepare: async (store) => {
      const tag = await store.swap('head', undefined, bytesOf('old'));
      await store.swap('head', tag, bytesOf('new'));
      await store.create('tag', bytesOf(tag));
    },
    run: async (store) => {
      const tag = await textOf(store, 'tag');
      await failsWith('cas-conflict', store.swap('head', tag, bytesOf('stale')));
    },
    check: async (store) => assert.equal(`${(await store.readSwap('head'))?.bytes}`, 'new'),
  },
  {
    what: 'read',
    requests: 1,
    prepare: (store) => store.create('a', bytesOf('0123456789')),
    run: async (store) => assert.equal(await textOf(store, 'a'), '0123456789'),
    check: async () => undefined,
  },
  {
    what: 'read of a range',
    requests: 1,
    prepare: (store) => store.create('a', bytesOf('0123456789')),
    run: async (store) => assert.equal(`${await store.read('a', { start: 2, end: 5 })}`, '234'),
    check: async () => undefined,
    without: ['flipAnswer'],
  },
  {
    what: 'read of what is not there',
    requests: 1,
    run: (store) => failsWith('object-not-found', store.read('a')),
    check: async () => undefined,
    without: ['flipAnswer'],
  },
  {
    what: 'size',
    requests: 3,
    prepare: (store) => store.create('a', bytesOf('0123456789')),
    run: async (store) => {
      assert.equal(await store.size('a'), 10);
      assert.equal(await store.size('b'), undefined);
    },
    check: async () => undefined,
    without: ['flipAnswer'],
  },
  {
    what: 'list',
    requests: 1,
    prepare: async (store) => {
      for (const name of ['l/a', 'l/b', 'l/c']) await store.create(name, bytesOf(name));
    },
    run: async (store) => {
      const names = (await store.list('l/')).map((o) => o.name);
      assert.deepEqual(names, ['l/a', 'l/b', 'l/c']);
    },
    check: async () => undefined,
    without: ['flipAnswer'],
  },
  {
    what: 'delete',
    requests: 1,
    prepare: async (store) => {
      for (const name of ['d/a', 'd/b', 'd/c']) await store.create(name, bytesOf(name));
    },
    run: async (store) => {
      const [failure] = await store.delete(['d/a', 'd/b']);
      if (failure) throw failure.cause;
    },
    check: async (store) => assert.deepEqual(await store.list('d/'), [{ name: 'd/c', bytes: 3 }]),
    without: ['flipAnswer'],
  },
  {
    what: 'list of unfinished uploads',
    requests: 1,
    prepare: (store) => beginUploads(store, ['u/a', 'u/b']),
    run: async (store) => assert.deepEqual(await uploadsOf(store), ['u/a', 'u/b']),
    check: async () => undefined,
    without: ['flipAnswer'],
  },
  {
    what: 'removal of an unfinished upload',
    requests: 2,
    prepare: (store) => beginUploads(store, ['u/a', 'u/b']),
    run: async (store) => {
      const found = await collected(store.leftovers?.list());
      const [failure] = (await store.leftovers?.remove(found.slice(0, 1))) ?? [];
      if (failure) throw failure.cause;
    },
    check: async (store) => assert.deepEqual(await uploadsOf(store), ['u/b']),
    without: ['flipAnswer'],
  },
];

/** Begins uploads as a process does that is killed then: another store would know its own. */
async function beginUploads(store: ObjectStore, names: readonly string[]): Promise<void> {
  assert.ok(store instanceof S3Store);
  const { bucket, prefix } = store.options;
  for (const name of names) {
    const url = `${provider.endpoint}/${bucket}/${prefix}/${name}?uploads`;
    assert.equal((await fetch(url, { method: 'POST' })).status, 200);
  }
}

async function uploadsOf(store: ObjectStore): Promise<(string | undefined)[]> {
  return (await collected(store.leftovers?.list())).map((l) => l.name);
}

for (const { what, requests, prepare, run, check, without = [] } of OPERATIONS)
  describe(`S3Store: ${what}`, () => {
    for (const fault of FAULTS.filter((f) => !without.includes(f)))
      test(`is right in spite of ${fault} at each request, and twice`, async () => {
        const places = Array.from({ length: requests }, (_, i) => [...Array(i).fill('none'), fault]);
        for (const planned of [...places, [fault, fault]]) {
          const store = await open();
          await prepare?.(store);
          const before = faults.seen.get(fault) ?? 0;
          await during(planned, () => run(store));
          assert.ok((faults.seen.get(fault) ?? 0) > before, `${planned} happened`);
          await check(store);
        }
      });

    test('is right, or ends in a typed error, when it stays so', async () => {
      for (const fault of ['error500', 'slowDown', 'ok200Error', 'drop', 'hang', 'cutBody'] as const) {
        const store = await open({ tries: '2', timeout: '0.2' });
        await prepare?.(store);
        await during(Array(100).fill(fault), () =>
          run(store).catch((error) => {
            assert.ok(error instanceof PitrError, `${fault}: ${error}`);
            const expected = fault === 'slowDown' ? 'archive-throttled' : 'archive-away';
            assert.equal(error.id, expected, `${fault}: ${error.message}`);
          }),
        );
      }
    });
  });

/** What every object store must do, whatever is behind it. A new store passes this before anything trusts it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type ErrorId, PitrError } from '../../engine/errors.ts';
import { type ObjectStore, pagesOf } from '../../engine/object-store.ts';

type Opened = { store: ObjectStore; dispose: () => Promise<void> };

export const bytesOf = (text: string): Buffer => Buffer.from(text);

/** With this error, or one of these. */
export const rejectsWith = (id: ErrorId | readonly ErrorId[], promise: Promise<unknown>): Promise<void> =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof PitrError, `${error}`);
    assert.ok([id].flat().includes(error.id), `${id} expected, not ${error.id}: ${error.message}`);
    return true;
  });

/** Everything that comes in pieces; nothing where there are none. */
export const collected = async <T>(pages: AsyncIterable<readonly T[]> | undefined): Promise<T[]> => {
  const all: T[] = [];
  for await (const page of pages ?? []) all.push(...page);
  return all;
};

const idOf = (result: PromiseSettledResult<unknown>): string =>
  result.status === 'fulfilled' ? 'won' : ((result.reason as PitrError).id ?? String(result.reason));

/** Adds one to a decimal counter, again and again until no other writer came between. */
export async function increment(store: ObjectStore, name: string): Promise<void> {
  for (;;) {
    const before = await store.readSwap(name);
    try {
      await store.swap(name, before?.tag, bytesOf(String(Number(before?.bytes ?? 0) + 1)));
      return;
    } catch (error) {
      if (!(error instanceof PitrError && error.id === 'cas-conflict')) throw error;
    }
  }
}

interface Traits {
  /** The error of a broken store. */
  readonly brokenId?: ErrorId;
  /** Of one of four writers. */
  readonly increments?: number;
  /** That a writer sleeps through. */
  readonly swaps?: number;
  /** Where answers get lost: what else a writer may be told that slept through more swaps than a value remembers (SW2). */
  readonly unclearIds?: readonly ErrorId[];
  /** The error of a provider that cannot list unfinished uploads. */
  readonly leftoversId?: ErrorId;
}

/**
 * @param open gives an empty store that exists
 * @param openBroken gives a store whose provider refuses every request
 */
export function objectStoreConformance(
  name: string,
  open: () => Promise<Opened>,
  openBroken: () => Promise<Opened>,
  { brokenId = 'io', increments = 50, swaps = 300, unclearIds = [], leftoversId }: Traits = {},
): void {
  const it = (what: string, body: (store: ObjectStore) => Promise<void>, opener = open) =>
    test(what, async () => {
      const { store, dispose } = await opener();
      try {
        await body(store);
      } finally {
        await dispose();
      }
    });

  describe(`${name}: objects`, () => {
    it('an object reads back as it was created, empty and large ones too', async (store) => {
      const large = Buffer.alloc(3_000_000, 'abcdefg');
      await store.create('a/b/large', large);
      await store.create('empty', bytesOf(''));
      assert.ok(large.equals(await store.read('a/b/large')));
      assert.equal((await store.read('empty')).length, 0);
      assert.equal(await store.size('a/b/large'), 3_000_000);
      assert.equal(await store.size('empty'), 0);
    });

    it('a view into a larger buffer is stored alone', async (store) => {
      await store.create('view', bytesOf('0123456789').subarray(2, 5));
      assert.equal(`${await store.read('view')}`, '234');
    });

    it('an object is never overwritten', async (store) => {
      await store.create('a', bytesOf('first'));
      await rejectsWith('object-exists', store.create('a', bytesOf('second')));
      assert.equal(`${await store.read('a')}`, 'first');
    });

    it('of 20 concurrent creators exactly one wins, and its bytes are the object', async (store) => {
      const bodies = Array.from({ length: 20 }, (_, i) => `creator ${i}`);
      const results = await Promise.allSettled(bodies.map((body) => store.create('x/y', bytesOf(body))));
      assert.deepEqual(results.map(idOf).sort(), [...Array(19).fill('object-exists'), 'won']);
      const winner = results.findIndex((r) => r.status === 'fulfilled');
      assert.equal(`${await store.read('x/y')}`, bodies[winner]);
    });

    it('a range is half-open, cut at the end, and counts from the end when negative', async (store) => {
      await store.create('a', bytesOf('0123456789'));
      const read = async (start: number, end?: number) => `${await store.read('a', { start, end })}`;
      assert.equal(await read(0, 4), '0123');
      assert.equal(await read(3), '3456789');
      assert.equal(await read(3, 3), '');
      assert.equal(await read(8, 100), '89');
      assert.equal(await read(10), '');
      assert.equal(await read(50, 60), '');
      assert.equal(await read(-3), '789');
      assert.equal(await read(-100), '0123456789');
      for (const [start, end] of [
        [-3, 5],
        [4, 2],
        [0.5, 3],
        [Number.NaN, 3],
      ] as const) {
        await rejectsWith('usage', store.read('a', { start, end }));
      }
    });

    it('what is not there is not found', async (store) => {
      await rejectsWith('object-not-found', store.read('a'));
      await rejectsWith('object-not-found', store.read('a/b/c', { start: -8 }));
      assert.equal(await store.size('a'), undefined);
      assert.equal(await store.size('a/b/c'), undefined);
      assert.deepEqual(await store.list(''), []);
      assert.deepEqual(await store.list('a/b/'), []);
    });

    it('list gives names and sizes below a folder, in name order', async (store) => {
      const names = ['s/a.b', 's/a/b', 's/a-b', 's/Z', 's2', 'r/q', 's/a/.hidden'];
      for (const n of names) await store.create(n, bytesOf(n));
      const all = [...names].sort();
      assert.deepEqual(
        await store.list(''),
        all.map((n) => ({ name: n, bytes: n.length })),
      );
      assert.deepEqual(
        (await store.list('s/')).map((o) => o.name),
        all.filter((n) => n.startsWith('s/')),
      );
      assert.deepEqual(
        (await store.list('s/a/')).map((o) => o.name),
        ['s/a/.hidden', 's/a/b'],
      );
      await rejectsWith('usage', store.list('s'));
      await rejectsWith('usage', store.list('../'));
    });

    it('a listing in pieces has what a listing has', async (store) => {
      for (const n of ['p/c', 'p/a/b', 'p/a.b', 'q']) await store.create(n, bytesOf(n));
      for (const prefix of ['', 'p/', 'p/a/', 'nowhere/']) {
        const names = (await collected(pagesOf(store, prefix))).map((o) => o.name);
        assert.deepEqual(
          names.sort(),
          (await store.list(prefix)).map((o) => o.name),
        );
      }
      await rejectsWith('usage', collected(pagesOf(store, 'p')));
    });

    it('who has ended what it began leaves nothing beside its objects', async (store) => {
      await store.create('a/b', bytesOf('b'));
      await rejectsWith('object-exists', store.create('a/b', bytesOf('c')));
      const tag = await store.swap('h/head', undefined, bytesOf('1'));
      await store.swap('h/head', tag, bytesOf('2'));
      await rejectsWith('cas-conflict', store.swap('h/head', tag, bytesOf('3')));
      const leftovers = collected(store.leftovers?.list());
      if (leftoversId) await rejectsWith(leftoversId, leftovers);
      else assert.deepEqual(await leftovers, []);
    });

    it('delete removes what is there, and takes absent for deleted', async (store) => {
      for (const n of ['d/a', 'd/b', 'c']) await store.create(n, bytesOf(n));
      assert.deepEqual(await store.delete(['d/a', 'd/never', 'nowhere/x', 'c']), []);
      assert.deepEqual(
        (await store.list('')).map((o) => o.name),
        ['d/b'],
      );
      await store.create('d/a', bytesOf('again'));
      assert.equal(`${await store.read('d/a')}`, 'again');
    });

    it('delete goes on after a failure and names it', async (store) => {
      await store.create('d/b', bytesOf('b'));
      const failures = await store.delete(['../x', 'd/b']);
      assert.deepEqual(
        failures.map((f) => f.name),
        ['../x'],
      );
      assert.equal(await store.size('d/b'), undefined);
    });

    it('a name that could leave the archive or not exist elsewhere is refused', async (store) => {
      const names = [
        '',
        '/',
        '/a',
        'a/',
        'a//b',
        '.',
        '..',
        'a/..',
        '../a',
        'a/./b',
        'a..b',
        'a b',
        'ä',
        'a\\b',
      ];
      for (const n of [...names, 'a\0', '.tmp/x', 'a\nb', 'x'.repeat(2000)]) {
        await rejectsWith('usage', store.create(n, bytesOf('')));
        await rejectsWith('usage', store.read(n));
        await rejectsWith('usage', store.size(n));
        await rejectsWith('usage', store.readSwap(n));
        await rejectsWith('usage', store.swap(n, undefined, bytesOf('')));
      }
      assert.deepEqual(await store.list(''), []);
    });
  });

  describe(`${name}: swaps`, () => {
    it('a value is there once it was swapped in, and only the current tag replaces it', async (store) => {
      assert.equal(await store.readSwap('h/head'), undefined);
      const first = await store.swap('h/head', undefined, bytesOf('one'));
      assert.deepEqual(await store.readSwap('h/head'), { bytes: bytesOf('one'), tag: first });
      const second = await store.swap('h/head', first, bytesOf('two'));
      assert.notEqual(second, first);
      await rejectsWith('cas-conflict', store.swap('h/head', first, bytesOf('late')));
      await rejectsWith('cas-conflict', store.swap('h/head', undefined, bytesOf('new')));
      assert.deepEqual(await store.readSwap('h/head'), { bytes: bytesOf('two'), tag: second });
    });

    it('an old value that comes back does not bring its tag back', async (store) => {
      const first = await store.swap('head', undefined, bytesOf('a'));
      const second = await store.swap('head', first, bytesOf('b'));
      const third = await store.swap('head', second, bytesOf('a'));
      assert.notEqual(third, first);
      await rejectsWith('cas-conflict', store.swap('head', first, bytesOf('stale')));
      assert.deepEqual(await store.readSwap('head'), { bytes: bytesOf('a'), tag: third });
    });

    it('a tag of a value that never was is refused', async (store) => {
      const tag = await store.swap('elsewhere', undefined, bytesOf('x'));
      await rejectsWith('cas-conflict', store.swap('head', tag, bytesOf('y')));
      assert.equal(await store.readSwap('head'), undefined);
      await rejectsWith('usage', store.swap('head', '../../x', bytesOf('y')));
    });

    it('of 20 concurrent swaps exactly one wins, for every tag', async (store) => {
      let tag: string | undefined;
      for (let round = 0; round < 5; round++) {
        const swaps = Array.from({ length: 20 }, (_, i) => store.swap('head', tag, bytesOf(`${round}.${i}`)));
        const results = await Promise.allSettled(swaps);
        assert.deepEqual(results.map(idOf).sort(), [...Array(19).fill('cas-conflict'), 'won']);
        const winner = results.findIndex((r) => r.status === 'fulfilled');
        const now = await store.readSwap('head');
        assert.equal(`${now?.bytes}`, `${round}.${winner}`);
        tag = now?.tag;
        assert.equal(tag, await swaps[winner]);
      }
    });

    it('concurrent increments with retry are all counted, and readers never lose sight of the value', async (store) => {
      let seen = 0;
      let done = false;
      const reader = (async () => {
        while (!done) {
          const now = Number((await store.readSwap('n'))?.bytes ?? 0);
          assert.ok(now >= seen, `${now} after ${seen}`);
          seen = now;
        }
      })();
      const writer = async () => {
        for (let i = 0; i < increments; i++) await increment(store, 'n');
      };
      await Promise.all([writer(), writer(), writer(), writer()]);
      done = true;
      await reader;
      assert.equal(`${(await store.readSwap('n'))?.bytes}`, `${4 * increments}`);
    });

    it('a writer that slept through many swaps is refused', async (store) => {
      const tags = [await store.swap('head', undefined, bytesOf('0'))];
      for (let i = 1; i <= swaps; i++) tags.push(await store.swap('head', tags.at(-1), bytesOf(`${i}`)));
      for (const i of [0, 1, swaps - 100, swaps - 65, swaps - 64, swaps - 1]) {
        await rejectsWith(['cas-conflict', ...unclearIds], store.swap('head', tags[i], bytesOf('stale')));
      }
      await rejectsWith(['cas-conflict', ...unclearIds], store.swap('head', undefined, bytesOf('stale')));
      assert.deepEqual(await store.readSwap('head'), { bytes: bytesOf(`${swaps}`), tag: tags[swaps] });
    });
  });

  it(
    `${name}: a failure is an error, never an absence`,
    async (store) => {
      await rejectsWith(brokenId, store.create('a', bytesOf('a')));
      await rejectsWith(brokenId, store.read('a'));
      await rejectsWith(brokenId, store.size('a'));
      await rejectsWith(brokenId, store.list(''));
      await rejectsWith(brokenId, store.list('a/'));
      await rejectsWith(brokenId, collected(pagesOf(store, 'a/')));
      if (store.leftovers) await rejectsWith(brokenId, collected(store.leftovers.list()));
      await rejectsWith(brokenId, store.readSwap('a'));
      await rejectsWith(brokenId, store.swap('a', undefined, bytesOf('a')));
      assert.deepEqual(
        (await store.delete(['a'])).map((f) => f.name),
        ['a'],
      );
    },
    openBroken,
  );
}

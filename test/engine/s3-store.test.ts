/** S3 as an object store: the suite that every store passes, at providers with different habits, and what only S3 has. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, afterEach, describe, test } from 'node:test';
import { isPitrError, PitrError } from '../../engine/errors.ts';
import { S3Store } from '../../engine/s3-store.ts';
import type { Quirks } from '../s3/gate.ts';
import { hasty, startProvider } from '../s3/provider.ts';
import { bytesOf, collected, objectStoreConformance, rejectsWith } from './object-store-conformance.ts';

const MIB = 1024 * 1024;
const SEED = Number(process.env.PITR_FAULT_SEED ?? 1);
const provider = await startProvider(SEED);
const { gate, faults } = provider;
after(() => provider.close());

const storeAt = (url: string) => new S3Store({ url, timing: hasty });
/** Short deadlines, so that what hangs does not hang long, and patience. */
const patient = { timeout: '0.5', tries: '40', requests: '32' };

const calm = async () => {
  gate.quirks = {};
  gate.messages.length = 0;
  faults.rate = 0;
  faults.planned = [];
};

const traits = { brokenId: 'archive-away', increments: 4, swaps: 70 } as const;
const openBroken = async () => ({
  store: storeAt('s3://bucket/p?endpoint=http://127.0.0.1:9&tries=2'),
  dispose: calm,
});

/** The suite against a provider with these habits. */
const conforms = (name: string, quirks: Quirks, rate = 0) =>
  objectStoreConformance(
    name,
    async () => {
      gate.quirks = quirks;
      faults.rate = rate;
      return { store: storeAt(provider.url(rate > 0 ? patient : {})), dispose: calm };
    },
    openBroken,
    rate > 0 ? { ...traits, unclearIds: ['archive-away', 'archive-throttled', 'object-corrupt'] } : traits,
  );

conforms('S3Store', {});
conforms('S3Store at a provider with short pages, bare ETags, no ranges, and losers that get 500', {
  pageKeys: 2,
  bareEtags: true,
  loserGets500: true,
  ignoresRanges: true,
});
conforms(`S3Store, something happens to every eighth request (seed ${SEED})`, {}, 1 / 8);
objectStoreConformance(
  'S3Store, one writer at a provider without conditions',
  async () => ({ store: storeAt(provider.bareUrl({ 'single-writer': 'true' })), dispose: calm }),
  openBroken,
  { ...traits, leftoversId: 'archive-refused' },
);

/** Any other server, for example PITR_TEST_S3='s3://bucket/tests?endpoint=http://127.0.0.1:9000'. */
const other = process.env.PITR_TEST_S3;
if (other !== undefined)
  objectStoreConformance(
    'S3Store at PITR_TEST_S3',
    async () => {
      const [place, query = ''] = other.split('?');
      const store = new S3Store({ url: `${place}/${randomBytes(6).toString('hex')}?${query}` });
      const dispose = async () => {
        await store.delete((await store.list('')).map((o) => o.name));
      };
      return { store, dispose };
    },
    openBroken,
    traits,
  );

describe('S3Store: conditions', () => {
  afterEach(calm);

  test('O4: a provider that ignores them, or does not know them, is refused before anything is written', async () => {
    for (const quirks of [{ ignoresConditions: true }, { refusesConditions: true }]) {
      gate.quirks = quirks;
      const store = storeAt(provider.url());
      await rejectsWith('archive-unsafe', store.create('a', bytesOf('a')));
      await rejectsWith('archive-unsafe', store.swap('head', undefined, bytesOf('a')));
      assert.equal(await store.size('a'), undefined);
      assert.deepEqual(await store.list(''), []);
    }
  });

  test('O4: the proof is asked for once, and is not seen by anybody', async () => {
    const url = provider.url();
    const store = storeAt(url);
    await Promise.all([1, 2, 3].map((i) => store.create(`a${i}`, bytesOf('a'))));
    const proofs = () =>
      gate.messages.filter((m) => m.method === 'PUT' && m.url.includes('/.tmp/conditions'));
    assert.equal(proofs().length, 3, 'create, create again, swap');
    await storeAt(url).create('b', bytesOf('b'));
    assert.equal(proofs().length, 5, 'the object is there now');
    assert.deepEqual(
      (await store.list('')).map((o) => o.name),
      ['a1', 'a2', 'a3', 'b'],
    );
  });

  test('O3: a swap whose answer got lost is known to have won, also when somebody has built on it since', async () => {
    const mine = storeAt(provider.url({ timeout: '0.3' }));
    const other = storeAt(mine.url);
    const first = await mine.swap('head', undefined, bytesOf('0'));
    faults.meant = (message) => message.headers['if-match'] !== undefined;
    faults.planned = ['hang'];
    const swapped = mine.swap('head', first, bytesOf('mine'));
    for (let now = await other.readSwap('head'); ; now = await other.readSwap('head'))
      if (`${now?.bytes}` === 'mine') {
        await other.swap('head', now?.tag, bytesOf('theirs'));
        break;
      }
    faults.meant = () => true;
    const tag = await swapped;
    assert.equal(`${(await mine.readSwap('head'))?.bytes}`, 'theirs');
    await rejectsWith('cas-conflict', mine.swap('head', tag, bytesOf('late')));
  });

  test('a provider that forgets metadata does not confuse a writer about its own object', async () => {
    gate.quirks = { forgetsMetadata: true };
    const store = storeAt(provider.url());
    await store.create('warm', bytesOf(''));
    faults.planned = ['error500After'];
    await store.create('a', bytesOf('mine'));
    await rejectsWith('object-exists', store.create('a', bytesOf('other')));
    assert.equal(`${await store.read('a')}`, 'mine');
  });
});

describe('S3Store: large objects', () => {
  afterEach(calm);
  const large = Buffer.alloc(11 * MIB, 'abcdefg');
  const open = () => storeAt(provider.url({ 'part-size': '5', tries: '2' }));

  test('go up in parts; of several creators of a name one wins, whatever their sizes', async () => {
    gate.quirks = { noEtagOfParts: true };
    const store = open();
    const bodies = [large, Buffer.alloc(12 * MIB, 'x'), bytesOf('small')];
    const results = await Promise.allSettled(bodies.map((body) => store.create('segments/a', body)));
    const winner = results.findIndex((r) => r.status === 'fulfilled');
    assert.equal(results.filter((r) => r.status === 'fulfilled').length, 1);
    for (const r of results)
      if (r.status === 'rejected') assert.ok(isPitrError(r.reason, 'object-exists'), r.reason);
    assert.ok(bodies[winner]?.equals(await store.read('segments/a')));
  });

  test('read as absent until they are whole', async () => {
    const store = open();
    await store.create('warm', bytesOf(''));
    const seen: unknown[] = [];
    const creating = store.create('a', large);
    let isDone = false;
    creating.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      const size = await store.size('a');
      if (size === undefined) {
        const read = await store.read('a').catch((error) => error);
        seen.push(isPitrError(read, 'object-not-found') || (read as Buffer).length === large.length);
      } else seen.push(size === large.length);
    }
    await creating;
    assert.ok(seen.length > 0 && seen.every(Boolean));
    await rejectsWith('object-exists', store.create('a', large));
  });

  test('are known to be there when the last answer never comes', async () => {
    const store = storeAt(provider.url({ 'part-size': '5', timeout: '0.4' }));
    faults.meant = ({ method, url }) => method === 'POST' && url.includes('uploadId=');
    faults.planned = ['hang'];
    await store.create('a', large);
    faults.meant = () => true;
    assert.equal(faults.planned.length, 0);
    assert.ok(large.equals(await store.read('a')));
  });

  test('leave neither parts nor a name behind when they fail', async () => {
    const store = open();
    await store.create('warm', bytesOf(''));
    faults.meant = (message) => message.url.includes('partNumber=2');
    faults.planned = ['error500', 'error500'];
    await rejectsWith('archive-away', store.create('a', large));
    faults.meant = () => true;
    assert.ok(gate.messages.some((m) => m.method === 'DELETE' && m.url.includes('uploadId=')));
    assert.deepEqual(await store.list(''), [{ name: 'warm', bytes: 0 }]);
    await store.create('a', large);
    assert.equal(await store.size('a'), large.length);
  });
});

describe('S3Store: unfinished uploads', () => {
  afterEach(calm);

  /** An upload of a process that was killed. */
  const begin = async ({ options: { bucket, prefix } }: S3Store, name: string): Promise<void> => {
    await fetch(`${provider.endpoint}/${bucket}/${prefix}/${name}?uploads`, { method: 'POST' });
  };
  const leftoversOf = (store: S3Store) => collected(store.leftovers.list());

  test('are listed over pages, several of one name too, and none of another archive; they can be removed', async () => {
    gate.quirks = { pageKeys: 2 };
    const [store, other] = [storeAt(provider.url()), storeAt(provider.url())];
    for (const name of ['segments/b', 'segments/a', 'segments/a', 'segments/a', 'c'])
      await begin(store, name);
    await begin(other, 'segments/a');
    const found = await leftoversOf(store);
    assert.deepEqual(
      found.map((l) => [l.kind, l.name]),
      ['c', 'segments/a', 'segments/a', 'segments/a', 'segments/b'].map((name) => ['upload', name]),
    );
    assert.equal(new Set(found.map((l) => l.id)).size, 5);
    const [first, ...rest] = found;
    assert.deepEqual(await store.leftovers.remove(rest), []);
    assert.deepEqual(await leftoversOf(store), [first]);
    assert.deepEqual(await store.leftovers.remove(found), [], 'what is gone counts as removed');
    assert.equal((await leftoversOf(other)).length, 1);
    assert.deepEqual(await store.list(''), []);
  });

  test('that this process has under way are not among them', async () => {
    const store = storeAt(provider.url({ 'part-size': '5' }));
    const another = storeAt(store.url);
    const seen: number[] = [];
    await store.create('warm', bytesOf(''));
    faults.meant = ({ url }) => url.includes('partNumber=1');
    faults.planned = ['slow'];
    const creating = store.create('segments/large', Buffer.alloc(11 * MIB));
    let isDone = false;
    creating.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      assert.deepEqual(await leftoversOf(store), []);
      seen.push((await leftoversOf(another)).length);
    }
    await creating;
    faults.meant = () => true;
    assert.ok(seen.includes(1), 'another process sees it');
    assert.deepEqual(await leftoversOf(another), []);
  });

  test('that may not be listed are an error, not none', async () => {
    gate.quirks = { hidesUploads: true };
    await rejectsWith('archive-denied', leftoversOf(storeAt(provider.url())));
  });

  test('a server that answers another question instead is not believed', async () => {
    const store = storeAt(provider.bareUrl({ tries: '2' }));
    await begin(store, 'a');
    await rejectsWith('archive-refused', leftoversOf(store));
  });
});

describe('S3Store: what providers say', () => {
  afterEach(calm);

  test('more than a thousand names are listed and deleted; what is held is named, the others go', async () => {
    const store = storeAt(provider.url());
    const names = Array.from({ length: 1100 }, (_, i) => `n/${`${i}`.padStart(4, '0')}`);
    const { bucket, prefix } = store.options;
    const write = (name: string) =>
      fetch(`${provider.bareEndpoint}/${bucket}/${prefix}/${name}`, { method: 'PUT', body: 'x' });
    for (let i = 0; i < names.length; i += 100) await Promise.all(names.slice(i, i + 100).map(write));
    // pages as the server itself makes them
    gate.quirks = { held: '0042', passedOver: '0777', losesNames: true };
    assert.deepEqual(
      (await store.list('n/')).map((o) => o.name),
      names,
    );
    const failures = await store.delete(names);
    assert.deepEqual(
      failures.map(({ name, cause }) => [name, isPitrError(cause, 'archive-denied')]),
      [
        ['n/0042', true],
        ['n/0777', false],
      ],
    );
    assert.deepEqual(
      (await store.list('n/')).map((o) => o.name),
      ['n/0042', 'n/0777'],
    );
  });

  test('DeleteObjects carries the checksum that every server knows', async () => {
    const store = storeAt(provider.url());
    await store.create('a', bytesOf('a'));
    await store.delete(['a']);
    const { headers } = gate.messages.find((m) => m.method === 'POST' && m.url.includes('delete'))!;
    assert.ok(headers['content-md5']);
    const sent = gate.messages.flatMap((m) => Object.keys(m.headers));
    assert.deepEqual(
      sent.filter((name) => /checksum|trailer/.test(name)),
      [],
    );
  });

  test('never more requests are in flight than the settings say', async () => {
    const store = storeAt(provider.url({ requests: '3' }));
    let most = 0;
    let now = 0;
    faults.meant = () => {
      most = Math.max(most, ++now);
      setTimeout(() => now--, 20);
      return true;
    };
    faults.planned = Array(100).fill('slow');
    await Promise.all(Array.from({ length: 20 }, (_, i) => store.create(`a${i}`, bytesOf('x'))));
    faults.meant = () => true;
    assert.ok(most >= 2 && most <= 3, `${most} in flight`);
  });

  test('a whole object that is damaged at every read is corrupt, and never handed out', async () => {
    const store = storeAt(provider.url({ tries: '3' }));
    await store.create('a', bytesOf('0123456789'));
    faults.planned = Array(3).fill('flipAnswer');
    await rejectsWith('object-corrupt', store.read('a'));
    assert.equal(`${await store.read('a')}`, '0123456789');
  });

  test('an object that pitr did not swap in is no value', async () => {
    const store = storeAt(provider.url());
    await store.create('head', bytesOf('a document of somebody else'));
    await rejectsWith('object-corrupt', store.readSwap('head'));
  });

  test('a bucket that is not there is no empty archive', async () => {
    const store = storeAt(provider.url().replace('pitr-test', 'pitr-nowhere'));
    await rejectsWith('bucket-unknown', store.read('a'));
    await rejectsWith('bucket-unknown', store.size('a'));
    await rejectsWith('bucket-unknown', store.list(''));
    await rejectsWith('bucket-unknown', store.readSwap('a'));
    await rejectsWith('bucket-unknown', store.create('a', bytesOf('a')));
    const [failure] = await store.delete(['a']);
    assert.ok(failure?.cause instanceof PitrError);
  });
});

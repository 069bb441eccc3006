/** A store with pages against a plain map: whatever is written beside the pages, in whatever order, and however often it is opened. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { ContentDigest } from '../../engine/content-digest.ts';
import { isPitrError } from '../../engine/errors.ts';
import { PAGE_BYTES_MAX, pageOfWord, pagesPerPartition } from '../../engine/page.ts';
import { PAGE_FLAG } from '../../engine/record-file.ts';
import { encodeState, stateKey } from '../../engine/state-record.ts';
import { addToDigest, Store, type StoreMeta } from '../../engine/store.ts';

/** Two namespaces of which one is the beginning of the other, and few digests, so that operations meet. */
const keys = fc
  .tuple(fc.constantFrom('a', 'ab'), fc.integer({ min: 0, max: 7 }), fc.integer({ min: 0, max: 5 }))
  .map(([namespace, high, low]) => {
    const sortKey = Buffer.alloc(20);
    // partitions 0, 512 … 3584 and 4095; several records in a page, several pages in a partition
    sortKey.writeUInt32BE(high === 7 ? 0xfff00000 + low * 200_000 : high * 0x20000000 + low * 200_000, 0);
    sortKey[19] = low;
    return stateKey(namespace, sortKey);
  });
const values = fc
  .tuple(fc.constantFrom('', 's', 'set'), fc.uint8Array({ maxLength: 300 }))
  .map(([set, image]) => encodeState({ generation: 1, voidTime: 0, ts: 1, lsn: 1, lut: 1 }, set, image));

type Operation =
  | { readonly kind: 'put'; readonly key: Buffer; readonly value: Buffer }
  | { readonly kind: 'remove'; readonly key: Buffer }
  | { readonly kind: 'truncate'; readonly namespace: string }
  | { readonly kind: 'reopen' };

const operations: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), key: keys, value: values }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('remove' as const), key: keys }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('truncate' as const), namespace: fc.constantFrom('a', 'ab') }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
);

/** First words of slices: within partition 0, at the borders of partitions, and within the last. */
const CUTS = [
  0,
  100_000,
  200_000,
  400_001,
  2 ** 20,
  0x20000000,
  0x20000000 + 300_000,
  0xfff00000,
  0xfff00000 + 650_000,
  2 ** 32,
];

const META: StoreMeta = { appliedLsn: 1, lastTs: 1, epoch: 1, partitions: 'all', digests: [] };
const PER_PARTITION = 3;

const entry = (key: Buffer, value: Buffer, isPage: boolean): Buffer => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(key.length + (isPage ? PAGE_FLAG : 0), 0);
  head.writeUInt32LE(value.length, 4);
  return Buffer.concat([head, key, value]);
};

/** The map's records as a chunk of pages. */
const pagesOf = (records: ReadonlyMap<string, Buffer>): Buffer => {
  const pages = new Map<string, Buffer[]>();
  for (const hex of [...records.keys()].sort()) {
    const key = Buffer.from(hex, 'hex');
    const number = Buffer.alloc(4);
    const split = key.length - 20;
    number.writeUInt32BE(pageOfWord(key.readUInt32BE(split), PER_PARTITION));
    const id = Buffer.concat([key.subarray(0, split), number]).toString('hex');
    const value = records.get(hex) as Buffer;
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value.length);
    const page = pages.get(id) ?? [];
    page.push(key.subarray(split), bytes, value);
    pages.set(id, page);
  }
  return Buffer.concat(
    [...pages].map(([id, parts]) => entry(Buffer.from(id, 'hex'), Buffer.concat(parts), true)),
  );
};

const namespaceOf = (key: Buffer): string => key.toString('utf8', 0, key.length - 21);
const partitionOf = (key: Buffer): number => key.readUInt32BE(key.length - 20) >>> 20;

describe('a store with pages', () => {
  let root = '';
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'pitr-pages-'));
  });
  after(() => rm(root, { recursive: true, force: true }));
  let made = 0;

  const check = (store: Store, map: ReadonlyMap<string, Buffer>, probes: readonly Buffer[]): void => {
    const sorted = [...map.keys()].sort();
    assert.deepEqual(
      [...store.scan()].map(({ key, value }) => [key.toString('hex'), value]),
      sorted.map((k) => [k, map.get(k)]),
    );
    for (const key of probes) assert.deepEqual(store.get(key), map.get(key.toString('hex')));
    const keysOf = sorted.map((k) => Buffer.from(k, 'hex'));
    assert.deepEqual(store.namespaces(), [...new Set(keysOf.map(namespaceOf))]);
    for (const range of [
      { start: 0, end: 512 },
      { start: 512, end: 4095 },
      { start: 4095, end: 4096 },
    ])
      assert.deepEqual(
        [...store.scan('a', range)].map((r) => r.key),
        keysOf.filter(
          (k) => namespaceOf(k) === 'a' && partitionOf(k) >= range.start && partitionOf(k) < range.end,
        ),
      );
    // parts of partitions, cut within pages, between them and at records: together they are all, each once and in order
    for (const namespace of ['a', 'ab']) {
      const found: [string, Buffer][] = [];
      for (let i = 1; i < CUTS.length; i++)
        store.slice(namespace, CUTS[i - 1], CUTS[i], (key, keyAt, bytes, start, end) => {
          const word = key.readUInt32BE(keyAt);
          assert.ok(word >= CUTS[i - 1] && word < CUTS[i]);
          found.push([key.toString('hex', keyAt, keyAt + 20), Buffer.from(bytes.subarray(start, end))]);
          return true;
        });
      const expected = sorted.filter((_, i) => namespaceOf(keysOf[i]) === namespace);
      assert.deepEqual(
        found,
        expected.map((k) => [k.slice(-40), map.get(k)]),
      );
      let taken = 0;
      store.slice(namespace, 0, 2 ** 32, () => ++taken < 2);
      assert.equal(taken, Math.min(2, expected.length));
    }
    const { records, done } = store.snapshot();
    assert.deepEqual(
      [...records].map((r) => Buffer.from(r.key).toString('hex')),
      sorted,
    );
    done();
    const digest = new ContentDigest(4);
    for (const key of keysOf) addToDigest(digest, key, map.get(key.toString('hex')) as Buffer, 1);
    assert.deepEqual(store.contentDigest(4).toShards(), digest.toShards());
    const parts = store.contentDigest(4, { start: 0, end: 600 });
    parts.add(store.contentDigest(4, { start: 600, end: 4096 }));
    assert.deepEqual(parts.toShards(), digest.toShards());
  };

  test('is a map', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(keys, values), { maxLength: 60 }),
        fc.array(operations, { maxLength: 40 }),
        async (paged, ops) => {
          const dir = join(root, `e${made++}`);
          const map = new Map(paged.map(([key, value]) => [key.toString('hex'), value]));
          const probes = [...paged.map(([key]) => key), ...ops.flatMap((o) => ('key' in o ? [o.key] : []))];
          let store = Store.open(dir, { bulk: true });
          store.beginLoad('load', PER_PARTITION);
          store.load(pagesOf(map));
          await store.flushed();
          await store.close();
          store = Store.open(dir);
          try {
            check(store, map, probes);
            for (const [i, op] of ops.entries()) {
              if (op.kind === 'reopen') {
                await store.close();
                store = Store.open(dir);
                continue;
              }
              const changes =
                op.kind === 'truncate'
                  ? [...store.scan(op.namespace)].map(({ key }) => ({ key, value: undefined }))
                  : [{ key: op.key, value: op.kind === 'put' ? op.value : undefined }];
              if (i % 2 === 0) store.applySync(changes, META);
              else await store.apply(changes, META);
              for (const { key, value } of changes)
                if (value) map.set(key.toString('hex'), value);
                else map.delete(key.toString('hex'));
              if (i % 8 === 0) check(store, map, probes);
            }
            check(store, map, probes);
          } finally {
            await store.close();
            await rm(dir, { recursive: true });
          }
        },
      ),
      { numRuns: Number(process.env.PITR_RUNS ?? 60) },
    );
  });

  test('leaves nothing behind for a record that no page has', async () => {
    const dir = join(root, 'none');
    const store = Store.open(dir, { bulk: true });
    store.beginLoad('load', PER_PARTITION);
    const [key, other] = fc.sample(
      fc.uniqueArray(keys, { minLength: 2, maxLength: 2, selector: String }),
      1,
    )[0];
    const value = fc.sample(values, 1)[0];
    store.load(pagesOf(new Map([[key.toString('hex'), value]])));
    store.applySync([{ key: other, value }], META);
    store.applySync([{ key: other, value: undefined }], META);
    assert.deepEqual(store.get(key), value);
    assert.equal(store.get(other), undefined);
    assert.deepEqual(
      [...store.scan()].map((r) => r.key),
      [key],
    );
    assert.equal(store.rowsBesidePages, 0);
    store.applySync([{ key, value: undefined }], META);
    assert.equal(store.rowsBesidePages, 1);
    assert.deepEqual(store.namespaces(), []);
    await store.close();
  });

  test('says so when a page ends within a record', async () => {
    const dir = join(root, 'broken');
    const store = Store.open(dir, { bulk: true });
    store.beginLoad('load', PER_PARTITION);
    const key = stateKey('a', Buffer.alloc(20));
    const value = encodeState({ generation: 1, voidTime: 0, ts: 1, lsn: 1, lut: 1 }, 's', Buffer.alloc(9));
    const whole = pagesOf(new Map([[key.toString('hex'), value]]));
    const page = whole.subarray(8 + 2 + 4);
    for (let cut = 1; cut < page.length; cut++) {
      store.load(entry(Buffer.from('610000000000', 'hex'), page.subarray(0, cut), true));
      assert.throws(
        () => [...store.scan()],
        (e) => isPitrError(e, 'store-corrupt'),
        `cut to ${cut}`,
      );
      assert.throws(
        () => store.contentDigest(1),
        (e) => isPitrError(e, 'store-corrupt'),
      );
    }
    await store.close();
  });

  test('has pages of about 14 KiB, and none for few or large records', () => {
    assert.equal(pagesPerPartition(1000, 240), 0);
    assert.equal(pagesPerPartition(1_000_000, 240), 4);
    assert.equal(pagesPerPartition(16_000_000, 240), 72);
    assert.equal(pagesPerPartition(1_000_000, 1_000_000), 0);
    assert.equal(pagesPerPartition(0, Number.NaN), 0);
    for (const per of [1, 3, 4, 72]) {
      assert.equal(pageOfWord(0, per), 0);
      assert.equal(pageOfWord(0xffffffff, per), 4096 * per - 1);
      for (let p = 1; p < 4096; p += 97) {
        assert.equal(pageOfWord((p << 20) >>> 0, per), p * per);
        assert.equal(pageOfWord(((p << 20) >>> 0) - 1, per), p * per - 1);
      }
    }
    assert.ok(PAGE_BYTES_MAX < 2 ** 20);
  });
});

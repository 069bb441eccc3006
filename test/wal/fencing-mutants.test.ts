/**
 * Two agents on broken ground: each way in which the store can lie about who has the stream must be found out.
 *
 * The product was broken by hand as well, and tried with the interleavings that CI runs (test/wal/fencing.test.ts):
 *
 * | broken | what was said first |
 * |---|---|
 * | a head is swapped with the newest tag | A3: generation 5 after 6 |
 * | a claim keeps the generation | A3: two claims |
 * | a claim is made whatever the log is (W2) | who has the stream is not disturbed |
 * | `archived.json` before the head (W4) | a directory could trim what the archive has otherwise |
 * | a head before its segment | A4: listed and not there |
 * | retired objects are deleted without a publication (W5) | who has the stream is not disturbed |
 * | a merge is given up without a word in its note (W6) | A6: deleted and listed |
 * | `writing` is deleted without a swap of the note (W6) | A6: deleted and listed |
 * | a note is not taken over (W7) | who has the stream is not disturbed |
 * | an older agent takes a note from a newer one (W7) | who has the stream is not disturbed (with 600 pairs) |
 * | a base copy is published without a look (W8) | at the base (test/snapshot/fenced-base.test.ts) |
 *
 * Not found: a deletion of a merge's objects without a publication of the head (the swap of the note is left), and a failed publication that
 * deletes its objects without reading the head, or after any failure: a look at each call that is lost just there would be needed.
 */
import { strict as assert } from 'node:assert';
import { describe, test } from 'node:test';
import { PitrError } from '../../engine/errors.ts';
import type { ObjectStore } from '../../engine/object-store.ts';
import { callsOf, interleave, momentsOf, PLACES, withRuns } from './fencing-trial.ts';

/** A store that answers as the one below it, but for what is given. */
const lying = (store: ObjectStore, lies: Partial<ObjectStore>): ObjectStore => ({
  url: store.url,
  create: (name, bytes) => store.create(name, bytes),
  read: (name, range) => store.read(name, range),
  size: (name) => store.size(name),
  list: (prefix) => store.list(prefix),
  delete: (names) => store.delete(names),
  readSwap: (name) => store.readSwap(name),
  swap: (name, expected, bytes) => store.swap(name, expected, bytes),
  ...lies,
});

const isHead = (name: string): boolean => name.startsWith('heads/');

const MUTANTS: readonly {
  readonly what: string;
  readonly lies: (store: ObjectStore) => ObjectStore;
  readonly finds: RegExp;
}[] = [
  {
    what: 'a head is swapped whoever has swapped it since',
    lies: (store) =>
      lying(store, {
        swap: async (name, expected, bytes) =>
          store.swap(name, isHead(name) ? (await store.readSwap(name))?.tag : expected, bytes),
      }),
    finds: /A3/,
  },
  {
    what: 'a swap of a head is said to have succeeded when it has not',
    lies: (store) =>
      lying(store, {
        swap: (name, expected, bytes) =>
          store.swap(name, expected, bytes).catch((error) => {
            if (isHead(name) && error instanceof PitrError) return 'a tag of nothing';
            throw error;
          }),
      }),
    finds: /may trim up to|could trim|not late, and nobody names it/,
  },
  {
    what: 'a segment that is said to be there is not',
    lies: (store) =>
      lying(store, {
        create: async (name, bytes) => (name.includes('/L0/') ? undefined : store.create(name, bytes)),
      }),
    finds: /A4/,
  },
  {
    what: 'a deletion takes what the newest head lists',
    lies: (store) =>
      lying(store, {
        delete: async (names) => {
          const listed = (await store.list('segments/')).map((o) => o.name);
          return store.delete([...names, ...listed]);
        },
      }),
    finds: /object-not-found|listed and was deleted|A4/,
  },
];

describe('fencing on broken ground', () => {
  for (const { what, lies, finds } of MUTANTS)
    test(`it is found out: ${what}`, async (t) => {
      const world = await withRuns();
      const moments = momentsOf(0, (await callsOf(world)).length);
      for (const [i, moment] of moments.entries()) {
        const place = PLACES[(i + 2) % PLACES.length];
        try {
          await interleave(world, { place, moment, lies });
        } catch (error) {
          assert.match(String(error), finds);
          t.diagnostic(`after ${i + 1} of ${moments.length}: ${String(error).split('\n')[0]}`);
          return;
        }
      }
      assert.fail(`not by any of ${moments.length} moments`);
    });
});

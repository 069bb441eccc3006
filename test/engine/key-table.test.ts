import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KeyTable, keyHash } from '../../engine/key-table.ts';

interface Entry {
  readonly key: Buffer;
  readonly hash: number;
  readonly n: number;
}

/** Few hashes: entries collide, are pushed along and over the end of the table. */
const step = fc.record({
  op: fc.constantFrom('set', 'set', 'delete', 'deleteOther', 'clear'),
  key: fc.nat(60),
});

test('a key table is a map, whatever collides, comes and goes', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 600, size: 'max' }), fc.boolean(), (steps, spread) => {
      const table = new KeyTable<Entry>();
      const model = new Map<number, Entry>();
      steps.forEach(({ op, key }, n) => {
        const keyBytes = Buffer.alloc(24, key);
        // near the end of the smallest table, so that probing wraps
        const entry = { key: keyBytes, hash: spread ? keyHash(keyBytes) : 254 + (key % 3), n };
        if (op === 'set') {
          assert.equal(table.set(entry), model.get(key));
          model.set(key, entry);
        } else if (op === 'delete') {
          const there = model.get(key);
          assert.equal(table.delete(there ?? entry), there !== undefined);
          model.delete(key);
        } else if (op === 'deleteOther') assert.equal(table.delete(entry), false);
        else if (n % 50 === 0) {
          table.clear();
          model.clear();
        }
        assert.equal(table.size, model.size);
        for (let k = 0; k <= 60; k++) {
          const bytes = Buffer.alloc(24, k);
          assert.equal(table.get(bytes, spread ? keyHash(bytes) : 254 + (k % 3)), model.get(k));
        }
      });
    }),
    { numRuns: 60 },
  );
});

test('a key table grows and gives its memory back', () => {
  const table = new KeyTable<Entry>();
  const entries = Array.from({ length: 100_000 }, (_, n) => {
    const key = Buffer.alloc(24);
    key.writeUInt32BE(n, 20);
    return { key, hash: keyHash(key), n };
  });
  for (const entry of entries) assert.equal(table.set(entry), undefined);
  for (const entry of entries) assert.equal(table.get(Buffer.from(entry.key), entry.hash), entry);
  for (const entry of entries) assert.equal(table.delete(entry), true);
  assert.equal(table.size, 0);
  assert.equal(table.get(entries[5].key, entries[5].hash), undefined);
});

test('who does not know the secret cannot choose keys that collide', () => {
  // differences of high bits, which a multiplication keeps high, undone by the next word
  const hashes = new Set<number>();
  for (let a = 0; a < 64; a++)
    for (let b = 0; b < 64; b++) {
      const key = Buffer.alloc(24, 0x5a);
      const high = (b << 26) >>> 0;
      key.writeUInt32BE((0x12345 | (a << 26)) >>> 0, 4);
      key.writeUInt32BE((0x777 ^ high ^ (high >>> 15)) >>> 0, 8);
      hashes.add(keyHash(key));
    }
  assert.ok(hashes.size > 4080, `${hashes.size} hashes of 4096 keys`);
});

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { digestOf } from '../../engine/partition.ts';

test('a record’s digest is OpenSSL’s RIPEMD-160 of set, key type and key, at every length around the size of a block', () => {
  for (const set of ['', 's', 'records', 'größe', 'x'.repeat(63)])
    for (let length = 0; length < 130; length++)
      for (const fill of [0, 0xff, length]) {
        const key = Buffer.from(Array.from({ length }, (_, i) => fill * (i + 1)));
        const expected = createHash('ripemd160')
          .update(set, 'utf8')
          .update(Buffer.of(3))
          .update(key)
          .digest();
        assert.deepEqual(digestOf(set, 3, key), expected, `set "${set}", ${length} bytes`);
      }
});

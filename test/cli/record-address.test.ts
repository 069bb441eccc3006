import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDigest, parseRecordAddress } from '../../cli/record-address.ts';
import { isPitrError } from '../../engine/errors.ts';
import { resolveKey } from '../../engine/record-key.ts';

const place = { namespace: 'shop', set: 'users' };
const DIGEST = '0123456789abcdef0123456789abcdef01234567';

test('a key is an integer when it looks like one, and what its prefix says otherwise', () => {
  const cases: [string, unknown][] = [
    ['42', 42n],
    ['-7', -7n],
    ['0', 0n],
    ['-0', '-0'],
    ['007', '007'],
    ['9223372036854775807', 9223372036854775807n],
    ['9223372036854775808', '9223372036854775808'],
    ['1e3', '1e3'],
    ['anna', 'anna'],
    ['a/b/c', 'a/b/c'],
    ['str:42', '42'],
    ['str:', ''],
    ['str:int:1', 'int:1'],
    ['int:007', 7n],
    ['hex:c0ffee', Buffer.from('c0ffee', 'hex')],
    ['other:x', 'other:x'],
  ];
  for (const [text, key] of cases)
    assert.deepEqual(parseRecordAddress(`shop/users/${text}`), { ...place, key }, text);
});

test('a digest stands for the key, and there need not be a set', () => {
  const digest = Buffer.from(DIGEST, 'hex');
  assert.deepEqual(parseRecordAddress(`shop/users/digest:${DIGEST}`), { ...place, digest });
  assert.deepEqual(parseRecordAddress('shop//1'), { namespace: 'shop', set: '', key: 1n });
  assert.deepEqual(parseDigest(DIGEST.toUpperCase()), digest);
});

test('an integer typed on the command line finds the record that a program wrote', () => {
  const typed = resolveKey(parseRecordAddress('shop/users/42'));
  assert.deepEqual(typed.digest, resolveKey({ ...place, key: 42 }).digest);
});

test('what is not NS/SET/KEY is refused', () => {
  for (const text of [
    '',
    'a',
    'a/b',
    '/b/c',
    'a/b/',
    'a/b/int:x',
    'a/b/hex:abc',
    'a/b/hex:',
    'a/b/digest:12',
  ])
    assert.throws(
      () => parseRecordAddress(text),
      (error) => isPitrError(error, 'usage'),
      text,
    );
});

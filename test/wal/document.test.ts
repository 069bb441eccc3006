import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PitrError } from '../../engine/errors.ts';
import { type DocumentKind, decodeDocument, encodeDocument, openDocument } from '../../wal/document.ts';

const KINDS: readonly DocumentKind[] = [
  'archive',
  'timelines',
  'head',
  'snapshots',
  'snapshot',
  'page',
  'merge',
  'leases',
  'acknowledgements',
  'verify-results',
];
const BODY = {
  archive: 'a'.repeat(32),
  timelines: [{ id: 'x', createdMs: 1.5e12, parent: null }],
  text: 'é\n"\u0000',
};

const refusal = (bytes: Buffer, what: string): PitrError => {
  try {
    decodeDocument('head', bytes, 'heads/x');
  } catch (error) {
    if (error instanceof PitrError) return error;
    throw error;
  }
  throw new Error(`${what} was accepted`);
};

describe('control objects', () => {
  test('what is encoded is decoded, for any JSON', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.constantFrom(...KINDS), (body, kind) => {
        // -0 and 0 are one number in JSON
        const plain = JSON.parse(JSON.stringify(body));
        assert.deepEqual(openDocument(kind, encodeDocument(kind, body), 'x'), plain);
      }),
    );
  });

  test('a person can read it: one line that says what it is, then JSON', () => {
    const [head, ...rest] = encodeDocument('head', { a: 1 }).toString('utf8').split('\n');
    assert.deepEqual(JSON.parse(head), {
      pitr: 'head',
      version: 2,
      bytes: 12,
      crc32: JSON.parse(head).crc32,
    });
    assert.deepEqual(JSON.parse(rest.join('\n')), { a: 1 });
  });

  test('what nobody could read any more is not written', () => {
    const names = Array<string>(64).fill('a'.repeat(2 ** 20));
    assert.throws(
      () => encodeDocument('head', { retired: [{ names }] }),
      (e) => e instanceof PitrError && e.id === 'internal',
    );
  });

  test('every flipped bit is refused', () => {
    const bytes = encodeDocument('head', BODY);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      const { id } = refusal(damaged, `bit ${bit}`);
      assert.ok(id === 'object-corrupt' || id === 'format-version', `bit ${bit}: ${id}`);
    }
  });

  test('every cut is refused, and every byte too many', () => {
    const bytes = encodeDocument('head', BODY);
    for (let cut = 0; cut < bytes.length; cut++)
      assert.equal(refusal(bytes.subarray(0, cut), `cut at ${cut}`).id, 'object-corrupt');
    for (const extra of [' ', '\n', '\0', '{}'])
      assert.equal(refusal(Buffer.concat([bytes, Buffer.from(extra)]), 'longer').id, 'object-corrupt');
  });

  test('an object of another kind is refused, and a future version by name', () => {
    assert.equal(refusal(encodeDocument('snapshot', BODY), 'another kind').id, 'object-corrupt');
    const future = Buffer.from(encodeDocument('head', BODY).toString().replace('"version":2', '"version":3'));
    const error = refusal(future, 'version 3');
    assert.equal(error.id, 'format-version');
    assert.deepEqual([error.facts.version, error.facts.supported], ['3', 2]);
  });

  test('bytes that are anything else are refused, never misread and never a crash', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
        assert.equal(refusal(Buffer.from(bytes), 'noise').id, 'object-corrupt');
      }),
    );
    for (const text of ['null\n', '1\n', '[]\n', '"head"\n', '{}\n', `${' '.repeat(600)}\n`])
      assert.equal(refusal(Buffer.from(text), text).id, 'object-corrupt');
  });
});

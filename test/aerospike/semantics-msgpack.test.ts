/** Lists and maps as whole values: what a server makes of their bytes when it stores them, and what it refuses. */
import { strict as assert } from 'node:assert';
import { after, describe, test } from 'node:test';
import { getOf, putOf, Subject } from './subject.ts';
import { hex, op } from './wire-bytes.ts';

const LIST = 20;
const MAP = 19;

/** Without the index flag (10h) on anything but a K-ordered map: on an unordered list it ends a real server. */
const kept: readonly (readonly [name: string, type: number, value: string])[] = [
  ['an empty list', LIST, '90'],
  ['an empty map', MAP, '80'],
  ['an empty ordered list', LIST, '91 c7 00 01'],
  ['an empty K-ordered map', MAP, '81 c7 00 01 c0'],
  ['an empty KV-ordered map', MAP, '81 c7 00 03 c0'],
  ['a string without a type', LIST, '91 a0'],
  ['a string of an unknown type', LIST, '91 a2 63 01'],
  ['GeoJSON that is no JSON, within a list', LIST, '91 a2 17 7b'],
  ['a float of 4 bytes', LIST, '91 ca 3fc00000'],
  ['a marker in second place', LIST, '92 01 c7 00 01'],
  ['60 levels', LIST, `${'91'.repeat(59)}90`],
];

const rewritten: readonly (readonly [name: string, type: number, value: string, stored: string])[] = [
  [
    'an unordered map is sorted and gets no marker',
    MAP,
    '82 a2 03 62 01 a2 03 61 02',
    '82 a2 03 61 02 a2 03 62 01',
  ],
  [
    'keys are sorted by type: integers, strings, blobs',
    MAP,
    '83 a2 04 00 01 a2 03 61 02 05 03',
    '83 05 03 a2 03 61 02 a2 04 00 01',
  ],
  [
    'a longer string sorts behind its beginning',
    MAP,
    '82 a3 03 61 61 01 a2 03 61 02',
    '82 a2 03 61 02 a3 03 61 61 01',
  ],
  ['a map within a list is sorted, too', LIST, '91 82 02 00 01 00', '91 82 01 00 02 00'],
  ['a long integer becomes short', LIST, '91 cd 0001', '91 01'],
  ['a positive integer with a sign loses it', LIST, '91 d3 0000000000000080', '91 cc 80'],
  ['a long negative integer becomes short', LIST, '92 d1 ff80 d3 ffffffffffffffff', '92 d0 80 ff'],
  ['a long count becomes short', LIST, 'dc 0001 05', '91 05'],
  ['a long count of pairs becomes short', MAP, 'df 00000001 05 06', '81 05 06'],
  ['a string with a long header gets a short one', LIST, '91 da 0002 03 61', '91 a2 03 61'],
  ['a blob with the header of a blob gets that of a string', LIST, '91 c4 03 04 01 02', '91 a3 04 01 02'],
  ['a marker without an order goes, of a list', LIST, '92 c7 00 00 05', '91 05'],
  ['a marker without an order goes, of a map', MAP, '82 c7 00 00 c0 05 06', '81 05 06'],
  [
    'a marker that keeps the order as it is goes, and so does the order',
    MAP,
    '83 c7 00 08 c0 02 00 01 00',
    '82 01 00 02 00',
  ],
  ['a marker of flags that do not exist goes', LIST, '91 c7 00 04', '90'],
  ['a marker has no value', MAP, '81 c7 00 01 05', '81 c7 00 01 c0'],
  ['the flag for an index is not shown', MAP, '82 c7 00 11 c0 a2 03 61 01', '82 c7 00 01 c0 a2 03 61 01'],
];

const refused: readonly (readonly [name: string, type: number, value: string])[] = [
  ['a K-ordered map that is not sorted', MAP, '83 c7 00 01 c0 02 00 01 00'],
  ['a KV-ordered map that is not sorted', MAP, '83 c7 00 03 c0 02 00 01 00'],
  ['an ordered list that is not sorted', LIST, '93 c7 00 01 07 05'],
  ['a key twice', MAP, '82 01 02 01 03'],
  ['a key twice, written in two ways', MAP, '82 01 02 cd 0001 03'],
  ['a key that is a boolean', MAP, '81 c3 01'],
  ['a key that is a float', MAP, '81 cb 3ff8000000000000 01'],
  ['a key that is nil', MAP, '81 c0 01'],
  ['a key that is a list', MAP, '81 90 01'],
  ['a key that is GeoJSON', MAP, '81 a2 17 7b 01'],
  ['a key of another language', MAP, '81 a2 07 61 01'],
  ['a count beyond the end', LIST, '92 01'],
  // not dd ffffffff: that one count a real server keeps as it is
  ['a count far beyond the end', LIST, 'dd fffffffe'],
  ['a count of pairs far beyond the end', MAP, 'df 80000000 01 02'],
  ['a key without a value', MAP, '81 01'],
  ['half an integer', LIST, '91 cd 01'],
  ['a string beyond the end', LIST, '91 db ffffffff 03'],
  ['bytes behind the end', LIST, '90 00'],
  ['the wildcard', LIST, '91 d4 ff 00'],
  ['infinity', LIST, '91 d4 ff 01'],
  ['a tag that is not used', LIST, '91 c1'],
  ['a map as a list', LIST, '80'],
  ['a list as a map', MAP, '90'],
  ['an integer as a list', LIST, '05'],
  ['nothing', LIST, ''],
  ['half a marker', LIST, '91 c7 00'],
];

describe('lists and maps as values', async () => {
  const subject = await Subject.open();
  const wire = await subject.connect();
  after(() => subject.close());

  const storedAs = async (type: number, value: string): Promise<string> => {
    const record = subject.fresh();
    const { code } = await wire.call(putOf(record, [op(2, 'a', type, hex(value))]));
    if (code !== 0) return `refused with ${code}`;
    return (await wire.call(getOf(record))).ops[0]!.split(':')[1]!;
  };
  const plain = (value: string): string => hex(value).toString('hex');

  describe('kept byte for byte', () => {
    for (const [name, type, value] of kept)
      test(name, async () => assert.equal(await storedAs(type, value), plain(value)));
  });

  describe('rewritten', () => {
    for (const [name, type, value, stored] of rewritten)
      test(name, async () => {
        assert.equal(await storedAs(type, value), plain(stored));
        assert.equal(await storedAs(type, stored), plain(stored), 'once only');
      });
  });

  describe('refused with 1', () => {
    for (const [name, type, value] of refused)
      test(name, async () => assert.equal(await storedAs(type, value), 'refused with 1'));
  });
});

/** Definitions are durable, and a file that is not what it was is refused. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { DEFINITIONS_FILE, Definitions } from '../../engine/aerospike/server/definitions.ts';
import { isPitrError } from '../../engine/errors.ts';

const dir = mkdtempSync(join(tmpdir(), 'pitr-definitions-'));
const path = join(dir, DEFINITIONS_FILE);
after(() => rmSync(dir, { recursive: true }));

const noted: string[] = [];
const note = async (d: { what: string; name: string; body: Uint8Array | null }): Promise<void> => {
  noted.push(`${d.what} ${d.name} ${d.body === null ? 'gone' : Buffer.from(d.body).toString('latin1')}`);
};

const index = {
  namespace: 'test',
  set: 's',
  name: 'i',
  bin: 'a',
  type: 'numeric',
  indexType: 'default',
  context: '',
  expression: '',
};

test('what was defined at the same time is all there after opening again, with its counts', async () => {
  const first = await Definitions.open(dir, note);
  const outcomes = await Promise.all([
    first.addIndex(index),
    first.addIndex({ ...index, name: 'j' }),
    first.addIndex(index),
    first.addIndex({ ...index, bin: 'b' }),
    first.putUdf({ name: 'f.lua', type: 'LUA', content: 'AAAA' }),
    first.addTruncation({ namespace: 'test', set: '', lutMs: 5 }),
  ]);
  assert.deepEqual(outcomes, ['added', 'added', 'same', 'taken', true, undefined]);
  const second = await Definitions.open(dir, note);
  assert.deepEqual(
    second.indexes.map((i) => i.name),
    ['i', 'j'],
  );
  assert.deepEqual([second.udfs.length, second.truncations], [1, [{ namespace: 'test', set: '', lutMs: 5 }]]);
  assert.deepEqual([second.changes('sindex'), second.changes('UDF'), second.changes('truncate')], [2, 1, 1]);
  assert.deepEqual(
    [
      await second.removeIndex('test', 'j'),
      await second.removeIndex('test', 'j'),
      await second.removeUdf('f.lua'),
    ],
    [true, false, true],
  );
  assert.deepEqual((await Definitions.open(dir, note)).indexes.length, 1);
  const line = (name: string): string =>
    `sindex ${name} ns=test:indexname=${name}:set=s:bin=a:type=numeric:indextype=default:context=null:exp=null:state=RW`;
  assert.deepEqual(noted, [line('i'), line('j'), 'udf f.lua \0\0\0', 'sindex j gone', 'udf f.lua gone']);
});

test('a file that was cut, changed or is of a later version is refused', async () => {
  const good = readFileSync(path, 'utf8');
  const refusals: readonly (readonly [text: string, id: 'object-corrupt' | 'format-version'])[] = [
    ['', 'object-corrupt'],
    ['null', 'object-corrupt'],
    [good.slice(0, -10), 'object-corrupt'],
    [good.replace('"numeric"', '"string"'), 'object-corrupt'],
    [good.replace('"udfs"', '"udf"'), 'object-corrupt'],
    [good.replace('"version": 1', '"version": 2'), 'format-version'],
  ];
  for (const [text, id] of refusals) {
    writeFileSync(path, text);
    await assert.rejects(Definitions.open(dir, note), (error) => isPitrError(error, id), text.slice(0, 40));
  }
  writeFileSync(path, good);
  assert.equal((await Definitions.open(dir, note)).indexes.length, 1);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPitrError } from '../../engine/errors.ts';
import { newIdentity, readIdentity, writeFileDurably, writeIdentity } from '../../engine/identity.ts';
import { readArchived, writeArchived } from '../../wal/archived.ts';
import { MemoryFiles } from '../wal/memory-files.ts';
import { statesAfter } from './power-cut.ts';
import { powerRng, record, STATES_MAX } from './power-support.ts';

const DIR = '/engine';

/** Writes values 1, 2, 3 one after another; after every power cut `read` must give the acknowledged one or the one in flight. */
const replaced = async (
  what: string,
  write: (files: MemoryFiles, n: number) => Promise<void>,
  read: (files: MemoryFiles) => Promise<number>,
  allowed: (found: number, acknowledged: number) => boolean,
): Promise<void> => {
  const rng = powerRng(what);
  const files = new MemoryFiles();
  let acknowledged = 0;
  const moments = await record(
    files,
    () => acknowledged,
    async () => {
      for (let n = 1; n <= 3; n++) {
        await write(files, n);
        acknowledged = n;
      }
    },
  );
  let states = 0;
  for (const { cut, owed, when } of moments)
    for (const content of statesAfter(cut, STATES_MAX, rng)) {
      states++;
      const found = await read(new MemoryFiles(content, cut.dirs));
      assert.ok(allowed(found, owed), `${when}: found ${found}, acknowledged ${owed}`);
    }
  assert.ok(states > 50, String(states));
};

test('engine.json after every power cut: the old one or the new one, never a part', async () => {
  const identity = newIdentity({ stream: 'main' }, 0);
  await replaced(
    'engine.json',
    (files, n) => writeIdentity(DIR, { ...identity, createdMs: n }, files),
    async (files) => {
      try {
        return (await readIdentity(DIR, files)).createdMs;
      } catch (error) {
        assert.ok(
          isPitrError(error, 'not-an-engine') && /has no engine.json/.test(String(error.facts.why)),
          `${error}`,
        );
        return 0;
      }
    },
    (found, acknowledged) => found === acknowledged || found === acknowledged + 1,
  );
});

test('restoring.json after every power cut: the old one or the new one, never a part', async () => {
  const textOf = (n: number): string => JSON.stringify({ ts: n, filler: 'x'.repeat(700) });
  await replaced(
    'restoring.json',
    (files, n) => writeFileDurably(DIR, 'restoring.json', textOf(n), files),
    async (files) => {
      const text = await files.read(`${DIR}/restoring.json`).then(String, () => '');
      return text === '' ? 0 : ([1, 2, 3].find((n) => text === textOf(n)) ?? -1);
    },
    (found, acknowledged) => found === acknowledged || found === acknowledged + 1,
  );
});

test('archived.json after every power cut: what was said at some time or nothing, never more than is archived', async () => {
  await replaced(
    'archived.json',
    (files, n) => writeArchived(DIR, { lsn: n * 1000, sequence: n }, files),
    async (files) => {
      const { lsn, sequence } = await readArchived(DIR, files);
      assert.equal(lsn, sequence * 1000);
      return sequence;
    },
    (found, acknowledged) => found <= acknowledged + 1,
  );
});

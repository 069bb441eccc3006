import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Archive } from '../../wal/archive.ts';
import { NoteKeeper } from '../../wal/merge-note.ts';
import { refuses } from './archiver-support.ts';
import { MemoryStore } from './memory-store.ts';

test('W7: an older agent that reads the note for the first time does not take it from a newer one', async () => {
  const archive = await Archive.openOrCreate(new MemoryStore());
  const headOf = (generation: number, claim: string) => ({
    timeline: 't',
    stream: 'main',
    generation,
    claim,
  });
  const newer = await NoteKeeper.read(archive, headOf(6, 'b'));
  await newer.takeOver();
  const older = await NoteKeeper.read(archive, headOf(5, 'a'));
  const error = await refuses('fenced', older.takeOver());
  assert.deepEqual([error.facts.stream, error.facts.mine, error.facts.current], ['main', 5, 6]);
  await newer.write(null);
  // the other way round the newer one takes it, and the older one can write no more
  const other = await Archive.openOrCreate(new MemoryStore());
  const first = await NoteKeeper.read(other, headOf(5, 'a'));
  await first.takeOver();
  await (await NoteKeeper.read(other, headOf(6, 'b'))).takeOver();
  await refuses('fenced', first.write(null));
});

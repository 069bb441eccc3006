import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entriesOfChunk } from '../../engine/record-file.ts';
import { CHUNK_BYTES, Chunks } from '../../restore/chunks.ts';
import { StoreChunks } from '../../restore/store-chunks.ts';

test('what is appended comes out in order, whole, whatever its size, across the ends of chunks', () => {
  const chunks = new Chunks();
  const expected: Buffer[] = [];
  const found: Buffer[] = [];
  for (const bytes of [10, CHUNK_BYTES - 5, 700, CHUNK_BYTES + 1, 3, CHUNK_BYTES, 1, CHUNK_BYTES * 3, 9]) {
    const piece = Buffer.alloc(bytes, expected.length + 1);
    expected.push(piece);
    chunks.append(piece);
    // copies: who takes a chunk may give its buffer back
    for (const chunk of chunks.take(false)) found.push(Buffer.from(chunk));
  }
  found.push(...chunks.take(true));
  assert.ok(Buffer.concat(found).equals(Buffer.concat(expected)));
});

test('records come out whole and in order across the ends of chunks', () => {
  const chunks = new StoreChunks(0);
  const found: string[] = [];
  const take = (rest: boolean): void => {
    for (const chunk of chunks.take(rest))
      for (const { key, value } of entriesOfChunk(chunk)) found.push(`${key}:${value}`);
  };
  const expected = Array.from({ length: 2000 }, (_, i) => [`key${i}`, String(i).repeat(300)]);
  for (const [key, value] of expected) if (chunks.record(Buffer.from(key), Buffer.from(value))) take(false);
  take(true);
  assert.deepEqual(
    found,
    expected.map(([key, value]) => `${key}:${value}`),
  );
});

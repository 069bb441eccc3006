import * as fs from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { PitrError } from './errors.ts';
import type { StoreChange } from './store.ts';

/**
 * Records on their way into a store: `u32 key bytes, u32 value bytes, key, value` after one another, little endian. In a file
 * each chunk of them is preceded by `u32 bytes, u32 crc32`, and an empty chunk says that the file is complete.
 */
/** @throws object-corrupt when a record reaches past the chunk */
export function* recordsOfChunk(chunk: Buffer): Generator<{ key: Buffer; value: Buffer }> {
  const need = (end: number): void => {
    if (end > chunk.length)
      throw new PitrError('object-corrupt', { name: 'records', why: 'one reaches past its chunk' });
  };
  for (let at = 0; at < chunk.length; ) {
    need(at + 8);
    const keyBytes = chunk.readUInt32LE(at);
    const valueBytes = chunk.readUInt32LE(at + 4);
    at += 8;
    need(at + keyBytes + valueBytes);
    yield {
      key: chunk.subarray(at, at + keyBytes),
      value: chunk.subarray(at + keyBytes, at + keyBytes + valueBytes),
    };
    at += keyBytes + valueBytes;
  }
}

export const writeRecordChunk = async (file: fs.FileHandle, chunk: Buffer): Promise<void> => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(chunk.length, 0);
  head.writeUInt32LE(crc32(chunk), 4);
  await file.writev([head, chunk]);
};

/** The records of a complete file, chunk by chunk. @throws object-corrupt when it is cut short or changed; io */
export async function* readRecordFile(path: string): AsyncGenerator<readonly StoreChange[]> {
  const corrupt = (why: string): PitrError => new PitrError('object-corrupt', { name: path, why });
  const file = await fs.open(path, 'r').catch((cause) => {
    throw new PitrError('io', { op: 'open', path, why: cause.code }, { cause });
  });
  try {
    const head = Buffer.alloc(8);
    const { size } = await file.stat();
    for (let at = 0; ; ) {
      if ((await file.read(head, 0, 8, at)).bytesRead !== 8) throw corrupt('its end is missing');
      const bytes = head.readUInt32LE(0);
      if (bytes === 0) return;
      if (bytes > size - at - 8) throw corrupt('a chunk reaches past its end');
      const chunk = Buffer.alloc(bytes);
      await file.read(chunk, 0, bytes, at + 8);
      if (crc32(chunk) !== head.readUInt32LE(4)) throw corrupt('checksum of a chunk');
      yield [...recordsOfChunk(chunk)];
      at += 8 + bytes;
    }
  } finally {
    await file.close();
  }
}

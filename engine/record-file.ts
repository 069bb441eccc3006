import * as fs from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { PitrError } from './errors.ts';
import type { StoreChange } from './store.ts';

/** Set in the key's length: the entry is a page (page.ts), not a record. */
export const PAGE_FLAG = 0x80000000;
/** Bytes in front of an entry's key. */
export const ENTRY_HEADER_BYTES = 8;

/**
 * Records and pages on their way into a store: `u32 key bytes (top bit: a page), u32 value bytes, key, value` after one another,
 * little endian. In a file, which has no pages, each chunk of them is preceded by `u32 bytes, u32 crc32`, and an empty chunk says that
 * the file is complete.
 */
/** @throws object-corrupt when an entry reaches past the chunk */
export function* entriesOfChunk(chunk: Buffer): Generator<{ key: Buffer; value: Buffer; isPage: boolean }> {
  const need = (end: number): void => {
    if (end > chunk.length)
      throw new PitrError('object-corrupt', { name: 'records', why: 'one reaches past its chunk' });
  };
  for (let at = 0; at < chunk.length; ) {
    need(at + ENTRY_HEADER_BYTES);
    const lengths = chunk.readUInt32LE(at);
    const keyEnd = at + ENTRY_HEADER_BYTES + (lengths & ~PAGE_FLAG);
    const valueEnd = keyEnd + chunk.readUInt32LE(at + 4);
    need(valueEnd);
    yield {
      key: chunk.subarray(at + ENTRY_HEADER_BYTES, keyEnd),
      value: chunk.subarray(keyEnd, valueEnd),
      isPage: lengths >= PAGE_FLAG,
    };
    at = valueEnd;
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
      yield [...entriesOfChunk(chunk)];
      at += 8 + bytes;
    }
  } finally {
    await file.close();
  }
}

import type { StoreChange } from './store.ts';

/**
 * Changes as bytes, so that a thread can be given many of them without an object for each:
 * `u32 key bytes, u32 0 for a removal, else 1 + value bytes, key, value`, after one another, little endian.
 */
const ENTRY_HEADER_BYTES = 8;

/** Packs changes into `room` where it is large enough, else into a new buffer. */
export const packChanges = (
  changes: readonly StoreChange[],
  room?: ArrayBuffer,
): { readonly buffer: ArrayBuffer; readonly bytes: number } => {
  let bytes = 0;
  for (const { key, value } of changes) bytes += ENTRY_HEADER_BYTES + key.length + (value?.length ?? 0);
  const buffer = room && room.byteLength >= bytes ? room : new ArrayBuffer(bytes);
  const out = new Uint8Array(buffer);
  const view = new DataView(buffer);
  let at = 0;
  for (const { key, value } of changes) {
    view.setUint32(at, key.length, true);
    view.setUint32(at + 4, value ? value.length + 1 : 0, true);
    out.set(key, at + ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES + key.length;
    if (!value) continue;
    out.set(value, at);
    at += value.length;
  }
  return { buffer, bytes };
};

/** What {@link packChanges} packed: views of `pack`. */
export const changesOfPack = (pack: Buffer): StoreChange[] => {
  const changes: StoreChange[] = [];
  for (let at = 0; at < pack.length; ) {
    const keyEnd = at + ENTRY_HEADER_BYTES + pack.readUInt32LE(at);
    const size = pack.readUInt32LE(at + 4);
    const valueEnd = keyEnd + Math.max(0, size - 1);
    changes.push({
      key: pack.subarray(at + ENTRY_HEADER_BYTES, keyEnd),
      value: size === 0 ? undefined : pack.subarray(keyEnd, valueEnd),
    });
    at = valueEnd;
  }
  return changes;
};

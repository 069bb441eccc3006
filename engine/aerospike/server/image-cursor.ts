import { PitrError } from '../../errors.ts';

/**
 * Walks a record's image (engine/image.ts) where it lies: key and bins are offsets into {@link bytes}, and no object is made of any.
 */
export class ImageCursor {
  bytes: Buffer = Buffer.alloc(0);
  /** Type of the stored key; -1: there is none. */
  keyType = -1;
  keyStart = 0;
  keyEnd = 0;
  /** Bins in all. */
  bins = 0;
  /** Of the bin that {@link next} stepped to. */
  nameStart = 0;
  nameEnd = 0;
  type = 0;
  valueStart = 0;
  valueEnd = 0;
  #at = 0;
  #end = 0;
  #left = 0;
  #binsAt = 0;

  /** Begins at an image of `bytes[start, end)`. @throws bad-record */
  open(bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes;
    this.#at = start;
    this.#end = end;
    const keyBytes = this.#varint();
    this.keyType = -1;
    if (keyBytes > 1) {
      this.keyType = bytes[this.#at];
      this.keyStart = this.#at + 1;
      this.keyEnd = this.#at + keyBytes - 1;
      this.#at = this.keyEnd;
    }
    this.bins = this.#varint();
    this.#binsAt = this.#at;
    this.rewind();
  }

  /** Before the first bin again. */
  rewind(): void {
    this.#at = this.#binsAt;
    this.#left = this.bins;
  }

  /** Steps to the next bin; false: there is none. @throws bad-record */
  next(): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    this.nameStart = this.#at + 1;
    this.nameEnd = this.nameStart + this.bytes[this.#at];
    this.type = this.bytes[this.nameEnd];
    this.#at = this.nameEnd + 1;
    const valueBytes = this.#varint();
    this.valueStart = this.#at;
    this.valueEnd = this.#at + valueBytes;
    this.#at = this.valueEnd;
    if (this.#at > this.#end) throw truncated();
    return true;
  }

  /** Steps to the bin of this name, from the first. */
  find(name: Uint8Array, start: number, end: number): boolean {
    this.rewind();
    while (this.next()) if (isSame(this.bytes, this.nameStart, this.nameEnd, name, start, end)) return true;
    return false;
  }

  #varint(): number {
    let value = 0;
    for (let scale = 1; this.#at < this.#end; scale *= 128) {
      const byte = this.bytes[this.#at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw truncated();
  }
}

const truncated = (): PitrError => new PitrError('bad-record', { what: 'its image is truncated' });

/** Whether two runs of bytes are the same. */
export const isSame = (
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): boolean => {
  if (aEnd - aStart !== bEnd - bStart) return false;
  for (let i = aStart, j = bStart; i < aEnd; i++, j++) if (a[i] !== b[j]) return false;
  return true;
};

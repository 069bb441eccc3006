import { writeVarint } from '../../image.ts';
import { OP_HAS_LUT, OP_HEAD_BYTES } from '../operation.ts';
import type { RecordBlock } from './record-block.ts';

/** Bytes beyond those of a record's message that its image may need while it is written: for a moment lengths are guessed too large. */
const MARGIN_BYTES = 16;
/** Shorter values are copied byte by byte: a native call costs more. */
const SHORT_BYTES = 32;

/** Room that the image of record `i` needs at most. */
export const imageBytesMax = (block: RecordBlock, i: number): number => block.bytesOf(i) + MARGIN_BYTES;

/**
 * Writes the image (engine/image.ts) of record `i` at `start` of `out` and returns where it ends. Names and values are the server's bytes, bins in its
 * order. Of a scan without ops: every answer is a bin.
 */
export const writeRecordImage = (block: RecordBlock, i: number, out: Buffer, start: number): number => {
  const { bytes } = block;
  const keyStart = block.keyStart(i);
  const keyEnd = block.keyEnd(i);
  let at = writeVarint(out, start, keyStart === keyEnd ? 0 : keyEnd - keyStart + 1);
  at = copied(bytes, keyStart, keyEnd, out, at);
  const bins = block.ops(i);
  at = writeVarint(out, at, bins);
  let from = block.opsStart(i);
  for (let n = 0; n < bins; n++) {
    // u32 bytes that follow, u8 op, u8 type, u8 flags, u8 bytes of the name, name, value
    const end =
      from +
      4 +
      (((bytes[from] << 24) | (bytes[from + 1] << 16) | (bytes[from + 2] << 8) | bytes[from + 3]) >>> 0);
    const nameEnd = from + 4 + OP_HEAD_BYTES + bytes[from + 7];
    const valueStart = nameEnd + (bytes[from + 6] & OP_HAS_LUT ? 8 : 0);
    at = copied(bytes, from + 7, nameEnd, out, at);
    out[at++] = bytes[from + 5];
    at = writeVarint(out, at, end - valueStart);
    at = copied(bytes, valueStart, end, out, at);
    from = end;
  }
  return at;
};

const copied = (from: Buffer, start: number, end: number, out: Buffer, at: number): number => {
  let to = at;
  if (end - start <= SHORT_BYTES) for (let j = start; j < end; j++) out[to++] = from[j];
  else {
    from.copy(out, to, start, end);
    to += end - start;
  }
  return to;
};

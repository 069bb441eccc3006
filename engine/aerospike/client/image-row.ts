import { GEOJSON_HEADER_BYTES, ParticleType } from '../../particle.ts';
import { FieldId } from '../field.ts';
import { OP_HEAD_BYTES, OpId } from '../operation.ts';
import type { RowBatch, RowPlace } from './row-batch.ts';

/** What was seen in an image on its way into a row. */
export const RowFlag = {
  /** A value is GeoJSON: the server computes its cells anew. */
  geo: 1,
  /** The persist-index flag of a list or map was cleared. */
  masked: 2,
  /** A list or map has no other flag than persist-index, which a server must not be sent: there is no row. */
  persist: 4,
} as const;

const KEY_HEAD_BYTES = 5;
/** An op has so much more than the bin of an image: length, op, flags, for one byte or more of the value's length. */
const BIN_MORE_BYTES = 4 + OP_HEAD_BYTES - 3;
const PERSIST_INDEX = 0x10;
const EXT_8 = 0xc7;

/**
 * Appends a row that writes the record of an image (engine/image.ts) whole: key stored, one write for each bin, particles as they are.
 * `filter`: the row's condition, an expression. Returns {@link RowFlag}s.
 */
export const appendImage = (
  batch: RowBatch,
  place: RowPlace,
  tag: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  w4: number,
  generation: number,
  recordTtl: number,
  filter: Uint8Array | undefined,
  image: Uint8Array,
  start: number,
  end: number,
): number => {
  let at = start;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const b = image[at++];
      value += (b & 0x7f) * scale;
      if (b < 0x80 || at > end) return value;
    }
  };
  const keyBytes = Math.max(0, varint() - 1);
  const keyStart = at;
  at += keyBytes;
  const bins = varint();
  const filterBytes = filter === undefined ? 0 : KEY_HEAD_BYTES + filter.length;
  const more = KEY_HEAD_BYTES + filterBytes + (end - start) + bins * BIN_MORE_BYTES;
  batch.begin(place, tag, w0, w1, w2, w3, w4, generation, recordTtl, more);
  const b = batch.bytes;
  let to = batch.used;
  let fields = place.fieldCount;
  if (filter) {
    to = putU32(b, to, filter.length + 1);
    b[to++] = FieldId.filter;
    b.set(filter, to);
    to += filter.length;
    fields++;
  }
  if (keyBytes > 0) {
    to = putU32(b, to, keyBytes + 1);
    b[to++] = FieldId.key;
    to = copy(b, to, image, keyStart, keyStart + keyBytes);
    fields++;
  }
  let flags = 0;
  for (let bin = 0; bin < bins; bin++) {
    const nameBytes = image[at];
    const nameStart = at + 1;
    at = nameStart + nameBytes;
    const type = image[at++];
    // not inline: it moves `at`
    const valueBytes = varint();
    to = putU32(b, to, OP_HEAD_BYTES + nameBytes + valueBytes);
    b[to++] = OpId.write;
    b[to++] = type;
    b[to++] = 0;
    b[to++] = nameBytes;
    to = copy(b, to, image, nameStart, nameStart + nameBytes);
    const valueAt = to;
    to = copy(b, to, image, at, at + valueBytes);
    at += valueBytes;
    if (type === ParticleType.geojson) flags |= RowFlag.geo;
    else if (type === ParticleType.list || type === ParticleType.map) flags |= maskPersist(b, valueAt, to);
  }
  if (flags & RowFlag.persist) {
    batch.drop();
    return flags;
  }
  batch.used = to;
  batch.end(fields, bins);
  return flags;
};

/**
 * Clears the persist-index flag at the top of a list or map in `b[at, end)`: a server removes it on reading, and ends on an
 * unordered list that has it alone.
 */
export const maskPersist = (b: Uint8Array, at: number, end: number): number => {
  const flagsAt = orderFlagsAt(b, at, end);
  if (flagsAt < 0 || (b[flagsAt] & PERSIST_INDEX) === 0) return 0;
  if (b[flagsAt] === PERSIST_INDEX) return RowFlag.persist;
  b[flagsAt] &= ~PERSIST_INDEX;
  return RowFlag.masked;
};

/** Where the order flags of a list or map are, or -1: `c7 00 flags` as its first element. */
const orderFlagsAt = (b: Uint8Array, at: number, end: number): number => {
  const tag = b[at];
  const headBytes = tag >= 0x80 && tag <= 0x9f ? 1 : tag === 0xdc || tag === 0xde ? 3 : 5;
  const first = at + headBytes;
  return first + 2 < end && b[first] === EXT_8 && b[first + 1] === 0 ? first + 2 : -1;
};

/** The JSON of a GeoJSON value: where it starts in `b[at, end)`. */
export const geoTextAt = (b: Uint8Array, at: number, end: number): number => {
  if (end - at < GEOJSON_HEADER_BYTES) return at;
  return Math.min(end, at + GEOJSON_HEADER_BYTES + 8 * ((b[at + 1] << 8) | b[at + 2]));
};

const putU32 = (b: Buffer, at: number, value: number): number => {
  b[at] = value >>> 24;
  b[at + 1] = value >>> 16;
  b[at + 2] = value >>> 8;
  b[at + 3] = value;
  return at + 4;
};

/** Below this a loop is faster than the call. */
const LOOP_BYTES_MAX = 48;

const copy = (out: Buffer, at: number, data: Uint8Array, start: number, end: number): number => {
  if (end - start > LOOP_BYTES_MAX) out.set(data.subarray(start, end), at);
  else for (let i = start, o = at; i < end; i++, o++) out[o] = data[i];
  return at + end - start;
};

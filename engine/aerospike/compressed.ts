import { constants, deflateSync, inflateSync } from 'node:zlib';
import { malformed } from './malformed.ts';
import {
  BODY_BYTES_MAX,
  bodyBytesOf,
  PROTO_HEADER_BYTES,
  PROTO_VERSION,
  ProtoType,
  writeProtoHeader,
} from './proto.ts';

/** Bytes before the zlib stream: the size of the frame within, its header included. */
const SIZE_BYTES = 8;

/**
 * The body of the message in a compressed frame. Its stated size is checked before anything is inflated, and inflating stops there.
 * @throws wire-malformed
 */
export const inflateBody = (body: Buffer, bodyBytesMax = BODY_BYTES_MAX): Buffer => {
  if (body.length < SIZE_BYTES) throw malformed('a compressed frame without its size');
  const stated = body.readUInt32BE(0) * 2 ** 32 + body.readUInt32BE(4);
  if (stated < PROTO_HEADER_BYTES || stated > bodyBytesMax + PROTO_HEADER_BYTES)
    throw malformed(`a compressed frame that holds ${stated} bytes; at most ${bodyBytesMax}`);
  let inner: Buffer;
  try {
    inner = inflateSync(body.subarray(SIZE_BYTES), { maxOutputLength: stated });
  } catch {
    throw malformed('a compressed frame that cannot be inflated');
  }
  if (inner.length !== stated || bodyBytesOf(inner) !== stated - PROTO_HEADER_BYTES)
    throw malformed(`a compressed frame of ${inner.length} bytes that states ${stated}`);
  if (inner[0] !== PROTO_VERSION || inner[1] !== ProtoType.message)
    throw malformed('a compressed frame that holds no message');
  return inner.subarray(PROTO_HEADER_BYTES);
};

/** A whole frame of a message, compressed: what a client may send in its place. */
export const deflateFrame = (frame: Buffer): Buffer => {
  const stream = deflateSync(frame, { level: constants.Z_BEST_SPEED });
  const out = Buffer.allocUnsafe(PROTO_HEADER_BYTES + SIZE_BYTES + stream.length);
  writeProtoHeader(out, 0, ProtoType.compressed, SIZE_BYTES + stream.length);
  out.writeUInt32BE(Math.floor(frame.length / 2 ** 32), PROTO_HEADER_BYTES);
  out.writeUInt32BE(frame.length >>> 0, PROTO_HEADER_BYTES + 4);
  stream.copy(out, PROTO_HEADER_BYTES + SIZE_BYTES);
  return out;
};

import { normalizeParticle } from '../../engine/aerospike/cdt/normalize.ts';
import { geoTextAt, maskPersist } from '../../engine/aerospike/client/image-row.ts';
import type { RecordBlock } from '../../engine/aerospike/client/record-block.ts';
import { FieldId } from '../../engine/aerospike/field.ts';
import type { MessageView } from '../../engine/aerospike/message.ts';
import { contentHash, seedOf } from '../../engine/content-digest.ts';
import { writeVarint } from '../../engine/image.ts';
import { ParticleType } from '../../engine/particle.ts';

/**
 * The content hash of records as a server gives them: their image is made anew from the answer and hashed as
 * engine/content-digest.ts says. Of GeoJSON only the text counts.
 */
export class WireHash {
  #image = Buffer.allocUnsafeSlow(64 * 1024);
  /** Bytes of the image that was made last. */
  #end = 0;

  readonly #isKeyed: boolean;

  /** `isKeyed`: the stored key counts; answers to batches do not have it. */
  constructor(isKeyed: boolean) {
    this.#isKeyed = isKeyed;
  }

  /** In an array that the next call overwrites. `w0`…`w4`: the sort key. */
  ofMessage(
    seed: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    m: MessageView,
  ): Uint32Array {
    this.#make(m);
    return contentHash(seed, w0, w1, w2, w3, w4, this.#image, 0, this.#end);
  }

  /**
   * The same of an image on its way to the server. `flags`: what {@link appendImage} saw in it; `hash`: that of the image as it is.
   * `isCanonical`: lists and maps in the form that a server gives them.
   */
  ofImage(
    seed: number,
    w0: number,
    w1: number,
    w2: number,
    w3: number,
    w4: number,
    image: Uint8Array,
    start: number,
    end: number,
    flags: number,
    hash: Uint32Array,
    isCanonical = false,
  ): Uint32Array {
    if (flags === 0 && this.#isKeyed && !isCanonical) return hash;
    this.#makeOf(image, start, end, isCanonical);
    return contentHash(seed, w0, w1, w2, w3, w4, this.#image, 0, this.#end);
  }

  #makeOf(image: Uint8Array, start: number, end: number, isCanonical: boolean): void {
    // a canonical form is never longer than twice what it is made of
    this.#reserve(2 * (end - start) + 16);
    const out = this.#image;
    const from = new ImageReader(image, start);
    const keyBytes = Math.max(0, from.varint() - 1);
    let at = writeVarint(out, 0, this.#isKeyed && keyBytes > 0 ? keyBytes + 1 : 0);
    if (this.#isKeyed) at = copy(out, at, image, from.at, from.at + keyBytes);
    from.at += keyBytes;
    const bins = from.varint();
    at = writeVarint(out, at, bins);
    for (let n = 0; n < bins; n++) {
      const nameBytes = image[from.at];
      at = copy(out, at, image, from.at, from.at + 1 + nameBytes);
      from.at += 1 + nameBytes;
      const type = image[from.at++];
      const valueBytes = from.varint();
      const value = asSent(type, image.subarray(from.at, from.at + valueBytes), isCanonical);
      from.at += valueBytes;
      out[at++] = type;
      at = writeVarint(out, at, value.length);
      at = copy(out, at, value, 0, value.length);
    }
    this.#end = at;
  }

  #reserve(bytes: number): void {
    if (this.#image.length < bytes) this.#image = Buffer.allocUnsafeSlow(2 * bytes);
  }

  #make(m: MessageView): void {
    const { bytes } = m;
    const keyStart = this.#isKeyed ? m.fieldStart(FieldId.key) : 0;
    const keyEnd = this.#isKeyed ? m.fieldEnd(FieldId.key) : 0;
    let bins = 0;
    let size = 12 + keyEnd - keyStart;
    m.rewindOps();
    while (m.nextOp()) {
      if (m.opType === ParticleType.null) continue;
      bins++;
      size += 7 + m.opNameEnd - m.opNameStart + m.opValueEnd - m.opValueStart;
    }
    this.#reserve(size);
    const out = this.#image;
    const keyBytes = keyEnd - keyStart;
    let at = writeVarint(out, 0, keyBytes > 0 ? keyBytes + 1 : 0);
    at = copy(out, at, bytes, keyStart, keyEnd);
    at = writeVarint(out, at, bins);
    m.rewindOps();
    while (m.nextOp()) {
      if (m.opType === ParticleType.null) continue;
      out[at++] = m.opNameEnd - m.opNameStart;
      at = copy(out, at, bytes, m.opNameStart, m.opNameEnd);
      out[at++] = m.opType;
      const start =
        m.opType === ParticleType.geojson ? geoTextAt(bytes, m.opValueStart, m.opValueEnd) : m.opValueStart;
      at = writeVarint(out, at, m.opValueEnd - start);
      at = copy(out, at, bytes, start, m.opValueEnd);
    }
    this.#end = at;
  }
}

/** Seeds of the hash by the bytes of the set, of one namespace: few, and mostly the last one again. */
export class Seeds {
  readonly #namespace: string;
  #bytes: Buffer = Buffer.alloc(0);
  #seed: number;

  constructor(namespace: string) {
    this.#namespace = namespace;
    this.#seed = seedOf(namespace, '');
  }

  of(block: RecordBlock, i: number): number {
    return this.ofBytes(block.bytes, block.setStart(i), block.setEnd(i));
  }

  ofMessage(m: MessageView): number {
    return this.ofBytes(m.bytes, m.fieldStart(FieldId.set), m.fieldEnd(FieldId.set));
  }

  ofBytes(bytes: Buffer, start: number, end: number): number {
    const known = this.#bytes;
    let isSame = end - start === known.length;
    for (let i = 0; isSame && i < known.length; i++) isSame = bytes[start + i] === known[i];
    if (!isSame) {
      this.#bytes = Buffer.from(bytes.subarray(start, end));
      this.#seed = seedOf(this.#namespace, this.#bytes.toString('utf8'));
    }
    return this.#seed;
  }
}

/** A value as it goes out, GeoJSON without its cells; `isCanonical`: as a server stores it. */
const asSent = (type: number, value: Uint8Array, isCanonical: boolean): Uint8Array => {
  if (type === ParticleType.geojson) return value.subarray(geoTextAt(value, 0, value.length));
  if (type !== ParticleType.list && type !== ParticleType.map) return value;
  const sent = Buffer.from(value);
  maskPersist(sent, 0, sent.length);
  if (!isCanonical) return sent;
  const stored = normalizeParticle(type, sent);
  return stored instanceof Uint8Array ? stored : sent;
};

/** A place in an image. */
class ImageReader {
  readonly #image: Uint8Array;
  at: number;

  constructor(image: Uint8Array, at: number) {
    this.#image = image;
    this.at = at;
  }

  varint(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const b = this.#image[this.at++];
      value += (b & 0x7f) * scale;
      // undefined, past the end, ends it too
      if (!(b >= 0x80)) return value;
    }
  }
}

const copy = (out: Buffer, at: number, data: Uint8Array, start: number, end: number): number => {
  if (end - start > 48) out.set(data.subarray(start, end), at);
  else for (let i = start, o = at; i < end; i++, o++) out[o] = data[i];
  return at + end - start;
};

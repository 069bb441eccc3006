/**
 * Reads a directory archive with nothing of ours: written from docs/archive.md alone, so that the page is shown to suffice.
 * Imports are Node's own.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, zstdDecompressSync } from 'node:zlib';

export interface StrangeVersion {
  readonly namespace: string;
  readonly set: string;
  /** Hex. */
  readonly digest: string;
  readonly ts: number;
  readonly lsn: number;
  readonly stream: string;
  readonly epoch: number;
  readonly generation: number;
  readonly voidTime: number;
  readonly isDelete: boolean;
  readonly batchMore: boolean;
  readonly key: { readonly type: number; readonly bytes: Buffer } | undefined;
  readonly bins: ReadonlyMap<string, { readonly type: number; readonly bytes: Buffer }>;
}

export interface StrangeSegment {
  readonly properties: Properties;
  readonly versions: readonly StrangeVersion[];
  readonly events: readonly StrangeEvent[];
}

/** What the page says of the objects, as far as it is needed here. */
interface Properties {
  readonly header: {
    readonly archive: string;
    readonly streams: readonly { readonly epoch: number; readonly stream: string }[];
  };
  readonly namespaces: readonly string[];
  readonly sets: readonly string[];
  readonly rows: number;
  readonly eventsOffset: number;
  readonly eventsBytes: number;
  readonly events: number;
  readonly top: readonly { readonly indexOffset: number; readonly indexBytes: number }[];
}

export interface StrangeEvent {
  readonly kind: string;
  readonly lsn: number;
  readonly ts: number;
  readonly namespace: string;
  readonly set: string | null;
  readonly cutoffLut: number;
}

const demand = (isTrue: boolean, what: string): void => {
  if (!isTrue) throw new Error(what);
};

/** The current value of a swapped object: the file with the highest number in the folder of its name. */
export const readSwapped = <T>(root: string, name: string, kind: string): T => {
  const numbers = readdirSync(join(root, name)).filter((n) => /^\d{12}$/.test(n));
  return parseDocument(readFileSync(join(root, name, numbers.sort().at(-1) as string)), kind);
};

export const readOnce = <T>(root: string, name: string, kind: string): T =>
  parseDocument(readFileSync(join(root, name)), kind);

const parseDocument = <T>(bytes: Buffer, kind: string): T => {
  const end = bytes.indexOf(10);
  const line = JSON.parse(bytes.toString('utf8', 0, end));
  const body = bytes.subarray(end + 1);
  demand(line.pitr === kind && line.version === 2, 'another kind or version');
  demand(line.bytes === body.length, 'length of the body');
  demand(line.crc32 === crc32(body).toString(16).padStart(8, '0'), 'checksum of the body');
  return JSON.parse(body.toString('utf8'));
};

/** Every version and event of one segment, checksums checked. */
export const readSegment = (root: string, name: string): StrangeSegment => {
  const file = readFileSync(join(root, name));
  const footer = file.subarray(file.length - 40);
  demand(footer.toString('latin1', 32) === 'PITRSEGF' && footer.readUInt16LE(24) === 3, 'footer');
  demand(crc32(footer.subarray(0, 28)) === footer.readUInt32LE(28), 'checksum of the footer');
  demand(Number(footer.readBigUInt64LE(16)) === file.length, 'size');
  const at = Number(footer.readBigUInt64LE(0));
  const packed = file.subarray(at, at + footer.readUInt32LE(8));
  demand(crc32(packed) === footer.readUInt32LE(12), 'checksum of the properties');
  const properties = unpack<Properties>(packed);

  demand(file.toString('latin1', 0, 8) === 'PITRSEG\n' && file.readUInt16LE(8) === 3, 'header');
  const headerBytes = file.readUInt32LE(12);
  const header = file.subarray(20, 20 + headerBytes);
  demand(crc32(header, crc32(file.subarray(0, 16))) === file.readUInt32LE(16), 'checksum of the header');
  demand(unpack<Properties['header']>(header).archive === properties.header.archive, 'header and properties');

  const versions: StrangeVersion[] = [];
  for (const top of properties.top) {
    const index = stored(file, top.indexOffset, top.indexBytes);
    for (let i = 0; i < index.length; i += 40) {
      const block = stored(file, Number(index.readBigUInt64LE(i + 24)), index.readUInt32LE(i + 32));
      demand(block.readUInt32LE(0) === index.readUInt32LE(i + 36), 'rows of a block');
      versions.push(...rowsOf(block, properties));
    }
  }
  demand(versions.length === properties.rows, 'rows of the segment');
  const events =
    properties.events === 0
      ? []
      : unpack<StrangeEvent[]>(stored(file, properties.eventsOffset, properties.eventsBytes));
  return { properties, versions, events };
};

/** "Stored form". */
const stored = (file: Buffer, offset: number, bytes: number): Buffer => {
  const at = file.subarray(offset, offset + bytes);
  const packed = at.subarray(16);
  demand(packed.length === at.readUInt32LE(0) && crc32(packed) === at.readUInt32LE(8), 'stored bytes');
  const raw = zstdDecompressSync(packed);
  demand(raw.length === at.readUInt32LE(4) && crc32(raw) === at.readUInt32LE(12), 'raw bytes');
  return raw;
};

const rowsOf = (block: Buffer, properties: Properties): StrangeVersion[] => {
  const n = block.readUInt32LE(0);
  const u32 = (column: number, row: number): number => block.readUInt32LE(16 + (column * n + row) * 4);
  const u16 = (column: number, row: number): number =>
    block.readUInt16LE(16 + 12 * 4 * n + (column * n + row) * 2);
  const heap = block.subarray(16 + 54 * n);
  demand(heap.length === block.readUInt32LE(4), 'heap');
  return Array.from({ length: n }, (_, row) => {
    const key = Buffer.alloc(20);
    for (let word = 0; word < 5; word++) key.writeUInt32BE(u32(word, row), word * 4);
    const flags = u16(2, row);
    const start = (row === 0 ? 0 : u32(10, row - 1)) + (flags & 8 ? 36 : 0);
    const { epoch, stream } = properties.header.streams[u16(0, row)];
    return {
      namespace: properties.namespaces[block.readUInt32LE(8)],
      set: properties.sets[u32(11, row)],
      digest: digestOf(key).toString('hex'),
      ts: u32(6, row) * 2 ** 32 + u32(5, row),
      lsn: u32(8, row) * 2 ** 32 + u32(7, row),
      stream,
      epoch,
      generation: u16(1, row),
      voidTime: u32(9, row),
      isDelete: (flags & 1) !== 0,
      batchMore: (flags & 2) !== 0,
      ...imageOf(heap.subarray(start, u32(10, row))),
    };
  });
};

/** Sort key `nh lm …` back to digest `hl mn …` (nibbles). */
const digestOf = (key: Buffer): Buffer => {
  const [n, h] = [key[0] >> 4, key[0] & 15];
  const [l, m] = [key[1] >> 4, key[1] & 15];
  return Buffer.concat([Buffer.from([(h << 4) | l, (m << 4) | n]), key.subarray(2)]);
};

const imageOf = (image: Buffer): Pick<StrangeVersion, 'key' | 'bins'> => {
  const bins = new Map<string, { type: number; bytes: Buffer }>();
  if (image.length === 0) return { key: undefined, bins };
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = image[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  const take = (bytes: number): Buffer => {
    at += bytes;
    return image.subarray(at - bytes, at);
  };
  const keyBytes = varint();
  const typed = keyBytes === 0 ? undefined : take(keyBytes - 1);
  for (let left = varint(); left > 0; left--) {
    const name = take(image[at++]).toString('utf8');
    const type = image[at++];
    bins.set(name, { type, bytes: take(varint()) });
  }
  demand(at === image.length, 'bytes after the last bin');
  return { key: typed && { type: typed[0], bytes: typed.subarray(1) }, bins };
};

/** The part of msgpack that the page names. */
const unpack = <T>(bytes: Buffer): T => {
  let at = 0;
  const uint = (size: number): number => {
    at += size;
    return size === 8 ? Number(bytes.readBigUInt64BE(at - 8)) : bytes.readUIntBE(at - size, size);
  };
  const take = (size: number): Buffer => {
    at += size;
    return bytes.subarray(at - size, at);
  };
  const array = (n: number): unknown => Array.from({ length: n }, () => value());
  const map = (n: number): unknown => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]));
  const value = (): unknown => {
    const tag = uint(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15);
    if (tag < 0xa0) return array(tag & 15);
    if (tag < 0xc0) return take(tag & 31).toString('utf8');
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return tag === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return take(uint(1 << (tag - 0xc4)));
      case 0xcb:
        return take(8).readDoubleBE();
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return uint(1 << (tag - 0xcc));
      case 0xd0:
        return take(1).readInt8();
      case 0xd1:
        return take(2).readInt16BE();
      case 0xd2:
        return take(4).readInt32BE();
      case 0xd3:
        return Number(take(8).readBigInt64BE());
      case 0xd9:
      case 0xda:
      case 0xdb:
        return take(uint(1 << (tag - 0xd9))).toString('utf8');
      case 0xdc:
      case 0xdd:
        return array(uint(tag === 0xdc ? 2 : 4));
      case 0xde:
      case 0xdf:
        return map(uint(tag === 0xde ? 2 : 4));
      default:
        throw new Error(`msgpack tag ${tag.toString(16)}`);
    }
  };
  const found = value();
  demand(at === bytes.length, 'bytes after the value');
  return found as T;
};

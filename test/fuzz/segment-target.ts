/** Segments of which one part is replaced, and every checksum and offset around it is right again. */
import { crc32 } from 'node:zlib';
import { PARTITIONS, sortKeyOf } from '../../engine/partition.ts';
import { decodeStored, encodeStored } from '../../wal/block.ts';
import { decodeEnvelope, encodeEnvelope, packBytes, unpackBytes } from '../../wal/envelope.ts';
import {
  SEGMENT_FOOTER_MAGIC,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
  type SegmentProperties,
} from '../../wal/segment.ts';
import { SegmentReader } from '../../wal/segment-reader.ts';
import { GOLDEN_EVENTS, GOLDEN_ROWS } from '../golden/content.ts';
import { MemoryStore } from '../wal/memory-store.ts';
import { ARCHIVE, encodeSegment, readAll } from '../wal/segment-support.ts';
import type { Target } from './fuzz.ts';

const PARTS = ['header', 'block', 'events', 'index', 'filter', 'properties'] as const;
type Part = (typeof PARTS)[number];

const NAMESPACE = GOLDEN_ROWS[0].namespace;
/** One namespace: one block, one index partition. */
const { bytes: WHOLE } = encodeSegment(
  GOLDEN_ROWS.filter((r) => r.namespace === NAMESPACE),
  GOLDEN_EVENTS,
);

const footer = WHOLE.subarray(WHOLE.length - 40);
const propertiesAt = Number(footer.readBigUInt64LE(0));
const PROPERTIES = unpackBytes<SegmentProperties>(WHOLE.subarray(propertiesAt, WHOLE.length - 40), 'seed');
const [TOP] = PROPERTIES.top;
const envelope = decodeEnvelope(WHOLE, SEGMENT_MAGIC, SEGMENT_VERSION, 'seed');
const plain = (at: number, bytes: number): Buffer =>
  Buffer.from(decodeStored(WHOLE.subarray(at, at + bytes), 'seed'));

const RAW: Readonly<Record<Part, Buffer>> = {
  header: packBytes(envelope.body),
  block: plain(envelope.bytes, PROPERTIES.dataBytes),
  events: plain(PROPERTIES.eventsOffset, PROPERTIES.eventsBytes),
  index: plain(TOP.indexOffset, TOP.indexBytes),
  filter: plain(TOP.filterOffset, TOP.filterBytes),
  properties: packBytes(PROPERTIES),
};

const assemble = (part: Part, payload: Buffer): Buffer => {
  const raw = { ...RAW, [part]: payload };
  const chunks: Buffer[] = [];
  let offset = 0;
  const push = (bytes: Buffer): { at: number; bytes: number } => {
    chunks.push(bytes);
    offset += bytes.length;
    return { at: offset - bytes.length, bytes: bytes.length };
  };
  const header = encodeEnvelope(SEGMENT_MAGIC, SEGMENT_VERSION, {});
  // the body as it is, under a right checksum
  const prologue = Buffer.from(header.subarray(0, 20));
  prologue.writeUInt32LE(raw.header.length, 12);
  prologue.writeUInt32LE(crc32(raw.header, crc32(prologue.subarray(0, 16))), 16);
  push(Buffer.concat([prologue, raw.header]));
  const block = push(encodeStored(raw.block));
  const events = push(encodeStored(raw.events));
  if (part !== 'index') {
    raw.index = Buffer.from(raw.index);
    raw.index.writeBigUInt64LE(BigInt(block.at), 24);
    raw.index.writeUInt32LE(block.bytes, 32);
  }
  const index = push(encodeStored(raw.index));
  const filter = push(encodeStored(raw.filter));
  if (part !== 'properties')
    raw.properties = packBytes({
      ...PROPERTIES,
      dataBytes: block.bytes,
      eventsOffset: events.at,
      eventsBytes: events.bytes,
      top: [
        {
          ...TOP,
          indexOffset: index.at,
          indexBytes: index.bytes,
          filterOffset: filter.at,
          filterBytes: filter.bytes,
        },
      ],
    });
  const properties = push(raw.properties);
  const foot = Buffer.alloc(40);
  foot.writeBigUInt64LE(BigInt(properties.at), 0);
  foot.writeUInt32LE(properties.bytes, 8);
  foot.writeUInt32LE(crc32(raw.properties), 12);
  foot.writeBigUInt64LE(BigInt(offset + 40), 16);
  foot.writeUInt16LE(SEGMENT_VERSION, 24);
  foot.writeUInt32LE(crc32(foot.subarray(0, 28)), 28);
  foot.write(SEGMENT_FOOTER_MAGIC, 32, 8, 'latin1');
  push(foot);
  return Buffer.concat(chunks);
};

const readEverything = async (bytes: Buffer): Promise<void> => {
  const store = new MemoryStore();
  store.objects.set('x', bytes);
  const at = bytes.length - 40;
  const crc = bytes
    .readUInt32LE(at + 12)
    .toString(16)
    .padStart(8, '0');
  const ref = { name: 'x', bytes: bytes.length, crc, rows: 0, tsMin: 0, tsMax: 0, events: 1 };
  const reader = await SegmentReader.open(
    store,
    { ...ref, partitions: { start: 0, end: PARTITIONS } },
    ARCHIVE,
  );
  await readAll(reader);
  await reader.header();
  for (const { digest } of GOLDEN_ROWS)
    for (const handle of await reader.candidates(NAMESPACE, sortKeyOf(Buffer.from(digest, 'hex'))))
      reader.decode((await reader.readBlocks([handle]))[0]);
};

const msgpack = {
  parse: (input: Buffer): unknown => unpackBytes(input, 'seed'),
  print: (tree: unknown): Buffer => packBytes(tree),
};

export const segmentTargets: readonly Target[] = PARTS.map((part) => ({
  name: `segment-${part}`,
  seeds: [RAW[part]],
  refusals: ['object-corrupt', 'archive-mismatch'],
  run: (input) => readEverything(assemble(part, input)),
  ...(part === 'header' || part === 'events' || part === 'properties' ? { tree: msgpack } : {}),
}));

/** The corpus of records, written by requests made by hand and compared with what a get and a scan answer. */
import { strict as assert } from 'node:assert';
import type { CorpusRecord } from '../engine/record-corpus.ts';
import { scan } from './partition-scan.ts';
import { addressOf, getOf, putOf, type RecordAddress } from './subject.ts';
import { digestOf, field, op, partitionOf, type Reply } from './wire-bytes.ts';
import type { WireConnection } from './wire-connection.ts';

export const GEOJSON = 23;

/** The text of a GeoJSON value; what is before it are cells, which each server computes for itself. */
const geoText = (value: Buffer): string => value.subarray(3 + 8 * value.readUInt16BE(1)).toString('hex');

/** An operation of a reply, as name, type and bytes; of GeoJSON the text. */
export const valueIn = (reply: string): string => {
  const [, name, typed] = /^\d+ (.*) (\d+:[0-9a-f]*)$/s.exec(reply)!;
  const [type, bytes] = typed!.split(':');
  return `${name} ${type}:${type === String(GEOJSON) ? geoText(Buffer.from(bytes!, 'hex')) : bytes}`;
};

const writtenValue = ({ name, type, bytes }: CorpusRecord['bins'][number]): string => {
  const value = Buffer.from(bytes);
  return `${Buffer.from(name).toString('latin1')} ${type}:${type === GEOJSON ? geoText(value) : value.toString('hex')}`;
};

const keyOf = ({ key }: CorpusRecord): Buffer | undefined =>
  key && Buffer.concat([Uint8Array.of(key.type), key.bytes]);

/** Where a record of the corpus goes: no two runs write the same digest, also those without a set. */
export function corpusAddress(set: string, record: CorpusRecord, index: number): RecordAddress {
  const id = Buffer.from(`${set} ${index}`);
  const own = record.inSet ? set : '';
  const at = addressOf(digestOf(own, 3, id), own);
  return record.inSet ? at : { ...at, fields: at.fields.filter((_, i) => i !== 1) };
}

/** The void time that the record got. */
export async function writeCorpusRecord(
  wire: WireConnection,
  at: RecordAddress,
  record: CorpusRecord,
): Promise<number> {
  const key = keyOf(record);
  const ops = record.bins.map((b) => op(2, b.name, b.type, b.bytes));
  const more = { ttl: record.ttlSeconds, ...(key && { fields: [field(2, key)] }) };
  const reply = await wire.call(putOf(at, ops, more));
  assert.deepEqual([reply.code, reply.generation, reply.voidTime !== 0], [0, 1, record.ttlSeconds !== 0]);
  return reply.voidTime;
}

export async function checkCorpusRecord(
  wire: WireConnection,
  at: RecordAddress,
  record: CorpusRecord,
  expected: { readonly voidTime: number; readonly generation: number },
): Promise<void> {
  const same = (reply: Reply) => {
    assert.deepEqual(
      [reply.code, reply.generation, reply.voidTime],
      [0, expected.generation, expected.voidTime],
    );
    assert.deepEqual(reply.ops.map(valueIn), record.bins.map(writtenValue));
  };
  same(await wire.call(getOf(at)));
  const partitions = [partitionOf(at.digest)];
  const { records } = await scan(wire, { partitions, ...(record.inSet && { set: at.set }) });
  const found = records.find((r) => r.fields.get(4)!.equals(at.digest));
  assert(found, 'is in the scan');
  same(found);
  assert.equal(found.fields.get(1)?.toString(), record.inSet ? at.set : undefined);
  assert.deepEqual(found.fields.get(2), keyOf(record));
}

/**
 * Requests made by hand and replies taken apart, for tests of an endpoint. Shares nothing with engine/aerospike/, so that
 * neither can hide the other's mistake.
 */
import { createHash } from 'node:crypto';

export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
export const utf8 = (text: string): Buffer => Buffer.from(text, 'utf8');

export const u16 = (value: number): Buffer => hex(value.toString(16).padStart(4, '0'));
export const u32 = (value: number): Buffer => hex((value >>> 0).toString(16).padStart(8, '0'));
export const u64 = (value: bigint | number): Buffer =>
  hex(BigInt.asUintN(64, BigInt(value)).toString(16).padStart(16, '0'));
export const f64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
};

/** The three bytes of flags, as a request gives them. */
export const READ = 0x01;
export const GET_ALL = 0x02;
export const BATCH = 0x08;
export const NO_BINS = 0x20;

export const WRITE = 0x01;
export const DELETE = 0x02;
export const GENERATION = 0x04;
export const GENERATION_GT = 0x08;
export const DURABLE_DELETE = 0x10;
export const CREATE_ONLY = 0x20;
export const RESPOND_ALL_OPS = 0x80;

export const LAST = 0x01;
export const PARTITION_DONE = 0x04;
export const UPDATE_ONLY = 0x08;
export const CREATE_OR_REPLACE = 0x10;
export const REPLACE_ONLY = 0x20;

export const NEVER_EXPIRE = 0xffffffff;
export const KEEP_TTL = 0xfffffffe;

export const MSG = 3;
export const COMPRESSED = 4;

export const frame = (type: number, body: Uint8Array): Buffer => {
  const header = u64(body.length);
  header[0] = 2;
  header[1] = type;
  return Buffer.concat([header, body]);
};

export interface MessageParts {
  readonly info1?: number;
  readonly info2?: number;
  readonly info3?: number;
  readonly info4?: number;
  readonly generation?: number;
  readonly ttl?: number;
  readonly timeoutMs?: number;
  readonly fields?: readonly Uint8Array[];
  readonly ops?: readonly Uint8Array[];
}

/** The message without its frame: what is compressed, and what a test of broken frames cuts. */
export function messageBody(parts: MessageParts): Buffer {
  const fields = parts.fields ?? [];
  const ops = parts.ops ?? [];
  return Buffer.concat([
    Uint8Array.of(22, parts.info1 ?? 0, parts.info2 ?? 0, parts.info3 ?? 0, parts.info4 ?? 0, 0),
    u32(parts.generation ?? 0),
    u32(parts.ttl ?? 0),
    u32(parts.timeoutMs ?? 5000),
    u16(fields.length),
    u16(ops.length),
    ...fields,
    ...ops,
  ]);
}

export const message = (parts: MessageParts): Buffer => frame(MSG, messageBody(parts));

export const field = (id: number, data: Uint8Array): Buffer =>
  Buffer.concat([u32(data.length + 1), Uint8Array.of(id), data]);

export const op = (
  id: number,
  name: string | Uint8Array = '',
  type = 0,
  value: Uint8Array = Buffer.alloc(0),
): Buffer => {
  const nameBytes = typeof name === 'string' ? utf8(name) : name;
  return Buffer.concat([
    u32(4 + nameBytes.length + value.length),
    Uint8Array.of(id, type, 0, nameBytes.length),
    nameBytes,
    value,
  ]);
};

export const int = (name: string, value: bigint | number): Buffer => op(2, name, 1, u64(value));
export const float = (name: string, value: number): Buffer => op(2, name, 2, f64(value));
export const str = (name: string, value: string): Buffer => op(2, name, 3, utf8(value));
export const blob = (name: string, value: string): Buffer => op(2, name, 4, hex(value));
export const nil = (name: string): Buffer => op(2, name);
export const read = (name: string): Buffer => op(1, name);
export const incr = (name: string, value: bigint | number): Buffer => op(5, name, 1, u64(value));
export const append = (name: string, value: string): Buffer => op(9, name, 3, utf8(value));
export const prepend = (name: string, value: string): Buffer => op(10, name, 3, utf8(value));
export const touch = (): Buffer => op(11);
export const deleteAll = (): Buffer => op(14);
/** Operations on lists and maps: what follows is msgpack. */
export const cdtRead = (name: string, value: string): Buffer => op(3, name, 4, hex(value));
export const cdtModify = (name: string, value: string): Buffer => op(4, name, 4, hex(value));
export const expRead = (name: string, expression: string, flags = 0): Buffer =>
  op(7, name, 4, hex(`92 ${expression} ${flags.toString(16).padStart(2, '0')}`));

export const filter = (expression: string): Buffer => field(43, hex(expression));

export function digestOf(set: string, keyType: number, key: Uint8Array): Buffer {
  return createHash('ripemd160').update(set).update(Uint8Array.of(keyType)).update(key).digest();
}

export const partitionOf = (digest: Uint8Array): number => (digest[0]! | (digest[1]! << 8)) & 4095;

export interface Reply {
  readonly code: number;
  readonly info: readonly [number, number, number];
  readonly generation: number;
  /** Seconds since 2010, 0 never. */
  readonly voidTime: number;
  /** The batch row. */
  readonly row: number;
  readonly fields: ReadonlyMap<number, Buffer>;
  /** Each as `op name type:value`, the value in hex. */
  readonly ops: readonly string[];
}

/** The messages of one frame's body, one behind the other. */
export function parseMessages(body: Buffer): Reply[] {
  const replies: Reply[] = [];
  let at = 0;
  const take = (length: number): Buffer => {
    if (at + length > body.length)
      throw new Error(`the reply ends at ${body.length}, within a part of ${length} at ${at}`);
    at += length;
    return body.subarray(at - length, at);
  };
  while (at < body.length) {
    const header = take(22);
    if (header[0] !== 22) throw new Error(`a message's header of ${header[0]} bytes`);
    const fields = new Map<number, Buffer>();
    for (let i = header.readUInt16BE(18); i > 0; i--) {
      const data = take(take(4).readUInt32BE());
      fields.set(data[0]!, data.subarray(1));
    }
    const ops: string[] = [];
    for (let i = header.readUInt16BE(20); i > 0; i--) {
      const data = take(take(4).readUInt32BE());
      const nameEnd = 4 + data[3]!;
      ops.push(
        `${data[0]} ${data.subarray(4, nameEnd).toString('latin1')} ${data[1]}:${data.subarray(nameEnd).toString('hex')}`,
      );
    }
    replies.push({
      code: header[5]!,
      info: [header[1]!, header[2]!, header[3]!],
      generation: header.readUInt32BE(6),
      voidTime: header.readUInt32BE(10),
      row: header.readUInt32BE(14),
      fields,
      ops,
    });
  }
  return replies;
}

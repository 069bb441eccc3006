/**
 * The endpoint under test: the server at PITR_TEST_AEROSPIKE=host:port, a real one for instance, else our own. Everything
 * that a test writes is its own: the server may be shared, and may have seen this suite before.
 */
import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from '../../wal/engine.ts';
import {
  DELETE,
  digestOf,
  field,
  GET_ALL,
  type MessageParts,
  message,
  NO_BINS,
  partitionOf,
  READ,
  type Reply,
  u64,
  utf8,
  WRITE,
} from './wire-bytes.ts';
import { WireConnection } from './wire-connection.ts';

/** The two namespaces that a server must have. */
export const NAMESPACE = 'test';
export const OTHER_NAMESPACE = 'bar';

export interface RecordAddress {
  readonly set: string;
  readonly digest: Buffer;
  /** The fields that name the record: namespace, set, digest. */
  readonly fields: readonly Buffer[];
  /** The field that has the key stored. */
  readonly keyField: Buffer;
}

export const addressFields = (set: string, digest: Uint8Array): Buffer[] => [
  field(0, utf8(NAMESPACE)),
  field(1, utf8(set)),
  field(4, digest),
];

export const addressOf = (
  digest: Uint8Array,
  set: string,
  keyField: Buffer = field(2, utf8('\x03k')),
): RecordAddress => ({ set, digest: Buffer.from(digest), fields: addressFields(set, digest), keyField });

/** What a request has in addition; `fields` come after those that name the record. */
export type More = Omit<MessageParts, 'ops'>;

const request = (
  flags: MessageParts,
  record: RecordAddress,
  more: More,
  ops: readonly Uint8Array[],
): Buffer => message({ ...flags, ...more, fields: [...record.fields, ...(more.fields ?? [])], ops });

export const putOf = (record: RecordAddress, ops: readonly Uint8Array[], more: More = {}): Buffer =>
  request({ info2: WRITE }, record, more, ops);
export const getOf = (record: RecordAddress, more: More = {}): Buffer =>
  request({ info1: READ | GET_ALL }, record, more, []);
export const readOf = (record: RecordAddress, ops: readonly Uint8Array[], more: More = {}): Buffer =>
  request({ info1: READ }, record, more, ops);
export const existsOf = (record: RecordAddress, more: More = {}): Buffer =>
  request({ info1: READ | NO_BINS }, record, more, []);
export const removeOf = (record: RecordAddress, more: More = {}): Buffer =>
  request({ info2: WRITE | DELETE }, record, more, []);
export const operateOf = (record: RecordAddress, ops: readonly Uint8Array[], more: More = {}): Buffer =>
  request({ info1: READ, info2: WRITE }, record, more, ops);

export class Subject {
  readonly host: string;
  readonly port: number;
  /** Whether this is somebody else's server, which also other people's records may be on. */
  readonly foreign: boolean;
  /** A set of this run alone. A server takes 4,095 sets and forgets none: one a file, not one a test. */
  readonly set: string;
  readonly #stop: () => Promise<void>;
  #connections: WireConnection[] = [];
  #keys = 0;
  #partition = randomBytes(2).readUInt16BE() & 4095;

  private constructor(host: string, port: number, foreign: boolean, stop: () => Promise<void>) {
    this.host = host;
    this.port = port;
    this.foreign = foreign;
    this.set = `pt-${randomBytes(6).toString('hex')}`;
    this.#stop = stop;
  }

  static async open(): Promise<Subject> {
    const named = process.env.PITR_TEST_AEROSPIKE;
    if (!named) return Subject.openOurs();
    const colon = named.lastIndexOf(':');
    return new Subject(named.slice(0, colon), Number(named.slice(colon + 1)), true, async () => {});
  }

  /** Our endpoint, in a process of its own: the official client blocks the one that it connects from. */
  static async openOurs(): Promise<Subject> {
    const parent = await fs.mkdtemp(join(tmpdir(), 'pitr-endpoint-'));
    const dir = join(parent, 'engine');
    await Engine.init(dir);
    const options = JSON.stringify({ dir, namespaces: [NAMESPACE, OTHER_NAMESPACE] });
    const child = fork(join(import.meta.dirname, 'server-process.ts'), [options]);
    const exited = once(child, 'exit');
    const stop = async () => {
      child.kill('SIGTERM');
      await exited;
      await fs.rm(parent, { recursive: true });
    };
    const [started] = await Promise.race([once(child, 'message'), exited]);
    const address = (started as { readonly addresses?: readonly { host: string; port: number }[] })
      .addresses?.[0];
    if (!address) throw new Error('the endpoint did not start');
    return new Subject(address.host, address.port, false, stop);
  }

  async connect(): Promise<WireConnection> {
    const connection = await WireConnection.open(this.host, this.port);
    this.#connections.push(connection);
    return connection;
  }

  /** Takes this run's records away again, since a shared server keeps them in memory. */
  async close(): Promise<void> {
    const last = await this.connect();
    await last.info(`truncate:namespace=${NAMESPACE};set=${this.set}`);
    for (const connection of this.#connections) connection.close();
    await this.#stop();
  }

  /** A record that nobody has written yet. */
  fresh(): RecordAddress {
    const key = u64(++this.#keys);
    return this.at(digestOf(this.set, 1, key), this.set, field(2, Buffer.concat([Uint8Array.of(1), key])));
  }

  at(digest: Uint8Array, set = this.set, keyField?: Buffer): RecordAddress {
    return addressOf(digest, set, keyField);
  }

  /** `count` records of one partition in which this run has none yet, in the order of their digests, highest first. */
  freshPartition(count: number): { readonly partition: number; readonly records: readonly RecordAddress[] } {
    this.#partition = (this.#partition + 1) & 4095;
    const partition = this.#partition;
    const digests = Array.from({ length: count }, () => {
      const digest = randomBytes(20);
      digest[0] = partition & 0xff;
      digest[1] = (digest[1]! & 0xf0) | (partition >> 8);
      return digest;
    });
    digests.sort((a, b) => Buffer.compare(b, a));
    for (const digest of digests)
      if (partitionOf(digest) !== partition) throw new Error('not of that partition');
    return { partition, records: digests.map((d) => this.at(d)) };
  }
}

/** A reply in one line: its code, its generation, then the values. */
export const seen = (reply: Reply): readonly (number | string)[] => [
  reply.code,
  reply.generation,
  ...reply.ops,
];

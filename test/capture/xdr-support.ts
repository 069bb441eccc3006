/** What tests of the XDR capture have in common: messages byte by byte as the reference has them, a peer that ships them, the log read back. */
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { LogEntry, LogVersion } from '../../engine/commit-log.ts';
import { ContentDigest } from '../../engine/content-digest.ts';
import { initCapture } from '../../wal/capture/capture-dir.ts';
import { Journal, type JournalOptions } from '../../wal/capture/journal.ts';
import { scanLogFile } from '../../wal/log-file.ts';
import { field, int, message, u64, utf8 } from '../aerospike/wire-bytes.ts';

export const T0 = 1_700_000_000_000;
/** 2010-01-01, ms. */
const EPOCH_MS = 1_262_304_000_000;
/** An id of a source, above the 40 bits of the time. */
const SOURCE = 0x1a2bn << 40n;

export interface Change {
  readonly namespace?: string;
  readonly set?: string;
  readonly record: number;
  readonly generation?: number;
  readonly lutMs: number;
  /** Default: never expires. */
  readonly ttlS?: number;
  readonly value?: number;
}

/** 20 bytes; records are in different partitions. */
export const digestOf = (record: number): Buffer => {
  const digest = Buffer.alloc(20, record & 0xff);
  digest.writeUInt16LE((record * 397) & 0xffff, 0);
  digest.writeUInt32LE(record, 4);
  return digest;
};

export const lutField = (lutMs: number): Buffer => field(14, u64(BigInt(lutMs - EPOCH_MS) | SOURCE));

const fieldsOf = ({ namespace = 'test', set = 's', record, lutMs }: Change): Buffer[] => [
  field(0, utf8(namespace)),
  ...(set === '' ? [] : [field(1, utf8(set))]),
  field(4, digestOf(record)),
  lutField(lutMs),
];

/** A write as it is shipped: XDR, write and durable delete, create or replace. */
export const write = (change: Change): Buffer =>
  message({
    info1: 0x10,
    info2: 0x11,
    info3: 0x10,
    generation: change.generation ?? 1,
    ttl: change.ttlS ?? 0xffffffff,
    timeoutMs: 0,
    fields: fieldsOf(change),
    ops: [int('v', change.value ?? 0)],
  });

export const remove = (change: Change, info2 = 0x13): Buffer =>
  message({ info1: 0x10, info2, generation: 0, timeoutMs: 0, fields: fieldsOf(change) });

/** No stored key, one bin "v": its image, byte by byte. */
export const imageHex = (value: number): string =>
  `00010176 01 08 ${u64(value).toString('hex')}`.replaceAll(' ', '');

/** The 30 bytes of an answer. */
export const answer = (code: number): string =>
  `0203000000000016 16 00 00 00 00 ${code.toString(16).padStart(2, '0')} ${'00'.repeat(16)}`.replaceAll(
    ' ',
    '',
  );

/** A node that ships. */
export class Shipper {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #heard: () => void = () => undefined;
  isClosed = false;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.isClosed = true;
      this.#heard();
    });
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#heard();
    });
  }

  static async open(port: number): Promise<Shipper> {
    const socket = connect({ port, host: '127.0.0.1' });
    await once(socket, 'connect');
    return new Shipper(socket);
  }

  static over(socket: Socket): Shipper {
    return new Shipper(socket);
  }

  send(...frames: readonly Buffer[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /** Answers that have come and were not asked for yet. */
  get waiting(): number {
    return Math.floor(this.#received.length / 30);
  }

  /** So many bytes; fewer when the peer closes before. */
  async bytes(count: number): Promise<Buffer> {
    while (this.#received.length < count && !this.isClosed)
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    const taken = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(taken.length);
    return Buffer.from(taken);
  }

  /** Result codes of the next answers, each of which must be 30 bytes as the reference has them. */
  async codes(count: number): Promise<number[]> {
    const bytes = await this.bytes(count * 30);
    const codes: number[] = [];
    for (let at = 0; at < bytes.length; at += 30) {
      const code = bytes[at + 13];
      const hex = bytes.subarray(at, at + 30).toString('hex');
      if (hex !== answer(code)) throw new Error(`not an answer: ${hex}`);
      codes.push(code);
    }
    return codes;
  }

  /** Sends and waits for the answers. */
  async ship(...frames: readonly Buffer[]): Promise<number[]> {
    this.send(...frames);
    return this.codes(frames.length);
  }

  async closed(): Promise<void> {
    if (!this.isClosed) await once(this.socket, 'close');
  }

  close(): void {
    this.socket.destroy();
  }
}

export const newCaptureDir = async (
  t: TestContext,
  source: { namespaces?: string[]; sets?: string[] | null } = {},
): Promise<string> => {
  const root = await mkdtemp(join(tmpdir(), 'pitr-xdr-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const dir = join(root, 'capture');
  await initCapture(
    dir,
    {
      kind: 'xdr',
      url: 'xdr://127.0.0.1:0',
      namespaces: source.namespaces ?? ['test'],
      sets: source.sets ?? null,
    },
    { archive: `file:${join(root, 'archive')}`, shards: 4 },
  );
  return dir;
};

/** A journal whose history begins with nothing at `c0Ts`. */
export const openJournal = async (dir: string, c0Ts: number, options?: JournalOptions): Promise<Journal> => {
  const journal = await Journal.open(dir, options);
  if (journal.frontierTs === 0) await journal.loaded(new ContentDigest(4), c0Ts);
  return journal;
};

/** Everything that the log of a directory holds, in log order. */
export const readLog = async (dir: string): Promise<LogEntry[]> => {
  const entries: LogEntry[] = [];
  const names = (await readdir(join(dir, 'log'))).filter((n) => /\.(wal|open)$/.test(n)).sort();
  for (const name of names) {
    const bytes = await readFile(join(dir, 'log', name)).catch((error) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    // sealed meanwhile: it has another name now
    if (!bytes) return readLog(dir);
    scanLogFile(bytes, name, name.endsWith('.open'), (e) => entries.push(e));
  }
  return entries;
};

export const readVersions = async (dir: string): Promise<LogVersion[]> =>
  (await readLog(dir)).flatMap((e) => (e.kind === 'version' ? [e.version] : []));

/** `record@ts gN value` of a version, or `record@ts deleted`; with what is not exact. */
export const textOf = (v: LogVersion): string => {
  const record = Buffer.from(v.digest).readUInt32LE(4);
  const image = v.image && Buffer.from(v.image);
  const what = image ? `g${v.generation} ${image.readUInt32BE(image.length - 4)}` : 'deleted';
  const seen = v.seen
    ? ` lut ${v.seen.lutMs - T0} (${v.seen.windowStartMs - T0},${v.seen.windowEndMs - T0}] missed ${v.seen.missed}${v.seen.late ? ' late' : ''}`
    : '';
  return `${record}@${v.ts - T0} ${what}${seen}`;
};

/** Tries until it is so, or too long. */
export const until = async (isSo: () => boolean | Promise<boolean>, what: string): Promise<void> => {
  for (const endMs = Date.now() + 20_000; !(await isSo()); ) {
    if (Date.now() > endMs) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

/**
 * A connection to a real server, for differential tests: bytes out, bytes in. It shares no code with the codec under test.
 *
 * `PITR_TEST_AEROSPIKE=host:port` says where the server is; without it the tests that need one say that they are skipped.
 */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';

export const ADDRESS = process.env.PITR_TEST_AEROSPIKE;
export const SKIP =
  ADDRESS === undefined ? 'set PITR_TEST_AEROSPIKE=host:port to run against a real server' : false;

export interface Op {
  readonly op: number;
  readonly type: number;
  readonly name: string;
  readonly value: Uint8Array;
}

export interface Answer {
  readonly code: number;
  readonly ops: readonly { readonly name: string; readonly type: number; readonly value: Buffer }[];
}

export interface Request {
  readonly info: readonly [number, number, number];
  readonly set: string;
  readonly key: string;
  readonly ops: readonly Op[];
  readonly filter?: Uint8Array;
}

const word = (n: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
};

const field = (id: number, data: Uint8Array): Buffer =>
  Buffer.concat([word(data.length + 1), Buffer.of(id), data]);

export const digestOf = (set: string, key: string): Buffer =>
  createHash('ripemd160').update(set).update(Buffer.of(3)).update(key).digest();

const encode = ({ info, set, key, ops, filter }: Request): Buffer => {
  const fields = [
    field(0, Buffer.from('test')),
    field(1, Buffer.from(set)),
    field(4, digestOf(set, key)),
    ...(filter ? [field(43, filter)] : []),
  ];
  const body = ops.map(({ op, type, name, value }) => {
    const text = Buffer.from(name);
    return Buffer.concat([
      word(4 + text.length + value.length),
      Buffer.of(op, type, 0, text.length),
      text,
      value,
    ]);
  });
  const header = Buffer.alloc(22);
  header.set([22, ...info], 0);
  header.writeUInt32BE(10_000, 14);
  header.writeUInt16BE(fields.length, 18);
  header.writeUInt16BE(ops.length, 20);
  const message = Buffer.concat([header, ...fields, ...body]);
  const proto = Buffer.alloc(8);
  proto.writeUInt32BE(message.length, 4);
  proto.set([2, 3], 0);
  return Buffer.concat([proto, message]);
};

const decode = (b: Buffer): Answer => {
  let at = 22;
  for (let i = b.readUInt16BE(18); i > 0; i--) at += 4 + b.readUInt32BE(at);
  const ops: Answer['ops'][number][] = [];
  for (let i = b.readUInt16BE(20); i > 0; i--) {
    const size = b.readUInt32BE(at);
    const nameBytes = b[at + 7]!;
    ops.push({
      name: b.toString('utf8', at + 8, at + 8 + nameBytes),
      type: b[at + 5]!,
      value: Buffer.from(b.subarray(at + 8 + nameBytes, at + 4 + size)),
    });
    at += 4 + size;
  }
  return { code: b[5]!, ops };
};

export class RawServer {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  #waiting: (() => void) | undefined;
  #failed: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#waiting?.();
    });
    const fail = (why: Error) => {
      this.#failed = why;
      this.#waiting?.();
    };
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the server closed the connection')));
  }

  static async open(address: string): Promise<RawServer> {
    const [host, port] = address.split(':');
    const socket = connect(Number(port), host);
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
    return new RawServer(socket);
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Sends all, then reads as many answers, in order. */
  async ask(requests: readonly Request[]): Promise<Answer[]> {
    this.#socket.write(Buffer.concat(requests.map(encode)));
    const answers: Answer[] = [];
    while (answers.length < requests.length) {
      const b = this.#received;
      const bytes = b.length >= 8 ? 8 + b.readUInt32BE(4) : Number.POSITIVE_INFINITY;
      if (b.length >= bytes) {
        answers.push(decode(b.subarray(8, bytes)));
        this.#received = b.subarray(bytes);
        continue;
      }
      if (this.#failed) throw this.#failed;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
    return answers;
  }
}

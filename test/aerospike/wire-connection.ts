/** One socket to an endpoint: whole frames out and in, in order. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { frame, LAST, parseMessages, type Reply, utf8 } from './wire-bytes.ts';

/** Long enough for a busy machine; a reply that does not come within it is a failure, not a slow reply. */
const REPLY_MS = 20_000;

export interface Frame {
  readonly type: number;
  readonly body: Buffer;
}

export class WireConnection {
  readonly #host: string;
  readonly #port: number;
  #socket: Socket;
  #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: (() => void) | undefined;

  private constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
    this.#socket = this.#connect();
  }

  static async open(host: string, port: number): Promise<WireConnection> {
    const connection = new WireConnection(host, port);
    await once(connection.#socket, 'connect');
    return connection;
  }

  #connect(): Socket {
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true });
    socket.on('data', (chunk) => {
      if (socket !== this.#socket) return;
      this.#chunks.push(chunk);
      this.#length += chunk.length;
      this.#wake?.();
    });
    const end = () => {
      if (socket !== this.#socket) return;
      this.#ended = true;
      this.#wake?.();
    };
    socket.on('close', end);
    // a refused peer may be cut off with a reset: that is an end like any other
    socket.on('error', end);
    return socket;
  }

  close(): void {
    this.#ended = true;
    this.#socket.destroy();
  }

  /** After an end it is a new connection, so that one failing test does not bring down those that follow. */
  send(bytes: Uint8Array): void {
    if (this.#ended) {
      this.#ended = false;
      this.#chunks = [];
      this.#length = 0;
      this.#socket = this.#connect();
    }
    this.#socket.write(bytes);
  }

  /** What arrives is no longer what was asked for last. */
  #fail(why: string): never {
    this.close();
    throw new Error(why);
  }

  /** Half a conversation: nothing more will be sent. */
  end(): void {
    this.#socket.end();
  }

  /** The next frame, or undefined when the peer closed the connection first. */
  async receive(): Promise<Frame | undefined> {
    const header = await this.#take(8);
    if (!header) return undefined;
    if (header[0] !== 2) this.#fail(`a frame of version ${header[0]}`);
    const body = await this.#take(header.readUIntBE(2, 6));
    if (!body) throw new Error('the peer closed the connection within a frame');
    return { type: header[1]!, body };
  }

  async #take(length: number): Promise<Buffer | undefined> {
    const deadline = Date.now() + REPLY_MS;
    while (this.#length < length) {
      if (this.#ended) return undefined;
      const left = deadline - Date.now();
      if (left <= 0) this.#fail(`no reply within ${REPLY_MS} ms`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#chunks = all.length > length ? [all.subarray(length)] : [];
    this.#length = all.length - length;
    return all.subarray(0, length);
  }

  /** The one message of the one frame that answers. */
  async reply(): Promise<Reply> {
    const received = await this.receive();
    if (!received) throw new Error('the peer closed the connection instead of answering');
    if (received.type !== 3) this.#fail(`a frame of type ${received.type} answers a message`);
    const replies = parseMessages(received.body);
    if (replies.length !== 1) throw new Error(`${replies.length} messages answer one`);
    return replies[0]!;
  }

  async call(request: Uint8Array): Promise<Reply> {
    this.send(request);
    return this.reply();
  }

  /** A reply of many messages, frame by frame, up to the last one, which says LAST unless the peer does it otherwise. */
  async frames(
    request: Uint8Array,
    isLast = (reply: Reply): boolean => (reply.info[2] & LAST) !== 0,
  ): Promise<Reply[][]> {
    this.send(request);
    const frames: Reply[][] = [];
    for (;;) {
      const received = await this.receive();
      if (!received) throw new Error('the peer closed the connection before the last message');
      const replies = parseMessages(received.body);
      frames.push(replies);
      if (replies.some(isLast)) return frames;
    }
  }

  /** The text of each reply, by command. */
  async info(...commands: readonly string[]): Promise<string[]> {
    this.send(frame(1, utf8(commands.map((c) => `${c}\n`).join(''))));
    const received = await this.receive();
    if (!received) throw new Error('the peer closed the connection instead of answering');
    if (received.type !== 1) this.#fail(`a frame of type ${received.type} answers an info request`);
    const lines = received.body.toString('utf8').split('\n');
    if (lines.pop() !== '') throw new Error('the last info line has no end');
    return lines.map((line, i) => {
      if (!line.startsWith(`${commands[i]}\t`)) throw new Error(`"${line}" answers "${commands[i]}"`);
      return line.slice(commands[i]!.length + 1);
    });
  }
}

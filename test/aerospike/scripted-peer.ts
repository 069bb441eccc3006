import { createServer, type Server, type Socket } from 'node:net';

/** What a peer says: info answers as text, and bytes for frames of other types. Nothing of it comes from the code under test. */
export interface Script {
  readonly info: Record<string, string>;
  /** Answers commands that `info` has not. */
  readonly onInfo?: (command: string) => string | undefined;
  /** Answers a frame of type 2 or 3 (header included); undefined: nothing. */
  readonly onFrame?: (frame: Buffer, socket: Socket) => Buffer | undefined;
}

/** 512 bytes in base64, of the partitions that `owns`, highest bit first: written out here once more. */
export const bitmap = (owns: (partition: number) => boolean): string => {
  const bytes = new Array<number>(512).fill(0);
  for (let p = 0; p < 4096; p++) if (owns(p)) bytes[Math.floor(p / 8)] += 2 ** (7 - (p % 8));
  return Buffer.from(bytes).toString('base64');
};

export const header = (type: number, length: number): Buffer =>
  Buffer.from([2, type, 0, 0, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255]);

export const frameOf = (type: number, body: Buffer): Buffer =>
  Buffer.concat([header(type, body.length), body]);

/** A message of 22 bytes and no more. */
export const statusFrame = (result: number, info3 = 0, generation = 0): Buffer => {
  const body = Buffer.alloc(22);
  body[0] = 22;
  body[3] = info3;
  body[5] = result;
  body.writeUInt32BE(generation, 6);
  return frameOf(3, body);
};

/** A node that says what its script says. */
export class ScriptedPeer {
  script: Script;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #asking = new Set<Socket>();
  /** Info answers are said so many times. */
  repeats = 1;
  connections = 0;
  /** Commands that it was asked, in order. */
  readonly asked: string[] = [];
  port = 0;

  private constructor(script: Script) {
    this.script = script;
    this.#server = createServer((socket) => this.#connect(socket));
  }

  static async open(script: Script): Promise<ScriptedPeer> {
    const peer = new ScriptedPeer(script);
    await peer.listen(0);
    return peer;
  }

  /** What the official client needs of a node, as the reference has it. */
  static infoOf(
    id: string,
    owns: (partition: number) => boolean,
    peers = '0,3000,[]',
  ): Record<string, string> {
    return {
      node: id,
      build: '8.1.2.0',
      'partition-generation': '1',
      'peers-generation': peers.slice(0, peers.indexOf(',')),
      'peers-clear-std': peers,
      'cluster-stable:': 'AB12',
      replicas: `test:0,1,${bitmap(owns)}`,
    };
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
    const address = this.#server.address();
    this.port = typeof address === 'object' && address ? address.port : 0;
  }

  get open(): number {
    return this.#sockets.size;
  }

  #connect(socket: Socket): void {
    this.#sockets.add(socket);
    this.connections++;
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#sockets.delete(socket);
      this.#asking.delete(socket);
    });
    let held: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      held = Buffer.concat([held, chunk]);
      while (held.length >= 8 && held.length >= 8 + held.readUIntBE(2, 6)) {
        const end = 8 + held.readUIntBE(2, 6);
        this.#answer(socket, Buffer.from(held.subarray(0, end)));
        held = held.subarray(end);
      }
    });
  }

  #answer(socket: Socket, frame: Buffer): void {
    if (frame[1] !== 1) {
      this.#asking.add(socket);
      const answer = this.script.onFrame?.(frame, socket);
      if (answer) socket.write(answer);
      return;
    }
    const commands = frame
      .subarray(8)
      .toString('latin1')
      .split('\n')
      .filter((c) => c !== '');
    this.asked.push(...commands);
    const text = commands
      .map(
        (c) => `${c}\t${this.script.info[c] ?? this.script.onInfo?.(c) ?? 'ERROR:4:unrecognized command'}\n`,
      )
      .join('');
    const answer = frameOf(1, Buffer.from(text, 'latin1'));
    socket.write(Buffer.concat(new Array<Buffer>(this.repeats).fill(answer)));
  }

  /** Without being asked, on every socket that has asked something else than info. */
  sendAll(bytes: Buffer): void {
    for (const socket of this.#asking) socket.write(bytes);
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}

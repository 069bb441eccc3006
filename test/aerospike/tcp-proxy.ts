import { connect, createServer, type Server, type Socket } from 'node:net';

/** What happens to bytes on their way from the server to the client. */
export interface ProxyFaults {
  /** The connection breaks when so many bytes of answers have passed, once for each entry: of the next connection, the one after, … */
  dropAfterBytes?: number[];
  /** Answers are cut into pieces of these sizes, again and again; each is written for itself. */
  chunkBytes?: readonly number[];
  /** Answers come later by this. */
  delayMs?: number;
  /** Answers do not come at all. */
  isSilent?: boolean;
  /** Takes a whole message frame of an answer and gives what is sent for it. */
  onFrame?: (frame: Buffer) => Buffer;
}

/** Real sockets between a client and a server, with faults. */
export class TcpProxy {
  readonly faults: ProxyFaults;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Connections that were taken. */
  connections = 0;
  /** Those that broke by {@link ProxyFaults.dropAfterBytes}. */
  drops = 0;

  private constructor(server: Server, faults: ProxyFaults) {
    this.#server = server;
    this.faults = faults;
  }

  static async open(target: { host: string; port: number }, faults: ProxyFaults = {}): Promise<TcpProxy> {
    const server = createServer();
    const proxy = new TcpProxy(server, faults);
    server.on('connection', (client) => proxy.#connect(client, target));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  get open(): number {
    return this.#sockets.size;
  }

  #connect(client: Socket, target: { host: string; port: number }): void {
    this.connections++;
    const server = connect(target);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    client.pipe(server);
    const limit = this.faults.dropAfterBytes?.shift();
    let passed = 0;
    let held: Buffer = Buffer.alloc(0);
    let turn = 0;
    let order: Promise<unknown> = Promise.resolve();
    const send = (bytes: Buffer): void => {
      if (client.destroyed) return;
      let rest = bytes;
      if (limit !== undefined && passed + rest.length >= limit) rest = rest.subarray(0, limit - passed);
      passed += rest.length;
      const sizes = this.faults.chunkBytes;
      for (let at = 0; at < rest.length; ) {
        const size = sizes && sizes.length > 0 ? sizes[turn++ % sizes.length] : rest.length;
        client.write(rest.subarray(at, at + size));
        at += size;
      }
      if (limit !== undefined && passed >= limit) {
        this.drops++;
        client.end(() => client.destroy());
      }
    };
    server.on('data', (chunk: Buffer) => {
      const { delayMs, isSilent, onFrame } = this.faults;
      if (isSilent) return;
      let bytes = chunk;
      if (onFrame) {
        held = Buffer.concat([held, chunk]);
        const frames: Buffer[] = [];
        while (held.length >= 8 && held.length >= 8 + held.readUIntBE(2, 6)) {
          const end = 8 + held.readUIntBE(2, 6);
          const frame = Buffer.from(held.subarray(0, end));
          frames.push(frame[1] === 3 ? onFrame(frame) : frame);
          held = held.subarray(end);
        }
        bytes = Buffer.concat(frames);
      }
      // in order, also when the delay changes meanwhile
      order = order
        .then(() => delayMs && new Promise((resolve) => setTimeout(resolve, delayMs)))
        .then(() => send(bytes));
    });
  }

  /** Breaks every connection; new ones are taken. */
  dropAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.dropAll();
    await closed;
  }
}

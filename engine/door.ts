/**
 * The control door of a live engine: how another process asks the writer of a directory to do something.
 *
 * A Unix domain socket. Requests and replies are lines of JSON, ended by `\n`:
 *
 *     {"id":1,"verb":"mark","args":{"name":"before-deploy"}}
 *     {"id":1,"ok":true,"result":{"lsn":{"$bigint":"42"}}}
 *     {"id":1,"ok":false,"error":{"id":"usage","facts":{"what":"…"}}}
 *
 * A bigint travels as `{"$bigint":"…"}`. One connection is served one request at a time, in order. A line that is too long
 * or is not a request gets a reply with `"id":null`, and the connection is closed: what follows it cannot be trusted.
 */
import { createHash } from 'node:crypto';
import { chmod, realpath, unlink } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ERRORS, type ErrorId, type Facts, isPitrError, PitrError } from './errors.ts';

const REQUEST_BYTES_MAX = 64 * 1024;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;
const CONNECTIONS_MAX = 64;
/** A connection that asks nothing for this long gives its place to another. */
const IDLE_MS = 30_000;
/** How long a connection that is done with may take to read its last reply. */
const LINGER_MS = 5000;
const TIMEOUT_MS = 10_000;
/** The kernel's limit is 108 with the final zero (104 on macOS); a longer path would be cut, not refused. */
const SOCKET_PATH_BYTES_MAX = 100;
const NEWLINE = 10;
const NOBODY = 'no writer is listening';

export type DoorHandlers = Readonly<Record<string, (args: unknown) => Promise<unknown>>>;

/** Both sides compute it from the real path, so that a relative path and a symbolic link lead to the same door. */
async function doorPath(dir: string): Promise<string> {
  const real = await realpath(dir);
  const path = join(real, 'engine.sock');
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  return join(tmpdir(), `pitr-${createHash('sha256').update(real).digest('hex').slice(0, 32)}.sock`);
}

const encode = (value: unknown): string =>
  `${JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? { $bigint: v.toString() } : v))}\n`;

/** @throws SyntaxError or TypeError for what is not UTF-8 or not JSON */
const decode = (line: Uint8Array): unknown =>
  JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line), (_, v) => {
    const digits = isObject(v) && Object.keys(v).length === 1 ? v.$bigint : undefined;
    return typeof digits === 'string' && /^-?\d{1,40}$/.test(digits) ? BigInt(digits) : v;
  });

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Cuts a byte stream into lines, which a multi-byte character or a chunk border must not break. */
class Lines {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Lines that `chunk` completes; the last is `undefined` when a line was too long, and nothing may be pushed after that. */
  *push(chunk: Buffer): Generator<Buffer | undefined> {
    let rest = chunk;
    for (let end = rest.indexOf(NEWLINE); ; end = rest.indexOf(NEWLINE)) {
      const part = end < 0 ? rest : rest.subarray(0, end);
      this.#chunks.push(part);
      this.#bytes += part.length;
      if (this.#bytes > this.#bytesMax) return yield undefined;
      if (end < 0) return;
      const line = Buffer.concat(this.#chunks);
      this.#chunks = [];
      this.#bytes = 0;
      rest = rest.subarray(end + 1);
      yield line;
    }
  }
}

export class DoorServer {
  readonly #server: Server;
  readonly #handlers: DoorHandlers;
  readonly #sockets = new Set<Socket>();

  private constructor(handlers: DoorHandlers) {
    this.#handlers = handlers;
    // Half open: a client may end its side after the request (`nc -N`) and must still get the reply.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => void this.#serve(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
    // A failed accept (no descriptors left) costs that client its connection, not the engine its life.
    this.#server.on('error', () => {});
  }

  /**
   * Opens the door of `dir`. The caller holds the directory lock: a socket that is there already is a dead writer's.
   * The door does not keep the process alive.
   * @throws `io`
   */
  static async open(dir: string, handlers: DoorHandlers): Promise<DoorServer> {
    const door = new DoorServer(handlers);
    let path = dir;
    try {
      path = await doorPath(dir);
      await unlink(path).catch((cause) => {
        if (cause.code !== 'ENOENT') throw cause;
      });
      await new Promise<void>((resolve, reject) => {
        door.#server.once('error', reject).listen(path, () => {
          door.#server.off('error', reject);
          resolve();
        });
      });
      door.#server.unref();
      // The folder may be the system's temporary one, where anybody could knock.
      await chmod(path, 0o600);
      return door;
    } catch (cause) {
      await door.close();
      throw new PitrError('io', { op: 'listen', path, why: (cause as Error).message }, { cause });
    }
  }

  /** Closes the door and every connection at once; requests in progress get no reply. The socket file is removed. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.unref();
    let busy = false;
    socket.on('close', () => this.#sockets.delete(socket));
    // A client that goes away is not our failure; without a listener it would end the process.
    socket.on('error', () => {});
    socket.setTimeout(IDLE_MS, () => busy || socket.destroy());
    const lines = new Lines(REQUEST_BYTES_MAX);
    try {
      // The loop reads the next chunk only when this one is answered, so a client cannot pile up requests here.
      for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
        for (const line of lines.push(chunk)) {
          busy = true;
          const reply = await this.#answer(line);
          // Not busy any more: who does not read its reply is idle too.
          busy = false;
          if (!socket.write(reply.text)) await flushed(socket);
          if (reply.last) return;
        }
      }
    } catch {
      socket.destroy();
    } finally {
      // What a refused client still sends is read and dropped, or the kernel would reset the reply away.
      socket.resume().end();
      setTimeout(() => socket.destroy(), LINGER_MS).unref();
    }
  }

  async #answer(line: Buffer | undefined): Promise<{ text: string; last: boolean }> {
    const refused = (what: string) => ({
      text: encode({ id: null, ok: false, error: { id: 'usage', facts: { what } } }),
      last: true,
    });
    if (line === undefined) return refused(`request is longer than ${REQUEST_BYTES_MAX} bytes`);
    let request: unknown;
    try {
      request = decode(line);
    } catch {
      return refused('request is not JSON');
    }
    if (!isObject(request)) return refused('request is not an object');
    const { id, verb, args } = request;
    if ((typeof id !== 'number' && typeof id !== 'string') || typeof verb !== 'string') {
      return refused('request has no id or no verb');
    }
    try {
      // Own properties only: "constructor" is not a verb.
      if (!Object.hasOwn(this.#handlers, verb))
        throw new PitrError('usage', { what: `unknown verb ${verb}` });
      return { text: encode({ id, ok: true, result: await this.#handlers[verb]!(args) }), last: false };
    } catch (error) {
      const known = error instanceof PitrError ? error : new PitrError('internal', { what: String(error) });
      return { text: encode({ id, ok: false, error: { id: known.id, facts: known.facts } }), last: false };
    }
  }
}

const flushed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    if (socket.destroyed) return resolve();
    socket.once('drain', resolve).once('close', resolve);
  });

/**
 * Asks the writer of `dir`, and gives its result. A timeout or a lost connection says nothing about whether it was done.
 * @throws what the writer threw; `io` when nobody listens ({@link isDoorClosed}) or the connection broke; `wait-timeout`
 */
export async function callDoor(
  dir: string,
  verb: string,
  args: unknown,
  options: { timeoutMs?: number } = {},
): Promise<unknown> {
  const request = encode({ id: 1, verb, args });
  if (Buffer.byteLength(request) > REQUEST_BYTES_MAX) {
    throw new PitrError('usage', { what: `request is longer than ${REQUEST_BYTES_MAX} bytes` });
  }
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const failed = (why: string, cause?: unknown) =>
    new PitrError('io', { op: verb, path: dir, why }, { cause });
  let path: string;
  try {
    path = await doorPath(dir);
  } catch (cause) {
    throw failed((cause as NodeJS.ErrnoException).code === 'ENOENT' ? NOBODY : String(cause), cause);
  }
  const socket = createConnection(path);
  try {
    const line = await new Promise<Buffer>((resolve, reject) => {
      const lines = new Lines(REPLY_BYTES_MAX);
      const giveUp = () =>
        reject(new PitrError('wait-timeout', { seconds: timeoutMs / 1000, what: `${verb} in ${dir}` }));
      const timer = setTimeout(giveUp, timeoutMs);
      socket.on('data', (chunk) => {
        for (const reply of lines.push(chunk))
          reply ? resolve(reply) : reject(failed('the reply is too long'));
      });
      socket.on('error', (cause: NodeJS.ErrnoException) => {
        const nobody = cause.code === 'ECONNREFUSED' || cause.code === 'ENOENT';
        reject(failed(nobody ? NOBODY : cause.message, cause));
      });
      socket.on('close', () => {
        clearTimeout(timer);
        reject(failed('the writer closed the connection before it answered'));
      });
      socket.write(request);
    });
    return resultOf(line, failed);
  } finally {
    socket.destroy();
  }
}

function resultOf(line: Buffer, failed: (why: string, cause?: unknown) => PitrError): unknown {
  let reply: unknown;
  try {
    reply = decode(line);
  } catch (cause) {
    throw failed('the reply is not JSON', cause);
  }
  if (isObject(reply) && reply.ok === true) return reply.result;
  if (!isObject(reply) || !isObject(reply.error)) throw failed('the reply is malformed');
  const { id, facts } = reply.error;
  // A writer of a newer release may know failures that we do not.
  if (typeof id !== 'string' || !Object.hasOwn(ERRORS, id)) {
    throw new PitrError('internal', { what: `the writer reported ${JSON.stringify(id)}` });
  }
  throw new PitrError(id as ErrorId, isObject(facts) ? (facts as Facts) : {});
}

/** True when there is no live writer to call: the directory is free, or the writer has no door open. */
export const isDoorClosed = (error: unknown): boolean =>
  isPitrError(error, 'io') && error.facts.why === NOBODY;

import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { isPitrError, PitrError } from '../../errors.ts';
import { malformed } from '../malformed.ts';
import { FrameReader, type ProtoType } from '../proto.ts';
import type { TlsOptions } from './client-options.ts';
import type { Timing } from './timing.ts';

/** Who has the connection for now. */
export interface FrameHandler {
  /** The next frame; `body` is a view and stays valid as long as it is kept. @throws wire-malformed: that ends the connection */
  frame(type: ProtoType, body: Buffer): void;
  /** Called once when the connection has ended. */
  lost(error: PitrError): void;
}

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly tlsName: string;
}

export const addressText = ({ host, port }: Address): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;

export interface ConnectOptions {
  readonly tls: TlsOptions | undefined;
  readonly timeoutMs: number;
  readonly timing: Timing;
  readonly signal: AbortSignal;
}

/** Pages of a scan come in frames of about that size: in one piece from the start. */
const BODY_FIRST_BYTES = 1024 * 1024;

/** A socket to a node. It is read whatever its handler does (N4); frames are the handler's, and a frame without one is a violation (N5). */
export class Connection {
  readonly address: string;
  readonly #socket: Socket;
  readonly #timing: Timing;
  readonly #reader = new FrameReader({ ownsChunks: true, bodyFirstBytes: BODY_FIRST_BYTES });
  #handler: FrameHandler | undefined;
  #error: PitrError | undefined;
  /** When it last had something to say, or became idle. */
  activeAtMs: number;

  private constructor(socket: Socket, address: string, timing: Timing) {
    this.#socket = socket;
    this.#timing = timing;
    this.address = address;
    this.activeAtMs = timing.nowMs();
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('error', (error) => this.destroy(this.#lostError(error.message, error)));
    socket.on('close', () => this.destroy(this.#lostError('the other side closed it')));
  }

  /** @throws aerospike-connection-lost, aerospike-timeout */
  static open(address: Address, { tls, timeoutMs, timing, signal }: ConnectOptions): Promise<Connection> {
    const text = addressText(address);
    return new Promise((resolve, reject) => {
      const socket = tls
        ? secureSocket(address, tls)
        : connectTcp({ host: address.host, port: address.port });
      const end = (error?: PitrError): void => {
        cancel();
        signal.removeEventListener('abort', closed);
        socket.removeListener('error', failed);
        socket.removeListener('close', gone);
        if (error) {
          // an error after this one has no listener otherwise, and would end the process
          socket.on('error', () => {});
          socket.destroy();
          reject(error);
        } else {
          socket.setNoDelay(true);
          resolve(new Connection(socket, text, timing));
        }
      };
      const lost = (why: string, cause?: Error): PitrError =>
        new PitrError('aerospike-connection-lost', { node: text, why }, { cause });
      const failed = (error: Error): void => end(lost(error.message, error));
      const gone = (): void => end(lost('the other side closed it'));
      const closed = (): void => end(new PitrError('aerospike-closed', { what: `${text} was connected` }));
      const cancel = timing.after(timeoutMs, () =>
        end(new PitrError('aerospike-timeout', { what: 'connecting', ms: timeoutMs, node: text })),
      );
      socket.once('error', failed);
      socket.once('close', gone);
      socket.once(tls ? 'secureConnect' : 'connect', () => end());
      signal.addEventListener('abort', closed);
      if (signal.aborted) closed();
    });
  }

  get isOpen(): boolean {
    return this.#error === undefined;
  }

  /** Gives the connection to `handler`, who is told at once when it has ended already; with undefined takes it back. */
  attach(handler: FrameHandler | undefined): void {
    if (this.#error) handler?.lost(this.#error);
    else this.#handler = handler;
  }

  /** Does nothing when it has ended: the handler knows. */
  write(bytes: Buffer): void {
    if (this.#error) return;
    this.activeAtMs = this.#timing.nowMs();
    this.#socket.write(bytes);
  }

  /** Ends it; the handler is told once. */
  destroy(error: PitrError = this.#lostError('it was closed here')): void {
    if (this.#error) return;
    this.#error = error;
    this.#socket.destroy();
    const handler = this.#handler;
    this.#handler = undefined;
    handler?.lost(error);
  }

  #received(chunk: Buffer): void {
    this.activeAtMs = this.#timing.nowMs();
    try {
      this.#reader.push(chunk);
      while (this.#error === undefined && this.#reader.next()) {
        if (!this.#handler) throw malformed('an answer that nobody asked for');
        this.#handler.frame(this.#reader.type, this.#reader.keep());
      }
    } catch (error) {
      this.destroy(
        isPitrError(error, 'wire-malformed')
          ? new PitrError('wire-malformed', {
              ...error.facts,
              what: `${error.facts.what} (from ${this.address})`,
            })
          : error instanceof PitrError
            ? error
            : new PitrError('internal', { what: `${error}` }, { cause: error }),
      );
    }
  }

  #lostError(why: string, cause?: Error): PitrError {
    return new PitrError('aerospike-connection-lost', { node: this.address, why }, { cause });
  }
}

const secureSocket = ({ host, port, tlsName }: Address, tls: TlsOptions): Socket => {
  const name = tls.name ?? tlsName;
  return connectTls({
    host,
    port,
    ca: tls.ca,
    cert: tls.cert,
    key: tls.key,
    // without a name the certificate must be the host's
    ...(name === '' ? {} : { servername: name }),
  });
};

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PitrError } from '../../engine/errors.ts';
import type { Health } from './agent-metrics.ts';

/** What the server tells. Both may take a moment, and may fail. */
export interface Told {
  readonly contentType: string;
  text(): Promise<string>;
  health(): Promise<Health>;
}

export interface MetricsServerOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** A client that does not send its request or take its answer within this time is let go of, ms. */
  readonly clientMs?: number;
  /** An answer that takes longer is given up, ms. */
  readonly answerMs?: number;
  readonly onError: (error: unknown) => void;
}

const CLIENT_MS = 10_000;
const ANSWER_MS = 8_000;
/** A Prometheus has one, and a second is its twin. */
const CONNECTIONS_MAX = 64;
const HEADER_BYTES_MAX = 8192;
const TEXT = 'text/plain; charset=utf-8';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
  readonly allow?: string;
}

/** Two pages for a monitor: `/metrics` and `/healthz`. Bounded in everything, and nothing that happens here reaches the agent. */
export class MetricsServer {
  readonly #server: Server;
  readonly host: string;
  readonly port: number;

  private constructor(server: Server) {
    this.#server = server;
    const { address, port } = server.address() as AddressInfo;
    this.host = address;
    this.port = port;
  }

  /** @throws port-unusable */
  static async listen(told: Told, options: MetricsServerOptions): Promise<MetricsServer> {
    const { host, port, clientMs = CLIENT_MS, onError } = options;
    const server = createServer(
      {
        headersTimeout: clientMs,
        requestTimeout: clientMs,
        keepAliveTimeout: clientMs,
        connectionsCheckingInterval: Math.max(10, Math.min(1000, clientMs / 4)),
        maxHeaderSize: HEADER_BYTES_MAX,
      },
      (request, response) => {
        void respond(told, options, request, response);
      },
    );
    server.maxConnections = CONNECTIONS_MAX;
    // also a client that asks and never takes its answer
    server.setTimeout(clientMs, (socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) => {
        const { code = 'unknown' } = cause;
        reject(new PitrError('port-unusable', { host, port, code, why: why(code) }, { cause }));
      });
      server.listen({ host, port }, resolve);
    });
    server.removeAllListeners('error').on('error', onError);
    // it alone is no reason to stay
    server.unref();
    return new MetricsServer(server);
  }

  get url(): string {
    return `http://${this.host.includes(':') ? `[${this.host}]` : this.host}:${this.port}/metrics`;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

const why = (code: string): string =>
  ({
    EADDRINUSE: 'another process has it',
    EADDRNOTAVAIL: 'this machine has no such address',
    EACCES: 'it needs more rights',
  })[code] ?? code;

const respond = async (
  told: Told,
  { answerMs = ANSWER_MS, onError }: MetricsServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  // a client that goes away is no error of ours
  response.on('error', () => undefined);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Answer>((resolve) => {
    timer = setTimeout(resolve, answerMs, { status: 503, body: `no answer within ${answerMs} ms\n` });
  });
  const answer = await Promise.race([answerTo(told, request), late]).catch((error): Answer => {
    onError(error);
    return { status: 500, body: 'the log of the agent says what went wrong\n' };
  });
  clearTimeout(timer);
  const body = Buffer.from(answer.body);
  response.writeHead(answer.status, {
    'content-type': answer.type ?? TEXT,
    'content-length': body.length,
    'cache-control': 'no-store',
    ...(answer.allow === undefined ? {} : { allow: answer.allow }),
    // a request with a body is none of ours: nobody reads it
    ...(request.method === 'GET' || request.method === 'HEAD' ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
};

const answerTo = async (told: Told, { method, url = '' }: IncomingMessage): Promise<Answer> => {
  const path = url.split('?', 1)[0];
  if (path !== '/metrics' && path !== '/healthz')
    return { status: 404, body: '/metrics and /healthz are here\n' };
  if (method !== 'GET' && method !== 'HEAD')
    return { status: 405, body: 'GET and HEAD only\n', allow: 'GET, HEAD' };
  if (path === '/metrics') return { status: 200, body: await told.text(), type: told.contentType };
  const { isGreen, reasons } = await told.health();
  return isGreen
    ? { status: 200, body: 'green\n' }
    : { status: 503, body: ['not green', ...reasons, ''].join('\n') };
};
